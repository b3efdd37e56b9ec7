package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/gateway/internal/live"
)

var eventsAccess = access{scope: "executions:read", operation: "streamExecutionEvents"}

func (a *API) routeEvents() {
	const path = prefix + "/executions/:id/events"
	a.app.Add(http.MethodGet, path, a.events)
	r := route{access: eventsAccess, errors: []errs.Code{errs.NotFound}}
	responses := a.errorResponses(r)
	responses["200"] = &huma.Response{
		Description: "The events so far, then each as it happens; ends after the last one. `id` is the seq, `event` the type, `data` the CloudEvent on one line. " +
			"Until it has ended, what models write comes too, as `event: token` without an id: `data` is a piece of a call's text, at `offset` bytes behind its beginning; whoever connects has each text from its beginning.",
		Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}, Example: a.examples.stream()}},
	}
	seen := &huma.Schema{Type: huma.TypeString, Examples: []any{"4"}}
	a.huma.OpenAPI().AddOperation(&huma.Operation{
		Method: http.MethodGet, Path: prefix + "/executions/{id}/events", OperationID: eventsAccess.operation, Tags: []string{"executions"},
		Summary: "Follow the events of an execution", Security: eventsAccess.security(), Responses: responses,
		Parameters: []*huma.Param{
			{Name: "id", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString, Format: "uuid"}},
			{Name: "Last-Event-ID", In: "header", Description: "the last id seen; the stream goes on behind it", Schema: seen},
			{Name: "lastEventId", In: "query", Description: "as Last-Event-ID, for clients that can not set headers", Schema: seen},
		},
	})
}

// events streams the events of an execution (Server-Sent Events).
func (a *API) events(c *fiber.Ctx) error {
	if err := a.admit(c, eventsAccess); err != nil {
		return err
	}
	id := c.Params("id")
	if len(id) != 36 || uuid.Validate(id) != nil {
		return errs.New(errs.NotFound, "nothing has the id given; check it")
	}
	after, err := lastEventID(c)
	if err != nil {
		return err
	}
	feed, err := a.Hub.Follow(c.UserContext(), id, after, a.historyOf(id, requestOf(c.UserContext()).caller))
	if err != nil {
		return err
	}
	a.stream(c, func(out eventWriter) {
		defer feed.Close()
		// Every way to end, be it the last event, the client or a shutdown, ends the stream alike.
		_ = feed.Run(a.closing, a.PingInterval, live.Reader{Event: out.event, Text: out.text, Ping: out.ping})
	})
	return nil
}

// stream answers with server-sent events that run writes, until it returns. The request is gone by then, and the server holds nothing for it
// any more: of a thousand idle clients, what is left is a goroutine, a connection and streamBuffer each.
func (a *API) stream(c *fiber.Ctx, run func(out eventWriter)) {
	c.Set("Content-Type", "text/event-stream")
	c.Set("X-Accel-Buffering", "no")
	request := c.Context()
	request.SetConnectionClose()             // its end is that of the stream
	c.Response().Header.SetContentLength(-2) // as long as it is
	request.HijackSetNoResponse(true)        // the header is written below, where all of it is known
	request.Hijack(func(net.Conn) {
		conn, header := request.Conn(), bytes.Clone(request.Response.Header.Header())
		a.metrics.streams.Inc()
		a.streams.Go(func() {
			defer a.metrics.streams.Dec()
			defer func() { _ = conn.Close() }()
			out := eventWriter{bufio.NewWriterSize(conn, streamBuffer), conn, a.slowest}
			_, _ = out.w.Write(header)
			_ = out.flush() // a writer that has failed fails again, which ends run
			run(out)
			_ = out.flush()
		})
	})
}

// streamBuffer is what is written to a client of a stream at once, unless it is more.
const streamBuffer = 1 << 10

// lastEventID reads which event the client has seen last; 0 for none.
func lastEventID(c *fiber.Ctx) (uint64, error) {
	given, field := c.Get("Last-Event-ID"), "Last-Event-ID"
	if given == "" {
		given, field = c.Query("lastEventId"), "lastEventId"
	}
	if given == "" {
		return 0, nil
	}
	seq, err := strconv.ParseUint(given, 10, 63)
	if err != nil {
		return 0, errs.Invalid("request", []errs.Detail{{Field: field, Message: "not an event id; give the id of an event of this stream", Code: errs.BadValue}})
	}
	return seq, nil
}

// historyOf reads the events of an execution as the caller may see them.
func (a *API) historyOf(id string, caller rpc.Caller) live.History {
	return func(ctx context.Context, after uint64) ([]live.Event, bool, error) {
		got, err := bus.Call(ctx, a.Bus, orchestrator.ListEvents, caller, orchestrator.EventsRequest{ID: id, After: after, Limit: live.PageSize})
		if err != nil {
			return nil, false, err
		}
		events := make([]live.Event, len(got.Events))
		for i, e := range got.Events {
			events[i] = live.Event{Seq: e.Seq, Type: e.Type, Body: e.Body}
		}
		return events, got.Terminal, nil
	}
}

// eventWriter writes to one client and gives up on it when it does not read.
type eventWriter struct {
	w       *bufio.Writer
	conn    net.Conn
	slowest time.Duration
}

func (o eventWriter) event(e live.Event) error {
	if err := writeEvent(o.w, e); err != nil {
		return err
	}
	return o.flush()
}

// writeEvent writes an event as a server-sent one; w remembers whether that went wrong.
func writeEvent(w *bufio.Writer, e live.Event) error {
	body := e.Body
	if bytes.ContainsAny(body, "\r\n") {
		var line bytes.Buffer
		if err := json.Compact(&line, body); err != nil {
			return err
		}
		body = line.Bytes()
	}
	w.WriteString("id: ")
	w.WriteString(strconv.FormatUint(e.Seq, 10))
	w.WriteString("\nevent: ")
	w.WriteString(e.Type)
	w.WriteString("\ndata: ")
	w.Write(body)
	w.WriteString("\n\n")
	return nil
}

// text writes a piece of what a model writes. It has no id: a client that resumes after an event gets the text from its beginning.
func (o eventWriter) text(token runner.Token) error {
	body, err := json.Marshal(token)
	if err != nil {
		return err
	}
	o.w.WriteString("event: token\ndata: ")
	o.w.Write(body)
	o.w.WriteString("\n\n")
	return o.flush()
}

func (o eventWriter) ping() error {
	o.w.WriteString(": ping\n\n")
	return o.flush()
}

// flush reports the first error of all writes since the last one.
func (o eventWriter) flush() error {
	if err := o.conn.SetWriteDeadline(time.Now().Add(o.slowest)); err != nil {
		return err
	}
	return o.w.Flush()
}
