package orchestrator_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"turbocat.io/contracts/orchestrator"
)

// TestAppendJSON wants each field, alone and with all others, to be encoded as encoding/json does.
func TestAppendJSON(t *testing.T) {
	ms, until := int64(-12), time.Date(2026, 1, 2, 3, 4, 5, 678_000, time.UTC)
	full := orchestrator.ExecutionEvent{
		ExecutionID: "x", WorkflowID: "w", UserID: "u", Seq: 1 << 63, Status: "RUNNING", StepKey: "a\"<\u00e9\x00\xff", AgentID: "a", Attempt: -2, DurationMs: &ms,
		Error: &orchestrator.EventError{Code: "C", Message: "line\nline"}, Until: &until, Signal: "go & on", Iteration: 3, Depth: 4,
	}
	check := func(e orchestrator.ExecutionEvent) {
		t.Helper()
		want, err := json.Marshal(e)
		if got := e.AppendJSON([]byte("=")); err != nil || string(got) != "="+string(want) {
			t.Errorf("it is\n%s\nnot\n%s", got, want)
		}
	}
	check(orchestrator.ExecutionEvent{})
	check(full)
	for i := range reflect.TypeFor[orchestrator.ExecutionEvent]().NumField() {
		var one orchestrator.ExecutionEvent
		field := reflect.ValueOf(full).Field(i)
		if field.IsZero() {
			t.Errorf("give %s a value", reflect.TypeOf(full).Field(i).Name)
		}
		reflect.ValueOf(&one).Elem().Field(i).Set(field)
		check(one)
	}
	full.Error, full.DurationMs = &orchestrator.EventError{}, new(int64)
	check(full)
}
