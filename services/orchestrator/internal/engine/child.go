package engine

import (
	"encoding/json"
	"maps"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
)

// ChildInputs gives the inputs of the execution that a task waits for: the task's own over those of the agent's config; and what
// is to be said of them when it Defers.
func (x *Execution) ChildInputs(p Place) (json.RawMessage, []Warning, *runner.StepError) {
	own, warnings, failure := x.resolve(p)
	if failure != nil {
		return nil, nil, failure
	}
	inputs := maps.Clone(x.Definition.Steps[p.Step].Work(p.Iteration).Child.Inputs)
	if inputs == nil {
		inputs = map[string]json.RawMessage{}
	}
	if err := json.Unmarshal(own, &inputs); err != nil {
		return nil, nil, &runner.StepError{Code: runner.CodeInvalidInput, Message: "the inputs are no object; a workflow takes one"}
	}
	raw, err := json.Marshal(inputs) // in the order of the keys
	if err != nil {
		return nil, nil, &runner.StepError{Code: runner.CodeInvalidInput, Message: "the inputs are no JSON"}
	}
	return raw, warnings, nil
}

// recordedWithinMs is how long it may take to read what is recorded. It is no work of the step, whose own time may be short.
const recordedWithinMs = 10 * 60 * 1000

// childTimeoutMs is how long a child may take: what the step and the agent allow.
func (d *StepDefinition) childTimeoutMs(iteration int) int64 {
	switch w := d.Work(iteration); {
	case w.Recorded:
		return recordedWithinMs
	case w.Child.TimeoutMs > 0 && w.Child.TimeoutMs < d.TimeoutMs:
		return w.Child.TimeoutMs
	}
	return d.TimeoutMs
}

// EndsLarge tells whether an execution that has ended gives its parent outputs of more than inline bytes, or some that are stored.
func (x *Execution) EndsLarge(inline int) bool {
	if size := x.OutputsSize(); size > runner.MaxOutput || size <= inline && !x.stores() {
		return false
	}
	return x.Status == orchestrator.ExecutionCompleted
}

// stores tells whether outputs of the execution are stored.
func (x *Execution) stores() bool {
	_, stored := runner.ReferenceOf(x.Outputs)
	for i := range x.Steps {
		_, of := runner.ReferenceOf(x.Steps[i].Output)
		stored = stored || of
	}
	return stored
}

// Ending gives what an execution that has ended is to the task that waits for it: its outputs, or why there are none.
func (x *Execution) Ending() (output json.RawMessage, failure *runner.StepError) {
	code, retryable := runner.CodeChildFailed, true
	switch x.Status {
	case orchestrator.ExecutionCompleted:
		if x.OutputsSize() > runner.MaxOutput {
			return nil, outputsTooLarge("the outputs of the execution " + x.ID)
		}
		return x.OutputsByKey(), nil
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
