package orchestrator_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/bus"
)

// text gives a JSON string of n bytes.
func text(n int) string { return `"` + strings.Repeat("x", n-2) + `"` }

// Large payloads go through steps of every kind, over a hand-over, and are shown whole.
func TestLargePayloads(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	stop := in.start()
	var wait atomic.Bool
	wait.Store(true)
	in.play(func(a attempt) (string, *runner.StepError) {
		switch {
		case a.step == "b" && wait.Load():
			return "", nil // its runner dies
		case a.step == "a":
			return `{"list":[1,2,3],"blob":` + text(500<<10) + `}`, nil
		case a.step == "each":
			return text(100 << 10), nil
		}
		return string(a.input), nil
	})
	workflow := in.define(catalog.Definition{TimeoutMs: 600_000, Outputs: json.RawMessage(`{"n":"{{b.output.n}}","each":"{{each.output}}","blob":"{{b.output.blob}}"}`)},
		catalog.Step{StepKey: "a", Inputs: json.RawMessage(`{"all":"{{inputs}}"}`)},
		catalog.Step{StepKey: "c", StepType: catalog.StepCondition, DependsOn: []string{"a"}, Config: json.RawMessage(`{"expression":"len(a.output.list) == inputs.n","then":["b"]}`)},
		catalog.Step{StepKey: "b", DependsOn: []string{"c", "a"}, Inputs: json.RawMessage(`{"n":"{{inputs.n}}","blob":"{{a.output.blob}}"}`)},
		catalog.Step{StepKey: "each", StepType: catalog.StepLoop, DependsOn: []string{"b", "a"}, Inputs: json.RawMessage(`{"i":"{{item}}","n":"{{inputs.n}}"}`), Config: json.RawMessage(`{"forEach":"{{a.output.list}}","concurrency":1}`)},
	)
	inputs := `{"n":3,"x":` + text(400<<10) + `}`
	id := in.submit(workflow, inputs).ID
	in.await(id, "at b", func(x contract.Execution) bool { return x.Steps[2].Status == contract.StepRunning })
	stop()
	in.start()
	wait.Store(false)
	x := in.await(id, "ended", terminal)
	if x.Status != contract.ExecutionCompleted || string(x.Inputs) != inputs || len(x.Omitted) > 0 {
		t.Fatalf("%s, %v, inputs of %d bytes, omitted %v", x.Status, x.Error, len(x.Inputs), x.Omitted)
	}
	want := fmt.Sprintf(`{"n":3,"each":[%[1]s,%[1]s,%[1]s],"blob":%[2]s}`, text(100<<10), text(500<<10))
	if string(x.Outputs) != want {
		t.Errorf("outputs of %d bytes: %.200s", len(x.Outputs), x.Outputs)
	}
	if string(x.Steps[0].Input) != `{"all":`+inputs+`}` || len(x.Steps[3].Output) < 300<<10 {
		t.Errorf("input of %d bytes, gathered %d bytes", len(x.Steps[0].Input), len(x.Steps[3].Output))
	}
	in.checkLedger(in.db())
}

// Outputs have their exact bytes up to the limit, and a named error beyond.
func TestOutputSizes(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.start()
	sizes := []int{runner.MaxInline, runner.MaxInline + 1, 1<<20 - 1, 1 << 20, 1<<20 + 1, 8 << 20, runner.MaxOutput + 1}
	in.play(func(a attempt) (string, *runner.StepError) {
		var which struct{ I int }
		if err := json.Unmarshal(a.input, &which); err != nil {
			return "", &runner.StepError{Code: runner.CodeInternal, Message: err.Error()}
		}
		if sizes[which.I] > runner.MaxOutput { // a runner that stores nothing of it, and could not send it as it is
			if err := report(in.conn.JetStream(), a, text(1<<20+1), nil); err != nil {
				return "", &runner.StepError{Code: runner.CodeInternal, Message: err.Error()}
			}
			return "", nil
		}
		return text(sizes[which.I]), nil
	})
	workflow := in.define(catalog.Definition{TimeoutMs: 600_000, Outputs: json.RawMessage(`1`)}, catalog.Step{StepKey: "a", Inputs: json.RawMessage(`{"i":"{{inputs.i}}"}`)})
	for i, size := range sizes {
		x := in.await(in.submit(workflow, fmt.Sprintf(`{"i":%d}`, i)).ID, "ended", terminal)
		if size > runner.MaxOutput {
			if x.Error == nil || x.Error.Code != runner.CodeOutputLimit {
				t.Errorf("%d bytes: %s, %v", size, x.Status, x.Error)
			}
		} else if x.Status != contract.ExecutionCompleted || len(x.Steps[0].Output) != size {
			t.Errorf("%d bytes: %s, %v, %d bytes", size, x.Status, x.Error, len(x.Steps[0].Output))
		}
	}
}

// A reference to what is not stored, as a restored database makes it, has the attempt run again.
func TestOutputThatIsNotStored(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.start()
	var runs atomic.Int32
	in.lies = func(*attempt) bool { return runs.Load() < 3 }
	in.play(func(attempt) (string, *runner.StepError) {
		runs.Add(1)
		return text(runner.MaxInline + 1), nil
	})
	x := in.await(in.submit(in.workflow(catalog.Step{StepKey: "a"}), `{}`).ID, "ended", terminal)
	if x.Status != contract.ExecutionCompleted || runs.Load() != 3 || x.Steps[0].Attempts != 1 {
		t.Errorf("%s after %d runs: %v", x.Status, runs.Load(), x.Error)
	}
}

// What is run again, and what waits for another execution, has the payloads of that.
func TestLargePayloadsOfOthers(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.start()
	var fails atomic.Bool
	fails.Store(true)
	in.play(func(a attempt) (string, *runner.StepError) {
		if a.step == "b" && fails.Load() {
			return "", &runner.StepError{Code: runner.CodeError, Message: "not yet"}
		}
		if a.step == "b" {
			return `{"got":` + fmt.Sprint(len(a.input)) + `}`, nil
		}
		return text(200 << 10), nil
	})
	steps := []catalog.Step{{StepKey: "a"}, {StepKey: "b", DependsOn: []string{"a"}, Inputs: json.RawMessage(`["{{a.output}}","{{inputs.x}}"]`)}}
	workflow := in.workflow(steps...)
	x := in.await(in.submit(workflow, `{"x":`+text(200<<10)+`}`).ID, "ended", terminal)
	if x.Status != contract.ExecutionFailed {
		t.Fatalf("%s", x.Status)
	}
	fails.Store(false)
	resp, err := bus.Call(t.Context(), in.conn, contract.Retry, in.owner, contract.RetryRequest{ID: x.ID})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf(`{"got":%d}`, 200<<10+200<<10+len(`[,]`))
	x = in.await(resp.Execution.ID, "ended", terminal)
	if x.Status != contract.ExecutionCompleted || string(x.Steps[1].Output) != got || len(x.Steps[0].Output) != 200<<10 {
		t.Errorf("%s, %v: %s", x.Status, x.Error, x.Steps[1].Output)
	}
	// Its limit counts what is run again by the inputs themselves.
	limited := in.define(catalog.Definition{TimeoutMs: 600_000, StrictTemplates: true, Concurrency: &catalog.Concurrency{Max: 1, Key: "{{inputs.k}}", OnLimit: catalog.OnLimitQueue}}, steps...)
	fails.Store(true)
	x = in.await(in.submit(limited, `{"k":"one","x":`+text(200<<10)+`}`).ID, "ended", terminal)
	fails.Store(false)
	if resp, err = bus.Call(t.Context(), in.conn, contract.Retry, in.owner, contract.RetryRequest{ID: x.ID}); err != nil {
		t.Fatal(err)
	}
	if x = in.await(resp.Execution.ID, "ended", terminal); x.Status != contract.ExecutionCompleted {
		t.Errorf("under a limit: %s, %v", x.Status, x.Error)
	}
	parent := in.parent(workflow, map[string]any{}, catalog.Step{StepKey: "p", Inputs: json.RawMessage(`{"x":"{{inputs.x}}"}`)})
	x = in.await(in.submit(parent, `{"x":`+text(200<<10)+`}`).ID, "ended", terminal)
	if want := `{"a":` + text(200<<10) + `,"b":` + got + `}`; x.Status != contract.ExecutionCompleted || string(x.Steps[0].Output) != want {
		t.Errorf("%s, %v: %d bytes", x.Status, x.Error, len(x.Steps[0].Output))
	}
}

// Only services store payloads and ask for bodies, and what they store is checked.
func TestPayloadsAreForServices(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.start()
	x := in.submit(in.workflow(catalog.Step{StepKey: "a"}), `{}`)
	for name, c := range map[string]struct {
		caller rpc.Caller
		id     string
		body   string
		code   errs.Code
	}{
		"a user":              {in.owner, x.ID, `1`, errs.Forbidden},
		"no JSON":             {rpc.System("t"), x.ID, `{`, errs.Validation},
		"of nobody":           {rpc.System("t"), "0198c1f2-0000-7000-8000-000000000000", `1`, errs.NotFound},
		"an id that is no id": {rpc.System("t"), "x", `1`, errs.NotFound},
	} {
		if _, err := bus.Call(t.Context(), in.conn, contract.StorePayload, c.caller, contract.StorePayloadRequest{ExecutionID: c.id, Payload: []byte(c.body)}); errs.CodeOf(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := bus.Call(t.Context(), in.conn, contract.AttemptBody, in.owner, contract.AttemptRequest{ExecutionID: x.ID}); errs.CodeOf(err) != errs.Forbidden {
		t.Errorf("a user gets a body: %v", err)
	}
	resp, err := bus.Call(t.Context(), in.conn, contract.AttemptBody, rpc.System("t"), contract.AttemptRequest{ExecutionID: x.ID, StepKey: "a", Token: "another"})
	if err != nil || resp.Body != nil || resp.Failure != nil {
		t.Errorf("an attempt that is not awaited gets %+v, %v", resp, err)
	}
}
