package natsapi

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/runner"
)

func readyStep() nats.Header {
	return nats.Header{
		event.HeaderID: {"token"}, event.HeaderSubject: {"execution"}, event.HeaderType: {runner.TypeStepReady},
		runner.HeaderStepKey: {"b"}, runner.HeaderDispatch: {"1"}, runner.HeaderAttempt: {"2"}, runner.HeaderTimeoutMs: {"30"},
	}
}

func TestReadStep(t *testing.T) {
	step, err := readStep(readyStep(), []byte("{}"))
	if err != nil || step.Fault != nil || step.Attempt != 2 || step.Timeout != 30*time.Millisecond || step.Dispatch != "1" {
		t.Errorf("%+v, %v", step, err)
	}
	h := readyStep()
	h.Set(runner.HeaderAttempt, "x")
	h.Set(runner.HeaderTimeoutMs, "0")
	if step, err = readStep(h, nil); err != nil || step.Fault == nil {
		t.Fatalf("%+v, %v", step, err)
	}
	want := `the ready step is malformed: ce-attempt is "x", not a number from 1 to 2147483647; ce-timeoutms is "0", not a number from 1 to 9223372036854`
	if step.Fault.Message != want || step.Fault.Retryable {
		t.Errorf("the fault is %+v", step.Fault)
	}
}

func FuzzReadStep(f *testing.F) {
	f.Add("token", "execution", "b", "1", "1", "30")
	f.Add("", "e", "b", "-1", "1e3", "9223372036854775807")
	f.Fuzz(func(t *testing.T, token, execution, key, dispatch, attempt, timeout string) {
		h := readyStep()
		for name, v := range map[string]string{
			event.HeaderID: token, event.HeaderSubject: execution, runner.HeaderStepKey: key,
			runner.HeaderDispatch: dispatch, runner.HeaderAttempt: attempt, runner.HeaderTimeoutMs: timeout,
		} {
			h.Set(name, v)
		}
		step, err := readStep(h, nil)
		if answerable := token != "" && execution != "" && key != ""; (err == nil) != answerable {
			t.Fatalf("answerable: %v, %v", answerable, err)
		}
		if err == nil && step.Fault == nil && (step.Timeout <= 0 || step.Attempt < 1) {
			t.Fatalf("%+v", step)
		}
	})
}
