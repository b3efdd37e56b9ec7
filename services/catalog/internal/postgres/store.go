// Package postgres keeps agents and workflows in PostgreSQL: a row that changes and a row for
// each version, which never does. A change is based on the revision it read.
package postgres

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/listing"
	"turbocat.io/services/catalog/internal/access"
	"turbocat.io/services/catalog/internal/agent"
)

// maxTries bounds how often a change is repeated because another one came first.
const maxTries = 20

// raw is a json column.
type raw []byte

func (r raw) json() json.RawMessage { return json.RawMessage(r) }

// insert runs the statements of a new thing in one transaction.
func insert(ctx context.Context, db *sqlx.DB, what, id string, fn func(tx *sqlx.Tx) error) error {
	err := postgres.InTx(ctx, db, fn)
	if postgres.IsUnique(err, "") {
		return errs.Wrap(err, errs.Conflict, "the %s id %s is taken; choose another", what, id)
	}
	return err
}

// update reads, changes and saves a thing until nobody else changed it in between.
func update[T any](what, id string, read func() (T, int64, error), change func(T) (T, error), save func(next T, revision int64) (bool, error)) (T, error) {
	for range maxTries {
		current, revision, err := read()
		if err != nil {
			return current, err
		}
		next, err := change(current)
		if err != nil {
			return current, err
		}
		if saved, err := save(next, revision); saved || err != nil {
			return next, err
		}
	}
	var none T
	return none, errs.New(errs.Conflict, "the %s %s is being changed by others all the time; try again", what, id)
}

// remove marks a row as deleted.
func remove(ctx context.Context, db *sqlx.DB, query, what, id, owner string, at time.Time) error {
	if !isUUID(id) {
		return access.NotFound(what, id)
	}
	result, err := db.ExecContext(ctx, query, id, owner, at)
	if err != nil {
		return postgres.Translate(err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		if err != nil {
			return err
		}
		return access.NotFound(what, id)
	}
	return nil
}

// changed tells whether a conditional UPDATE met its row.
func changed(ctx context.Context, tx *sqlx.Tx, query string, args ...any) (bool, error) {
	result, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

func isUUID(id string) bool {
	_, err := uuid.Parse(id)
	return err == nil && len(id) == 36
}

// table says how one of the two tables is listed.
func table(from string) listing.Table {
	return listing.Table{From: from, ID: "t.id", Columns: map[string]listing.Column{
		"createdAt": {SQL: "t.created_at", Kind: listing.Time},
		"updatedAt": {SQL: "t.updated_at", Kind: listing.Time},
		"name":      {SQL: "t.name", Kind: listing.Text},
		"status":    {SQL: "t.status", Kind: listing.Text},
	}}
}

// narrow checks a list's request and gives its page and its conditions.
func narrow(t listing.Table, owner string, q catalog.ListRequest) (listing.Page, listing.Where, error) {
	page, faults := t.Parse(q.Page)
	enum := func(field, value string, allowed []string) {
		if value != "" && !slices.Contains(allowed, value) {
			faults = append(faults, errs.Detail{Field: field, Code: "bad_enum", Message: "is " + strconv.Quote(value) + "; give one of " + strings.Join(allowed, ", ")})
		}
	}
	enum("status", q.Status, agent.Statuses())
	enum("type", q.Type, agent.Types())
	if slices.ContainsFunc(q.Tags, func(tag string) bool { return strings.ContainsRune(tag, 0) }) || len(q.Tags) > 20 {
		faults = append(faults, errs.Detail{Field: "tags", Code: "bad_value", Message: "must be at most 20 tags without NUL characters"})
	}
	if len(faults) > 0 {
		return page, listing.Where{}, errs.Invalid("query", faults)
	}
	var where listing.Where
	where.And("t.deleted_at IS NULL")
	if owner != "" {
		where.And("t.user_id = ?", owner)
	}
	if q.IsPublic != nil {
		where.And("t.is_public = ?", *q.IsPublic)
	}
	if q.Status != "" {
		where.And("t.status = ?", q.Status)
	}
	if len(q.Tags) > 0 {
		where.And("t.tags @> ?", pq.StringArray(q.Tags))
	}
	if q.Search != "" {
		pattern := listing.Contains(q.Search)
		where.And("t.name ILIKE ? OR t.description ILIKE ?", pattern, pattern)
	}
	return page, where, nil
}
