package promises

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/tools/internal/callbook"
)

// rich are facts that show every promise kept of: w, whose steps are a WAIT of 2 s, a LOOP with an item that is tried again, and
// the execution k, and which was paused for a while; f, which failed; and g, which is f again with the result of its first step.
func rich() Facts {
	id := "k"
	w := Execution{ID: "w", AcceptedAt: at(0), TimeoutMs: 60_000, Status: "COMPLETED", Plan: []Step{
		{Key: "pause", Waits: 2 * time.Second, Status: "COMPLETED"},
		{Key: "each", Calls: map[string]int{"each/0": 1, "each/1": 2}, Items: 2, Status: "COMPLETED"},
		{Key: "kid", Child: true, Status: "COMPLETED"},
	}}
	tell := teller(&w)
	tell(0, orchestrator.EventCreated, "PENDING", "", 0)
	tell(0, orchestrator.EventStarted, "RUNNING", "", 0)
	tell(10, orchestrator.EventStepStarted, "RUNNING", "pause", 1)
	tell(10, orchestrator.EventStepWaitStarted, "RUNNING", "pause", 1)
	tell(10, orchestrator.EventStepStarted, "RUNNING", "each", 1)
	tell(10, orchestrator.EventStepStarted, "RUNNING", "kid", 1)
	tell(30, orchestrator.EventStepRetryScheduled, "RUNNING", "each", 1)
	w.Replay[6].Iteration, w.Replay[6].Until = 2, at(80)
	tell(50, orchestrator.EventStepCompleted, "COMPLETED", "kid", 1)
	tell(200, orchestrator.EventStepCompleted, "COMPLETED", "each", 1)
	tell(300, orchestrator.EventPaused, "PAUSED", "", 0)
	tell(400, orchestrator.EventResumed, "RUNNING", "", 0)
	tell(2010, orchestrator.EventStepCompleted, "COMPLETED", "pause", 1)
	tell(2010, orchestrator.EventCompleted, "COMPLETED", "", 0)
	w.Readings = []Reading{{at(3000), orchestrator.Execution{
		ID: "w", Status: "COMPLETED", Outputs: json.RawMessage("null"), CompletedAt: when(2010), Progress: orchestrator.Progress{Total: 3, Completed: 3, Percent: 100},
		Steps: []orchestrator.StepState{
			{StepKey: "pause", Status: "COMPLETED", Attempts: 1, StartedAt: when(10), CompletedAt: when(2010)},
			{StepKey: "each", Status: "COMPLETED", Attempts: 1, StartedAt: when(10), CompletedAt: when(200), Items: &orchestrator.ItemCounts{Begun: 2, Completed: 2}},
			{StepKey: "kid", Status: "COMPLETED", Attempts: 1, Output: json.RawMessage(`{"m":1}`), StartedAt: when(10), CompletedAt: when(50), ChildExecutionID: &id},
		},
	}}}

	k := of("k", "COMPLETED", "COMPLETED")
	parent := "w"
	k.ParentID, k.Readings[0].ParentExecutionID, k.Readings[0].Outputs = "w", &parent, json.RawMessage(`{"m": 1}`)

	f, g := of("f", "FAILED", "COMPLETED", "FAILED"), of("g", "COMPLETED", "COMPLETED", "COMPLETED")
	source := "f"
	g.RerunOf, g.Readings[0].RetryOf, g.Plan[0].Reused = "f", &source, true
	g.Readings[0].Steps[0].ReusedFrom = &source
	g.Replay = slices.DeleteFunc(g.Replay, func(e Event) bool { return e.StepKey == "s0" })
	for i := range g.Replay {
		g.Replay[i].Seq = uint64(i + 1)
	}
	return Facts{Executions: []Execution{w, k, f, g}, Calls: []callbook.Call{
		{Execution: "w", Step: "each/0", Key: "a", Attempt: 1, Began: at(11), Ended: at(20)},
		{Execution: "w", Step: "each/1", Key: "b", Attempt: 1, Began: at(12), Ended: at(20)},
		{Execution: "w", Step: "each/1", Key: "b", Attempt: 2, Began: at(80), Ended: at(90)},
	}}
}

// of is an execution of steps one after the other, s0, s1 and so on, with these ends.
func of(id, status string, steps ...string) Execution {
	x := Execution{ID: id, AcceptedAt: at(0), TimeoutMs: 60_000, Status: status}
	row := orchestrator.Execution{ID: id, Status: status, Outputs: json.RawMessage("null"), Progress: orchestrator.Progress{Total: len(steps), Percent: 100}}
	tell := teller(&x)
	tell(0, orchestrator.EventCreated, "PENDING", "", 0)
	tell(0, orchestrator.EventStarted, "RUNNING", "", 0)
	for i, end := range steps {
		key := "s" + string(rune('0'+i))
		plan := Step{Key: key, Status: end}
		if i > 0 {
			plan.DependsOn = []string{x.Plan[i-1].Key}
		}
		x.Plan = append(x.Plan, plan)
		tell(10*i, orchestrator.EventStepStarted, "RUNNING", key, 1)
		if end == "COMPLETED" {
			tell(10*i+5, orchestrator.EventStepCompleted, end, key, 1)
			row.Progress.Completed++
		} else {
			tell(10*i+5, orchestrator.EventStepFailed, end, key, 1)
			row.Progress.Failed++
		}
		row.Steps = append(row.Steps, orchestrator.StepState{StepKey: key, Status: end, Attempts: 1, StartedAt: when(10 * i), CompletedAt: when(10*i + 5)})
	}
	row.CompletedAt = row.Steps[len(steps)-1].CompletedAt
	if status == "COMPLETED" {
		tell(10*len(steps)-5, orchestrator.EventCompleted, status, "", 0)
	} else {
		tell(10*len(steps)-5, orchestrator.EventFailed, status, "", 0)
	}
	x.Readings = []Reading{{at(100), row}}
	return x
}

func TestRichIsKept(t *testing.T) {
	if found := Check(rich()); len(found) > 0 {
		t.Error(found)
	}
}

func TestEachViolationOfARichOneIsFound(t *testing.T) {
	const w, k, g = 0, 1, 3
	state := func(f *Facts, x, step int) *orchestrator.StepState { return &f.Executions[x].Readings[0].Steps[step] }
	for name, c := range map[string]struct {
		change        func(f *Facts)
		promise, says string
	}{
		"waits again":        {func(f *Facts) { f.Executions[w].Replay[7] = f.Executions[w].Replay[3] }, "I5", "step_wait_started.v1 of the attempt 1 of pause, after"},
		"too early":          {func(f *Facts) { state(f, w, 0).StartedAt = when(20) }, "I4", "was to wait 2s and has waited 1.99s"},
		"attempt in vain":    {func(f *Facts) { f.Gentle, f.Executions[w].Plan[0].Attempts = true, 2 }, "I3", "the step pause of w took 1 attempts"},
		"items":              {func(f *Facts) { state(f, w, 1).Items.Completed = 1 }, "I6", "the step each of w has 2 items"},
		"no items":           {func(f *Facts) { state(f, w, 1).Items = nil }, "I6", "the step each of w has 2 items"},
		"item again":         {func(f *Facts) { f.Executions[w].Replay[6].Attempt = 2 }, "I5", "of the attempt 2 of the item 2 of each, after the attempt 0"},
		"item not called":    {func(f *Facts) { f.Calls = f.Calls[1:] }, "I3", "the step each/0 of w is COMPLETED and has made no call"},
		"item called early":  {func(f *Facts) { f.Calls[2].Began = at(70) }, "I4", "the attempt 2 of the step each/1 of w called at 12:00:00.070"},
		"item called again":  {func(f *Facts) { f.Calls = append(f.Calls, f.Calls[2]) }, "I3", "the attempt 2 of the step each/1 of w made 2 calls"},
		"key of two items":   {func(f *Facts) { f.Calls[0].Key = "b" }, "I3", `the idempotency key "b" came from the step each/0`},
		"attempt of an item": {func(f *Facts) { f.Calls[0].Attempt = 2 }, "I4", "made 1 calls of the attempt 2, which was never started"},
		"started in a pause": {func(f *Facts) {
			e := f.Executions[w].Replay
			e[5], e[9] = e[9], e[5]
			e[5].Seq, e[9].Seq = 6, 10
		}, "I4", "the step kid of w started by event 10, when the execution was PAUSED"},
		"resumed": {func(f *Facts) { f.Executions[w].Replay[9] = f.Executions[w].Replay[10] }, "I5", "is io.turbocat.execution.resumed.v1, and it was RUNNING"},

		"no child":           {func(f *Facts) { state(f, w, 2).ChildExecutionID = nil }, "I2", "the step kid of w is COMPLETED and names no execution"},
		"another child":      {func(f *Facts) { other := "z"; state(f, w, 2).ChildExecutionID = &other }, "I1", "the execution z, which the step kid of w waits for, can not be read"},
		"child of another":   {func(f *Facts) { f.Executions[k].Readings[0].ParentExecutionID = nil }, "I2", `the execution k was made by a step of "w", and says ""`},
		"output of no child": {func(f *Facts) { f.Executions[k].Readings[0].Outputs = json.RawMessage(`{"m":2}`) }, "I2", "the step kid of w gives"},

		"run again":            {func(f *Facts) { state(f, g, 0).ReusedFrom = nil }, "I2", `the step s0 of g says that its result is of ""`},
		"another result":       {func(f *Facts) { state(f, g, 0).Attempts = 2 }, "I2", "whose result it is"},
		"again of nobody":      {func(f *Facts) { f.Executions[g].Readings[0].RetryOf = nil }, "I2", `the execution g is of "f" again, and says ""`},
		"told of a reused one": {func(f *Facts) { f.Executions[g].Replay[2].StepKey = "s0" }, "I2", "of s0, which has the result of another execution"},
		"called though reused": {func(f *Facts) {
			f.Executions[g].Plan[0].Calls = map[string]int{"s0": 0}
			f.Calls = append(f.Calls, callbook.Call{Execution: "g", Step: "s0", Key: "c", Attempt: 1, Began: at(1)})
		}, "I4", "the step s0 of g is COMPLETED, was never started, and has made 1 calls"},
		"attempt begun early": {func(f *Facts) {
			f.Executions[w].Replay[4].StepKey = "pause"
			f.Executions[w].Replay[3].Type, f.Executions[w].Replay[3].Until = stepRetry, at(11)
			f.Executions[w].Replay[4].Attempt = 2
		}, "I4", "the step pause of w started by event 5"},
	} {
		f := rich()
		c.change(&f)
		found := Check(f)
		if !slices.ContainsFunc(found, func(v Violation) bool { return v.Promise == c.promise && strings.Contains(v.What, c.says) }) {
			t.Errorf("%s: no %s says %q in %v", name, c.promise, c.says, found)
		}
	}
}
