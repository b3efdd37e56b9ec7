package engine_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

// What the engine decides by is read when it is needed, and what only runners need never.
func TestStoredOutputs(t *testing.T) {
	f := submit(t, outputs(workflow(
		step("a", nil),
		step("b", on("a"), inputs(`{"x":"{{a.output.n}}"}`)),
		condition("c", `{"expression":"a.output.n > 1","then":["d"]}`, on("b")),
		step("d", on("c")),
		loops("l", `{"forEach":"{{a.output.list}}"}`, on("d"), inputs(`{"i":"{{item}}"}`)),
	), `{"n":"{{a.output.n}}"}`))
	f.completed("a", f.large(`{"n":2,"list":["x"]}`))
	f.expectReady("b")
	if !f.x.Defers(engine.Place{Step: 1}) {
		t.Error("b does not defer its inputs")
	}
	if got := f.input("b"); got != `{"x":2}` {
		t.Errorf("inputs %s", got)
	}
	f.completed("b", "1")
	f.expectReady("d")
	f.completed("d", f.large(`"large"`))
	f.expectReady("l#1")
	if f.x.Defers(engine.Place{Step: 4, Iteration: 1}) || f.input("l#1") != `{"i":"x"}` {
		t.Error("the items of a LOOP are not in memory")
	}
	f.completed("l#1", f.large(`"item"`))
	f.gather("l")
	if !slices.Equal(f.last.Gather, []int{engine.Outputs}) || f.x.Status != orchestrator.ExecutionRunning || !f.x.Gathers(engine.Outputs) {
		t.Fatalf("the outputs are not gathered: %+v, %s", f.last.Gather, f.x.Status)
	}
	made, failure := f.x.GatherOutputs()
	if string(made) != `{"n":2}` || failure != nil {
		t.Fatalf("outputs %s, %v", made, failure)
	}
	f.apply(engine.Input{Kind: engine.Gathered, Output: made})
	f.apply(engine.Input{Kind: engine.Gathered, Output: json.RawMessage("1")}) // a second one changes nothing
	if got := string(f.x.OutputsByKey()); f.x.Status != orchestrator.ExecutionCompleted || got != `{"n":2}` {
		t.Fatalf("%s with %s", f.x.Status, got)
	}
}

// Outputs of a workflow that can not be made fail the execution.
func TestOutputsThatCanNotBeGathered(t *testing.T) {
	f := submit(t, outputs(workflow(step("a", nil)), `["{{a.output}}"]`))
	f.completed("a", big(runner.MaxInline))
	f.apply(engine.Input{Kind: engine.Gathered, Err: &runner.StepError{Code: runner.CodeOutputLimit, Message: "too much"}})
	f.expect("FAILED: a COMPLETED")
	if f.x.Error.Code != runner.CodeOutputLimit || f.x.OutputsByKey() != nil {
		t.Fatalf("error %+v", f.x.Error)
	}
}

// An output that the ledger has not is not a result: the attempt is sent again, a few times.
func TestMissingOutput(t *testing.T) {
	f := submit(t, workflow(step("a", nil)))
	missing := engine.Input{Kind: engine.StepCompleted, Step: "a", Token: f.step("a").Token, Output: runner.ReferTo([]byte("1")).Payload(), Missing: true}
	for n := 2; n <= 5; n++ {
		f.apply(missing)
		f.expectReady("a")
		if s := f.step("a"); s.Dispatch != n || s.Token != missing.Token {
			t.Fatalf("dispatch %d", s.Dispatch)
		}
	}
	f.apply(missing)
	f.expectError("a", runner.CodeInvalidOutput, "not where its runner says")
}

// A step that would have too much in memory to be decided fails, by name.
func TestReadsTooMuch(t *testing.T) {
	f := submit(t, workflow(step("a", nil), step("b", nil), condition("c", `{"expression":"a.output == b.output"}`, on("a", "b"))))
	ref := runner.ReferTo([]byte("1"))
	ref.Size = runner.MaxOutput
	f.completed("a", string(ref.Payload()))
	ref = runner.ReferTo([]byte("2"))
	f.completed("b", string(ref.Payload()))
	f.expectError("c", runner.CodeInputLimit, "let a step before it pick")
}

func TestOutputsSize(t *testing.T) {
	f := submit(t, workflow(step("a", nil), step("bb", nil), step("c", nil, onError(catalog.OnErrorContinue))))
	if f.x.OutputsSize() != 0 {
		t.Error("outputs before the end")
	}
	f.completed("a", f.large(`"`+strings.Repeat("x", 1000)+`"`))
	f.completed("bb", "1")
	f.completed("c", "null")
	if got := len(f.x.OutputsByKey()); got != f.x.OutputsSize() {
		t.Errorf("%d bytes are said to be %d", got, f.x.OutputsSize())
	}
}

// The inputs of an execution that a step waits for are checked when they are put together.
func TestStoredInputsOfAChild(t *testing.T) {
	for _, strict := range []bool{false, true} {
		x := child(t, catalog.OnErrorFail, `{"a":"{{inputs.n}}","none":"{{inputs.none}}"}`, `{"workflowId":"w"}`)
		x.Definition.Strict = strict
		x.Inputs = runner.ReferTo([]byte(`{"n":1}`)).Payload()
		x.Payloads = func(runner.Reference) json.RawMessage { return json.RawMessage(`{"n":1}`) }
		begun := engine.Apply(x, engine.Input{Kind: engine.Submitted, Time: start}, keys)
		raw, warnings, failure := x.ChildInputs(engine.Place{})
		if len(begun.Children) != 1 || strict != (failure != nil) || !strict && (len(warnings) != 1 || string(raw) != `{"a":1,"none":"{{inputs.none}}"}`) {
			t.Errorf("strict %t: %s, %v, %v", strict, raw, warnings, failure)
		}
		// Its result is stored with it before it is told; one that is not there is told again.
		missing := engine.Input{Kind: engine.StepCompleted, Step: "a", Token: x.Steps[0].Token, Output: runner.ReferTo([]byte("1")).Payload(), Missing: true, Time: start}
		if out := engine.Apply(x, missing, keys); !out.None() || x.Steps[0].Attempt != 1 {
			t.Errorf("a result that is not there has effects: %+v", out)
		}
	}
}
