// Package calls is the ledger of what the attempts of LLM steps call on their way: models, and tools that are agents or of MCP servers.
// A call is recorded before it is made, with what it may use at most, and settled after it. What budgets bound is counted in the
// same transaction, so that no number of attempts at once uses more than one budget has, but for what a call uses beyond what it reserved.
// What was reserved by a call whose end nobody tells of counts in full, for it may have been used.
package calls

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"strconv"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/services/orchestrator/internal/partition"
)

// Attempt is an attempt of a step as the ledger has it.
type Attempt struct {
	ExecutionID, UserID, WorkflowID, AgentID string

	StepKey                 string
	Step, Iteration, Number int
	Token                   string
	Awaited                 bool // its result would count

	Depth, Priority                     int
	TriggerType, RequestID, Traceparent string
}

// Call is one that is about to be made.
type Call struct {
	Attempt
	ID, Run, Kind, Name, Provider string
	N                             int
	Input                         []byte
	Reserve                       Amount
	Within                        time.Duration // its end is waited for
}

// Ending is how a call has ended.
type Ending struct {
	ExecutionID, CallID, Token, Status string
	Output, Error                      []byte // JSON; nil for none
	InputTokens, OutputTokens, Micros  int64
}

// Decision is what somebody decides about the budgets of a step that wait for it.
type Decision struct {
	ExecutionID, OwnerID, StepKey string
	Step                          int
	Approval                      Approval
	By                            string
}

// Message is one of a conversation, JSON.
type Message = json.RawMessage

// Store is the ledger as this package uses it.
type Store interface {
	// Attempt reads an attempt; false when there is no step like it.
	Attempt(ctx context.Context, req orchestrator.AttemptRequest) (a Attempt, found bool, err error)
	// BeginCall records a call unless deny gives a budget without room, and gives its id: that of an earlier one when the attempt's run has one
	// at the same place. A denial that is Pending is recorded for somebody to decide. What the earlier runs of the attempt have not ended is not waited for any more.
	BeginCall(ctx context.Context, c Call, deny func(Standing) *orchestrator.DeniedCall) (id string, denied *orchestrator.DeniedCall, err error)
	// EndCall settles a call, once. The inputs end the execution that it is, if it has not ended. NOT_FOUND when the attempt has no such call.
	EndCall(ctx context.Context, e Ending) ([]partition.Control, error)
	// NameChild notes that a call of an agent which has not ended is an execution. NOT_FOUND when the attempt has no such call.
	NameChild(ctx context.Context, executionID, callID, token, childID string) error
	// EndUnawaited commits and gives the inputs that end the executions of calls which nobody waits for any more.
	EndUnawaited(ctx context.Context) ([]partition.Control, error)
	// ListCalls reads a page of the calls of a step, oldest first.
	ListCalls(ctx context.Context, executionID string, step int, page rpc.Page) ([]orchestrator.Call, rpc.Pagination, error)
	// SettledCalls reads calls of models whose end is known after a number, in order. A number is above that of every call that was read before.
	SettledCalls(ctx context.Context, after uint64, limit int) ([]orchestrator.SettledCall, error)
	// DecideBudget records a decision about all budgets of a step that wait for one, and tells of how many items they are.
	DecideBudget(ctx context.Context, d Decision) (int, error)
	// Recall reads the newest messages of a conversation, oldest first.
	Recall(ctx context.Context, a Attempt, key string, most int) ([]Message, error)
	// Remember adds messages to a conversation, once for each attempt, and forgets all but the newest.
	Remember(ctx context.Context, a Attempt, key string, messages []Message) error
}

// ChildOf gives the id of the execution that a call of an attempt is: always the same, and of the time of the call, by which its rows are kept.
func ChildOf(callID, token string) (string, error) {
	id, err := uuid.Parse(callID)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte("call " + id.String() + " " + token))
	copy(id[6:], sum[:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id.String(), nil
}

// kept gives a payload as the ledger keeps it.
func kept(payload json.RawMessage) []byte {
	switch {
	case len(payload) == 0:
		return []byte("null")
	case len(payload) > orchestrator.MaxCallPayload:
		return []byte(`{"omitted":` + strconv.Itoa(len(payload)) + `}`)
	}
	return payload
}
