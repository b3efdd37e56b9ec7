//go:build unix

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
)

// sent is one event of a stream.
type sent struct{ id, kind, data string }

// stream reads the events of an execution behind the one given until the stream ends or has given most.
func (c *client) stream(ctx context.Context, execution, lastID string, most int) ([]sent, error) {
	return c.streamAt(ctx, "/executions/"+execution+"/events", lastID, most)
}

func (c *client) streamAt(ctx context.Context, path, lastID string, most int) ([]sent, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/api/v1"+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.session.AccessToken)
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		return nil, fmt.Errorf("the stream answers %d as %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	var all []sent
	var one sent
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		switch name, value, _ := strings.Cut(line, ": "); {
		case line == "":
			if one != (sent{}) {
				all = append(all, one)
			}
			if one = (sent{}); len(all) == most {
				return all, nil
			}
		case name == "id":
			one.id = value
		case name == "event":
			one.kind = value
		case name == "data":
			one.data = value
		case name != "":
			return nil, fmt.Errorf("the stream has the line %q", line)
		}
	}
	return all, lines.Err()
}

// all reads the whole stream.
func (c *client) all(t testing.TB, execution, lastID string) []sent {
	t.Helper()
	events, err := c.stream(t.Context(), execution, lastID, -1)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// names gives the types of events with their steps in one line.
func names(t testing.TB, events []sent) string {
	t.Helper()
	var list []string
	for _, e := range events {
		name := strings.TrimSuffix(strings.TrimPrefix(e.kind, "io.turbocat.execution."), ".v1")
		if key := payload(t, e).StepKey; key != "" {
			name += " " + key
		}
		list = append(list, name)
	}
	return strings.Join(list, ", ")
}

func payload(t testing.TB, e sent) orchestrator.ExecutionEvent {
	t.Helper()
	var whole struct{ Data orchestrator.ExecutionEvent }
	if err := json.Unmarshal([]byte(e.data), &whole); err != nil {
		t.Fatal(err)
	}
	return whole.Data
}

func TestEvents(t *testing.T) {
	t.Parallel()
	c := user(t)
	slow := c.code(t, `function handler() { return new Promise(done => setTimeout(() => done(1), 700)) }`)
	flaky := c.code(t, `function handler(input, context) { if (context.attempt == 1) throw new Error("first"); return 1 }`)
	bad := c.code(t, `function handler() { throw new Error("secret payload") }`)
	workflow := c.workflow(t, []object{
		step("slow", slow),
		step("flaky", flaky, after("slow"), object{"onError": "RETRY", "retryDelayMs": 300}),
		step("bad", bad, after("flaky"), object{"onError": "CONTINUE"}),
		step("skipped", slow, after("bad"), object{"triggerRule": "all_success"}),
	})
	const requestID = "request-of-the-events-test"
	e := c.begin(t, workflow, "X-Request-ID", requestID)

	// One client follows all along, one comes again behind each event that it has seen.
	piecewise := make(chan []sent, 1)
	go func() {
		var events []sent
		last := ""
		for {
			next, err := c.stream(t.Context(), e.ID, last, 1)
			if err != nil || len(next) == 0 {
				piecewise <- events
				return
			}
			events = append(events, next...)
			last = next[0].id
		}
	}()
	live := c.all(t, e.ID, "")
	history := c.all(t, e.ID, "")
	if pieces := <-piecewise; !slices.Equal(live, history) || !slices.Equal(pieces, history) {
		t.Errorf("followed %s\nlater %s\nresumed %s", names(t, live), names(t, history), names(t, pieces))
	}
	const want = "created, started, step_started slow, step_completed slow, step_started flaky, step_retry_scheduled flaky, step_started flaky, " +
		"step_completed flaky, step_started bad, step_failed bad, step_skipped skipped, completed"
	if got := names(t, history); got != want {
		t.Errorf("the events are\n%s\nwant\n%s", got, want)
	}
	for i, s := range history {
		if s.id != strconv.Itoa(i+1) {
			t.Errorf("event %d has the id %s", i+1, s.id)
		}
		ce, err := event.Decode([]byte(s.data))
		if err != nil {
			t.Errorf("%v: %s", err, s.data)
			continue
		}
		if ce.Type() != s.kind || ce.Subject() != e.ID || ce.Source() != "orchestrator" || ce.SpecVersion() != "1.0" || ce.DataContentType() != "application/json" || ce.Time().IsZero() || ce.Extensions()["requestid"] != requestID {
			t.Errorf("event %d is %s", i+1, s.data)
		}
		d := payload(t, s)
		if d.ExecutionID != e.ID || d.WorkflowID != workflow || d.UserID != c.session.User.ID || d.Seq != uint64(i+1) || d.Status == "" {
			t.Errorf("event %d is %s", i+1, s.data)
		}
	}
	ids := map[string]bool{}
	for _, s := range history {
		var whole struct{ ID string }
		if err := json.Unmarshal([]byte(s.data), &whole); err != nil || ids[whole.ID] {
			t.Errorf("the event id %s stands twice", whole.ID)
		}
		ids[whole.ID] = true
	}
	if d := payload(t, history[5]); d.Attempt != 1 || d.Until == nil || d.Error == nil || d.Error.Code != "CODE_ERROR" {
		t.Errorf("the retry is %+v", d)
	}
	if d := payload(t, history[7]); d.Attempt != 2 || d.DurationMs == nil || d.Status != "COMPLETED" {
		t.Errorf("the completion is %+v", d)
	}

	if rest := c.all(t, e.ID, "7"); !slices.Equal(rest, history[7:]) {
		t.Errorf("behind 7 come %s", names(t, rest))
	}
	if rest := c.all(t, e.ID, strconv.Itoa(len(history))); len(rest) != 0 {
		t.Errorf("behind the last come %s", names(t, rest))
	}
	if rest := c.all(t, e.ID, "9999"); len(rest) != 0 {
		t.Errorf("behind 9999 come %s", names(t, rest))
	}
	for _, last := range []string{"x", "-1", "1.5", "99999999999999999999"} {
		fault(t, c.do(t, "GET", "/executions/"+e.ID+"/events", nil, "Last-Event-ID", last), errs.Validation)
	}
	fault(t, c.do(t, "GET", "/executions/0193a5c0-7a2b-7c3d-8e4f-0123456789ab/events", nil), errs.NotFound)
	fault(t, c.do(t, "GET", "/executions/x/events", nil), errs.NotFound)

	cancelled := c.begin(t, c.workflow(t, []object{step("slow", c.code(t, `function handler() { return new Promise(done => setTimeout(done, 20000)) }`)), step("next", slow, after("slow"))}))
	if _, err := c.stream(t.Context(), cancelled.ID, "", 3); err != nil {
		t.Fatal(err)
	}
	data[orchestrator.CommandResponse](t, c.do(t, "POST", "/executions/"+cancelled.ID+"/cancel", nil), 202)
	if got := names(t, c.all(t, cancelled.ID, "")); got != "created, started, step_started slow, step_cancelled slow, step_cancelled next, cancelled" {
		t.Errorf("the events of a cancelled execution are %s", got)
	}
}
