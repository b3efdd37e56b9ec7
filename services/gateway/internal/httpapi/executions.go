package httpapi

import (
	"context"
	"net/http"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/telemetry"
)

// ExecutionFilter narrows a list of executions.
type ExecutionFilter struct {
	PageParams
	SortParams
	Status      string    `query:"status" enum:"PENDING,RUNNING,PAUSED,COMPLETED,FAILED,CANCELLED,TIMEOUT"`
	TriggerType string    `query:"triggerType" enum:"MANUAL,SCHEDULED,API,WEBHOOK,EVENT"`
	TriggerID   string    `query:"triggerId" format:"uuid" doc:"started by this trigger" example:"01a2060a-e79a-7cd0-a8cc-4ed64d49709e"`
	From        time.Time `query:"from" doc:"created then or later" example:"2026-11-23T00:00:00Z"`
	To          time.Time `query:"to" doc:"created before then" example:"2026-11-24T00:00:00Z"`
}

func (f ExecutionFilter) request(workflowID string) orchestrator.ListRequest {
	return orchestrator.ListRequest{
		Page: page(f.PageParams, f.SortParams), WorkflowID: workflowID,
		Status: f.Status, TriggerType: f.TriggerType, TriggerID: f.TriggerID, From: optional(f.From), To: optional(f.To),
	}
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

type logFilter struct {
	IDParam
	PageParams
	Level   string    `query:"level" enum:"DEBUG,INFO,WARN,ERROR,FATAL" doc:"that and above"`
	StepKey string    `query:"stepKey" maxLength:"64" example:"total"`
	Since   time.Time `query:"since" doc:"written then or later" example:"2026-11-23T00:00:00Z"`
	Follow  bool      `query:"follow" doc:"answer with server-sent events: the lines that are there, then each as it comes, until the execution has ended; not together with page, pageSize and cursor"`
}

func (a *API) routeExecutions() {
	const tag = "executions"
	register(a, route{method: http.MethodGet, path: "/executions", id: "listExecutions", sorts: []string{"createdAt"}, tag: tag, summary: "List executions, without their steps"},
		func(ctx context.Context, in *struct {
			ExecutionFilter
			WorkflowID string `query:"workflowId" format:"uuid" example:"01a2060a-dbe3-7f1b-b07e-2f02872ff6e3"`
		},
		) (*listed[orchestrator.Execution], error) {
			list, err := ask(ctx, a, orchestrator.ListExecution, in.request(in.WorkflowID))
			return listedWith(ctx, list, err)
		})
	register(a, route{
		method: http.MethodGet, path: "/executions/{id}", id: "getExecution", tag: tag, summary: "Show an execution with its steps",
		errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *IDParam) (*answer[orchestrator.Execution], error) {
			execution, err := a.show(ctx, in.ID)
			return answerWith(ctx, execution, err)
		})
	a.app.Add(http.MethodGet, prefix+"/executions/:id/logs", a.followLogs)
	register(a, route{
		method: http.MethodGet, path: "/executions/{id}/logs", id: "listExecutionLogs", tag: tag, summary: "List the log lines of an execution, oldest first",
		errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *logFilter) (*listed[telemetry.LogLine], error) {
			// Telemetry knows no owners: who may see the execution may see its log.
			if _, err := a.show(ctx, in.ID); err != nil {
				return nil, err
			}
			list, err := ask(ctx, a, telemetry.ListLogs, telemetry.LogsRequest{
				ExecutionID: in.ID, Level: in.Level, StepKey: in.StepKey, Since: optional(in.Since), Search: in.Search,
				Page: in.Page, PageSize: in.PageSize, Cursor: in.Cursor,
			})
			return listedWith(ctx, list, err)
		})
	a.documentFollowLogs()
	a.routeCalls()
	a.routeControl()
	a.routeEvents()
	a.routeFeed()
}
