package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/gateway/internal/httpapi"
)

// stream makes the stream of public events and waits until a gateway reads it.
func (w *world) stream() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	s, err := w.bus.JetStream().CreateStream(ctx, jetstream.StreamConfig{Name: subject.EventsStream, Subjects: []string{subject.EventsAll}, Storage: jetstream.MemoryStorage})
	if err != nil {
		w.t.Fatal(err)
	}
	w.await(func() bool {
		info, err := s.Info(ctx)
		return err == nil && info.State.Consumers > 0
	})
}

// happen records an event in the history and, unless it gets lost on the way, publishes it.
func (w *world) happen(seq uint64, kind event.Type[orchestrator.ExecutionEvent], lost bool) {
	w.t.Helper()
	body, err := kind.Encode(event.Meta{ID: fmt.Sprint("e", seq), Source: "orchestrator", Subject: thingID, Time: time.Now()},
		orchestrator.ExecutionEvent{ExecutionID: thingID, Seq: seq, Status: "RUNNING"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.events = append(w.events, orchestrator.StoredEvent{Seq: seq, Type: kind.String(), Body: body})
	w.mu.Unlock()
	if lost {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := w.bus.JetStream().Publish(ctx, subject.Events(0), event.AppendBatch(nil, body)); err != nil {
		w.t.Fatal(err)
	}
}

// sse is an open event stream.
type sse struct {
	t     *testing.T
	lines chan string
	stop  context.CancelFunc
}

func (w *world) follow(path string, header map[string]string) *sse {
	w.t.Helper()
	return w.followAt("/executions/"+thingID+"/events"+path, header)
}

func (w *world) followAt(path string, header map[string]string) *sse {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", w.url+"/api/v1"+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+aliceToken)
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		w.t.Fatalf("status %d, %v", resp.StatusCode, resp.Header)
	}
	s := &sse{t: w.t, lines: make(chan string, 10_000), stop: cancel}
	go func() {
		defer close(s.lines)
		defer resp.Body.Close()
		scanner := bufio.NewScanner(resp.Body)
		scanner.Buffer(nil, 8<<20)
		for scanner.Scan() {
			s.lines <- scanner.Text()
		}
	}()
	return s
}

func (s *sse) line() (string, bool) {
	s.t.Helper()
	select {
	case line, open := <-s.lines:
		return line, open
	case <-time.After(10 * time.Second):
		s.t.Fatal("the stream is silent")
		return "", false
	}
}

// next gives the id of the next event; "" when the stream has ended.
func (s *sse) next() string {
	s.t.Helper()
	id := ""
	for {
		line, open := s.line()
		if !open {
			return ""
		}
		if v, ok := strings.CutPrefix(line, "id: "); ok {
			id = v
		}
		if v, ok := strings.CutPrefix(line, "data: "); ok {
			if e, err := event.Decode([]byte(v)); err != nil || e.Subject() != thingID {
				s.t.Errorf("event %s: %v", v, err)
			}
			return id
		}
	}
}

func (s *sse) expect(ids ...string) {
	s.t.Helper()
	var got []string
	for range ids {
		got = append(got, s.next())
	}
	if !slices.Equal(got, ids) {
		s.t.Fatalf("events %q, want %q", got, ids)
	}
}

func TestEventsHistoryThenTail(t *testing.T) {
	w := start(t, setup{})
	w.stream()
	w.happen(1, orchestrator.EventCreated, false)
	w.happen(2, orchestrator.EventStarted, true) // published before the history was read, or never: the same to a client
	s := w.follow("", nil)
	s.expect("1", "2")
	w.happen(3, orchestrator.EventStepStarted, false)
	s.expect("3")
	resumed := w.follow("?lastEventId=2", nil)
	resumed.expect("3")
	w.happen(4, orchestrator.EventCompleted, false)
	s.expect("4", "")
	resumed.expect("4", "")

	// Behind the terminal event there is nothing to wait for.
	w.follow("", map[string]string{"Last-Event-ID": "4"}).expect("")
	w.follow("", map[string]string{"Last-Event-ID": "3"}).expect("4", "")
}

func TestEventsFillAGap(t *testing.T) {
	w := start(t, setup{})
	w.stream()
	w.happen(1, orchestrator.EventCreated, false)
	s := w.follow("", nil)
	s.expect("1")
	w.happen(2, orchestrator.EventStarted, true)
	w.happen(3, orchestrator.EventStepStarted, true)
	w.happen(4, orchestrator.EventStepCompleted, false)
	s.expect("2", "3", "4")
}

func TestEventsPingAndCatchUp(t *testing.T) {
	w := start(t, setup{ping: 50 * time.Millisecond})
	w.stream()
	w.happen(1, orchestrator.EventCreated, false)
	s := w.follow("", nil)
	s.expect("1")
	for {
		line, open := s.line()
		if !open {
			t.Fatal("the stream ended")
		}
		if line == ": ping" {
			break
		}
	}
	w.happen(2, orchestrator.EventFailed, true) // nobody ever publishes it
	s.expect("2", "")
}

func TestEventsSurviveARemadeStream(t *testing.T) {
	w := start(t, setup{})
	w.stream()
	for seq := uint64(1); seq <= 20; seq++ {
		w.happen(seq, orchestrator.EventStepStarted, false)
	}
	s := w.follow("?lastEventId=19", nil)
	s.expect("20")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := w.bus.JetStream().DeleteStream(ctx, subject.EventsStream); err != nil {
		t.Fatal(err)
	}
	w.happen(21, orchestrator.EventStepStarted, true)
	w.stream()
	s.expect("21") // told by the new consumer's start, well before the ping
	w.happen(22, orchestrator.EventStepStarted, false)
	s.expect("22")
}

func TestEventsLongHistoryAndBurst(t *testing.T) {
	w := start(t, setup{})
	w.stream()
	for seq := uint64(1); seq <= 2500; seq++ {
		w.happen(seq, orchestrator.EventStepStarted, true)
	}
	s := w.follow("", nil)
	for seq := 1; seq <= 2500; seq++ {
		s.expect(fmt.Sprint(seq))
	}
	for seq := uint64(2501); seq <= 3500; seq++ {
		w.happen(seq, orchestrator.EventStepStarted, false)
	}
	for seq := 2501; seq <= 3500; seq++ {
		s.expect(fmt.Sprint(seq))
	}
}

func TestShutdownEndsStreamsAndWaits(t *testing.T) {
	w := start(t, setup{})
	w.stream()
	w.happen(1, orchestrator.EventCreated, false)
	s := w.follow("", nil)
	s.expect("1")
	waited := make(chan response, 1)
	go func() {
		waited <- w.do(request{method: "POST", path: "/api/v1/workflows/" + thingID + "/execute?wait=60s", token: aliceToken})
	}()
	w.await(func() bool { n, _ := w.called("orchestrator.list_events"); return n >= 2 })
	began := time.Now()
	w.stop()
	s.expect("")
	if got := <-waited; got.status != 202 {
		t.Errorf("status %d: %s", got.status, got.text)
	}
	if err := <-w.stopped; err != nil {
		t.Error(err)
	}
	w.stopped <- nil
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the shutdown took %s", took)
	}
}

func TestExecuteWaits(t *testing.T) {
	w := start(t, setup{})
	w.stream()
	execute := request{method: "POST", path: "/api/v1/workflows/" + thingID + "/execute?wait=1s", token: aliceToken, header: map[string]string{"Idempotency-Key": "k1"}}
	began := time.Now()
	if got := w.do(execute); got.status != 202 || !strings.Contains(got.text, `"status":"RUNNING"`) {
		t.Fatalf("status %d: %s", got.status, got.text)
	}
	if took := time.Since(began); took < time.Second || took > 5*time.Second {
		t.Errorf("the wait took %s", took)
	}
	asked, _ := w.called("orchestrator.list_events")
	answered := make(chan response, 1)
	execute.path = strings.Replace(execute.path, "1s", "60s", 1)
	go func() { answered <- w.do(execute) }()
	w.await(func() bool { n, _ := w.called("orchestrator.list_events"); return n > asked })
	w.mu.Lock()
	w.state = orchestrator.ExecutionFailed
	w.mu.Unlock()
	w.happen(1, orchestrator.EventFailed, false)
	if got := <-answered; got.status != 200 || !strings.Contains(got.text, `"status":"FAILED"`) {
		t.Errorf("status %d: %s", got.status, got.text)
	}
	if got := w.do(execute); got.status != 200 {
		t.Errorf("an execution that has ended: status %d", got.status)
	}
}

func TestDisconnectEndsTheFeed(t *testing.T) {
	w := start(t, setup{ping: 20 * time.Millisecond})
	w.stream()
	w.happen(1, orchestrator.EventCreated, false)
	s := w.follow("", nil)
	s.expect("1")
	s.stop()
	w.awaitNoFollower()
}

// A client that does not read ends up without its stream, not with an endless buffer.
func TestClientThatDoesNotReadIsCutOff(t *testing.T) {
	w := start(t, setup{ping: 20 * time.Millisecond})
	httpapi.SetSlowest(w.api, 300*time.Millisecond)
	big := strings.Repeat("x", 512<<10)
	for seq := uint64(1); seq <= 24; seq++ { // more than both ends of a connection buffer
		w.events = append(w.events, orchestrator.StoredEvent{Seq: seq, Type: "t", Body: json.RawMessage(`{"big":"` + big + `"}`)})
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /api/v1/executions/%s/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", thingID, aliceToken)
	w.await(func() bool { n, _ := w.called("orchestrator.list_events"); return n > 0 })
	w.awaitNoFollower()
	w.await(func() bool { return httpapi.OpenConnections(w.api) == 0 })
}

// awaitNoFollower waits until no feed is open.
func (w *world) awaitNoFollower() {
	w.t.Helper()
	w.await(func() bool { return w.hub.Followed() == 0 })
}

func (w *world) await(ok func() bool) {
	w.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatal("it does not happen")
		}
	}
}
