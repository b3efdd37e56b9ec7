package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/listing"
	"turbocat.io/services/catalog/internal/access"
)

// Workflows keeps workflows with their steps. It is safe for concurrent use.
type Workflows struct {
	db    *sqlx.DB
	reads *postgres.Prepared // what every start of an execution asks
}

// NewWorkflows makes a store over the catalog's schema.
func NewWorkflows(db *sqlx.DB) *Workflows { return &Workflows{db: db, reads: postgres.Prepare(db)} }

type workflowRow struct {
	ID              string         `db:"id"`
	UserID          string         `db:"user_id"`
	Name            string         `db:"name"`
	Description     string         `db:"description"`
	Status          string         `db:"status"`
	Version         int            `db:"version"`
	InputSchema     raw            `db:"input_schema"`
	Outputs         raw            `db:"outputs"`
	TimeoutMs       int64          `db:"timeout_ms"`
	Concurrency     raw            `db:"concurrency"`
	Priority        int            `db:"priority"`
	StrictTemplates bool           `db:"strict_templates"`
	Tags            pq.StringArray `db:"tags"`
	IsPublic        bool           `db:"is_public"`
	Revision        int64          `db:"revision"`
	CreatedAt       time.Time      `db:"created_at"`
	UpdatedAt       time.Time      `db:"updated_at"`
	Steps           raw            `db:"steps"` // not in lists
}

const (
	workflowsFrom   = "workflows t JOIN workflow_versions v ON v.workflow_id = t.id AND v.version = t.version"
	workflowColumns = `t.id, t.user_id, t.name, t.description, t.status, t.version, v.input_schema, v.outputs, v.timeout_ms, v.concurrency,
		v.priority, v.strict_templates, t.tags, t.is_public, t.revision, t.created_at, t.updated_at`

	insertWorkflow = `INSERT INTO workflows (id, user_id, name, description, status, tags, is_public, version, revision, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9, $10)`
	insertWorkflowVersion = `INSERT INTO workflow_versions
		(workflow_id, version, input_schema, outputs, timeout_ms, concurrency, priority, strict_templates, steps, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`
	selectWorkflow = `SELECT ` + workflowColumns + `, v.steps FROM ` + workflowsFrom + ` WHERE t.id = $1 AND t.deleted_at IS NULL`
	updateWorkflow = `UPDATE workflows SET name = $3, description = $4, status = $5, tags = $6, is_public = $7, version = $8, updated_at = $9, revision = revision + 1
		WHERE id = $1 AND revision = $2 AND deleted_at IS NULL`
	deleteWorkflow = `UPDATE workflows SET deleted_at = $3, revision = revision + 1
		WHERE id = $1 AND ($2 = '' OR user_id::text = $2) AND deleted_at IS NULL`
)

func (r workflowRow) workflow() (catalog.Workflow, error) {
	w := catalog.Workflow{
		ID: r.ID, UserID: r.UserID, Name: r.Name, Description: r.Description, Status: r.Status, Version: r.Version,
		InputSchema: r.InputSchema.json(), Outputs: r.Outputs.json(), TimeoutMs: r.TimeoutMs, Concurrency: r.Concurrency.json(),
		Priority: r.Priority, StrictTemplates: r.StrictTemplates, Tags: r.Tags, IsPublic: r.IsPublic,
		CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(),
	}
	if r.Steps == nil {
		return w, nil
	}
	if err := json.Unmarshal(r.Steps, &w.Steps); err != nil {
		return w, fmt.Errorf("steps of workflow %s: %w", r.ID, err)
	}
	return w, nil
}

// Insert implements workflow.Store.
func (s *Workflows) Insert(ctx context.Context, w catalog.Workflow) error {
	return insert(ctx, s.db, "workflow", w.ID, func(tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, insertWorkflow, w.ID, w.UserID, w.Name, w.Description, w.Status, pq.StringArray(w.Tags), w.IsPublic,
			w.Version, w.CreatedAt, w.UpdatedAt); err != nil {
			return err
		}
		return insertVersionOfWorkflow(ctx, tx, w)
	})
}

func insertVersionOfWorkflow(ctx context.Context, tx *sqlx.Tx, w catalog.Workflow) error {
	steps, err := json.Marshal(w.Steps)
	if err != nil {
		return fmt.Errorf("steps of workflow %s: %w", w.ID, err)
	}
	_, err = tx.ExecContext(ctx, insertWorkflowVersion, w.ID, w.Version, string(w.InputSchema), string(w.Outputs), w.TimeoutMs, string(w.Concurrency),
		w.Priority, w.StrictTemplates, string(steps), w.UpdatedAt)
	return err
}

// Find implements workflow.Store.
func (s *Workflows) Find(ctx context.Context, id string) (catalog.Workflow, error) {
	w, _, err := s.find(ctx, id)
	return w, err
}

func (s *Workflows) find(ctx context.Context, id string) (catalog.Workflow, int64, error) {
	var row workflowRow
	if !isUUID(id) {
		return catalog.Workflow{}, 0, access.NotFound("workflow", id)
	}
	err := s.reads.GetContext(ctx, &row, selectWorkflow, id)
	if errors.Is(err, sql.ErrNoRows) {
		return catalog.Workflow{}, 0, access.NotFound("workflow", id)
	}
	if err != nil {
		return catalog.Workflow{}, 0, postgres.Translate(err)
	}
	w, err := row.workflow()
	return w, row.Revision, err
}

// Update implements workflow.Store.
func (s *Workflows) Update(ctx context.Context, id string, change func(catalog.Workflow) (catalog.Workflow, error)) (catalog.Workflow, error) {
	var current catalog.Workflow
	read := func() (w catalog.Workflow, revision int64, err error) {
		current, revision, err = s.find(ctx, id)
		return current, revision, err
	}
	save := func(next catalog.Workflow, revision int64) (saved bool, err error) {
		if reflect.DeepEqual(next, current) {
			return true, nil
		}
		err = postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
			saved, err = changed(ctx, tx, updateWorkflow, id, revision, next.Name, next.Description, next.Status, pq.StringArray(next.Tags), next.IsPublic,
				next.Version, next.UpdatedAt)
			if err != nil || !saved || next.Version == current.Version {
				return err
			}
			return insertVersionOfWorkflow(ctx, tx, next)
		})
		return saved, err
	}
	return update("workflow", id, read, change, save)
}

// Delete implements workflow.Store.
func (s *Workflows) Delete(ctx context.Context, id, owner string, at time.Time) error {
	return remove(ctx, s.db, deleteWorkflow, "workflow", id, owner, at)
}

// List implements workflow.Store.
func (s *Workflows) List(ctx context.Context, owner string, q catalog.ListRequest) (rpc.List[catalog.Workflow], error) {
	page, where, err := narrow(table(workflowsFrom), owner, q)
	if err != nil {
		return rpc.List[catalog.Workflow]{}, err
	}
	type listed struct {
		workflowRow
		listing.Key
	}
	rows, pagination, err := listing.Select[listed](ctx, s.db, page, workflowColumns, where)
	if err != nil {
		return rpc.List[catalog.Workflow]{}, err
	}
	list := rpc.List[catalog.Workflow]{Items: make([]catalog.Workflow, len(rows)), Pagination: pagination}
	for i, r := range rows {
		if list.Items[i], err = r.workflow(); err != nil {
			return rpc.List[catalog.Workflow]{}, err
		}
	}
	return list, nil
}
