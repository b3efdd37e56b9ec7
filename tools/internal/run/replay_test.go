package run

import (
	"encoding/json"
	"strings"
	"testing"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
)

func TestCompare(t *testing.T) {
	t.Parallel()
	source := "x"
	done := func(key, output string) orchestrator.StepState {
		return orchestrator.StepState{StepKey: key, Status: "COMPLETED", Attempts: 1, Output: json.RawMessage(output)}
	}
	failed := func(key, code, message string) orchestrator.StepState {
		return orchestrator.StepState{StepKey: key, Status: "FAILED", Attempts: 1, Output: json.RawMessage("null"), Error: &runner.StepError{Code: code, Message: message}}
	}
	skipped := orchestrator.StepState{StepKey: "skipped", Status: "SKIPPED"}
	asked := done("ask", `{"text":"a"}`)
	asked.ReusedFrom = &source
	was := orchestrator.Execution{Steps: []orchestrator.StepState{done("ask", `{"text": "a"}`), done("same", "1"), done("other", `"`+strings.Repeat("é", 200)+`"`), failed("fails", "CODE_ERROR", "at 12:00"), skipped}}
	is := orchestrator.Execution{Steps: []orchestrator.StepState{asked, done("same", "1"), done("other", "2"), failed("fails", "CODE_ERROR", "at 12:01"), skipped}}
	want := "2 steps ran again and came to the same result, 1 step as recorded, 1 step came to another:\n  step other: was COMPLETED \"" + strings.Repeat("é", 94) + "..., is COMPLETED 2"
	if got := compare(was, is); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	is.Steps[3] = failed("fails", "MEMORY_LIMIT", "x")
	if got := compare(was, is); !strings.HasSuffix(got, "\n  step fails: was FAILED CODE_ERROR: at 12:00, is FAILED MEMORY_LIMIT: x") {
		t.Errorf("got %s", got)
	}
	if got := compare(was, was); !strings.HasPrefix(got, "4 steps ran again and came to the same result, 0 steps as recorded") {
		t.Errorf("got %s", got)
	}
}
