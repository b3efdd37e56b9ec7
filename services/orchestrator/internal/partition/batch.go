package partition

import (
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

// Batch is everything that one transaction writes.
type Batch struct {
	Partitions  []Advance
	Executions  []ExecutionRow
	Steps       []StepRow
	Events      []EventRow
	Commands    []CommandRow
	DeadLetters []DeadLetter
}

// Advance moves a partition.
type Advance struct {
	P         int
	Epoch     int64
	From      uint64 // where it must stand
	InputSeq  uint64
	InputTime int64
	EventN    uint64
}

// ExecutionRow is what changes of an execution.
type ExecutionRow struct {
	ID          string
	Status      string
	Outputs     []byte
	Error       *runner.StepError
	EventSeq    uint64
	LastInput   engine.Time
	NextDue     engine.Time
	StartedAt   engine.Time
	CompletedAt engine.Time
	Completed   int
	Failed      int
	Skipped     int
	Percent     int
}

// StepRow is a step, or one of its items, as it is now.
type StepRow struct {
	ExecutionID string
	P           int
	engine.Row
	Sent uint64
}

// CommandRow is a command that was applied.
type CommandRow struct {
	ID   string
	Kept uint64 // sequence of the input whose signal is kept; 0 when none is, or a step has taken it
}

// EventRow is an event as it is stored and published.
type EventRow struct {
	ExecutionID string
	P           int
	Seq         uint64
	N           uint64
	Type        string
	Body        []byte
}

// DeadLetter is an input that could not be applied.
type DeadLetter struct {
	P       int
	Seq     uint64
	Subject string
	Headers []byte
	Body    []byte
	Reason  string
}

// StoppedAttempt is a stopped attempt whose message may still be in STEPS.
type StoppedAttempt struct {
	ExecutionID string
	engine.Place
	Token string
	Sent  uint64
	Child string // the execution to be cancelled; "" for an attempt of a runner
}
