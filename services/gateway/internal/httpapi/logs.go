package httpapi

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/form"
	"turbocat.io/services/gateway/internal/live"
)

var logsAccess = access{scope: "executions:read", operation: "listExecutionLogs"}

// linesAtOnce is how many lines of a log that is followed are read at once.
const linesAtOnce = 100

// documentFollowLogs adds to the operation that lists log lines what following them answers.
func (a *API) documentFollowLogs() {
	op := a.huma.OpenAPI().Paths[prefix+"/executions/{id}/logs"].Get
	op.Responses["200"].Content["text/event-stream"] = &huma.MediaType{
		Schema: &huma.Schema{Type: huma.TypeString}, Example: "id: 1795397704769763-01a2060a-dc41-7ba0-81b3-d028622f88e7\nevent: line\ndata: {\"id\":\"01a2060a-dc41-7ba0-81b3-d028622f88e7\",\"executionId\":\"01a2060a-dc13-7c44-9f1a-07c780d0e68e\",\"stepKey\":\"total\",\"attempt\":1,\"iteration\":null,\"seq\":1,\"level\":\"INFO\",\"source\":\"console\",\"message\":\"adding 2 numbers\",\"fields\":{},\"createdAt\":\"2026-11-23T01:35:04.769763Z\"}\n\n",
	}
	seen := &huma.Schema{Type: huma.TypeString, Examples: []any{"1795397704769763-01a2060a-dc41-7ba0-81b3-d028622f88e7"}}
	op.Parameters = append(op.Parameters,
		&huma.Param{Name: "Last-Event-ID", In: "header", Description: "with follow: the last id seen; the stream goes on behind that line", Schema: seen},
		&huma.Param{Name: "lastEventId", In: "query", Description: "as Last-Event-ID, for clients that can not set headers", Schema: seen})
}

// followLogs streams the log lines of an execution (Server-Sent Events), when that is what is asked for.
func (a *API) followLogs(c *fiber.Ctx) error {
	if follow, err := strconv.ParseBool(c.Query("follow")); err != nil || !follow {
		return c.Next()
	}
	if err := a.admit(c, logsAccess); err != nil {
		return err
	}
	id := c.Params("id")
	if len(id) != 36 || uuid.Validate(id) != nil {
		return errs.New(errs.NotFound, "nothing has the id given; check it")
	}
	wanted, from, err := logsToFollow(c)
	if err != nil {
		return err
	}
	wanted.ExecutionID = id
	caller := requestOf(c.UserContext()).caller
	// Telemetry knows no owners: who may see the execution's events may see its log. They tell its end, too.
	feed, err := a.Hub.Follow(c.UserContext(), id, 0, a.historyOf(id, caller))
	if err != nil {
		return err
	}
	read := func(ctx context.Context, since time.Time, cursor string) (rpc.List[telemetry.LogLine], error) {
		req := wanted
		req.Cursor = cursor
		if req.Since == nil || since.After(*req.Since) {
			req.Since = optional(since)
		}
		return bus.Call(ctx, a.Bus, telemetry.ListLogs, caller, req)
	}
	if _, err := read(c.UserContext(), from.At, ""); err != nil { // while there is a status to answer with
		feed.Close()
		return err
	}
	a.stream(c, func(out eventWriter) {
		ctx, cancel := context.WithCancel(a.closing)
		defer cancel()
		ended := make(chan struct{})
		a.streams.Go(func() {
			defer feed.Close()
			if err := a.untilEnd(ctx, feed); err == nil || errs.CodeOf(err) == errs.NotFound {
				close(ended)
			}
		})
		err := a.Hub.FollowLogs(ctx, id, from, a.PingInterval, read, ended, live.LogReader{Line: out.line, Ping: out.ping})
		if err == nil {
			_ = out.end()
		}
	})
	return nil
}

// logsToFollow reads which lines are to be followed, and behind which.
func logsToFollow(c *fiber.Ctx) (telemetry.LogsRequest, live.LogPlace, error) {
	var faults form.Faults
	req := telemetry.LogsRequest{Level: c.Query("level"), StepKey: c.Query("stepKey"), Search: c.Query("search"), PageSize: linesAtOnce}
	if req.Level != "" && !slices.Contains(telemetry.Levels, req.Level) {
		faults.Add("level", errs.BadEnum, "is %s; give one of %s", form.Quote(req.Level), strings.Join(telemetry.Levels, ", "))
	}
	for _, name := range []string{"page", "pageSize", "cursor"} {
		if c.Query(name) != "" {
			faults.Add(name, errs.NotApplicable, "is not for a log that is followed; leave it out, or follow")
		}
	}
	if given := c.Query("since"); given != "" {
		since, err := time.Parse(time.RFC3339Nano, given)
		if err != nil {
			faults.Add("since", errs.BadValue, "is not a time; give one like 2027-01-31T09:00:00Z")
		}
		req.Since = &since
	}
	given, name := c.Get("Last-Event-ID"), "Last-Event-ID"
	if given == "" {
		given, name = c.Query("lastEventId"), "lastEventId"
	}
	place, err := placeOf(given)
	if err != nil {
		faults.Add(name, errs.BadValue, "is not the id of a line; give one of this stream")
	}
	return req, place, faults.Err("query")
}

// placeOf reads the id of a line in a stream; "" is the beginning.
func placeOf(id string) (live.LogPlace, error) {
	if id == "" {
		return live.LogPlace{}, nil
	}
	micros, line, _ := strings.Cut(id, "-")
	at, err := strconv.ParseInt(micros, 10, 54)
	if err != nil {
		return live.LogPlace{}, err
	}
	parsed, err := uuid.Parse(line)
	return live.LogPlace{At: time.UnixMicro(at).UTC(), ID: parsed}, err
}

// line writes a log line.
func (o eventWriter) line(l telemetry.LogLine) error {
	body, err := json.Marshal(l)
	if err != nil {
		return err
	}
	o.w.WriteString("id: " + strconv.FormatInt(l.CreatedAt.UnixMicro(), 10) + "-" + l.ID + "\nevent: line\ndata: ")
	o.w.Write(body)
	o.w.WriteString("\n\n")
	return o.flush()
}

// end tells that no more comes.
func (o eventWriter) end() error {
	o.w.WriteString("event: end\ndata: {}\n\n")
	return o.flush()
}
