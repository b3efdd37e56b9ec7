package engine

import (
	"encoding/json"

	"turbocat.io/contracts/runner"
)

// Kind is what an input says.
type Kind int

// The kinds of input.
const (
	Submitted     Kind = iota + 1 // the execution was accepted
	StepStarted                   // a runner has begun, or begun again, with Token
	StepCompleted                 // Token's result is Output
	StepFailed                    // Token's result is Err
	StepLost                      // the message that carried Token's Dispatch is gone
	TimerDue                      // a timer may be due
	Cancel                        // somebody asked for the end
)

// Input is one entry of an execution's log. Which fields count depends on Kind.
type Input struct {
	Kind     Kind
	Time     Time // of the log's stream
	Step     string
	Token    string
	Dispatch int
	Output   json.RawMessage
	Err      *runner.StepError
}

// Keys is what tokens and ids are made with: a secret of the installation, and the
// generation of the partition's log, so that a result computed from a lost input can not enter.
type Keys struct {
	Secret     []byte
	Generation int64
}

// Effects is what follows from an input, beside the new state.
type Effects struct {
	Changed  bool      // the execution's own fields
	Steps    []int     // whose state changed; ascending
	Ready    []int     // to be sent to a runner; see Execution.Body
	Stop     []Stop    // to be stopped, wherever they are
	Events   []Event   // what the world is told once it is committed
	Warnings []Warning // for the execution's log
}

// None tells whether the input changed nothing.
func (e *Effects) None() bool { return !e.Changed && len(e.Steps) == 0 }

// Stop names an attempt that no longer counts.
type Stop struct {
	Step  int
	Token string
}

// Warning is a line for the execution's log.
type Warning struct {
	Step    int
	Attempt int
	Message string
}
