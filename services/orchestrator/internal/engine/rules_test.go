package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

// TestTriggerRules decides a step for every rule and every mixture of how its dependencies
// ended: C is COMPLETED, F is FAILED under CONTINUE, S is SKIPPED.
func TestTriggerRules(t *testing.T) {
	runs := map[string]string{
		catalog.TriggerNoneFailed: "C F CC CF FF CS FS CFS",
		catalog.TriggerAllSuccess: "C CC",
		catalog.TriggerOneSuccess: "C CC CF CS CFS",
		catalog.TriggerAllDone:    "C F S CC CF FF CS FS SS CFS",
	}
	for r, yes := range runs {
		for _, ends := range strings.Fields("C F S CC CF FF CS FS SS CFS") {
			for _, order := range []string{"forward", "backward"} {
				t.Run(r+"/"+ends+"/"+order, func(t *testing.T) {
					want := orchestrator.StepSkipped
					if slices.Contains(strings.Fields(yes), ends) {
						want = orchestrator.StepRunning
					}
					f := decide(t, r, ends, order == "backward")
					if got := f.step("end").Status; got != want {
						t.Fatalf("%s after %s is %s, want %s", r, ends, got, want)
					}
					if running := want == orchestrator.StepRunning; f.x.Terminal() == running {
						t.Fatalf("the execution is %s", f.x.Status)
					}
				})
			}
		}
	}
}

// decide brings the dependencies of the step "end" to their ends. A SKIPPED one has a
// predecessor that failed.
func decide(t *testing.T, r, ends string, backward bool) *flow {
	var steps []catalog.Step
	var deps, roots []string
	for i, end := range ends {
		dep := fmt.Sprintf("d%d", i)
		deps = append(deps, dep)
		if end == 'S' {
			root := "f" + dep
			steps = append(steps, step(root, nil, onError(catalog.OnErrorContinue)), step(dep, on(root), rule(catalog.TriggerAllSuccess)))
			roots = append(roots, root)
			continue
		}
		steps = append(steps, step(dep, nil, onError(catalog.OnErrorContinue)))
		roots = append(roots, dep)
	}
	f := submit(t, workflow(append(steps, step("end", deps, rule(r)))...))
	if backward {
		slices.Reverse(roots)
	}
	for _, root := range roots {
		if f.step("end").Status != orchestrator.StepPending {
			t.Fatalf("decided before every dependency is terminal: %s", f.statuses())
		}
		i := slices.Index(deps, root)
		if i >= 0 && ends[i] == 'C' {
			f.completed(root, `1`)
		} else {
			f.failed(root, final)
		}
	}
	return f
}

func TestStepsWithoutDependenciesAlwaysRun(t *testing.T) {
	var steps []catalog.Step
	for _, r := range []string{catalog.TriggerNoneFailed, catalog.TriggerAllSuccess, catalog.TriggerOneSuccess, catalog.TriggerAllDone} {
		steps = append(steps, step(r, nil, rule(r)))
	}
	f := submit(t, workflow(steps...))
	if got := f.ready(); got != "none_failed all_success one_success all_done" {
		t.Fatalf("ready: %s", got)
	}
}

func TestSkippingTravelsOn(t *testing.T) {
	f := submit(t, workflow(
		step("a", nil, onError(catalog.OnErrorContinue)),
		step("b", on("a"), rule(catalog.TriggerAllSuccess)),
		step("c", on("b")),
		step("d", on("c"), rule(catalog.TriggerOneSuccess)),
		step("e", on("d"), rule(catalog.TriggerAllDone)),
		step("f", on("d", "e")),
	))
	f.failed("a", final)
	f.expect("RUNNING: a FAILED, b SKIPPED, c SKIPPED, d SKIPPED, e RUNNING, f PENDING")
	f.completed("e", `1`)
	f.completed("f", `2`)
	f.expect("COMPLETED: a FAILED, b SKIPPED, c SKIPPED, d SKIPPED, e COMPLETED, f COMPLETED")
	if got := string(f.x.OutputsByKey()); got != `{"e":1,"f":2}` {
		t.Fatalf("outputs %s", got)
	}
	f.expectEvents("created", "started", "step_started a", "step_failed a", "step_skipped b", "step_skipped c", "step_skipped d",
		"step_started e", "step_completed e", "step_started f", "step_completed f", "completed")
}

func TestEverythingSkippedCompletes(t *testing.T) {
	f := submit(t, workflow(step("a", nil, onError(catalog.OnErrorContinue)), step("b", on("a"), rule(catalog.TriggerAllSuccess))))
	f.failed("a", final)
	f.expect("COMPLETED: a FAILED, b SKIPPED")
	if got := string(f.x.OutputsByKey()); got != `{}` || f.x.Error != nil {
		t.Fatalf("outputs %s, error %v", got, f.x.Error)
	}
}

func TestDiamond(t *testing.T) {
	f := submit(t, workflow(step("a", nil), step("b", on("a")), step("c", on("a")), step("d", on("b", "c"))))
	if f.ready() != "a" {
		t.Fatalf("ready: %s", f.ready())
	}
	f.completed("a", `1`)
	if f.ready() != "b c" {
		t.Fatalf("ready: %s", f.ready())
	}
	f.completed("c", `3`)
	f.expect("RUNNING: a COMPLETED, b RUNNING, c COMPLETED, d PENDING")
	f.completed("b", `2`)
	if f.ready() != "d" {
		t.Fatalf("ready: %s", f.ready())
	}
	f.now = f.now.Add(250)
	f.completed("d", `{"sum":6}`)
	f.expect("COMPLETED: a COMPLETED, b COMPLETED, c COMPLETED, d COMPLETED")
	f.expectEvents("created", "started", "step_started a", "step_completed a", "step_started b", "step_started c", "step_completed c",
		"step_completed b", "step_started d", "step_completed d", "completed")
	last := f.events[len(f.events)-1].Data
	if last.DurationMs == nil || *last.DurationMs != 250 || f.x.CompletedAt != start.Add(250) {
		t.Fatalf("the end: %+v at %d", last, f.x.CompletedAt)
	}
}

func TestAWorkflowWithoutStepsCompletes(t *testing.T) {
	f := submit(t, workflow())
	f.expect("COMPLETED: ")
	f.expectEvents("created", "started", "completed")
	if p := f.x.Progress(); p != (orchestrator.Progress{Percent: 100}) {
		t.Fatalf("progress %+v", p)
	}
}

func TestProgressCountsTerminalSteps(t *testing.T) {
	f := submit(t, workflow(step("a", nil), step("b", nil, onError(catalog.OnErrorContinue)), step("c", on("b"), rule(catalog.TriggerAllSuccess)), step("d", on("a"))))
	f.completed("a", `1`)
	f.failed("b", final)
	if p := f.x.Progress(); p != (orchestrator.Progress{Total: 4, Completed: 1, Failed: 1, Skipped: 1, Percent: 75}) {
		t.Fatalf("progress %+v", p)
	}
}

// A dependency that stands twice is one dependency.
func TestADependencyNamedTwice(t *testing.T) {
	f := submit(t, workflow(step("a", nil), step("b", on("a", "a"), rule(catalog.TriggerAllSuccess))))
	f.completed("a", `1`)
	if f.ready() != "b" {
		t.Fatalf("ready: %s", f.ready())
	}
}

func TestCompileRefuses(t *testing.T) {
	other := "01890a5d-ac96-774b-bcce-b302099a80ff"
	for name, c := range map[string]struct {
		change func(*catalog.Definition)
		want   string
	}{
		"a step twice":            {func(d *catalog.Definition) { d.Steps[1].StepKey = "a" }, `step "a" stands twice in the definition`},
		"an unknown dependency":   {func(d *catalog.Definition) { d.Steps[1].DependsOn = on("x") }, `step "b" depends on "x", which is not there`},
		"an unknown agent":        {func(d *catalog.Definition) { d.Steps[0].AgentID = &other }, `agent ` + other + ` is not in the definition`},
		"no agent":                {func(d *catalog.Definition) { d.Steps[0].AgentID = nil }, `step "a": it names no agent`},
		"a step type":             {func(d *catalog.Definition) { d.Steps[0].StepType = "WORKFLOW" }, `step type WORKFLOW is unknown to this version`},
		"a template in inputs":    {func(d *catalog.Definition) { d.Steps[0].Inputs = []byte(`{"x":["{{"]}`) }, `inputsx[0]: `},
		"a template in outputs":   {func(d *catalog.Definition) { d.Outputs = []byte(`"{{1}}"`) }, `outputs: `},
		"inputs that are no JSON": {func(d *catalog.Definition) { d.Steps[0].Inputs = []byte(`{`) }, `not valid JSON`},
	} {
		t.Run(name, func(t *testing.T) {
			d := workflow(step("a", nil), step("b", on("a")))
			c.change(&d)
			def, err := engine.Compile(d)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("Compile gave %v, %v; want %q", def, err, c.want)
			}
		})
	}
}

func TestOnErrorFail(t *testing.T) {
	f := submit(t, workflow(
		step("a", nil), step("b", nil), step("c", nil, retry(1, 1000)), step("d", on("a")), step("e", on("d"), rule(catalog.TriggerAllDone)), step("f", nil),
	))
	f.completed("f", `1`)
	f.failed("c", retryable) // backs off when the end comes
	b := f.step("b").Token
	f.failed("a", final)
	f.expect("FAILED: a FAILED, b CANCELLED, c CANCELLED, d SKIPPED, e SKIPPED, f COMPLETED")
	want := final
	want.StepKey = "a"
	if f.x.Error == nil || *f.x.Error != want || f.step("a").Error == nil || *f.step("a").Error != want {
		t.Fatalf("error of the execution %+v, of the step %+v", f.x.Error, f.step("a").Error)
	}
	if len(f.last.Stop) != 1 || f.last.Stop[0].Token != b {
		t.Fatalf("stopped: %+v; only b was with a runner", f.last.Stop)
	}
	if f.x.OutputsByKey() != nil {
		t.Fatalf("outputs %s", f.x.OutputsByKey())
	}
	names := eventNames(f.last.Events)
	if names[0] != "step_failed a" || names[len(names)-1] != "failed" || len(names) != 6 {
		t.Fatalf("events %v", names)
	}
	end := f.told(5)
	if end.Error == nil || *end.Error != (orchestrator.EventError{Code: runner.CodeError, Message: "boom"}) || end.StepKey != "" {
		t.Fatalf("the end: %+v", end)
	}
}

func TestOnErrorContinue(t *testing.T) {
	f := submit(t, workflow(
		step("a", nil, onError(catalog.OnErrorContinue)),
		step("b", on("a"), inputs(`{"out":"{{a.output}}","status":"{{a.status}}","why":"{{a.error.message}}","step":"{{a.error.stepKey}}"}`)),
	))
	f.failed("a", retryable)
	f.expect("RUNNING: a FAILED, b RUNNING")
	body, serr := f.x.Body(engine.Place{Step: 1}, nil)
	if want := `{"config":{"runtime":"javascript"},"input":{"out":null,"status":"FAILED","why":"503","step":"a"}}`; serr != nil || string(body) != want {
		t.Fatalf("body %s, %v\nwant %s", body, serr, want)
	}
	f.completed("b", `null`)
	f.expect("COMPLETED: a FAILED, b COMPLETED")
	if got := string(f.x.OutputsByKey()); got != `{"b":null}` || f.x.Error != nil {
		t.Fatalf("outputs %s, error %v", got, f.x.Error)
	}
}

// A failure without a reason is one of ours, and may be tried again.
func TestAFailureWithoutAReason(t *testing.T) {
	f := submit(t, workflow(step("a", nil, retry(1, 1000))))
	f.apply(engine.Input{Kind: engine.StepFailed, Step: "a", Token: f.step("a").Token})
	if s := f.step("a"); s.Status != orchestrator.StepRunning || s.RetryAt == 0 || s.Error == nil || s.Error.Code != runner.CodeInternal || s.Error.StepKey != "a" {
		t.Fatalf("step %+v, error %+v", s, s.Error)
	}
}

// The input's error is the caller's; a step keeps a copy.
func TestTheErrorOfAnInputIsCopied(t *testing.T) {
	f := submit(t, workflow(step("a", nil)))
	failure := final
	f.apply(engine.Input{Kind: engine.StepFailed, Step: "a", Token: f.step("a").Token, Err: &failure})
	if failure.StepKey != "" {
		t.Fatalf("the input's error was changed: %+v", failure)
	}
}
