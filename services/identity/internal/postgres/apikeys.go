package postgres

import (
	"context"
	"errors"
	"reflect"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
	pg "turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/listing"
	"turbocat.io/pkg/postgres/once"
	"turbocat.io/pkg/postgres/trail"
	"turbocat.io/services/identity/internal/account"
	"turbocat.io/services/identity/internal/apikey"
)

// Keys is an apikey.Store. It is safe for concurrent use.
type Keys struct{ db *sqlx.DB }

// NewKeys makes a store of API keys over the identity schema.
func NewKeys(db *sqlx.DB) Keys { return Keys{db} }

type keyRow struct {
	ID                 apikey.ID      `db:"id"`
	UserID             account.UserID `db:"user_id"`
	Name               string         `db:"name"`
	Prefix             string         `db:"prefix"`
	Digest             []byte         `db:"digest"`
	PreviousDigest     []byte         `db:"previous_digest"`
	PreviousUntil      *time.Time     `db:"previous_until"`
	Scopes             pq.StringArray `db:"scopes"`
	RateLimitPerMinute *int           `db:"rate_limit_per_minute"`
	ExpiresAt          *time.Time     `db:"expires_at"`
	LastUsedAt         *time.Time     `db:"last_used_at"`
	CreatedAt          time.Time      `db:"created_at"`
	UpdatedAt          time.Time      `db:"updated_at"`
	RevokedAt          *time.Time     `db:"revoked_at"`
	listing.Key
}

const keyColumns = `k.id, k.user_id, k.name, k.prefix, k.digest, k.previous_digest, k.previous_until, k.scopes,
	k.rate_limit_per_minute, k.expires_at, k.last_used_at, k.created_at, k.updated_at, k.revoked_at`

func toKeyRow(k apikey.Key) keyRow {
	return keyRow{
		ID: k.ID, UserID: k.UserID, Name: k.Name, Prefix: k.Prefix, Digest: k.Digest, PreviousDigest: k.PreviousDigest, PreviousUntil: k.PreviousUntil,
		Scopes: k.Scopes, RateLimitPerMinute: k.RateLimitPerMinute, ExpiresAt: k.ExpiresAt, LastUsedAt: k.LastUsedAt,
		CreatedAt: k.CreatedAt, UpdatedAt: k.UpdatedAt, RevokedAt: k.RevokedAt,
	}
}

func (r keyRow) apiKey() apikey.Key {
	return apikey.Key{
		ID: r.ID, UserID: r.UserID, Name: r.Name, Prefix: r.Prefix, Digest: r.Digest, PreviousDigest: r.PreviousDigest, PreviousUntil: utc(r.PreviousUntil),
		Scopes: r.Scopes, RateLimitPerMinute: r.RateLimitPerMinute, ExpiresAt: utc(r.ExpiresAt), LastUsedAt: utc(r.LastUsedAt),
		CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(), RevokedAt: utc(r.RevokedAt),
	}
}

// Insert implements apikey.Store.
func (s Keys) Insert(ctx context.Context, k apikey.Key, most int, allow func(owner account.User) error) error {
	return pg.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		// The lock on the owner has keys of one account made one after the other.
		owner, err := scanUser(tx.QueryRowContext(ctx, `SELECT `+userColumns+` FROM users WHERE id = $1 FOR NO KEY UPDATE`, k.UserID))
		if err != nil {
			return knownKey(err)
		}
		if err := allow(owner); err != nil {
			return err
		}
		var n int
		if err := tx.GetContext(ctx, &n, `SELECT count(*) FROM api_keys WHERE user_id = $1 AND NOT revoked`, k.UserID); err != nil {
			return err
		}
		if n >= most {
			return apikey.ErrTooMany
		}
		_, err = tx.NamedExecContext(ctx, `
			INSERT INTO api_keys (id, user_id, name, prefix, digest, previous_digest, previous_until, scopes, rate_limit_per_minute, expires_at, last_used_at, created_at, updated_at, revoked_at)
			VALUES (:id, :user_id, :name, :prefix, :digest, :previous_digest, :previous_until, :scopes, :rate_limit_per_minute, :expires_at, :last_used_at, :created_at, :updated_at, :revoked_at)`,
			toKeyRow(k))
		if err != nil {
			return err
		}
		if err := recordKey(ctx, tx, nil, k); err != nil {
			return err
		}
		return keepKey(ctx, tx, k)
	})
}

// keepKey keeps, of the answer that issued a key, which one it was: its text stands nowhere.
func keepKey(ctx context.Context, tx *sqlx.Tx, k apikey.Key) error {
	return once.Keep(ctx, tx, contract.IssuedAPIKey{APIKey: contract.APIKey{ID: k.ID.String()}})
}

// Update implements apikey.Store.
func (s Keys) Update(ctx context.Context, id apikey.ID, change func(k *apikey.Key, owner account.User) error) (apikey.Key, error) {
	var k apikey.Key
	err := pg.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		var row keyRow
		if err := tx.GetContext(ctx, &row, `SELECT `+keyColumns+` FROM api_keys k WHERE k.id = $1 AND k.revoked_at IS NULL FOR NO KEY UPDATE`, id); err != nil {
			return knownKey(err)
		}
		owner, err := scanUser(tx.QueryRowContext(ctx, `SELECT `+userColumns+` FROM users WHERE id = $1`, row.UserID))
		if err != nil {
			return knownKey(err)
		}
		k = row.apiKey()
		before := k
		if err := change(&k, owner); err != nil {
			return err
		}
		if !reflect.DeepEqual(before, k) {
			if err := recordKey(ctx, tx, &before, k); err != nil {
				return err
			}
		}
		_, err = tx.NamedExecContext(ctx, `
			UPDATE api_keys SET name = :name, digest = :digest, previous_digest = :previous_digest, previous_until = :previous_until, scopes = :scopes,
				rate_limit_per_minute = :rate_limit_per_minute, expires_at = :expires_at, updated_at = :updated_at, revoked_at = :revoked_at
			WHERE id = :id`, toKeyRow(k))
		if err != nil {
			return err
		}
		return keepKey(ctx, tx, k)
	})
	return k, err
}

// ByPrefix implements apikey.Store.
func (s Keys) ByPrefix(ctx context.Context, prefix string) (apikey.Key, account.User, error) {
	var row keyRow
	if err := s.db.GetContext(ctx, &row, `SELECT `+keyColumns+` FROM api_keys k WHERE k.prefix = $1`, prefix); err != nil {
		return apikey.Key{}, account.User{}, knownKey(err)
	}
	owner, err := scanUser(s.db.QueryRowContext(ctx, `SELECT `+userColumns+` FROM users WHERE id = $1`, row.UserID))
	return row.apiKey(), owner, knownKey(err)
}

// Refused implements apikey.Store.
func (s Keys) Refused(ctx context.Context, k apikey.Key, reason string, now time.Time) error {
	return pg.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		told, err := tx.ExecContext(ctx, `UPDATE api_keys SET refused_at = $2, refused_as = $3
			WHERE id = $1 AND (refused_at IS NULL OR refused_at <= $2::timestamptz - interval '1 hour' OR refused_as <> $3)`, k.ID, now, reason)
		if err != nil {
			return err
		}
		if n, err := told.RowsAffected(); err != nil || n == 0 {
			return err
		}
		return trail.Record(ctx, tx, trail.Deed{
			Action: audit.APIKeyRefused, ResourceID: k.ID.String(), OwnerID: k.UserID.String(), Refused: true, After: map[string]any{"reason": reason},
		})
	})
}

// Used implements apikey.Store.
func (s Keys) Used(ctx context.Context, id apikey.ID, at time.Time) error {
	_, err := s.db.ExecContext(ctx, `UPDATE api_keys SET last_used_at = greatest(last_used_at, $2) WHERE id = $1`, id, at)
	return pg.Translate(err)
}

// List implements apikey.Store.
func (s Keys) List(ctx context.Context, owner string, q contract.ListAPIKeysRequest) (rpc.List[apikey.Key], error) {
	var faults form.Faults
	page := listing.Table{From: "api_keys k", ID: "k.id", Columns: map[string]listing.Column{
		"createdAt": {SQL: "k.created_at", Kind: listing.Time},
		"updatedAt": {SQL: "k.updated_at", Kind: listing.Time},
		"name":      {SQL: "k.name", Kind: listing.Text},
	}}.Parse(q.Page, &faults)
	if owner != "" && uuid.Validate(owner) != nil {
		faults.Add("userId", errs.BadValue, "is no id; give that of an account")
	}
	if err := faults.Err("query"); err != nil {
		return rpc.List[apikey.Key]{}, err
	}
	var where listing.Where
	if owner != "" {
		where.And("k.user_id = ?", owner)
	}
	if q.Revoked {
		where.And("k.revoked") // in the words of the indexes
	} else {
		where.And("NOT k.revoked")
	}
	if q.Search != "" {
		where.Search("k.words @@ search_query(?)", listing.Words(q.Search)...)
	}
	rows, pagination, err := listing.Select[keyRow](ctx, s.db, page, keyColumns, where)
	list := rpc.List[apikey.Key]{Pagination: pagination}
	for _, row := range rows {
		list.Items = append(list.Items, row.apiKey())
	}
	return list, err
}

// knownKey names the error of a row that is not there.
func knownKey(err error) error {
	if err = known(err); errors.Is(err, account.ErrUnknown) {
		return apikey.ErrUnknown
	}
	return err
}
