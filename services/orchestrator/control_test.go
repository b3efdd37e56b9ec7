package orchestrator_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
)

// ask calls a method that has to succeed.
func ask[Req, Resp any](in *installation, m rpc.Method[Req, Resp], req Req) Resp {
	in.t.Helper()
	resp, err := bus.Call(in.t.Context(), in.conn, m, in.owner, req)
	if err != nil {
		in.t.Fatalf("%s: %v", m.Name, err)
	}
	return resp
}

// refused calls a method that has to fail with a code.
func refused[Req, Resp any](in *installation, want errs.Code, caller rpc.Caller, m rpc.Method[Req, Resp], req Req) {
	in.t.Helper()
	if _, err := bus.Call(in.t.Context(), in.conn, m, caller, req); errs.CodeOf(err) != want {
		in.t.Errorf("%s: %v, want %s", m.Name, err, want)
	}
}

// stepOf gives a step of an execution.
func stepOf(x contract.Execution, key string) contract.StepState {
	for _, s := range x.Steps {
		if s.StepKey == key {
			return s
		}
	}
	return contract.StepState{}
}

func is(key, status string) func(contract.Execution) bool {
	return func(x contract.Execution) bool { return stepOf(x, key).Status == status }
}

func waitsFor(key, reason string) func(contract.Execution) bool {
	return func(x contract.Execution) bool { w := stepOf(x, key).WaitingFor; return w != nil && w.Reason == reason }
}

// waitStep is a WAIT.
func waitStep(key, config string, dependsOn ...string) catalog.Step {
	return catalog.Step{StepKey: key, StepType: catalog.StepWait, Config: json.RawMessage(config), DependsOn: dependsOn}
}

// gate holds runners back until it is opened.
func gate(in *installation, held ...string) (open func()) {
	closed := make(chan struct{})
	in.play(func(a attempt) (string, *runner.StepError) {
		if slices.Contains(held, a.step) {
			select {
			case <-closed:
			case <-in.t.Context().Done():
				return "", nil
			}
		}
		return echo(a)
	})
	return sync.OnceFunc(func() { close(closed) })
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	open := gate(in, "a")
	x := in.submit(in.workflow(catalog.Step{StepKey: "a"}, catalog.Step{StepKey: "b", DependsOn: []string{"a"}}), `{}`)
	id := contract.IDRequest{ID: x.ID}
	in.await(x.ID, "at work", is("a", contract.StepRunning))
	for range 2 {
		if command := ask(in, contract.Pause, id); command.CommandID == "" {
			t.Error("no command id")
		}
	}
	in.await(x.ID, "paused", func(x contract.Execution) bool { return x.Status == contract.ExecutionPaused })
	open()
	in.await(x.ID, "done with a", is("a", contract.StepCompleted))
	explained := ask(in, contract.Explain, id)
	if len(explained.Steps) != 1 || explained.Steps[0].StepKey != "b" || explained.Steps[0].Reason != "PAUSED" || explained.Status != contract.ExecutionPaused {
		t.Errorf("explained as %+v", explained)
	}
	in.eventually(60*time.Second, "both commands are applied", func() bool {
		return scan[int](in, db, `SELECT count(*) FROM commands WHERE applied_at IS NOT NULL`)[0] == 2
	})
	if b := stepOf(in.get(x.ID), "b"); b.Status != contract.StepPending {
		t.Errorf("b is %s", b.Status)
	}
	stranger := rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleUser}
	refused(in, errs.NotFound, stranger, contract.Pause, id)
	refused(in, errs.NotFound, stranger, contract.Resume, id)
	refused(in, errs.NotFound, stranger, contract.Explain, id)
	for range 2 {
		if _, err := bus.Call(t.Context(), in.conn, contract.Resume, in.owner, id); err != nil && errs.CodeOf(err) != errs.Conflict {
			t.Fatal(err)
		}
	}
	if x = in.await(x.ID, "ended", terminal); x.Status != contract.ExecutionCompleted {
		t.Errorf("it ended %s", x.Status)
	}
	refused(in, errs.Conflict, in.owner, contract.Pause, id)
	refused(in, errs.Conflict, in.owner, contract.Resume, id)
	var told []string
	for _, e := range in.events(x.ID) {
		if kind := strings.TrimSuffix(strings.TrimPrefix(e.Type, "io.turbocat.execution."), ".v1"); !strings.HasPrefix(kind, "step_") {
			told = append(told, kind)
		}
	}
	if want := []string{"created", "started", "paused", "resumed", "completed"}; !slices.Equal(told, want) {
		t.Errorf("told %v", told)
	}
	in.checkLedger(db)
	in.checkPublished(db)
}

// TestSignalsAreKept wants signals to be there, in their order, for steps that wait for them after an orchestrator was killed.
func TestSignalsAreKept(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	p := in.spawn()
	in.awaitShares(db, 60*time.Second, subject.Partitions)
	open := gate(in, "a")
	x := in.submit(in.workflow(catalog.Step{StepKey: "a"}, waitStep("first", `{"signal":"paid"}`, "a"), waitStep("second", `{"signal":"paid"}`, "first"), waitStep("third", `{"signal":"other"}`, "a")), `{}`)
	in.await(x.ID, "at work", is("a", contract.StepRunning))
	send := func(name, payload, key string) (string, error) {
		resp, err := bus.Call(t.Context(), in.conn, contract.SendSignal, in.owner, contract.SignalRequest{ID: x.ID, Name: name, Payload: json.RawMessage(payload), IdempotencyKey: key})
		return resp.CommandID, err
	}
	sent := func(name, payload, key string) string {
		t.Helper()
		id, err := send(name, payload, key)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	large := `"` + strings.Repeat("x", 1<<20-2) + `"`
	first := sent("paid", `1`, "k1")
	sent("paid", large, "")
	if again := sent("paid", ` 1 `, "k1"); again != first {
		t.Errorf("the key gives %s and %s", first, again)
	}
	for _, c := range []struct {
		name, payload, key string
		want               errs.Code
	}{
		{"paid", `2`, "k1", errs.Conflict},
		{"unheard", `1`, "", errs.NotFound},
		{"paid", `"` + strings.Repeat("x", 1<<20) + `"`, "", errs.PayloadTooLarge},
	} {
		if _, err := send(c.name, c.payload, c.key); errs.CodeOf(err) != c.want {
			t.Errorf("%s %.10s %s: %v", c.name, c.payload, c.key, err)
		}
	}
	refused(in, errs.NotFound, rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleUser}, contract.SendSignal, contract.SignalRequest{ID: x.ID, Name: "paid"})
	for range contract.MaxSignals - 2 {
		sent("other", `3`, "")
	}
	if _, err := send("other", `4`, ""); errs.CodeOf(err) != errs.RateLimited {
		t.Errorf("the %d-th: %v", contract.MaxSignals+1, err)
	}
	p.kill()
	in.spawn()
	in.awaitShares(db, 60*time.Second, subject.Partitions)
	open()
	x = in.await(x.ID, "ended", terminal)
	for key, want := range map[string]string{"first": `1`, "second": large, "third": `3`} {
		var got, wanted any
		if s := stepOf(x, key); s.Status != contract.StepCompleted || json.Unmarshal(s.Output, &got) != nil || json.Unmarshal([]byte(want), &wanted) != nil || got != wanted {
			t.Errorf("%s is %s with %.80s", key, s.Status, s.Output)
		}
	}
	if _, err := send("other", `5`, ""); errs.CodeOf(err) != errs.Conflict {
		t.Errorf("after the end: %v", err)
	}
	in.checkLedger(db)
	in.checkPublished(db)
}

func TestApprovals(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.start()
	in.play(echo)
	workflow := in.workflow(waitStep("ok", `{"approval":true}`), catalog.Step{StepKey: "after", DependsOn: []string{"ok"}, Inputs: json.RawMessage(`{"by":"{{ok.output.by}}"}`)})
	yes, no := true, false

	given := in.submit(workflow, `{}`)
	waiting := stepOf(in.await(given.ID, "waiting", is("ok", contract.StepRunning)), "ok")
	if w := waiting.WaitingFor; w == nil || w.Reason != "SIGNAL" || w.Until == nil || string(waiting.Input) != "null" {
		t.Errorf("waits for %+v", w)
	}
	refused(in, errs.Validation, in.owner, contract.SendSignal, contract.SignalRequest{ID: given.ID, Name: "ok"})
	var all sync.WaitGroup
	taken := make(chan string, 8)
	for range cap(taken) {
		all.Go(func() {
			resp, err := bus.Call(t.Context(), in.conn, contract.SendSignal, in.owner, contract.SignalRequest{ID: given.ID, Name: "ok", Approve: &yes, Comment: "fine", Payload: json.RawMessage(`[1]`)})
			if err == nil {
				taken <- resp.CommandID
			} else if errs.CodeOf(err) != errs.Conflict {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(taken) != 1 {
		t.Errorf("%d decisions are taken", len(taken))
	}
	given = in.await(given.ID, "ended", terminal)
	var approval catalog.Approval
	if err := json.Unmarshal(stepOf(given, "ok").Output, &approval); err != nil || !approval.Approved || approval.By != in.owner.UserID || approval.Comment != "fine" || string(approval.Payload) != "[1]" {
		t.Errorf("%+v, %v", approval, err)
	}
	if after := stepOf(given, "after"); !strings.Contains(string(after.Output), in.owner.UserID) {
		t.Errorf("after it comes %s", after.Output)
	}

	denied := in.submit(workflow, `{}`)
	ask(in, contract.SendSignal, contract.SignalRequest{ID: denied.ID, Name: "ok", Approve: &no, Comment: "too much"})
	refused(in, errs.Conflict, in.owner, contract.SendSignal, contract.SignalRequest{ID: denied.ID, Name: "ok", Approve: &yes})
	denied = in.await(denied.ID, "ended", terminal)
	if denied.Status != contract.ExecutionFailed || denied.Error.Code != runner.CodeRejected || !strings.Contains(denied.Error.Message, "too much") {
		t.Errorf("it ended %s with %+v", denied.Status, denied.Error)
	}
	explained := ask(in, contract.Explain, contract.IDRequest{ID: denied.ID})
	if !strings.Contains(explained.Summary, runner.CodeRejected) || explained.Steps[0].Reason != "FAILED" || explained.Steps[0].Remedy == "" {
		t.Errorf("explained as %+v", explained)
	}
	// Asked again, somebody may say yes.
	again := ask(in, contract.Retry, contract.RetryRequest{ID: denied.ID}).Execution
	ask(in, contract.SendSignal, contract.SignalRequest{ID: again.ID, Name: "ok", Approve: &yes})
	if again = in.await(again.ID, "ended", terminal); again.Status != contract.ExecutionCompleted {
		t.Errorf("it ended %s", again.Status)
	}
	// Run again from what follows, nobody is asked.
	rerun := ask(in, contract.Rerun, contract.RerunRequest{ID: again.ID, From: "after"}).Execution
	refused(in, errs.Conflict, in.owner, contract.SendSignal, contract.SignalRequest{ID: rerun.ID, Name: "ok", Approve: &yes})
	if rerun = in.await(rerun.ID, "ended", terminal); rerun.Status != contract.ExecutionCompleted || stepOf(rerun, "ok").ReusedFrom == nil {
		t.Errorf("it ended %s", rerun.Status)
	}
}

// TestRetryAndRerun counts what runs.
func TestRetryAndRerun(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	var mu sync.Mutex
	runs := map[string]string{} // by execution: the steps that ran
	broken := map[string]bool{"b": true, "c": true}
	in.play(func(a attempt) (string, *runner.StepError) {
		mu.Lock()
		defer mu.Unlock()
		runs[a.execution] += a.step
		if broken[a.step] {
			return "", &runner.StepError{Code: runner.CodeError, Message: "boom"}
		}
		return echo(a)
	})
	repair := func(key string) {
		mu.Lock()
		defer mu.Unlock()
		delete(broken, key)
	}
	ran := func(id string) string {
		mu.Lock()
		defer mu.Unlock()
		return runs[id]
	}
	workflow := in.define(
		catalog.Definition{TimeoutMs: 600_000, InputSchema: json.RawMessage(`{"type":"object","properties":{"n":{"type":"integer"}}}`)},
		catalog.Step{StepKey: "a", Inputs: json.RawMessage(`{"n":"{{inputs.n}}"}`)},
		catalog.Step{StepKey: "b", DependsOn: []string{"a"}, Inputs: json.RawMessage(`{"a":"{{a.output}}"}`)},
		catalog.Step{StepKey: "c", DependsOn: []string{"b"}},
	)
	first := in.submit(workflow, `{"n":1}`)
	refused(in, errs.Conflict, in.owner, contract.Rerun, contract.RerunRequest{ID: first.ID, From: "a"})
	in.await(first.ID, "ended", terminal)
	in.mu.Lock()
	delete(in.workflows, workflow) // it is not asked for again
	in.mu.Unlock()

	repair("b")
	accepted := ask(in, contract.Retry, contract.RetryRequest{ID: first.ID, IdempotencyKey: "k"})
	second := accepted.Execution
	if second.RetryOf == nil || *second.RetryOf != first.ID || second.TriggerType != contract.TriggerAPI || string(second.Inputs) != `{"n":1}` || second.Progress.Completed != 1 || accepted.Replayed {
		t.Errorf("accepted as %+v", second)
	}
	if replayed := ask(in, contract.Retry, contract.RetryRequest{ID: first.ID, IdempotencyKey: "k"}); !replayed.Replayed || replayed.Execution.ID != second.ID {
		t.Errorf("repeated it is %s", replayed.Execution.ID)
	}
	second = in.await(second.ID, "ended", terminal)
	if s := stepOf(second, "a"); second.Status != contract.ExecutionFailed || ran(second.ID) != "bc" || s.ReusedFrom == nil || *s.ReusedFrom != first.ID || s.Status != contract.StepCompleted {
		t.Errorf("%s after %s, a is %+v", second.Status, ran(second.ID), s)
	}
	refused(in, errs.Conflict, in.owner, contract.Retry, contract.RetryRequest{ID: second.ID, IdempotencyKey: "k"})

	repair("c")
	third := ask(in, contract.Retry, contract.RetryRequest{ID: second.ID}).Execution
	third = in.await(third.ID, "ended", terminal)
	a, b := stepOf(third, "a"), stepOf(third, "b")
	if third.Status != contract.ExecutionCompleted || ran(third.ID) != "c" || a.ReusedFrom == nil || *a.ReusedFrom != first.ID || b.ReusedFrom == nil || *b.ReusedFrom != second.ID {
		t.Errorf("%s after %s, a is %+v, b is %+v", third.Status, ran(third.ID), a, b)
	}
	refused(in, errs.Conflict, in.owner, contract.Retry, contract.RetryRequest{ID: third.ID})
	refused(in, errs.NotFound, rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleUser}, contract.Retry, contract.RetryRequest{ID: second.ID})

	rerun := ask(in, contract.Rerun, contract.RerunRequest{ID: third.ID, From: "b", Outputs: map[string]json.RawMessage{"a": json.RawMessage(`{"edited":true}`)}}).Execution
	rerun = in.await(rerun.ID, "ended", terminal)
	if ran(rerun.ID) != "bc" || string(stepOf(rerun, "a").Output) != `{"edited":true}` || string(stepOf(rerun, "b").Input) != `{"a":{"edited":true}}` {
		t.Errorf("%s after %s: %+v", rerun.Status, ran(rerun.ID), rerun.Steps)
	}
	whole := ask(in, contract.Rerun, contract.RerunRequest{ID: third.ID, From: "a", Inputs: json.RawMessage(`{"n":2}`)}).Execution
	whole = in.await(whole.ID, "ended", terminal)
	if ran(whole.ID) != "abc" || string(stepOf(whole, "a").Input) != `{"n":2}` {
		t.Errorf("%s after %s: %+v", whole.Status, ran(whole.ID), whole.Steps)
	}
	last := ask(in, contract.Rerun, contract.RerunRequest{ID: third.ID, From: "c", Outputs: map[string]json.RawMessage{"b": json.RawMessage(`1`)}}).Execution
	if last = in.await(last.ID, "ended", terminal); ran(last.ID) != "c" {
		t.Errorf("%s after %s", last.Status, ran(last.ID))
	}
	refused(in, errs.Validation, in.owner, contract.Rerun, contract.RerunRequest{ID: third.ID, From: "b", Inputs: json.RawMessage(`{"n":"two"}`)})
	refused(in, errs.Validation, in.owner, contract.Rerun, contract.RerunRequest{ID: third.ID, From: "b", Outputs: map[string]json.RawMessage{"c": json.RawMessage(`1`)}})
	in.checkLedger(db)
	in.checkPublished(db)
}

func TestBulk(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start() // no runner
	waiting, other := in.workflow(waitStep("w", `{"signal":"go"}`)), in.workflow(waitStep("w", `{"signal":"go"}`))
	bulk := func(action string, filter contract.ListRequest) contract.BulkResponse {
		t.Helper()
		return ask(in, contract.Bulk, contract.BulkRequest{Action: action, Filter: filter})
	}
	var ids []string
	for range 25 {
		ids = append(ids, in.submit(waiting, `{}`).ID)
	}
	spared := in.submit(other, `{}`).ID
	if got := bulk(contract.BulkCancel, contract.ListRequest{WorkflowID: waiting, Page: rpc.Page{PageSize: 3}}); got.Matched != 25 || got.Done != 25 || len(got.Failed) != 0 {
		t.Errorf("cancelled %+v", got)
	}
	for _, id := range ids {
		in.await(id, "cancelled", cancelled)
	}
	if got := bulk(contract.BulkCancel, contract.ListRequest{WorkflowID: waiting}); got.Matched != 0 || got.Done != 0 {
		t.Errorf("cancelled again %+v", got)
	}
	if x := in.get(spared); terminal(x) {
		t.Errorf("another is %s", x.Status)
	}
	// A client that does not wait for the answer asks again. Each is retried once, whichever of the bulks is first.
	const atOnce = 4
	answers := make([]contract.BulkResponse, atOnce)
	var asking sync.WaitGroup
	for i := range answers {
		asking.Go(func() {
			var err error
			retry := contract.BulkRequest{Action: contract.BulkRetry, Filter: contract.ListRequest{WorkflowID: waiting, Status: contract.ExecutionCancelled}}
			if answers[i], err = bus.Call(context.Background(), in.conn, contract.Bulk, in.owner, retry); err != nil {
				t.Error(err)
			}
		})
	}
	asking.Wait()
	retried := 0
	for _, got := range answers {
		retried += got.Done
	}
	if retried != 25 {
		t.Errorf("retried %d: %+v", retried, answers)
	}
	if got := bulk(contract.BulkRetry, contract.ListRequest{WorkflowID: waiting}); got.Matched != 0 || got.Done != 0 {
		t.Errorf("retried again %+v", got)
	}
	if n := scan[int](in, db, `SELECT count(DISTINCT retry_of) FROM executions`)[0]; n != 25 {
		t.Errorf("%d were retried", n)
	}
	if n := scan[int](in, db, `SELECT count(retry_of) FROM executions`)[0]; n != 25 {
		t.Errorf("%d are retries", n)
	}
	stranger := rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleUser}
	if got, err := bus.Call(t.Context(), in.conn, contract.Bulk, stranger, contract.BulkRequest{Action: contract.BulkCancel}); err != nil || got.Matched != 0 {
		t.Errorf("a stranger reaches %+v, %v", got, err)
	}
	refused(in, errs.Validation, in.owner, contract.Bulk, contract.BulkRequest{Action: "DELETE"})
	refused(in, errs.Validation, in.owner, contract.Bulk, contract.BulkRequest{Action: contract.BulkCancel, Filter: contract.ListRequest{Status: "DONE"}})
	refused(in, errs.Unauthorized, rpc.System("r"), contract.Bulk, contract.BulkRequest{Action: contract.BulkCancel})
	if got := bulk(contract.BulkCancel, contract.ListRequest{}); got.Matched != 26 || got.Done != 26 {
		t.Errorf("cancelled all %+v", got)
	}
	in.eventually(60*time.Second, "all have ended", func() bool {
		return scan[int](in, db, `SELECT count(*) FROM executions WHERE completed_at IS NULL`)[0] == 0
	})
	in.checkLedger(db)
	in.checkPublished(db)
}
