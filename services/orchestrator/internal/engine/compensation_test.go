package engine_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
)

// undone lets a step be undone by an agent with inputs.
func undone(inputs string) func(*catalog.Step) {
	return func(s *catalog.Step) {
		s.Compensate = &catalog.Compensate{AgentID: agentID, Inputs: json.RawMessage(inputs), RetryCount: 2, RetryDelayMs: 1000, TimeoutMs: stepTimeoutMs}
	}
}

// order gives the keys of what a compensation undoes, in its order; nil for none.
func order(c *engine.Compensation) []string {
	if c == nil {
		return nil
	}
	var keys []string
	for _, s := range c.Definition.Steps {
		keys = append(keys, s.StepKey)
	}
	return keys
}

func TestCompensationIsInReverse(t *testing.T) {
	def := func() catalog.Definition {
		return workflow( // the definition names a step before its dependency
			step("third", on("second"), undone(`{}`)), step("second", on("first"), undone(`{}`)), step("first", nil, undone(`{}`)),
			step("beside", nil, undone(`{}`)), step("plain", nil), step("ends", on("third", "beside")),
		)
	}
	run := func(pause int64) *flow {
		f := submit(t, def())
		for _, key := range []string{"first", "beside", "plain", "second", "third"} {
			f.now = f.now.Add(pause)
			f.completed(key, `1`)
		}
		return f
	}
	for name, c := range map[string]struct {
		pause int64
		end   func(*flow) engine.Effects
		want  string
	}{
		"failed":        {1, func(f *flow) engine.Effects { return f.failed("ends", final) }, "third second beside first"},
		"at one moment": {0, func(f *flow) engine.Effects { return f.failed("ends", final) }, "third second beside first"},
		"cancelled":     {1, func(f *flow) engine.Effects { return f.cancel() }, "third second beside first"},
		"out of time": {1, func(f *flow) engine.Effects {
			f.now = f.now.Add(3_600_000)
			return f.apply(engine.Input{Kind: engine.TimerDue})
		}, "third second beside first"},
		"by our fault":    {1, func(f *flow) engine.Effects { return engine.Fault(f.x, f.now, "ours", f.keys) }, "third second beside first"},
		"completed":       {1, func(f *flow) engine.Effects { return f.completed("ends", `1`) }, ""},
		"before anything": {1, func(*flow) engine.Effects { g := submit(t, def()); return g.cancel() }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(order(c.end(run(c.pause)).Compensation), " "); got != c.want {
				t.Errorf("it undoes %q, want %q", got, c.want)
			}
		})
	}
}

// A result that was taken over may bear a later time than what was run after it; what it depends on is still undone later.
func TestCompensationHeedsDependenciesOverTimes(t *testing.T) {
	f := submit(t, workflow(step("a", nil, undone(`{}`)), step("b", on("a"), undone(`{}`)), step("c", nil, undone(`{}`)), step("d", on("b"))))
	f.completed("a", `1`)
	f.now = f.now.Add(10)
	f.completed("b", `1`)
	f.now = f.now.Add(10)
	f.completed("c", `1`)
	f.x.Steps[0].CompletedAt = f.now.Add(1000)
	effects := engine.Apply(f.x, engine.Input{Kind: engine.Cancel, Time: f.now}, keys)
	if got := strings.Join(order(effects.Compensation), " "); got != "b a c" {
		t.Errorf("it undoes %q", got)
	}
}

func TestCompensationOfWhatItHasRunItself(t *testing.T) {
	f := submit(t, workflow(step("a", nil, undone(`{}`)), step("b", nil, undone(`{}`)), step("failed", nil, onError(catalog.OnErrorContinue), undone(`{}`)), step("runs", nil, undone(`{}`))))
	f.completed("a", `1`)
	f.completed("b", `1`)
	f.failed("failed", final)
	f.x.Steps[0].Reused = true // the execution that has run it undoes it, or wants it to stay
	effects := engine.Apply(f.x, engine.Input{Kind: engine.Cancel, Time: f.now}, keys)
	if got := order(effects.Compensation); !slices.Equal(got, []string{"b"}) {
		t.Errorf("it undoes %q", got)
	}
}

func TestCompensationIsGivenWhatWasDone(t *testing.T) {
	for name, c := range map[string]struct {
		strict  bool
		inputs  string
		want    string
		warning string
	}{
		"its output":                  {false, `{"id":"{{a.output.id}}","all":"{{a.output}}","n":"{{inputs.n}}","x":"{{metadata.executionId}}"}`, `{"a":{"id":"{{inputs.n}}","all":{"id": "{{inputs.n}}"},"n":20,"x":"` + executionID + `"}}`, ""},
		"what is not there":           {false, `{"id":"{{a.output.none}}"}`, `{"a":{"id":"{{a.output.none}}"}}`, "in the inputs of its compensate does not resolve: {{a.output.none}}; it stays as written"},
		"what is not there, strictly": {true, `{"id":"{{a.output.none}}"}`, `{}`, "in the inputs of its compensate does not resolve: {{a.output.none}}; it can not be undone"},
	} {
		t.Run(name, func(t *testing.T) {
			d := workflow(step("a", nil, undone(c.inputs)), step("b", on("a")))
			d.StrictTemplates = c.strict
			f := submit(t, d)
			f.completed("a", `{"id": "{{inputs.n}}"}`)
			got := f.failed("b", final).Compensation
			if got == nil || string(got.Inputs) != c.want {
				t.Fatalf("it is given %+v", got)
			}
			if warned := strings.Join(f.warned, ""); warned != c.warning {
				t.Errorf("it warns %q", warned)
			}
			undoing := accepted(got.ID, compile(t, got.Definition))
			undoing.Inputs, undoing.CompensationOf = got.Inputs, executionID
			begun := engine.Apply(undoing, engine.Input{Kind: engine.Submitted, Time: start}, keys)
			if c.want == `{}` {
				if undoing.Status != orchestrator.ExecutionFailed || undoing.Error.Code != runner.CodeTemplate || undoing.Error.StepKey != "a" {
					t.Errorf("without inputs the compensation is %s with %+v", undoing.Status, undoing.Error)
				}
				return
			}
			input, unresolved, failure := undoing.Input(engine.Place{})
			if want := strings.TrimSuffix(strings.TrimPrefix(c.want, `{"a":`), "}"); len(begun.Ready) != 1 || string(input) != want || len(unresolved) > 0 || failure != nil {
				t.Errorf("its agent is given %s, unresolved %v, %v", input, unresolved, failure)
			}
		})
	}
}

func TestCompensationBoundsItsInputs(t *testing.T) {
	var steps []catalog.Step
	for _, key := range strings.Fields("a b c d e f g") {
		steps = append(steps, step(key, nil, undone(`{"x":["{{a.output}}","{{a.output}}","{{a.output}}"]}`)))
	}
	steps[1].Compensate.Inputs = json.RawMessage(`{"x":["{{a.output}}","{{a.output}}","{{a.output}}","{{a.output}}","{{a.output}}"]}`) // more than one step may have
	f := submit(t, workflow(append(steps, step("open", nil))...))
	large := `"` + strings.Repeat("x", 1<<20-2) + `"`
	for _, s := range steps {
		f.now = f.now.Add(1)
		f.completed(s.StepKey, large)
	}
	got := f.cancel().Compensation
	var inputs map[string]json.RawMessage
	if err := json.Unmarshal(got.Inputs, &inputs); err != nil || len(got.Inputs) > engine.MaxCompensationInputs {
		t.Fatalf("the inputs have %d bytes, %v", len(got.Inputs), err)
	}
	// b has too much, and a what is too much beside the others, which come before.
	if len(inputs) != 5 || inputs["b"] != nil || inputs["a"] != nil || len(f.warned) != 2 || len(order(got)) != 7 {
		t.Errorf("of %v %d have inputs, warned %q", order(got), len(inputs), f.warned)
	}
}

// The execution of a compensation is the same however often the end is decided, and so is what its steps are known by to those
// who undo, over its retries; nobody else's is.
func TestCompensationIsNamedOnce(t *testing.T) {
	end := func() *engine.Compensation {
		f := submit(t, workflow(step("a", nil, undone(`{}`)), step("b", nil)))
		f.completed("a", `1`)
		f.keys.Generation++
		return f.cancel().Compensation
	}
	first, again := end(), end()
	if first.ID != again.ID || subject.PartitionOf(first.ID) != 5 {
		t.Errorf("it is %s, and %s when it is decided again", first.ID, again.ID)
	}
	key := func(id, of string) string {
		x := accepted(id, compile(t, first.Definition))
		x.CompensationOf = of
		return x.IdempotencyKey(keys, engine.Place{})
	}
	if key(first.ID, executionID) != key(workflowID, executionID) {
		t.Error("a compensation that is run again has other idempotency keys")
	}
	if others := []string{key(executionID, ""), key(first.ID, workflowID), key(first.ID, "")}; slices.Contains(others, key(first.ID, executionID)) {
		t.Error("another execution has the compensation's idempotency key")
	}
}
