package engine

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"turbocat.io/contracts/catalog"
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
	if p.Iteration == 0 && def.Type != catalog.StepAgent {
		return json.RawMessage("null"), nil, nil
	}
	b, unresolved, err := inputs.RenderWithin(runner.MaxInput, x.lookupAt(p))
	if err != nil {
		return nil, nil, &runner.StepError{
			Code: runner.CodeInputLimit, StepKey: def.Key,
			Message: fmt.Sprintf("the resolved inputs are larger than %d bytes; pass less to the step", runner.MaxInput),
		}
	}
	return b, unresolved, nil
}

// Body gives the body of a ready task's message, a runner.StepBody.
func (x *Execution) Body(p Place) ([]byte, *runner.StepError) {
	input, _, serr := x.Input(p)
	if serr != nil {
		return nil, serr
	}
	d := x.Definition.Steps[p.Step].Work(p.Iteration)
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
	return append(b, '}'), nil
}

// OutputsByKey gives the outputs of a COMPLETED execution: as its definition says, else
// every completed step's output by its key.
func (x *Execution) OutputsByKey() json.RawMessage {
	if x.Outputs != nil || x.Status != orchestrator.ExecutionCompleted {
		return x.Outputs
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
		b = append(b, x.Steps[i].Output...)
	}
	return append(b, '}')
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
			return template.Walk(x.item(at), p[1:])
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
		return template.Walk(x.Inputs, p[1:])
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
		return template.Walk(s.Output, p[2:])
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
