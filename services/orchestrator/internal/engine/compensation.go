package engine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/pkg/template"
)

// MaxCompensationInputs is how many bytes the inputs of all steps of a compensation may have together.
const MaxCompensationInputs = 16 << 20

// Compensation is an execution that undoes what another has done. It has one step for each of that one's steps that it undoes,
// under the same key, one after the other.
type Compensation struct {
	ID         string
	Definition catalog.Definition
	Inputs     json.RawMessage // those of each of its steps, by key
}

// undo is a compiled catalog.Compensate.
type undo struct {
	step   catalog.Step // of the compensation
	agent  catalog.DefinitionAgent
	inputs *template.Template
}

func compileUndo(s catalog.Step, known agents) (*undo, error) {
	c := s.Compensate
	work, err := compileWork(&c.AgentID, c.Inputs, known)
	if err != nil {
		return nil, err
	}
	u := &undo{inputs: work.inputs, agent: known.byID[c.AgentID], step: catalog.Step{
		StepKey: s.StepKey, StepType: catalog.StepAgent, AgentID: &c.AgentID, DependsOn: []string{},
		Inputs: json.RawMessage(`"{{inputs.` + s.StepKey + `}}"`), Config: json.RawMessage("{}"), // what is spliced in stays what it is
		OnError: catalog.OnErrorRetry, RetryCount: c.RetryCount, RetryDelayMs: c.RetryDelayMs, TimeoutMs: c.TimeoutMs, TriggerRule: catalog.TriggerNoneFailed,
	}}
	if len(secretsOf(work.inputs)) > 0 {
		u.step.Inputs, u.inputs, err = renamed(s.StepKey, work.inputs)
	}
	return u, err
}

// Compensated gives the steps that are undone because the execution has ended otherwise than COMPLETED, in the order in which
// they are: the one that completed last is the first, and none comes before one that depends on it. It undoes what it has run
// itself: a result of another execution is that one's to undo.
func (x *Execution) Compensated() []int {
	if !x.Terminal() || x.Status == orchestrator.ExecutionCompleted {
		return nil
	}
	var steps []int
	for i := range x.Steps {
		if s := &x.Steps[i]; s.Status == orchestrator.StepCompleted && !s.Reused && x.Definition.Steps[i].undo != nil {
			steps = append(steps, i)
		}
	}
	if len(steps) > 1 {
		ages := x.ages()
		slices.SortFunc(steps, func(i, j int) int {
			return cmp.Or(cmp.Compare(ages[j].at, ages[i].at), cmp.Compare(ages[j].depth, ages[i].depth), cmp.Compare(j, i))
		})
	}
	return steps
}

// age orders steps: by when they ended, and never before what they depend on. A moment alone does not: several things may
// happen at one, and results that were taken over have the clock of an earlier log.
type age struct {
	at    Time
	depth int
}

func (x *Execution) ages() []age {
	ages := make([]age, len(x.Steps))
	var of func(i int) age
	of = func(i int) age {
		if ages[i].depth == 0 {
			ages[i] = age{x.Steps[i].CompletedAt, 1}
			for _, dep := range x.Definition.Steps[i].DependsOn {
				before := of(dep)
				ages[i] = age{max(ages[i].at, before.at), max(ages[i].depth, before.depth+1)}
			}
		}
		return ages[i]
	}
	for i := range ages {
		of(i)
	}
	return ages
}

// compensate has what an execution has done undone, now that it has ended.
func (a *applier) compensate() {
	x := a.x
	steps := x.Compensated()
	if len(steps) == 0 {
		return
	}
	source := &x.Definition.source
	d := catalog.Definition{
		WorkflowID: source.WorkflowID, WorkflowOwner: source.WorkflowOwner, WorkflowVersion: source.WorkflowVersion, Priority: source.Priority,
		StrictTemplates: true, // a step whose inputs are not there fails
	}
	inputs := []byte{'{'}
	for n, i := range steps {
		u := x.Definition.Steps[i].undo
		step := u.step
		step.Position = n
		if n > 0 {
			step.DependsOn = []string{d.Steps[n-1].StepKey}
		}
		d.Steps = append(d.Steps, step)
		if !slices.ContainsFunc(d.Agents, func(known catalog.DefinitionAgent) bool { return known.ID == u.agent.ID }) {
			d.Agents = append(d.Agents, u.agent)
		}
		if rendered := a.undoInputs(i, max(0, MaxCompensationInputs-len(inputs))); rendered != nil {
			if len(inputs) > 1 {
				inputs = append(inputs, ',')
			}
			inputs = append(strconv.AppendQuote(inputs, step.StepKey), ':')
			inputs = append(inputs, rendered...)
		}
	}
	a.out.Compensation = &Compensation{ID: a.keys.compensationID(x.ID, x.Partition, x.CompletedAt), Definition: d, Inputs: append(inputs, '}')}
}

// undoInputs gives what the agent that undoes a step is given; nil when there can be nothing: then it is not run, and the
// compensation fails there.
func (a *applier) undoInputs(i, room int) json.RawMessage {
	x, warning := a.x, ""
	rendered, unresolved, err := x.Definition.Steps[i].undo.inputs.RenderWithin(min(maxUndo, room), x.lookup)
	switch {
	case err != nil:
		warning = fmt.Sprintf("the resolved inputs of its compensate are larger than %d bytes, or those of all steps than %d; it can not be undone", maxUndo, MaxCompensationInputs)
		rendered = nil
	case len(unresolved) > 0 && x.Definition.Strict:
		warning = "in the inputs of its compensate " + unresolvedMessage(unresolved) + "; it can not be undone"
		rendered = nil
	case len(unresolved) > 0:
		warning = "in the inputs of its compensate " + unresolvedMessage(unresolved) + "; it stays as written"
	}
	if warning != "" {
		a.out.Warnings = append(a.out.Warnings, Warning{Place{Step: i}, x.Steps[i].Attempt, warning})
	}
	return rendered
}
