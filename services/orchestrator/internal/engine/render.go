package engine

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/template"
)

// Input gives the resolved inputs of a task and the paths that did not resolve. It depends
// on the definition, the execution's inputs, the results of the step's ancestors and in a while loop the item before alone,
// so it is the same whenever it is asked for once the task is ready. Null for a step without an agent.
func (x *Execution) Input(p Place) (json.RawMessage, []template.Path, *runner.StepError) {
	def := &x.Definition.Steps[p.Step]
	inputs := def.Work(p.Iteration).inputs
	if p.Iteration == 0 && !def.Works() {
		return json.RawMessage("null"), nil, nil
	}
	b, unresolved, err := inputs.RenderWithin(runner.MaxInput, x.lookupAt(p))
	if err != nil {
		return nil, nil, x.inputTooLarge(p)
	}
	return b, unresolved, nil
}

func (x *Execution) inputTooLarge(p Place) *runner.StepError {
	return &runner.StepError{
		Code: runner.CodeInputLimit, StepKey: x.Definition.Steps[p.Step].Key,
		Message: fmt.Sprintf("the resolved inputs are larger than %d bytes; pass less to the step", runner.MaxInput),
	}
}

// resolve gives the resolved inputs of a task that begins, and what is to be said of them; or why it can not begin.
func (x *Execution) resolve(p Place) (json.RawMessage, []Warning, *runner.StepError) {
	input, unresolved, failure := x.Input(p)
	if w := x.Definition.Steps[p.Step].Work(p.Iteration); failure == nil && w.Secrets != nil {
		unresolved, failure = withoutSecrets(unresolved), x.withheld(w)
	}
	switch {
	case failure != nil:
		return nil, nil, failure
	case len(unresolved) == 0:
		return input, nil, nil
	case x.Definition.Strict:
		return nil, nil, &runner.StepError{Code: runner.CodeTemplate, Message: unresolvedMessage(unresolved)}
	}
	return input, []Warning{{p, x.Task(p).Attempt, "in the inputs " + unresolvedMessage(unresolved) + "; it stays as written"}}, nil
}

// Body gives the body of a ready task's message, a runner.StepBody but for the grant of its secrets. input are its resolved inputs,
// as far as they are at hand.
func (x *Execution) Body(p Place, input json.RawMessage) ([]byte, *runner.StepError) {
	if input == nil {
		var failure *runner.StepError
		if input, _, failure = x.Input(p); failure != nil {
			return nil, failure
		}
	}
	return x.bodyWith(p, input)
}

// DeferredBody gives the body of a task that Defers, what is to be said of it, or why the attempt fails.
func (x *Execution) DeferredBody(p Place) ([]byte, []Warning, *runner.StepError) {
	input, warnings, failure := x.resolve(p)
	if failure != nil {
		return nil, nil, failure
	}
	b, failure := x.bodyWith(p, input)
	return b, warnings, failure
}

// bodyWith gives the body of a task; input is how its inputs are shown.
func (x *Execution) bodyWith(p Place, input json.RawMessage) ([]byte, *runner.StepError) {
	d := x.Definition.Steps[p.Step].Work(p.Iteration)
	var points []runner.SecretPoint
	if d.Secrets != nil {
		var failure *runner.StepError
		if input, points, failure = x.inputAround(p); failure != nil {
			return nil, failure
		}
	}
	b := make([]byte, 0, len(d.Config)+len(input)+len(d.InputSchema)+len(d.OutputSchema)+64)
	b = append(b, `{"config":`...)
	b = append(b, d.Config...)
	b = append(b, `,"input":`...)
	b = append(b, input...)
	if len(d.InputSchema) > 0 {
		b = append(b, `,"inputSchema":`...)
		b = append(b, d.InputSchema...)
	}
	if len(d.OutputSchema) > 0 {
		b = append(b, `,"outputSchema":`...)
		b = append(b, d.OutputSchema...)
	}
	if len(points) > 0 {
		b = append(b, `,"secrets":`...)
		list, err := json.Marshal(points)
		if err != nil {
			return nil, &runner.StepError{Code: runner.CodeInternal, Message: "the places of the secrets do not encode"} // they always do
		}
		b = append(b, list...)
	}
	return append(b, '}'), nil
}

// GatherOutputs gives the outputs that the definition says, of an execution whose steps have all ended.
func (x *Execution) GatherOutputs() (json.RawMessage, *runner.StepError) {
	outputs, unresolved, err := x.Definition.outputs.RenderWithin(runner.MaxOutput, x.lookup)
	switch {
	case err != nil:
		return nil, outputsTooLarge("the outputs")
	case len(unresolved) > 0 && x.Definition.Strict:
		return nil, unresolvedOutputs(unresolved)
	}
	return outputs, nil
}

func unresolvedOutputs(paths []template.Path) *runner.StepError {
	return &runner.StepError{Code: runner.CodeTemplate, Message: "in the outputs " + unresolvedMessage(paths)}
}

func outputsTooLarge(what string) *runner.StepError {
	return &runner.StepError{Code: runner.CodeOutputLimit, Message: fmt.Sprintf("%s have more than %d bytes; let the workflow's outputs name less", what, runner.MaxOutput)}
}

// OutputsByKey gives the outputs of a COMPLETED execution: as its definition says, else every completed step's output by its key.
func (x *Execution) OutputsByKey() json.RawMessage {
	if x.Outputs != nil || x.Status != orchestrator.ExecutionCompleted {
		return x.Whole(x.Outputs)
	}
	b := []byte{'{'}
	for i := range x.Steps {
		if x.Steps[i].Status != orchestrator.StepCompleted {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = strconv.AppendQuote(b, x.Definition.Steps[i].Key)
		b = append(b, ':')
		b = append(b, x.Whole(x.Steps[i].Output)...)
	}
	return append(b, '}')
}

// OutputsSize gives the bytes of OutputsByKey, without making them.
func (x *Execution) OutputsSize() int {
	if x.Outputs != nil || x.Status != orchestrator.ExecutionCompleted {
		return SizeOf(x.Outputs)
	}
	size, n := len("{}"), 0
	for i := range x.Steps {
		if x.Steps[i].Status == orchestrator.StepCompleted {
			size += len(`"":`) + len(x.Definition.Steps[i].Key) + SizeOf(x.Steps[i].Output)
			n++
		}
	}
	return size + max(n-1, 0)
}

// SizeOf gives the bytes of a payload, wherever it is.
func SizeOf(payload json.RawMessage) int {
	if ref, stored := runner.ReferenceOf(payload); stored {
		return ref.Size
	}
	return len(payload)
}

// lookupAt gives what the templates of a task may name: of an item also item and index.
func (x *Execution) lookupAt(at Place) template.Lookup {
	if at.Iteration == 0 || x.Definition.Steps[at.Step].loop == nil {
		return x.lookup
	}
	return func(p template.Path) (json.RawMessage, bool) {
		switch p.Root() {
		case "index":
			return template.Walk(strconv.AppendInt(nil, int64(at.Iteration-1), 10), p[1:])
		case "item":
			return template.Walk(x.Whole(x.item(at)), p[1:])
		}
		return x.lookup(p)
	}
}

// item gives the item of a LOOP: in a while loop the output of the one before.
func (x *Execution) item(at Place) json.RawMessage {
	s := &x.Steps[at.Step]
	if x.Definition.Steps[at.Step].loop.while == nil {
		if items, failure := x.itemsOf(at.Step); failure == nil && at.Iteration <= len(items) {
			return items[at.Iteration-1]
		}
	} else if s.Last != nil {
		return s.Last
	}
	return json.RawMessage("null")
}

func (x *Execution) lookup(p template.Path) (json.RawMessage, bool) {
	switch p.Root() {
	case "inputs":
		return template.Walk(x.Whole(x.Inputs), p[1:])
	case "metadata":
		return template.Walk(x.metadata(), p[1:])
	}
	i, ok := x.Definition.byKey[p.Root()]
	if !ok || len(p) < 2 || p[1].IsIndex {
		return nil, false
	}
	s := &x.Steps[i]
	switch p[1].Key {
	case "output":
		if s.Status != orchestrator.StepCompleted {
			return template.Walk(json.RawMessage("null"), p[2:])
		}
		return template.Walk(x.Whole(s.Output), p[2:])
	case "error":
		raw, err := json.Marshal(s.Error)
		if err != nil {
			return nil, false
		}
		return template.Walk(raw, p[2:])
	case "status":
		return template.Walk(json.RawMessage(strconv.Quote(s.Status)), p[2:])
	}
	return nil, false
}

func (x *Execution) metadata() json.RawMessage {
	raw, err := json.Marshal(map[string]any{ // encoding/json sorts the keys
		"executionId": x.ID, "workflowId": x.WorkflowID, "workflowVersion": x.Definition.WorkflowVersion,
		"userId": x.UserID, "triggerType": x.TriggerType, "startedAt": x.StartedAt.Std(),
	})
	if err != nil {
		return json.RawMessage("{}")
	}
	return raw
}

func unresolvedMessage(paths []template.Path) string {
	names := make([]string, len(paths))
	for i, p := range paths {
		names[i] = "{{" + p.String() + "}}"
	}
	return "does not resolve: " + strings.Join(names, ", ")
}
