package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
	pg "turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/listing"
	"turbocat.io/pkg/seal"
	"turbocat.io/services/identity/internal/vault"
)

// Secrets is a vault.Store. It is safe for concurrent use.
type Secrets struct{ db *sqlx.DB }

// NewSecrets makes a store over the identity schema.
func NewSecrets(db *sqlx.DB) *Secrets { return &Secrets{db} }

// Put implements vault.Store.
func (s *Secrets) Put(ctx context.Context, r vault.Row, most int, sealed func(vault.Row) seal.Sealed) (stored vault.Row, created bool, err error) {
	err = pg.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		// The account first: it orders the changes of one owner's secrets, so that they can be counted.
		switch err := tx.QueryRowContext(ctx, `SELECT id FROM users WHERE id = $1 FOR NO KEY UPDATE`, r.Owner).Scan(&r.Owner); {
		case errors.Is(err, sql.ErrNoRows):
			return vault.ErrUnknown
		case err != nil:
			return err
		}
		err := tx.QueryRowContext(ctx, `SELECT id, version, created_at FROM secrets WHERE user_id = $1 AND name = $2 FOR UPDATE`, r.Owner, r.Name).
			Scan(&r.ID, &r.Version, &r.CreatedAt)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		created = err != nil
		r.Version++
		r.CreatedAt = r.CreatedAt.UTC()
		r.Sealed = sealed(r)
		stored = r
		if !created {
			if err := recordSecret(ctx, tx, audit.SecretUpdated, r); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, `UPDATE secrets SET version = $2, key_id = $3, sealed = $4, updated_at = $5 WHERE id = $1`,
				r.ID, r.Version, r.Sealed.KeyID, r.Sealed.Bytes, r.UpdatedAt)
			return err
		}
		var others int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM secrets WHERE user_id = $1`, r.Owner).Scan(&others); err != nil {
			return err
		}
		if others >= most {
			return vault.ErrTooMany
		}
		if err := recordSecret(ctx, tx, audit.SecretCreated, r); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `
			INSERT INTO secrets (id, user_id, name, version, key_id, sealed, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			r.ID, r.Owner, r.Name, r.Version, r.Sealed.KeyID, r.Sealed.Bytes, r.CreatedAt, r.UpdatedAt)
		return err
	})
	return stored, created, err
}

// Delete implements vault.Store.
func (s *Secrets) Delete(ctx context.Context, owner, name string) error {
	return pg.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		r := vault.Row{Owner: owner, Name: name}
		err := tx.QueryRowContext(ctx, `DELETE FROM secrets WHERE user_id = $1 AND name = $2 RETURNING version`, owner, name).Scan(&r.Version)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return vault.ErrUnknown
		case err != nil:
			return err
		}
		return recordSecret(ctx, tx, audit.SecretDeleted, r)
	})
}

type secretRow struct {
	ID        string    `db:"id"`
	Owner     string    `db:"user_id"`
	Name      string    `db:"name"`
	Version   int       `db:"version"`
	KeyID     string    `db:"key_id"`
	Sealed    []byte    `db:"sealed"`
	CreatedAt time.Time `db:"created_at"`
	UpdatedAt time.Time `db:"updated_at"`
}

func (r secretRow) row() vault.Row {
	return vault.Row{
		ID: r.ID, Owner: r.Owner, Name: r.Name, Version: r.Version, Sealed: seal.Sealed{KeyID: r.KeyID, Bytes: r.Sealed},
		CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(),
	}
}

// List implements vault.Store.
func (s *Secrets) List(ctx context.Context, owner string, asked rpc.Page) (rpc.List[vault.Row], error) {
	var faults form.Faults
	page := listing.Table{From: "secrets", ID: "id", Columns: map[string]listing.Column{
		"createdAt": {SQL: "created_at", Kind: listing.Time},
		"updatedAt": {SQL: "updated_at", Kind: listing.Time},
		"name":      {SQL: "name", Kind: listing.Text},
	}}.Parse(asked, &faults)
	if err := faults.Err("query"); err != nil {
		return rpc.List[vault.Row]{}, err
	}
	var where listing.Where
	where.And("user_id = ?::uuid", owner)
	if asked.Search != "" {
		where.And("name ILIKE ?", listing.Contains(asked.Search))
	}
	type listed struct {
		secretRow
		listing.Key
	}
	rows, pagination, err := listing.Select[listed](ctx, s.db, page, "id, user_id, name, created_at, updated_at", where)
	if err != nil {
		return rpc.List[vault.Row]{}, err
	}
	list := rpc.List[vault.Row]{Items: make([]vault.Row, len(rows)), Pagination: pagination}
	for i, r := range rows {
		list.Items[i] = r.row()
	}
	return list, nil
}

const secretColumns = "id, user_id, name, version, key_id, sealed, created_at, updated_at"

// Named implements vault.Store.
func (s *Secrets) Named(ctx context.Context, owner string, names []string) ([]vault.Row, error) {
	return s.selectRows(ctx, `SELECT `+secretColumns+` FROM secrets WHERE user_id = $1 AND name = ANY ($2)`, owner, pq.StringArray(names))
}

// Outdated implements vault.Store.
func (s *Secrets) Outdated(ctx context.Context, keyID, after string, limit int) ([]vault.Row, int, error) {
	if after == "" {
		after = "00000000-0000-0000-0000-000000000000"
	}
	rows, err := s.selectRows(ctx, `SELECT `+secretColumns+` FROM secrets WHERE key_id <> $1 AND id > $2 ORDER BY id LIMIT $3`, keyID, after, limit)
	if err != nil || len(rows) == 0 {
		return nil, 0, err
	}
	var left int
	err = s.db.QueryRowContext(ctx, `SELECT count(*) FROM secrets WHERE key_id <> $1 AND id > $2`, keyID, rows[len(rows)-1].ID).Scan(&left)
	return rows, left, pg.Translate(err)
}

// Reseal implements vault.Store.
func (s *Secrets) Reseal(ctx context.Context, r vault.Row, sealed seal.Sealed) (bool, error) {
	result, err := s.db.ExecContext(ctx, `UPDATE secrets SET key_id = $4, sealed = $5 WHERE id = $1 AND version = $2 AND key_id = $3`,
		r.ID, r.Version, r.Sealed.KeyID, sealed.KeyID, sealed.Bytes)
	if err != nil {
		return false, pg.Translate(err)
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

func (s *Secrets) selectRows(ctx context.Context, query string, args ...any) ([]vault.Row, error) {
	var rows []secretRow
	if err := s.db.SelectContext(ctx, &rows, query, args...); err != nil {
		return nil, pg.Translate(err)
	}
	list := make([]vault.Row, len(rows))
	for i, r := range rows {
		list[i] = r.row()
	}
	return list, nil
}
