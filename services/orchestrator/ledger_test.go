package orchestrator_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/event"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/postgres"
)

// db opens the ledger itself.
func (in *installation) db() *sqlx.DB {
	in.t.Helper()
	db, err := postgres.Open(in.database, contract.Service)
	if err != nil {
		in.t.Fatal(err)
	}
	in.t.Cleanup(func() { _ = db.Close() })
	return db
}

func (in *installation) exec(db *sqlx.DB, query string, args ...any) {
	in.t.Helper()
	if _, err := db.ExecContext(in.t.Context(), query, args...); err != nil {
		in.t.Fatalf("%s: %v", query, err)
	}
}

func scan[T any](in *installation, db *sqlx.DB, query string, args ...any) []T {
	in.t.Helper()
	var rows []T
	if err := db.SelectContext(in.t.Context(), &rows, query, args...); err != nil {
		in.t.Fatalf("%s: %v", query, err)
	}
	return rows
}

// eventually polls until ok holds.
func (in *installation) eventually(within time.Duration, what string, ok func() bool) {
	in.t.Helper()
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) {
			in.t.Fatalf("not in %v: %s", within, what)
		}
		wait(in.t.Context(), 10*time.Millisecond)
	}
}

// storedEvent is an event as the ledger has it.
type storedEvent struct {
	ExecutionID string
	P           int
	Seq         uint64
	N           uint64
	Type        string
	Body        []byte
}

// stored gives the events of the ledger by their partitions and numbers. What their rows say must be so.
func (in *installation) stored(db *sqlx.DB) []storedEvent {
	in.t.Helper()
	var all []storedEvent
	for _, r := range scan[struct {
		ExecutionID string `db:"execution_id"`
		P           int    `db:"p"`
		Seq         uint64 `db:"seq"`
		N           uint64 `db:"n"`
		Count       int    `db:"event_count"`
		Events      []byte `db:"events"`
	}](in, db, `SELECT execution_id, p, seq, n, event_count, events FROM execution_events`) {
		bodies, err := event.Split(r.Events)
		if err != nil || len(bodies) != r.Count {
			in.t.Errorf("the events of %s up to %d are %d and not %d, %v", r.ExecutionID, r.Seq, len(bodies), r.Count, err)
		}
		for i, body := range bodies {
			e := in.parse(body)
			e.ExecutionID, e.Seq = r.ExecutionID, r.Seq-uint64(len(bodies)-1-i)
			if e.P != r.P || e.N > r.N {
				in.t.Errorf("event %d of partition %d is with those of %d up to %d", e.N, e.P, r.P, r.N)
			}
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b storedEvent) int { return cmp.Or(cmp.Compare(a.P, b.P), cmp.Compare(a.N, b.N)) })
	return all
}

func (e storedEvent) data(in *installation) contract.ExecutionEvent {
	var body struct{ Data contract.ExecutionEvent }
	if err := json.Unmarshal(e.Body, &body); err != nil {
		in.t.Errorf("body of event %d of %s: %v", e.Seq, e.ExecutionID, err)
	}
	return body.Data
}

// checkLedger fails the test unless what is promised of every execution, after whatever
// happened, holds of those in the ledger.
func (in *installation) checkLedger(db *sqlx.DB) {
	in.t.Helper()
	for _, x := range scan[struct{ ID, Status string }](in, db, `SELECT id, status FROM executions WHERE completed_at IS NULL`) {
		in.t.Errorf("execution %s has not ended: %s", x.ID, x.Status)
	}
	if n := scan[int](in, db, `SELECT count(*) FROM steps s JOIN executions e ON e.id = s.execution_id WHERE s.status IN ('RUNNING', 'PENDING') AND e.completed_at IS NOT NULL`)[0]; n > 0 {
		in.t.Errorf("%d steps run in executions that have ended", n)
	}
	for _, x := range scan[string](in, db, `SELECT e.id FROM executions e WHERE e.event_seq <> (SELECT coalesce(sum(event_count), 0) FROM execution_events v WHERE v.execution_id = e.id)
		OR e.event_seq <> (SELECT max(seq) FROM execution_events v WHERE v.execution_id = e.id)`) {
		in.t.Errorf("the events of execution %s have a gap", x)
	}
	for _, p := range scan[int](in, db, `SELECT p FROM partitions t WHERE event_n <> (SELECT coalesce(sum(event_count), 0) FROM execution_events v WHERE v.p = t.p)
		OR event_n <> (SELECT coalesce(max(n), 0) FROM execution_events v WHERE v.p = t.p)`) {
		in.t.Errorf("the events of partition %d have a gap", p)
	}
	type once struct{ execution, key string }
	seen := map[once]bool{}
	last := map[int]uint64{}
	for _, e := range in.stored(db) {
		if e.N != last[e.P]+1 {
			in.t.Errorf("event %d of partition %d follows %d", e.N, e.P, last[e.P])
		}
		last[e.P] = e.N
		d := e.data(in)
		if d.ExecutionID != e.ExecutionID || d.Seq != e.Seq {
			in.t.Errorf("event %d of %s bears %d of %s", e.Seq, e.ExecutionID, d.Seq, d.ExecutionID)
		}
		key := ""
		switch e.Type {
		case contract.EventStepCompleted.String(), contract.EventStepFailed.String(), contract.EventStepSkipped.String(), contract.EventStepCancelled.String():
			key = "step " + d.StepKey
		case contract.EventCreated.String(), contract.EventStarted.String():
			key = e.Type
		case contract.EventCompleted.String(), contract.EventFailed.String(), contract.EventCancelled.String(), contract.EventTimedOut.String():
			key = "end"
		default:
			continue
		}
		if seen[once{e.ExecutionID, key}] {
			in.t.Errorf("execution %s tells twice of %s (%s)", e.ExecutionID, key, e.Type)
		}
		seen[once{e.ExecutionID, key}] = true
	}
}

// published reads the stream of public events and drops, as every consumer does, what has no
// higher number than the last of its partition. It fails the test at a gap unless gaps are allowed.
func (in *installation) published(gaps bool) map[int][]storedEvent {
	in.t.Helper()
	ctx, cancel := context.WithTimeout(in.t.Context(), 10*time.Second)
	defer cancel()
	out := map[int][]storedEvent{}
	stream, err := in.conn.JetStream().Stream(ctx, subject.EventsStream)
	if err != nil {
		in.t.Fatal(err)
	}
	left := stream.CachedInfo().State.Msgs
	if left == 0 {
		return out
	}
	consumer, err := in.conn.JetStream().OrderedConsumer(ctx, subject.EventsStream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		in.t.Fatal(err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		in.t.Fatal(err)
	}
	defer messages.Stop()
	for ; left > 0; left-- {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			in.t.Fatal(err)
		}
		events, err := event.Split(m.Data())
		if err != nil {
			in.t.Fatal(err)
		}
		for _, body := range events {
			e := in.parse(body)
			last := uint64(0)
			if seen := out[e.P]; len(seen) > 0 {
				last = seen[len(seen)-1].N
			}
			if e.N <= last {
				continue
			}
			if e.N != last+1 && !gaps {
				in.t.Errorf("partition %d: event %d follows %d", e.P, e.N, last)
			}
			out[e.P] = append(out[e.P], e)
		}
	}
	return out
}

// parse reads a public event.
func (in *installation) parse(body []byte) storedEvent {
	in.t.Helper()
	var e struct {
		Subject string
		Type    string
		P       int
		N       uint64 `json:",string"`
		Data    contract.ExecutionEvent
	}
	if err := json.Unmarshal(body, &e); err != nil {
		in.t.Fatal(err)
	}
	return storedEvent{ExecutionID: e.Subject, P: e.P, Seq: e.Data.Seq, N: e.N, Type: e.Type, Body: body}
}

// checkPublished fails the test unless the public stream tells what the ledger does, in its order.
func (in *installation) checkPublished(db *sqlx.DB) {
	in.t.Helper()
	want := map[int][]storedEvent{}
	total := 0
	for _, e := range in.stored(db) {
		want[e.P] = append(want[e.P], e)
		total++
	}
	in.eventually(60*time.Second, "the events are published", func() bool {
		var left int
		for _, seen := range in.published(false) {
			left += len(seen)
		}
		return left >= total
	})
	got := in.published(false)
	for p := range want {
		if len(got[p]) != len(want[p]) {
			in.t.Errorf("partition %d: %d events are published of %d", p, len(got[p]), len(want[p]))
			continue
		}
		for i, e := range want[p] {
			if g := got[p][i]; g.N != e.N || g.ExecutionID != e.ExecutionID || g.Type != e.Type || !bytes.Equal(g.Body, e.Body) {
				in.t.Errorf("partition %d: event %d is published as %s and stored as %s", p, e.N, g.Body, e.Body)
			}
		}
	}
}

// load submits executions until it is stopped, and remembers those that were accepted.
type load struct {
	in       *installation
	cancel   context.CancelFunc
	working  sync.WaitGroup
	mu       sync.Mutex
	accepted []string
	refused  []error
}

// submitting begins a load of a few submits at once.
func (in *installation) submitting(workflow string) *load {
	in.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{in: in, cancel: cancel}
	for range 3 {
		l.working.Go(func() {
			for ctx.Err() == nil {
				l.once(workflow)
				wait(ctx, 40*time.Millisecond)
			}
		})
	}
	in.t.Cleanup(func() { l.stop() })
	return l
}

func (l *load) once(workflow string) {
	ctx, cancel := context.WithTimeout(context.Background(), l.in.patience)
	defer cancel()
	resp, err := bus.Call(ctx, l.in.conn, contract.Submit, l.in.owner, contract.SubmitRequest{
		WorkflowID: workflow, Inputs: json.RawMessage(`{"n":1}`), TriggerType: contract.TriggerAPI,
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.refused = append(l.refused, err)
		return
	}
	l.accepted = append(l.accepted, resp.Execution.ID)
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted)
}

// grow waits until n more executions are accepted.
func (l *load) grow(n int) {
	l.in.t.Helper()
	goal := l.count() + n
	l.in.eventually(60*time.Second, "more executions are accepted", func() bool { return l.count() >= goal })
}

// stop ends the load and gives what was accepted.
func (l *load) stop() []string {
	l.cancel()
	l.working.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.accepted
}

// completed waits until all executions have ended, each COMPLETED.
func (in *installation) completed(db *sqlx.DB, ids []string, within time.Duration) {
	in.t.Helper()
	in.eventually(within, "every accepted execution ends", func() bool {
		return scan[int](in, db, `SELECT count(*) FROM executions WHERE completed_at IS NULL`)[0] == 0
	})
	status := map[string]string{}
	for _, x := range scan[struct{ ID, Status string }](in, db, `SELECT id, status FROM executions`) {
		status[x.ID] = x.Status
	}
	for _, id := range ids {
		if status[id] != contract.ExecutionCompleted {
			in.t.Errorf("the accepted execution %s is %q", id, status[id])
		}
	}
}

// counting wraps what plays the runner and counts what must not happen: a step that is run
// again although its result is in the log.
type counting struct {
	mu    sync.Mutex
	runs  map[string]int
	ended map[string]bool
	again int
}

func newCounting() *counting { return &counting{runs: map[string]int{}, ended: map[string]bool{}} }

func (c *counting) run(fn func(a attempt) (string, *runner.StepError)) func(a attempt) (string, *runner.StepError) {
	return func(a attempt) (string, *runner.StepError) {
		key := a.execution + "/" + a.step + "/" + a.number
		c.mu.Lock()
		c.runs[key]++
		if c.ended[key] {
			c.again++
		}
		c.mu.Unlock()
		output, failure := fn(a)
		if output != "" || failure != nil {
			c.mu.Lock()
			c.ended[key] = true
			c.mu.Unlock()
		}
		return output, failure
	}
}

// rerun gives how often a step was run again after its result.
func (c *counting) rerun() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.again
}

// slow answers like echo after a moment.
func (in *installation) slow(d time.Duration) func(a attempt) (string, *runner.StepError) {
	return func(a attempt) (string, *runner.StepError) {
		wait(in.t.Context(), d)
		return echo(a)
	}
}

func chain(n int) []catalog.Step {
	steps := make([]catalog.Step, n)
	for i := range steps {
		steps[i].StepKey = "s" + string(rune('a'+i))
		if i > 0 {
			steps[i].DependsOn = []string{steps[i-1].StepKey}
		}
	}
	return steps
}
