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
	Events      []EventRow // those of a partition, and so those of an execution, in the order of their numbers
	Commands    []CommandRow
	DeadLetters []DeadLetter

	Compensations []Compensation
	// Cancels are the executions that no task waits for any more. Those that are there, have not ended and are not detached get a
	// cancel with the batch.
	Cancels []string
}

// FirstEvents gives the number of the first event of each partition that has some.
func (b Batch) FirstEvents() map[int]uint64 {
	first := map[int]uint64{}
	for _, e := range b.Events {
		if first[e.P] == 0 {
			first[e.P] = e.N
		}
	}
	return first
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

// Forever is when an execution without timers is due: at the end of the year 9999.
const Forever = engine.Time(253_402_300_799_000_000)

// ExecutionRow is what changes of an execution.
type ExecutionRow struct {
	ID          string
	Status      string
	Outputs     []byte
	Error       *runner.StepError
	EventSeq    uint64
	LastInput   engine.Time
	SleepsUntil engine.Time // when its next timer is due, or Forever; 0 while it is at work
	StartedAt   engine.Time
	CompletedAt engine.Time
	Completed   int
	Failed      int
	Skipped     int
	Percent     int
	Limited     bool // a concurrency limit counts it, or lets it wait, until it has ended
}

// Compensation is an execution that is accepted with the end of another, whose steps it undoes.
type Compensation struct {
	engine.Compensation
	Of       string // the other execution
	Priority int
	Depth    int
	EndedAt  engine.Time // the other execution

	UserID, TriggerType, RequestID, Traceparent string
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

// DeadLetter is an input that could not be applied, as the log has it.
type DeadLetter struct {
	P       int
	Seq     uint64
	Subject string
	Headers map[string][]string
	Body    []byte
	Code    string // one of orchestrator.DeadReasons
	Reason  string // in words
}

// StoppedAttempt is a stopped attempt whose message may still be in STEPS.
type StoppedAttempt struct {
	ExecutionID string
	engine.Place
	Token string
	Sent  uint64
}
