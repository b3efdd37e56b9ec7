// Package execution is what the world asks of executions: accepting them, controlling and
// reading them. It decides nothing about steps; the engine does, in the order of the input log.
package execution

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
)

// Accepted is an execution that is to be committed.
type Accepted struct {
	ID             string
	Caller         rpc.Caller
	Definition     catalog.Definition
	DefinitionBody []byte             // the canonical JSON of Definition; nil when it is in the ledger
	DefinitionHash []byte             // its SHA-256
	Compiled       *engine.Definition // of Definition; nil when it is not at hand
	TriggerType    string
	Priority       int
	Inputs         []byte // whole, or the reference that the execution of RetryOf has
	CreatedAt      time.Time
	Key            *IdempotencyKey // nil for none
	RetryOf        string          // the execution that it runs again; "" for none
	Reused         []ReusedStep    // what is not run again
	Parent         *engine.Parent  // the task that waits for it; nil for none
	Depth          int             // how many executions it stands in
	CompensationOf string          // the execution whose steps it undoes; "" for none
	Scheduled      *Scheduled      // the time of a schedule that it is of; nil for none
	Received       *Received       // what came in that it is of; nil for none
	Detached       bool            // nobody waits for its end, although it has a Parent
	Limit          *Limit          // that counts it, unless an execution that waits for it holds a slot of the same; nil for none
}

// Begun gives the state with which the execution begins; nil when that is not known before the ledger has it.
func (x Accepted) Begun() *engine.Execution {
	if x.Compiled == nil || x.Limit != nil || x.Parent != nil || x.Scheduled != nil || x.CompensationOf != "" || len(x.Reused) > 0 {
		return nil
	}
	return engine.New(engine.Execution{
		ID: x.ID, WorkflowID: x.Definition.WorkflowID, UserID: x.Caller.UserID, TriggerType: x.TriggerType, RequestID: x.Caller.RequestID, Traceparent: x.Caller.Traceparent,
		Partition: subject.PartitionOf(x.ID), Priority: x.Priority, Depth: x.Depth, Inputs: x.Inputs, CreatedAt: engine.TimeOf(x.CreatedAt),
	}, x.Compiled)
}

// ReusedStep is a step that begins COMPLETED, with the result it had in the execution that is run again.
type ReusedStep struct {
	Index  int
	Output []byte // instead of the one it had; nil for that
}

// IdempotencyKey makes a request safe to repeat: the same key with the same body gives the
// same execution, or command.
type IdempotencyKey struct {
	UserID   string
	Route    string
	Key      string
	BodyHash []byte
}

// Outcome tells what became of an Accepted, or of a signal. ID is another's when the key was used before.
type Outcome struct {
	ID       string
	Replayed bool // by the same request
	Conflict bool // by another request: its body differs
	Obsolete bool // nobody waits for it any more, so it was not accepted
	Slot     engine.Slot
}

// Record is an execution as the ledger has it.
type Record struct {
	Execution       *engine.Execution
	Definition      catalog.Definition
	DefinitionHash  []byte
	WorkflowOwner   string
	WorkflowVersion int
	ParentID        *string
	RetryOf         *string
	TriggerID       *string
	ScheduledFor    *time.Time
	Reused          map[int]string             // by step: the execution that its result is of, when that is another
	Usage           map[int]orchestrator.Usage // by step: of the models that its attempts have called
	Undecided       map[int]int                // by step: of how many of its items, or of itself, somebody is asked to approve of more than a budget has
	Compensation    *Compensation              // what undoes its steps; nil for nothing
	Sent            map[engine.Place]uint64    // the sequences in STEPS of messages of current attempts, as far as they are known
}

// Compensation is the execution that undoes the steps of another; of several that were tried the last.
type Compensation struct {
	ID     string `db:"id"`
	Status string `db:"status"`
}

// Summary is what lists show of an execution.
type Summary struct {
	ID, WorkflowID, WorkflowOwner, UserID string
	WorkflowVersion, Priority             int
	Status, TriggerType                   string
	Error                                 []byte
	ParentID, RetryOf, TriggerID          *string
	ScheduledFor                          *time.Time
	CompensationOf, CompensatedBy         *string
	Progress                              orchestrator.Progress
	CreatedAt                             time.Time
	StartedAt, CompletedAt                *time.Time
}

// Store is the ledger as this package uses it.
type Store interface {
	// Secret gives the engine's secret.
	Secret(ctx context.Context) ([]byte, error)
	// Accept commits executions in one transaction and gives an outcome for each. No two have
	// the same idempotency key. The inputs are those of other executions which follow from that: to begin because there is room
	// for more now, or to be cancelled because there is not.
	Accept(ctx context.Context, executions []Accepted) ([]Outcome, []partition.Control, error)
	// Queue reads the place of an execution that waits behind a limit; false when it does not wait.
	Queue(ctx context.Context, id string) (q Queue, waits bool, err error)
	// Unfinished counts the executions that a user has asked for and that have not ended, up to most.
	Unfinished(ctx context.Context, userID string, most int) (int, error)
	// Keyed tells which execution a key stands for, as Accept would; false when it stands for none.
	Keyed(ctx context.Context, key IdempotencyKey) (o Outcome, used bool, err error)
	// Ending reads of an execution what the task that waits for it gets to know, once it has ended; false when it is not there.
	Ending(ctx context.Context, id string) (e Ending, found bool, err error)
	// Get reads an execution; NOT_FOUND when it is not there.
	Get(ctx context.Context, id string) (Record, error)
	// List reads a page of the executions that userID may see; "" sees all.
	List(ctx context.Context, userID string, req orchestrator.ListRequest) ([]Summary, rpc.Pagination, error)
	// History reads events of an execution after a seq.
	History(ctx context.Context, id string, after uint64, limit int) ([]orchestrator.StoredEvent, error)
	// Events reads events of a partition after a number, and maybe some more than limit of the last commit.
	Events(ctx context.Context, p int, after uint64, limit int) ([]partition.EventRow, error)
	// Named reads the ids of the executions of List that have one of the statuses, the oldest first and at most limit, and
	// counts all of them. Left out are, of a BulkRetry, those that were run again before, and of a BulkCancel those that undo others.
	Named(ctx context.Context, userID string, req orchestrator.ListRequest, action string, statuses []string, limit int) (ids []string, matched int, err error)
	// Step reads a step of an execution, or one of its items, as it is recorded, and its large output by its reference; false when it is still PENDING there.
	// NOT_FOUND when the execution or the step is not there.
	Step(ctx context.Context, id, key string, iteration int) (task engine.Task, recorded bool, err error)
	partition.PayloadStore
	// StorePayload keeps a payload of an execution; see partition.Ledger.
	StorePayload(ctx context.Context, executionID string, payload []byte) (runner.Reference, error)
	// Positions tells how far partitions are applied.
	Positions(ctx context.Context, ps []int) ([]partition.Position, error)
	// AddCommands commits commands for executions.
	AddCommands(ctx context.Context, commands []Command) error
	// AddSignal commits a CommandSignal for an execution if admit lets it. The outcome's id is the command's: an earlier one's
	// when the key, if there is one, was used before. NOT_FOUND when the execution is not there.
	AddSignal(ctx context.Context, c Command, key *IdempotencyKey, admit func(Standing) error) (Outcome, error)
}

// Ending is how an execution has ended, or that it has not.
type Ending struct {
	Ended   bool
	Output  []byte
	Failure *runner.StepError
}

// Command is something that somebody asks of an execution.
type Command struct {
	ID          string
	ExecutionID string
	Partition   int
	Kind        string
	UserID      string
	Name        string // of a signal
	Signal      []byte // the JSON of an orchestrator.Signal
}

// Kinds of commands.
const (
	CommandCancel = "CANCEL"
	CommandPause  = "PAUSE"
	CommandResume = "RESUME"
	CommandSignal = "SIGNAL"
)

// inputKinds says as which input a command takes effect.
var inputKinds = map[string]engine.Kind{
	CommandCancel: engine.Cancel, CommandPause: engine.Pause, CommandResume: engine.Resume, CommandSignal: engine.Signaled,
}

// Control gives the input that a command becomes.
func (c Command) Control() (partition.Control, error) {
	out := partition.Control{P: c.Partition, Kind: inputKinds[c.Kind], ExecutionID: c.ExecutionID, CommandID: c.ID}
	if out.Kind == 0 {
		return out, fmt.Errorf("the command %s has the kind %q, which this version does not know", c.ID, c.Kind)
	}
	if len(c.Signal) > 0 {
		if err := json.Unmarshal(c.Signal, &out.Signal); err != nil {
			return out, fmt.Errorf("decode the signal of the command %s: %w", c.ID, err)
		}
	}
	return out, nil
}

// Standing is what decides whether an execution takes a signal in. It does not change while that is decided.
type Standing struct {
	Status string // of the execution
	Kept   int    // signals that no step has taken yet
	Named  int    // signals of the same name, whatever became of them
}

// InputLog has the inputs of the engine; see partition.Transport.
type InputLog interface {
	Append(c partition.Control, done func(err error))
	Warn(x *engine.Execution, w engine.Warning)
	LastInput(ctx context.Context, p int) (seq uint64, err error)
}

// Catalog gives definitions.
type Catalog interface {
	// Resolve freezes a workflow that the caller may execute; see catalog.ResolveDefinition.
	Resolve(ctx context.Context, caller rpc.Caller, req catalog.ResolveRequest) (catalog.Resolution, error)
}
