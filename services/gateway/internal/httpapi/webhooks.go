package httpapi

import (
	"context"
	"net/http"
	"reflect"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/form"
)

// newWebhook documents what POST webhooks takes.
type newWebhook struct {
	URL string `json:"url" maxLength:"2000" example:"https://example.com/turbocat"`
	WebhookOptions
}

// webhookPatch documents what PATCH webhooks/{id} takes.
type webhookPatch struct {
	URL string `json:"url,omitempty" maxLength:"2000"`
	WebhookOptions
}

// WebhookOptions is what a webhook may be given beside its address.
type WebhookOptions struct {
	Name       *string  `json:"name,omitempty" nullable:"true" maxLength:"200"`
	EventTypes []string `json:"eventTypes,omitempty" nullable:"true" maxItems:"50" example:"[\"io.turbocat.execution.failed.v1\"]" doc:"types, or beginnings of types with * at the end; none for all"`
	Filter     *string  `json:"filter,omitempty" nullable:"true" example:"data.workflowId == \"01a2060a-ce51-7e9f-b2f4-8b54a1c078a0\"" doc:"an expression over the event: type, subject, time and other attributes by name, and data"`
	Format     string   `json:"format,omitempty" enum:"structured,binary" default:"structured" doc:"of CloudEvents: the whole event as JSON, or its data with the attributes in headers"`
	Enabled    *bool    `json:"enabled,omitempty" default:"true"`
}

// webhookReplay documents what POST webhooks/{id}/replay takes.
type webhookReplay struct {
	After *uint64 `json:"after,omitempty" doc:"a cursor of GET events: what is behind it"`
	From  *string `json:"from,omitempty" format:"date-time" doc:"instead: what happened then or later"`
	To    *string `json:"to,omitempty" format:"date-time" doc:"only what happened before"`
	Until *uint64 `json:"until,omitempty" doc:"a cursor, up to which; without it up to what was sent or waits"`
}

func (a *API) routeWebhooks() {
	const tag, all, one, deliveries = "webhooks", "/webhooks", "/webhooks/{id}", "/webhooks/{id}/deliveries"
	register(a, route{method: http.MethodGet, path: all, id: "listWebhooks", sorts: []string{"createdAt", "name"}, tag: tag, summary: "List webhooks"},
		func(ctx context.Context, in *struct {
			PageParams
			SortParams
			UserID string `query:"userId" format:"uuid" doc:"of this user; for an ADMIN" example:"01a2060a-ce51-7e9f-b2f4-8b54a1c078a0"`
		},
		) (*listed[telemetry.Webhook], error) {
			list, err := ask(ctx, a, telemetry.ListWebhooks, telemetry.ListWebhooksRequest{Page: page(in.PageParams, in.SortParams), UserID: in.UserID})
			return listedWith(ctx, list, err)
		})
	register(a, route{
		method: http.MethodPost, path: all, id: "createWebhook", tag: tag, summary: "Have events sent to an address; the secret that requests are signed with is shown this once",
		status: http.StatusCreated, access: access{body: bodyLimit}, document: reflect.TypeFor[newWebhook](), errors: []errs.Code{errs.Conflict},
	},
		func(ctx context.Context, in *struct {
			KeyParam
			RawJSON
		},
		) (*answer[telemetry.IssuedWebhook], error) {
			if err := object(in.RawBody); err != nil {
				return nil, err
			}
			got, err := ask(ctx, a, telemetry.CreateWebhook, telemetry.WebhookBodyRequest{Body: in.RawBody})
			return answerWith(ctx, got, err)
		})
	register(a, route{method: http.MethodGet, path: one, id: "getWebhook", tag: tag, summary: "Show a webhook and how it goes", errors: []errs.Code{errs.NotFound}},
		func(ctx context.Context, in *IDParam) (*answer[telemetry.Webhook], error) {
			got, err := ask(ctx, a, telemetry.GetWebhook, telemetry.WebhookRequest{ID: in.ID})
			return answerWith(ctx, got, err)
		})
	register(a, route{
		method: http.MethodPatch, path: one, id: "updateWebhook", tag: tag, summary: "Change a webhook; switched on, it goes on where it was",
		access: access{body: bodyLimit}, document: reflect.TypeFor[webhookPatch](), errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *struct {
			IDParam
			RawJSON
		},
		) (*answer[telemetry.Webhook], error) {
			if err := object(in.RawBody); err != nil {
				return nil, err
			}
			got, err := ask(ctx, a, telemetry.PatchWebhook, telemetry.WebhookBodyRequest{ID: in.ID, Body: in.RawBody})
			return answerWith(ctx, got, err)
		})
	register(a, route{
		method: http.MethodDelete, path: one, id: "deleteWebhook", tag: tag, summary: "Delete a webhook and what waits for it", status: http.StatusNoContent, errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *IDParam) (*struct{}, error) {
			_, err := ask(ctx, a, telemetry.DeleteWebhook, telemetry.WebhookRequest{ID: in.ID})
			return &struct{}{}, err
		})
	register(a, route{
		method: http.MethodPost, path: one + "/rotate", id: "rotateWebhook", tag: tag, scope: "webhooks:write", summary: "Give a webhook a new secret, which is shown this once",
		access: access{body: bodyLimit}, document: reflect.TypeFor[rotateBody](), optional: true, errors: []errs.Code{errs.NotFound, errs.Conflict},
	},
		func(ctx context.Context, in *struct {
			IDParam
			KeyParam
			RawJSON
		},
		) (*answer[telemetry.IssuedWebhook], error) {
			overlap, err := parseRotate(in.RawBody)
			if err != nil {
				return nil, err
			}
			got, err := ask(ctx, a, telemetry.RotateWebhook, telemetry.RotateWebhookRequest{ID: in.ID, OverlapMs: overlap})
			return answerWith(ctx, got, err)
		})
	register(a, route{
		method: http.MethodPost, path: one + "/test", id: "testWebhook", tag: tag, summary: "Send a webhook a test now, and show what came of it", errors: []errs.Code{errs.NotFound},
		repeated: "Each sends another test.",
	},
		func(ctx context.Context, in *IDParam) (*answer[telemetry.Delivery], error) {
			ctx, cancel := context.WithTimeout(ctx, testTimeout)
			defer cancel()
			got, err := ask(ctx, a, telemetry.TestWebhook, telemetry.WebhookRequest{ID: in.ID})
			return answerWith(ctx, got, err)
		})
	register(a, route{
		method: http.MethodPost, path: one + "/replay", id: "replayWebhook", tag: tag, summary: "Have events of the past sent to a webhook again, from a cursor or a time on",
		access: access{body: bodyLimit}, document: reflect.TypeFor[webhookReplay](), errors: []errs.Code{errs.NotFound, errs.Conflict},
		repeated: "Sent twice, the events are sent twice; a target knows them by webhook-id.",
	},
		func(ctx context.Context, in *struct {
			IDParam
			RawJSON
		},
		) (*answer[telemetry.ReplayedEvents], error) {
			req, err := parseReplay(in.RawBody)
			if err != nil {
				return nil, err
			}
			req.ID = in.ID
			got, err := ask(ctx, a, telemetry.ReplayWebhook, req)
			return answerWith(ctx, got, err)
		})
	register(a, route{method: http.MethodGet, path: deliveries, id: "listDeliveries", sorts: []string{"createdAt"}, tag: tag, summary: "List what was sent to a webhook, or waits", errors: []errs.Code{errs.NotFound}},
		func(ctx context.Context, in *struct {
			IDParam
			PageParams
			SortParams
			Status string `query:"status" enum:"PENDING,DELIVERED,FAILED"`
		},
		) (*listed[telemetry.Delivery], error) {
			list, err := ask(ctx, a, telemetry.ListDeliveries, telemetry.ListDeliveriesRequest{Page: page(in.PageParams, in.SortParams), WebhookID: in.ID, Status: in.Status})
			return listedWith(ctx, list, err)
		})
	register(a, route{method: http.MethodGet, path: deliveries + "/{deliveryId}", id: "getDelivery", tag: tag, summary: "Show a delivery with its event, and each request with its answer", errors: []errs.Code{errs.NotFound}},
		func(ctx context.Context, in *DeliveryParam) (*answer[telemetry.Delivery], error) {
			got, err := ask(ctx, a, telemetry.GetDelivery, telemetry.DeliveryRequest{WebhookID: in.ID, ID: in.DeliveryID})
			return answerWith(ctx, got, err)
		})
	register(a, route{
		method: http.MethodPost, path: deliveries + "/{deliveryId}/replay", id: "replayDelivery", tag: tag, summary: "Have the event of a delivery sent once more", status: http.StatusCreated,
		errors: []errs.Code{errs.NotFound}, repeated: "Each makes another delivery of the same event; a target knows it by webhook-id.",
	},
		func(ctx context.Context, in *DeliveryParam) (*answer[telemetry.Delivery], error) {
			got, err := ask(ctx, a, telemetry.ReplayDelivery, telemetry.DeliveryRequest{WebhookID: in.ID, ID: in.DeliveryID})
			return answerWith(ctx, got, err)
		})
}

// testTimeout is longer than a test takes, whatever its target does.
const testTimeout = 25 * time.Second

// DeliveryParam names a delivery of a webhook.
type DeliveryParam struct {
	IDParam
	DeliveryID string `path:"deliveryId" format:"uuid"`
}

// parseReplay reads what of a feed is to be sent again.
func parseReplay(body []byte) (telemetry.ReplayWebhookRequest, error) {
	var req telemetry.ReplayWebhookRequest
	var faults form.Faults
	if o, ok := form.Read(body, &faults); ok {
		o.Only("after", "from", "until", "to")
		cursor := func(name string, into **uint64) {
			n := int64(-1)
			if o.Int(name, &n, -1, 0, 1<<53); n >= 0 {
				c := uint64(n)
				*into = &c
			}
		}
		cursor("after", &req.After)
		cursor("until", &req.Until)
		o.Time("from", &req.From)
		o.Time("to", &req.To)
		if o.Has("after") == o.Has("from") {
			faults.Add("after", errs.Required, "give either after, a cursor, or from, a time: where the replay begins")
		}
	}
	return req, faults.Err("request")
}
