package postgres

import (
	"encoding/json"
	"fmt"

	"github.com/jmoiron/sqlx"

	"turbocat.io/contracts/catalog"
)

// Workflows keeps workflows with their steps; it implements workflow.Store. It is safe for concurrent use.
type Workflows struct {
	*store[catalog.Workflow, workflowRow]
}

// NewWorkflows makes a store over the catalog's schema.
func NewWorkflows(db *sqlx.DB) Workflows {
	return Workflows{newStore(db, kind[catalog.Workflow, workflowRow]{
		name: "workflow", columns: []string{"input_schema", "outputs", "timeout_ms", "concurrency", "priority", "strict_templates"},
		unlisted: []string{"steps"},
		toRow:    toWorkflowRow, fromRow: workflowRow.workflow,
	})}
}

type workflowRow struct {
	head
	InputSchema     raw   `db:"input_schema"`
	Outputs         raw   `db:"outputs"`
	TimeoutMs       int64 `db:"timeout_ms"`
	Concurrency     raw   `db:"concurrency"`
	Priority        int   `db:"priority"`
	StrictTemplates bool  `db:"strict_templates"`
	Steps           raw   `db:"steps"`
}

func toWorkflowRow(w catalog.Workflow, revision int64) (workflowRow, error) {
	steps, err := json.Marshal(w.Steps)
	if err != nil {
		return workflowRow{}, fmt.Errorf("steps of workflow %s: %w", w.ID, err)
	}
	return workflowRow{
		head: head{
			ID: w.ID, UserID: w.UserID, Name: w.Name, Description: w.Description, Status: w.Status, Tags: w.Tags, IsPublic: w.IsPublic,
			Version: w.Version, Revision: revision, CreatedAt: w.CreatedAt, UpdatedAt: w.UpdatedAt,
		},
		InputSchema: raw(w.InputSchema), Outputs: raw(w.Outputs), TimeoutMs: w.TimeoutMs, Concurrency: raw(w.Concurrency),
		Priority: w.Priority, StrictTemplates: w.StrictTemplates, Steps: steps,
	}, nil
}

func (r workflowRow) workflow() (catalog.Workflow, error) {
	w := catalog.Workflow{
		ID: r.ID, UserID: r.UserID, Name: r.Name, Description: r.Description, Status: r.Status, Version: r.Version,
		InputSchema: r.InputSchema.json(), Outputs: r.Outputs.json(), TimeoutMs: r.TimeoutMs, Concurrency: r.Concurrency.json(),
		Priority: r.Priority, StrictTemplates: r.StrictTemplates, Tags: r.Tags, IsPublic: r.IsPublic,
		CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(),
	}
	if r.Steps == nil { // in a list
		return w, nil
	}
	if err := json.Unmarshal(r.Steps, &w.Steps); err != nil {
		return w, fmt.Errorf("steps of workflow %s: %w", r.ID, err)
	}
	return w, nil
}
