package execution

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/dealing"
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

	runners := dealing.New()
	runners.Heard(heartbeat("r", catalog.AgentData, 2))

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
		{
			name: "ready", story: begin(t, `{}`, a), after: 2 * time.Second, step: "a", reason: reasonRunner,
			message: "attempt 1, which was ready 2s ago, waits in line for a runner, or was sent to one just now; the runners that are alive run 2 attempts of DATA agents at once",
		},
		{name: "ready for long", story: begin(t, `{}`, a), after: time.Minute, step: "a", reason: reasonRunner, message: "1m0s ago", remedy: "runners"},
		{name: "sent", story: begin(t, `{}`, a).sent("a"), after: 2 * time.Second, step: "a", reason: reasonRunner, message: "is among the next that runners take, or one has just begun it"},
		{
			name: "ready during a pause", story: begin(t, `{}`, a).then(0, pause), step: "a", reason: reasonPaused, message: "goes to a runner once the execution is resumed", remedy: "resume",
		},
		{name: "sent before a pause", story: begin(t, `{}`, a).sent("a").then(0, pause), step: "a", reason: reasonRunner, message: "is among the next"},
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
		{name: "resumed", story: begin(t, `{}`, a, b).then(0, pause).completed("a", `1`).then(2*time.Second, resume), after: 2 * time.Second, step: "b", reason: reasonRunner},
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
			name: "budget", story: begin(t, `{}`, a).then(time.Second, engine.Input{Kind: engine.StepStarted, Step: "a"}).undecided(1), step: "a", reason: reasonBudget, until: 71 * time.Second,
			message: "attempt 1 waits until somebody approves", remedy: "/steps/a/budget", summary: "It is running: 1 step waits for somebody to decide about a budget.",
		},
		{
			name: "budget of items", story: begin(t, `{"list":[1,2,3]}`, retriedLoop).undecided(2), step: "l", reason: reasonItems, until: 60 * time.Second,
			message: "0 failed; 2 of them wait until somebody approves", remedy: "/steps/l/budget",
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
			got := explain(c.story.r, runners, began.Std().Add(c.after))
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

func TestExplainQueue(t *testing.T) {
	t.Parallel()
	s := accepted(t, `{}`, step("a", catalog.StepAgent, `{}`), step("b", catalog.StepAgent, `{}`, "a"))
	s.r.Execution.Slot = engine.SlotWaiting
	for _, c := range []struct {
		queue Queue
		want  string
	}{
		{Queue{Max: 2, Held: 2, Holders: []string{"x", "y"}, Place: 3, Waiting: 7}, "limit of the workflow, 2: number 3 of 7 in the queue, while these have not ended: x, y."},
		{Queue{Key: "k", Max: 1, Held: 3, Holders: []string{"x"}, Place: 1, Waiting: 1}, `limit of the workflow, 1 for the key "k": number 1 of 1 in the queue, while these have not ended: x and 2 more.`},
	} {
		out := explain(s.r, dealing.New(), began.Std())
		explainQueue(&out, c.queue)
		if !strings.Contains(out.Summary, c.want) || out.Limit == nil || out.Limit.Place != c.queue.Place || out.Limit.Key != c.queue.Key {
			t.Errorf("%+v, %s", out.Limit, out.Summary)
		}
		if out.Steps[0].Reason != reasonLimit || out.Steps[0].Remedy == "" || out.Steps[1].Reason != reasonDependencies {
			t.Errorf("the steps are %+v", out.Steps)
		}
	}
	if w := viewStep(s.r, 0).WaitingFor; w == nil || w.Reason != reasonLimit || viewStep(s.r, 1).WaitingFor != nil {
		t.Errorf("the steps wait for %+v and %+v", w, viewStep(s.r, 1).WaitingFor)
	}
	s.then(0, engine.Input{Kind: engine.Pause})
	out := explain(s.r, dealing.New(), began.Std())
	if explainQueue(&out, Queue{Max: 1, Held: 1, Holders: []string{"x"}, Place: 1, Waiting: 1}); !strings.HasSuffix(out.Summary, "x. It is also paused, and begins when it is resumed.") {
		t.Errorf("paused: %s", out.Summary)
	}
	s.r.Execution.Slot = engine.SlotDropped
	s.then(0, engine.Input{Kind: engine.Submitted}).status(orchestrator.ExecutionCancelled)
	if out := explain(s.r, dealing.New(), began.Std()); !strings.HasPrefix(out.Summary, "It was cancelled with CONCURRENCY_LIMIT: as many") || !strings.Contains(out.Summary, "onLimit be QUEUE") {
		t.Errorf("dropped: %s", out.Summary)
	}
}

func heartbeat(id, agentType string, slots int) runner.Heartbeat {
	return runner.Heartbeat{RunnerID: id, Capacity: []runner.Capacity{{AgentType: agentType, Slots: slots}}}
}

// TestExplainWithoutARunner tells of a step, of one that a runner had begun, and of items, why no runner has them.
func TestExplainWithoutARunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dealing.New()
		one := begin(t, `{}`, step("a", catalog.StepAgent, `{}`))
		begun := begin(t, `{}`, step("a", catalog.StepAgent, `{}`)).then(time.Second, engine.Input{Kind: engine.StepStarted, Step: "a"})
		loop := begin(t, `{"list":[1,2]}`, step("a", catalog.StepLoop, `{"forEach":"{{inputs.list}}","concurrency":2}`))
		want := func(s *story, reason, message, remedy string) {
			t.Helper()
			got := explain(s.r, d, began.Std().Add(2*time.Second)).Steps[0]
			if got.Reason != reason || !strings.Contains(got.Message, message) || !strings.Contains(got.Remedy, remedy) || (remedy == "") != (got.Remedy == "") {
				t.Errorf("%+v, want %s, %q and %q", got, reason, message, remedy)
			}
		}
		want(one, reasonRunner, "not known yet", "")
		want(begun, reasonRunning, "attempt 1 runs", "")
		<-time.After(dealing.ForgottenAfter + time.Second)
		want(one, reasonRunner, "no runner is alive", "start a runner")
		want(begun, reasonRunner, "attempt 1 began on a runner, and now no runner is alive", "start a runner")
		want(loop, reasonItems, "0 failed; no runner is alive", "start a runner")
		d.Heard(heartbeat("other", catalog.AgentLLM, 3))
		want(one, reasonRunner, "of 1 runners that are alive none takes DATA agents", "logs")
		want(begun, reasonRunner, "none takes DATA agents", "logs")
		want(loop, reasonItems, "none takes DATA agents", "logs")
		d.Heard(heartbeat("right", catalog.AgentData, 3))
		want(one, reasonRunner, "run 3 attempts of DATA agents at once", "")
		want(begun, reasonRunning, "attempt 1 runs", "")
		want(loop, reasonItems, "run or wait for a runner", "")

		// The owner of the execution knows its place in the line.
		x, hand := one.r.Execution, dealing.NewHand()
		for n := range 12 {
			d.Ask(&dealing.Step{ExecutionID: "before", Place: engine.Place{Step: n}, UserID: x.UserID, AgentType: catalog.AgentData}, hand)
		}
		if d.Ask(&dealing.Step{ExecutionID: x.ID, UserID: x.UserID, AgentType: catalog.AgentData}, hand) {
			t.Fatal("it does not wait")
		}
		want(one, reasonRunner, "waits in line for a runner, with 1 other steps of its user before it", "")
	})
}

// TestViewOfSteps shows what a client sees of steps that no runner works on.
func TestViewOfSteps(t *testing.T) {
	t.Parallel()
	s := begin(t, `{"list":[1,2]}`,
		step("timer", catalog.StepWait, `{"durationMs":30000}`), step("signal", catalog.StepWait, `{"signal":"paid"}`),
		step("loop", catalog.StepLoop, `{"forEach":"{{inputs.list}}","concurrency":2}`), step("agent", catalog.StepAgent, `{}`),
	).then(time.Second, engine.Input{Kind: engine.StepCompleted, Step: "loop", Iteration: 1, Output: []byte(`1`)})
	s.r.Reused = map[int]string{3: "older"}
	shown, err := NewService(nil, nil, nil, nil).view(t.Context(), s.r)
	if err != nil {
		t.Fatal(err)
	}
	steps := shown.Steps
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
	if w := steps[3].WaitingFor; w == nil || w.Reason != "RUNNER" || w.Until != nil {
		t.Errorf("the agent waits for %+v", w)
	}
	s.then(2*time.Second, engine.Input{Kind: engine.StepStarted, Step: "agent"})
	if w := viewStep(s.r, 3).WaitingFor; w != nil {
		t.Errorf("the agent, which has begun, waits for %+v", w)
	}
	if steps[3].ReusedFrom == nil || *steps[3].ReusedFrom != "older" || steps[3].Items != nil || string(steps[3].Input) != "{}" {
		t.Errorf("the agent is %+v", steps[3])
	}
}
