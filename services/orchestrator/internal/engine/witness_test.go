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
	"turbocat.io/services/orchestrator/internal/engine/enginetest"
)

// witness watches one execution from its first input on and knows what must always hold: what
// is terminal stays as it is, the state is the one that the events tell of, and the effects
// say all that has changed.
type witness struct {
	story  *enginetest.Story
	inputs []json.RawMessage
	noJSON bool // outputs came in that are no JSON, so that those of the execution need not be any
	cyclic bool // the definition may have cycles, so that an execution can wait for ever
}

func newWitness(x *engine.Execution) *witness {
	return &witness{story: enginetest.NewStory(x.Definition), inputs: make([]json.RawMessage, len(x.Steps))}
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

func (w *witness) event(x *engine.Execution, e engine.Event) error {
	if d := e.Data; d.ExecutionID != x.ID || d.WorkflowID != x.WorkflowID || d.UserID != x.UserID {
		return fmt.Errorf("event %s is of another: %+v", e.Type.Name, d)
	}
	if e.Time != x.LastInput {
		return fmt.Errorf("event %s has time %d, the last input %d", e.Type.Name, e.Time, x.LastInput)
	}
	return w.story.Hear(e.Type.Name, e.Time, e.Data)
}

// checkKept holds what is terminal against change.
func (w *witness) checkKept(before, after *engine.Execution, out engine.Effects) error {
	if before.Terminal() && (!out.None() || !reflect.DeepEqual(before, after)) {
		return fmt.Errorf("a terminal execution changed: %+v", out)
	}
	for i := range before.Steps {
		if enginetest.StepTerminal(before.Steps[i].Status) && !reflect.DeepEqual(before.Steps[i], after.Steps[i]) {
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
		if told, attempts := w.story.StepStatus(i), w.story.Attempts(i); s.Status != told || s.Attempt != attempts {
			return fmt.Errorf("step %d is %s in attempt %d, the events say %s and %d", i, s.Status, s.Attempt, told, attempts)
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
		if enginetest.StepTerminal(s.Status) != (s.CompletedAt != 0) || (s.Attempt > 0) != (s.StartedAt != 0) {
			return fmt.Errorf("step %d is %s and has times %d, %d", i, s.Status, s.StartedAt, s.CompletedAt)
		}
		if (s.Status == orchestrator.StepCompleted) != (s.Output != nil) || (s.Status == orchestrator.StepFailed && s.Error == nil) {
			return fmt.Errorf("step %d is %s with output %s and error %q", i, s.Status, s.Output, codeOf(s.Error))
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
	return !slices.ContainsFunc(x.Definition.Steps[i].DependsOn, func(dep int) bool { return !enginetest.StepTerminal(x.Steps[dep].Status) })
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
	if told := w.story.Status(); after.Status != told {
		return fmt.Errorf("the execution is %s, the events say %s", after.Status, told)
	}
	if after.Terminal() != (after.CompletedAt != 0) || (after.StartedAt != 0) != w.story.Begun() {
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
		if !enginetest.StepTerminal(s.Status) {
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
