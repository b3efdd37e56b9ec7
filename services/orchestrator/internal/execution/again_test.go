package execution

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

// diamond has failed: a and b completed, c failed, d was never begun.
func diamond(t *testing.T) *story {
	t.Helper()
	return begin(t, `{"n":1}`, step("a", catalog.StepAgent, `{}`), step("b", catalog.StepAgent, `{}`, "a"), step("c", catalog.StepAgent, `{}`, "a"), step("d", catalog.StepAgent, `{}`, "b", "c")).
		completed("a", `1`).completed("b", `2`).failed("c", runner.CodeError).status(ended)
}

func reused(a Accepted) string {
	var out []string
	for _, r := range a.Reused {
		out = append(out, a.Definition.Steps[r.Index].StepKey+string(r.Output))
	}
	return strings.Join(out, " ")
}

func TestRetryOf(t *testing.T) {
	t.Parallel()
	a, err := retryOf(diamond(t).r)
	if err != nil || reused(a) != "a b" || a.RetryOf != someExecution || string(a.Inputs) != `{"n":1}` || a.TriggerType != orchestrator.TriggerAPI || a.DefinitionBody != nil {
		t.Errorf("%+v, %v", a, err)
	}
	one := step("a", catalog.StepAgent, `{}`)
	for status, s := range map[string]*story{
		orchestrator.ExecutionPending: accepted(t, `{}`, one), orchestrator.ExecutionRunning: begin(t, `{}`, one),
		orchestrator.ExecutionPaused: begin(t, `{}`, one).then(0, engine.Input{Kind: engine.Pause}), orchestrator.ExecutionCompleted: begin(t, `{}`, one).completed("a", `1`),
	} {
		if _, err := retryOf(s.status(status).r); errs.CodeOf(err) != errs.Conflict {
			t.Errorf("%s: %v", status, err)
		}
	}
	for status, s := range map[string]*story{
		orchestrator.ExecutionCancelled: begin(t, `{}`, one).then(0, engine.Input{Kind: engine.Cancel}),
		orchestrator.ExecutionTimeout:   begin(t, `{}`, one).then(2*time.Hour, engine.Input{Kind: engine.TimerDue}),
	} {
		if _, err := retryOf(s.status(status).r); err != nil {
			t.Errorf("%s: %v", status, err)
		}
	}
}

func TestRerunOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		req    orchestrator.RerunRequest
		reused string
		faults string
	}{
		{name: "from the beginning", req: orchestrator.RerunRequest{From: "a"}, reused: ""},
		{name: "from a branch", req: orchestrator.RerunRequest{From: "b"}, reused: "a"},
		{name: "from the end", req: orchestrator.RerunRequest{From: "d"}, reused: "a b"},
		{name: "other output", req: orchestrator.RerunRequest{From: "c", Outputs: outputs("a", ` {"x":1} `)}, reused: `a{"x":1} b`},
		{name: "output of what failed", req: orchestrator.RerunRequest{From: "d", Outputs: outputs("c", `null`)}, reused: "a b cnull"},
		{name: "nowhere", req: orchestrator.RerunRequest{}, faults: "from"},
		{name: "unknown", req: orchestrator.RerunRequest{From: "x", Outputs: outputs("y", `1`)}, faults: "from outputs.y"},
		{name: "output of what runs", req: orchestrator.RerunRequest{From: "b", Outputs: outputs("b", `1`, "d", `1`)}, faults: "outputs.b outputs.d"},
		{name: "no JSON", req: orchestrator.RerunRequest{From: "b", Outputs: outputs("a", `{`)}, faults: "outputs.a"},
		{name: "inputs", req: orchestrator.RerunRequest{From: "b", Inputs: json.RawMessage(`[]`), IdempotencyKey: "\n"}, faults: "Idempotency-Key inputs"},
		{name: "large", req: orchestrator.RerunRequest{From: "b", Outputs: outputs("a", `"`+strings.Repeat("x", runner.MaxOutput)+`"`)}, faults: "outputs.a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := rerunOf(diamond(t).r, c.req)
			var faults []string
			if err != nil {
				for _, d := range errs.From(err).Details {
					faults = append(faults, d.Field)
				}
			}
			if strings.Join(faults, " ") != c.faults || err == nil && reused(got) != c.reused {
				t.Errorf("reuses %q, %v", reused(got), err)
			}
		})
	}
	if _, err := rerunOf(begin(t, `{}`, step("a", catalog.StepAgent, `{}`)).r, orchestrator.RerunRequest{From: "a"}); errs.CodeOf(err) != errs.Conflict {
		t.Errorf("one that runs: %v", err)
	}
	got, err := rerunOf(diamond(t).r, orchestrator.RerunRequest{From: "d", Inputs: json.RawMessage(`{"n":2}`)})
	if err != nil || string(got.Inputs) != `{"n":2}` {
		t.Errorf("%s, %v", got.Inputs, err)
	}
}

func outputs(pairs ...string) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for pair := range slices.Chunk(pairs, 2) {
		out[pair[0]] = json.RawMessage(pair[1])
	}
	return out
}

// TestReusedStepsDoNotRun has the engine begin an execution of which some steps, or all, have results.
func TestReusedStepsDoNotRun(t *testing.T) {
	t.Parallel()
	old := diamond(t).r.Execution
	fresh := func(keys ...string) *engine.Execution {
		x := *engine.New(engine.Execution{ID: someExecution, Inputs: old.Inputs}, old.Definition)
		for _, key := range keys {
			i, _ := old.Definition.StepIndex(key)
			x.Steps[i].Task = engine.Task{Status: orchestrator.StepCompleted, Attempt: 1, Output: json.RawMessage(`1`), StartedAt: began, CompletedAt: began}
		}
		return engine.Restore(x, old.Definition)
	}
	for _, c := range []struct {
		name   string
		x      *engine.Execution
		ready  string
		status string
	}{
		{"some", fresh("a", "b"), "c", running},
		{"a middle one", fresh("b"), "a", running},
		{"all but the last", fresh("a", "b", "c"), "d", running},
		{"all", fresh("a", "b", "c", "d"), "", completed},
	} {
		effects := engine.Apply(c.x, engine.Input{Kind: engine.Submitted, Time: began}, engine.Keys{})
		var ready []string
		for _, p := range effects.Ready {
			ready = append(ready, old.Definition.Steps[p.Step].Key)
		}
		if strings.Join(ready, " ") != c.ready || c.x.Status != c.status || len(effects.Rows) != len(ready) {
			t.Errorf("%s: %v ready, %d rows, %s", c.name, ready, len(effects.Rows), c.x.Status)
		}
	}
}
