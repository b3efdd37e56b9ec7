package httpapi

import (
	"context"
	"net/http"
	"reflect"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
)

// newTrigger documents what POST workflows/{id}/triggers takes.
type newTrigger struct {
	Name string `json:"name"`
	Type string `json:"type" enum:"SCHEDULE" doc:"WEBHOOK and EVENT are not available yet"`
	Cron string `json:"cron" doc:"five fields, six with seconds first, @hourly and the like, or an interval like @every 15m" example:"0 9 * * MON-FRI"`
	TriggerOptions
}

// triggerPatch documents what PATCH workflows/{id}/triggers/{triggerId} takes.
type triggerPatch struct {
	Name string `json:"name,omitempty"`
	Cron string `json:"cron,omitempty"`
	TriggerOptions
}

// TriggerOptions is what a trigger may be given beside name, type and cron.
type TriggerOptions struct {
	Enabled         *bool          `json:"enabled,omitempty" default:"true"`
	Inputs          map[string]any `json:"inputs,omitempty" doc:"of its executions; data, no templates"`
	Priority        *int           `json:"priority,omitempty" nullable:"true" minimum:"0" maximum:"9" doc:"null for that of the workflow"`
	TimeZone        string         `json:"timeZone,omitempty" default:"UTC" doc:"a name of the IANA database" example:"Europe/Berlin"`
	Overlap         string         `json:"overlap,omitempty" enum:"SKIP,QUEUE,ALLOW" default:"SKIP" doc:"what happens at a time at which an execution of it has not ended"`
	CatchUpWindowMs int64          `json:"catchUpWindowMs,omitempty" minimum:"10000" maximum:"604800000" default:"600000" doc:"how late a time may fire"`
	JitterMs        int64          `json:"jitterMs,omitempty" minimum:"0" maximum:"86400000" default:"0" doc:"each time fires that much later at most, and before the next one"`
}

// scheduleBody documents what POST workflows/{id}/triggers/preview takes.
type scheduleBody struct {
	Cron     string `json:"cron"`
	TimeZone string `json:"timeZone,omitempty" default:"UTC"`
}

// TriggerParam names a trigger of a workflow.
type TriggerParam struct {
	IDParam
	TriggerID string `path:"triggerId" format:"uuid" minLength:"36" maxLength:"36"`
}

func (p TriggerParam) request() orchestrator.TriggerRequest {
	return orchestrator.TriggerRequest{WorkflowID: p.ID, ID: p.TriggerID}
}

func (a *API) routeTriggers() {
	const tag, all, one = "triggers", "/workflows/{id}/triggers", "/workflows/{id}/triggers/{triggerId}"
	register(a, route{
		method: http.MethodGet, path: all, id: "listTriggers", sorts: []string{"createdAt", "updatedAt", "name"}, tag: tag, summary: "List the triggers of a workflow", errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *struct {
			IDParam
			PageParams
			SortParams
		},
		) (*listed[orchestrator.Trigger], error) {
			list, err := ask(ctx, a, orchestrator.ListTriggers, orchestrator.ListTriggersRequest{Page: page(in.PageParams, in.SortParams), WorkflowID: in.ID})
			return listedWith(ctx, list, err)
		})
	register(a, route{
		method: http.MethodPost, path: all, id: "createTrigger", tag: tag, summary: "Make a schedule of a workflow",
		status: http.StatusCreated, access: access{body: bodyLimit}, document: reflect.TypeFor[newTrigger](), errors: []errs.Code{errs.Forbidden, errs.NotFound, errs.Conflict},
	},
		func(ctx context.Context, in *struct {
			IDParam
			KeyParam
			RawJSON
		},
		) (*answer[orchestrator.Trigger], error) {
			if err := object(in.RawBody); err != nil {
				return nil, err
			}
			trigger, err := ask(ctx, a, orchestrator.CreateTrigger, orchestrator.NewTriggerRequest{WorkflowID: in.ID, Body: in.RawBody})
			return answerWith(ctx, trigger, err)
		})
	register(a, route{
		method: http.MethodPost, path: all + "/preview", id: "previewSchedule", tag: tag, scope: "triggers:read", summary: "Show when a schedule would be due next, without saving it",
		access: access{body: bodyLimit}, document: reflect.TypeFor[scheduleBody](), errors: []errs.Code{errs.NotFound},
		repeated: "It changes nothing.",
	},
		func(ctx context.Context, in *struct {
			IDParam
			RawJSON
		},
		) (*answer[orchestrator.SchedulePreview], error) {
			if err := object(in.RawBody); err != nil {
				return nil, err
			}
			preview, err := ask(ctx, a, orchestrator.PreviewSchedule, orchestrator.NewTriggerRequest{WorkflowID: in.ID, Body: in.RawBody})
			return answerWith(ctx, preview, err)
		})
	register(a, route{
		method: http.MethodGet, path: one, id: "getTrigger", tag: tag, summary: "Show a trigger, with its next times", errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *TriggerParam) (*answer[orchestrator.Trigger], error) {
			trigger, err := ask(ctx, a, orchestrator.GetTrigger, in.request())
			return answerWith(ctx, trigger, err)
		})
	register(a, route{
		method: http.MethodPatch, path: one, id: "updateTrigger", tag: tag, summary: "Change a trigger, or turn it off and on",
		access: access{body: bodyLimit}, document: reflect.TypeFor[triggerPatch](), errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *struct {
			TriggerParam
			RawJSON
		},
		) (*answer[orchestrator.Trigger], error) {
			if err := object(in.RawBody); err != nil {
				return nil, err
			}
			trigger, err := ask(ctx, a, orchestrator.PatchTrigger, orchestrator.PatchTriggerRequest{WorkflowID: in.ID, ID: in.TriggerID, Body: in.RawBody})
			return answerWith(ctx, trigger, err)
		})
	register(a, route{
		method: http.MethodDelete, path: one, id: "deleteTrigger", tag: tag, summary: "Delete a trigger; its executions stay",
		status: http.StatusNoContent, errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *TriggerParam) (*struct{}, error) {
			_, err := ask(ctx, a, orchestrator.DeleteTrigger, in.request())
			return &struct{}{}, err
		})
	register(a, route{
		method: http.MethodGet, path: one + "/skips", id: "listSkips", tag: tag,
		summary: "List the scheduled times of a trigger that have no execution, newest first", errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *struct {
			TriggerParam
			Page     int    `query:"page" minimum:"1" maximum:"1000000" doc:"from 1, which is the default; not together with cursor" example:"2"`
			PageSize int    `query:"pageSize" minimum:"1" maximum:"100" default:"20"`
			Cursor   string `query:"cursor" maxLength:"1024" doc:"the nextCursor of an earlier answer" example:"eyJzIjoiY3JlYXRlZEF0IiwibyI6ImRlc2MiLCJ2IjoiMTc5NTM5NzYwNzg0OTk4MCIsImkiOiIwMWEyMDYwYS1lODQ4IiwicCI6Mn0"`
			Reason   string `query:"reason" enum:"OVERLAP,CATCH_UP_WINDOW,DISABLED,CHANGED,REFUSED"`
		},
		) (*listed[orchestrator.Skip], error) {
			list, err := ask(ctx, a, orchestrator.ListSkips, orchestrator.ListSkipsRequest{
				Page: page(PageParams{Page: in.Page, PageSize: in.PageSize, Cursor: in.Cursor}, SortParams{}), WorkflowID: in.ID, ID: in.TriggerID, Reason: in.Reason,
			})
			return listedWith(ctx, list, err)
		})
}
