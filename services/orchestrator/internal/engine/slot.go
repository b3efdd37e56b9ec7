package engine

import (
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
)

// Slot is how an execution stands to the concurrency limit of its workflow. The ledger decides that, not the engine.
type Slot int

// The states of a Slot.
const (
	SlotNone    Slot = iota // no limit counts it
	SlotWaiting             // it is queued; Submitted comes once it holds a slot
	SlotHeld
	SlotDropped // there was no room, and it does not wait for any
)

// drop ends an execution that found no room, whatever the input is.
func (a *applier) drop() {
	a.created()
	a.end(orchestrator.ExecutionCancelled, Dropped(), orchestrator.EventCancelled)
}

// Dropped is why an execution ends that found no room.
func Dropped() *runner.StepError {
	return &runner.StepError{
		Code:    runner.CodeConcurrency,
		Message: "as many executions of the workflow as its concurrency allows had not ended when this one was accepted, and onLimit is DROP",
	}
}
