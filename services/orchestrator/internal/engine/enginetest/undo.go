package enginetest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"pgregory.net/rapid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/services/orchestrator/internal/engine"
)

// Undo is what undoes a step that has completed, and the answers to it.
type Undo struct {
	Inputs    []Reference
	Retries   int
	DelayMs   int64
	TimeoutMs int64
	Script    []Answer // of attempt 1, 2, ...
}

// drawUndo draws what undoes step i of some that work, if anything.
func drawUndo(t *rapid.T, i int, ancestors []int) *Undo {
	if rapid.IntRange(0, 2).Draw(t, "undo") > 0 {
		return nil
	}
	u := &Undo{
		Inputs:  append(drawReferences(t, append(slices.Clone(ancestors), i)), Reference{i, WholeOutput}),
		Retries: rapid.IntRange(0, 2).Draw(t, "undoRetries"), DelayMs: rapid.SampledFrom([]int64{0, 10, 1000}).Draw(t, "undoDelayMs"), TimeoutMs: 60_000,
	}
	u.Script = drawScript(t, u.Retries)
	return u
}

func (u *Undo) compensate(p Plan) *catalog.Compensate {
	if u == nil {
		return nil
	}
	return &catalog.Compensate{AgentID: agentID, Inputs: p.template(u.Inputs), RetryCount: u.Retries, RetryDelayMs: u.DelayMs, TimeoutMs: u.TimeoutMs}
}

// UndoInput gives what the agent that undoes step i is given; nil when that can not be told, so that it must not run.
func (w *World) UndoInput(i int) map[string]any {
	input, unresolved := w.resolve(w.plan.Steps[i].Undo.Inputs, nil)
	if unresolved && w.plan.Strict {
		return nil
	}
	return input
}

// CheckCompensation holds what undoes an execution against what that one has done, and w: each step that completed and can be
// undone is, once, the later before the earlier, and none before what depends on it. Of one that goes on or completed nothing is.
func (p Plan) CheckCompensation(x *engine.Execution, w *World, c *engine.Compensation) error {
	wanted := map[string]int{}
	for i := range x.Steps {
		if x.Terminal() && x.Status != orchestrator.ExecutionCompleted && x.Steps[i].Status == orchestrator.StepCompleted && p.Steps[i].Undo != nil {
			wanted[p.Key(i)] = i
		}
	}
	switch {
	case len(wanted) == 0 && c == nil:
		return nil
	case len(wanted) == 0:
		return fmt.Errorf("it is compensated and there is nothing to be undone: %+v", c)
	case c == nil:
		return fmt.Errorf("it is not compensated, and has to undo %v", wanted)
	}
	if _, err := engine.Compile(c.Definition); err != nil {
		return fmt.Errorf("its compensation can not run: %w", err)
	}
	inputs := map[string]any{}
	if err := json.Unmarshal(c.Inputs, &inputs); err != nil {
		return fmt.Errorf("the inputs of its compensation, %s: %w", c.Inputs, err)
	}
	last := -1
	for n, s := range c.Definition.Steps {
		i, known := wanted[s.StepKey]
		if delete(wanted, s.StepKey); !known {
			return fmt.Errorf("its compensation undoes %s, which it must not, or twice", s.StepKey)
		}
		if last >= 0 && (x.Steps[i].CompletedAt > x.Steps[last].CompletedAt || p.dependsOn(i, last)) {
			return fmt.Errorf("its compensation undoes %s after %s", s.StepKey, p.Key(last))
		}
		if before := c.Definition.Steps[:n]; len(s.DependsOn) != min(n, 1) || n > 0 && s.DependsOn[0] != before[n-1].StepKey {
			return fmt.Errorf("step %d of its compensation, %s, depends on %v", n, s.StepKey, s.DependsOn)
		}
		input, given := inputs[s.StepKey]
		if want := w.UndoInput(i); given != (want != nil) || given && !reflect.DeepEqual(input, any(want)) {
			return fmt.Errorf("its compensation undoes %s with %v, the reference has %v", s.StepKey, input, want)
		}
		last = i
	}
	if len(wanted) > 0 {
		return fmt.Errorf("its compensation does not undo %v", wanted)
	}
	return nil
}

func (p Plan) index(key string) int {
	for i := range p.Steps {
		if p.Key(i) == key {
			return i
		}
	}
	panic("no step " + key)
}

// dependsOn tells whether step i depends on another, directly or not.
func (p Plan) dependsOn(i, other int) bool {
	return slices.ContainsFunc(p.Steps[i].Deps, func(d int) bool { return d == other || p.dependsOn(d, other) })
}

// Undoing gives a compensation of an execution of the plan as a plan of its own.
func (p Plan) Undoing(c engine.Compensation) Plan {
	inputs := map[string]map[string]any{}
	if err := json.Unmarshal(c.Inputs, &inputs); err != nil {
		panic(err) // by CheckCompensation
	}
	out := Plan{Strict: true}
	for n, s := range c.Definition.Steps {
		u := p.Steps[p.index(s.StepKey)].Undo
		step := Step{
			Key: s.StepKey, Rule: catalog.TriggerNoneFailed, OnError: catalog.OnErrorRetry, Retries: u.Retries, DelayMs: u.DelayMs, TimeoutMs: u.TimeoutMs,
			Script: u.Script, Given: inputs[s.StepKey], Undoes: true,
		}
		if n > 0 {
			step.Deps = []int{n - 1}
		}
		out.Steps = append(out.Steps, step)
	}
	return out
}
