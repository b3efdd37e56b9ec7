package verify

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/subject"
	"turbocat.io/migrations"
	"turbocat.io/pkg/bus/bustest"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/pgtest"
)

// Two executions: done has ended after a step, a LOOP of two and a child; waits runs and waits for an approval and for an hour.
// By their ids they are too young to have been deleted by any retention.
const (
	done   = "01f00000-0000-7000-8000-000000000001"
	child  = "01f00000-0000-7000-8000-000000000002"
	waits  = "01f00000-0000-7000-8000-000000000003"
	queued = "01f00000-0000-7000-8000-000000000004"
	user   = "01f00000-0000-7000-8000-00000000000a"
)

// world is a ledger and a NATS server that agree.
type world struct {
	t   *testing.T
	url string
	db  *sqlx.DB
	o   Options
	n   map[int]uint64 // events by partition

	before uint64 // events of each that retention has dropped
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, url: pgtest.URL(t, map[string]fs.FS{orchestrator.Service: migrations.Of(orchestrator.Service)}), n: map[int]uint64{}}
	var err error
	if w.db, err = postgres.Open(w.url, orchestrator.Service); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.db.Close() })
	natsURL := bustest.Server(t)
	w.o = Options{DatabaseURL: w.url, NATSURL: natsURL}
	js := bustest.Connect(t, natsURL).JetStream()
	for stream, subjects := range map[string]string{subject.ExecutionInputStream: "exec.in.>", subject.StepsStream: "step.>", subject.EventsStream: "evt.>"} {
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: stream, Subjects: []string{subjects}}); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		if _, err := js.Publish(t.Context(), "exec.in.0.ctl", nil); err != nil {
			t.Fatal(err)
		}
	}
	w.fill()
	return w
}

func (w *world) exec(query string, args ...any) {
	w.t.Helper()
	if _, err := w.db.ExecContext(w.t.Context(), query, args...); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
}

// fill makes everything as it should be.
func (w *world) fill() {
	w.t.Helper()
	clear(w.n)
	w.exec(`TRUNCATE executions, steps, execution_events, commands, definitions, dead_letters, instances, concurrency_groups, concurrency_slots, calls, spending`)
	w.exec(`INSERT INTO instances (id, seen_at, engine_version) VALUES ('o', clock_timestamp() + interval '1 hour', 1)`)
	day := time.Now().Add(-24 * time.Hour).UTC().Truncate(time.Microsecond)
	w.execution(done, "", day, orchestrator.ExecutionCompleted, []catalog.Step{
		{StepKey: "first", StepType: catalog.StepAgent},
		{StepKey: "each", StepType: catalog.StepLoop, DependsOn: []string{"first"}},
		{StepKey: "kid", StepType: catalog.StepAgent, DependsOn: []string{"first"}},
	})
	w.execution(child, done, day, orchestrator.ExecutionCompleted, []catalog.Step{{StepKey: "only", StepType: catalog.StepAgent, Compensate: &catalog.Compensate{AgentID: user}}})
	w.exec(`INSERT INTO calls (execution_id, id, step_index, iteration, attempt, token, run, n, user_id, workflow_id, agent_id, kind, name, provider, status, input,
			input_tokens, output_tokens, cost_micros, reserved_tokens, reserved_micros, started_at, expires_at, ended_at)
		SELECT $1, gen_random_uuid(), 0, 0, 1, 't', 'r', n, $2, $2, $2, 'MODEL', 'm', 'p', 'RUNNING', 'null', n, n, n, 10, 20, now(), now(), CASE n WHEN 1 THEN now() END FROM generate_series(0, 1) n`, done, user)
	w.exec(`INSERT INTO spending (scope, key, day, execution_id, reserved_tokens, reserved_micros, spent_tokens, spent_micros)
		SELECT scope, key, day, id, 10, 20, 2, 1 FROM (VALUES ('execution', $1::text, '-infinity'::date, $1::uuid), ('step', $1::text || '/first/0', '-infinity', $1::uuid),
			('user', $2, (now() AT TIME ZONE 'UTC')::date, NULL), ('agent', $2, (now() AT TIME ZONE 'UTC')::date, NULL), ('workflow', $2, (now() AT TIME ZONE 'UTC')::date, NULL)) v(scope, key, day, id)`, done, user)
	w.execution(waits, "", time.Now().UTC().Truncate(time.Microsecond), orchestrator.ExecutionRunning, []catalog.Step{
		{StepKey: "agree", StepType: catalog.StepWait, Config: json.RawMessage(`{"approval":true}`)},
		{StepKey: "after", StepType: catalog.StepAgent, DependsOn: []string{"agree"}},
	})
	w.exec(`UPDATE steps SET output = '[1,2]' WHERE execution_id = $1 AND step_index = 1`, done)
	w.exec(`UPDATE steps SET child_id = $2 WHERE execution_id = $1 AND step_index = 2`, done, child)
	w.exec(`UPDATE executions SET outputs = '1' WHERE id = $1`, child)
	for i := 1; i <= 2; i++ {
		w.exec(`INSERT INTO steps (execution_id, step_index, iteration, p, status, attempt, token, dispatch, sent, output) VALUES ($1, 1, $2, $3, 'COMPLETED', 1, '', 1, 3, '1')`,
			done, i, subject.PartitionOf(done))
	}
	w.exec(`INSERT INTO commands (id, execution_id, p, kind, user_id, applied_at, name, kept) VALUES ($1, $2, $3, 'signal', $4, now(), 'other', 7)`,
		uuid.NewString(), waits, subject.PartitionOf(waits), user)
	w.exec(`UPDATE partitions SET owner = 'o', lease_until = clock_timestamp() + interval '1 hour', input_seq = 5, event_n = 0, published_n = 0`)
	for p, n := range w.n {
		w.exec(`UPDATE partitions SET event_n = $2, published_n = $2 WHERE p = $1`, p, n)
	}
}

// execution makes one whose steps have completed, or the first of which has begun.
func (w *world) execution(id, parent string, at time.Time, status string, steps []catalog.Step) {
	w.t.Helper()
	body, err := json.Marshal(catalog.Definition{TimeoutMs: 3_600_000, Steps: steps})
	if err != nil {
		w.t.Fatal(err)
	}
	w.exec(`INSERT INTO definitions (hash, body) VALUES ($1, $2)`, []byte(id), body)
	seq := uint64(0)
	var bodies [][]byte
	commit := func() {
		p := subject.PartitionOf(id)
		w.exec(`INSERT INTO execution_events (execution_id, seq, p, n, event_count, events) VALUES ($1, $2, $3, $4, $5, $6)`, id, seq, p, w.n[p], len(bodies), event.AppendBatch(nil, bodies...))
		bodies = nil
	}
	tell := func(kind event.Type[orchestrator.ExecutionEvent], data orchestrator.ExecutionEvent) {
		seq++
		p := subject.PartitionOf(id)
		if w.n[p]++; w.n[p] == 1 {
			w.n[p] += w.before
		}
		data.ExecutionID, data.Seq = id, seq
		body, err := kind.Encode(event.Meta{ID: fmt.Sprint(id, seq), Source: "orchestrator", Subject: id, Time: at, Partition: p, Number: w.n[p]}, data)
		if err != nil {
			w.t.Fatal(err)
		}
		bodies = append(bodies, body)
		if seq%4 == 1 { // the first alone, then four in a commit
			commit()
		}
	}
	step := func(i int, kind event.Type[orchestrator.ExecutionEvent], status string) {
		tell(kind, orchestrator.ExecutionEvent{Status: status, StepKey: steps[i].StepKey, Attempt: 1})
	}
	tell(orchestrator.EventCreated, orchestrator.ExecutionEvent{Status: "PENDING"})
	tell(orchestrator.EventStarted, orchestrator.ExecutionEvent{Status: "RUNNING"})
	completed, percent := 0, 0
	var ended *time.Time
	if status == orchestrator.ExecutionRunning {
		step(0, orchestrator.EventStepStarted, "RUNNING")
		step(0, orchestrator.EventStepWaitStarted, "RUNNING")
		w.exec(`INSERT INTO steps (execution_id, step_index, p, status, attempt, token, dispatch, sent, started_at) VALUES ($1, 0, $2, 'RUNNING', 1, '', 0, 0, $3)`, id, subject.PartitionOf(id), at)
	} else {
		for i := range steps {
			step(i, orchestrator.EventStepStarted, "RUNNING")
			step(i, orchestrator.EventStepCompleted, "COMPLETED")
			w.exec(`INSERT INTO steps (execution_id, step_index, p, status, attempt, token, dispatch, sent, output, started_at, completed_at) VALUES ($1, $2, $3, 'COMPLETED', 1, '', 1, 4, '1', $4, $4)`,
				id, i, subject.PartitionOf(id), at)
		}
		tell(orchestrator.EventCompleted, orchestrator.ExecutionEvent{Status: status})
		completed, percent, ended = len(steps), 100, &at
	}
	if len(bodies) > 0 {
		commit()
	}
	var of *string
	if parent != "" {
		of = &parent
	}
	w.exec(`INSERT INTO executions (id, p, workflow_id, workflow_version, workflow_owner, user_id, definition, engine_version, status, trigger_type, priority, inputs, request_id, traceparent,
			steps_total, steps_completed, percent, event_seq, created_at, started_at, completed_at, parent_execution_id)
		VALUES ($1, $2, $3, 1, $3, $3, $4, 1, $5, 'API', 5, '{}', '', '', $6, $7, $8, $9, $10, $10, $11, $12)`,
		id, subject.PartitionOf(id), user, []byte(id), status, len(steps), completed, percent, seq, at, ended, of)
}

// rewrite replaces the row that has an event of an execution: change is given the events of it, and which of them that is.
func (w *world) rewrite(id string, seq uint64, change func(events []json.RawMessage, i int)) {
	w.t.Helper()
	var row struct {
		Seq    uint64
		Count  uint64 `db:"event_count"`
		Events []byte
	}
	if err := w.db.GetContext(w.t.Context(), &row, `SELECT seq, event_count, events FROM execution_events WHERE execution_id = $1 AND seq >= $2 ORDER BY seq LIMIT 1`, id, seq); err != nil {
		w.t.Fatal(err)
	}
	events, err := event.Split(row.Events)
	if err != nil {
		w.t.Fatal(err)
	}
	change(events, int(seq-(row.Seq-row.Count)-1))
	var bodies [][]byte
	for _, e := range events {
		if e != nil {
			bodies = append(bodies, e)
		}
	}
	w.exec(`UPDATE execution_events SET events = $3 WHERE execution_id = $1 AND seq = $2`, id, row.Seq, event.AppendBatch(nil, bodies...))
}

// replace replaces something in an event.
func (w *world) replace(id string, seq uint64, before, after string) {
	w.t.Helper()
	w.rewrite(id, seq, func(events []json.RawMessage, i int) {
		changed := strings.Replace(string(events[i]), before, after, 1)
		if changed == string(events[i]) {
			w.t.Fatalf("%s has no %s", events[i], before)
		}
		events[i] = json.RawMessage(changed)
	})
}

// childFailed has the step that was the child fail with a code.
func (w *world) childFailed(code string) {
	w.t.Helper()
	w.exec(`UPDATE steps SET status = 'FAILED', error = convert_to('{"code":"' || $2 || '"}', 'UTF8') WHERE execution_id = $1 AND step_index = 2`, done, code)
}

// queue has a third execution wait behind a limit, of which the second has the slot.
func (w *world) queue() {
	w.t.Helper()
	w.execution(queued, "", time.Now().UTC().Truncate(time.Microsecond), orchestrator.ExecutionRunning, []catalog.Step{{StepKey: "only", StepType: catalog.StepAgent}})
	w.exec(`DELETE FROM steps WHERE execution_id = $1`, queued)
	w.exec(`DELETE FROM execution_events WHERE execution_id = $1 AND seq > 1`, queued)
	w.exec(`UPDATE partitions SET (event_n, published_n) = (SELECT max(n), max(n) FROM execution_events WHERE p = $1) WHERE p = $1`, subject.PartitionOf(queued))
	w.exec(`UPDATE executions SET status = 'PENDING', started_at = NULL, event_seq = 1, created_at = clock_timestamp() - interval '1 hour' WHERE id = $1`, queued)
	w.exec(`UPDATE executions SET limited = true WHERE id IN ($1, $2)`, queued, waits)
	w.exec(`INSERT INTO concurrency_groups (workflow_id, key, max, version, held, last_n) VALUES ($1, 'k', 1, 1, 1, 2)`, user)
	for n, id := range []string{waits, queued} {
		w.exec(`INSERT INTO concurrency_slots (execution_id, workflow_id, key, state, priority, n, evicts) VALUES ($1, $2, 'k', $3, 5, $4, false)`,
			id, user, []string{"HELD", "WAITING"}[n], n+1)
	}
}

func (w *world) run(change func(o *Options)) Report {
	w.t.Helper()
	o := w.o
	if change != nil {
		change(&o)
	}
	report, err := Run(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return report
}

func TestAgrees(t *testing.T) {
	w := newWorld(t)
	told := 0
	r := w.run(func(o *Options) { o.Patience, o.Progress = time.Minute, func(Report) { told++ } })
	if r.Found > 0 || r.Executions != 3 || r.Unfinished != 1 || r.Steps != 7 || r.Events != 18 || told == 0 {
		t.Errorf("found %+v, told %d times", r, told)
	}
	if r = w.run(func(o *Options) {
		o.Patience, o.Since, o.NATSURL = time.Minute, time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC), ""
	}); r.Found > 0 || r.Executions != 1 {
		t.Errorf("since later than those that have ended %+v", r)
	}
	if r = w.run(func(o *Options) { o.Quiet = true }); !slices.ContainsFunc(r.Violations, says("the execution "+waits+" is RUNNING")) {
		t.Errorf("though one runs, quiet is %+v", r)
	}
	w.exec(`UPDATE executions SET outputs = '{"x":@00ff.200000}' WHERE id = $1`, child)
	if r = w.run(nil); r.Found > 0 {
		t.Errorf("with a reference to a payload %+v", r)
	}
	w.exec(`INSERT INTO dead_letters (p, seq, subject, headers, body, reason) VALUES (1, 1, 's', '', '', 'why')`)
	if r = w.run(nil); r.Found > 0 || len(r.DeadLetters) != 1 || r.DeadLetters[0].Reason != "why" {
		t.Errorf("with a dead letter %+v", r)
	}
}

// TestWhatWaitsBehindALimitIsNoFault has one that is PENDING for an hour, and a detached child that runs on.
func TestWhatWaitsBehindALimitIsNoFault(t *testing.T) {
	w := newWorld(t)
	w.queue()
	w.exec(`UPDATE executions SET parent_execution_id = $2, parent_token = 't', detached = true WHERE id = $1`, waits, done)
	w.exec(`UPDATE steps SET child_id = $2 WHERE execution_id = $1 AND step_index = 2`, done, waits)
	if r := w.run(nil); r.Found > 0 {
		t.Errorf("found %v", r.Violations)
	}
}

// TestReplays has an execution that replays another: its step has no execution, but the result of the other's.
func TestReplays(t *testing.T) {
	w := newWorld(t)
	steps := []catalog.Step{{StepKey: "first", StepType: catalog.StepAgent}}
	w.execution(queued, "", time.Now().UTC().Truncate(time.Microsecond), orchestrator.ExecutionCompleted, steps)
	w.exec(`UPDATE partitions SET (event_n, published_n) = (SELECT max(n), max(n) FROM execution_events WHERE p = $1) WHERE p = $1`, subject.PartitionOf(queued))
	body, err := json.Marshal(catalog.Definition{TimeoutMs: 3_600_000, Steps: steps, Recording: &catalog.Recording{ExecutionID: done}})
	if err != nil {
		t.Fatal(err)
	}
	w.exec(`UPDATE definitions SET body = $2 WHERE hash = $1`, []byte(queued), body)
	w.exec(`UPDATE steps SET child_id = gen_random_uuid() WHERE execution_id = $1`, queued)
	if r := w.run(nil); r.Found > 0 {
		t.Errorf("found %v", r.Violations)
	}
	for _, c := range []struct{ change, says string }{
		{`UPDATE steps SET output = '2' WHERE execution_id = $1`, "has another output than in the execution " + done},
		{`UPDATE steps SET step_index = 9 WHERE execution_id = $1`, "has recorded, which has none"},
	} {
		w.exec(c.change, queued)
		if r := w.run(nil); !slices.ContainsFunc(r.Violations, says(c.says)) {
			t.Errorf("after %s found %v", c.change, r.Violations)
		}
	}
}

func says(what string) func(v violation) bool {
	return func(v violation) bool { return strings.Contains(v.What, what) }
}

func TestEachFaultIsFound(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		says    string
		corrupt func()
	}{
		"events gone": {"event 2 of " + done + " is event 6", func() { w.exec(`DELETE FROM execution_events WHERE execution_id = $1 AND seq = 5`, done) }},
		"event gone":  {"the 3 events of " + done + " up to event 5 count as 4, and follow event 1", func() { w.rewrite(done, 3, func(events []json.RawMessage, i int) { events[i] = nil }) }},
		"events counted": {"the 4 events of " + done + " up to event 5 count as 5", func() {
			w.exec(`UPDATE execution_events SET event_count = 5 WHERE execution_id = $1 AND seq = 5`, done)
		}},
		"events miscounted": {"of the ledger follows", func() {
			w.exec(`UPDATE execution_events SET event_count = 3 WHERE execution_id = $1 AND seq = 5`, done)
		}},
		"events swapped":     {"event 2 of " + done + " (", func() { w.rewrite(done, 2, func(events []json.RawMessage, _ int) { slices.Reverse(events) }) }},
		"number gone":        {"of the ledger follows", func() { w.exec(`UPDATE execution_events SET n = n + 1000 WHERE execution_id = $1 AND seq = 9`, done) }},
		"number of another":  {"says that it is event 3 of " + done + " (number 999", func() { w.replace(done, 3, `"n":"3"`, `"n":"999"`) }},
		"number again":       {"says that it is event 3 of " + done + " (number 2", func() { w.replace(done, 3, `"n":"3"`, `"n":"2"`) }},
		"partition of one":   {"says that it is event 3 of " + done + " (number 3 of the partition 99)", func() { w.replace(done, 3, fmt.Sprintf(`"p":%d`, subject.PartitionOf(done)), `"p":99`) }},
		"events uncounted":   {"beyond those it counts", func() { w.exec(`UPDATE partitions SET event_n = event_n - 1, published_n = 0 WHERE event_n > 0`) }},
		"events overcounted": {"and the last in the ledger is", func() { w.exec(`UPDATE partitions SET event_n = event_n + 1 WHERE p = 0`) }},
		"illegal event":      {"step_started.v1 of the attempt 2", func() { w.replace(done, 3, `"attempt":1`, `"attempt":2`) }},
		"event of another":   {"says that it is event", func() { w.replace(done, 3, `"seq":3`, `"seq":4`) }},
		"event no event": {"an event does not decode", func() {
			w.rewrite(done, 3, func(events []json.RawMessage, i int) { events[i] = json.RawMessage(`"x"`) })
		}},
		"events no JSON": {"the events of " + done + " up to event 5 do not decode", func() {
			w.exec(`UPDATE execution_events SET events = substring(events FROM 2) WHERE execution_id = $1 AND seq = 5`, done)
		}},
		"event count":     {"counts 8 events, and the last is 9", func() { w.exec(`UPDATE executions SET event_seq = 8 WHERE id = $1`, done) }},
		"status":          {"and the execution is FAILED", func() { w.exec(`UPDATE executions SET status = 'FAILED' WHERE id = $1`, done) }},
		"reopened":        {"is COMPLETED and has ended at <nil>", func() { w.exec(`UPDATE executions SET completed_at = NULL WHERE id = $1`, done) }},
		"step unended":    {"the step first of " + done + " is RUNNING, and the execution is COMPLETED", func() { w.exec(`UPDATE steps SET status = 'RUNNING' WHERE execution_id = $1 AND step_index = 0`, done) }},
		"step gone":       {"the step first of " + done + " is PENDING", func() { w.exec(`DELETE FROM steps WHERE execution_id = $1 AND step_index = 0`, done) }},
		"step beyond":     {"has a step 9", func() { w.exec(`UPDATE steps SET step_index = 9 WHERE execution_id = $1 AND step_index = 0`, done) }},
		"attempts":        {"the step first of " + done + " is COMPLETED after 2 attempts", func() { w.exec(`UPDATE steps SET attempt = 2 WHERE execution_id = $1 AND step_index = 0`, done) }},
		"counter":         {"the progress of " + done, func() { w.exec(`UPDATE executions SET steps_completed = 2 WHERE id = $1`, done) }},
		"percent":         {"the progress of " + waits, func() { w.exec(`UPDATE executions SET percent = 50 WHERE id = $1`, waits) }},
		"partition of it": {"and belongs to", func() { w.exec(`UPDATE executions SET p = (p + 1) % 32 WHERE id = $1`, done) }},
		"no definition":   {"the definition of the execution " + done, func() { w.exec(`DELETE FROM definitions WHERE hash = $1`, []byte(done)) }},
		"item gone":       {"of the step each of " + done + " 1 items have begun, and the last is 2", func() { w.exec(`DELETE FROM steps WHERE execution_id = $1 AND iteration = 1`, done) }},
		"item unended":    {"1 items of the step each of " + done + " have not ended", func() { w.exec(`UPDATE steps SET status = 'RUNNING' WHERE execution_id = $1 AND iteration = 1`, done) }},
		"gathered": {"its output has 1", func() {
			w.exec(`UPDATE steps SET output = '[1]' WHERE execution_id = $1 AND step_index = 1 AND iteration = 0`, done)
		}},
		"kept signal": {"waits for the signal agree, which is kept", func() { w.exec(`UPDATE commands SET name = 'agree'`) }},
		"stuck":       {"is RUNNING, and none of its steps is", func() { w.exec(`UPDATE steps SET status = 'FAILED' WHERE execution_id = $1`, waits) }},
		"timer": {"a timer of the step " + waits + "/0/0", func() {
			w.exec(`UPDATE steps SET wake_at = clock_timestamp() - interval '1 hour' WHERE execution_id = $1`, waits)
		}},
		"beyond its time": {"and its timeout is 1h0m0s", func() {
			w.exec(`UPDATE executions SET started_at = clock_timestamp() - interval '2 hours' WHERE id = $1`, waits)
		}},
		"pending": {"is PENDING since", func() {
			w.exec(`UPDATE executions SET status = 'PENDING', created_at = clock_timestamp() - interval '1 hour' WHERE id = $1`, waits)
		}},
		"command": {"is not applied, since", func() {
			w.exec(`UPDATE commands SET applied_at = NULL, created_at = clock_timestamp() - interval '1 hour'`)
		}},
		"stop": {"is stopped, since", func() {
			w.exec(`UPDATE steps SET status = 'CANCELLED' WHERE execution_id = $1 AND step_index = 0`, done)
		}},
		"unsent": {"(attempt 1), ready since", func() {
			w.exec(`UPDATE steps SET token = 't', started_at = clock_timestamp() - interval '1 hour' WHERE execution_id = $1`, waits)
		}},
		"child gone": {"waits since", func() {
			w.exec(`UPDATE steps SET child_id = $2, started_at = clock_timestamp() - interval '1 hour' WHERE execution_id = $1`, waits, user)
		}},
		"child ended":   {"waits for an execution that has ended", func() { w.exec(`UPDATE steps SET child_id = $2 WHERE execution_id = $1`, waits, child) }},
		"child runs on": {child + " runs on, nobody waits for it any more", func() { w.exec(`UPDATE executions SET completed_at = NULL, parent_token = 't' WHERE id = $1`, child) }},
		"child of an old attempt": {waits + " runs on, nobody waits for it any more", func() {
			w.exec(`UPDATE executions SET parent_execution_id = $2, parent_token = 't' WHERE id = $1`, waits, done)
		}},
		"child of another": {"/2/0 is the execution " + child + ", which is of another", func() { w.exec(`UPDATE executions SET parent_execution_id = $2 WHERE id = $1`, child, waits) }},
		"child not there": {"/2/0 has the result of the execution " + user, func() {
			w.exec(`UPDATE steps SET child_id = $2 WHERE execution_id = $1 AND step_index = 2`, done, user)
		}},
		"child failed":         {"/2/0 is COMPLETED, and the execution " + child + ", which it waited for, is FAILED", func() { w.exec(`UPDATE executions SET status = 'FAILED' WHERE id = $1`, child) }},
		"child gives another":  {"/2/0 has another output than the execution " + child, func() { w.exec(`UPDATE executions SET outputs = '2' WHERE id = $1`, child) }},
		"child did not fail":   {"/2/0 failed with CHILD_TIMEOUT", func() { w.childFailed("CHILD_TIMEOUT") }},
		"not undone":           {child + " is FAILED with 1 steps that are to be undone, and 0 executions undo it", func() { w.exec(`UPDATE executions SET status = 'FAILED' WHERE id = $1`, child) }},
		"undone without cause": {child + " is COMPLETED with 0 steps that are to be undone, and 1 executions undo it", func() { w.exec(`UPDATE executions SET compensation_of = $2 WHERE id = $1`, done, child) }},
		"undone twice":         {"and 2 executions undo it", func() { w.exec(`UPDATE executions SET compensation_of = $2 WHERE id IN ($1, $3)`, done, child, waits) }},
		"undone too much": {"with 1 steps that are to be undone, and what undoes it has 3", func() {
			w.exec(`UPDATE executions SET status = 'FAILED' WHERE id = $1`, child)
			w.exec(`UPDATE executions SET compensation_of = $2 WHERE id = $1`, done, child)
		}},
		"no parent":          {"is of a step of an execution that is not there", func() { w.exec(`UPDATE executions SET parent_execution_id = $2 WHERE id = $1`, waits, user) }},
		"steps of nobody":    {"steps of the execution " + user, func() { w.exec(`UPDATE steps SET execution_id = $1 WHERE execution_id = $2`, user, child) }},
		"events of nobody":   {"events of the execution " + user, func() { w.exec(`UPDATE execution_events SET execution_id = $1 WHERE execution_id = $2`, user, child) }},
		"commands of nobody": {"commands of the execution " + user, func() { w.exec(`UPDATE commands SET execution_id = $1`, user) }},
		"nobody has one":     {"nobody has the partition 3", func() { w.exec(`UPDATE partitions SET lease_until = '-infinity' WHERE p = 3`) }},
		"a dead owner":       {`the partition 3 is leased to "dead"`, func() { w.exec(`UPDATE partitions SET owner = 'dead' WHERE p = 3`) }},
		"ahead of the log":   {"EXECUTION_INPUT ends with 5", func() { w.exec(`UPDATE partitions SET input_seq = 6 WHERE p = 3`) }},
		"published too many": {"has published 1 events and has 0", func() {
			w.exec(`UPDATE partitions SET published_n = 1, event_n = 0 WHERE p = (SELECT min(p) FROM partitions WHERE event_n = 0)`)
		}},
		"a free slot":         {"wait for a slot that is free", func() { w.queue(); w.exec(`UPDATE concurrency_groups SET max = 2`) }},
		"slots miscounted":    {"counts 2 slots that are held, and 1 are", func() { w.queue(); w.exec(`UPDATE concurrency_groups SET held = 2`) }},
		"slots uncounted":     {"counts 0 slots that are held, and 1 are", func() { w.queue(); w.exec(`DELETE FROM concurrency_groups`) }},
		"an empty group":      {"counts 1 slots that are held, and 0 are", func() { w.queue(); w.exec(`DELETE FROM concurrency_slots`) }},
		"a slot of an end":    {done + " has ended, and has a place", func() { w.queue(); w.exec(`UPDATE concurrency_slots SET execution_id = $1 WHERE state = 'HELD'`, done) }},
		"a slot of nobody":    {user + " has a place under a limit, and is not there", func() { w.queue(); w.exec(`UPDATE concurrency_slots SET execution_id = $1 WHERE state = 'HELD'`, user) }},
		"no place":            {queued + " has a limit and no place", func() { w.queue(); w.exec(`DELETE FROM concurrency_slots WHERE state = 'WAITING'`) }},
		"granted, not told":   {queued + " is PENDING since", func() { w.queue(); w.exec(`UPDATE concurrency_slots SET state = 'HELD'`) }},
		"spent miscounted":    {"by the user " + user + " is not what", func() { w.exec(`UPDATE spending SET spent_micros = 0 WHERE scope = 'user'`) }},
		"spent uncounted":     {"by the execution " + done + " is not what", func() { w.exec(`DELETE FROM spending WHERE scope = 'execution'`) }},
		"settled twice":       {"by the agent " + user + " is not what", func() { w.exec(`UPDATE spending SET reserved_tokens = 0 WHERE scope = 'agent'`) }},
		"a call gone":         {"by the workflow " + user + " is not what", func() { w.exec(`DELETE FROM calls WHERE n = 1`) }},
		"a step miscounted":   {"by the steps of the execution " + done + " is not what", func() { w.exec(`UPDATE spending SET spent_tokens = 3 WHERE scope = 'step'`) }},
		"published too few":   {"is not published, since", func() { w.exec(`UPDATE partitions SET published_n = 0`) }},
		"child of its own id": {"the execution " + child, func() { w.exec(`UPDATE executions SET event_seq = 1 WHERE id = $1`, child) }},
	} {
		w.fill()
		c.corrupt()
		if r := w.run(nil); !slices.ContainsFunc(r.Violations, says(c.says)) {
			t.Errorf("%s: nothing says %q in %v", name, c.says, r.Violations)
		}
	}
}

// TestCommitsOfSeveralExecutions has two executions share commits, so that their numbers take turns.
func TestCommitsOfSeveralExecutions(t *testing.T) {
	w := newWorld(t)
	other := uuid.Must(uuid.NewV7()).String()
	for subject.PartitionOf(other) != subject.PartitionOf(done) {
		other = uuid.Must(uuid.NewV7()).String()
	}
	p := subject.PartitionOf(done)
	share := func() {
		w.fill()
		w.execution(other, "", time.Now().UTC().Truncate(time.Microsecond), orchestrator.ExecutionRunning, []catalog.Step{{StepKey: "only", StepType: catalog.StepWait, Config: json.RawMessage(`{"approval":true}`)}})
		w.exec(`UPDATE partitions SET event_n = $2, published_n = $2 WHERE p = $1`, p, w.n[p])
		// The last of both, of done the events 6 to 9 and 2 to 4 of the other, were committed at once.
		last := w.n[p]
		w.exec(`UPDATE execution_events SET n = $2 WHERE p = $1 AND n > $3`, p, last, last-8)
		numbers := []uint64{last - 7, last - 5, last - 4, last - 1}
		for i, n := range numbers {
			w.replace(done, uint64(i+6), `"n":"`, fmt.Sprintf(`"n":"%d","was":"`, n))
		}
		w.replace(other, 1, `"n":"`, fmt.Sprintf(`"n":"%d","was":"`, last-6))
		for i, n := range []uint64{last - 3, last - 2, last} {
			w.replace(other, uint64(i+2), `"n":"`, fmt.Sprintf(`"n":"%d","was":"`, n))
		}
	}
	share()
	if r := w.run(nil); r.Found > 0 || r.Executions != 4 {
		t.Errorf("found %v in %d executions", r.Violations, r.Executions)
	}
	w.replace(other, 3, fmt.Sprintf(`"n":"%d"`, w.n[p]-2), fmt.Sprintf(`"n":"%d"`, w.n[p]-1))
	if r := w.run(nil); !slices.ContainsFunc(r.Violations, says("is not the only one with the number")) {
		t.Errorf("of two events with a number, found %v", r.Violations)
	}
	share()
	w.exec(`UPDATE partitions SET published_n = $2 WHERE p = $1`, p, w.n[p]-5)
	if r := w.run(func(o *Options) { o.Patience = 0 }); !slices.ContainsFunc(r.Violations, says(fmt.Sprintf("event %d of the partition %d is not published", w.n[p]-4, p))) {
		t.Errorf("of an event in the middle of a commit, found %v", r.Violations)
	}
}

// TestManyAreReadInPages checks that nothing is left out between pages, and that the report is bounded.
func TestManyAreReadInPages(t *testing.T) {
	w := newWorld(t)
	w.exec(`INSERT INTO executions (id, p, workflow_id, workflow_version, workflow_owner, user_id, definition, engine_version, status, trigger_type, priority, inputs, request_id, traceparent, steps_total, created_at, completed_at)
		SELECT ('0195' || lpad(to_hex(i), 4, '0') || '-0000-7000-8000-000000000000')::uuid, 0, $1, 1, $1, $1, 'none', 1, 'FAILED', 'API', 5, '{}', '', '', 0, now(), now() FROM generate_series(1, 1100) i`, user)
	r := w.run(nil)
	if r.Executions != 1103 || len(r.Violations) != MaxViolations || r.Found < 1100 {
		t.Errorf("%d executions, %d of %d violations", r.Executions, len(r.Violations), r.Found)
	}
}

// TestWhatMendsItselfIsNoFault checks that the patience waits for it.
func TestWhatMendsItselfIsNoFault(t *testing.T) {
	w := newWorld(t)
	w.exec(`UPDATE partitions SET lease_until = '-infinity' WHERE p = 3`)
	mended := false
	r := w.run(func(o *Options) {
		o.Patience = time.Minute
		o.Progress = func(Report) {
			if !mended {
				mended = true
				w.exec(`UPDATE partitions SET lease_until = clock_timestamp() + interval '1 hour'`)
			}
		}
	})
	if r.Found > 0 || !mended {
		t.Errorf("found %v", r.Violations)
	}
}

// TestWhatRetentionDroppedIsNoFault has an installation that has kept executions for the least time.
func TestWhatRetentionDroppedIsNoFault(t *testing.T) {
	const old = "01900000-0000-7000-8000-000000000001"
	w := newWorld(t)
	// Other executions had the first numbers of their partitions, and their week is gone; the rows of another are in a week that is not.
	w.before = 7
	w.fill()
	w.exec(`INSERT INTO steps (execution_id, step_index, p, status, attempt, token, dispatch, sent) VALUES ($1, 0, 3, 'COMPLETED', 1, '', 1, 0)`, old)
	if r := w.run(nil); r.Found == 0 || !slices.ContainsFunc(r.Violations, says("event 8 of the ledger follows 0")) {
		t.Errorf("before any week is dropped, found %v", r.Violations)
	}
	w.exec(`DROP TABLE execution_events_before`)
	if r := w.run(nil); r.Found > 0 {
		t.Errorf("found %v", r.Violations)
	}
}
