package engine_test

import (
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

// stages brings one workflow into every status that an execution can have.
var stages = map[string]struct {
	reach func(f *flow)
	state string
}{
	"PENDING": {func(*flow) {}, "PENDING: a PENDING, b PENDING, c PENDING, d PENDING"},
	"RUNNING": {func(f *flow) { begin(f) }, "RUNNING: a RUNNING, b RUNNING, c PENDING, d PENDING"},
	"RUNNING with a result, a started attempt and a backoff": {func(f *flow) {
		begin(f)
		f.completed("a", `1`)
		f.started("c")
		f.failed("b", retryable)
	}, "RUNNING: a COMPLETED, b RUNNING, c RUNNING, d PENDING"},
	"COMPLETED": {func(f *flow) {
		begin(f)
		for _, key := range []string{"a", "b", "c", "d"} {
			f.completed(key, `1`)
		}
	}, "COMPLETED: a COMPLETED, b COMPLETED, c COMPLETED, d COMPLETED"},
	"FAILED":    {func(f *flow) { begin(f); f.failed("a", final) }, "FAILED: a FAILED, b CANCELLED, c SKIPPED, d SKIPPED"},
	"CANCELLED": {func(f *flow) { begin(f); f.cancel() }, "CANCELLED: a CANCELLED, b CANCELLED, c CANCELLED, d CANCELLED"},
	"TIMEOUT":   {func(f *flow) { begin(f); f.due() }, "TIMEOUT: a CANCELLED, b CANCELLED, c CANCELLED, d CANCELLED"},
}

func begin(f *flow) { f.apply(engine.Input{Kind: engine.Submitted}) }

func atStage(t *testing.T, name string) *flow {
	t.Helper()
	f := accept(t, workflow(step("a", nil), step("b", nil, retry(2, 1000)), step("c", on("a")), step("d", on("b", "c"))))
	stages[name].reach(f)
	f.expect(stages[name].state)
	return f
}

func TestCancelInEveryStatus(t *testing.T) {
	for name, after := range map[string]string{
		"PENDING": "CANCELLED: a CANCELLED, b CANCELLED, c CANCELLED, d CANCELLED",
		"RUNNING": "CANCELLED: a CANCELLED, b CANCELLED, c CANCELLED, d CANCELLED",
		"RUNNING with a result, a started attempt and a backoff": "CANCELLED: a COMPLETED, b CANCELLED, c CANCELLED, d CANCELLED",
	} {
		t.Run(name, func(t *testing.T) {
			f := atStage(t, name)
			var with []engine.Stop
			for i := range f.x.Steps {
				if s := &f.x.Steps[i]; s.AwaitsResult() {
					with = append(with, engine.Stop{Place: engine.Place{Step: i}, Token: s.Token})
				}
			}
			f.cancel()
			f.expect(after)
			if len(f.last.Stop) != len(with) {
				t.Fatalf("stopped %+v, want %+v", f.last.Stop, with)
			}
			for i, want := range with {
				// The token stays, so that the attempt can be stopped after a restart as well.
				if f.last.Stop[i] != want || f.x.Steps[want.Step].Token != want.Token {
					t.Fatalf("stopped %+v, want %+v", f.last.Stop[i], want)
				}
			}
			if f.x.Error != nil || f.x.OutputsByKey() != nil {
				t.Fatalf("error %v, outputs %s", f.x.Error, f.x.OutputsByKey())
			}
			names := eventNames(f.events)
			if names[0] != "created" || names[len(names)-1] != "cancelled" {
				t.Fatalf("events %v", names)
			}
			begin(f) // the message of an accepted execution may come after its cancel
			f.expectNothing()
		})
	}
}

func TestCancelOfAPendingExecutionNeverStarts(t *testing.T) {
	f := atStage(t, "PENDING")
	f.cancel()
	f.expectEvents("created", "step_cancelled a", "step_cancelled b", "step_cancelled c", "step_cancelled d", "cancelled")
	end := f.events[5].Data
	if f.x.StartedAt != 0 || f.x.CompletedAt != start || end.DurationMs != nil || end.Status != orchestrator.ExecutionCancelled {
		t.Fatalf("started %d, completed %d, %+v", f.x.StartedAt, f.x.CompletedAt, end)
	}
}

// Whatever comes after the end changes nothing.
func TestTerminalExecutionsIgnoreEverything(t *testing.T) {
	for _, name := range []string{"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"} {
		t.Run(name, func(t *testing.T) {
			f := atStage(t, name)
			late := f.now.Add(24 * 3_600_000)
			tokens := map[string]bool{"": true}
			for _, in := range f.log {
				tokens[in.Token] = true
			}
			for i := range f.x.Steps {
				tokens[f.x.Steps[i].Token] = true
			}
			for kind := range kindNames {
				for _, key := range []string{"a", "b", "c", "d", "x", ""} {
					for token := range tokens {
						for _, dispatch := range []int{0, 1, 2} {
							f.apply(engine.Input{Kind: kind, Time: late, Step: key, Token: token, Dispatch: dispatch, Output: []byte(`9`), Err: &retryable})
							f.expectNothing()
						}
					}
				}
			}
			if out := engine.Fault(f.x, late, "late", keys); !out.None() || f.x.LastInput >= late {
				t.Fatalf("Fault changed an execution that has ended: %+v", out)
			}
			f.expect(stages[name].state)
		})
	}
}

// What is not begun is begun by Submitted alone.
func TestAPendingExecutionWaitsForItsSubmit(t *testing.T) {
	f := atStage(t, "PENDING")
	for _, kind := range []engine.Kind{0, 99, engine.StepStarted, engine.StepCompleted, engine.StepFailed, engine.StepLost, engine.TimerDue} {
		f.apply(engine.Input{Kind: kind, Time: start.Add(24 * 3_600_000), Step: "a", Output: []byte(`1`), Err: &retryable})
		f.expectNothing()
	}
	if f.x.NextDue() != 0 {
		t.Fatalf("next due %d", f.x.NextDue())
	}
	begin(f)
	f.expect("RUNNING: a RUNNING, b RUNNING, c PENDING, d PENDING")
	begin(f)
	f.expectNothing()
}

func TestWorkflowTimeout(t *testing.T) {
	d := workflow(step("a", nil), step("b", nil, retry(1, 300_000)), step("c", on("a")))
	d.TimeoutMs = 100_000
	f := submit(t, d)
	f.now = f.now.Add(50_000)
	f.failed("b", retryable)
	if f.x.NextDue() != start.Add(100_000) {
		t.Fatalf("next due %d; the timeout counts from the first RUNNING", f.x.NextDue())
	}
	f.now = start.Add(100_000) - 1
	f.apply(engine.Input{Kind: engine.TimerDue})
	f.expectNothing()
	f.now++
	f.apply(engine.Input{Kind: engine.TimerDue})
	f.expect("TIMEOUT: a CANCELLED, b CANCELLED, c CANCELLED")
	if f.x.Error == nil || f.x.Error.Code != runner.CodeWorkflowTime || f.x.Error.StepKey != "" || f.x.Error.Retryable {
		t.Fatalf("error %+v", f.x.Error)
	}
	if len(f.last.Stop) != 1 || f.last.Stop[0].Step != 0 {
		t.Fatalf("stopped %+v", f.last.Stop)
	}
	f.expectEvents("created", "started", "step_started a", "step_started b", "step_retry_scheduled b",
		"step_cancelled a", "step_cancelled b", "step_cancelled c", "timed_out")
	if e := f.events[8].Data; e.Error == nil || e.Error.Code != runner.CodeWorkflowTime || *e.DurationMs != 100_000 {
		t.Fatalf("the end %+v", e)
	}
}

// The workflow's timeout comes before whatever else is due with it.
func TestWorkflowTimeoutComesFirst(t *testing.T) {
	d := workflow(step("a", nil, retry(5, 1000)), step("b", nil))
	d.TimeoutMs = 200_000
	f := submit(t, d)
	f.started("b")
	f.failed("a", retryable)
	f.now = f.now.Add(1_000_000)
	f.apply(engine.Input{Kind: engine.TimerDue})
	f.expect("TIMEOUT: a CANCELLED, b CANCELLED")
	if f.step("a").Attempt != 1 {
		t.Fatalf("attempt %d", f.step("a").Attempt)
	}
}

func TestAResultBeforeTheTimeoutInTheLogWins(t *testing.T) {
	d := workflow(step("a", nil))
	d.TimeoutMs = 1000
	f := submit(t, d)
	f.now = f.now.Add(5000)
	f.completed("a", `1`)
	f.expect("COMPLETED: a COMPLETED")
	f.apply(engine.Input{Kind: engine.TimerDue})
	f.expectNothing()
}

func TestNoWorkflowTimeout(t *testing.T) {
	d := workflow(step("a", nil))
	d.TimeoutMs = 0
	f := submit(t, d)
	f.apply(engine.Input{Kind: engine.TimerDue, Time: start.Add(1 << 40)})
	f.expectNothing()
	if f.x.NextDue() != 0 {
		t.Fatalf("next due %d", f.x.NextDue())
	}
}

func TestBackstop(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*catalog.Step)
		after  string
	}{
		catalog.OnErrorFail:     {func(*catalog.Step) {}, "FAILED: a FAILED, b SKIPPED"},
		catalog.OnErrorContinue: {onError(catalog.OnErrorContinue), "RUNNING: a FAILED, b RUNNING"},
		catalog.OnErrorRetry:    {retry(1, 1000), "RUNNING: a RUNNING, b PENDING"},
	} {
		t.Run(name, func(t *testing.T) {
			d := workflow(step("a", nil, c.change), step("b", on("a")))
			d.TimeoutMs = 0
			f := submit(t, d)
			if f.x.NextDue() != 0 {
				t.Fatalf("next due %d; waiting for a runner does not count", f.x.NextDue())
			}
			f.now = f.now.Add(7000)
			f.started("a")
			if f.last.Changed || f.x.NextDue() != f.now.Add(stepTimeoutMs+graceMs) {
				t.Fatalf("next due %d, effects %+v", f.x.NextDue(), f.last)
			}
			token := f.step("a").Token
			f.now = f.now.Add(stepTimeoutMs+graceMs) - 1
			f.apply(engine.Input{Kind: engine.TimerDue})
			f.expectNothing()
			f.now++
			f.apply(engine.Input{Kind: engine.TimerDue})
			f.expect(c.after)
			s := f.step("a")
			if s.Error == nil || s.Error.Code != runner.CodeStepTimeout || !s.Error.Retryable || s.Error.StepKey != "a" || s.Backstop != 0 {
				t.Fatalf("step %+v, error %+v", s, s.Error)
			}
			if len(f.last.Stop) != 1 || f.last.Stop[0] != (engine.Stop{Token: token}) {
				t.Fatalf("stopped %+v", f.last.Stop)
			}
			f.apply(engine.Input{Kind: engine.StepCompleted, Step: "a", Token: token, Output: []byte(`1`)})
			f.expectNothing()
			if name == catalog.OnErrorRetry {
				f.due()
				f.completed("a", `1`)
				f.expect("RUNNING: a COMPLETED, b RUNNING")
			}
		})
	}
}

// A runner that begins again has the whole time again.
func TestASecondStartMovesTheBackstop(t *testing.T) {
	f := submit(t, workflow(step("a", nil)))
	f.started("a")
	f.now = f.now.Add(30_000)
	f.started("a")
	if got := f.step("a").Backstop; got != f.now.Add(stepTimeoutMs+graceMs) {
		t.Fatalf("backstop %d", got)
	}
}

// The same message read twice tells of one start.
func TestTheSameStartTwiceDoesNotMoveTheBackstop(t *testing.T) {
	f := submit(t, workflow(step("a", nil), step("b", nil)))
	f.started("a")
	in := f.log[len(f.log)-1]
	at := f.step("a").Backstop
	f.now = f.now.Add(30_000)
	f.completed("b", `1`)
	f.apply(in)
	f.expectNothing()
	if f.step("a").Backstop != at {
		t.Fatalf("backstop %d, it was %d", f.step("a").Backstop, at)
	}
}

// Two backstops and a retry that are due together: the first failure ends it.
func TestTimersDueTogetherAfterTheEnd(t *testing.T) {
	f := submit(t, workflow(step("a", nil, retry(1, 1000)), step("b", nil), step("c", nil), step("d", nil, retry(1, 1000))))
	f.started("b")
	f.started("c")
	f.failed("a", retryable)
	f.failed("d", retryable)
	f.now = f.now.Add(200_000)
	f.apply(engine.Input{Kind: engine.TimerDue})
	f.expect("FAILED: a CANCELLED, b FAILED, c CANCELLED, d CANCELLED")
	if f.x.Error.StepKey != "b" || f.step("a").Attempt != 2 || f.step("d").Attempt != 1 {
		t.Fatalf("error %+v, attempts %d, %d", f.x.Error, f.step("a").Attempt, f.step("d").Attempt)
	}
}

func TestFault(t *testing.T) {
	for _, name := range []string{"PENDING", "RUNNING", "RUNNING with a result, a started attempt and a backoff"} {
		t.Run(name, func(t *testing.T) {
			f := atStage(t, name)
			before := snapshot(f.x)
			out := engine.Fault(f.x, f.now.Add(5), "a fault of ours", keys)
			if err := f.seen.check(before, f.x, out); err != nil {
				t.Fatal(err)
			}
			if f.x.Status != orchestrator.ExecutionFailed || *f.x.Error != (runner.StepError{Code: runner.CodeEngineFault, Message: "a fault of ours"}) {
				t.Fatalf("%s with %+v", f.x.Status, f.x.Error)
			}
			for i := range f.x.Steps {
				want := map[string]string{
					orchestrator.StepPending: orchestrator.StepSkipped, orchestrator.StepRunning: orchestrator.StepCancelled, orchestrator.StepCompleted: orchestrator.StepCompleted,
				}[before.Steps[i].Status]
				if f.x.Steps[i].Status != want {
					t.Fatalf("step %d was %s and is %s", i, before.Steps[i].Status, f.x.Steps[i].Status)
				}
			}
		})
	}
}
