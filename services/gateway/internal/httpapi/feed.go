package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"

	"turbocat.io/contracts"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/gateway/internal/live"
)

// FeedPage is a part of a user's feed.
type FeedPage struct {
	Events  []json.RawMessage `json:"events" doc:"CloudEvents, as over the stream"`
	Cursor  string            `json:"cursor" doc:"up to here it was looked: after of the next request"`
	More    bool              `json:"more" doc:"there is something behind the cursor"`
	Skipped uint64            `json:"skipped,omitempty" doc:"events behind after that are not kept any more"`
}

// EventType is a type of public events.
type EventType struct {
	Type        string          `json:"type"`
	Description string          `json:"description"`
	Schema      json.RawMessage `json:"schema" doc:"JSON Schema of the whole event"`
}

// feedFilter says what of a feed is wanted.
type feedFilter struct {
	After string    `query:"after" pattern:"^[0-9]{1,18}$" doc:"a cursor, or the id of an event of the stream; absent for the oldest that is kept" example:"41"`
	Since time.Time `query:"since" doc:"instead: what happened then or later" example:"2026-11-23T00:00:00Z"`
	Types string    `query:"types" maxLength:"4000" doc:"of which events are wanted, with commas between; absent for all" example:"io.turbocat.execution.completed.v1"`
	Limit int       `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

const feedTag = "events"

var feedAccess = access{scope: "events:read", operation: "streamEvents"}

func (a *API) routeFeed() {
	register(a, route{method: http.MethodGet, path: "/events", id: "listEvents", tag: feedTag, summary: "Read the events of all of one's executions, in the order in which they are told"},
		func(ctx context.Context, in *feedFilter) (*answer[FeedPage], error) {
			types, err := eventTypes(in.Types)
			if err != nil {
				return nil, err
			}
			after, _ := strconv.ParseUint(in.After, 10, 63) // its pattern was checked
			got, err := ask(ctx, a, telemetry.ReadFeed, telemetry.FeedRequest{After: after, Since: optional(in.Since), Types: types, Limit: in.Limit})
			page := FeedPage{Events: make([]json.RawMessage, len(got.Events)), Cursor: strconv.FormatUint(got.Cursor, 10), More: got.More, Skipped: got.Skipped}
			for i, e := range got.Events {
				page.Events[i] = e.Body
			}
			return answerWith(ctx, page, err)
		})
	register(a, route{method: http.MethodGet, path: "/event-types", id: "listEventTypes", tag: feedTag, summary: "List the types of events with their JSON Schemas"},
		func(ctx context.Context, _ *struct{}) (*answer[[]EventType], error) {
			return answerWith(ctx, catalogue, nil)
		})
	const path = prefix + "/events/stream"
	a.app.Add(http.MethodGet, path, a.feed)
	responses := a.errorResponses(route{access: feedAccess})
	responses["200"] = &huma.Response{
		Description: "Each event as it happens, in one order, until the client goes away. `id` is the cursor, `event` the type, `data` the CloudEvent on one line. `event: skipped` tells of events behind the cursor that are not kept any more.",
		Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}, Example: a.examples.stream()}},
	}
	text := func(example string) *huma.Schema {
		return &huma.Schema{Type: huma.TypeString, Examples: []any{example}}
	}
	a.huma.OpenAPI().AddOperation(&huma.Operation{
		Method: http.MethodGet, Path: path, OperationID: feedAccess.operation, Tags: []string{feedTag}, Summary: "Follow the events of all of one's executions",
		Security: feedAccess.security(), Responses: responses,
		Parameters: []*huma.Param{
			{Name: "types", In: "query", Description: "of which events are wanted, with commas between; absent for all", Schema: text("io.turbocat.execution.completed.v1")},
			{Name: "since", In: "query", Description: "a cursor, or a time; absent for what happens from now on", Schema: text("2026-11-23T00:00:00Z")},
			{Name: "Last-Event-ID", In: "header", Description: "the last id seen; the stream goes on behind it", Schema: text("41")},
			{Name: "lastEventId", In: "query", Description: "as Last-Event-ID, for clients that can not set headers", Schema: text("41")},
		},
	})
}

// catalogue has the types of public events.
var catalogue = func() []EventType {
	types := make([]EventType, 0, 16)
	for _, e := range contracts.Events() {
		types = append(types, EventType{Type: e.Name, Description: e.Doc, Schema: contracts.EventSchema(e.Name)})
	}
	return types
}()

// eventTypes reads the types that are wanted.
func eventTypes(given string) ([]string, error) {
	if given == "" {
		return nil, nil
	}
	types := strings.Split(given, ",")
	for _, name := range types {
		// Which types come from outside nobody knows.
		if name == "" || event.Ours(name) && !slices.ContainsFunc(catalogue, func(t EventType) bool { return t.Type == name }) {
			return nil, errs.Invalid("request", []errs.Detail{{Field: "types", Message: strconv.Quote(name) + " is no type of events; GET /api/v1/event-types lists them", Code: errs.BadEnum}})
		}
	}
	return types, nil
}

// feed streams the caller's feed (Server-Sent Events).
func (a *API) feed(c *fiber.Ctx) error {
	if err := a.admit(c, feedAccess); err != nil {
		return err
	}
	types, err := eventTypes(c.Query("types"))
	if err != nil {
		return err
	}
	begin, err := beginningOfFeed(c)
	if err != nil {
		return err
	}
	begin.Types = types
	caller := requestOf(c.UserContext()).caller
	first, err := bus.Call(c.UserContext(), a.Bus, telemetry.ReadFeed, caller, begin)
	if err != nil {
		return err
	}
	a.stream(c, func(out eventWriter) {
		read := func(ctx context.Context, after uint64) (telemetry.FeedResponse, error) {
			return bus.Call(ctx, a.Bus, telemetry.ReadFeed, caller, telemetry.FeedRequest{After: after, Types: types})
		}
		_ = a.Hub.FollowFeed(a.closing, caller.UserID, first, a.PingInterval, read, live.FeedReader{Event: out.event, Skipped: out.skipped, Ping: out.ping})
	})
	return nil
}

// beginningOfFeed reads where a client wants to begin: behind the last event it has seen, at a cursor or a time, or now.
func beginningOfFeed(c *fiber.Ctx) (telemetry.FeedRequest, error) {
	seen, err := lastEventID(c)
	since := c.Query("since")
	switch {
	case err != nil || seen > 0:
		return telemetry.FeedRequest{After: seen}, err
	case since == "":
		return telemetry.FeedRequest{Latest: true}, nil
	}
	if cursor, err := strconv.ParseUint(since, 10, 63); err == nil {
		return telemetry.FeedRequest{After: cursor}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, since)
	if err != nil {
		return telemetry.FeedRequest{}, errs.Invalid("request", []errs.Detail{{Field: "since", Message: "is neither a cursor nor a time; give the id of an event, or a time like 2027-01-31T09:00:00Z", Code: errs.BadValue}})
	}
	return telemetry.FeedRequest{Since: &at}, nil
}

// skipped tells that events are not kept any more.
func (o eventWriter) skipped(events uint64) error {
	o.w.WriteString(`event: skipped` + "\n" + `data: {"events":` + strconv.FormatUint(events, 10) + "}\n\n")
	return o.flush()
}
