package engine

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"hash"

	"turbocat.io/contracts/orchestrator"
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
	Pause                         // somebody asked that no more steps start
	Resume                        // somebody asked to go on
	Signaled                      // somebody sent Signal
	Gathered                      // the outputs of a step's items, put together, are Output; or Err
)

// Input is one entry of an execution's log. Which fields count depends on Kind.
type Input struct {
	Kind Kind
	Time Time // of the log's stream
	Step string
	// Iteration is that of the item which Token is of; 0 for the step itself.
	Iteration int
	Token     string
	Dispatch  int
	Output    json.RawMessage // a payload
	Missing   bool            // the ledger has not what Output refers to
	Err       *runner.StepError
	Command   string // id of what somebody asked for
	Signal    *orchestrator.Signal
}

// Keys is what tokens and ids are made with: a secret of the installation, and the
// generation of the partition's log, so that a result computed from a lost input can not enter.
type Keys struct {
	Secret     []byte
	Generation int64

	mac hash.Hash // of Secret; nil to make one each time
}

// Quick gives the same keys for the use of one goroutine: they cost less.
func (k Keys) Quick() Keys {
	k.mac = hmac.New(sha256.New, k.Secret)
	return k
}

// Effects is what follows from an input, beside the new state.
type Effects struct {
	Changed  bool       // the execution's own fields
	Rows     []Row      // of what changed, in the order of their places
	Ready    []Place    // to be sent to a runner; see Execution.Body
	Inputs   []Resolved // of what is Ready, as far as they are small together
	Children []Place    // whose executions are to begin once that is committed; see Execution.Child
	Stop     []Stop     // to be stopped, wherever they are
	Gather   []int      // steps whose items have all ended, and are to be gathered once that is committed; see Gather; or Outputs
	Kept     bool       // the input's signal is kept for a step that has yet to wait for it
	Taken    []string   // commands whose kept signals steps have taken
	Events   []Event    // what the world is told once it is committed
	Warnings []Warning  // for the execution's log

	Compensation *Compensation // to be accepted with the end; nil for none
}

// Resolved are the inputs of a task.
type Resolved struct {
	Place
	Input json.RawMessage
}

// maxResolved bounds the bytes of Effects.Inputs.
const maxResolved = 64 << 10

// Input gives the inputs of what is Ready; nil when they are to be asked for.
func (e *Effects) Input(p Place) json.RawMessage {
	for i := range e.Inputs {
		if e.Inputs[i].Place == p {
			return e.Inputs[i].Input
		}
	}
	return nil
}

// None tells whether the input changed nothing.
func (e *Effects) None() bool { return !e.Changed && len(e.Rows) == 0 && !e.Kept }

// Stop names an attempt that no longer counts.
type Stop struct {
	Place
	Token string
	Child string // the execution to be cancelled; "" for an attempt of a runner
}

// Warning is a line for the execution's log. Its Step is -1 when it is of none.
type Warning struct {
	Place
	Attempt int
	Message string
}
