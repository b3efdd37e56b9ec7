package engine

import (
	"cmp"
	"encoding/json"
	"iter"
	"slices"

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
	Depth       int     // how many executions it stands in
	Parent      *Parent // the task that waits for it; nil for none
	Slot        Slot
	Definition  *Definition

	CompensationOf string // the execution whose steps it undoes; "" for none

	Status      string
	Inputs      json.RawMessage // a payload, as all outputs
	Outputs     json.RawMessage // only when the definition says how; else see OutputsByKey
	Error       *runner.StepError
	CreatedAt   Time
	StartedAt   Time
	CompletedAt Time
	LastInput   Time   // the time of the last input that was applied
	EventSeq    uint64 // seq of the last event
	Steps       []Step // in the definition's order
	Signals     []KeptSignal
	Commands    map[string]bool // that were applied, by id

	// Payloads gives what is stored, nil when it can not be had. It is set by who has the state, before anything is asked of it.
	Payloads func(runner.Reference) json.RawMessage

	open int // steps that are not terminal
}

// Step is the state of one step.
type Step struct {
	Task
	WakeAt Time // of a WAIT: when it is over, or its signal comes too late; 0 for never
	Reused bool // it has the result of another execution's, and was not run in this one

	// Of a LOOP or PARALLEL. Items begin in their order and are forgotten here once they have ended.
	Items     []Item
	Begun     int
	Completed int
	Failed    int
	Last      json.RawMessage // of a LOOP with while: the output of the last item that completed

	waiting int // dependencies that are not terminal
	items   []json.RawMessage
}

// Item is one item of a LOOP, or one branch of a PARALLEL, that has begun and not ended.
type Item struct {
	Iteration int // from 1
	Task
}

// Parent is the task of another execution that waits for the end of this one.
type Parent struct {
	ExecutionID string
	StepKey     string
	Place
	Token string
}

// Place names a task of an execution: that of a step itself, whose Iteration is 0, or that of an item.
type Place struct{ Step, Iteration int }

// Row is a task as the ledger keeps it.
type Row struct {
	Place
	Task
	WakeAt Time
}

// Task is what becomes of a step, or of one of its items. Token names the attempt whose result counts; it is empty
// when none does.
type Task struct {
	Status      string
	Attempt     int // from 1; 0 before the first
	Token       string
	Dispatch    int    // how often Token was sent, from 1
	Child       string // the execution that a WORKFLOW agent's attempt is; "" for those of runners
	RetryAt     Time   // when the next attempt begins; 0 when none is scheduled
	Backstop    Time   // when the attempt is given up; 0 until it has started on a runner
	Output      json.RawMessage
	Error       *runner.StepError
	StartedAt   Time
	CompletedAt Time
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
	if x.Commands == nil {
		x.Commands = map[string]bool{}
	}
	for i := range x.Steps {
		if !stepTerminal(x.Steps[i].Status) {
			x.open++
		} else {
			x.Steps[i].Last = nil
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
func (t *Task) AwaitsResult() bool {
	return t.Status == orchestrator.StepRunning && t.Token != ""
}

// Terminal tells whether the task has ended.
func (t *Task) Terminal() bool { return stepTerminal(t.Status) }

// Task gives the task at a place; nil when it has not begun, or is an item that has ended.
func (x *Execution) Task(p Place) *Task {
	s := &x.Steps[p.Step]
	if p.Iteration == 0 {
		return &s.Task
	}
	i, found := slices.BinarySearchFunc(s.Items, p.Iteration, func(item Item, n int) int { return cmp.Compare(item.Iteration, n) })
	if !found {
		return nil
	}
	return &s.Items[i].Task
}

// Row gives the task at a place, which must be there, as the ledger is to keep it.
func (x *Execution) Row(p Place) Row {
	row := Row{Place: p, Task: *x.Task(p)}
	if p.Iteration == 0 {
		row.WakeAt = x.Steps[p.Step].WakeAt
	}
	return row
}

// Awaiting gives the places that await a result of a runner, in their order.
func (x *Execution) Awaiting() iter.Seq[Place] {
	return x.tasks(func(t *Task) bool { return t.AwaitsResult() && t.Child == "" })
}

// Children gives the places that await the end of another execution, in their order.
func (x *Execution) Children() iter.Seq[Place] {
	return x.tasks(func(t *Task) bool { return t.AwaitsResult() && t.Child != "" })
}

func (x *Execution) tasks(which func(*Task) bool) iter.Seq[Place] {
	return func(yield func(Place) bool) {
		for i := range x.Steps {
			s := &x.Steps[i]
			if which(&s.Task) && !yield(Place{Step: i}) {
				return
			}
			for n := range s.Items {
				if which(&s.Items[n].Task) && !yield(Place{i, s.Items[n].Iteration}) {
					return
				}
			}
		}
	}
}

// NextDue is when the next of the execution's timers is due; 0 when it has none.
func (x *Execution) NextDue() Time {
	if x.Terminal() || x.StartedAt == 0 {
		return 0
	}
	next := x.timeoutAt()
	task := func(t *Task) {
		next = earlier(next, t.Backstop)
		if x.Status != orchestrator.ExecutionPaused { // what is due begins when it is resumed
			next = earlier(next, t.RetryAt)
		}
	}
	for i := range x.Steps {
		s := &x.Steps[i]
		if s.Status != orchestrator.StepRunning {
			continue
		}
		task(&s.Task)
		for n := range s.Items {
			task(&s.Items[n].Task)
		}
		next = earlier(next, earlier(s.WakeAt, x.deadline(i)))
	}
	return next
}

// Sleeps tells whether nothing of an execution that has begun is at work: until the next of its timers is due, or something
// of it comes into the log, nobody need have it in memory.
func (x *Execution) Sleeps() bool {
	if x.Terminal() || x.Status == orchestrator.ExecutionPending {
		return false
	}
	for i := Outputs; i < len(x.Steps); i++ {
		if x.Gathers(i) {
			return false
		}
	}
	for range x.tasks((*Task).AwaitsResult) {
		return false
	}
	return true
}

// deadline is when a step that no runner keeps the time of has taken too long; 0 for never.
func (x *Execution) deadline(i int) Time {
	s, def := &x.Steps[i], &x.Definition.Steps[i]
	if s.Status != orchestrator.StepRunning || def.TimeoutMs <= 0 || !def.FansOut() && def.wait == nil {
		return 0
	}
	return s.StartedAt.Add(def.TimeoutMs)
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
