package engine_test

import (
	"strings"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

func condition(key, config string, deps []string, changes ...func(*catalog.Step)) catalog.Step {
	return typed(key, catalog.StepCondition, config, deps, changes...)
}

// output gives what a step has returned.
func (f *flow) output(key string) string {
	f.t.Helper()
	return string(f.step(key).Output)
}

func TestConditionTakesOneBranch(t *testing.T) {
	const cases = `{"cases":[{"when":"a.output.v > 9","then":["x"]},{"when":"a.output.v > 4","then":["y"]},{"when":"a.output.v > 2","then":["x","y"]}],"else":["z"]}`
	for name, c := range map[string]struct{ config, output, branch, want string }{
		"then":                  {`{"expression":"a.output.v > 1","then":["x"],"else":["y"]}`, `{"v":2}`, "then", "x RUNNING, y SKIPPED, z RUNNING"},
		"else":                  {`{"expression":"a.output.v > 1","then":["x"],"else":["y"]}`, `{"v":1}`, "else", "x SKIPPED, y RUNNING, z RUNNING"},
		"no else":               {`{"expression":"a.output.v > 1","then":["x"]}`, `{"v":1}`, "else", "x SKIPPED, y RUNNING, z RUNNING"},
		"no then":               {`{"expression":"a.output.v > 1","else":["x"]}`, `{"v":2}`, "then", "x SKIPPED, y RUNNING, z RUNNING"},
		"nothing named":         {`{"expression":"a.output.v > 1"}`, `{"v":2}`, "then", "x RUNNING, y RUNNING, z RUNNING"},
		"empty branches":        {`{"expression":"a.output.v > 1","then":[],"else":[]}`, `{"v":2}`, "then", "x RUNNING, y RUNNING, z RUNNING"},
		"in both branches, yes": {`{"expression":"a.output.v > 1","then":["x","y"],"else":["x"]}`, `{"v":2}`, "then", "x RUNNING, y RUNNING, z RUNNING"},
		"in both branches, no":  {`{"expression":"a.output.v > 1","then":["x","y"],"else":["x"]}`, `{"v":0}`, "else", "x RUNNING, y SKIPPED, z RUNNING"},
		"the first case":        {cases, `{"v":10}`, "cases[0]", "x RUNNING, y SKIPPED, z SKIPPED"},
		"the second case":       {cases, `{"v":5}`, "cases[1]", "x SKIPPED, y RUNNING, z SKIPPED"},
		"the last case":         {cases, `{"v":3}`, "cases[2]", "x RUNNING, y RUNNING, z SKIPPED"},
		"no case":               {cases, `{"v":0}`, "else", "x SKIPPED, y SKIPPED, z RUNNING"},
		"an input":              {`{"expression":"inputs.n == 20","then":["x"]}`, `1`, "then", "x RUNNING, y RUNNING, z RUNNING"},
		"a status":              {`{"expression":"a.status == \"COMPLETED\" && a.error == nil","then":["x"]}`, `1`, "then", "x RUNNING, y RUNNING, z RUNNING"},
		"metadata":              {`{"expression":"metadata.workflowVersion == 3","then":["x"]}`, `1`, "then", "x RUNNING, y RUNNING, z RUNNING"},
	} {
		t.Run(name, func(t *testing.T) {
			f := submit(t, workflow(step("a", nil), condition("c", c.config, on("a")), step("x", on("c")), step("y", on("c")), step("z", on("c"))))
			f.completed("a", c.output)
			f.expect("RUNNING: a COMPLETED, c COMPLETED, " + c.want)
			if got := f.output("c"); got != `{"branch":"`+c.branch+`"}` {
				t.Fatalf("output %s", got)
			}
		})
	}
}

func TestConditionTellsOfItself(t *testing.T) {
	f := submit(t, workflow(condition("c", `{"expression":"true","then":["x"],"else":["y"]}`, nil), step("x", on("c"), inputs(`{"b":"{{c.output.branch}}"}`)), step("y", on("c"))))
	f.expectEvents("created", "started", "step_started c", "step_completed c", "step_started x", "step_skipped y")
	if s := f.step("c"); s.Attempt != 1 || s.Token != "" || s.StartedAt != start || s.CompletedAt != start {
		t.Fatalf("step %+v", s)
	}
	if got := f.input("x"); got != `{"b":"then"}` {
		t.Fatalf("input %s", got)
	}
	if raw, _, serr := f.x.Input(engine.Place{}); string(raw) != "null" || serr != nil {
		t.Fatalf("the input of a step without an agent is %s, %v", raw, serr)
	}
	f.completed("x", `1`)
	f.expect("COMPLETED: c COMPLETED, x COMPLETED, y SKIPPED")
}

// What a CONDITION did not take is SKIPPED whatever its rule, and that travels on as any skip does.
func TestNotTakenIsSkippedWhateverItsRule(t *testing.T) {
	for _, r := range []string{catalog.TriggerNoneFailed, catalog.TriggerAllSuccess, catalog.TriggerOneSuccess, catalog.TriggerAllDone} {
		t.Run(r, func(t *testing.T) {
			f := submit(t, workflow(
				step("a", nil), condition("c", `{"expression":"false","then":["x"],"else":["y"]}`, nil), step("x", on("c", "a"), rule(r)), step("y", on("c", "a"), rule(r)),
				step("after", on("x")), step("always", on("x"), rule(catalog.TriggerAllDone)), step("either", on("x", "y")),
			))
			f.expect("RUNNING: a RUNNING, c COMPLETED, x PENDING, y PENDING, after PENDING, always PENDING, either PENDING")
			f.completed("a", `1`)
			f.expect("RUNNING: a COMPLETED, c COMPLETED, x SKIPPED, y RUNNING, after SKIPPED, always RUNNING, either PENDING")
			f.completed("y", `1`)
			if f.ready() != "either" {
				t.Fatalf("ready %q", f.ready())
			}
		})
	}
}

// A step that was taken still needs its rule.
func TestATakenStepNeedsItsRule(t *testing.T) {
	f := submit(t, workflow(
		step("a", nil, onError(catalog.OnErrorContinue)), condition("c", `{"expression":"true","then":["x","y"]}`, nil),
		step("x", on("c", "a"), rule(catalog.TriggerAllSuccess)), step("y", on("c", "a")),
	))
	f.failed("a", final)
	f.expect("RUNNING: a FAILED, c COMPLETED, x SKIPPED, y RUNNING")
}

func TestAConditionThatWasSkipped(t *testing.T) {
	f := submit(t, workflow(
		step("a", nil, onError(catalog.OnErrorContinue)), condition("c", `{"expression":"true","then":["x"],"else":["y"]}`, on("a"), rule(catalog.TriggerAllSuccess)),
		step("x", on("c"), rule(catalog.TriggerAllDone)), step("y", on("c"), rule(catalog.TriggerAllDone)), step("z", on("c"), rule(catalog.TriggerAllDone)),
	))
	f.failed("a", final)
	f.expect("RUNNING: a FAILED, c SKIPPED, x SKIPPED, y SKIPPED, z RUNNING")
}

func TestAConditionThatFails(t *testing.T) {
	for name, expression := range map[string]string{
		"no boolean": `inputs.n`, "nothing": `inputs.m`, "no comparison": `inputs.m > 1`, "a division by zero": `1 / (inputs.n - 20) > 0`,
	} {
		for e, want := range map[string]string{
			catalog.OnErrorFail:     "FAILED: c FAILED, x SKIPPED, y SKIPPED, z SKIPPED, w CANCELLED",
			catalog.OnErrorRetry:    "FAILED: c FAILED, x SKIPPED, y SKIPPED, z SKIPPED, w CANCELLED",
			catalog.OnErrorContinue: "RUNNING: c FAILED, x SKIPPED, y SKIPPED, z RUNNING, w RUNNING",
		} {
			t.Run(name+"/"+e, func(t *testing.T) {
				f := accept(t, workflow(
					condition("c", `{"cases":[{"when":"false","then":["x"]},{"when":"`+expression+`","then":["x"]}],"else":["y"]}`, nil, retry(3, 10), onError(e)),
					step("x", on("c"), rule(catalog.TriggerAllDone)), step("y", on("c"), rule(catalog.TriggerAllDone)), step("z", on("c")), step("w", nil),
				))
				begin(f)
				s := f.step("c")
				if s.Error == nil || s.Error.Code != runner.CodeExpression || s.Error.Retryable || s.Error.StepKey != "c" || s.Attempt != 1 || !strings.Contains(s.Error.Message, "cases[1]") {
					t.Fatalf("step %+v, error %+v", s, s.Error)
				}
				if e != catalog.OnErrorContinue {
					want = strings.Replace(want, "w CANCELLED", "w "+f.step("w").Status, 1)
					if f.x.Error.Code != runner.CodeExpression {
						t.Fatalf("error %+v", f.x.Error)
					}
				}
				f.expect(want)
			})
		}
	}
}

// A step that two CONDITIONs name runs when both have taken it.
func TestAStepThatTwoConditionsName(t *testing.T) {
	for name, c := range map[string]struct{ first, second, want string }{
		"both":    {"true", "true", orchestrator.StepRunning},
		"first":   {"true", "false", orchestrator.StepSkipped},
		"second":  {"false", "true", orchestrator.StepSkipped},
		"neither": {"false", "false", orchestrator.StepSkipped},
	} {
		for _, r := range []string{catalog.TriggerOneSuccess, catalog.TriggerAllDone} {
			t.Run(name+"/"+r, func(t *testing.T) {
				f := submit(t, workflow(
					condition("c", `{"expression":"`+c.first+`","then":["x"]}`, nil), condition("d", `{"expression":"`+c.second+`","then":["x"]}`, nil),
					step("x", on("c", "d"), rule(r)), step("on", nil),
				))
				if got := f.step("x").Status; got != c.want {
					t.Fatalf("x is %s, want %s", got, c.want)
				}
			})
		}
	}
}

// What a CONDITION says was taken may come from another execution, and may be anything.
func TestAnOutputThatNamesNoBranch(t *testing.T) {
	def := compile(t, workflow(condition("c", `{"expression":"true","then":["x"]}`, nil), step("x", on("c")), step("y", on("c"))))
	for _, output := range []string{`1`, `{"branch":"nowhere"}`, `{"branch":"else"}`, `{}`} {
		x := accepted(executionID, def)
		x.Steps[0].Status, x.Steps[0].Output = orchestrator.StepCompleted, []byte(output)
		x = engine.Restore(*x, def)
		engine.Apply(x, engine.Input{Kind: engine.Submitted, Time: start}, keys)
		if x.Steps[0].Attempt != 0 || x.Steps[1].Status != orchestrator.StepSkipped || x.Steps[2].Status != orchestrator.StepRunning {
			t.Errorf("after %s: %+v", output, x.Steps)
		}
	}
}

func TestCompileRefusesConditions(t *testing.T) {
	for config, want := range map[string]string{
		`{"expression":"1 +"}`:                        "config.expression: ",
		`{"expression":""}`:                           "config.expression: is empty",
		`{"cases":[{"when":"true"},{"when":"a ||"}]}`: "config.cases[1].when: ",
		`{"expression":"true","then":["nobody"]}`:     `the condition "c" names the step "nobody", which is not there`,
		`{"expression":"true","then":"x"}`:            "config: ",
		`null`:                                        "config.expression: is empty",
	} {
		def, err := engine.Compile(workflow(condition("c", config, nil)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gave %v, %v; want %q", config, def, err, want)
		}
	}
}
