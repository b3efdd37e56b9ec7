// Package partition runs the engine: it owns partitions of the input log, applies their
// inputs in order, sends ready steps, and commits what follows.
//
// What must hold at every point where a process may die:
//
//   - Whoever applies inputs of a partition holds its lease, and every commit checks the
//     lease's epoch, so that of two owners at most one can write.
//   - The offset of the log moves in the same transaction as everything its inputs did.
//     What is not committed is applied again by the next owner, with the same outcome.
//   - A ready step is sent before its cause is committed, never after: an offset that has
//     moved says that nothing before it is left to send, or that the ledger says so.
//   - What the world is told (events, stops) leaves after the commit, and again after a
//     crash: receivers know it by its id.
//
// One goroutine per partition (run) holds the executions in memory; one per process (Writer)
// commits; one per partition (relay) publishes committed events.
package partition

import (
	"context"
	"errors"
	"time"

	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

// EngineVersion is the version of Apply that this build has.
const EngineVersion = 1

// Position is how far a partition is applied, as the ledger has it.
type Position struct {
	P             int
	Owner         string
	Epoch         int64
	InputSeq      uint64
	InputTime     int64 // ns; 0: nothing to compare
	Generation    int64
	EventN        uint64
	PublishedN    uint64
	StreamCreated int64 // ns; 0: not read yet
}

// Loaded is an execution as the ledger has it.
type Loaded struct {
	Execution *engine.Execution
	Sent      []uint64 // for each step the sequence in STEPS of its message, 0 when none is known
}

// Ledger is the orchestrator's schema as the owner of partitions uses it. Calls fail with
// DEPENDENCY_UNAVAILABLE while the database is away; all are safe to repeat.
type Ledger interface {
	Secret(ctx context.Context) ([]byte, error)

	// Heartbeat says that owner lives, extends the leases it still has of the partitions in
	// published, and notes how far their events are published. It gives those it still has and
	// the number of live owners. The lease of any other partition runs out: nobody works on it.
	Heartbeat(ctx context.Context, owner string, lease time.Duration, published map[int]uint64) (held []int, live int, err error)
	// Leave takes owner off the live ones.
	Leave(ctx context.Context, owner string) error
	// Acquire takes up to n partitions whose lease is over, each under a new epoch.
	Acquire(ctx context.Context, owner string, lease time.Duration, n int) ([]Position, error)
	// Release ends the leases that owner has of the given partitions.
	Release(ctx context.Context, owner string, ps []int) error
	// Positions reads partitions.
	Positions(ctx context.Context, ps []int) ([]Position, error)
	// Rebuild puts the partition before the beginning of a log that is not the one it was
	// applied from: a new epoch and generation. ErrFenced when epoch is not the partition's.
	Rebuild(ctx context.Context, p int, epoch int64, before uint64, created int64) (Position, error)
	// Adopt notes the stream that a fresh partition reads.
	Adopt(ctx context.Context, p int, epoch int64, created int64) error

	// LoadLive gives the executions of a partition that are not terminal.
	LoadLive(ctx context.Context, p int) ([]Loaded, error)
	// Load gives executions by id; those that are not there are left out.
	Load(ctx context.Context, ids []string) ([]Loaded, error)
	// Commit writes the batch as one transaction, once: a batch that is there already is not
	// written again. A *FencedError names partitions that are another's by now, or stand
	// elsewhere than the batch goes on from; nothing is written then. ErrRefused: the data itself
	// was rejected. Any other error leaves the outcome unknown, until Commit is repeated.
	Commit(ctx context.Context, b Batch) error
	// Rehearse does what Commit does and takes it back, whoever owns the partitions.
	Rehearse(ctx context.Context, b Batch) error
	// Events gives a partition's events after number n, in order.
	Events(ctx context.Context, p int, after uint64, limit int) ([]EventRow, error)

	// Unseen gives what was accepted at least age ago and has not been applied.
	Unseen(ctx context.Context, p int, age time.Duration) ([]Control, error)
	// Stopped gives the attempts of a partition whose messages may still wait for a runner, and
	// Cleared notes that they do not.
	Stopped(ctx context.Context, p int) ([]StoppedAttempt, error)
	Cleared(ctx context.Context, attempts []StoppedAttempt) error
}

// ErrRefused says that the ledger rejected data, so that repeating is in vain.
var ErrRefused = errors.New("the ledger refused the data")

// FencedError names the partitions of a batch that have another owner by now, or moved without it.
type FencedError struct{ Partitions []int }

func (e *FencedError) Error() string { return "partitions have another owner" }

// Streams is what the owner needs to know of JetStream.
type Streams struct {
	LogCreated int64 // ns
	FirstSeq   uint64
	LastSeq    uint64
	Now        int64 // ns, by the server's clock
	Remade     bool  // a stream or bucket had to be made by this call
}

// Transport is JetStream as the owner of partitions uses it. done functions are called once,
// from another goroutine, and must not block.
type Transport interface {
	// Ensure makes what is missing and reads the input log's state.
	Ensure(ctx context.Context) (Streams, error)
	// TimeAt gives the time, in ns, of the log's message at seq; false when it is not there.
	TimeAt(ctx context.Context, seq uint64) (int64, bool, error)
	// Read follows a partition's inputs from a sequence on.
	Read(ctx context.Context, p int, from uint64) (Reader, error)
	// Purge drops the log's messages before seq.
	Purge(ctx context.Context, seq uint64) error

	// Send puts a ready step into STEPS and gives its sequence there.
	Send(m StepMessage, done func(seq uint64, err error))
	// Append puts an input into the log.
	Append(c Control, done func(err error))
	// Publish puts a committed event into EVENTS.
	Publish(e EventRow, done func(err error))

	// StepAt gives the token of the message at seq in STEPS; false when there is none.
	StepAt(ctx context.Context, seq uint64) (token string, found bool, err error)
	// StopAttempt tells all runners to stop an attempt, and drops its message when seq is not 0. Safe to repeat.
	StopAttempt(ctx context.Context, token string, seq uint64) error
	// Warn writes a line into the execution's log.
	Warn(x *engine.Execution, w engine.Warning)
}

// Reader gives a partition's inputs in order, without gaps, until it is closed.
type Reader interface {
	// Pending is how many inputs were waiting when the reader was opened.
	Pending() uint64
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
	Pending     uint64
	ExecutionID string
	CommandID   string // of a Cancel
	Input       engine.Input
	Size        int

	// Fault says why it is no input; Subject, Headers and Body are given then.
	Fault   string
	Subject string
	Headers []byte
	Body    []byte
}

// Control is an input that the orchestrator itself puts into the log.
type Control struct {
	P           int
	Kind        engine.Kind // Submitted, StepLost, TimerDue or Cancel
	ExecutionID string
	CommandID   string // of a Cancel
	Step        string // of a StepLost
	Token       string
	Dispatch    int
}

// StepMessage is a ready step on its way to a runner.
type StepMessage struct {
	ExecutionID    string
	WorkflowID     string
	UserID         string
	RequestID      string
	Traceparent    string
	StepKey        string
	AgentID        string
	AgentType      string
	Priority       int
	Token          string
	Dispatch       int
	Attempt        int
	TimeoutMs      int64
	IdempotencyKey string
	Body           []byte // a runner.StepBody
}

// Batch is everything that one transaction writes.
type Batch struct {
	Partitions  []Advance
	Executions  []ExecutionRow
	Steps       []StepRow
	Events      []EventRow
	Commands    []string
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

// StepRow is a step as it is now.
type StepRow struct {
	ExecutionID string
	P           int
	Index       int
	Step        engine.Step
	Sent        uint64
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
	Index       int
	Token       string
	Sent        uint64
}
