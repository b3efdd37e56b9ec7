package orchestrator

import (
	"encoding/json"
	"math"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
)

// Kinds of calls.
const (
	CallOfModel = "MODEL"
	CallOfAgent = "AGENT" // a tool that is an agent
	CallOfMCP   = "MCP"   // a tool of an MCP server
)

// Statuses of a call.
const (
	CallRunning   = "RUNNING"
	CallCompleted = "COMPLETED"
	CallFailed    = "FAILED"
	CallUnknown   = "UNKNOWN" // nobody told of its end in time; what was reserved counts in full
)

// MaxCallPayload is the largest input or output that is kept of a call, in bytes. Of a larger one {"omitted":<bytes>} is kept.
const MaxCallPayload = 256 << 10

// Call is one thing that an attempt of an LLM step has done on its way: it has called a model or a tool.
type Call struct {
	ID               string          `json:"id" format:"uuid"`
	Iteration        int             `json:"iteration,omitempty"` // from 1: of an item of a LOOP or a branch of a PARALLEL
	Attempt          int             `json:"attempt"`
	N                int             `json:"n"` // its place in the attempt, from 1
	Kind             string          `json:"kind" enum:"MODEL,AGENT,MCP"`
	Name             string          `json:"name"`               // of the model or the tool
	Provider         string          `json:"provider,omitempty"` // of a model
	Status           string          `json:"status" enum:"RUNNING,COMPLETED,FAILED,UNKNOWN"`
	Input            json.RawMessage `json:"input"`  // of a tool its arguments, of a model what was new in that turn
	Output           json.RawMessage `json:"output"` // null until COMPLETED
	Error            *CallError      `json:"error"`
	ChildExecutionID *string         `json:"childExecutionId,omitempty" format:"uuid"` // of a tool that is an agent
	InputTokens      int64           `json:"inputTokens"`
	OutputTokens     int64           `json:"outputTokens"`
	CostUSD          float64         `json:"costUsd"`
	ReservedTokens   int64           `json:"reservedTokens,omitempty"`  // while its end is not known
	ReservedCostUSD  float64         `json:"reservedCostUsd,omitempty"` // while its end is not known
	StartedAt        time.Time       `json:"startedAt"`
	EndedAt          *time.Time      `json:"endedAt"`
	DurationMs       *int64          `json:"durationMs"`
}

// CallError is why a call failed.
type CallError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Usage adds up the calls of models of a step, or of all steps of an execution.
type Usage struct {
	Calls           int     `json:"calls"`
	InputTokens     int64   `json:"inputTokens"`
	OutputTokens    int64   `json:"outputTokens"`
	CostUSD         float64 `json:"costUsd"`
	ReservedTokens  int64   `json:"reservedTokens,omitempty"`  // of the calls whose end is not known
	ReservedCostUSD float64 `json:"reservedCostUsd,omitempty"` // of the calls whose end is not known
}

// USD gives millionths of a dollar, in which money is counted, as dollars.
func USD(micros int64) float64 { return float64(micros) / 1e6 }

// Micros gives dollars as millionths, rounded up: what is bounded is never less than what was said.
func Micros(usd float64) int64 {
	switch micros := math.Ceil(usd*1e6 - 1e-3); {
	case micros >= math.MaxInt64:
		return math.MaxInt64
	case micros > 0:
		return int64(micros)
	}
	return 0
}

// ListCallsRequest asks for a page of the calls of a step, oldest first.
type ListCallsRequest struct {
	rpc.Page
	ExecutionID string `json:"executionId"`
	StepKey     string `json:"stepKey"`
}

// BeginCallRequest records a call before it is made. Asked again with the same attempt, run and n it gives the same call.
type BeginCallRequest struct {
	Attempt       AttemptRequest   `json:"attempt"`
	Run           string           `json:"run"` // another each time that a runner begins the attempt: what an earlier one has reserved stays
	N             int              `json:"n"`
	Kind          string           `json:"kind" enum:"MODEL,AGENT,MCP"`
	Name          string           `json:"name"`
	Provider      string           `json:"provider,omitempty"`
	Input         json.RawMessage  `json:"input"`
	ReserveTokens int64            `json:"reserveTokens,omitempty"` // the most that it may use
	ReserveMicros int64            `json:"reserveMicros,omitempty"` // the most that it may cost, in millionths of a dollar
	Budgets       []catalog.Budget `json:"budgets,omitempty"`
	DeadlineMs    int64            `json:"deadlineMs"` // how long from now its end is waited for
}

// BeginCallResponse is a recorded call; none when it is Denied, or Obsolete: the attempt's result would no longer count.
type BeginCallResponse struct {
	CallID   string      `json:"callId,omitempty"`
	Obsolete bool        `json:"obsolete,omitempty"`
	Denied   *DeniedCall `json:"denied,omitempty"`
}

// DeniedCall is the budget that has no room for a call.
type DeniedCall struct {
	Budget     int    `json:"budget"` // its place in the request, from 0; -1 for the operator's
	Scope      string `json:"scope"`
	Action     string `json:"action" enum:"stop,downgrade,approve"`
	Pending    bool   `json:"pending,omitempty"` // of approve: nobody has decided yet, so ask again
	Comment    string `json:"comment,omitempty"` // of who has refused
	UsedTokens int64  `json:"usedTokens"`        // settled and reserved
	UsedMicros int64  `json:"usedMicros"`
	MaxTokens  int64  `json:"maxTokens,omitempty"` // 0 for no bound
	MaxMicros  int64  `json:"maxMicros,omitempty"` // 0 for no bound
}

// EndCallRequest settles a call, once: what it has used takes the place of what was reserved, also when the attempt's result
// would no longer count.
type EndCallRequest struct {
	Attempt      AttemptRequest  `json:"attempt"`
	CallID       string          `json:"callId"`
	Status       string          `json:"status"` // COMPLETED or FAILED
	Output       json.RawMessage `json:"output,omitempty"`
	Error        *CallError      `json:"error,omitempty"`
	InputTokens  int64           `json:"inputTokens,omitempty"`
	OutputTokens int64           `json:"outputTokens,omitempty"`
	CostMicros   int64           `json:"costMicros,omitempty"`
}

// CallAgentRequest begins the execution of an agent alone that a call is. Asked again it gives the same execution. The agent must
// be one that the user whose execution the attempt is of may run.
type CallAgentRequest struct {
	Attempt AttemptRequest  `json:"attempt"`
	CallID  string          `json:"callId"`
	AgentID string          `json:"agentId"`
	Input   json.RawMessage `json:"input"` // a JSON object
}

// CallAgentResponse is the execution; none when it can not be, or nobody would wait for it.
type CallAgentResponse struct {
	ExecutionID string            `json:"executionId,omitempty"`
	Obsolete    bool              `json:"obsolete,omitempty"`
	Failure     *runner.StepError `json:"failure,omitempty"`
}

// MaxAwaitAgentMs is how long AwaitAgent waits at most.
const MaxAwaitAgentMs = 5000

// AwaitAgentRequest waits for the end of the execution that a call is.
type AwaitAgentRequest struct {
	Attempt AttemptRequest `json:"attempt"`
	CallID  string         `json:"callId"`
	WaitMs  int64          `json:"waitMs"` // up to MaxAwaitAgentMs; then it is Done or to be asked for again
}

// AwaitAgentResponse is the end of the execution: the agent's output, or why there is none.
type AwaitAgentResponse struct {
	Done     bool              `json:"done,omitempty"`
	Obsolete bool              `json:"obsolete,omitempty"` // nobody waits for it any more
	Output   json.RawMessage   `json:"output,omitempty"`
	Failure  *runner.StepError `json:"failure,omitempty"`
}

// MaxConversation is how many messages of a conversation are kept, the newest.
const MaxConversation = 200

// RecallRequest asks for the newest messages of the conversation that the attempt's agent and user have under a key.
type RecallRequest struct {
	Attempt AttemptRequest `json:"attempt"`
	Key     string         `json:"key"`
	Max     int            `json:"max"`
}

// RecallResponse has messages, oldest first.
type RecallResponse struct {
	Messages []json.RawMessage `json:"messages"`
	Obsolete bool              `json:"obsolete,omitempty"`
}

// RememberRequest adds messages to that conversation, once for each attempt.
type RememberRequest struct {
	Attempt  AttemptRequest    `json:"attempt"`
	Key      string            `json:"key"`
	Messages []json.RawMessage `json:"messages"`
}

// DecideBudgetRequest answers the calls of a step that wait for approval. CONFLICT when none does.
type DecideBudgetRequest struct {
	ID         string   `json:"id"`
	StepKey    string   `json:"stepKey"`
	Approved   *bool    `json:"approved"`
	Comment    string   `json:"comment"`
	MaxCostUSD *float64 `json:"maxCostUsd"` // instead of the budget's, for this step; with neither the budget does not bound it any more
	MaxTokens  *int64   `json:"maxTokens"`
}

// DecideBudgetResponse tells for how many items of the step was decided; for 1 when it has none.
type DecideBudgetResponse struct {
	Decided int `json:"decided"`
}

// The methods of calls. ListCalls and DecideBudget are for who may see the execution, all others for runners: system callers only.
var (
	ListCalls    = rpc.Method[ListCallsRequest, rpc.List[Call]]{Service: Service, Name: "list_calls", Version: 1}
	DecideBudget = rpc.Method[DecideBudgetRequest, DecideBudgetResponse]{Service: Service, Name: "decide_budget", Version: 1}
	BeginCall    = rpc.Method[BeginCallRequest, BeginCallResponse]{Service: Service, Name: "begin_call", Version: 1}
	EndCall      = rpc.Method[EndCallRequest, rpc.Empty]{Service: Service, Name: "end_call", Version: 1}
	CallAgent    = rpc.Method[CallAgentRequest, CallAgentResponse]{Service: Service, Name: "call_agent", Version: 1}
	AwaitAgent   = rpc.Method[AwaitAgentRequest, AwaitAgentResponse]{Service: Service, Name: "await_agent", Version: 1}
	Recall       = rpc.Method[RecallRequest, RecallResponse]{Service: Service, Name: "recall", Version: 1}
	Remember     = rpc.Method[RememberRequest, rpc.Empty]{Service: Service, Name: "remember", Version: 1}
)
