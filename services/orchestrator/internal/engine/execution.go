package engine

import (
	"encoding/json"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
)

// Execution is the state of one run of a definition. Only Apply and Fault change it.
type Execution struct {
	ID          string
	WorkflowID  string
	UserID      string
	TriggerType string
	RequestID   string
	Traceparent string
	Partition   int
	Priority    int
	Definition  *Definition

	Status      string
	Inputs      json.RawMessage
	Outputs     json.RawMessage // only when the definition says how; else see OutputsByKey
	Error       *runner.StepError
	CreatedAt   Time
	StartedAt   Time
	CompletedAt Time
	LastInput   Time   // the time of the last input that was applied
	EventSeq    uint64 // seq of the last event
	Steps       []Step // in the definition's order

	open int // steps that are not terminal
}

// Step is the state of one step. Token names the attempt whose result counts; it is empty
// when none does.
type Step struct {
	Status      string
	Attempt     int // from 1; 0 before the first
	Token       string
	Dispatch    int  // how often Token was sent, from 1
	RetryAt     Time // when the next attempt begins; 0 when none is scheduled
	Backstop    Time // when the attempt is given up; 0 until it has started on a runner
	Output      json.RawMessage
	Error       *runner.StepError
	StartedAt   Time
	CompletedAt Time

	waiting int // dependencies that are not terminal
}

// New gives the state of an execution that was accepted and has seen no input.
func New(x Execution, def *Definition) *Execution {
	x.Definition = def
	x.Status = orchestrator.ExecutionPending
	x.Steps = make([]Step, len(def.Steps))
	for i := range x.Steps {
		x.Steps[i].Status = orchestrator.StepPending
	}
	return Restore(x, def)
}

// Restore completes a state that was read from the ledger: x.Steps has one Step for each
// of the definition's.
func Restore(x Execution, def *Definition) *Execution {
	x.Definition = def
	x.open = 0
	for i := range x.Steps {
		if !stepTerminal(x.Steps[i].Status) {
			x.open++
		}
		x.Steps[i].waiting = 0
		for _, dep := range def.Steps[i].DependsOn {
			if !stepTerminal(x.Steps[dep].Status) {
				x.Steps[i].waiting++
			}
		}
	}
	return &x
}

// Terminal tells whether the execution has ended.
func (x *Execution) Terminal() bool { return Terminal(x.Status) }

// Terminal tells whether an execution's status is final.
func Terminal(status string) bool {
	switch status {
	case orchestrator.ExecutionCompleted, orchestrator.ExecutionFailed, orchestrator.ExecutionCancelled, orchestrator.ExecutionTimeout:
		return true
	}
	return false
}

func stepTerminal(status string) bool {
	return status != orchestrator.StepPending && status != orchestrator.StepRunning
}

// AwaitsResult tells whether a ready step was sent, or is to be sent, and has no result yet.
func (s *Step) AwaitsResult() bool {
	return s.Status == orchestrator.StepRunning && s.Token != ""
}

// NextDue is when the next of the execution's timers is due; 0 when it has none.
func (x *Execution) NextDue() Time {
	if x.Terminal() || x.StartedAt == 0 {
		return 0
	}
	next := x.timeoutAt()
	for i := range x.Steps {
		next = earlier(next, earlier(x.Steps[i].RetryAt, x.Steps[i].Backstop))
	}
	return next
}

func (x *Execution) timeoutAt() Time {
	if x.Definition.TimeoutMs <= 0 {
		return 0
	}
	return x.StartedAt.Add(x.Definition.TimeoutMs)
}

func earlier(a, b Time) Time {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}

// Progress counts the steps.
func (x *Execution) Progress() orchestrator.Progress {
	p := orchestrator.Progress{Total: len(x.Steps)}
	done := 0
	for i := range x.Steps {
		switch x.Steps[i].Status {
		case orchestrator.StepCompleted:
			p.Completed++
		case orchestrator.StepFailed:
			p.Failed++
		case orchestrator.StepSkipped:
			p.Skipped++
		}
		if stepTerminal(x.Steps[i].Status) {
			done++
		}
	}
	p.Percent = 100
	if p.Total > 0 {
		p.Percent = done * 100 / p.Total
	}
	return p
}
