package engine_test

import (
	"encoding/json"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

// child is an execution of one step that is another execution.
func child(t *testing.T, onError, inputs, config string) *engine.Execution {
	t.Helper()
	agent := "c"
	def, err := engine.Compile(catalog.Definition{
		Steps: []catalog.Step{{
			StepKey: "s", StepType: catalog.StepAgent, AgentID: &agent, OnError: onError, RetryCount: 1, RetryDelayMs: 1000, TimeoutMs: 60_000, Inputs: json.RawMessage(inputs),
		}},
		Agents: []catalog.DefinitionAgent{{ID: agent, Type: catalog.AgentWorkflow, Config: json.RawMessage(config)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return accepted(executionID, def)
}

func TestAChildIsAnAttempt(t *testing.T) {
	x := child(t, catalog.OnErrorRetry, `{"a":"{{inputs.n}}","b":2}`, `{"workflowId":"w","inputs":{"b":1,"c":[3]},"timeoutMs":5000}`)
	out := engine.Apply(x, engine.Input{Kind: engine.Submitted, Time: start}, keys)
	s := &x.Steps[0]
	first := s.Child
	if len(out.Ready) != 0 || len(out.Children) != 1 || first == "" || s.Backstop != start.Add(5000) || !s.AwaitsResult() {
		t.Fatalf("effects %+v, step %+v", out, s)
	}
	for range x.Awaiting() {
		t.Error("it awaits a runner")
	}
	if raw, _, failure := x.ChildInputs(engine.Place{}); failure != nil || string(raw) != `{"a":20,"b":2,"c":[3]}` {
		t.Errorf("inputs %s, %v", raw, failure)
	}
	out = engine.Apply(x, engine.Input{Kind: engine.TimerDue, Time: start.Add(5000)}, keys)
	if len(out.Stop) != 1 || out.Stop[0].Child != first || s.RetryAt == 0 || s.Error.Code != runner.CodeStepTimeout {
		t.Fatalf("effects %+v, step %+v", out, s)
	}
	engine.Apply(x, engine.Input{Kind: engine.TimerDue, Time: s.RetryAt}, keys)
	if s.Child == first || s.Child == "" || s.Attempt != 2 {
		t.Fatalf("the next attempt is %+v", s)
	}
	out = engine.Apply(x, engine.Input{Kind: engine.Cancel, Command: "c", Time: s.RetryAt}, keys)
	if len(out.Stop) != 1 || out.Stop[0].Child != s.Child || len(out.Children) != 0 || x.Status != orchestrator.ExecutionCancelled {
		t.Fatalf("effects %+v", out)
	}
}

func TestEnding(t *testing.T) {
	for status, want := range map[string]struct {
		output, code string
		retryable    bool
	}{
		orchestrator.ExecutionCompleted: {`{"s":7}`, "", false},
		orchestrator.ExecutionFailed:    {"", runner.CodeChildFailed, true},
		orchestrator.ExecutionTimeout:   {"", runner.CodeChildTimeout, true},
		orchestrator.ExecutionCancelled: {"", runner.CodeChildStopped, false},
	} {
		x := child(t, catalog.OnErrorFail, `{}`, `{"workflowId":"w"}`)
		x.Status = status
		x.Steps[0].Status, x.Steps[0].Output = orchestrator.StepCompleted, json.RawMessage(`7`)
		output, failure := x.Ending()
		if string(output) != want.output || (failure == nil) != (want.code == "") || failure != nil && (failure.Code != want.code || failure.Retryable != want.retryable) {
			t.Errorf("%s: %s, %+v", status, output, failure)
		}
	}
	x := child(t, catalog.OnErrorFail, `{}`, `{"workflowId":"w"}`)
	x.Status, x.Steps[0].Status, x.Steps[0].Output = orchestrator.ExecutionCompleted, orchestrator.StepCompleted, make([]byte, runner.MaxOutput)
	if _, failure := x.Ending(); failure == nil || failure.Code != runner.CodeOutputLimit {
		t.Errorf("too much ends with %v", failure)
	}
	if raw, _, failure := child(t, catalog.OnErrorFail, `[]`, `{"workflowId":"w"}`).ChildInputs(engine.Place{}); failure == nil || failure.Code != runner.CodeInvalidInput {
		t.Errorf("inputs that are a list are %s, %v", raw, failure)
	}
}
