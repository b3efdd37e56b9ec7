package partition

import (
	"context"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

// Streams is what the owner needs to know of JetStream.
type Streams struct {
	LogCreated int64 // ns
	FirstSeq   uint64
	LastSeq    uint64
	Now        int64 // ns, by the server's clock
	Remade     bool  // a stream or bucket had to be made by this call

	LogFill, StepsFill float64 // how full EXECUTION_INPUT and STEPS are, up to 1
}

// Transport is JetStream as the owner of partitions uses it. done functions are called once,
// from another goroutine, and must not block.
type Transport interface {
	// Ensure makes what is missing and reads the input log's state.
	Ensure(ctx context.Context) (Streams, error)
	// TimeAt gives the time, in ns, of the log's message at seq; false when it is not there.
	TimeAt(ctx context.Context, seq uint64) (int64, bool, error)
	// LastInput gives the sequence of a partition's last input; 0 when the log has none.
	LastInput(ctx context.Context, p int) (seq uint64, err error)
	// Read follows a partition's inputs from a sequence on.
	Read(ctx context.Context, p int, from uint64) (Reader, error)
	// Purge drops the log's messages before seq.
	Purge(ctx context.Context, seq uint64) error

	// Send puts a ready step into STEPS and gives its sequence there.
	Send(m StepMessage, done func(seq uint64, err error))
	// Append puts an input into the log.
	Append(c Control, done func(err error))
	// Publish puts committed events of one partition, in the order of their numbers, into EVENTS: all of them or none.
	Publish(events []EventRow, done func(err error))

	// StepAt gives the token of the message at seq in STEPS; false when there is none.
	StepAt(ctx context.Context, seq uint64) (token string, found bool, err error)
	// StopAttempt tells all runners to stop an attempt, and drops its message when seq is not 0. Safe to repeat.
	StopAttempt(ctx context.Context, token string, seq uint64) error
	// Warn writes a line into the execution's log.
	Warn(x *engine.Execution, w engine.Warning)
}

// Reader gives a partition's inputs in order, without gaps, until it is closed.
type Reader interface {
	// Pending tells whether inputs were waiting when the reader was opened.
	Pending() bool
	Messages() <-chan Message
	// Resets receives when the reader had to begin anew, so that the log may be another.
	Resets() <-chan struct{}
	// Idle gives a sequence and its time up to which every input of the partition was handed
	// to Messages, the last of them being delivered; false when there are more on their way.
	Idle(ctx context.Context) (upTo uint64, time int64, delivered uint64, ok bool, err error)
	Close()
}

// Message is one input as the log has it.
type Message struct {
	Seq         uint64
	Time        int64 // ns
	Pending     bool  // more inputs were waiting when the reader was opened
	ExecutionID string
	Input       engine.Input
	Size        int

	Subject     string
	Headers     map[string][]string // the message's own
	Body        []byte              // all of it
	Traceparent string              // of who sent it; empty for the orchestrator's own
	Fault       string              // why it is no input
}

// Control is an input that the orchestrator itself puts into the log.
type Control struct {
	P           int
	Kind        engine.Kind // any but those of runners
	ExecutionID string
	CommandID   string               // of a Cancel, Pause, Resume or Signaled
	Signal      *orchestrator.Signal // of a Signaled
	Step        string               // of a StepLost or Gathered
	Iteration   int                  // of a StepLost
	Token       string
	Dispatch    int
	Output      []byte            // of a Gathered
	Err         *runner.StepError // of a Gathered without Output
}

// StepMessage is a ready step on its way to a runner.
type StepMessage struct {
	ExecutionID    string
	WorkflowID     string
	UserID         string
	RequestID      string
	Traceparent    string
	StepKey        string
	Iteration      int
	AgentID        string
	Pool           string // of runners
	AgentType      string
	Priority       int
	Token          string
	Dispatch       int
	Attempt        int
	TimeoutMs      int64
	IdempotencyKey string
	Body           []byte // a runner.StepBody; nil when the runner is to ask for it
}
