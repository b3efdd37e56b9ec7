package httpapi_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/subject"
	"turbocat.io/contracts/telemetry"
)

// readFeed answers as telemetry does, of the events of the one execution. The first is not kept any more.
func (w *world) readFeed(_ rpc.Caller, r telemetry.FeedRequest) (telemetry.FeedResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := telemetry.FeedResponse{Events: []telemetry.FeedEvent{}, Cursor: r.After}
	if r.Latest {
		out.Cursor = uint64(len(w.events))
		return out, nil
	}
	if r.After == 0 && len(w.events) > 0 {
		out.Skipped = 1
	}
	for _, e := range w.events {
		if e.Seq > max(r.After, 1) && (len(r.Types) == 0 || strings.Contains(fmt.Sprint(r.Types), e.Type)) && (r.Limit == 0 || len(out.Events) < r.Limit) {
			out.Events = append(out.Events, telemetry.FeedEvent{Cursor: e.Seq, Type: e.Type, Body: e.Body})
			out.Cursor = e.Seq
		}
	}
	out.More = len(out.Events) == r.Limit && r.Limit > 0
	return out, nil
}

func (w *world) news() {
	w.t.Helper()
	body, err := json.Marshal(telemetry.FeedNews{Ends: map[string]uint64{alice.UserID: 1}})
	if err == nil {
		err = w.bus.NATS().Publish(subject.FeedNews, body)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestFeedIsPolled(t *testing.T) {
	w := start(t, setup{})
	w.stream()
	for seq := uint64(1); seq <= 4; seq++ {
		w.happen(seq, orchestrator.EventStepStarted, true)
	}
	for _, c := range []struct {
		path   string
		status int
		want   string
	}{
		{"/events", 200, `"cursor":"4","more":false,"skipped":1`},
		{"/events?after=2&limit=1", 200, `"cursor":"3","more":true}`},
		{"/events?types=io.turbocat.execution.started.v1", 200, `"events":[],"cursor":"0"`},
		{"/events?types=io.turbocat.x", 400, `\"io.turbocat.x\" is no type of events; GET /api/v1/event-types lists them`},
		{"/events?after=-1", 400, `"field":"after"`},
		{"/events?limit=1001", 400, `"field":"limit"`},
		{"/events?since=yesterday", 400, `"field":"since"`},
		{"/event-types", 200, `{"type":"io.turbocat.execution.created.v1","description":"an execution was accepted; always its first event","schema":{`},
	} {
		got := w.do(request{method: "GET", path: "/api/v1" + c.path, token: aliceToken})
		if got.status != c.status || !strings.Contains(got.text, c.want) {
			t.Errorf("%s: %d %.300s, want %s", c.path, got.status, got.text, c.want)
		}
	}
}

func TestFeedIsFollowed(t *testing.T) {
	w := start(t, setup{ping: time.Hour})
	w.stream()
	w.happen(1, orchestrator.EventCreated, true)
	w.happen(2, orchestrator.EventStarted, true)

	now := w.followAt("/events/stream", nil)
	behind := w.followAt("/events/stream?since=1", nil)
	behind.expect("2")
	all := w.followAt("/events/stream?since=0", nil)
	for _, want := range []string{"event: skipped", `data: {"events":1}`, ""} {
		if line, _ := all.line(); line != want {
			t.Errorf("it says %q, want %q", line, want)
		}
	}
	all.expect("2")
	started := w.followAt("/events/stream?types=io.turbocat.execution.started.v1&since=2000-01-01T00:00:00Z", nil)
	started.line()
	started.line()
	started.line()
	started.expect("2")
	w.happen(3, orchestrator.EventStepStarted, true)
	w.news()
	for _, s := range []*sse{now, behind, all} {
		s.expect("3")
	}
	again := w.followAt("/events/stream?since=0", map[string]string{"Last-Event-ID": "2"})
	again.expect("3")
	if n := w.hub.Followed(); n != 0 {
		t.Errorf("%d executions are followed", n)
	}
	for path, want := range map[string]string{"?since=yesterday": `"field":"since"`, "?types=,x": `"field":"types"`, "?lastEventId=x": `"field":"lastEventId"`} {
		if got := w.do(request{method: "GET", path: "/api/v1/events/stream" + path, token: aliceToken}); got.status != 400 || !strings.Contains(got.text, want) {
			t.Errorf("%s: %d %s", path, got.status, got.text)
		}
	}
}

// TestFeedIsLookedAtAgain has the news be lost: the next ping finds what was missed.
func TestFeedIsLookedAtAgain(t *testing.T) {
	w := start(t, setup{ping: 50 * time.Millisecond})
	w.stream()
	w.happen(1, orchestrator.EventCreated, true)
	s := w.followAt("/events/stream?since=1", nil)
	w.happen(2, orchestrator.EventStarted, true)
	s.expect("2")
}
