package httpapi

import (
	"context"
	"net/http"
	"reflect"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
)

// newTrigger documents what POST workflows/{id}/triggers takes.
type newTrigger struct {
	Name   string `json:"name"`
	Type   string `json:"type" enum:"SCHEDULE,WEBHOOK,EVENT"`
	Secret string `json:"secret,omitempty" minLength:"8" maxLength:"500" doc:"of a WEBHOOK, one that the sender has made; absent to have one made"`
	TriggerOptions
}

// triggerPatch documents what PATCH workflows/{id}/triggers/{triggerId} takes.
type triggerPatch struct {
	Name string `json:"name,omitempty"`
	TriggerOptions
}

// TriggerOptions is what a trigger may be given beside name and type.
type TriggerOptions struct {
	Enabled         *bool                          `json:"enabled,omitempty" default:"true"`
	Inputs          any                            `json:"inputs,omitempty" doc:"of its executions. Of a SCHEDULE an object, which is data; else a template: of a WEBHOOK over body, headers and query, by default {{body}}, of an EVENT over the event's attributes and data, by default {{data}}"`
	Priority        *int                           `json:"priority,omitempty" nullable:"true" minimum:"0" maximum:"9" doc:"null for that of the workflow"`
	Cron            string                         `json:"cron,omitempty" doc:"of a SCHEDULE: five fields, six with seconds first, @hourly and the like, or an interval like @every 15m" example:"0 9 * * MON-FRI"`
	TimeZone        string                         `json:"timeZone,omitempty" default:"UTC" doc:"of a SCHEDULE: a name of the IANA database" example:"Europe/Berlin"`
	Overlap         string                         `json:"overlap,omitempty" enum:"SKIP,QUEUE,ALLOW" default:"SKIP" doc:"of a SCHEDULE: what happens at a time at which an execution of it has not ended"`
	CatchUpWindowMs int64                          `json:"catchUpWindowMs,omitempty" minimum:"10000" maximum:"604800000" default:"600000" doc:"of a SCHEDULE: how late a time may fire"`
	JitterMs        int64                          `json:"jitterMs,omitempty" minimum:"0" maximum:"86400000" default:"0" doc:"of a SCHEDULE: each time fires that much later at most, and before the next one"`
	Preset          string                         `json:"preset,omitempty" enum:"STANDARD_WEBHOOKS,GITHUB,STRIPE,SLACK,HMAC,TOKEN" default:"STANDARD_WEBHOOKS" doc:"of a WEBHOOK: how requests are signed"`
	Signature       *orchestrator.TriggerSignature `json:"signature,omitempty" doc:"of a WEBHOOK with the preset HMAC or TOKEN"`
	EventTypes      []string                       `json:"eventTypes,omitempty" maxItems:"50" example:"[\"com.example.order.placed\"]" doc:"of an EVENT: types, or beginnings of types with * at the end; none for all"`
	Filter          string                         `json:"filter,omitempty" doc:"of a WEBHOOK or an EVENT: an expression over what the inputs may read; it starts nothing unless it holds" example:"data.total > 10"`
	MaxPerMinute    int64                          `json:"maxPerMinute,omitempty" minimum:"1" maximum:"60000" doc:"of a WEBHOOK, which refuses what is beyond (6000 by default), or an EVENT, which waits with it (600 by default)"`
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

// RecordParams ask for a page of what a trigger has recorded, newest first.
type RecordParams struct {
	Page     int    `query:"page" minimum:"1" maximum:"1000000" doc:"from 1, which is the default; not together with cursor" example:"2"`
	PageSize int    `query:"pageSize" minimum:"1" maximum:"100" default:"20"`
	Cursor   string `query:"cursor" maxLength:"1024" doc:"the nextCursor of an earlier answer" example:"eyJzIjoiY3JlYXRlZEF0IiwibyI6ImRlc2MiLCJ2IjoiMTc5NTM5NzYwNzg0OTk4MCIsImkiOiIwMWEyMDYwYS1lODQ4IiwicCI6Mn0"`
}

func (p RecordParams) page() rpc.Page {
	return page(PageParams{Page: p.Page, PageSize: p.PageSize, Cursor: p.Cursor}, SortParams{})
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
		method: http.MethodPost, path: all, id: "createTrigger", tag: tag, summary: "Have a workflow started by a schedule, by requests to a URL, or by events; the secret of a URL is shown this once",
		status: http.StatusCreated, access: access{body: bodyLimit}, document: reflect.TypeFor[newTrigger](), errors: []errs.Code{errs.Forbidden, errs.NotFound, errs.Conflict},
	},
		func(ctx context.Context, in *struct {
			IDParam
			KeyParam
			RawJSON
		},
		) (*answer[orchestrator.IssuedTrigger], error) {
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
		method: http.MethodPost, path: one + "/rotate", id: "rotateTrigger", tag: tag, summary: "Give a trigger of type WEBHOOK a new secret, which is shown this once",
		access: access{body: bodyLimit}, document: reflect.TypeFor[rotateTriggerBody](), optional: true, errors: []errs.Code{errs.NotFound, errs.Conflict},
	},
		func(ctx context.Context, in *struct {
			TriggerParam
			KeyParam
			RawJSON
		},
		) (*answer[orchestrator.IssuedTrigger], error) {
			req, err := parseRotateTrigger(in.RawBody)
			if err != nil {
				return nil, err
			}
			req.WorkflowID, req.ID = in.ID, in.TriggerID
			got, err := ask(ctx, a, orchestrator.RotateTrigger, req)
			return answerWith(ctx, got, err)
		})
	register(a, route{
		method: http.MethodGet, path: one + "/deliveries", id: "listTriggerDeliveries", tag: tag,
		summary: "List what came in for a trigger of type WEBHOOK or EVENT and what has become of it, newest first", errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *struct {
			TriggerParam
			RecordParams
			Status string `query:"status" enum:"ACCEPTED,FILTERED,REFUSED"`
		},
		) (*listed[orchestrator.TriggerDelivery], error) {
			list, err := ask(ctx, a, orchestrator.ListTriggerDeliveries, orchestrator.ListTriggerDeliveriesRequest{
				Page: in.RecordParams.page(), WorkflowID: in.ID, ID: in.TriggerID, Status: in.Status,
			})
			return listedWith(ctx, list, err)
		})
	register(a, route{
		method: http.MethodGet, path: one + "/skips", id: "listSkips", tag: tag,
		summary: "List the scheduled times of a trigger that have no execution, newest first", errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *struct {
			TriggerParam
			RecordParams
			Reason string `query:"reason" enum:"OVERLAP,CATCH_UP_WINDOW,DISABLED,CHANGED,REFUSED"`
		},
		) (*listed[orchestrator.Skip], error) {
			list, err := ask(ctx, a, orchestrator.ListSkips, orchestrator.ListSkipsRequest{
				Page: in.RecordParams.page(), WorkflowID: in.ID, ID: in.TriggerID, Reason: in.Reason,
			})
			return listedWith(ctx, list, err)
		})
}

// rotateTriggerBody documents what POST workflows/{id}/triggers/{triggerId}/rotate takes.
type rotateTriggerBody struct {
	Secret    string `json:"secret,omitempty" minLength:"8" maxLength:"500" doc:"one that the sender has made, as Stripe and Slack do; absent to have one made"`
	OverlapMs int64  `json:"overlapMs,omitempty" minimum:"0" maximum:"604800000" default:"0" doc:"how long the one before is taken as well"`
}

// parseRotateTrigger reads the body of a rotation, which may be absent.
func parseRotateTrigger(body []byte) (req orchestrator.RotateTriggerRequest, err error) {
	if len(body) == 0 {
		return req, nil
	}
	var faults form.Faults
	if o, ok := form.Read(body, &faults); ok {
		o.Only("secret", "overlapMs")
		o.String("secret", &req.Secret, "", 8, 500)
		o.Int("overlapMs", &req.OverlapMs, 0, 0, 7*24*3600*1000)
	}
	return req, faults.Err("request")
}
