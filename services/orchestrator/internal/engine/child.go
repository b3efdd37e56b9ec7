package engine

import (
	"encoding/json"
	"fmt"
	"maps"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
)

// ChildInputs gives the inputs of the execution that a task waits for: the task's own over those of the agent's config.
func (x *Execution) ChildInputs(p Place) (json.RawMessage, *runner.StepError) {
	own, _, failure := x.Input(p)
	if failure != nil {
		return nil, failure
	}
	inputs := maps.Clone(x.Definition.Steps[p.Step].Work(p.Iteration).Child.Inputs)
	if inputs == nil {
		inputs = map[string]json.RawMessage{}
	}
	if err := json.Unmarshal(own, &inputs); err != nil {
		return nil, &runner.StepError{Code: runner.CodeInvalidInput, Message: "the inputs are no object; a workflow takes one"}
	}
	raw, err := json.Marshal(inputs) // in the order of the keys
	if err != nil {
		return nil, &runner.StepError{Code: runner.CodeInvalidInput, Message: "the inputs are no JSON"}
	}
	return raw, nil
}

// childTimeoutMs is how long a child may take: what the step and the agent allow.
func (d *StepDefinition) childTimeoutMs(iteration int) int64 {
	if own := d.Work(iteration).Child.TimeoutMs; own > 0 && own < d.TimeoutMs {
		return own
	}
	return d.TimeoutMs
}

// Ending gives what an execution that has ended is to the task that waits for it: its outputs, or why there are none.
func (x *Execution) Ending() (output json.RawMessage, failure *runner.StepError) {
	code, retryable := runner.CodeChildFailed, true
	switch x.Status {
	case orchestrator.ExecutionCompleted:
		if output = x.OutputsByKey(); len(output) <= runner.MaxOutput {
			return output, nil
		}
		return nil, &runner.StepError{
			Code: runner.CodeOutputLimit, Message: fmt.Sprintf("the outputs of the execution %s have more than %d bytes; let the workflow's outputs name less", x.ID, runner.MaxOutput),
		}
	case orchestrator.ExecutionTimeout:
		code = runner.CodeChildTimeout
	case orchestrator.ExecutionCancelled:
		code, retryable = runner.CodeChildStopped, false
	}
	message := "the execution " + x.ID + " ended " + x.Status
	if x.Error != nil {
		message += ": " + x.Error.Error()
	}
	return nil, &runner.StepError{Code: code, Message: message, Retryable: retryable}
}
