package execution

import (
	"strings"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/dealing"
	"turbocat.io/services/orchestrator/internal/engine"
)

func undoable(key string, dependsOn ...string) catalog.Step {
	s := step(key, catalog.StepAgent, `{}`, dependsOn...)
	s.Compensate = &catalog.Compensate{AgentID: someAgent, Inputs: []byte(`{}`), TimeoutMs: 60_000}
	return s
}

// compensated has failed at d, and undone b; a, c and e completed.
func compensated(t *testing.T, status string) *story {
	t.Helper()
	agent := func(key string, dependsOn ...string) catalog.Step {
		return step(key, catalog.StepAgent, `{}`, dependsOn...)
	}
	s := begin(t, `{}`, agent("a"), undoable("b", "a"), agent("c", "b"), agent("d", "c"), agent("e", "a")).
		completed("a", `1`).completed("b", `2`).completed("c", `3`).completed("e", `5`).failed("d", runner.CodeError).status(ended)
	s.r.Compensation = &Compensation{ID: "the-other", Status: status}
	return s
}

func TestWhatWasUndoneRunsAgain(t *testing.T) {
	t.Parallel()
	r := compensated(t, completed).r
	if a, err := retryOf(r); err != nil || reused(a) != "a e" {
		t.Errorf("a retry reuses %q, %v", reused(a), err)
	}
	if a, err := rerunOf(r, orchestrator.RerunRequest{From: "e"}); err != nil || reused(a) != "a" {
		t.Errorf("a rerun reuses %q, %v", reused(a), err)
	}
	if _, err := rerunOf(r, orchestrator.RerunRequest{From: "e", Outputs: outputs("c", `1`)}); len(errs.From(err).Details) != 1 {
		t.Errorf("the output of what depends on it is given: %v", err)
	}
	r.Execution.Steps[1].Reused = true // by another execution, which did not undo it
	if a, err := retryOf(r); err != nil || reused(a) != "a b c e" {
		t.Errorf("a retry reuses %q, %v", reused(a), err)
	}
}

func TestNothingRunsAgainThatIsNotUndoneYet(t *testing.T) {
	t.Parallel()
	for status, remedy := range map[string]string{
		orchestrator.ExecutionPending: "once it has COMPLETED", running: "once it has COMPLETED", orchestrator.ExecutionPaused: "once it has COMPLETED",
		ended: "retry that one first", orchestrator.ExecutionCancelled: "retry that one first",
	} {
		r := compensated(t, status).r
		_, err := retryOf(r)
		_, rerr := rerunOf(r, orchestrator.RerunRequest{From: "a"})
		for _, err := range []error{err, rerr} {
			if errs.CodeOf(err) != errs.Conflict || !strings.Contains(err.Error(), remedy) || !strings.Contains(err.Error(), "the-other") {
				t.Errorf("%s: %v", status, err)
			}
		}
	}
}

// compensation undoes c and then b, which fails, and then a.
func compensation(t *testing.T) *story {
	t.Helper()
	s := begin(t, `{}`, step("c", catalog.StepAgent, `{}`), step("b", catalog.StepAgent, `{}`, "c"), step("a", catalog.StepAgent, `{}`, "b")).completed("c", `1`)
	s.r.Execution.CompensationOf = someExecution
	return s
}

func TestCompensationRunsAgainFromWhereItFailed(t *testing.T) {
	t.Parallel()
	r := compensation(t).failed("b", runner.CodeError).status(ended).r
	if a, err := retryOf(r); err != nil || reused(a) != "c" || a.CompensationOf != someExecution {
		t.Errorf("a retry reuses %q of %q, %v", reused(a), a.CompensationOf, err)
	}
	// Somebody has undone b by hand.
	if a, err := rerunOf(r, orchestrator.RerunRequest{From: "a", Outputs: outputs("b", `"by hand"`)}); err != nil || reused(a) != `c b"by hand"` || a.CompensationOf != someExecution {
		t.Errorf("a rerun reuses %q, %v", reused(a), err)
	}
	if _, err := rerunOf(r, orchestrator.RerunRequest{From: "c"}); errs.CodeOf(err) != errs.Conflict || !strings.Contains(err.Error(), "the step c is undone") {
		t.Errorf("what is undone is undone again: %v", err)
	}
}

func TestExplainCompensation(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]string{
		running:   "The execution the-other, which undoes what it has done, is RUNNING.",
		completed: "The execution the-other, which undoes what it has done, is COMPLETED.",
		ended:     "The execution the-other, which undoes what it has done, is FAILED; see why, and retry that one.",
	} {
		if got := explain(compensated(t, status).r, dealing.New(), began.Std()).Summary; !strings.HasSuffix(got, " "+want) {
			t.Errorf("%s: %s", status, got)
		}
	}
	if got := explain(compensation(t).r, dealing.New(), began.Std()).Summary; !strings.HasSuffix(got, " It undoes what the execution "+someExecution+" has done.") {
		t.Errorf("of the other: %s", got)
	}
	if got := explain(compensation(t).then(0, engine.Input{Kind: engine.Cancel}).r, dealing.New(), began.Std()).Summary; !strings.HasPrefix(got, "It was cancelled. It undoes") {
		t.Errorf("cancelled: %s", got)
	}
}
