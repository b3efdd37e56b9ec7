// Package work runs ready steps: it holds what was delivered, runs each attempt within its
// bounds, and has what came of it reported before the step is let go of. It owns no
// transport; an attempt is told apart by its token alone.
package work

import (
	"time"

	"turbocat.io/contracts/runner"
)

// MaxDeliveries is the delivery of one message that is not run any more: as many runners
// before it took the attempt and none answered.
const MaxDeliveries = runner.LostAfter + 1

// Step is one attempt of a step that waits to be run.
type Step struct {
	Token          string
	ExecutionID    string
	StepKey        string
	Dispatch       string
	Iteration      int // from 1: of an item of a LOOP or branch of a PARALLEL; 0 for the step itself
	Attempt        int
	Timeout        time.Duration
	IdempotencyKey string
	UserID         string
	WorkflowID     string
	AgentID        string
	RequestID      string
	Traceparent    string
	Body           []byte            // a runner.StepBody; empty when the ledger is to be asked for it
	Fault          *runner.StepError // set when the step can not be run
}

// sending names one message of the attempt: an attempt whose message or answer was lost is sent
// again under the next dispatch.
func (s *Step) sending() string { return s.Token + "." + s.Dispatch }

// Delivery is one delivery of a Step's message.
type Delivery struct {
	Step     *Step
	Sequence uint64        // of the message: tells a redelivery from a step that was sent again
	Count    int           // of this message's deliveries, from 1
	Doubtful bool          // the attempt may have been answered before, although Count is 1
	AckWait  time.Duration // how long it is ours without an extension
	Lease    Lease
}

// Lease is the hold on a delivered message. It is safe for concurrent use.
type Lease interface {
	Extend() bool // restarts the message's AckWait; false when the server can not be reached
	Ack()         // the message is done with
	Nak()         // another runner may take it, now
	Free()        // it no longer takes one of the places that bound what is delivered; once
}

// Report is what a runner says about an attempt.
type Report struct {
	Type     string // of package runner
	Step     *Step
	Body     []byte // an output or a reference to it, or a runner.StepError
	Duration time.Duration
}
