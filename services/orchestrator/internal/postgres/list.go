package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

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
	where := named(userID, req, &faults)
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

// named gives the condition of the executions that a filter names and a user can see, and notes its faults.
func named(userID string, req orchestrator.ListRequest, faults *form.Faults) listing.Where {
	listing.Enum("status", req.Status, statuses, faults)
	listing.Enum("triggerType", req.TriggerType, triggers, faults)
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
	return where
}

// Named implements execution.Store.
func (s *Store) Named(ctx context.Context, userID string, req orchestrator.ListRequest, statuses []string, fresh bool, limit int) ([]string, int, error) {
	var ids []string
	matched := 0
	for next := ""; len(ids) < limit; {
		var faults form.Faults
		page := executionTable.Parse(rpc.Page{PageSize: 100, Cursor: next, Search: req.Search, SortOrder: "asc"}, &faults)
		where := named(userID, req, &faults)
		if err := faults.Err("filter"); err != nil {
			return nil, 0, err
		}
		where.And("status = ANY(?::text[])", pq.Array(statuses))
		if fresh {
			where.And("NOT EXISTS (SELECT 1 FROM executions r WHERE r.retry_of = executions.id)")
		}
		rows, pagination, err := listing.Select[listedID](ctx, s.lists, page, "id", where)
		if err != nil {
			return nil, 0, err
		}
		for _, r := range rows {
			ids = append(ids, r.ID)
		}
		if next == "" {
			matched = pagination.Total
		}
		if pagination.NextCursor == nil {
			break
		}
		next = *pagination.NextCursor
	}
	return ids[:min(len(ids), limit)], matched, nil
}

type listedID struct {
	ID string `db:"id"`
	listing.Key
}

func utc(t time.Time, valid bool) *time.Time {
	if !valid {
		return nil
	}
	t = t.UTC()
	return &t
}
