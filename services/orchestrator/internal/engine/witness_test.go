package engine_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"turbocat.io/contracts/catalog"
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
	inputs map[engine.Place]json.RawMessage
	noJSON bool // outputs came in that are no JSON, so that those of the execution need not be any
	cyclic bool // the definition may have cycles, so that an execution can wait for ever
}

func newWitness(x *engine.Execution) *witness {
	return &witness{story: enginetest.NewStory(x.Definition), inputs: map[engine.Place]json.RawMessage{}}
}

// snapshot copies a state so that nothing Apply does reaches the copy.
func snapshot(x *engine.Execution) *engine.Execution {
	c := *engine.Bare(x)
	c.Error = copyError(x.Error)
	c.Signals, c.Commands = slices.Clone(c.Signals), maps.Clone(x.Commands)
	copyTask := func(t *engine.Task) { t.Error, t.Output = copyError(t.Error), bytes.Clone(t.Output) }
	for i := range c.Steps {
		s := &c.Steps[i]
		copyTask(&s.Task)
		s.Last = bytes.Clone(s.Last)
		s.Items = slices.Clone(s.Items)
		for n := range s.Items {
			copyTask(&s.Items[n].Task)
		}
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

// tasks gives all that a state holds, by place.
func tasks(x *engine.Execution) map[engine.Place]engine.Row {
	all := map[engine.Place]engine.Row{}
	for i := range x.Steps {
		all[engine.Place{Step: i}] = x.Row(engine.Place{Step: i})
		for _, item := range x.Steps[i].Items {
			p := engine.Place{Step: i, Iteration: item.Iteration}
			all[p] = x.Row(p)
		}
	}
	return all
}

// check compares the states before and after one input with its effects.
func (w *witness) check(before, after *engine.Execution, out engine.Effects) error {
	for _, e := range out.Events {
		if err := w.event(after, e); err != nil {
			return err
		}
	}
	for _, check := range []func(before, after *engine.Execution, out engine.Effects) error{
		w.checkKept, w.checkTouched, w.checkSignals, w.checkSteps, w.checkItems, w.checkReady, w.checkStopped, w.checkGather, w.checkEnd,
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
	if before.Terminal() && (!out.None() || !unchanged(before, after)) {
		return fmt.Errorf("a terminal execution changed: %+v", out)
	}
	for i := range before.Steps {
		if enginetest.StepTerminal(before.Steps[i].Status) && !reflect.DeepEqual(before.Steps[i], engine.Bare(after).Steps[i]) {
			return fmt.Errorf("step %d was terminal and changed from %+v to %+v", i, before.Steps[i], after.Steps[i])
		}
	}
	if after.LastInput < before.LastInput || after.EventSeq < before.EventSeq {
		return fmt.Errorf("time or seq ran backwards: %d %d, then %d %d", before.LastInput, before.EventSeq, after.LastInput, after.EventSeq)
	}
	return nil
}

// unchanged compares two states, but for the commands they know.
func unchanged(before, after *engine.Execution) bool {
	a, b := engine.Bare(before), engine.Bare(after)
	a.Commands, b.Commands = nil, nil
	a.Slot = b.Slot // it is the ledger's, which has it before the input comes
	return reflect.DeepEqual(a, b)
}

// checkTouched holds the effects against what really changed.
func (w *witness) checkTouched(before, after *engine.Execution, out engine.Effects) error {
	if out.None() {
		if !reflect.DeepEqual(out, engine.Effects{}) {
			return fmt.Errorf("an input without effects has some: %+v", out)
		}
		if !unchanged(before, after) {
			return fmt.Errorf("an input without effects changed the state from %+v to %+v", before, after)
		}
		return nil
	}
	rows := map[engine.Place]engine.Row{}
	for n, r := range out.Rows {
		if n > 0 && !(out.Rows[n-1].Step < r.Step || out.Rows[n-1].Step == r.Step && out.Rows[n-1].Iteration < r.Iteration) {
			return fmt.Errorf("row %+v follows %+v", r.Place, out.Rows[n-1].Place)
		}
		rows[r.Place] = r
	}
	was, is := tasks(before), tasks(after)
	for p, now := range is {
		row, told := rows[p]
		if told && !reflect.DeepEqual(row, now) || !told && !reflect.DeepEqual(was[p], now) {
			return fmt.Errorf("%v changed from %+v to %+v, and the effects say %+v", p, was[p], now, row)
		}
	}
	for p := range was {
		if _, there := is[p]; !there && !enginetest.StepTerminal(rows[p].Status) {
			return fmt.Errorf("the item %v is gone, and the effects say %+v", p, rows[p])
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

// checkSignals holds that a signal is kept until one step takes it.
func (w *witness) checkSignals(before, after *engine.Execution, out engine.Effects) error {
	left := slices.DeleteFunc(slices.Clone(before.Signals), func(k engine.KeptSignal) bool { return slices.Contains(out.Taken, k.Command) })
	if len(left)+len(out.Taken) != len(before.Signals) {
		return fmt.Errorf("%v were taken of %+v", out.Taken, before.Signals)
	}
	kept := 0
	if out.Kept {
		kept = 1
	}
	if len(after.Signals) != len(left)+kept || !slices.EqualFunc(left, after.Signals[:len(left)], func(a, b engine.KeptSignal) bool { return a.Command == b.Command }) {
		return fmt.Errorf("the signals were %+v and are %+v; taken %v, kept %v", before.Signals, after.Signals, out.Taken, out.Kept)
	}
	return nil
}

// checkSteps holds for each step that its fields fit together, and its story.
func (w *witness) checkSteps(_, after *engine.Execution, _ engine.Effects) error {
	running := 0
	for i := range after.Steps {
		s := &after.Steps[i]
		if told, attempts := w.story.StepStatus(i), w.story.Attempts(i); s.Status != told || s.Attempt != attempts {
			return fmt.Errorf("step %d is %s in attempt %d, the events say %s and %d", i, s.Status, s.Attempt, told, attempts)
		}
		if s.Status == orchestrator.StepRunning {
			running++
		} else if s.WakeAt != 0 || s.Last != nil {
			return fmt.Errorf("step %d is %s and wakes at %d, last %s", i, s.Status, s.WakeAt, s.Last)
		}
		agent := after.Definition.Steps[i].Type == catalog.StepAgent
		if err := checkTask(&s.Task, agent); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
		if after.Status == orchestrator.ExecutionRunning && s.Status == orchestrator.StepPending && w.settledBefore(after, i) {
			return fmt.Errorf("step %d is PENDING and nothing is left to wait for", i)
		}
	}
	if after.Status == orchestrator.ExecutionRunning && running == 0 && !w.cyclic && !after.Gathers(engine.Outputs) {
		return fmt.Errorf("the execution is RUNNING and no step is")
	}
	return nil
}

// checkTask holds that the fields of a task fit together; onRunner tells whether a runner works on it.
func checkTask(t *engine.Task, onRunner bool) error {
	switch {
	case t.Status == orchestrator.StepRunning && onRunner:
		if (t.Token == "") == (t.RetryAt == 0) {
			return fmt.Errorf("it is RUNNING with token %q and retry at %d", t.Token, t.RetryAt)
		}
	case t.RetryAt != 0 || t.Backstop != 0:
		return fmt.Errorf("it is %s and has a timer", t.Status)
	case t.Token != "" && t.Status != orchestrator.StepCancelled:
		return fmt.Errorf("it is %s and has a token", t.Status)
	}
	if enginetest.StepTerminal(t.Status) != (t.CompletedAt != 0) || (t.Attempt > 0) != (t.StartedAt != 0) {
		return fmt.Errorf("it is %s and has times %d, %d", t.Status, t.StartedAt, t.CompletedAt)
	}
	if (t.Status == orchestrator.StepCompleted) != (t.Output != nil) || (t.Status == orchestrator.StepFailed && t.Error == nil) {
		return fmt.Errorf("it is %s with output %s and error %q", t.Status, t.Output, codeOf(t.Error))
	}
	return nil
}

// checkItems holds that a step has items while it runs, and that none is forgotten.
func (w *witness) checkItems(_, after *engine.Execution, out engine.Effects) error {
	for i := range after.Steps {
		s := &after.Steps[i]
		before := 0
		for n := range s.Items {
			item := &s.Items[n]
			if item.Iteration <= before || item.Iteration > s.Begun || item.Status != orchestrator.StepRunning {
				return fmt.Errorf("step %d has the items %+v of %d", i, s.Items, s.Begun)
			}
			before = item.Iteration
			if err := checkTask(&item.Task, true); err != nil {
				return fmt.Errorf("item %d of step %d: %w", item.Iteration, i, err)
			}
		}
		if cancelled := s.Begun - s.Completed - s.Failed - len(s.Items); cancelled < 0 || s.Status != orchestrator.StepRunning && len(s.Items) > 0 {
			return fmt.Errorf("step %d is %s with %d items begun, %d completed, %d failed: %+v", i, s.Status, s.Begun, s.Completed, s.Failed, s.Items)
		}
		t := after.Definition.Steps[i].Type
		if t != catalog.StepLoop && t != catalog.StepParallel {
			if s.Begun+len(s.Items) > 0 {
				return fmt.Errorf("step %d has items", i)
			}
			continue
		}
		if after.Status == orchestrator.ExecutionRunning && s.Status == orchestrator.StepRunning && len(s.Items) == 0 && !after.Gathers(i) {
			return fmt.Errorf("step %d is RUNNING, has no items and is not to be gathered", i)
		}
	}
	for _, r := range out.Rows {
		if r.Iteration > 0 {
			if err := checkTask(&r.Task, true); err != nil {
				return fmt.Errorf("row %v: %w", r.Place, err)
			}
		}
	}
	return nil
}

func (w *witness) settledBefore(x *engine.Execution, i int) bool {
	return !slices.ContainsFunc(x.Definition.Steps[i].DependsOn, func(dep int) bool { return !enginetest.StepTerminal(x.Steps[dep].Status) })
}

// checkReady holds that what is sent is current, and that it is the same whenever it is asked for.
func (w *witness) checkReady(before, after *engine.Execution, out engine.Effects) error {
	was, is := tasks(before), tasks(after)
	for n, p := range out.Ready {
		now, there := is[p]
		if !there || !now.AwaitsResult() || now.Dispatch < 1 || slices.Contains(out.Ready[:n], p) {
			return fmt.Errorf("%v is ready as %+v", p, now)
		}
		if was[p].Token == now.Token && was[p].Dispatch == now.Dispatch {
			return fmt.Errorf("%v is ready again under the same token and dispatch", p)
		}
		if !w.settledBefore(after, p.Step) {
			return fmt.Errorf("%v is ready before its dependencies are terminal", p)
		}
		if had := out.Input(p); had != nil {
			if asked, _, failure := after.Input(p); failure != nil || !bytes.Equal(had, asked) {
				return errors.Join(fmt.Errorf("%v is ready with %.200s, and has %.200s when it is asked for", p, had, asked), failure)
			}
		}
	}
	for p, now := range is {
		if now.Attempt == 0 {
			continue
		}
		input, _, _ := after.Input(p)
		if w.inputs[p] == nil {
			w.inputs[p] = bytes.Clone(input)
		}
		if !bytes.Equal(w.inputs[p], input) {
			return fmt.Errorf("the inputs of %v were %s and are %s", p, w.inputs[p], input)
		}
		if now.AwaitsResult() && (now.Token != was[p].Token || now.Dispatch != was[p].Dispatch) && !slices.Contains(out.Ready, p) {
			return fmt.Errorf("%v has a new dispatch and is not ready", p)
		}
	}
	var awaiting []engine.Place
	for p := range after.Awaiting() {
		if t := after.Task(p); !t.AwaitsResult() {
			return fmt.Errorf("%v is said to await a result: %+v", p, t)
		}
		awaiting = append(awaiting, p)
	}
	for p, now := range is {
		if now.AwaitsResult() != slices.Contains(awaiting, p) {
			return fmt.Errorf("of the places that await a result %v is not right: %v", p, awaiting)
		}
	}
	return nil
}

// checkStopped holds that whatever a runner works on in vain is stopped, and nothing else.
func (w *witness) checkStopped(before, after *engine.Execution, out engine.Effects) error {
	for _, stop := range out.Stop {
		if t := after.Task(stop.Place); stop.Token == "" || t != nil && t.AwaitsResult() && t.Token == stop.Token {
			return fmt.Errorf("%v is stopped and goes on", stop.Place)
		}
	}
	for p := range before.Awaiting() {
		i := slices.IndexFunc(out.Rows, func(r engine.Row) bool { return r.Place == p })
		stop := engine.Stop{Place: p, Token: before.Task(p).Token}
		if i >= 0 && out.Rows[i].Status == orchestrator.StepCancelled && (!slices.Contains(out.Stop, stop) || out.Rows[i].Token != "" && out.Rows[i].Token != stop.Token) {
			return fmt.Errorf("%v was cancelled and nobody stops it: %+v", p, out.Rows[i])
		}
	}
	return nil
}

// checkGather holds that a step is gathered when its last item has ended.
func (w *witness) checkGather(before, after *engine.Execution, out engine.Effects) error {
	for i := range after.Steps {
		n := 0
		for _, g := range out.Gather {
			if g == i {
				n++
			}
		}
		gathers := !after.Terminal() && after.Gathers(i)
		if n > 1 || n == 1 && !gathers || n == 0 && gathers && !before.Gathers(i) {
			return fmt.Errorf("step %d is gathered %d times; it gathers: %v, before: %v", i, n, gathers, before.Gathers(i))
		}
	}
	return nil
}

// checkEnd holds that a terminal execution is at rest and that it told so last.
func (w *witness) checkEnd(_, after *engine.Execution, out engine.Effects) error {
	if told := w.story.Status(); after.Status != told {
		return fmt.Errorf("the execution is %s, the events say %s", after.Status, told)
	}
	if after.Terminal() != (after.CompletedAt != 0) || (after.StartedAt != 0) != w.story.Begun() {
		return fmt.Errorf("the execution is %s and has times %d, %d", after.Status, after.StartedAt, after.CompletedAt)
	}
	if !after.Terminal() {
		return nil
	}
	if len(out.Ready)+len(out.Gather) > 0 || after.NextDue() != 0 {
		return fmt.Errorf("the execution has ended and goes on: ready %v, gather %v, next due %d", out.Ready, out.Gather, after.NextDue())
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
	}
	if p.Percent != 100 || p.Total != len(after.Steps) || p.Completed+p.Failed+p.Skipped+cancelled != p.Total {
		return fmt.Errorf("progress is %+v with %d cancelled", p, cancelled)
	}
	if completed := after.Status == orchestrator.ExecutionCompleted; completed != (after.OutputsByKey() != nil) || completed && !w.noJSON && !json.Valid(after.OutputsByKey()) {
		return fmt.Errorf("the execution is %s with outputs %s", after.Status, after.OutputsByKey())
	}
	return nil
}
