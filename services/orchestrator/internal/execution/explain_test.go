package execution

import (
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	retried := step("a", catalog.StepAgent, `{}`)
	retried.OnError, retried.RetryCount, retried.RetryDelayMs = catalog.OnErrorRetry, 3, 10_000
	retriedLoop := step("l", catalog.StepLoop, `{"forEach":"{{inputs.list}}","concurrency":2}`)
	retriedLoop.OnError, retriedLoop.RetryCount, retriedLoop.RetryDelayMs = catalog.OnErrorRetry, 3, 10_000
	onward := step("a", catalog.StepAgent, `{}`)
	onward.OnError = catalog.OnErrorContinue
	strict := step("b", catalog.StepAgent, `{}`, "a")
	strict.TriggerRule = catalog.TriggerAllSuccess
	pause, resume := engine.Input{Kind: engine.Pause}, engine.Input{Kind: engine.Resume}
	a, b := step("a", catalog.StepAgent, `{}`), step("b", catalog.StepAgent, `{}`, "a")

	for _, c := range []struct {
		name    string
		story   *story
		after   time.Duration
		step    string // "" for none but the summary
		reason  string
		message string // a part of it
		remedy  string // a part of it
		until   time.Duration
		summary string
	}{
		{
			name: "accepted", story: accepted(t, `{}`, a), step: "a", reason: reasonQueued, message: "about to start",
			summary: "It is accepted and begins as soon as an orchestrator has read it.",
		},
		{
			name: "dependencies", story: begin(t, `{}`, a, b), step: "b", reason: reasonDependencies, message: "it waits for a to end",
			summary: "It is running: 1 step waits for a runner, 1 step waits for others.",
		},
		{name: "queued", story: begin(t, `{}`, a), after: 2 * time.Second, step: "a", reason: reasonQueued, message: "attempt 1 waits for a runner, or has just begun; it was ready 2s ago"},
		{name: "long queued", story: begin(t, `{}`, a), after: time.Minute, step: "a", reason: reasonQueued, message: "1m0s ago", remedy: "runners"},
		{
			name: "running", story: begin(t, `{}`, a).then(time.Second, engine.Input{Kind: engine.StepStarted, Step: "a"}), after: 3 * time.Second,
			step: "a", reason: reasonRunning, message: "attempt 1 runs; the step began 3s ago", until: 71 * time.Second, summary: "It is running: 1 step runs.",
		},
		{
			name: "backing off", story: begin(t, `{}`, retried).failed("a", runner.CodeHTTPStatus), step: "a", reason: reasonRetry,
			message: "attempt 1 failed with HTTP_STATUS: boom; attempt 2 begins in", until: -1, summary: "It is running: 1 step waits for another attempt.",
		},
		{
			name: "backing off, paused", story: begin(t, `{}`, retried).failed("a", runner.CodeHTTPStatus).then(time.Second, pause), step: "a",
			reason: reasonPaused, message: "attempt 2 begins once the execution is resumed", remedy: "resume", summary: "It is paused, and goes on when it is resumed: 1 step could start.",
		},
		{
			name: "paused", story: begin(t, `{}`, a, b).then(0, pause).completed("a", `1`), step: "b", reason: reasonPaused, message: "the execution is paused", remedy: "resume",
		},
		{name: "resumed", story: begin(t, `{}`, a, b).then(0, pause).completed("a", `1`).then(2*time.Second, resume), after: 2 * time.Second, step: "b", reason: reasonQueued},
		{
			name: "timer", story: begin(t, `{}`, step("w", catalog.StepWait, `{"durationMs":30000}`)), step: "w", reason: reasonTimer, until: 30 * time.Second,
			summary: "It is running: 1 step waits for a time.",
		},
		{
			name: "timer beyond its timeout", story: begin(t, `{}`, step("w", catalog.StepWait, `{"durationMs":90000}`)), step: "w", reason: reasonTimer, until: 60 * time.Second,
		},
		{
			name: "signal", story: begin(t, `{}`, step("w", catalog.StepWait, `{"signal":"paid","timeoutMs":5000}`)), step: "w", reason: reasonSignal,
			message: `the signal "paid"`, remedy: "POST /api/v1/executions/" + someExecution + "/signals/paid", until: 5 * time.Second,
			summary: "It is running: 1 step waits for a signal.",
		},
		{
			name: "approval", story: begin(t, `{}`, step("w", catalog.StepWait, `{"approval":true}`)), step: "w", reason: reasonSignal,
			message: `somebody to approve or refuse "w"`, remedy: `{"approve":true}`, until: 60 * time.Second,
		},
		{
			name: "items", story: begin(t, `{"list":[1,2,3]}`, retriedLoop), step: "l", reason: reasonItems, until: 60 * time.Second,
			message: "2 of 2 items begun so far run or wait for a runner, 0 completed, 0 failed", summary: "It is running: 1 step works on its items.",
		},
		{
			name: "items that back off",
			story: begin(t, `{"list":[1,2,3]}`, retriedLoop).
				then(time.Second, engine.Input{Kind: engine.StepFailed, Step: "l", Iteration: 1, Err: &runner.StepError{Code: runner.CodeError, Retryable: true}}),
			step: "l", reason: reasonItems, until: 60 * time.Second, message: "1 of 2 items begun so far run or wait for a runner, 0 completed, 0 failed, 1 wait for another attempt",
		},
		{
			name: "branches", story: begin(t, `{}`, step("p", catalog.StepParallel, `{"branches":[{"key":"x","agentId":"`+someAgent+`"},{"key":"y","agentId":"`+someAgent+`"}]}`)).
				then(time.Second, engine.Input{Kind: engine.StepCompleted, Step: "p", Iteration: 2, Output: []byte(`1`)}),
			step: "p", reason: reasonItems, until: 60 * time.Second, message: "1 of 2 branches run or wait for a runner, 1 completed",
		},
		{
			name: "failed", story: begin(t, `{}`, a, b).failed("a", runner.CodeMemoryLimit).status(ended), step: "a", reason: reasonFailed,
			message: "attempt 1 failed with MEMORY_LIMIT: boom", remedy: "memoryMb", summary: "It failed at the step a with MEMORY_LIMIT: boom; give the agent more memoryMb",
		},
		{name: "skipped by the failure", story: begin(t, `{}`, a, b).failed("a", runner.CodeError), step: "b", reason: reasonSkipped, message: "the execution failed before it could start"},
		{name: "skipped by its rule", story: begin(t, `{}`, onward, strict).failed("a", runner.CodeError).status(completed), step: "b", reason: reasonSkipped, message: "triggerRule all_success does not hold: a is FAILED"},
		{
			name:  "skipped by a condition",
			story: begin(t, `{"yes":true}`, step("c", catalog.StepCondition, `{"expression":"inputs.yes == true","then":["x"],"else":["y"]}`), step("x", catalog.StepAgent, `{}`, "c"), step("y", catalog.StepAgent, `{}`, "c")),
			step:  "y", reason: reasonSkipped, message: "the CONDITION c took the branch then, which does not name it",
		},
		{name: "completed", story: begin(t, `{}`, a).completed("a", `1`), summary: "It completed."},
		{name: "cancelled", story: begin(t, `{}`, a).then(0, engine.Input{Kind: engine.Cancel}), summary: "It was cancelled."},
		{name: "timed out", story: begin(t, `{}`, a).then(2*time.Hour, engine.Input{Kind: engine.TimerDue}), summary: "It ran longer than its timeoutMs of 3600000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := explain(c.story.r, began.Std().Add(c.after))
			if got.ExecutionID != someExecution || got.Status != c.story.r.Execution.Status || !strings.HasPrefix(got.Summary, c.summary) {
				t.Errorf("%s, %s: %q, want %q", got.ExecutionID, got.Status, got.Summary, c.summary)
			}
			var found orchestrator.StepExplanation
			for _, s := range got.Steps {
				if s.StepKey == c.step {
					found = s
				}
			}
			if c.step == "" {
				return
			}
			if found.Reason != c.reason || !strings.Contains(found.Message, c.message) || !strings.Contains(found.Remedy, c.remedy) || (c.remedy == "") != (found.Remedy == "") {
				t.Errorf("%+v, want %s, %q and %q", found, c.reason, c.message, c.remedy)
			}
			switch {
			case c.until == 0 && found.Until != nil, c.until != 0 && found.Until == nil:
				t.Errorf("until %v, want %s", found.Until, c.until)
			case c.until > 0 && !found.Until.Equal(began.Std().Add(c.until)):
				t.Errorf("until %v, want %v", found.Until, began.Std().Add(c.until))
			}
		})
	}
}

// TestViewOfSteps shows what a client sees of steps that no runner works on.
func TestViewOfSteps(t *testing.T) {
	t.Parallel()
	s := begin(t, `{"list":[1,2]}`,
		step("timer", catalog.StepWait, `{"durationMs":30000}`), step("signal", catalog.StepWait, `{"signal":"paid"}`),
		step("loop", catalog.StepLoop, `{"forEach":"{{inputs.list}}","concurrency":2}`), step("agent", catalog.StepAgent, `{}`),
	).then(time.Second, engine.Input{Kind: engine.StepCompleted, Step: "loop", Iteration: 1, Output: []byte(`1`)})
	s.r.Reused = map[int]string{3: "older"}
	steps := view(s.r).Steps
	until := func(i int, reason string, want time.Duration) {
		w := steps[i].WaitingFor
		if w == nil || w.Reason != reason || w.Until == nil || !w.Until.Equal(began.Std().Add(want)) || string(steps[i].Input) != "null" {
			t.Errorf("%s waits for %+v, input %s", steps[i].StepKey, w, steps[i].Input)
		}
	}
	until(0, "TIMER", 30*time.Second)
	until(1, "SIGNAL", 60*time.Second)
	if items := steps[2].Items; items == nil || *items != (orchestrator.ItemCounts{Begun: 2, Completed: 1}) || string(steps[2].Input) != "null" || steps[2].AgentID == nil {
		t.Errorf("the loop is %+v", steps[2])
	}
	if steps[3].ReusedFrom == nil || *steps[3].ReusedFrom != "older" || steps[3].Items != nil || string(steps[3].Input) != "{}" {
		t.Errorf("the agent is %+v", steps[3])
	}
}
