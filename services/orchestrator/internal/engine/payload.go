package engine

import (
	"encoding/json"
	"fmt"
	"slices"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/expr"
	"turbocat.io/pkg/template"
)

// A payload in the state is JSON, or a runner.Reference to JSON that the ledger has and Payloads gives. What a reference names can not
// change, so that this is as pure as if it stood in the state. Only what the engine itself decides by is looked at here; what
// runners and readers need is put together when they ask for it.

const (
	// maxRead bounds the stored payloads that one CONDITION, LOOP or WAIT reads: they are in memory together, perhaps.
	maxRead = runner.MaxInput
	// maxItems bounds the array of a LOOP, which is in memory as long as the LOOP runs.
	maxItems = 4 << 20
	// maxUndo bounds the inputs of the agent that undoes a step: they are part of a definition.
	maxUndo = 4 << 20
)

// Whole gives a payload itself, wherever it is.
func (x *Execution) Whole(payload json.RawMessage) json.RawMessage {
	ref, stored := runner.ReferenceOf(payload)
	if !stored {
		return payload
	}
	return x.Payloads(ref)
}

// storedAt gives the stored payload that a path leads into, as a task names it.
func (x *Execution) storedAt(at Place, p template.Path) (runner.Reference, bool) {
	switch root := p.Root(); root {
	case "inputs":
		return runner.ReferenceOf(x.Inputs)
	case "item":
		return runner.ReferenceOf(x.Steps[at.Step].Last)
	default:
		i, ok := x.Definition.byKey[root]
		if !ok || len(p) < 2 || p[1].IsIndex || p[1].Key != "output" {
			return runner.Reference{}, false
		}
		return runner.ReferenceOf(x.Steps[i].Output)
	}
}

// Defers tells whether the inputs of a task hold something of a stored payload: they are then put together when the runner asks for
// them, or the other execution begins.
func (x *Execution) Defers(p Place) bool {
	inputs := x.Definition.Steps[p.Step].Work(p.Iteration).inputs
	return inputs != nil && slices.ContainsFunc(inputs.Paths(), func(path template.Path) bool {
		_, stored := x.storedAt(p, path)
		return stored
	})
}

// tooMuch tells why a step can not be decided: what it reads is larger than may be in memory; nil when it is not.
func (x *Execution) tooMuch(i int) *runner.StepError {
	var refs []runner.Reference
	size := 0
	for _, path := range x.Definition.Steps[i].reads {
		if ref, stored := x.storedAt(Place{Step: i}, path); stored && !slices.Contains(refs, ref) {
			refs, size = append(refs, ref), size+ref.Size
		}
	}
	if size > maxRead {
		return &runner.StepError{
			Code: runner.CodeInputLimit, Message: fmt.Sprintf("the step reads payloads of %d bytes together, more than %d; let a step before it pick what it needs", size, maxRead),
		}
	}
	return nil
}

// readsOf gives the paths that the engine itself reads to decide about a step.
func readsOf(d *StepDefinition) (paths []template.Path) {
	expression := func(e *expr.Expression) {
		if e != nil {
			for _, ref := range e.References() {
				paths = append(paths, ref.Path)
			}
		}
	}
	rendered := func(t *template.Template) {
		if t != nil {
			paths = append(paths, t.Paths()...)
		}
	}
	switch d.Type {
	case catalog.StepCondition:
		for _, b := range d.condition.branches {
			expression(b.when)
		}
	case catalog.StepLoop:
		expression(d.loop.expression)
		expression(d.loop.while)
		rendered(d.loop.array)
	case catalog.StepWait:
		rendered(d.wait.duration)
		rendered(d.wait.until)
	}
	return paths
}
