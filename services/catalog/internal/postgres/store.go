// Package postgres keeps agents and workflows in PostgreSQL: a row that changes and a row for
// each version, which never does. A change is based on the revision it read.
package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/listing"
	"turbocat.io/pkg/postgres/once"
	"turbocat.io/pkg/postgres/trail"
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
	SourceID    *string        `db:"source_id"`
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

// Scan implements sql.Scanner: NULL is what was left out.
func (r *raw) Scan(value any) error {
	text, ok := value.([]byte)
	if !ok && value != nil {
		return fmt.Errorf("json comes as %T", value)
	}
	*r = slices.Clone(text)
	return nil
}

func (r raw) json() json.RawMessage { return json.RawMessage(r) }

// kind is what agents and workflows differ in.
type kind[T any, R row] struct {
	name     string
	columns  []string // of a version
	unlisted []string // more of them, which lists leave out
	large    string   // one of columns, which a list of versions leaves out behind maxLarge
	both     []string // those of columns that the row that changes has too, because lists are narrowed by them
	toRow    func(thing T, revision int64) (R, error)
	fromRow  func(R) (T, error)
}

// The statements of a kind, whose tables are <name>s and <name>_versions.
const (
	heads   = `{name}s t`
	join    = `JOIN {name}_versions v ON v.{name}_id = t.id AND v.version = t.version`
	listed  = `t.id, t.user_id, t.name, t.description, t.status, t.tags, t.is_public, t.version, t.source_id, t.revision, t.created_at, t.updated_at, {listed}`
	find    = `SELECT ` + listed + `{unlisted} FROM ` + heads + ` ` + join + ` WHERE t.deleted_at IS NULL AND t.id = $1`
	findAll = `SELECT ` + listed + `{unlisted} FROM ` + heads + ` ` + join + ` WHERE t.deleted_at IS NULL AND t.id = ANY ($1::uuid[])`
	insert  = `INSERT INTO {name}s (id, user_id, name, description, status, tags, is_public, version, source_id, revision, created_at, updated_at{both})
		VALUES (:id, :user_id, :name, :description, :status, :tags, :is_public, :version, :source_id, :revision, :created_at, :updated_at{bothValues})`
	insertVersion = `INSERT INTO {name}_versions ({name}_id, version, {columns}, created_at) VALUES (:id, :version, {values}, :updated_at)`
	update        = `UPDATE {name}s SET name = :name, description = :description, status = :status, tags = :tags, is_public = :is_public,
		version = :version, updated_at = :updated_at, revision = revision + 1{setBoth}
		WHERE id = :id AND revision = :revision AND deleted_at IS NULL`
	version = `v.{name}_id AS id, v.version, v.created_at, {listed}{unlisted}`
	ofList  = `v.{name}_id AS id, v.version, v.created_at, {ofList}`
	hide    = `UPDATE {name}s SET deleted_at = $2, revision = revision + 1 WHERE id = $1`
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
	var both, bothValues, setBoth string
	for _, column := range k.both {
		both, bothValues, setBoth = both+", "+column, bothValues+", :"+column, setBoth+", "+column+" = :"+column
	}
	ofList := make([]string, len(k.columns))
	for i, column := range k.columns {
		if ofList[i] = "v." + column; column == k.large {
			ofList[i] = fmt.Sprintf("CASE WHEN sum(octet_length(v.%[1]s::text)) OVER (ORDER BY v.version DESC) <= %[2]d THEN v.%[1]s END AS %[1]s", column, maxLarge)
		}
	}
	return &store[T, R]{kind: k, db: db, reads: postgres.Prepare(db), words: strings.NewReplacer(
		"{name}", k.name,
		"{both}", both, "{bothValues}", bothValues, "{setBoth}", setBoth,
		"{listed}", "v."+strings.Join(k.columns, ", v."),
		"{ofList}", strings.Join(ofList, ", "),
		"{unlisted}", strings.Join(append([]string{""}, k.unlisted...), ", v."),
		"{columns}", strings.Join(all, ", "),
		"{values}", ":"+strings.Join(all, ", :"),
	)}
}

// sql gives a statement for the kind.
func (s *store[T, R]) sql(statement string) string { return s.words.Replace(statement) }

// Insert implements agent.Store and workflow.Store.
func (s *store[T, R]) Insert(ctx context.Context, thing T) error {
	return postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		if err := s.insert(ctx, tx, thing); err != nil {
			return err
		}
		return once.Keep(ctx, tx, thing)
	})
}

// insert is Insert in a transaction.
func (s *store[T, R]) insert(ctx context.Context, tx *sqlx.Tx, thing T) error {
	row, err := s.toRow(thing, 1)
	if err != nil {
		return err
	}
	if _, err := tx.NamedExecContext(ctx, s.sql(insert), row); postgres.IsUnique(err, "") {
		return errs.Wrap(err, errs.Conflict, "the %s id %s is taken; choose another", s.name, row.common().ID)
	} else if err != nil {
		return err
	}
	if _, err := tx.NamedExecContext(ctx, s.sql(insertVersion), row); err != nil {
		return err
	}
	return s.record(ctx, tx, "created", row.common(), nil, thing)
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
		if saved, err := s.save(ctx, current, next, before); saved || err != nil {
			return next, err
		}
	}
	var none T
	return none, errs.New(errs.Conflict, "the %s %s is being changed by others all the time; try again", s.name, id)
}

// save is false when another change came first.
func (s *store[T, R]) save(ctx context.Context, current, next T, before head) (saved bool, err error) {
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
		if err != nil || !saved {
			return err
		}
		if row.common().Version != before.Version {
			if _, err = tx.NamedExecContext(ctx, s.sql(insertVersion), row); err != nil {
				return err
			}
		}
		return s.record(ctx, tx, "updated", before, current, next)
	})
	return saved, err
}

// Delete implements agent.Store and workflow.Store.
func (s *store[T, R]) Delete(ctx context.Context, id, owner string, at time.Time) error {
	if !isUUID(id) {
		return access.NotFound(s.name, id)
	}
	return postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		var row R
		// Read before it is hidden, by a lock that keeps it as it was read.
		err := tx.GetContext(ctx, &row, s.sql(find)+` FOR UPDATE OF t`, id)
		if errors.Is(err, sql.ErrNoRows) || err == nil && owner != "" && row.common().UserID != owner {
			return access.NotFound(s.name, id)
		}
		if err != nil {
			return err
		}
		thing, err := s.fromRow(row)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, s.sql(hide), id, at); err != nil {
			return err
		}
		return s.record(ctx, tx, "deleted", row.common(), thing, nil)
	})
}

// record tells the audit trail of a change in its transaction.
func (s *store[T, R]) record(ctx context.Context, tx *sqlx.Tx, done string, h head, before, after any) error {
	return trail.Record(ctx, tx, trail.Deed{
		Action: audit.Action(s.name + "." + done), ResourceID: h.ID, OwnerID: h.UserID, Before: before, After: after,
	})
}

// List implements agent.Store and workflow.Store.
func (s *store[T, R]) List(ctx context.Context, owner string, q catalog.ListRequest) (rpc.List[T], error) {
	page, where, err := narrow(s.sql(heads), s.sql(join), owner, q)
	if err != nil {
		return rpc.List[T]{}, err
	}
	if q.Type != "" && slices.Contains(s.both, "type") {
		where.And("t.type = ?", q.Type)
	}
	rows, pagination, err := listing.Select[R](ctx, s.db, page, s.sql(listed), where)
	if err != nil {
		return rpc.List[T]{}, err
	}
	things, err := s.things(rows)
	return rpc.List[T]{Items: things, Pagination: pagination}, err
}

// maxLarge is how many bytes of what is large a list of versions has.
const maxLarge = 8 << 20

// Versions reads a page of the versions of a thing, each as a thing that has no more than its version has, without
// what lists leave out.
func (s *store[T, R]) Versions(ctx context.Context, id string, p rpc.Page) (rpc.List[T], error) {
	var faults form.Faults
	page := listing.Table{From: s.sql("{name}_versions v"), ID: s.sql("v.{name}_id"), Sort: "version", Columns: map[string]listing.Column{
		"version": {SQL: "v.version", Kind: listing.Integer},
	}}.Parse(p, &faults)
	if err := faults.Err("query"); err != nil {
		return rpc.List[T]{}, err
	}
	var where listing.Where
	where.And(s.sql("v.{name}_id = ?"), id)
	rows, pagination, err := listing.Select[R](ctx, s.db, page, s.sql(ofList), where)
	if err != nil {
		return rpc.List[T]{}, err
	}
	things, err := s.things(rows)
	return rpc.List[T]{Items: things, Pagination: pagination}, err
}

// Version reads one version of a thing, as a thing that has no more than its version has.
func (s *store[T, R]) Version(ctx context.Context, id string, number int) (thing T, err error) {
	var row R
	err = s.db.GetContext(ctx, &row, s.sql("SELECT "+version+" FROM {name}_versions v WHERE v.{name}_id = $1 AND v.version = $2"), id, number)
	if errors.Is(err, sql.ErrNoRows) {
		return thing, errs.New(errs.NotFound, "the %s %s has no version %d", s.name, id, number)
	}
	if err != nil {
		return thing, postgres.Translate(err)
	}
	return s.fromRow(row)
}

func isUUID(id string) bool {
	_, err := uuid.Parse(id)
	return err == nil && len(id) == 36
}
