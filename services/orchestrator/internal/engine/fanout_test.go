package engine_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

// loops gives a LOOP whose own time is long.
func loops(key, config string, deps []string, changes ...func(*catalog.Step)) catalog.Step {
	return typed(key, catalog.StepLoop, config, deps, append([]func(*catalog.Step){within(100_000_000)}, changes...)...)
}

// branches gives a PARALLEL with the branches x, y and z, whose own time is long.
func branches(key, join string, deps []string, changes ...func(*catalog.Step)) catalog.Step {
	var all []string
	for _, branch := range []string{"x", "y", "z"} {
		all = append(all, `{"key":"`+branch+`","agentId":"`+agentID+`","inputs":{"is":"`+branch+`"}}`)
	}
	config := `{"branches":[` + strings.Join(all, ",") + `]`
	if join != "" {
		config += `,"join":` + join
	}
	return typed(key, catalog.StepParallel, config+"}", deps, append([]func(*catalog.Step){within(100_000_000)}, changes...)...)
}

// counts gives what has become of a step's items: "3 begun, 2 completed, 1 failed".
func (f *flow) counts(key string) string {
	f.t.Helper()
	s := f.step(key)
	return fmt.Sprintf("%d begun, %d completed, %d failed", s.Begun, s.Completed, s.Failed)
}

func (f *flow) expectCounts(key, want string) {
	f.t.Helper()
	if got := f.counts(key); got != want {
		f.t.Fatalf("%s has %s, want %s", key, got, want)
	}
}

func (f *flow) expectReady(want string) {
	f.t.Helper()
	if got := f.ready(); got != want {
		f.t.Fatalf("ready %q, want %q", got, want)
	}
}

// expectGathered says that the last input ended the last item of a step.
func (f *flow) expectGathered(key string) {
	f.t.Helper()
	i := f.place(key).Step
	if !slices.Equal(f.last.Gather, []int{i}) || !f.x.Gathers(i) {
		f.t.Fatalf("to be gathered: %v, want %d", f.last.Gather, i)
	}
}

func (f *flow) expectStopped(want ...string) {
	f.t.Helper()
	var got []string
	for _, s := range f.last.Stop {
		got = append(got, nameOf(f.x, s.Place))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		f.t.Fatalf("stopped %v, want %v", got, want)
	}
}

// expectError says why a step has failed.
func (f *flow) expectError(key, code, message string) {
	f.t.Helper()
	e := f.step(key).Error
	if e == nil || e.Code != code || e.Retryable || e.StepKey != key || !strings.Contains(e.Message, message) {
		f.t.Fatalf("%s has the error %+v, want %s: %s", key, e, code, message)
	}
}

// The items of a LOOP come from an array, a template or an expression.
func TestLoopOverItems(t *testing.T) {
	for name, c := range map[string]struct {
		forEach string
		items   []string
	}{
		"an array":                 {`[1, "x", {"k": [2]}, null]`, []string{`1`, `"x"`, `{"k": [2]}`, `null`}},
		"an array with templates":  {`[1,"{{inputs.n}}","n is {{inputs.n}}"]`, []string{`1`, `20`, `"n is 20"`}},
		"a template":               {`"{{a.output.list}}"`, []string{`3`, `{"z":1}`, `"{{inputs.n}}"`}},
		"an expression":            {`"a.output.list"`, []string{`3`, `{"z":1}`, `"{{inputs.n}}"`}},
		"an expression that makes": {`"map(1..3, # * inputs.n)"`, []string{`20`, `40`, `60`}},
	} {
		t.Run(name, func(t *testing.T) {
			f := submit(t, strict(workflow(step("a", nil), loops("l", `{"forEach":`+c.forEach+`}`, on("a"), inputs(`{"i":"{{item}}","at":"{{index}}","n":"{{inputs.n}}"}`)), step("b", on("l"), inputs(`{"x":"{{l.output}}"}`)))))
			f.completed("a", `{"list":[3,{"z":1},"{{inputs.n}}"]}`)
			for n, item := range c.items {
				f.expectReady(fmt.Sprintf("l#%d", n+1))
				if got, want := f.input(fmt.Sprintf("l#%d", n+1)), fmt.Sprintf(`{"i":%s,"at":%d,"n":20}`, item, n); got != want {
					t.Fatalf("input %s, want %s", got, want)
				}
				f.completed(fmt.Sprintf("l#%d", n+1), fmt.Sprintf(`{"out": %d}`, n))
				if len(f.last.Events) > 0 {
					t.Fatalf("events %v", eventNames(f.last.Events))
				}
			}
			f.expectGathered("l")
			f.expectReady("")
			f.gather("l")
			f.expect("RUNNING: a COMPLETED, l COMPLETED, b RUNNING")
			var want []string
			for n := range c.items {
				want = append(want, fmt.Sprintf(`{"out": %d}`, n))
			}
			if got := f.output("l"); got != "["+strings.Join(want, ",")+"]" {
				t.Fatalf("output %s", got)
			}
			f.expectEvents("created", "started", "step_started a", "step_completed a", "step_started l", "step_completed l", "step_started b")
			if s := f.step("l"); s.Attempt != 1 || s.Token != "" || s.Dispatch != 0 {
				t.Fatalf("step %+v", s)
			}
			if raw, _, _ := f.x.Input(engine.Place{Step: 1}); string(raw) != "null" {
				t.Fatalf("input of the LOOP itself %s", raw)
			}
		})
	}
}

func TestLoopOverNothing(t *testing.T) {
	f := submit(t, workflow(loops("l", `{"forEach":[]}`, nil), loops("w", `{"while":"false"}`, nil), step("b", on("l", "w"))))
	f.expectCounts("l", "0 begun, 0 completed, 0 failed")
	if !slices.Equal(f.last.Gather, []int{0, 1}) {
		t.Fatalf("to be gathered: %v", f.last.Gather)
	}
	f.gather("l")
	f.gather("w")
	f.expect("RUNNING: l COMPLETED, w COMPLETED, b RUNNING")
	if f.output("l") != "[]" || f.output("w") != "[]" {
		t.Fatalf("outputs %s, %s", f.output("l"), f.output("w"))
	}
}

func TestLoopOverNoArray(t *testing.T) {
	for config, want := range map[string]struct{ code, message string }{
		`{"forEach":"inputs.n"}`:                                {runner.CodeInvalidInput, "forEach gives no array"},
		`{"forEach":"inputs.m"}`:                                {runner.CodeInvalidInput, "forEach gives no array"},
		`{"forEach":"{{inputs}}"}`:                              {runner.CodeInvalidInput, "forEach gives no array"},
		`{"forEach":"{{inputs.n}}"}`:                            {runner.CodeInvalidInput, "forEach gives no array"},
		`{"forEach":"{{inputs.m}}"}`:                            {runner.CodeTemplate, "{{inputs.m}}"},
		`{"forEach":[1,"{{inputs.m}}"]}`:                        {runner.CodeTemplate, "{{inputs.m}}"},
		`{"forEach":"1 / 0"}`:                                   {runner.CodeExpression, "forEach"},
		`{"forEach":"map([1], # + \"x\")"}`:                     {runner.CodeExpression, "forEach"},
		`{"while":"inputs.n"}`:                                  {runner.CodeExpression, "while"},
		`{"while":"item.v > 1"}`:                                {runner.CodeExpression, "while"},
		`{"forEach":[1,2,3],"maxIterations":2}`:                 {runner.CodeLoopLimit, "forEach has 3 items, more than maxIterations of 2"},
		`{"forEach":"1..1001"}`:                                 {runner.CodeLoopLimit, "more than maxIterations of 1000"},
		`{"forEach":[1,2,3],"maxIterations":2,"maxFailures":9}`: {runner.CodeLoopLimit, "forEach has 3 items"},
	} {
		for e, state := range map[string]string{
			catalog.OnErrorFail: "FAILED: l FAILED, b SKIPPED", catalog.OnErrorRetry: "FAILED: l FAILED, b SKIPPED", catalog.OnErrorContinue: "RUNNING: l FAILED, b RUNNING",
		} {
			t.Run(e+"/"+config, func(t *testing.T) {
				f := submit(t, workflow(loops("l", config, nil, retry(3, 0), onError(e)), step("b", on("l"))))
				f.expect(state)
				f.expectError("l", want.code, want.message)
				f.expectCounts("l", "0 begun, 0 completed, 0 failed")
				if len(f.last.Gather) > 0 {
					t.Fatalf("to be gathered: %v", f.last.Gather)
				}
			})
		}
	}
}

func TestLoopOverAsMuchAsItMay(t *testing.T) {
	f := submit(t, workflow(loops("l", `{"forEach":[1,2],"maxIterations":2,"concurrency":2}`, nil), loops("m", `{"forEach":"1..1000"}`, nil)))
	f.expectReady("l#1 l#2 m#1")
}

func TestLoopOverTooMuch(t *testing.T) {
	f := submit(t, workflow(step("a", nil), loops("l", `{"forEach":["{{a.output}}","{{a.output}}","{{a.output}}","{{a.output}}"]}`, on("a"))))
	f.completed("a", big(1<<20))
	f.expectError("l", runner.CodeInputLimit, "loop over less")
}

// Begins, in their order, as many items as there is room for; what they give is in the order of the items.
func TestLoopConcurrency(t *testing.T) {
	f := submit(t, workflow(loops("l", `{"forEach":["a","b","c","d","e"],"concurrency":2}`, nil, inputs(`{"i":"{{item}}"}`))))
	f.expectReady("l#1 l#2")
	f.completed("l#2", `"B"`)
	f.expectReady("l#3")
	f.completed("l#3", `"C"`)
	f.expectReady("l#4")
	if got := f.input("l#1") + f.input("l#4"); got != `{"i":"a"}{"i":"d"}` {
		t.Fatalf("inputs %s", got)
	}
	f.completed("l#1", `"A"`)
	f.expectReady("l#5")
	f.completed("l#5", `"E"`)
	f.expectReady("")
	f.expectCounts("l", "5 begun, 4 completed, 0 failed")
	if f.x.Gathers(0) {
		t.Fatal("gathered before the last item has ended")
	}
	f.gather("l") // too early
	f.expectNothing()
	f.completed("l#4", `"D"`)
	f.expectGathered("l")
	f.gather("l")
	f.expect("COMPLETED: l COMPLETED")
	if got := f.output("l"); got != `["A","B","C","D","E"]` {
		t.Fatalf("output %s", got)
	}
}

func TestLoopConcurrencyBeyondItsItems(t *testing.T) {
	f := submit(t, workflow(loops("l", `{"forEach":[1,2],"concurrency":1000}`, nil), loops("m", `{"forEach":[1,2],"concurrency":-1}`, nil)))
	f.expectReady("l#1 l#2 m#1")
}

// Each item has tokens and idempotency keys of its own, and its attempts count for themselves.
func TestItemsAreTasks(t *testing.T) {
	f := submit(t, workflow(loops("l", `{"forEach":[1,2],"concurrency":2}`, nil, retry(1, 1000)), step("a", nil)))
	first, second := f.x.Task(f.place("l#1")).Token, f.x.Task(f.place("l#2")).Token
	if first == second || first == "" || first == f.step("a").Token {
		t.Fatalf("tokens %s, %s", first, second)
	}
	for _, in := range []engine.Input{
		{Step: "l", Token: first},                           // without the iteration
		{Step: "l", Iteration: 2, Token: first},             // another's
		{Step: "l", Iteration: 3, Token: first},             // none
		{Step: "l", Iteration: -1, Token: first},            //
		{Step: "a", Iteration: 1, Token: f.step("a").Token}, // a step without items
		{Step: "l", Iteration: 1},                           // without a token
	} {
		for _, kind := range []engine.Kind{engine.StepStarted, engine.StepCompleted, engine.StepFailed, engine.StepLost} {
			in.Kind, in.Dispatch, in.Output, in.Err = kind, 1, []byte(`9`), &final
			f.apply(in)
			f.expectNothing()
		}
	}
	f.started("l#1")
	if task := f.x.Task(f.place("l#1")); task.Backstop != f.now.Add(100_000_000+graceMs) || f.last.Changed || len(f.last.Rows) != 1 {
		t.Fatalf("item %+v, effects %+v", task, f.last)
	}
	f.apply(engine.Input{Kind: engine.StepLost, Step: "l", Iteration: 2, Token: second, Dispatch: 1})
	f.expectReady("l#2")
	if task := f.x.Task(f.place("l#2")); task.Token != second || task.Dispatch != 2 {
		t.Fatalf("item %+v", task)
	}
	stale := f.says(engine.StepCompleted, "l#1")
	stale.Output = []byte(`9`)
	f.failed("l#1", retryable)
	if names := eventNames(f.last.Events); !slices.Equal(names, []string{"step_retry_scheduled l#1"}) {
		t.Fatalf("events %v", names)
	}
	e := f.told(0)
	task := f.x.Task(f.place("l#1"))
	if e.Attempt != 1 || e.Iteration != 1 || e.Error.Code != retryable.Code || !e.Until.Equal(task.RetryAt.Std()) || e.Status != orchestrator.StepRunning || f.x.NextDue() != task.RetryAt {
		t.Fatalf("told %+v, item %+v", e, task)
	}
	f.apply(stale)
	f.expectNothing()
	f.due()
	f.expectReady("l#1")
	if task = f.x.Task(f.place("l#1")); task.Attempt != 2 || task.Token == first || len(f.last.Events) > 0 {
		t.Fatalf("item %+v, events %v", task, f.last.Events)
	}
	f.apply(stale)
	f.expectNothing()
	f.completed("l#1", `1`)
	f.apply(stale)
	f.expectNothing()
	if f.x.Task(f.place("l#1")) != nil {
		t.Fatal("the item is still there")
	}
	if row := f.last.Rows; len(row) != 0 {
		t.Fatalf("rows %+v", row)
	}
	f.failed("l#2", retryable)
	f.due()
	f.failed("l#2", retryable)
	f.expect("FAILED: l FAILED, a CANCELLED")
	f.expectError("l", retryable.Code, "item 1: 503")
}

func TestLoopTolerance(t *testing.T) {
	for name, c := range map[string]struct {
		config    string
		tolerated int
	}{
		"none":                         {`{"forEach":[0,1,2,3]}`, 0},
		"one":                          {`{"forEach":[0,1,2,3],"maxFailures":1}`, 1},
		"a quarter":                    {`{"forEach":[0,1,2,3],"maxFailurePercent":25}`, 1},
		"just not two":                 {`{"forEach":[0,1,2,3],"maxFailurePercent":49.9}`, 1},
		"half":                         {`{"forEach":[0,1,2,3],"maxFailurePercent":50}`, 2},
		"all":                          {`{"forEach":[0,1,2,3],"maxFailurePercent":100}`, 4},
		"more than all":                {`{"forEach":[0,1,2,3],"maxFailures":9}`, 4},
		"the larger bound, percent":    {`{"forEach":[0,1,2,3],"maxFailures":1,"maxFailurePercent":75}`, 3},
		"the larger bound, number":     {`{"forEach":[0,1,2,3],"maxFailures":3,"maxFailurePercent":25}`, 3},
		"of while by number":           {`{"while":"index < 4","maxFailures":2}`, 2},
		"of while no share":            {`{"while":"index < 4","maxFailurePercent":100}`, 0},
		"of while with nothing to end": {`{"while":"index < 4","maxFailures":4}`, 4},
	} {
		for _, concurrency := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s/%d", name, concurrency), func(t *testing.T) {
				config := strings.TrimSuffix(c.config, "}") + fmt.Sprintf(`,"concurrency":%d}`, concurrency)
				f := submit(t, workflow(loops("l", config, nil), step("b", on("l"), inputs(`{"x":"{{l.output}}"}`))))
				for n := 1; n <= c.tolerated; n++ {
					f.failed(fmt.Sprintf("l#%d", n), final)
					f.expect("RUNNING: l RUNNING, b PENDING")
					if len(f.last.Warnings) != 1 || f.last.Warnings[0].Iteration != n || f.last.Warnings[0].Attempt != 1 || !strings.Contains(f.last.Warnings[0].Message, fmt.Sprintf("item %d failed and is tolerated", n-1)) {
						t.Fatalf("warnings %+v", f.last.Warnings)
					}
				}
				if c.tolerated == 4 {
					f.expectGathered("l")
					f.gather("l")
					if got := f.input("b"); got != `{"x":[null,null,null,null]}` {
						t.Fatalf("input %s", got)
					}
					return
				}
				var running []string
				for _, item := range f.step("l").Items[1:] {
					running = append(running, fmt.Sprintf("l#%d", item.Iteration))
				}
				f.failed(fmt.Sprintf("l#%d", c.tolerated+1), final)
				f.expect("FAILED: l FAILED, b SKIPPED")
				f.expectError("l", final.Code, fmt.Sprintf("item %d: boom", c.tolerated))
				f.expectStopped(running...)
				if f.step("l").Error.Type != final.Type || f.step("l").Error.Stack != final.Stack {
					t.Fatalf("error %+v", f.step("l").Error)
				}
				rows := f.rows.tasks[engine.Place{Iteration: c.tolerated + 1}]
				if rows.status != orchestrator.StepFailed || len(f.step("l").Items) > 0 {
					t.Fatalf("row %+v", rows)
				}
			})
		}
	}
}

// null stands in for the output of an item that failed and is tolerated.
func TestToleratedFailuresAreNull(t *testing.T) {
	f := submit(t, workflow(loops("l", `{"forEach":[0,1,2],"concurrency":3,"maxFailures":1}`, nil)))
	f.completed("l#3", `"c"`)
	f.failed("l#2", final)
	f.completed("l#1", `"a"`)
	f.gather("l")
	f.expect("COMPLETED: l COMPLETED")
	if got := f.output("l"); got != `["a",null,"c"]` {
		t.Fatalf("output %s", got)
	}
	f.expectCounts("l", "3 begun, 2 completed, 1 failed")
}

// The failure of an item counts when its retries are used up, and ends the step under its onError.
func TestAnItemThatFailsEndsTheStep(t *testing.T) {
	for e, state := range map[string]string{
		catalog.OnErrorFail: "FAILED: l FAILED, b SKIPPED, c CANCELLED", catalog.OnErrorContinue: "RUNNING: l FAILED, b RUNNING, c RUNNING",
	} {
		t.Run(e, func(t *testing.T) {
			f := submit(t, workflow(loops("l", `{"forEach":[0,1,2,3],"concurrency":3}`, nil, onError(e)), step("b", on("l"), inputs(`{"why":"{{l.error.message}}","x":"{{l.output}}"}`)), step("c", nil)))
			late := f.says(engine.StepCompleted, "l#1")
			late.Output = []byte(`1`)
			f.completed("l#3", `3`)
			f.expectReady("l#4")
			f.failed("l#2", retryable)
			f.expect(state)
			if e == catalog.OnErrorFail {
				f.expectStopped("c", "l#1", "l#4")
			} else {
				f.expectStopped("l#1", "l#4")
				if got := f.input("b"); got != `{"why":"item 1: 503","x":null}` {
					t.Fatalf("input %s", got)
				}
			}
			for _, n := range []int{1, 4} {
				if r := f.rows.tasks[engine.Place{Iteration: n}]; r.status != orchestrator.StepCancelled || r.token == "" || r.ended.IsZero() {
					t.Fatalf("row %d is %+v", n, r)
				}
			}
			f.expectCounts("l", "4 begun, 1 completed, 1 failed")
			f.apply(late)
			f.expectNothing()
			f.gather("l")
			f.expectNothing()
		})
	}
}

// An item that is stopped by the same input that begins it is not sent.
func TestWhatIsStoppedAtOnceIsNotSent(t *testing.T) {
	config := `{"branches":[{"key":"x","agentId":"` + agentID + `"},{"key":"y","agentId":"` + agentID + `","inputs":{"z":"{{inputs.m}}"}},{"key":"z","agentId":"` + agentID + `"}]}`
	f := submit(t, strict(workflow(typed("p", catalog.StepParallel, config, nil, onError(catalog.OnErrorContinue)), step("b", on("p")))))
	f.expect("RUNNING: p FAILED, b RUNNING")
	f.expectReady("b")
	f.expectError("p", runner.CodeTemplate, "branch y: ")
	f.expectCounts("p", "2 begun, 0 completed, 1 failed")
}

// Two items that end by one input have the step gathered once.
func TestItemsThatEndTogether(t *testing.T) {
	f := submit(t, strict(workflow(loops("l", `{"forEach":[0,1,2],"maxFailures":3,"concurrency":3}`, nil, inputs(`{"x":"{{inputs.m}}"}`)), step("b", on("l")))))
	f.expectGathered("l")
	f.expectReady("")
	f.expectCounts("l", "3 begun, 0 completed, 3 failed")
	f.gather("l")
	f.expect("RUNNING: l COMPLETED, b RUNNING")
}

// What does not resolve in an item's inputs warns for that item.
func TestItemsWarnForThemselves(t *testing.T) {
	f := submit(t, workflow(loops("l", `{"forEach":[{"v":1},{}],"concurrency":2}`, nil, inputs(`{"x":"{{item.v}}"}`))))
	if w := f.last.Warnings; len(w) != 1 || w[0].Iteration != 2 || w[0].Step != 0 || w[0].Attempt != 1 || f.input("l#1") != `{"x":1}` || f.input("l#2") != `{"x":"{{item.v}}"}` {
		t.Fatalf("warnings %+v", w)
	}
	f = submit(t, strict(workflow(loops("l", `{"forEach":[{"v":1},{}],"concurrency":2}`, nil, inputs(`{"x":"{{item.v}}"}`)))))
	f.expect("FAILED: l FAILED")
	f.expectError("l", runner.CodeTemplate, "item 1: ")
}

// Outside of a LOOP nothing has the names item and index; inside one they reach into their values.
func TestItemAndIndex(t *testing.T) {
	f := submit(t, workflow(
		loops("l", `{"forEach":[{"v":[7]}]}`, nil, inputs(`{"a":"{{item.v[0]}}","b":"{{index}}","c":"{{index.x}}","d":"#{{index}}: {{item}}"}`)),
		step("a", nil, inputs(`{"a":"{{item}}","b":"{{index}}"}`)), branches("p", "", nil),
	))
	if got, want := f.input("l#1"), `{"a":7,"b":0,"c":"{{index.x}}","d":"#0: {\"v\":[7]}"}`; got != want {
		t.Fatalf("input %s, want %s", got, want)
	}
	if got, want := f.input("a"), `{"a":"{{item}}","b":"{{index}}"}`; got != want {
		t.Fatalf("input %s, want %s", got, want)
	}
}

// A while loop goes from one item to the next; each sees the output of the one before.
func TestLoopWhile(t *testing.T) {
	f := submit(t, workflow(loops("l", `{"while":"(item.v ?? 0) < 3 && index < 10","concurrency":5}`, nil, inputs(`{"before":"{{item}}","at":"{{index}}"}`)), step("b", on("l"))))
	before := "null"
	for n := 1; n <= 3; n++ {
		f.expectReady(fmt.Sprintf("l#%d", n))
		if got, want := f.input(fmt.Sprintf("l#%d", n)), fmt.Sprintf(`{"before":%s,"at":%d}`, before, n-1); got != want {
			t.Fatalf("input %s, want %s", got, want)
		}
		before = fmt.Sprintf(`{"v":%d}`, n)
		f.completed(fmt.Sprintf("l#%d", n), before)
	}
	f.expectGathered("l")
	if got := string(f.step("l").Last); got != `{"v":3}` {
		t.Fatalf("the last output is %s", got)
	}
	f.gather("l")
	f.expect("RUNNING: l COMPLETED, b RUNNING")
	if got := f.output("l"); got != `[{"v":1},{"v":2},{"v":3}]` {
		t.Fatalf("output %s", got)
	}
}

// What fails and is tolerated leaves the output before it in its place.
func TestLoopWhileAfterAFailure(t *testing.T) {
	f := submit(t, workflow(loops("l", `{"while":"index < 3","maxFailures":1}`, nil, inputs(`{"before":"{{item}}"}`), retry(1, 0))))
	f.completed("l#1", `"one"`)
	f.failed("l#2", retryable)
	f.due()
	if got := f.input("l#2"); got != `{"before":"one"}` {
		t.Fatalf("input %s", got)
	}
	f.failed("l#2", retryable)
	f.expectReady("l#3")
	if got := f.input("l#3"); got != `{"before":"one"}` {
		t.Fatalf("input %s", got)
	}
	f.completed("l#3", `"three"`)
	f.gather("l")
	if got := f.output("l"); got != `["one",null,"three"]` {
		t.Fatalf("output %s", got)
	}
}

func TestLoopWhileHasALimit(t *testing.T) {
	for while, c := range map[string]struct{ state, code string }{
		"index < 2": {"RUNNING: l RUNNING, a RUNNING", ""},
		"index < 3": {"FAILED: l FAILED, a CANCELLED", runner.CodeLoopLimit},
		"true":      {"FAILED: l FAILED, a CANCELLED", runner.CodeLoopLimit},
		"item.ok":   {"FAILED: l FAILED, a CANCELLED", runner.CodeExpression},
	} {
		t.Run(while, func(t *testing.T) {
			if while == "item.ok" {
				while = "index == 0 || item.ok"
			}
			f := submit(t, workflow(loops("l", `{"while":"`+while+`","maxIterations":2}`, nil), step("a", nil)))
			f.completed("l#1", `{"ok":true}`)
			f.completed("l#2", `{"ok":1}`)
			f.expect(c.state)
			if c.code != "" {
				f.expectError("l", c.code, "while")
			} else {
				f.expectGathered("l")
			}
			f.expectCounts("l", "2 begun, 2 completed, 0 failed")
		})
	}
}

func TestParallelJoins(t *testing.T) {
	ends := func(name string) (string, bool) { return strings.ToLower(name), name != strings.ToLower(name) }
	for name, c := range map[string]struct {
		join   string
		events string // "x" completes, "X" fails, in this order; what is left runs
		output string // "": it failed
		failed string // by which branch
		stops  string
	}{
		"all":                    {``, "z y x", `{"x":"x","y":"y","z":"z"}`, "", ""},
		"all, by name":           {`"all"`, "x y z", `{"x":"x","y":"y","z":"z"}`, "", ""},
		"all, by null":           {`null`, "x y z", `{"x":"x","y":"y","z":"z"}`, "", ""},
		"all, one fails":         {`"all"`, "x Y", ``, "y", "p#3"},
		"all, the last fails":    {`3`, "x z Y", ``, "y", ""},
		"any":                    {`"any"`, "y", `{"y":"y"}`, "", "p#1 p#3"},
		"any, after a failure":   {`"any"`, "X z", `{"z":"z"}`, "", "p#2"},
		"any, after two":         {`"any"`, "X Z y", `{"y":"y"}`, "", ""},
		"any, all fail":          {`"any"`, "X Z Y", ``, "y", ""},
		"two":                    {`2`, "z x", `{"x":"x","z":"z"}`, "", "p#2"},
		"two, after a failure":   {`2`, "Y z x", `{"x":"x","z":"z"}`, "", ""},
		"two, impossible":        {`2`, "Y X", ``, "x", "p#3"},
		"two, impossible in end": {`2`, "Y z X", ``, "x", ""},
		"one":                    {`1`, "x", `{"x":"x"}`, "", "p#2 p#3"},
	} {
		t.Run(name, func(t *testing.T) {
			f := submit(t, workflow(branches("p", c.join, nil, onError(catalog.OnErrorContinue)), step("b", on("p"))))
			f.expectReady("p#1 p#2 p#3")
			if got := f.input("p#2"); got != `{"is":"y"}` {
				t.Fatalf("input %s", got)
			}
			tokens := map[string]engine.Input{}
			for _, branch := range []string{"x", "y", "z"} {
				tokens[branch] = f.says(engine.StepCompleted, fmt.Sprintf("p#%d", branch[0]-'x'+1))
			}
			for _, e := range strings.Fields(c.events) {
				branch, fails := ends(e)
				f.expect("RUNNING: p RUNNING, b PENDING")
				in := tokens[branch]
				if fails {
					in.Kind, in.Err = engine.StepFailed, &final
				} else {
					in.Output = json.RawMessage(`"` + branch + `"`)
				}
				f.apply(in)
			}
			f.expectStopped(strings.Fields(c.stops)...)
			if c.output == "" {
				f.expect("RUNNING: p FAILED, b RUNNING")
				f.expectError("p", final.Code, "branch "+c.failed+": boom")
			} else {
				f.expectGathered("p")
				for branch := range tokens { // nothing counts any more
					late := tokens[branch]
					late.Output = []byte(`9`)
					f.apply(late)
					f.expectNothing()
				}
				f.gather("p")
				f.expect("RUNNING: p COMPLETED, b RUNNING")
				if got := f.output("p"); got != c.output {
					t.Fatalf("output %s, want %s", got, c.output)
				}
			}
		})
	}
}

func TestABranchThatFailsAndIsNotNeededWarns(t *testing.T) {
	f := submit(t, workflow(branches("p", `"any"`, nil, retry(1, 1000))))
	f.failed("p#2", retryable)
	if e := f.told(0); e.Iteration != 2 || f.x.NextDue() != f.x.Task(f.place("p#2")).RetryAt {
		t.Fatalf("told %+v", e)
	}
	f.due()
	f.failed("p#2", retryable)
	if w := f.last.Warnings; len(w) != 1 || w[0].Iteration != 2 || w[0].Attempt != 2 || !strings.HasPrefix(w[0].Message, "branch y failed and is tolerated") {
		t.Fatalf("warnings %+v", w)
	}
	f.failed("p#1", retryable) // backs off when it is not needed any more
	f.completed("p#3", `1`)
	f.expectStopped()
	if r := f.rows.tasks[engine.Place{Iteration: 1}]; r.status != orchestrator.StepCancelled || !r.retryAt.IsZero() {
		t.Fatalf("row %+v", r)
	}
	f.gather("p")
	f.expect("COMPLETED: p COMPLETED")
}

// The schemas and configs of each branch are those of its agent.
func TestBranchesHaveTheirOwnAgents(t *testing.T) {
	other := "01890a5d-ac96-774b-bcce-b302099a8099"
	d := workflow(typed("p", catalog.StepParallel, `{"branches":[{"key":"x","agentId":"`+agentID+`"},{"key":"y","agentId":"`+other+`"}]}`, nil))
	d.Agents = append(d.Agents, catalog.DefinitionAgent{ID: other, Type: "API", Config: json.RawMessage(`{"url":"u"}`)})
	f := submit(t, d)
	for n, want := range map[int]string{1: `{"config":{"runtime":"javascript"},"input":{}}`, 2: `{"config":{"url":"u"},"input":{}}`} {
		if body, serr := f.x.Body(engine.Place{Iteration: n}, nil); serr != nil || string(body) != want {
			t.Errorf("body %s, %v", body, serr)
		}
	}
	if w := f.x.Definition.Steps[0].Work(2); w.AgentID != other || w.AgentType != "API" {
		t.Errorf("work %+v", w)
	}
	if w := f.x.Definition.Steps[0].Work(0); w.AgentID != "" || !f.x.Definition.FansOut() || !f.x.Definition.Steps[0].FansOut() || f.x.Definition.Steps[0].Remembers() {
		t.Errorf("work of the step itself %+v", w)
	}
}

// LOOP and PARALLEL have their timeoutMs from when they became ready.
func TestFanOutsThatTakeTooLong(t *testing.T) {
	for name, s := range map[string]catalog.Step{
		"forEach":  loops("s", `{"forEach":[1,2,3],"concurrency":2}`, nil, within(5000), retry(1, 100_000), onError(catalog.OnErrorContinue)),
		"parallel": branches("s", `2`, nil, within(5000), onError(catalog.OnErrorContinue)),
	} {
		t.Run(name, func(t *testing.T) {
			f := submit(t, workflow(s, step("b", on("s"))))
			if f.x.NextDue() != start.Add(5000) {
				t.Fatalf("next due %d", f.x.NextDue())
			}
			f.started("s#1")
			f.completed("s#2", `1`)
			f.pass(4999)
			f.expectNothing()
			f.pass(1)
			f.expect("RUNNING: s FAILED, b RUNNING")
			f.expectError("s", runner.CodeStepTimeout, "5000")
			f.expectStopped("s#1", "s#3")
		})
	}
}

// An item whose runner falls silent counts like any other that fails; its step has the last word.
func TestItemsOfAStepWithoutATimeout(t *testing.T) {
	d := workflow(loops("l", `{"forEach":[1,2],"concurrency":2,"maxFailures":1}`, nil, within(0)))
	d.TimeoutMs = 0
	f := submit(t, d)
	if f.x.NextDue() != 0 {
		t.Fatalf("next due %d", f.x.NextDue())
	}
	f.started("l#1")
	f.started("l#2")
	f.pass(graceMs)
	f.expect("FAILED: l FAILED")
	f.expectError("l", runner.CodeStepTimeout, "item 1: ")
	f.expectCounts("l", "2 begun, 0 completed, 2 failed")
	f.expectStopped("l#1", "l#2")
}

func TestItemsWhenTheExecutionEnds(t *testing.T) {
	for name, end := range map[string]func(f *flow){
		"cancel":  func(f *flow) { f.cancel() },
		"timeout": func(f *flow) { f.pass(3_600_000) },
		"failure": func(f *flow) { f.failed("a", final) },
		"fault":   nil,
	} {
		t.Run(name, func(t *testing.T) {
			f := submit(t, workflow(loops("l", `{"forEach":[1,2,3,4],"concurrency":3}`, nil, retry(1, 10_000_000)), branches("p", "", nil), step("a", nil), loops("m", `{"forEach":[1]}`, on("a"))))
			f.completed("l#1", `1`)
			f.failed("l#2", retryable)
			f.completed("p#1", `1`)
			if end == nil {
				before := snapshot(f.x)
				out := engine.Fault(f.x, f.now, "ours", keys)
				if err := f.seen.check(before, f.x, out); err != nil {
					t.Fatal(err)
				}
				f.last = out
			} else {
				end(f)
			}
			stops := []string{"a", "l#3", "l#4", "p#2", "p#3"}
			if name == "failure" {
				stops = stops[1:]
			}
			f.expectStopped(stops...)
			f.expectCounts("l", "4 begun, 1 completed, 0 failed")
			cancelled := 0
			for _, r := range f.last.Rows {
				if r.Iteration > 0 && r.Status == orchestrator.StepCancelled && (r.Token != "") == (r.Place != engine.Place{Iteration: 2}) {
					cancelled++
				}
			}
			if cancelled != 5 {
				t.Fatalf("rows %+v", f.last.Rows)
			}
		})
	}
}

func TestGathered(t *testing.T) {
	ready := func(t *testing.T, e string) *flow {
		f := submit(t, workflow(loops("l", `{"forEach":[1,2],"concurrency":2}`, nil, onError(e), within(5000)), step("b", on("l")), step("c", nil)))
		f.gather("l") // too early
		f.expectNothing()
		f.completed("l#1", `1`)
		f.completed("l#2", `2`)
		f.expectGathered("l")
		return f
	}
	t.Run("twice", func(t *testing.T) {
		f := ready(t, catalog.OnErrorFail)
		f.gather("l")
		f.gather("l")
		f.expectNothing()
		f.apply(engine.Input{Kind: engine.Gathered, Step: "l", Err: &final})
		f.expectNothing()
		f.expect("RUNNING: l COMPLETED, b RUNNING, c RUNNING")
	})
	t.Run("late", func(t *testing.T) {
		f := ready(t, catalog.OnErrorContinue)
		f.pass(5000)
		f.expect("RUNNING: l FAILED, b RUNNING, c RUNNING")
		f.expectError("l", runner.CodeStepTimeout, "5000")
		f.gather("l")
		f.expectNothing()
	})
	t.Run("after the end", func(t *testing.T) {
		f := ready(t, catalog.OnErrorContinue)
		f.cancel()
		f.gather("l")
		f.expectNothing()
	})
	t.Run("of another", func(t *testing.T) {
		f := ready(t, catalog.OnErrorContinue)
		for _, key := range []string{"b", "c", "nobody", ""} {
			f.apply(engine.Input{Kind: engine.Gathered, Step: key, Output: []byte(`1`)})
			f.expectNothing()
		}
	})
	for e, state := range map[string]string{
		catalog.OnErrorFail: "FAILED: l FAILED, b SKIPPED, c CANCELLED", catalog.OnErrorContinue: "RUNNING: l FAILED, b RUNNING, c RUNNING",
	} {
		t.Run("failed/"+e, func(t *testing.T) {
			f := ready(t, e)
			_, serr := f.x.Definition.Steps[0].Gather(2, nil, true)
			f.apply(engine.Input{Kind: engine.Gathered, Step: "l", Err: serr})
			f.expect(state)
			f.expectError("l", runner.CodeOutputLimit, "return less")
		})
	}
}

// The outputs of all items together have the bound of one output, to the byte.
func TestGatherHasABound(t *testing.T) {
	def := compile(t, workflow(loops("l", `{"forEach":[1]}`, nil), branches("p", "", nil)))
	half := json.RawMessage(big(runner.MaxOutput / 2))
	for name, c := range map[string]struct {
		step, begun int
		around      string // what stands around two outputs
	}{
		"loop": {0, 4, `[,,null,null]`}, "parallel": {1, 3, `{"x":,"y":}`},
	} {
		last := runner.MaxOutput - len(half) - len(c.around)
		for size, ok := range map[int]bool{last: true, last + 1: false, runner.MaxOutput: false} {
			b, serr := def.Steps[c.step].Gather(c.begun, []engine.ItemOutput{{Iteration: 1, Output: half}, {Iteration: 2, Output: json.RawMessage(big(size))}}, false)
			if (serr == nil) != ok || ok && (len(b) != runner.MaxOutput || !json.Valid(b)) || !ok && serr.Code != runner.CodeOutputLimit {
				t.Errorf("%s with %d bytes gave %d, %v", name, size, len(b), serr)
			}
		}
	}
	if b, serr := def.Steps[0].Gather(runner.MaxOutput/4, nil, false); serr == nil {
		t.Errorf("as many failures gave %d bytes", len(b))
	}
	if b, serr := def.Steps[1].Gather(0, nil, false); serr != nil || string(b) != "{}" {
		t.Errorf("nothing gave %s, %v", b, serr)
	}
	if b, serr := def.Steps[0].Gather(0, nil, true); serr == nil || b != nil {
		t.Errorf("too much gave %s", b)
	}
}

func TestCompileRefusesFanOuts(t *testing.T) {
	other := "01890a5d-ac96-774b-bcce-b302099a80ff"
	for _, c := range []struct {
		stepType, config string
		change           func(*catalog.Step)
		want             string
	}{
		{catalog.StepLoop, `{"forEach":"1 +"}`, nil, "config.forEach: "},
		{catalog.StepLoop, `{"forEach":"{{"}`, nil, "config.forEach"},
		{catalog.StepLoop, `{}`, nil, "config.forEach"},
		{catalog.StepLoop, `{"while":"1 +"}`, nil, "config.while: "},
		{catalog.StepLoop, `{"while":1}`, nil, "config: "},
		{catalog.StepLoop, `{"forEach":[]}`, func(s *catalog.Step) { s.AgentID = nil }, "it names no agent"},
		{catalog.StepLoop, `{"forEach":[]}`, func(s *catalog.Step) { s.Inputs = json.RawMessage(`"{{"`) }, "inputs"},
		{catalog.StepParallel, `[]`, nil, "config: "},
		{catalog.StepParallel, `{"branches":[{"key":"x","agentId":"` + agentID + `"},{"key":"y","agentId":"` + other + `"}]}`, nil, "config.branches[1]: agent " + other},
		{catalog.StepParallel, `{"branches":[{"key":"x","agentId":"` + agentID + `"}],"join":2}`, nil, "config.join is 2"},
		{catalog.StepParallel, `{"branches":[{"key":"x","agentId":"` + agentID + `"}],"join":0}`, nil, "config.join is 0"},
		{catalog.StepParallel, `{"branches":[{"key":"x","agentId":"` + agentID + `"}],"join":"most"}`, nil, `config.join is "most"`},
	} {
		s := typed("s", c.stepType, c.config, nil)
		if c.change != nil {
			c.change(&s)
		}
		def, err := engine.Compile(workflow(s))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s gave %v, %v; want %q", c.config, def, err, c.want)
		}
	}
}
