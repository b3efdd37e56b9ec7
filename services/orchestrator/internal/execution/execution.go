// Package execution is what the world asks of executions: accepting them, asking for their
// end, reading them. It decides nothing about steps; the engine does, in the order of the input log.
package execution

import (
	"context"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
)

// Accepted is an execution that is to be committed.
type Accepted struct {
	ID             string
	Caller         rpc.Caller
	Definition     catalog.Definition
	DefinitionBody []byte // the canonical JSON of Definition
	DefinitionHash []byte // its SHA-256
	TriggerType    string
	Priority       int
	Inputs         []byte
	CreatedAt      time.Time
	Key            *IdempotencyKey // nil for none
}

// IdempotencyKey makes a request safe to repeat: the same key with the same body gives the
// same execution.
type IdempotencyKey struct {
	UserID   string
	Route    string
	Key      string
	BodyHash []byte
}

// Outcome tells what became of an Accepted. ID is another's when the key was used before.
type Outcome struct {
	ID       string
	Replayed bool // by the same request
	Conflict bool // by another request: its body differs
}

// Record is an execution as the ledger has it.
type Record struct {
	Execution       *engine.Execution
	Definition      catalog.Definition
	WorkflowOwner   string
	WorkflowVersion int
	ParentID        *string
	RetryOf         *string
}

// Summary is what lists show of an execution.
type Summary struct {
	ID, WorkflowID, WorkflowOwner, UserID string
	WorkflowVersion, Priority             int
	Status, TriggerType                   string
	Error                                 []byte
	ParentID, RetryOf                     *string
	Progress                              orchestrator.Progress
	CreatedAt                             time.Time
	StartedAt, CompletedAt                *time.Time
}

// Store is the ledger as this package uses it.
type Store interface {
	// Accept commits executions in one transaction and gives an outcome for each. No two have
	// the same idempotency key.
	Accept(ctx context.Context, executions []Accepted) ([]Outcome, error)
	// Get reads an execution; NOT_FOUND when it is not there.
	Get(ctx context.Context, id string) (Record, error)
	// List reads a page of the executions that userID may see; "" sees all.
	List(ctx context.Context, userID string, req orchestrator.ListRequest) ([]Summary, rpc.Pagination, error)
	// History reads events of an execution after a seq.
	History(ctx context.Context, id string, after uint64, limit int) ([]orchestrator.StoredEvent, error)
	// Step reads a step of an execution as it is recorded; false when it is still PENDING there.
	// NOT_FOUND when the execution or the step is not there.
	Step(ctx context.Context, id, key string) (step engine.Step, recorded bool, err error)
	// Positions tells how far partitions are applied.
	Positions(ctx context.Context, ps []int) ([]partition.Position, error)
	// AddCommand commits a command for an execution; it tells whether it is the first of its kind.
	AddCommand(ctx context.Context, c Command) error
}

// Command is something that somebody asks of an execution.
type Command struct {
	ID          string
	ExecutionID string
	Partition   int
	Kind        string
	UserID      string
}

// CommandCancel asks for the end of an execution.
const CommandCancel = "CANCEL"

// InputLog has the inputs of the engine; see partition.Transport.
type InputLog interface {
	Append(c partition.Control, done func(err error))
	LastInput(ctx context.Context, p int) (seq uint64, err error)
}

// Catalog gives definitions.
type Catalog interface {
	// Resolve freezes a workflow that the caller may execute; see catalog.ResolveDefinition.
	Resolve(ctx context.Context, caller rpc.Caller, workflowID string) (catalog.Definition, error)
}
