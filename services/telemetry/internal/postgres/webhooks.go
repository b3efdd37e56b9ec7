package postgres

import (
	"context"
	"database/sql"
	"errors"
	"reflect"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/listing"
	"turbocat.io/pkg/postgres/once"
	"turbocat.io/pkg/postgres/trail"
	"turbocat.io/pkg/seal"
	"turbocat.io/pkg/selection"
	"turbocat.io/services/telemetry/internal/webhook"
)

// Webhooks keeps webhooks and their deliveries; it is a webhook.Store, a webhook.Queue and a webhook.Source. It is safe for concurrent use.
type Webhooks struct {
	db    *sqlx.DB
	feeds *Feed
}

// NewWebhooks makes a store over telemetry's schema.
func NewWebhooks(db *sqlx.DB, feeds *Feed) *Webhooks { return &Webhooks{db, feeds} }

type webhookRow struct {
	ID              string         `db:"id"`
	UserID          string         `db:"user_id"`
	Name            string         `db:"name"`
	URL             string         `db:"url"`
	EventTypes      pq.StringArray `db:"event_types"`
	Filter          string         `db:"filter"`
	Format          string         `db:"format"`
	Enabled         bool           `db:"enabled"`
	DisabledReason  sql.NullString `db:"disabled_reason"`
	SecretVersion   int            `db:"secret_version"`
	SecretKeyID     string         `db:"secret_key_id"`
	Secret          []byte         `db:"secret"`
	PreviousKeyID   sql.NullString `db:"previous_key_id"`
	PreviousSecret  []byte         `db:"previous_secret"`
	PreviousUntil   sql.NullTime   `db:"previous_until"`
	Cursor          int64          `db:"cursor"`
	Streak          int            `db:"streak"`
	PausedUntil     sql.NullTime   `db:"paused_until"`
	FailingSince    sql.NullTime   `db:"failing_since"`
	Pending         int            `db:"pending"`
	LastDeliveredAt sql.NullTime   `db:"last_delivered_at"`
	LastError       sql.NullString `db:"last_error"`
	FilterError     sql.NullString `db:"filter_error"`
	Skipped         int64          `db:"skipped"`
	CreatedAt       time.Time      `db:"created_at"`
	UpdatedAt       time.Time      `db:"updated_at"`
	Now             time.Time      `db:"now"`
	listing.Key
}

const webhookColumns = `w.id, w.user_id, w.name, w.url, w.event_types, w.filter, w.format, w.enabled, w.disabled_reason, w.secret_version, w.secret_key_id, w.secret,
	w.previous_key_id, w.previous_secret, w.previous_until, w.cursor, w.streak, w.paused_until, w.failing_since, w.pending, w.last_delivered_at, w.last_error, w.filter_error,
	w.skipped, w.created_at, w.updated_at, clock_timestamp() AS now`

func (r webhookRow) webhook() webhook.Webhook {
	w := webhook.Webhook{
		ID: r.ID, UserID: r.UserID, Name: r.Name, URL: r.URL, Events: selection.Events{EventTypes: r.EventTypes, Filter: r.Filter}, Format: r.Format, Enabled: r.Enabled, DisabledReason: r.DisabledReason.String,
		Rotating: seal.Rotating{SecretVersion: r.SecretVersion, Secret: seal.Sealed{KeyID: r.SecretKeyID, Bytes: r.Secret}, PreviousUntil: zeroTime(r.PreviousUntil)}, Cursor: uint64(r.Cursor),
		Standing: webhook.Standing{Streak: r.Streak, PausedUntil: zeroTime(r.PausedUntil), FailingSince: zeroTime(r.FailingSince)}, Pending: r.Pending,
		LastDeliveredAt: zeroTime(r.LastDeliveredAt), LastError: r.LastError.String, FilterError: r.FilterError.String, Skipped: uint64(r.Skipped),
		CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(),
	}
	if r.PreviousKeyID.Valid {
		w.PreviousSecret = &seal.Sealed{KeyID: r.PreviousKeyID.String, Bytes: r.PreviousSecret}
	}
	return w
}

func toWebhookRow(w webhook.Webhook) webhookRow {
	r := webhookRow{
		ID: w.ID, UserID: w.UserID, Name: w.Name, URL: w.URL, EventTypes: w.EventTypes, Filter: w.Filter, Format: w.Format, Enabled: w.Enabled, DisabledReason: nullText(w.DisabledReason),
		SecretVersion: w.SecretVersion, SecretKeyID: w.Secret.KeyID, Secret: w.Secret.Bytes, PreviousUntil: nullTime(w.PreviousUntil), Cursor: int64(w.Cursor),
		Streak: w.Streak, PausedUntil: nullTime(w.PausedUntil), FailingSince: nullTime(w.FailingSince), Pending: w.Pending, LastDeliveredAt: nullTime(w.LastDeliveredAt),
		LastError: nullText(w.LastError), FilterError: nullText(w.FilterError), Skipped: int64(w.Skipped), CreatedAt: w.CreatedAt, UpdatedAt: w.UpdatedAt,
	}
	if w.PreviousSecret != nil {
		r.PreviousKeyID, r.PreviousSecret = nullText(w.PreviousSecret.KeyID), w.PreviousSecret.Bytes
	}
	return r
}

func zeroTime(t sql.NullTime) time.Time {
	if !t.Valid {
		return time.Time{}
	}
	return t.Time.UTC()
}

func nullTime(t time.Time) sql.NullTime { return sql.NullTime{Time: t, Valid: !t.IsZero()} }

func nullText(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }

// unknown tells that a row is not there as the domain says it.
func unknown(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return webhook.ErrUnknown
	}
	return postgres.Translate(err)
}

// Insert implements webhook.Store.
func (s *Webhooks) Insert(ctx context.Context, w webhook.Webhook, most int) error {
	return postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		// So that the webhooks of a user are made one after another.
		if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('webhooks ' || $1, 0))`, w.UserID); err != nil {
			return err
		}
		var n int
		if err := tx.GetContext(ctx, &n, `SELECT count(*) FROM webhooks WHERE user_id = $1`, w.UserID); err != nil {
			return err
		}
		if n >= most {
			return webhook.ErrTooMany
		}
		if _, err := tx.NamedExecContext(ctx, `INSERT INTO webhooks (id, user_id, name, url, event_types, filter, format, enabled, secret_version, secret_key_id, secret, cursor, created_at, updated_at)
			VALUES (:id, :user_id, :name, :url, :event_types, :filter, :format, :enabled, :secret_version, :secret_key_id, :secret,
				coalesce((SELECT seq FROM feed_ends WHERE user_id = :user_id), 0), :created_at, :updated_at)`, toWebhookRow(w)); err != nil {
			return err
		}
		if err := trail.Record(ctx, tx, trail.Deed{Action: audit.WebhookCreated, ResourceID: w.ID, OwnerID: w.UserID, After: w.Settings()}); err != nil {
			return err
		}
		return keepIssued(ctx, tx, w)
	})
}

// keepIssued keeps, of the answer that issued a secret, whose it was: its text stands nowhere.
func keepIssued(ctx context.Context, tx *sqlx.Tx, w webhook.Webhook) error {
	return once.Keep(ctx, tx, telemetry.IssuedWebhook{Webhook: telemetry.Webhook{ID: w.ID}})
}

// lock gives a webhook under its lock, and the time of the database.
func lock(ctx context.Context, tx *sqlx.Tx, id string) (webhook.Webhook, time.Time, error) {
	var row webhookRow
	err := tx.GetContext(ctx, &row, `SELECT `+webhookColumns+` FROM webhooks w WHERE w.id = $1 FOR NO KEY UPDATE`, id)
	if err != nil {
		return webhook.Webhook{}, time.Time{}, unknown(err)
	}
	return row.webhook(), row.Now.UTC(), nil
}

// save writes a webhook that is under its lock, and when its queue is to be looked at.
func save(ctx context.Context, tx *sqlx.Tx, w webhook.Webhook) error {
	_, err := tx.NamedExecContext(ctx, `UPDATE webhooks SET name = :name, url = :url, event_types = :event_types, filter = :filter, format = :format, enabled = :enabled,
		disabled_reason = :disabled_reason, secret_version = :secret_version, secret_key_id = :secret_key_id, secret = :secret, previous_key_id = :previous_key_id,
		previous_secret = :previous_secret, previous_until = :previous_until, cursor = :cursor, streak = :streak, paused_until = :paused_until, failing_since = :failing_since,
		pending = :pending, last_delivered_at = :last_delivered_at, last_error = :last_error, filter_error = :filter_error, skipped = :skipped, updated_at = :updated_at,
		look_at = CASE WHEN :enabled THEN greatest((SELECT min(q.due_at) FROM webhook_queue q WHERE q.webhook_id = :id AND q.due_at IS NOT NULL), :paused_until) END
		WHERE id = :id`, toWebhookRow(w))
	return err
}

// Update implements webhook.Store.
func (s *Webhooks) Update(ctx context.Context, id string, action audit.Action, change func(*webhook.Webhook) (bool, error)) (webhook.Webhook, error) {
	var w webhook.Webhook
	err := postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		var err error
		if w, _, err = lock(ctx, tx, id); err != nil {
			return err
		}
		before := w
		afresh, err := change(&w)
		if err != nil {
			return err
		}
		if afresh {
			if _, err := tx.ExecContext(ctx, `UPDATE webhook_queue SET due_at = clock_timestamp(), first_at = NULL WHERE webhook_id = $1 AND due_at IS NOT NULL AND NOT leased`, id); err != nil {
				return err
			}
		}
		if !reflect.DeepEqual(before.Settings(), w.Settings()) {
			if err := trail.Record(ctx, tx, trail.Deed{Action: action, ResourceID: id, OwnerID: w.UserID, Before: before.Settings(), After: w.Settings()}); err != nil {
				return err
			}
		}
		if err := save(ctx, tx, w); err != nil {
			return err
		}
		return keepIssued(ctx, tx, w)
	})
	return w, err
}

// Delete implements webhook.Store.
func (s *Webhooks) Delete(ctx context.Context, id string, allow func(webhook.Webhook) error) error {
	return postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		w, _, err := lock(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := allow(w); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM webhooks WHERE id = $1`, id); err != nil {
			return err
		}
		return trail.Record(ctx, tx, trail.Deed{Action: audit.WebhookDeleted, ResourceID: id, OwnerID: w.UserID, Before: w.Settings()})
	})
}

// Webhook implements webhook.Store.
func (s *Webhooks) Webhook(ctx context.Context, id string) (webhook.Webhook, error) {
	var row webhookRow
	err := s.db.GetContext(ctx, &row, `SELECT `+webhookColumns+` FROM webhooks w WHERE w.id = $1`, id)
	if err != nil {
		return webhook.Webhook{}, unknown(err)
	}
	return row.webhook(), nil
}

// List implements webhook.Store.
func (s *Webhooks) List(ctx context.Context, userID string, q rpc.Page) (rpc.List[webhook.Webhook], error) {
	var faults form.Faults
	page := listing.Table{From: "webhooks w", ID: "w.id", Columns: map[string]listing.Column{
		"createdAt": {SQL: "w.created_at", Kind: listing.Time},
		"name":      {SQL: "w.name", Kind: listing.Text},
	}}.Parse(q, &faults)
	if err := faults.Err("query"); err != nil {
		return rpc.List[webhook.Webhook]{}, err
	}
	var where listing.Where
	where.And("w.user_id = ?", userID)
	if q.Search != "" {
		where.And("w.name || ' ' || w.url ILIKE ?", listing.Contains(q.Search))
	}
	rows, pagination, err := listing.Select[webhookRow](ctx, s.db, page, webhookColumns, where)
	list := rpc.List[webhook.Webhook]{Items: make([]webhook.Webhook, len(rows)), Pagination: pagination}
	for i, r := range rows {
		list.Items[i] = r.webhook()
	}
	return list, err
}

// SealedBefore implements webhook.Store.
func (s *Webhooks) SealedBefore(ctx context.Context, keyID string) ([]string, error) {
	var ids []string
	err := s.db.SelectContext(ctx, &ids, `SELECT id FROM webhooks WHERE secret_key_id <> $1 OR previous_key_id <> $1 LIMIT 1000`, keyID)
	return ids, postgres.Translate(err)
}

// Notices implements webhook.Store.
func (s *Webhooks) Notices(ctx context.Context) ([]webhook.Webhook, error) {
	var rows []webhookRow
	err := s.db.SelectContext(ctx, &rows, `SELECT `+webhookColumns+` FROM webhooks w WHERE w.notice_due LIMIT 100`)
	due := make([]webhook.Webhook, len(rows))
	for i, r := range rows {
		due[i] = r.webhook()
	}
	return due, postgres.Translate(err)
}

// Noticed implements webhook.Store.
func (s *Webhooks) Noticed(ctx context.Context, id string) error {
	_, err := s.db.ExecContext(ctx, `UPDATE webhooks SET notice_due = false WHERE id = $1`, id)
	return postgres.Translate(err)
}
