package executor

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
)

// ErrObsolete is what Calls give when the attempt's result would no longer count. An executor gives it back as it is.
var ErrObsolete = errors.New("the attempt's result would no longer count")

// Calls is the ledger of what an attempt calls on its way, models and tools; see contracts/orchestrator. It is safe for concurrent
// use. What it is given is kept without the secrets of the task. Its errors are ErrObsolete, ctx's, or the runner's own, unless a method says more.
type Calls interface {
	// Begin records a call before it is made, and reserves what it may use. While somebody is asked to approve of more than a budget
	// has, it waits; what is denied when ctx ends is given, still Pending, with no error.
	Begin(ctx context.Context, c BeginCall) (BegunCall, error)
	// End settles a call. It may be told after ctx has ended, and then does not wait for the answer.
	End(ctx context.Context, c EndedCall) error
	// RunAgent runs an agent, which the begun call callID is, and gives its output; a *runner.StepError when the agent fails or can not
	// be run. Meanwhile other attempts may have the place of this one.
	RunAgent(ctx context.Context, callID, agentID string, input json.RawMessage) (json.RawMessage, error)
	// Recall gives the newest messages of the conversation that the agent and the user have under a key, oldest first.
	Recall(ctx context.Context, key string, most int) ([]json.RawMessage, error)
	// Remember adds messages to that conversation, once for each attempt.
	Remember(ctx context.Context, key string, messages []json.RawMessage) error
}

// BeginCall is a call that is about to be made.
type BeginCall struct {
	N             int    // its place in the attempt, from 1; each of its own
	Kind          string // orchestrator.CallOfModel, CallOfAgent or CallOfMCP
	Name          string // of the model or the tool
	Provider      string // of a model
	Input         json.RawMessage
	ReserveTokens int64 // the most that it may use; 0 of a tool
	ReserveMicros int64 // in millionths of a dollar
	Budgets       []catalog.Budget
	Within        time.Duration                 // its end is told
	Waiting       func(orchestrator.DeniedCall) // called once when somebody is asked to approve; nil for not
}

// BegunCall is a recorded call, or the budget that has no room for it.
type BegunCall struct {
	ID     string
	Denied *orchestrator.DeniedCall // nil when it is recorded
}

// EndedCall is what came of a call.
type EndedCall struct {
	ID           string
	Output       json.RawMessage
	Error        *orchestrator.CallError // nil when it has completed
	InputTokens  int64
	OutputTokens int64
	CostMicros   int64 // in millionths of a dollar
}
