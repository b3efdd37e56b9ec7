package promises

import (
	"fmt"
	"slices"
	"time"

	"turbocat.io/contracts/orchestrator"
)

// Violation is a promise that was not kept.
type Violation struct {
	Promise string `json:"promise"` // I1 to I8
	What    string `json:"what"`    // names the execution, step or event, and what shows it
}

func (v Violation) String() string { return v.Promise + ": " + v.What }

// Check gives every violation that the facts show.
//
//	I1 every accepted execution ends, in time
//	I2 what is recorded stays as it is
//	I3 a side effect happens at least once when its step completed, once more at most for each fault that hit its
//	   attempt, and never again once its result is recorded
//	I4 no step starts before what it depends on has ended; one that was not started has no effect
//	I5 the events of an execution are gapless, each stands once, and everybody is told the same
//	I6 figures are those of a recount
//	I7 nothing is left over
//	I8 processes hold no more than before
func Check(f Facts) []Violation {
	c := &checker{Facts: f}
	for i := range f.Executions {
		x := &f.Executions[i]
		c.checkEnd(x)
		c.checkResults(x)
		c.checkHistory(x)
	}
	c.checkChildren()
	c.checkReruns()
	c.checkCalls()
	c.checkTold()
	c.checkTotals()
	c.checkCounted()
	c.checkLeftovers()
	c.checkProcesses()
	return c.found
}

type checker struct {
	Facts
	found []Violation
}

func (c *checker) say(promise, format string, args ...any) {
	c.found = append(c.found, Violation{promise, fmt.Sprintf(format, args...)})
}

// aftermath is how long a fault goes on to have effects once it is over: leases and acks run out.
const aftermath = 10 * time.Second

// hits counts the faults that an attempt between two times can have felt.
func (c *checker) hits(from, to time.Time) int {
	n := 0
	for _, f := range c.Faults {
		if !f.From.After(to) && !f.To.Add(aftermath).Before(from) {
			n++
		}
	}
	return n
}

var (
	endOfExecution = map[string]string{
		orchestrator.EventCompleted.String(): orchestrator.ExecutionCompleted,
		orchestrator.EventFailed.String():    orchestrator.ExecutionFailed,
		orchestrator.EventCancelled.String(): orchestrator.ExecutionCancelled,
		orchestrator.EventTimedOut.String():  orchestrator.ExecutionTimeout,
	}
	endOfStep = map[string]string{
		orchestrator.EventStepCompleted.String(): orchestrator.StepCompleted,
		orchestrator.EventStepFailed.String():    orchestrator.StepFailed,
		orchestrator.EventStepSkipped.String():   orchestrator.StepSkipped,
		orchestrator.EventStepCancelled.String(): orchestrator.StepCancelled,
	}
)

// Ended tells whether a status of an execution is its last.
func Ended(status string) bool {
	return slices.Contains([]string{
		orchestrator.ExecutionCompleted, orchestrator.ExecutionFailed, orchestrator.ExecutionCancelled, orchestrator.ExecutionTimeout,
	}, status)
}

func stepEnded(status string) bool {
	return slices.Contains([]string{
		orchestrator.StepCompleted, orchestrator.StepFailed, orchestrator.StepSkipped, orchestrator.StepCancelled,
	}, status)
}

// last is the newest reading; nil when there is none.
func (x *Execution) last() *Reading {
	if len(x.Readings) == 0 {
		return nil
	}
	return &x.Readings[len(x.Readings)-1]
}

func stepOf(x orchestrator.Execution, key string) (orchestrator.StepState, bool) {
	i := slices.IndexFunc(x.Steps, func(s orchestrator.StepState) bool { return s.StepKey == key })
	if i < 0 {
		return orchestrator.StepState{}, false
	}
	return x.Steps[i], true
}
