package orchestrator_test

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
)

// undone lets a step be undone by an agent that is told what to undo.
func undone(s catalog.Step) catalog.Step {
	s.Compensate = &catalog.Compensate{
		Inputs: json.RawMessage(`{"undo":"` + s.StepKey + `","made":"{{` + s.StepKey + `.output}}","of":"{{metadata.executionId}}"}`), RetryCount: 1, RetryDelayMs: 10, TimeoutMs: 60_000,
	}
	return s
}

// bookings runs steps, and remembers what was made and undone, in order.
type bookings struct {
	mu     sync.Mutex
	log    []string
	keys   map[string][]string // idempotency keys of what undoes, by step
	refuse map[string]bool     // steps that fail, and "undo x" for what undoes x
}

func newBookings(refuse ...string) *bookings {
	b := &bookings{keys: map[string][]string{}, refuse: map[string]bool{}}
	for _, r := range refuse {
		b.refuse[r] = true
	}
	return b
}

func (b *bookings) run(a attempt) (string, *runner.StepError) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var input struct {
		Undo, Of string
		Made     json.RawMessage
	}
	if err := json.Unmarshal(a.input, &input); err != nil {
		return "", &runner.StepError{Code: runner.CodeInternal, Message: err.Error()}
	}
	what := a.step
	if input.Undo != "" {
		what = "undo " + input.Undo
		b.keys[a.step] = append(b.keys[a.step], a.msg.Headers().Get(runner.HeaderIdempotencyKey))
	}
	if b.refuse[what] {
		return "", &runner.StepError{Code: runner.CodeError, Message: what + " is refused", Retryable: input.Undo != ""}
	}
	b.log = append(b.log, what)
	if input.Undo != "" {
		return string(a.input), nil
	}
	return `{"id":"` + a.step + ` of ` + a.execution + `"}`, nil
}

// allow lets what was refused be, and gives what has happened so far.
func (b *bookings) allow(what string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.refuse, what)
	return slices.Clone(b.log)
}

func (b *bookings) done() string { return strings.Join(b.allow(""), ", ") }

func trip(in *installation) string {
	return in.workflow(
		undone(catalog.Step{StepKey: "hotel"}), catalog.Step{StepKey: "look", DependsOn: []string{"hotel"}},
		undone(catalog.Step{StepKey: "flights", StepType: catalog.StepLoop, Config: json.RawMessage(`{"forEach":[1,2]}`), DependsOn: []string{"look"}}),
		catalog.Step{StepKey: "pay", DependsOn: []string{"flights"}}, catalog.Step{StepKey: "tell", DependsOn: []string{"pay"}},
	)
}

func TestCompensation(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	b := newBookings("pay", "undo hotel")
	in.play(b.run)

	first := in.await(in.submit(trip(in), `{"n":1}`).ID, "ended", terminal)
	if first.Status != contract.ExecutionFailed || first.CompensatedBy == nil || first.CompensationOf != nil {
		t.Fatalf("it is %s, compensated by %v", first.Status, first.CompensatedBy)
	}
	undo := in.await(*first.CompensatedBy, "ended", terminal)
	if undo.Status != contract.ExecutionFailed || undo.CompensationOf == nil || *undo.CompensationOf != first.ID || undo.UserID != first.UserID || undo.TriggerType != first.TriggerType {
		t.Fatalf("the compensation is %+v", undo)
	}
	if got := undo.Steps; len(got) != 2 || got[0].StepKey != "flights" || got[0].Status != contract.StepCompleted || got[1].Status != contract.StepFailed || got[1].Attempts != 2 {
		t.Errorf("its steps are %+v", got)
	}
	if got := string(undo.Steps[0].Input); !strings.Contains(got, `"made":[{"id":"flights of `+first.ID) || !strings.Contains(got, `"of":"`+first.ID) {
		t.Errorf("it was given %s", got)
	}
	if got := b.done(); got != "hotel, look, flights, flights, undo flights" {
		t.Errorf("done was %s", got)
	}
	if told := in.events(undo.ID); !strings.Contains(told[0].Type, "created") || !strings.Contains(told[len(told)-1].Type, "execution.failed") {
		t.Errorf("its events are %+v", told)
	}
	if summary := ask(in, contract.Explain, contract.IDRequest{ID: first.ID}).Summary; !strings.Contains(summary, undo.ID+", which undoes what it has done, is FAILED; see why, and retry that one.") {
		t.Errorf("explained by %s", summary)
	}
	for _, x := range ask(in, contract.ListExecution, contract.ListRequest{Page: rpc.Page{PageSize: 10}}).Items {
		by, of := x.CompensatedBy, x.CompensationOf
		if x.ID == first.ID && (of != nil || by == nil || *by != undo.ID) || x.ID == undo.ID && (by != nil || of == nil || *of != first.ID) {
			t.Errorf("listed as %+v", x)
		}
	}

	// Nothing goes on before what was done is undone, and that is tried again once at a time.
	refused(in, errs.Conflict, in.owner, contract.Retry, contract.RetryRequest{ID: first.ID})
	refused(in, errs.Conflict, in.owner, contract.Rerun, contract.RerunRequest{ID: first.ID, From: "tell"})
	refused(in, errs.Conflict, in.owner, contract.Rerun, contract.RerunRequest{ID: undo.ID, From: "flights"})
	b.allow("undo hotel")
	again := ask(in, contract.Retry, contract.RetryRequest{ID: undo.ID, IdempotencyKey: "k"}).Execution
	if replayed := ask(in, contract.Retry, contract.RetryRequest{ID: undo.ID, IdempotencyKey: "k"}); !replayed.Replayed || replayed.Execution.ID != again.ID {
		t.Errorf("with its key it is tried again as %+v", replayed)
	}
	refused(in, errs.Conflict, in.owner, contract.Retry, contract.RetryRequest{ID: undo.ID})
	refused(in, errs.Conflict, in.owner, contract.Rerun, contract.RerunRequest{ID: undo.ID, From: "hotel"})
	if x := in.await(again.ID, "ended", terminal); x.Status != contract.ExecutionCompleted || x.CompensationOf == nil || *x.CompensationOf != first.ID || *x.RetryOf != undo.ID || *x.Steps[0].ReusedFrom != undo.ID {
		t.Errorf("tried again it is %+v", x)
	}
	if by := in.get(first.ID).CompensatedBy; by == nil || *by != again.ID {
		t.Errorf("it is compensated by %v", by)
	}
	if keys := b.keys["hotel"]; len(keys) != 3 || keys[0] != keys[1] || keys[1] != keys[2] || keys[0] == b.keys["flights"][0] {
		t.Errorf("the idempotency keys are %v", b.keys)
	}

	// A retry makes anew what was undone, and all that depends on it.
	b.allow("pay")
	third := in.await(ask(in, contract.Retry, contract.RetryRequest{ID: first.ID}).Execution.ID, "ended", terminal)
	if third.Status != contract.ExecutionCompleted || third.CompensatedBy != nil || third.CompensationOf != nil {
		t.Errorf("the retry is %s, compensated by %v", third.Status, third.CompensatedBy)
	}
	for _, s := range third.Steps {
		if s.ReusedFrom != nil {
			t.Errorf("it has reused %s", s.StepKey)
		}
	}
	if got := b.done(); got != "hotel, look, flights, flights, undo flights, undo hotel, hotel, look, flights, flights, pay, tell" {
		t.Errorf("done was %s", got)
	}

	// What another execution has made, and keeps, is not undone.
	b.mu.Lock()
	b.refuse["pay"] = true
	b.mu.Unlock()
	fourth := in.await(ask(in, contract.Rerun, contract.RerunRequest{ID: third.ID, From: "flights"}).Execution.ID, "ended", terminal)
	if fourth.Status != contract.ExecutionFailed || *fourth.Steps[0].ReusedFrom != third.ID || fourth.CompensatedBy == nil {
		t.Fatalf("the rerun is %+v", fourth)
	}
	if x := in.await(*fourth.CompensatedBy, "ended", terminal); x.Status != contract.ExecutionCompleted || len(x.Steps) != 1 || x.Steps[0].StepKey != "flights" {
		t.Errorf("its compensation is %+v", x)
	}
	fifth := ask(in, contract.Retry, contract.RetryRequest{ID: fourth.ID}).Execution
	if got := fifth.Steps; got[0].ReusedFrom == nil || *got[0].ReusedFrom != third.ID || got[1].ReusedFrom == nil || got[2].ReusedFrom != nil {
		t.Errorf("its retry has %+v", got)
	}
	fifth = in.await(fifth.ID, "ended", terminal)
	if x := in.await(*fifth.CompensatedBy, "ended", terminal); len(x.Steps) != 1 {
		t.Errorf("the compensation of its retry is %+v", x)
	}
	in.checkLedger(db)
	in.checkPublished(db)
}

// A cancel ends an execution at once; what it has done is undone after that, and a bulk of cancels leaves that alone.
func TestCompensationOfACancelled(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	release := make(chan struct{})
	in.play(func(a attempt) (string, *runner.StepError) {
		if strings.Contains(string(a.input), "undo") {
			select {
			case <-release:
			case <-t.Context().Done():
			}
		}
		return echo(a)
	})
	workflow := in.workflow(undone(catalog.Step{StepKey: "a"}), catalog.Step{StepKey: "held", StepType: catalog.StepWait, DependsOn: []string{"a"}, Config: json.RawMessage(`{"signal":"never"}`)})
	x := in.submit(workflow, `{}`)
	in.await(x.ID, "held", func(x contract.Execution) bool { return x.Steps[1].Status == contract.StepRunning })
	if err := in.cancelAs(in.owner, x.ID); err != nil {
		t.Fatal(err)
	}
	x = in.await(x.ID, "ended", terminal)
	if x.Status != contract.ExecutionCancelled || x.CompensatedBy == nil {
		t.Fatalf("it is %s, compensated by %v", x.Status, x.CompensatedBy)
	}
	refused(in, errs.Conflict, in.owner, contract.Retry, contract.RetryRequest{ID: x.ID})
	if bulk := ask(in, contract.Bulk, contract.BulkRequest{Action: contract.BulkCancel, Filter: contract.ListRequest{WorkflowID: workflow}}); bulk.Matched != 0 {
		t.Errorf("a bulk cancels %+v", bulk)
	}
	close(release)
	if undo := in.await(*x.CompensatedBy, "ended", terminal); undo.Status != contract.ExecutionCompleted {
		t.Errorf("its compensation is %s with %+v", undo.Status, undo.Error)
	}
	in.checkLedger(db)
}

// TestCompensationOverKills kills orchestrators while executions fail and are undone: each is undone once, in reverse.
func TestCompensationOverKills(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.play(func(a attempt) (string, *runner.StepError) {
		if a.step == "fails" {
			return "", &runner.StepError{Code: runner.CodeError, Message: "boom"}
		}
		return echo(a)
	})
	workflow := in.workflow(undone(catalog.Step{StepKey: "a"}), undone(catalog.Step{StepKey: "b", DependsOn: []string{"a"}}), catalog.Step{StepKey: "fails", DependsOn: []string{"b"}})
	p := in.spawn()
	in.awaitShares(db, 60*time.Second, subject.Partitions)
	load := in.submitting(workflow)
	for range 3 {
		load.grow(10)
		p.kill()
		p = in.spawn()
	}
	load.stop()
	in.eventually(90*time.Second, "all has ended", func() bool {
		return scan[int](in, db, `SELECT count(*) FROM executions WHERE completed_at IS NULL`)[0] == 0
	})
	failed := scan[int](in, db, `SELECT count(*) FROM executions WHERE status = 'FAILED' AND compensation_of IS NULL`)[0]
	undone := scan[int](in, db, `SELECT count(DISTINCT compensation_of) FROM executions WHERE status = 'COMPLETED' AND compensation_of IS NOT NULL`)[0]
	if all := scan[int](in, db, `SELECT count(*) FROM executions`)[0]; failed != undone || all != failed+undone || failed < 30 {
		t.Errorf("of %d executions %d have failed and %d are undone", all, failed, undone)
	}
	if n := scan[int](in, db, `SELECT count(*) FROM executions x JOIN steps b ON b.execution_id = x.id AND b.step_index = 0 JOIN steps a ON a.execution_id = x.id AND a.step_index = 1
		WHERE x.compensation_of IS NOT NULL AND convert_from(b.output, 'UTF8') LIKE '%"undo":"b"%' AND convert_from(a.output, 'UTF8') LIKE '%"undo":"a"%' AND a.started_at >= b.completed_at`)[0]; n != failed {
		t.Errorf("%d of %d are undone in reverse", n, failed)
	}
	in.checkLedger(db)
	in.checkPublished(db)
}
