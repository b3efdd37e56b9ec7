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
	Sent      map[engine.Place]uint64 // the sequences in STEPS of messages of current attempts, as far as they are known
}

// Ledger is the orchestrator's schema as the owner of partitions uses it. Calls fail with
// DEPENDENCY_UNAVAILABLE while the database is away; all are safe to repeat.
type Ledger interface {
	Secret(ctx context.Context) ([]byte, error)

	// Heartbeat says that owner lives, extends the leases it still has of the partitions in
	// published, and notes how far their events are published. It gives those it still has and
	// the ids of all owners that live, itself among them. The lease of any other partition runs out: nobody works on it.
	Heartbeat(ctx context.Context, owner string, lease time.Duration, published map[int]uint64) (held []int, live []string, err error)
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

	// LoadLive gives the executions of a partition that have begun and not ended, but for those that sleep beyond a time.
	LoadLive(ctx context.Context, p int, until engine.Time) ([]Loaded, error)
	// Waking gives the executions of a partition that sleep until a time at most, and until when.
	Waking(ctx context.Context, p int, until engine.Time) (map[string]engine.Time, error)
	// Load gives executions by id; those that are not there are left out.
	Load(ctx context.Context, ids []string) ([]Loaded, error)
	// Commit writes the batch as one transaction, once: a batch that is there already is not
	// written again. A *FencedError names partitions that are another's by now, or stand
	// elsewhere than the batch goes on from; nothing is written then. ErrRefused: the data itself
	// was rejected. Any other error leaves the outcome unknown, until Commit is repeated. A batch
	// that leaves all its partitions where they stand is written each time. The inputs are those of other executions which follow
	// from that, to which an ended one has left its place, or which nobody waits for any more: Unseen gives them too, as when the answer is lost.
	Commit(ctx context.Context, b Batch) ([]Control, error)
	// Rehearse does what Commit does and takes it back, whoever owns the partitions.
	Rehearse(ctx context.Context, b Batch) error
	// Events gives a partition's events after a number, in order and without a gap: limit of them or, when one commit has more, more.
	Events(ctx context.Context, p int, after uint64, limit int) ([]EventRow, error)

	// ItemOutputs gives the outputs of a step's items that have completed, in the order of their iterations. ErrTooLarge when
	// they have more than limit bytes.
	ItemOutputs(ctx context.Context, executionID string, step, limit int) ([]engine.ItemOutput, error)

	PayloadStore
	// StorePayload keeps a payload of an execution, once, and gives its reference; NOT_FOUND when the execution is not there.
	StorePayload(ctx context.Context, executionID string, payload []byte) (runner.Reference, error)
	// MissingPayloads tells which payloads are not stored.
	MissingPayloads(ctx context.Context, wanted []PayloadID) (map[PayloadID]bool, error)

	// Unseen gives what was accepted at least age ago, does not wait behind a limit and has not been applied.
	Unseen(ctx context.Context, p int, age time.Duration) ([]Control, error)
	// Unapplied gives the commands of partitions that came at least least and at most most ago and have not been applied.
	Unapplied(ctx context.Context, ps []int, least, most time.Duration) ([]Control, error)
	// Stopped gives the attempts of partitions that have ended at least age ago, and whose messages may still wait for a runner;
	// Cleared notes that they do not.
	Stopped(ctx context.Context, ps []int, age time.Duration) ([]StoppedAttempt, error)
	Cleared(ctx context.Context, attempts []StoppedAttempt) error
}

// ErrRefused says that the ledger rejected data, so that repeating is in vain.
var ErrRefused = errors.New("the ledger refused the data")

// ErrTooLarge says that what was asked for is larger than the asker can use.
var ErrTooLarge = errors.New("larger than the limit")

// FencedError names the partitions of a batch that have another owner by now, or moved without it.
type FencedError struct{ Partitions []int }

func (e *FencedError) Error() string { return "partitions have another owner" }
