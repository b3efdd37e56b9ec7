package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/postgres/listing"
	"turbocat.io/services/orchestrator/internal/execution"
)

var executionTable = listing.Table{
	From: "executions", ID: "id",
	Columns: map[string]listing.Column{"createdAt": {SQL: "created_at", Kind: listing.Time}, "status": {SQL: "status", Kind: listing.Text}},
}

const summaryColumns = `id, workflow_id, workflow_version, workflow_owner, user_id, status, trigger_type, priority, error, parent_execution_id, retry_of,
	steps_total, steps_completed, steps_failed, steps_skipped, percent, created_at, started_at, completed_at`

var (
	statuses = []string{
		orchestrator.ExecutionPending, orchestrator.ExecutionRunning, orchestrator.ExecutionPaused, orchestrator.ExecutionCompleted,
		orchestrator.ExecutionFailed, orchestrator.ExecutionCancelled, orchestrator.ExecutionTimeout,
	}
	triggers = []string{
		orchestrator.TriggerManual, orchestrator.TriggerScheduled, orchestrator.TriggerAPI, orchestrator.TriggerWebhook, orchestrator.TriggerEvent,
	}
)

// List implements execution.Store.
func (s *Store) List(ctx context.Context, userID string, req orchestrator.ListRequest) ([]execution.Summary, rpc.Pagination, error) {
	var faults form.Faults
	page := executionTable.Parse(req.Page, &faults)
	listing.Enum("status", req.Status, statuses, &faults)
	listing.Enum("triggerType", req.TriggerType, triggers, &faults)
	var where listing.Where
	if userID != "" {
		where.And("user_id = ?::uuid OR workflow_owner = ?::uuid", userID, userID)
	}
	if req.WorkflowID != "" {
		id, err := uuid.Parse(req.WorkflowID)
		if err != nil {
			faults.Add("workflowId", errs.BadValue, "is no UUID; give the id of a workflow")
		}
		where.And("workflow_id = ?::uuid", id.String())
	}
	if req.Status != "" {
		where.And("status = ?", req.Status)
	}
	if req.TriggerType != "" {
		where.And("trigger_type = ?", req.TriggerType)
	}
	if req.From != nil {
		where.And("created_at >= ?", *req.From)
	}
	if req.To != nil {
		where.And("created_at < ?", *req.To)
	}
	if req.Search != "" {
		where.And("id::text ILIKE ?", listing.Contains(req.Search))
	}
	if err := faults.Err("query"); err != nil {
		return nil, rpc.Pagination{}, err
	}
	type row struct {
		executionRow
		listing.Key
	}
	rows, pagination, err := listing.Select[row](ctx, s.lists, page, summaryColumns, where)
	if err != nil {
		return nil, rpc.Pagination{}, err
	}
	out := make([]execution.Summary, len(rows))
	for i, r := range rows {
		out[i] = execution.Summary{
			ID: r.ID, WorkflowID: r.WorkflowID, WorkflowOwner: r.WorkflowOwner, UserID: r.UserID, WorkflowVersion: r.WorkflowVersion, Priority: r.Priority,
			Status: r.Status, TriggerType: r.TriggerType, Error: r.Error, ParentID: r.ParentID, RetryOf: r.RetryOf,
			Progress:  orchestrator.Progress{Total: r.Total, Completed: r.Completed, Failed: r.Failed, Skipped: r.Skipped, Percent: r.Percent},
			CreatedAt: r.CreatedAt, StartedAt: utc(r.StartedAt.Time, r.StartedAt.Valid), CompletedAt: utc(r.CompletedAt.Time, r.CompletedAt.Valid),
		}
	}
	return out, pagination, nil
}

func utc(t time.Time, valid bool) *time.Time {
	if !valid {
		return nil
	}
	t = t.UTC()
	return &t
}
