package postgres

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/listing"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/execution"
)

// dropped holds for executions that found no room under their concurrency limit and whose end, which is certain, is not committed yet.
// Their rows are still PENDING; everybody is shown what they are going to be, by lists as by Get.
const (
	dropped     = `(limited AND status = 'PENDING' AND EXISTS (SELECT 1 FROM concurrency_slots d WHERE d.execution_id = executions.id AND d.state = 'DROPPED'))`
	shownStatus = `(CASE WHEN ` + dropped + ` THEN 'CANCELLED' ELSE status END)`
)

var executionTable = listing.Table{
	From: "executions", ID: "id",
	Columns: map[string]listing.Column{"createdAt": {SQL: "created_at", Kind: listing.Time}},
}

const summaryColumns = `id, workflow_id, workflow_version, workflow_owner, user_id, status, trigger_type, priority, error, parent_execution_id, retry_of, trigger_id, scheduled_for,
	steps_total, steps_completed, steps_failed, steps_skipped, percent, created_at, started_at, completed_at, compensation_of,
	(SELECT c.id ` + compensation + `) AS compensated_by, ` + dropped + ` AS dropped`

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
	where := named(req, &faults)
	if err := faults.Err("query"); err != nil {
		return nil, rpc.Pagination{}, err
	}
	if err := s.visible(ctx, userID, req.WorkflowID, &where); err != nil {
		return nil, rpc.Pagination{}, err
	}
	if req.TriggerType == orchestrator.TriggerAPI {
		where.Look(ofAPI) // an index of those would cost most executions two entries
	}
	type row struct {
		executionRow
		Dropped bool `db:"dropped"`
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
			TriggerID: r.TriggerID, ScheduledFor: utc(r.ScheduledFor.Time, r.ScheduledFor.Valid),
			CompensationOf: r.CompensationOf, CompensatedBy: r.CompensatedBy,
			Progress:  orchestrator.Progress{Total: r.Total, Completed: r.Completed, Failed: r.Failed, Skipped: r.Skipped, Percent: r.Percent},
			CreatedAt: r.CreatedAt, StartedAt: utc(r.StartedAt.Time, r.StartedAt.Valid), CompletedAt: utc(r.CompletedAt.Time, r.CompletedAt.Valid),
		}
		if r.Dropped {
			if out[i], err = endedAsDropped(out[i]); err != nil {
				return nil, rpc.Pagination{}, err
			}
		}
	}
	return out, pagination, nil
}

// endedAsDropped shows an execution as the log is going to make it.
func endedAsDropped(s execution.Summary) (execution.Summary, error) {
	failure, err := json.Marshal(engine.Dropped())
	if err != nil {
		return s, fmt.Errorf("encode the error of a dropped execution: %w", err)
	}
	at := s.CreatedAt.UTC()
	s.Status, s.Error, s.CompletedAt, s.Progress.Percent = orchestrator.ExecutionCancelled, failure, &at, 100
	return s, nil
}

// visible lets through the executions that a user can see: his own, and those of his workflows. A workflow has one owner, who sees all of its executions, so
// that of two lists one is empty and would be looked for among all.
func (s *Store) visible(ctx context.Context, userID, workflowID string, where *listing.Where) error {
	if userID == "" {
		return nil
	}
	if workflowID == "" {
		where.Either("user_id = ?::uuid", "workflow_owner = ?::uuid AND workflow_owner <> user_id", userID)
		return nil
	}
	id, err := uuid.Parse(workflowID) // in whatever spelling
	if err != nil {
		return errs.Invalid("query", []errs.Detail{{Field: "workflowId", Message: "is no UUID; give the id of a workflow", Code: errs.BadValue}})
	}
	var owns bool
	err = s.lists.GetContext(ctx, &owns, `SELECT coalesce((SELECT workflow_owner = $2::uuid FROM executions WHERE workflow_id = $1::uuid ORDER BY created_at DESC, id DESC LIMIT 1), false)`, id.String(), userID)
	if err != nil {
		return postgres.Translate(fmt.Errorf("owner: %w", err))
	}
	if !owns {
		where.And("user_id = ?::uuid AND workflow_owner <> user_id", userID)
	}
	return nil
}

// ofAPI holds for executions that a call has started, which most have.
const ofAPI = "trigger_type = 'API'"

// named gives the condition of the executions that a filter names, but for ofAPI, and notes its faults.
func named(req orchestrator.ListRequest, faults *form.Faults) listing.Where {
	listing.Enum("status", req.Status, statuses, faults)
	listing.Enum("triggerType", req.TriggerType, triggers, faults)
	var where listing.Where
	if req.WorkflowID != "" {
		id, err := uuid.Parse(req.WorkflowID)
		if err != nil {
			faults.Add("workflowId", errs.BadValue, "is no UUID; give the id of a workflow")
		}
		where.And("workflow_id = ?::uuid", id.String())
	}
	ofStatus(req.Status, &where)
	if req.TriggerType != "" && req.TriggerType != orchestrator.TriggerAPI {
		where.And("trigger_type = ?", req.TriggerType)
	}
	if req.TriggerID != "" {
		id, err := uuid.Parse(req.TriggerID)
		if err != nil {
			faults.Add("triggerId", errs.BadValue, "is no UUID; give the id of a trigger")
		}
		where.And("trigger_id = ?::uuid", id.String())
	}
	if req.From != nil {
		where.And("created_at >= ?", *req.From)
	}
	if req.To != nil {
		where.And("created_at < ?", *req.To)
	}
	if req.Search != "" {
		beginning(req.Search, &where)
	}
	return where
}

// ofStatus lets through the executions that are shown with a status, by conditions for which there are indexes.
func ofStatus(status string, where *listing.Where) {
	switch status {
	case "":
	case orchestrator.ExecutionPending:
		where.And("status = ? AND completed_at IS NULL AND NOT "+dropped, status)
	case orchestrator.ExecutionRunning, orchestrator.ExecutionPaused:
		where.And("status = ? AND completed_at IS NULL", status)
	case orchestrator.ExecutionCancelled:
		where.Either("status = 'CANCELLED' AND completed_at IS NOT NULL", "completed_at IS NULL AND "+dropped)
	default:
		where.And("status = ? AND completed_at IS NOT NULL", status)
	}
}

// idSlack is more than the clocks of two orchestrators are apart: that of the id, and that of created_at.
const idSlack = time.Hour

// beginning lets through the executions whose id begins with a text. An id tells when it was made, which narrows the walk through an index by time.
func beginning(text string, where *listing.Where) {
	digits := strings.ReplaceAll(strings.ToLower(text), "-", "")
	if strings.Trim(digits, "0123456789abcdef") != "" || len(digits) > 32 || len(digits) == 0 {
		where.And("false")
		return
	}
	low, errLow := uuid.Parse(digits + strings.Repeat("0", 32-len(digits)))
	high, errHigh := uuid.Parse(digits + strings.Repeat("f", 32-len(digits)))
	if errLow != nil || errHigh != nil {
		where.And("false")
		return
	}
	where.And("id BETWEEN ?::uuid AND ?::uuid", low.String(), high.String())
	if made := madeAt(high); made.Year() < 9999 {
		where.And("created_at BETWEEN ? AND ?", madeAt(low).Add(-idSlack), made.Add(idSlack))
	}
}

// madeAt gives the time of a UUIDv7.
func madeAt(id uuid.UUID) time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16)).UTC()
}

// Named implements execution.Store.
func (s *Store) Named(ctx context.Context, userID string, req orchestrator.ListRequest, action string, statuses []string, limit int) ([]string, int, error) {
	var ids []string
	matched := 0
	for next := ""; len(ids) < limit; {
		var faults form.Faults
		page := executionTable.Parse(rpc.Page{PageSize: 100, Cursor: next, Search: req.Search, SortOrder: "asc"}, &faults)
		where := named(req, &faults)
		if err := faults.Err("filter"); err != nil {
			return nil, 0, err
		}
		if err := s.visible(ctx, userID, req.WorkflowID, &where); err != nil {
			return nil, 0, err
		}
		if req.TriggerType == orchestrator.TriggerAPI {
			where.And(ofAPI)
		}
		where.And(shownStatus+" = ANY(?::text[])", pq.Array(statuses))
		if action == orchestrator.BulkRetry {
			where.And("NOT EXISTS (SELECT 1 FROM executions r WHERE r.retry_of = executions.id)")
		} else {
			where.And("compensation_of IS NULL")
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
