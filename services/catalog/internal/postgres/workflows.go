package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/catalog"
	"turbocat.io/pkg/postgres"
	"turbocat.io/services/catalog/internal/workflow"
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

// NoteSchedules implements workflow.Store. What is told of a workflow that is not there is forgotten.
func (s Workflows) NoteSchedules(ctx context.Context, states []catalog.ScheduleState) error {
	newest := map[string]catalog.ScheduleState{}
	for _, state := range states {
		if isUUID(state.WorkflowID) && state.Revision > newest[state.WorkflowID].Revision {
			newest[state.WorkflowID] = state
		}
	}
	var ids []string
	var enabled []bool
	var revisions []int64
	for _, id := range slices.Sorted(maps.Keys(newest)) { // in one order, so that two of these do not wait for each other
		ids, enabled, revisions = append(ids, id), append(enabled, newest[id].Enabled), append(revisions, newest[id].Revision)
	}
	_, err := s.db.ExecContext(ctx, `UPDATE workflows w SET schedule_enabled = n.enabled, schedule_revision = n.revision
		FROM unnest($1::uuid[], $2::boolean[], $3::bigint[]) AS n (id, enabled, revision) WHERE w.id = n.id AND w.schedule_revision < n.revision`,
		pq.Array(ids), pq.Array(enabled), pq.Array(revisions))
	return postgres.Translate(err)
}

// Standing implements workflow.Store. Every start of an execution asks it, so it reads no more than that.
func (s Workflows) Standing(ctx context.Context, id string, agentIDs []string) (w *workflow.Standing, agents map[string]workflow.Standing, err error) {
	if !isUUID(id) || !allUUIDs(agentIDs) {
		return nil, nil, nil
	}
	var rows []struct {
		ID       string `db:"id"`
		IsAgent  bool   `db:"is_agent"`
		UserID   string `db:"user_id"`
		IsPublic bool   `db:"is_public"`
		Status   string `db:"status"`
		Version  int    `db:"version"`
	}
	err = s.reads.SelectContext(ctx, &rows, `SELECT id, false AS is_agent, user_id, is_public, status, version FROM workflows WHERE id = $1 AND deleted_at IS NULL
		UNION ALL SELECT id, true, user_id, is_public, status, version FROM agents WHERE id = ANY ($2::uuid[]) AND deleted_at IS NULL`, id, pq.StringArray(agentIDs))
	if err != nil {
		return nil, nil, postgres.Translate(err)
	}
	agents = make(map[string]workflow.Standing, len(agentIDs))
	for _, r := range rows {
		standing := workflow.Standing{UserID: r.UserID, IsPublic: r.IsPublic, Status: r.Status, Version: r.Version}
		if r.IsAgent {
			agents[r.ID] = standing
		} else {
			w = &standing
		}
	}
	return w, agents, nil
}

func allUUIDs(ids []string) bool {
	return !slices.ContainsFunc(ids, func(id string) bool { return !isUUID(id) })
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
	concurrency, err := json.Marshal(w.Concurrency)
	if err != nil {
		return workflowRow{}, fmt.Errorf("concurrency of workflow %s: %w", w.ID, err)
	}
	return workflowRow{
		head: head{
			ID: w.ID, UserID: w.UserID, Name: w.Name, Description: w.Description, Status: w.Status, Tags: w.Tags, IsPublic: w.IsPublic,
			Version: w.Version, SourceID: w.SourceID, Revision: revision, CreatedAt: w.CreatedAt, UpdatedAt: w.UpdatedAt,
		},
		InputSchema: raw(w.InputSchema), Outputs: raw(w.Outputs), TimeoutMs: w.TimeoutMs, Concurrency: concurrency,
		Priority: w.Priority, StrictTemplates: w.StrictTemplates, Steps: steps,
	}, nil
}

func (r workflowRow) workflow() (catalog.Workflow, error) {
	w := catalog.Workflow{
		ID: r.ID, UserID: r.UserID, Name: r.Name, Description: r.Description, Status: r.Status, Version: r.Version,
		InputSchema: r.InputSchema.json(), Outputs: r.Outputs.json(), TimeoutMs: r.TimeoutMs,
		Priority: r.Priority, StrictTemplates: r.StrictTemplates, Tags: r.Tags, IsPublic: r.IsPublic, SourceID: r.SourceID,
		CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(),
	}
	if err := json.Unmarshal(r.Concurrency, &w.Concurrency); err != nil {
		return w, fmt.Errorf("concurrency of workflow %s: %w", r.ID, err)
	}
	if r.Steps == nil { // in a list
		return w, nil
	}
	if err := json.Unmarshal(r.Steps, &w.Steps); err != nil {
		return w, fmt.Errorf("steps of workflow %s: %w", r.ID, err)
	}
	return w, nil
}
