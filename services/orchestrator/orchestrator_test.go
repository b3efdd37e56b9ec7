package orchestrator_test

import (
	"encoding/json"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/event"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
)

func diamond() []catalog.Step {
	return []catalog.Step{
		{StepKey: "a", Inputs: json.RawMessage(`{"n":"{{inputs.n}}"}`)},
		{StepKey: "b", DependsOn: []string{"a"}, Inputs: json.RawMessage(`{"from":"{{a.output.step}}"}`)},
		{StepKey: "c", DependsOn: []string{"a"}},
		{StepKey: "d", DependsOn: []string{"b", "c"}, Inputs: json.RawMessage(`{"b":"{{b.output.input}}","c":"{{c.output}}"}`)},
	}
}

func TestDiamond(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.start()
	in.play(echo)
	x := in.submit(in.workflow(diamond()...), `{"n":20}`)
	if x.Status != contract.ExecutionPending && x.Status != contract.ExecutionRunning {
		t.Errorf("status after submit %s", x.Status)
	}
	x = in.await(x.ID, "terminal", terminal)
	if x.Status != contract.ExecutionCompleted || x.Progress.Completed != 4 || x.Progress.Percent != 100 {
		t.Fatalf("status %s, progress %+v, error %v", x.Status, x.Progress, x.Error)
	}
	if got := string(x.Steps[3].Input); got != `{"b":{"from":"a"},"c":{"step":"c","input":{}}}` {
		t.Errorf("input of d: %s", got)
	}
	if got := string(x.Steps[0].Output); got != `{"step":"a","input":{"n":20}}` {
		t.Errorf("output of a: %s", got)
	}
	events := in.events(x.ID)
	if len(events) != 11 {
		t.Errorf("%d events", len(events))
	}
	for i, e := range events {
		if e.Seq != uint64(i+1) {
			t.Errorf("event %d has seq %d", i, e.Seq)
		}
		if _, err := event.Decode(e.Body); err != nil {
			t.Errorf("event %d: %v", i, err)
		}
	}
}

func TestRetryThenFail(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.start()
	in.play(func(a attempt) (string, *runner.StepError) {
		return "", &runner.StepError{Code: runner.CodeError, Message: "boom " + a.number, Retryable: true}
	})
	x := in.submit(in.workflow(
		catalog.Step{StepKey: "a", OnError: catalog.OnErrorRetry, RetryCount: 2, RetryDelayMs: 20},
		catalog.Step{StepKey: "b", DependsOn: []string{"a"}},
	), `{}`)
	x = in.await(x.ID, "terminal", terminal)
	if x.Status != contract.ExecutionFailed || x.Steps[0].Attempts != 3 || x.Error == nil || x.Error.Message != "boom 3" || x.Error.StepKey != "a" {
		t.Fatalf("%s after %d attempts: %+v", x.Status, x.Steps[0].Attempts, x.Error)
	}
	if x.Steps[1].Status != contract.StepSkipped {
		t.Errorf("b is %s", x.Steps[1].Status)
	}
}
