package telemetry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/subject"
	contract "turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/bus"
)

// ledger is as much of an orchestrator as the feeds need: events by partition, some of which are told.
type ledger struct {
	t    *testing.T
	conn *bus.Conn
	mu   sync.Mutex
	kept [subject.Partitions][]orchestrator.PartitionEvent
	n    [subject.Partitions]uint64
	seqs map[string]uint64
	away bool

	settled []orchestrator.SettledCall
}

func newLedger(t *testing.T, conn *bus.Conn) *ledger {
	t.Helper()
	l := &ledger{t: t, conn: conn, seqs: map[string]uint64{}}
	if _, err := conn.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{Name: subject.EventsStream, Subjects: []string{subject.EventsAll}, Storage: jetstream.MemoryStorage}); err != nil {
		t.Fatal(err)
	}
	server := bus.NewServer(orchestrator.Service, zerolog.Nop())
	bus.Handle(server, orchestrator.PartitionEvents, func(_ context.Context, _ rpc.Caller, req orchestrator.PartitionEventsRequest) (orchestrator.PartitionEventsResponse, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		out := orchestrator.PartitionEventsResponse{}
		if l.away {
			return out, errs.New(errs.DependencyUnavailable, "away")
		}
		for _, e := range l.kept[req.Partition] {
			if e.N > req.After && len(out.Events) < 3 { // few at a time
				out.Events = append(out.Events, e)
			}
		}
		return out, nil
	})
	bus.Handle(server, orchestrator.SettledCalls, func(_ context.Context, _ rpc.Caller, req orchestrator.SettledCallsRequest) (orchestrator.SettledCallsResponse, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		out := orchestrator.SettledCallsResponse{}
		for _, c := range l.settled {
			if c.N > req.After && len(out.Calls) < 2 {
				out.Calls = append(out.Calls, c)
			}
		}
		return out, nil
	})
	bus.Handle(server, orchestrator.EventNumbers, func(context.Context, rpc.Caller, rpc.Empty) (orchestrator.EventNumbersResponse, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return orchestrator.EventNumbersResponse{Last: slices.Clone(l.n[:])}, nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx, conn) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l
}

// happen records an event of an execution, and gives it.
func (l *ledger) happen(user, execution string, kind event.Type[orchestrator.ExecutionEvent]) json.RawMessage {
	return l.tell(kind, orchestrator.ExecutionEvent{ExecutionID: execution, UserID: user, WorkflowID: newID(), Status: "RUNNING"})
}

// tell records an event that says more.
func (l *ledger) tell(kind event.Type[orchestrator.ExecutionEvent], data orchestrator.ExecutionEvent) json.RawMessage {
	l.mu.Lock()
	defer l.mu.Unlock()
	execution := data.ExecutionID
	p := subject.PartitionOf(execution)
	l.n[p]++
	l.seqs[execution]++
	data.Seq = l.seqs[execution]
	body, err := kind.Encode(event.Meta{ID: newID(), Source: "orchestrator", Subject: execution, Time: time.Now(), Partition: p, Number: l.n[p]}, data)
	if err != nil {
		l.t.Fatal(err)
	}
	l.kept[p] = append(l.kept[p], orchestrator.PartitionEvent{N: l.n[p], Body: body})
	return body
}

func (l *ledger) publish(execution string, bodies ...[]byte) {
	l.t.Helper()
	if _, err := l.conn.JetStream().Publish(l.t.Context(), subject.Events(subject.PartitionOf(execution)), event.AppendBatch(nil, bodies...)); err != nil {
		l.t.Fatal(err)
	}
}

func (w world) feed(user string, q contract.FeedRequest) contract.FeedResponse {
	w.t.Helper()
	got, err := bus.Call(context.Background(), w.conn, contract.ReadFeed, rpc.Caller{UserID: user, Role: rpc.RoleUser}, q)
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

// awaitFeed waits until a user's feed has n events, and gives them.
func (w world) awaitFeed(user string, n int) []contract.FeedEvent {
	w.t.Helper()
	var got contract.FeedResponse
	eventually(w.t, fmt.Sprintf("%d events in the feed", n), func() bool {
		got = w.feed(user, contract.FeedRequest{})
		return len(got.Events) == n
	})
	for i, e := range got.Events {
		if e.Cursor != uint64(i+1) {
			w.t.Fatalf("the event %d has the cursor %d", i+1, e.Cursor)
		}
	}
	return got.Events
}

func TestFeed(t *testing.T) {
	w := newWorld(t)
	l := newLedger(t, w.conn)
	ann, ben := uuid.NewString(), uuid.NewString()
	x, y, z := newID(), newID(), newID()
	news := make(chan *nats.Msg, 1000)
	sub, err := w.conn.NATS().ChanSubscribe(subject.FeedNews, news)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()

	// Some that are told, some of which the telling is lost, some that are told twice and late.
	first := l.happen(ann, x, orchestrator.EventCreated)
	l.publish(x, first)
	w.awaitFeed(ann, 1)
	lost := l.happen(ann, x, orchestrator.EventStarted)
	third := l.happen(ann, x, orchestrator.EventStepStarted)
	l.publish(x, first, third) // the second is missing before it
	w.awaitFeed(ann, 3)
	l.publish(x, lost, third)
	of := l.happen(ben, y, orchestrator.EventCreated)
	l.publish(y, of)
	w.awaitFeed(ben, 1)
	for range 20 {
		l.happen(ann, z, orchestrator.EventStepCompleted) // nobody hears of them
	}
	events := w.awaitFeed(ann, 23)
	seqs := map[string]uint64{}
	for _, e := range events {
		var said struct {
			Subject string
			Data    struct{ Seq uint64 }
		}
		if err := json.Unmarshal(e.Body, &said); err != nil || said.Data.Seq != seqs[said.Subject]+1 {
			t.Errorf("the event %d of %s follows %d: %v", said.Data.Seq, said.Subject, seqs[said.Subject], err)
		}
		seqs[said.Subject] = said.Data.Seq
	}
	var said contract.FeedNews
	if err := json.Unmarshal((<-news).Data, &said); err != nil || said.Ends[ann] != 1 {
		t.Errorf("the first news are %+v, %v", said, err)
	}

	t.Run("read in parts", func(t *testing.T) {
		got := w.feed(ann, contract.FeedRequest{After: 2, Limit: 5})
		if len(got.Events) != 5 || got.Events[0].Cursor != 3 || got.Cursor != 7 || !got.More {
			t.Errorf("it gives %d from %d to %d", len(got.Events), got.Events[0].Cursor, got.Cursor)
		}
		got = w.feed(ann, contract.FeedRequest{After: 7})
		if len(got.Events) != 16 || got.Cursor != 23 || got.More {
			t.Errorf("it gives %d to %d, %t", len(got.Events), got.Cursor, got.More)
		}
	})
	t.Run("within what came at once", func(t *testing.T) {
		for after := range uint64(23) {
			got := w.feed(ann, contract.FeedRequest{After: after, Limit: 1})
			if len(got.Events) != 1 || got.Cursor != after+1 || got.More != (after < 22) || got.Skipped != 0 {
				t.Errorf("behind %d it gives %d to %d, %t, %d are skipped", after, len(got.Events), got.Cursor, got.More, got.Skipped)
			}
		}
	})
	t.Run("by type", func(t *testing.T) {
		got := w.feed(ann, contract.FeedRequest{Types: []string{orchestrator.EventStarted.String(), orchestrator.EventCreated.String()}})
		if len(got.Events) != 2 || got.Events[1].Cursor != 2 || got.Cursor != 23 {
			t.Errorf("it gives %+v", got)
		}
	})
	t.Run("from its end", func(t *testing.T) {
		if got := w.feed(ann, contract.FeedRequest{Latest: true}); len(got.Events) != 0 || got.Cursor != 23 || got.More {
			t.Errorf("it gives %+v", got)
		}
		if got := w.feed(ann, contract.FeedRequest{After: 99}); len(got.Events) != 0 || got.Cursor != 23 {
			t.Errorf("behind its end it gives %+v", got)
		}
		if got := w.feed(uuid.NewString(), contract.FeedRequest{Latest: true}); len(got.Events) != 0 || got.Cursor != 0 {
			t.Errorf("of somebody without events it gives %+v", got)
		}
	})
	t.Run("since", func(t *testing.T) {
		var said struct{ Time time.Time }
		if err := json.Unmarshal(events[3].Body, &said); err != nil {
			t.Fatal(err)
		}
		if got := w.feed(ann, contract.FeedRequest{Since: &said.Time}); len(got.Events) != 20 || got.Events[0].Cursor != 4 {
			t.Errorf("it gives %d", len(got.Events))
		}
		later := time.Now().Add(time.Hour)
		if got := w.feed(ann, contract.FeedRequest{Since: &later}); len(got.Events) != 0 || got.Cursor != 23 {
			t.Errorf("of the future it gives %+v", got)
		}
	})
	t.Run("some are not kept", func(t *testing.T) {
		if _, err := w.db.Exec(`DELETE FROM feed WHERE user_id = $1 AND seq <= 3`, ann); err != nil {
			t.Fatal(err)
		}
		if got := w.feed(ann, contract.FeedRequest{}); got.Skipped != 3 || got.Events[0].Cursor != 4 {
			t.Errorf("it skips %d", got.Skipped)
		}
		if _, err := w.db.Exec(`DELETE FROM feed WHERE user_id = $1`, ann); err != nil {
			t.Fatal(err)
		}
		if got := w.feed(ann, contract.FeedRequest{After: 3}); got.Skipped != 20 || got.Cursor != 23 || got.More || len(got.Events) != 0 {
			t.Errorf("of nothing that is kept it gives %+v", got)
		}
	})
	if _, err := bus.Call(context.Background(), w.conn, contract.ReadFeed, rpc.System("test"), contract.FeedRequest{}); errs.CodeOf(err) != errs.Unauthorized {
		t.Errorf("without a user: %v", err)
	}
}

// TestAnOddEventHoldsUpNobody has events that are nobody's, or none, among others.
func TestAnOddEventHoldsUpNobody(t *testing.T) {
	w := newWorld(t)
	l := newLedger(t, w.conn)
	ann, x := uuid.NewString(), newID()
	p := subject.PartitionOf(x)
	l.publish(x, l.happen(ann, x, orchestrator.EventCreated))
	for _, odd := range []string{`{"id":"x"}`, `[1]`, `{"id":"` + newID() + `","p":1,"n":"7","data":{"userId":"` + ann + `"}}`, `{"id":"` + newID() + `","n":"5","data":{"userId":"nobody"}}`} {
		l.mu.Lock()
		l.n[p]++
		l.kept[p] = append(l.kept[p], orchestrator.PartitionEvent{N: l.n[p], Body: json.RawMessage(odd)})
		l.mu.Unlock()
		l.publish(x, []byte(odd))
	}
	l.publish(x, l.happen(ann, x, orchestrator.EventStarted))
	l.publish(x, l.happen(ann, x, orchestrator.EventCompleted))
	w.awaitFeed(ann, 3)
}

// TestFeedsHaveOneTaker has two processes take events in, and the one that does so stop.
func TestFeedsHaveOneTaker(t *testing.T) {
	w := newWorld(t)
	l := newLedger(t, w.conn)
	second, stop := w.another()
	ann, x := uuid.NewString(), newID()
	for range 5 {
		l.publish(x, l.happen(ann, x, orchestrator.EventStepCompleted))
	}
	w.awaitFeed(ann, 5)
	w.stop() // whichever it was
	for range 5 {
		l.publish(x, l.happen(ann, x, orchestrator.EventStepCompleted))
	}
	second.awaitFeed(ann, 10)
	stop()
}
