package engine_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

// witness watches one execution from its first input on and knows what must always hold: no
// step starts before its dependencies are terminal, what is terminal stays as it is, and the
// events tell that story without a gap, in legal transitions, up to exactly one end.
type witness struct {
	seq       uint64
	lastTime  engine.Time
	execution string   // name of the last event of the execution itself
	steps     []string // name of the last event of each step
	attempts  []int    // attempts that the events told of
	inputs    []json.RawMessage
	begun     bool // it was told that the execution runs
	noJSON    bool // outputs came in that are no JSON, so that those of the execution need not be any
	cyclic    bool // the definition may have cycles, so that an execution can wait for ever
}

func newWitness(x *engine.Execution) *witness {
	n := len(x.Steps)
	return &witness{steps: make([]string, n), attempts: make([]int, n), inputs: make([]json.RawMessage, n)}
}

// snapshot copies a state so that nothing Apply does reaches the copy.
func snapshot(x *engine.Execution) *engine.Execution {
	c := *x
	c.Error = copyError(x.Error)
	c.Steps = slices.Clone(x.Steps)
	for i := range c.Steps {
		c.Steps[i].Error = copyError(x.Steps[i].Error)
		c.Steps[i].Output = bytes.Clone(x.Steps[i].Output)
	}
	return &c
}

func copyError(e *runner.StepError) *runner.StepError {
	if e == nil {
		return nil
	}
	c := *e
	return &c
}

func terminalStep(status string) bool {
	return slices.Contains([]string{orchestrator.StepCompleted, orchestrator.StepFailed, orchestrator.StepSkipped, orchestrator.StepCancelled}, status)
}

// check compares the states before and after one input with its effects.
func (w *witness) check(before, after *engine.Execution, out engine.Effects) error {
	for _, e := range out.Events {
		if err := w.event(after, e); err != nil {
			return err
		}
	}
	for _, check := range []func(before, after *engine.Execution, out engine.Effects) error{
		w.checkKept, w.checkTouched, w.checkSteps, w.checkReady, w.checkEnd,
	} {
		if err := check(before, after, out); err != nil {
			return err
		}
	}
	return nil
}

// legal are the events that may follow on one another: of the execution, and of one step.
var legal = map[string][]string{
	"":        {"created"},
	"created": {"started", "cancelled", "failed"},
	"started": {"completed", "failed", "cancelled", "timed_out"},
}

var legalOfStep = map[string][]string{
	"":                     {"step_started", "step_skipped", "step_cancelled"},
	"step_started":         {"step_completed", "step_failed", "step_cancelled", "step_retry_scheduled"},
	"step_retry_scheduled": {"step_started", "step_cancelled"},
}

var statusOf = map[string]string{
	"created": orchestrator.ExecutionPending, "started": orchestrator.ExecutionRunning, "completed": orchestrator.ExecutionCompleted,
	"failed": orchestrator.ExecutionFailed, "cancelled": orchestrator.ExecutionCancelled, "timed_out": orchestrator.ExecutionTimeout,
	"step_started": orchestrator.StepRunning, "step_retry_scheduled": orchestrator.StepRunning, "step_completed": orchestrator.StepCompleted,
	"step_failed": orchestrator.StepFailed, "step_skipped": orchestrator.StepSkipped, "step_cancelled": orchestrator.StepCancelled,
}

func (w *witness) event(x *engine.Execution, e engine.Event) error {
	name, d := e.Type.Name, e.Data
	if w.seq++; d.Seq != w.seq {
		return fmt.Errorf("event %s has seq %d after %d", name, d.Seq, w.seq-1)
	}
	if d.ExecutionID != x.ID || d.WorkflowID != x.WorkflowID || d.UserID != x.UserID {
		return fmt.Errorf("event %s is of another: %+v", name, d)
	}
	if e.Time < w.lastTime || e.Time != x.LastInput {
		return fmt.Errorf("event %s has time %d; the last was of %d, the last input of %d", name, e.Time, w.lastTime, x.LastInput)
	}
	w.lastTime = e.Time
	if d.Status != statusOf[name] {
		return fmt.Errorf("event %s has status %s", name, d.Status)
	}
	if len(legal[w.execution]) == 0 {
		return fmt.Errorf("event %s follows the terminal event %s", name, w.execution)
	}
	if d.StepKey == "" {
		if !slices.Contains(legal[w.execution], name) {
			return fmt.Errorf("event %s follows %q", name, w.execution)
		}
		w.execution = name
		w.begun = w.begun || name == "started"
		return nil
	}
	i, ok := x.Definition.StepIndex(d.StepKey)
	if !ok {
		return fmt.Errorf("event %s is of the unknown step %q", name, d.StepKey)
	}
	if w.execution == "" || !slices.Contains(legalOfStep[w.steps[i]], name) {
		return fmt.Errorf("event %s of %s follows %q", name, d.StepKey, w.steps[i])
	}
	w.steps[i] = name
	if name == "step_started" {
		w.attempts[i]++
		for _, dep := range x.Definition.Steps[i].DependsOn {
			if !terminalStep(statusOf[w.steps[dep]]) {
				return fmt.Errorf("step %s starts before %s is terminal", d.StepKey, x.Definition.Steps[dep].Key)
			}
		}
	}
	if d.Attempt != w.attempts[i] {
		return fmt.Errorf("event %s of %s has attempt %d, it is the %d.", name, d.StepKey, d.Attempt, w.attempts[i])
	}
	if (name == "step_retry_scheduled") != (d.Until != nil) {
		return fmt.Errorf("event %s has until %v", name, d.Until)
	}
	if (name == "step_retry_scheduled" || name == "step_failed") != (d.Error != nil) {
		return fmt.Errorf("event %s has error %v", name, d.Error)
	}
	return nil
}

// checkKept holds what is terminal against change.
func (w *witness) checkKept(before, after *engine.Execution, out engine.Effects) error {
	if before.Terminal() && (!out.None() || !reflect.DeepEqual(before, after)) {
		return fmt.Errorf("a terminal execution changed: %+v", out)
	}
	for i := range before.Steps {
		if terminalStep(before.Steps[i].Status) && !reflect.DeepEqual(before.Steps[i], after.Steps[i]) {
			return fmt.Errorf("step %d was terminal and changed from %+v to %+v", i, before.Steps[i], after.Steps[i])
		}
	}
	if after.LastInput < before.LastInput || after.EventSeq < before.EventSeq {
		return fmt.Errorf("time or seq ran backwards: %d %d, then %d %d", before.LastInput, before.EventSeq, after.LastInput, after.EventSeq)
	}
	return nil
}

// checkTouched holds the effects against what really changed.
func (w *witness) checkTouched(before, after *engine.Execution, out engine.Effects) error {
	if out.None() {
		if len(out.Ready)+len(out.Stop)+len(out.Events)+len(out.Warnings) > 0 {
			return fmt.Errorf("an input without effects has some: %+v", out)
		}
		if !reflect.DeepEqual(before, after) {
			return fmt.Errorf("an input without effects changed the state from %+v to %+v", before, after)
		}
		return nil
	}
	if !slices.IsSorted(out.Steps) || len(slices.Compact(slices.Clone(out.Steps))) != len(out.Steps) {
		return fmt.Errorf("changed steps are not ascending: %v", out.Steps)
	}
	for i := range before.Steps {
		if !reflect.DeepEqual(exported(before.Steps[i]), exported(after.Steps[i])) && !slices.Contains(out.Steps, i) {
			return fmt.Errorf("step %d changed from %+v to %+v, and the effects do not say so", i, before.Steps[i], after.Steps[i])
		}
	}
	if out.Changed != (len(out.Events) > 0) || out.Changed != (before.EventSeq != after.EventSeq) {
		return fmt.Errorf("changed is %v with %d events", out.Changed, len(out.Events))
	}
	if !out.Changed && (before.Status != after.Status || before.Outputs != nil || before.Error != after.Error) {
		return fmt.Errorf("the execution changed, and the effects do not say so")
	}
	return nil
}

// exported is a step as the ledger has it.
func exported(s engine.Step) engine.Step {
	return engine.Step{
		Status: s.Status, Attempt: s.Attempt, Token: s.Token, Dispatch: s.Dispatch, RetryAt: s.RetryAt, Backstop: s.Backstop,
		Output: s.Output, Error: s.Error, StartedAt: s.StartedAt, CompletedAt: s.CompletedAt,
	}
}

// checkSteps holds for each step that its fields fit together, and its story.
func (w *witness) checkSteps(_, after *engine.Execution, _ engine.Effects) error {
	running := 0
	for i := range after.Steps {
		s := &after.Steps[i]
		told := statusOf[w.steps[i]]
		if told == "" {
			told = orchestrator.StepPending
		}
		if s.Status != told || s.Attempt != w.attempts[i] {
			return fmt.Errorf("step %d is %s in attempt %d, the events say %s and %d", i, s.Status, s.Attempt, told, w.attempts[i])
		}
		switch {
		case s.Status == orchestrator.StepRunning:
			running++
			if (s.Token == "") == (s.RetryAt == 0) {
				return fmt.Errorf("step %d is RUNNING with token %q and retry at %d", i, s.Token, s.RetryAt)
			}
		case s.RetryAt != 0 || s.Backstop != 0:
			return fmt.Errorf("step %d is %s and has a timer", i, s.Status)
		case s.Token != "" && s.Status != orchestrator.StepCancelled:
			return fmt.Errorf("step %d is %s and has a token", i, s.Status)
		}
		if terminalStep(s.Status) != (s.CompletedAt != 0) || (s.Attempt > 0) != (s.StartedAt != 0) {
			return fmt.Errorf("step %d is %s and has times %d, %d", i, s.Status, s.StartedAt, s.CompletedAt)
		}
		if (s.Status == orchestrator.StepCompleted) != (s.Output != nil) || (s.Status == orchestrator.StepFailed && s.Error == nil) {
			return fmt.Errorf("step %d is %s with output %s and error %v", i, s.Status, s.Output, s.Error)
		}
		if after.Status == orchestrator.ExecutionRunning && s.Status == orchestrator.StepPending && w.settledBefore(after, i) {
			return fmt.Errorf("step %d is PENDING and nothing is left to wait for", i)
		}
	}
	if after.Status == orchestrator.ExecutionRunning && running == 0 && !w.cyclic {
		return fmt.Errorf("the execution is RUNNING and no step is")
	}
	return nil
}

func (w *witness) settledBefore(x *engine.Execution, i int) bool {
	return !slices.ContainsFunc(x.Definition.Steps[i].DependsOn, func(dep int) bool { return !terminalStep(x.Steps[dep].Status) })
}

// checkReady holds that what is sent is current, and that it is the same whenever it is asked for.
func (w *witness) checkReady(before, after *engine.Execution, out engine.Effects) error {
	for n, i := range out.Ready {
		s := &after.Steps[i]
		if !s.AwaitsResult() || s.Dispatch < 1 || slices.Contains(out.Ready[:n], i) {
			return fmt.Errorf("step %d is ready as %+v", i, s)
		}
		if before.Steps[i].Token == s.Token && before.Steps[i].Dispatch == s.Dispatch {
			return fmt.Errorf("step %d is ready again under the same token and dispatch", i)
		}
		if !w.settledBefore(after, i) {
			return fmt.Errorf("step %d is ready before its dependencies are terminal", i)
		}
	}
	for i := range after.Steps {
		if after.Steps[i].Attempt == 0 {
			continue
		}
		input, _, _ := after.Input(i)
		if w.inputs[i] == nil {
			w.inputs[i] = bytes.Clone(input)
		}
		if !bytes.Equal(w.inputs[i], input) {
			return fmt.Errorf("the inputs of step %d were %s and are %s", i, w.inputs[i], input)
		}
		now, was := &after.Steps[i], &before.Steps[i]
		if now.AwaitsResult() && (now.Token != was.Token || now.Dispatch != was.Dispatch) && !slices.Contains(out.Ready, i) {
			return fmt.Errorf("step %d has a new dispatch and is not ready", i)
		}
	}
	for _, stop := range out.Stop {
		if s := &after.Steps[stop.Step]; stop.Token == "" || s.AwaitsResult() && s.Token == stop.Token {
			return fmt.Errorf("step %d is stopped and goes on", stop.Step)
		}
	}
	return nil
}

// checkEnd holds that a terminal execution is at rest and that it told so last.
func (w *witness) checkEnd(before, after *engine.Execution, out engine.Effects) error {
	told := statusOf[w.execution]
	if told == "" {
		told = orchestrator.ExecutionPending
	}
	if after.Status != told {
		return fmt.Errorf("the execution is %s, the events say %s", after.Status, told)
	}
	if after.Terminal() != (after.CompletedAt != 0) || (after.StartedAt != 0) != w.begun {
		return fmt.Errorf("the execution is %s and has times %d, %d", after.Status, after.StartedAt, after.CompletedAt)
	}
	if !after.Terminal() {
		return nil
	}
	if len(out.Ready) > 0 || after.NextDue() != 0 {
		return fmt.Errorf("the execution has ended and goes on: ready %v, next due %d", out.Ready, after.NextDue())
	}
	p := after.Progress()
	cancelled := 0
	for i := range after.Steps {
		s := &after.Steps[i]
		if !terminalStep(s.Status) {
			return fmt.Errorf("the execution is %s and step %d is %s", after.Status, i, s.Status)
		}
		if s.Status == orchestrator.StepCancelled {
			cancelled++
		}
		stopped := slices.Contains(out.Stop, engine.Stop{Step: i, Token: before.Steps[i].Token})
		if !before.Terminal() && before.Steps[i].AwaitsResult() && s.Status == orchestrator.StepCancelled && !stopped {
			return fmt.Errorf("step %d was cancelled and nobody stops it", i)
		}
	}
	if p.Percent != 100 || p.Total != len(after.Steps) || p.Completed+p.Failed+p.Skipped+cancelled != p.Total {
		return fmt.Errorf("progress is %+v with %d cancelled", p, cancelled)
	}
	if completed := after.Status == orchestrator.ExecutionCompleted; completed != (after.OutputsByKey() != nil) || completed && !w.noJSON && !json.Valid(after.OutputsByKey()) {
		return fmt.Errorf("the execution is %s with outputs %s", after.Status, after.OutputsByKey())
	}
	return nil
}
