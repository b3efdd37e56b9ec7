package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/listing"
	"turbocat.io/pkg/seal"
	"turbocat.io/pkg/selection"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/inbound"
	"turbocat.io/services/orchestrator/internal/trigger"
)

// claimDeliveries records executions of what came in for triggers, and leaves out those of what has one already, with its outcome. Rows are locked in
// the order of their triggers and names.
func claimDeliveries(ctx context.Context, tx *postgres.PreparedTx, executions []execution.Accepted, outcomes []execution.Outcome) ([]execution.Accepted, error) {
	var received []execution.Accepted
	for _, x := range executions {
		if x.Received != nil {
			received = append(received, x)
		}
	}
	slices.SortFunc(received, func(a, b execution.Accepted) int {
		return strings.Compare(a.Received.TriggerID+a.Received.Name, b.Received.TriggerID+b.Received.Name)
	})
	before := map[string]string{}
	for _, x := range received {
		r := x.Received
		var fresh bool
		err := tx.GetContext(ctx, &fresh, `INSERT INTO trigger_deliveries (id, trigger_id, name, status, execution_id) VALUES ($1, $2, $3, 'ACCEPTED', $1)
			ON CONFLICT (trigger_id, name) DO UPDATE SET status = 'ACCEPTED', execution_id = excluded.execution_id, reason = '', received_at = clock_timestamp()
			WHERE trigger_deliveries.status <> 'ACCEPTED' RETURNING true`, x.ID, r.TriggerID, r.Name)
		if !errors.Is(err, sql.ErrNoRows) {
			if err != nil {
				return nil, err
			}
			continue
		}
		var first string
		if err := tx.GetContext(ctx, &first, `SELECT execution_id FROM trigger_deliveries WHERE trigger_id = $1 AND name = $2`, r.TriggerID, r.Name); err != nil {
			return nil, err
		}
		before[x.ID] = first
	}
	if len(before) == 0 {
		return executions, nil
	}
	for i, o := range outcomes {
		if first := before[o.ID]; first != "" {
			outcomes[i] = execution.Outcome{ID: first, Replayed: true}
		}
	}
	return slices.DeleteFunc(slices.Clone(executions), func(x execution.Accepted) bool { return before[x.ID] != "" }), nil
}

// Delivered implements inbound.DeliveryStore.
func (s *Store) Delivered(ctx context.Context, triggerID, name string) (string, error) {
	var id string
	err := s.db.GetContext(ctx, &id, `SELECT execution_id FROM trigger_deliveries WHERE trigger_id = $1 AND name = $2 AND status = 'ACCEPTED'`, triggerID, name)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return id, postgres.Translate(err)
}

// StartedSince implements inbound.DeliveryStore.
func (s *Store) StartedSince(ctx context.Context, triggerID string, within time.Duration, most int64) (int64, error) {
	var n int64
	err := s.db.GetContext(ctx, &n, `SELECT count(*) FROM (SELECT 1 FROM trigger_deliveries
		WHERE trigger_id = $1 AND status = 'ACCEPTED' AND received_at > clock_timestamp() - $2 * interval '1 microsecond' LIMIT $3) x`, triggerID, microseconds(within), most)
	return n, postgres.Translate(err)
}

// Record implements inbound.DeliveryStore.
func (s *Store) Record(ctx context.Context, d inbound.Delivery) error {
	_, err := s.db.ExecContext(ctx, `INSERT INTO trigger_deliveries (id, trigger_id, name, status, reason) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (trigger_id, name) DO UPDATE SET status = excluded.status, reason = excluded.reason, received_at = clock_timestamp()
		WHERE trigger_deliveries.status <> 'ACCEPTED'`, d.ID, d.TriggerID, d.Name, d.Status, plain(d.Reason))
	return postgres.Translate(err)
}

var deliveryTable = listing.Table{From: "trigger_deliveries", ID: "id", Columns: map[string]listing.Column{"receivedAt": {SQL: "received_at", Kind: listing.Time}}}

type deliveryRow struct {
	ID          string         `db:"id"`
	Name        string         `db:"name"`
	Status      string         `db:"status"`
	ExecutionID sql.NullString `db:"execution_id"`
	Reason      string         `db:"reason"`
	ReceivedAt  time.Time      `db:"received_at"`
	listing.Key
}

// Deliveries implements inbound.HookStore.
func (s *Store) Deliveries(ctx context.Context, req orchestrator.ListTriggerDeliveriesRequest) ([]inbound.Delivery, rpc.Pagination, error) {
	var faults form.Faults
	req.SortBy = "receivedAt"
	page := deliveryTable.Parse(req.Page, &faults)
	listing.Enum("status", req.Status, orchestrator.ReceivedStatuses(), &faults)
	if err := faults.Err("query"); err != nil {
		return nil, rpc.Pagination{}, err
	}
	var where listing.Where
	where.And("trigger_id = ?::uuid", req.ID)
	if req.Status != "" {
		where.And("status = ?", req.Status)
	}
	rows, pagination, err := listing.Select[deliveryRow](ctx, s.lists, page, `id, name, status, execution_id, reason, received_at`, where)
	if err != nil {
		return nil, rpc.Pagination{}, err
	}
	out := make([]inbound.Delivery, len(rows))
	for i, r := range rows {
		out[i] = inbound.Delivery{ID: r.ID, TriggerID: req.ID, Name: r.Name, Status: r.Status, ExecutionID: r.ExecutionID.String, Reason: r.Reason, ReceivedAt: r.ReceivedAt.UTC()}
	}
	return out, pagination, nil
}

// hookRow is what of a hook all triggers do not have. It is of nothing when there is none.
type hookRow struct {
	Preset         sql.NullString `db:"preset"`
	Signature      sql.NullString `db:"signature"`
	HookFilter     sql.NullString `db:"h_filter"`
	HookPerMinute  sql.NullInt64  `db:"h_per_minute"`
	SecretVersion  sql.NullInt64  `db:"secret_version"`
	SecretKeyID    sql.NullString `db:"secret_key_id"`
	Secret         []byte         `db:"secret"`
	PreviousKeyID  sql.NullString `db:"previous_key_id"`
	PreviousSecret []byte         `db:"previous_secret"`
	PreviousUntil  sql.NullTime   `db:"previous_until"`
	RejectedAt     sql.NullTime   `db:"rejected_at"`
	Rejection      sql.NullString `db:"rejection"`
}

const hookColumns = `h.preset, h.signature, h.filter AS h_filter, h.max_per_minute AS h_per_minute, h.secret_version, h.secret_key_id, h.secret,
	h.previous_key_id, h.previous_secret, h.previous_until, h.rejected_at, h.rejection`

func (r hookRow) hook(b trigger.Base, fired time.Time) (*inbound.Hook, error) {
	h := &inbound.Hook{
		Base: b, Filter: r.HookFilter.String, MaxPerMinute: r.HookPerMinute.Int64, Preset: r.Preset.String, LastFired: fired, RejectedAt: zeroTime(r.RejectedAt), Rejection: r.Rejection.String,
		Rotating: seal.Rotating{SecretVersion: int(r.SecretVersion.Int64), Secret: seal.Sealed{KeyID: r.SecretKeyID.String, Bytes: r.Secret}, PreviousUntil: zeroTime(r.PreviousUntil)},
	}
	if r.PreviousKeyID.Valid {
		h.PreviousSecret = &seal.Sealed{KeyID: r.PreviousKeyID.String, Bytes: r.PreviousSecret}
	}
	if err := json.Unmarshal([]byte(r.Signature.String), &h.Signature); err != nil {
		return nil, fmt.Errorf("the signature of the trigger %s: %w", b.ID, err)
	}
	return h, nil
}

// hookValues are the columns of a hook that are saved, in the order of addHook and saveHook.
func hookValues(h *inbound.Hook) ([]any, error) {
	signature, err := json.Marshal(h.Signature)
	if err != nil {
		return nil, fmt.Errorf("encode the signature of the trigger %s: %w", h.ID, err)
	}
	var previousKey sql.NullString
	var previous []byte
	if h.PreviousSecret != nil {
		previousKey, previous = sql.NullString{String: h.PreviousSecret.KeyID, Valid: true}, h.PreviousSecret.Bytes
	}
	return []any{h.ID, h.Preset, string(signature), h.Filter, h.MaxPerMinute, h.SecretVersion, h.Secret.KeyID, h.Secret.Bytes, previousKey, previous, nullTime(h.PreviousUntil)}, nil
}

func addHook(ctx context.Context, tx *sqlx.Tx, h *inbound.Hook) error {
	values, err := hookValues(h)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO hooks (trigger_id, preset, signature, filter, max_per_minute, secret_version, secret_key_id, secret, previous_key_id, previous_secret, previous_until)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`, values...)
	return err
}

func saveHook(ctx context.Context, tx *sqlx.Tx, h *inbound.Hook) error {
	values, err := hookValues(h)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE hooks SET preset = $2, signature = $3, filter = $4, max_per_minute = $5, secret_version = $6, secret_key_id = $7, secret = $8,
		previous_key_id = $9, previous_secret = $10, previous_until = $11 WHERE trigger_id = $1`, values...)
	return err
}

// rejectionsEvery is how often it is kept, at most, why a request for a hook was turned away: anybody can send one.
const rejectionsEvery = 10 * time.Second

// Reject implements inbound.HookStore.
func (s *Store) Reject(ctx context.Context, id, reason string) error {
	_, err := s.db.ExecContext(ctx, `UPDATE hooks SET rejected_at = clock_timestamp(), rejection = $2
		WHERE trigger_id = $1 AND (rejected_at IS NULL OR rejected_at < clock_timestamp() - $3 * interval '1 microsecond')`, id, plain(reason), microseconds(rejectionsEvery))
	return postgres.Translate(err)
}

// Reseal implements inbound.HookStore.
func (s *Store) Reseal(ctx context.Context, keys *seal.Keyring) error {
	var ids []string
	if err := s.lists.SelectContext(ctx, &ids, `SELECT trigger_id FROM hooks WHERE secret_key_id <> $1 OR previous_key_id <> $1 LIMIT 100`, keys.Current()); err != nil {
		return postgres.Translate(err)
	}
	for _, id := range ids {
		err := postgres.InTx(ctx, s.lists, func(tx *sqlx.Tx) error {
			if err := lockTrigger(ctx, tx, id); err != nil {
				return err
			}
			t, err := triggerOf(ctx, tx, id)
			h, is := t.(*inbound.Hook)
			if err != nil || !is {
				return err
			}
			if changed, err := h.Rotating.Reseal(keys, h.UserID, h.ID); err != nil || !changed {
				return err
			}
			return saveHook(ctx, tx, h)
		})
		if err != nil && errs.CodeOf(err) != errs.NotFound {
			return fmt.Errorf("seal the secret of the trigger %s under the current key: %w", id, err)
		}
	}
	return nil
}

// listenerRow is what of a listener all triggers do not have. It is of nothing when there is none.
type listenerRow struct {
	ListenerRevision  sql.NullInt64  `db:"l_revision"`
	EventTypes        pq.StringArray `db:"event_types"`
	ListenerFilter    sql.NullString `db:"l_filter"`
	ListenerPerMinute sql.NullInt64  `db:"l_per_minute"`
	Cursor            sql.NullInt64  `db:"cursor"`
	Skipped           sql.NullInt64  `db:"skipped"`
	LastError         sql.NullString `db:"last_error"`
}

const listenerColumns = `l.revision AS l_revision, l.event_types, l.filter AS l_filter, l.max_per_minute AS l_per_minute, l.cursor, l.skipped, l.last_error`

func (r listenerRow) listener(b trigger.Base, fired time.Time) *inbound.Listener {
	return &inbound.Listener{
		Base: b, Events: selection.Events{EventTypes: r.EventTypes, Filter: r.ListenerFilter.String}, MaxPerMinute: r.ListenerPerMinute.Int64, Revision: r.ListenerRevision.Int64,
		Cursor: uint64(r.Cursor.Int64), Skipped: uint64(r.Skipped.Int64), LastError: r.LastError.String, LastFired: fired,
	}
}

func addListener(ctx context.Context, tx *sqlx.Tx, l *inbound.Listener) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO listeners (trigger_id, event_types, filter, max_per_minute, cursor, look_at) VALUES ($1, $2, $3, $4, $5, CASE WHEN $6 THEN clock_timestamp() END)`,
		l.ID, pq.Array(l.EventTypes), l.Filter, l.MaxPerMinute, int64(l.Cursor), l.Enabled)
	return err
}

func saveListener(ctx context.Context, tx *sqlx.Tx, l *inbound.Listener) error {
	_, err := tx.ExecContext(ctx, `UPDATE listeners SET revision = revision + 1, event_types = $2, filter = $3, max_per_minute = $4, cursor = $5, last_error = $6,
		look_at = CASE WHEN $7 THEN clock_timestamp() END WHERE trigger_id = $1`, l.ID, pq.Array(l.EventTypes), l.Filter, l.MaxPerMinute, int64(l.Cursor), l.LastError, l.Enabled)
	return err
}

const (
	// idleLook is after how long a listener looks that has heard of nothing: what it was told may be lost.
	idleLook = 30 * time.Second
	// freshLook is instead of that for one that was made of late: not everybody knows yet that it is there.
	freshLook = 2 * time.Second
)

// ClaimListeners implements inbound.ListenerStore.
func (s *Store) ClaimListeners(ctx context.Context, lease time.Duration, n int) ([]*inbound.Listener, error) {
	if n == 0 {
		return nil, nil
	}
	var rows []struct {
		triggerRow
		listenerRow
	}
	// When it is to look next is set now, so that what it hears of meanwhile is not lost on it.
	err := s.db.SelectContext(ctx, &rows, `WITH due AS (
			SELECT trigger_id FROM listeners WHERE look_at <= statement_timestamp() AND leased_until < statement_timestamp() ORDER BY look_at LIMIT $2 FOR UPDATE SKIP LOCKED)
		UPDATE listeners l SET waits = false, leased_until = clock_timestamp() + $1 * interval '1 microsecond',
			look_at = clock_timestamp() + least(greatest(clock_timestamp() - t.updated_at, $3 * interval '1 microsecond'), $4 * interval '1 microsecond')
		FROM due JOIN triggers t ON t.id = due.trigger_id WHERE l.trigger_id = due.trigger_id
		RETURNING `+triggerColumns+`, `+listenerColumns, microseconds(lease), n, microseconds(freshLook), microseconds(idleLook))
	if err != nil {
		return nil, postgres.Translate(err)
	}
	out := make([]*inbound.Listener, len(rows))
	for i, r := range rows {
		out[i] = r.listener(r.base(), time.Time{})
	}
	return out, nil
}

// UntilNextListener implements inbound.ListenerStore.
func (s *Store) UntilNextListener(ctx context.Context, most time.Duration) (time.Duration, error) {
	var us int64
	err := s.db.GetContext(ctx, &us, `SELECT coalesce(ceil(extract(epoch FROM min(greatest(look_at, leased_until)) - clock_timestamp()) * 1000000), $1)::bigint FROM listeners WHERE look_at IS NOT NULL`, microseconds(most))
	return min(max(time.Duration(us)*time.Microsecond, 0), most), postgres.Translate(err)
}

// Looked implements inbound.ListenerStore.
func (s *Store) Looked(ctx context.Context, l *inbound.Listener, to inbound.Looked) error {
	_, err := s.db.ExecContext(ctx, `UPDATE listeners SET cursor = $4, skipped = $5, last_error = $6, leased_until = '-infinity', waits = NOT $7 AND $8 > 0,
			look_at = CASE WHEN $7 OR look_at IS NULL THEN look_at ELSE clock_timestamp() + $8 * interval '1 microsecond' END
		WHERE trigger_id = $1 AND revision = $2 AND cursor = $3`, l.ID, l.Revision, int64(l.Cursor), int64(to.Cursor), int64(to.Skipped), plain(to.LastError), to.Idle, microseconds(to.Again))
	return postgres.Translate(err)
}

// Heard implements inbound.ListenerStore.
func (s *Store) Heard(ctx context.Context, users []string) error {
	_, err := s.db.ExecContext(ctx, `UPDATE listeners SET look_at = clock_timestamp() WHERE look_at > clock_timestamp() AND NOT waits
		AND trigger_id IN (SELECT id FROM triggers WHERE user_id = ANY($1::uuid[]) AND type = $2)`, pq.Array(users), orchestrator.TriggerTypeEvent)
	return postgres.Translate(err)
}

// ListenerUsers implements inbound.ListenerStore.
func (s *Store) ListenerUsers(ctx context.Context) (map[string]bool, error) {
	var users []string
	if err := s.db.SelectContext(ctx, &users, `SELECT DISTINCT user_id FROM triggers WHERE type = $1 AND enabled`, orchestrator.TriggerTypeEvent); err != nil {
		return nil, postgres.Translate(err)
	}
	known := make(map[string]bool, len(users))
	for _, user := range users {
		known[user] = true
	}
	return known, nil
}
