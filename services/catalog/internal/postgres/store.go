// Package postgres keeps agents and workflows in PostgreSQL: a row that changes and a row for
// each version, which never does. A change is based on the revision it read.
package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/listing"
	"turbocat.io/services/catalog/internal/access"
)

// maxTries bounds how often a change is repeated because another one came first.
const maxTries = 20

// head is the row that changes; it is the same for agents and workflows.
type head struct {
	ID          string         `db:"id"`
	UserID      string         `db:"user_id"`
	Name        string         `db:"name"`
	Description string         `db:"description"`
	Status      string         `db:"status"`
	Tags        pq.StringArray `db:"tags"`
	IsPublic    bool           `db:"is_public"`
	Version     int            `db:"version"`
	Revision    int64          `db:"revision"`
	CreatedAt   time.Time      `db:"created_at"`
	UpdatedAt   time.Time      `db:"updated_at"`
	listing.Key
}

func (h head) common() head { return h }

// row is a head with the columns of its version.
type row interface {
	listing.Row
	common() head
}

// raw is a json column.
type raw []byte

// Value implements driver.Valuer: json travels as text.
func (r raw) Value() (driver.Value, error) { return string(r), nil }

func (r raw) json() json.RawMessage { return json.RawMessage(r) }

// kind is what agents and workflows differ in.
type kind[T any, R row] struct {
	name     string
	columns  []string // of a version
	unlisted []string // more of them, which lists leave out
	toRow    func(thing T, revision int64) (R, error)
	fromRow  func(R) (T, error)
}

// The statements of a kind, whose tables are <name>s and <name>_versions.
const (
	from    = `{name}s t JOIN {name}_versions v ON v.{name}_id = t.id AND v.version = t.version`
	listed  = `t.id, t.user_id, t.name, t.description, t.status, t.tags, t.is_public, t.version, t.revision, t.created_at, t.updated_at, {listed}`
	find    = `SELECT ` + listed + `{unlisted} FROM ` + from + ` WHERE t.deleted_at IS NULL AND t.id = $1`
	findAll = `SELECT ` + listed + `{unlisted} FROM ` + from + ` WHERE t.deleted_at IS NULL AND t.id = ANY ($1::uuid[])`
	insert  = `INSERT INTO {name}s (id, user_id, name, description, status, tags, is_public, version, revision, created_at, updated_at)
		VALUES (:id, :user_id, :name, :description, :status, :tags, :is_public, :version, :revision, :created_at, :updated_at)`
	insertVersion = `INSERT INTO {name}_versions ({name}_id, version, {columns}, created_at) VALUES (:id, :version, {values}, :updated_at)`
	update        = `UPDATE {name}s SET name = :name, description = :description, status = :status, tags = :tags, is_public = :is_public,
		version = :version, updated_at = :updated_at, revision = revision + 1
		WHERE id = :id AND revision = :revision AND deleted_at IS NULL`
	hide = `UPDATE {name}s SET deleted_at = $3, revision = revision + 1
		WHERE id = $1 AND ($2 = '' OR user_id::text = $2) AND deleted_at IS NULL`
)

// store keeps the things of one kind.
type store[T any, R row] struct {
	kind[T, R]
	db    *sqlx.DB
	reads *postgres.Prepared // what every start of an execution asks
	words *strings.Replacer  // of the statements
}

func newStore[T any, R row](db *sqlx.DB, k kind[T, R]) *store[T, R] {
	all := slices.Concat(k.columns, k.unlisted)
	return &store[T, R]{kind: k, db: db, reads: postgres.Prepare(db), words: strings.NewReplacer(
		"{name}", k.name,
		"{listed}", "v."+strings.Join(k.columns, ", v."),
		"{unlisted}", strings.Join(append([]string{""}, k.unlisted...), ", v."),
		"{columns}", strings.Join(all, ", "),
		"{values}", ":"+strings.Join(all, ", :"),
	)}
}

// sql gives a statement for the kind.
func (s *store[T, R]) sql(statement string) string { return s.words.Replace(statement) }

// Insert implements agent.Store and workflow.Store.
func (s *store[T, R]) Insert(ctx context.Context, thing T) error {
	row, err := s.toRow(thing, 1)
	if err != nil {
		return err
	}
	err = postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		if _, err := tx.NamedExecContext(ctx, s.sql(insert), row); err != nil {
			return err
		}
		_, err := tx.NamedExecContext(ctx, s.sql(insertVersion), row)
		return err
	})
	if postgres.IsUnique(err, "") {
		return errs.Wrap(err, errs.Conflict, "the %s id %s is taken; choose another", s.name, row.common().ID)
	}
	return err
}

// Find implements agent.Store and workflow.Store.
func (s *store[T, R]) Find(ctx context.Context, id string) (T, error) {
	thing, _, err := s.read(ctx, id)
	return thing, err
}

func (s *store[T, R]) read(ctx context.Context, id string) (thing T, h head, err error) {
	var row R
	if !isUUID(id) {
		return thing, h, access.NotFound(s.name, id)
	}
	err = s.reads.GetContext(ctx, &row, s.sql(find), id)
	if errors.Is(err, sql.ErrNoRows) {
		return thing, h, access.NotFound(s.name, id)
	}
	if err != nil {
		return thing, h, postgres.Translate(err)
	}
	thing, err = s.fromRow(row)
	return thing, row.common(), err
}

// FindAll gives the things that have one of the ids, in any order.
func (s *store[T, R]) FindAll(ctx context.Context, ids []string) ([]T, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var rows []R
	if err := s.reads.SelectContext(ctx, &rows, s.sql(findAll), pq.StringArray(ids)); err != nil {
		return nil, postgres.Translate(err)
	}
	return s.things(rows)
}

func (s *store[T, R]) things(rows []R) ([]T, error) {
	things := make([]T, len(rows))
	for i, r := range rows {
		var err error
		if things[i], err = s.fromRow(r); err != nil {
			return nil, err
		}
	}
	return things, nil
}

// Update implements agent.Store and workflow.Store.
func (s *store[T, R]) Update(ctx context.Context, id string, change func(T) (T, error)) (T, error) {
	for range maxTries {
		current, before, err := s.read(ctx, id)
		if err != nil {
			return current, err
		}
		next, err := change(current)
		if err != nil || reflect.DeepEqual(next, current) {
			return next, err
		}
		if saved, err := s.save(ctx, next, before); saved || err != nil {
			return next, err
		}
	}
	var none T
	return none, errs.New(errs.Conflict, "the %s %s is being changed by others all the time; try again", s.name, id)
}

// save is false when another change came first.
func (s *store[T, R]) save(ctx context.Context, next T, before head) (saved bool, err error) {
	row, err := s.toRow(next, before.Revision)
	if err != nil {
		return false, err
	}
	err = postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		result, err := tx.NamedExecContext(ctx, s.sql(update), row)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		saved = n == 1
		if err != nil || !saved || row.common().Version == before.Version {
			return err
		}
		_, err = tx.NamedExecContext(ctx, s.sql(insertVersion), row)
		return err
	})
	return saved, err
}

// Delete implements agent.Store and workflow.Store.
func (s *store[T, R]) Delete(ctx context.Context, id, owner string, at time.Time) error {
	if !isUUID(id) {
		return access.NotFound(s.name, id)
	}
	result, err := s.db.ExecContext(ctx, s.sql(hide), id, owner, at)
	if err != nil {
		return postgres.Translate(err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return access.NotFound(s.name, id)
}

// List implements agent.Store and workflow.Store.
func (s *store[T, R]) List(ctx context.Context, owner string, q catalog.ListRequest) (rpc.List[T], error) {
	page, where, err := narrow(s.sql(from), owner, q)
	if err != nil {
		return rpc.List[T]{}, err
	}
	if q.Type != "" && slices.Contains(s.columns, "type") {
		where.And("v.type = ?", q.Type)
	}
	rows, pagination, err := listing.Select[R](ctx, s.db, page, s.sql(listed), where)
	if err != nil {
		return rpc.List[T]{}, err
	}
	things, err := s.things(rows)
	return rpc.List[T]{Items: things, Pagination: pagination}, err
}

func isUUID(id string) bool {
	_, err := uuid.Parse(id)
	return err == nil && len(id) == 36
}
