package engine_test

import (
	"slices"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

// During a pause what runs ends, and nothing begins.
func TestPauseAndResume(t *testing.T) {
	f := submit(t, workflow(step("a", nil), step("b", on("a")), step("c", nil, onError(catalog.OnErrorContinue)), step("d", on("c"), rule(catalog.TriggerAllSuccess)), step("e", on("d"), rule(catalog.TriggerAllDone))))
	f.pause()
	f.expect("PAUSED: a RUNNING, b PENDING, c RUNNING, d PENDING, e PENDING")
	if e := f.told(0); e.Status != orchestrator.ExecutionPaused || e.StepKey != "" || len(f.last.Rows)+len(f.last.Stop) > 0 {
		t.Fatalf("effects %+v", f.last)
	}
	f.pause()
	f.expectNothing()
	f.completed("a", `1`)
	f.failed("c", final)
	f.expect("PAUSED: a COMPLETED, b PENDING, c FAILED, d PENDING, e PENDING")
	f.expectReady("")
	f.resume()
	f.expect("RUNNING: a COMPLETED, b RUNNING, c FAILED, d SKIPPED, e RUNNING")
	f.expectReady("b e")
	f.resume()
	f.expectNothing()
	f.expectEvents("created", "started", "step_started a", "step_started c", "paused", "step_completed a", "step_failed c", "resumed",
		"step_started b", "step_skipped d", "step_started e")
	f.pause()
	f.resume()
	f.expectReady("")
	f.completed("b", `1`)
	f.completed("e", `1`)
	f.expect("COMPLETED: a COMPLETED, b COMPLETED, c FAILED, d SKIPPED, e COMPLETED")
}

// What is done is done: an execution ends during a pause too.
func TestAPausedExecutionCompletes(t *testing.T) {
	f := submit(t, workflow(step("a", nil)))
	f.pause()
	f.completed("a", `1`)
	f.expect("COMPLETED: a COMPLETED")
	f.resume()
	f.expectNothing()
	f.pause()
	f.expectNothing()
}

func TestAPausedExecutionFails(t *testing.T) {
	f := submit(t, workflow(step("a", nil), step("b", on("a")), step("c", nil)))
	f.pause()
	f.failed("a", final)
	f.expect("FAILED: a FAILED, b SKIPPED, c CANCELLED")
	f.expectStopped("c")
}

func TestPauseBeforeSubmitted(t *testing.T) {
	f := accept(t, workflow(step("a", nil), step("b", on("a"))))
	f.pause()
	f.expect("PAUSED: a PENDING, b PENDING")
	f.now = f.now.Add(5000)
	begin(f)
	f.expectNothing()
	f.apply(engine.Input{Kind: engine.TimerDue})
	f.expectNothing()
	if f.x.NextDue() != 0 || f.x.StartedAt != 0 {
		t.Fatalf("next due %d, started %d", f.x.NextDue(), f.x.StartedAt)
	}
	f.resume()
	f.expect("RUNNING: a RUNNING, b PENDING")
	f.expectEvents("created", "paused", "resumed", "started", "step_started a")
	if e := f.events[2].Data; e.Status != orchestrator.ExecutionPending || f.x.StartedAt != f.now {
		t.Fatalf("told %+v, started %d", e, f.x.StartedAt)
	}
	begin(f)
	f.expectNothing()
}

func TestTheEndOfAPausedExecutionThatHasNotBegun(t *testing.T) {
	f := accept(t, workflow(step("a", nil)))
	f.pause()
	f.cancel()
	f.expect("CANCELLED: a CANCELLED")
	f.expectEvents("created", "paused", "step_cancelled a", "cancelled")
	f = accept(t, workflow(step("a", nil)))
	f.pause()
	before := snapshot(f.x)
	if err := f.seen.check(before, f.x, engine.Fault(f.x, f.now, "ours", keys)); err != nil {
		t.Fatal(err)
	}
	f.expect("FAILED: a SKIPPED")
}

// A resume of what has not begun, and is not paused, changes nothing.
func TestResumeOfAPendingExecution(t *testing.T) {
	f := accept(t, workflow(step("a", nil)))
	f.resume()
	f.expectNothing()
	f.expect("PENDING: a PENDING")
}

func TestTheEndDuringAPause(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(f *flow)
		want string
	}{
		"cancel":              {func(f *flow) { f.cancel() }, "CANCELLED: a CANCELLED, b CANCELLED, l CANCELLED"},
		"the timeout":         {func(f *flow) { f.pass(3_600_000) }, "TIMEOUT: a CANCELLED, b CANCELLED, l CANCELLED"},
		"the timeout, unseen": {func(f *flow) { f.now = f.now.Add(3_600_000); f.resume() }, "TIMEOUT: a CANCELLED, b CANCELLED, l CANCELLED"},
	} {
		t.Run(name, func(t *testing.T) {
			f := submit(t, workflow(step("a", nil), step("b", on("a")), loops("l", `{"forEach":[1,2]}`, nil)))
			f.pause()
			c.end(f)
			f.expect(c.want)
			f.expectStopped("a", "l#1")
			if f.x.Status == orchestrator.ExecutionTimeout && f.x.Error.Code != runner.CodeWorkflowTime {
				t.Fatalf("error %+v", f.x.Error)
			}
		})
	}
}

// A retry that comes due during a pause begins with the resume, of steps and of items.
func TestRetriesDuringAPause(t *testing.T) {
	f := submit(t, workflow(step("a", nil, retry(2, 1000)), step("b", nil, retry(2, 100_000)), loops("l", `{"forEach":[1,2],"concurrency":2}`, nil, retry(2, 1000)), branches("p", "", nil, retry(2, 1000))))
	f.failed("a", retryable)
	f.failed("l#2", retryable)
	f.pause()
	f.failed("b", retryable)
	f.failed("p#3", retryable)
	f.completed("p#1", `1`)
	if f.x.NextDue() != start.Add(3_600_000) {
		t.Fatalf("next due %d; no retry begins now", f.x.NextDue())
	}
	f.pass(10_000)
	f.expectNothing()
	f.resume()
	f.expectReady("a l#2 p#3")
	if names := eventNames(f.last.Events); !slices.Equal(names, []string{"resumed", "step_started a"}) {
		t.Fatalf("events %v", names)
	}
	if f.x.NextDue() != f.step("b").RetryAt || f.x.Task(f.place("l#2")).Attempt != 2 {
		t.Fatalf("next due %d, item %+v", f.x.NextDue(), f.x.Task(f.place("l#2")))
	}
}

// The items that are left begin with the resume.
func TestItemsDuringAPause(t *testing.T) {
	f := submit(t, workflow(loops("l", `{"forEach":[1,2,3,4,5],"concurrency":2}`, nil), loops("w", `{"while":"index < 2"}`, nil), branches("p", `2`, nil)))
	f.pause()
	for _, name := range []string{"l#1", "l#2", "w#1", "p#1"} {
		f.completed(name, `1`)
		f.expectReady("")
		if len(f.last.Gather) > 0 {
			t.Fatalf("to be gathered: %v", f.last.Gather)
		}
	}
	f.expectCounts("l", "2 begun, 2 completed, 0 failed")
	f.gather("l")
	f.expectNothing()
	f.gather("w")
	f.expectNothing()
	f.completed("p#2", `2`) // this is enough, pause or not
	f.expectGathered("p")
	f.expectStopped("p#3")
	f.gather("p")
	f.expect("PAUSED: l RUNNING, w RUNNING, p COMPLETED")
	f.resume()
	f.expectReady("l#3 l#4 w#2")
	f.completed("w#2", `1`)
	f.expectGathered("w")
	for _, name := range []string{"l#3", "l#4", "l#5"} {
		f.completed(name, `1`)
	}
	f.pause()
	f.gather("l")
	f.gather("w")
	f.expect("COMPLETED: l COMPLETED, w COMPLETED, p COMPLETED")
}

// A step whose items have all ended before the resume is to be gathered all the same.
func TestAResumeWhileAStepGathers(t *testing.T) {
	f := submit(t, workflow(loops("l", `{"forEach":[1]}`, nil), step("b", on("l"))))
	f.completed("l#1", `1`)
	f.pause()
	f.resume()
	f.expectGathered("l")
	f.gather("l")
	f.expect("RUNNING: l COMPLETED, b RUNNING")
}

// Failures of items count during a pause.
func TestAnItemThatFailsDuringAPause(t *testing.T) {
	f := submit(t, workflow(loops("l", `{"forEach":[1,2,3,4],"concurrency":2,"maxFailures":1}`, nil, onError(catalog.OnErrorContinue)), step("b", on("l"))))
	f.pause()
	f.failed("l#1", final)
	f.failed("l#2", final)
	f.expect("PAUSED: l FAILED, b PENDING")
	f.expectCounts("l", "2 begun, 0 completed, 2 failed")
	f.resume()
	f.expect("RUNNING: l FAILED, b RUNNING")
}

// A while loop that would go on beyond its limit fails with the end of its last item.
func TestALimitDuringAPause(t *testing.T) {
	f := submit(t, workflow(loops("l", `{"while":"true","maxIterations":1}`, nil), step("a", nil)))
	f.pause()
	f.completed("l#1", `1`)
	f.expect("FAILED: l FAILED, a CANCELLED")
	f.expectError("l", runner.CodeLoopLimit, "maxIterations of 1")
}

// The clocks of WAITs run on, and signals are heard and kept.
func TestWaitsDuringAPause(t *testing.T) {
	f := submit(t, workflow(
		waits("w", `{"durationMs":1000}`, nil), waits("x", `{"signal":"s","timeoutMs":1500,"default":1}`, nil), waits("y", `{"signal":"t"}`, nil),
		waits("z", `{"signal":"s"}`, on("x")), waits("d", `{"durationMs":1000}`, on("w")), step("b", on("w")),
	))
	f.pause()
	if f.x.NextDue() != start.Add(1000) {
		t.Fatalf("next due %d", f.x.NextDue())
	}
	f.pass(1000)
	f.signal("t", `2`)
	f.pass(500)
	f.signal("s", `3`)
	if !f.last.Kept {
		t.Fatalf("effects %+v", f.last)
	}
	f.expect("PAUSED: w COMPLETED, x COMPLETED, y COMPLETED, z PENDING, d PENDING, b PENDING")
	f.pass(5000)
	f.resume()
	f.expect("RUNNING: w COMPLETED, x COMPLETED, y COMPLETED, z COMPLETED, d RUNNING, b RUNNING")
	if f.output("z") != "3" || f.step("d").WakeAt != f.now.Add(1000) {
		t.Fatalf("output %s, step %+v", f.output("z"), f.step("d"))
	}
}

// Time limits hold during a pause; whose timer's message was not read yet ends with the resume, before anything begins.
func TestTimeLimitsDuringAPause(t *testing.T) {
	for _, seen := range []bool{true, false} {
		f := submit(t, workflow(
			step("a", nil, onError(catalog.OnErrorContinue)), loops("l", `{"forEach":[1,2]}`, nil, within(5000), onError(catalog.OnErrorContinue)),
			waits("w", `{"signal":"x"}`, nil, within(5000), onError(catalog.OnErrorContinue)), step("b", on("l")),
		))
		f.started("a")
		f.pause()
		f.completed("l#1", `1`)
		if f.x.NextDue() != start.Add(5000) {
			t.Fatalf("next due %d", f.x.NextDue())
		}
		f.now = start.Add(stepTimeoutMs + graceMs)
		if seen {
			f.apply(engine.Input{Kind: engine.TimerDue})
			f.expect("PAUSED: a FAILED, l FAILED, w FAILED, b PENDING")
			f.expectStopped("a")
		}
		f.resume()
		f.expect("RUNNING: a FAILED, l FAILED, w FAILED, b RUNNING")
		f.expectReady("b")
		f.expectCounts("l", "1 begun, 1 completed, 0 failed")
	}
}

// A step that is lost on its way is sent again during a pause: it has begun.
func TestLostDuringAPause(t *testing.T) {
	f := submit(t, workflow(step("a", nil)))
	f.pause()
	f.apply(engine.Input{Kind: engine.StepLost, Step: "a", Token: f.step("a").Token, Dispatch: 1})
	f.expectReady("a")
}

// CONDITIONs and branches wait like any other step.
func TestConditionsDuringAPause(t *testing.T) {
	f := submit(t, workflow(step("a", nil), condition("c", `{"expression":"a.output","then":["x"],"else":["y"]}`, on("a")), step("x", on("c")), step("y", on("c"))))
	f.pause()
	f.completed("a", `false`)
	f.expect("PAUSED: a COMPLETED, c PENDING, x PENDING, y PENDING")
	f.resume()
	f.expect("RUNNING: a COMPLETED, c COMPLETED, x SKIPPED, y RUNNING")
}

// The results that an execution begins with are those of another; their steps are not run again.
func TestStepsThatBeginWithAResult(t *testing.T) {
	def := compile(t, workflow(step("a", nil), loops("l", `{"forEach":[1]}`, on("a")), step("b", on("l"), inputs(`{"x":["{{a.output}}","{{l.output}}"]}`)), step("c", nil)))
	for _, paused := range []bool{false, true} {
		x := accepted(executionID, def)
		for i, output := range []string{`1`, `[2]`} {
			x.Steps[i].Status, x.Steps[i].Output, x.Steps[i].CompletedAt = orchestrator.StepCompleted, []byte(output), start-5000
		}
		x = engine.Restore(*x, def)
		if paused {
			engine.Apply(x, engine.Input{Kind: engine.Pause, Time: start, Command: "p"}, keys)
		}
		out := engine.Apply(x, engine.Input{Kind: engine.Submitted, Time: start}, keys)
		if paused {
			out = engine.Apply(x, engine.Input{Kind: engine.Resume, Time: start, Command: "r"}, keys)
		}
		if !slices.Equal(out.Ready, []engine.Place{{Step: 2}, {Step: 3}}) || len(out.Gather) > 0 || x.Steps[0].Attempt+x.Steps[1].Attempt > 0 {
			t.Fatalf("ready %v, gather %v", out.Ready, out.Gather)
		}
		if raw, _, _ := x.Input(engine.Place{Step: 2}); string(raw) != `{"x":[1,[2]]}` {
			t.Fatalf("input %s", raw)
		}
	}
}
