// Package orchestrator declares what the orchestrator offers: accepting, controlling and
// reading executions; the inputs it sends itself; and the public events of executions.
package orchestrator

import (
	"encoding/json"
	"strconv"
	"time"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
)

// Service is the name of the service.
const Service = "orchestrator"

// Statuses of an execution.
const (
	ExecutionPending   = "PENDING"
	ExecutionRunning   = "RUNNING"
	ExecutionPaused    = "PAUSED"
	ExecutionCompleted = "COMPLETED"
	ExecutionFailed    = "FAILED"
	ExecutionCancelled = "CANCELLED"
	ExecutionTimeout   = "TIMEOUT"
)

// Statuses of a step.
const (
	StepPending   = "PENDING"
	StepRunning   = "RUNNING"
	StepCompleted = "COMPLETED"
	StepFailed    = "FAILED"
	StepSkipped   = "SKIPPED"
	StepCancelled = "CANCELLED"
)

// Trigger types.
const (
	TriggerManual    = "MANUAL"
	TriggerScheduled = "SCHEDULED"
	TriggerAPI       = "API"
	TriggerWebhook   = "WEBHOOK"
	TriggerEvent     = "EVENT"
)

// Execution is one run of a workflow.
type Execution struct {
	ID                string            `json:"id" format:"uuid"`
	WorkflowID        string            `json:"workflowId" format:"uuid"`
	WorkflowVersion   int               `json:"workflowVersion"`
	UserID            string            `json:"userId" format:"uuid"`
	Status            string            `json:"status" enum:"PENDING,RUNNING,PAUSED,COMPLETED,FAILED,CANCELLED,TIMEOUT"`
	TriggerType       string            `json:"triggerType" enum:"MANUAL,SCHEDULED,API,WEBHOOK,EVENT"`
	Inputs            json.RawMessage   `json:"inputs"`
	Outputs           json.RawMessage   `json:"outputs"` // null until COMPLETED
	Error             *runner.StepError `json:"error"`
	Priority          int               `json:"priority"`
	ParentExecutionID *string           `json:"parentExecutionId"`
	RetryOf           *string           `json:"retryOf"`
	ReplayOf          *string           `json:"replayOf,omitempty"`                // only when it is read by its id
	AgentID           *string           `json:"agentId,omitempty" format:"uuid"`   // of a test of an agent, which stands for the workflow; absent for others
	CompensationOf    *string           `json:"compensationOf,omitempty"`          // the execution whose steps this one undoes
	CompensatedBy     *string           `json:"compensatedBy,omitempty"`           // the execution that undoes its steps; of several that were tried the last
	TriggerID         *string           `json:"triggerId,omitempty" format:"uuid"` // that started it by itself; absent for others
	ScheduledFor      *time.Time        `json:"scheduledFor,omitempty"`            // the time of its schedule; absent for others
	Progress          Progress          `json:"progress"`
	CreatedAt         time.Time         `json:"createdAt"`
	StartedAt         *time.Time        `json:"startedAt"`
	CompletedAt       *time.Time        `json:"completedAt"`
	DurationMs        *int64            `json:"durationMs"`
	Usage             *Usage            `json:"usage,omitempty"`   // of models; absent when none was called, and in lists
	Steps             []StepState       `json:"steps,omitempty"`   // absent in lists
	Omitted           []Omitted         `json:"omitted,omitempty"` // payloads that are null here, because they are too large together for one answer
}

// Omitted is a payload that is left out of an answer.
type Omitted struct {
	Field string `json:"field"` // such as steps.a.input
	Bytes int    `json:"bytes"`
}

// Progress counts the steps of an execution. Percent is of those that are terminal.
type Progress struct {
	Total     int `json:"total"`
	Completed int `json:"completed"`
	Failed    int `json:"failed"`
	Skipped   int `json:"skipped"`
	Percent   int `json:"percent"`
}

// StepState is one step of an execution. A step is RUNNING from its dispatch.
type StepState struct {
	StepKey    string            `json:"stepKey"`
	StepType   string            `json:"stepType" enum:"AGENT,CONDITION,LOOP,PARALLEL,WAIT"`
	AgentID    *string           `json:"agentId"`
	Status     string            `json:"status" enum:"PENDING,RUNNING,COMPLETED,FAILED,SKIPPED,CANCELLED"`
	Attempts   int               `json:"attempts"`
	Input      json.RawMessage   `json:"input"`  // resolved; null before the step is ready
	Output     json.RawMessage   `json:"output"` // null until COMPLETED
	Error      *runner.StepError `json:"error"`
	WaitingFor *WaitingFor       `json:"waitingFor"`
	Items      *ItemCounts       `json:"items,omitempty"` // of a LOOP or PARALLEL that has begun; absent for others
	// the execution of a WORKFLOW agent that the step waits for, or waited for last
	ChildExecutionID *string    `json:"childExecutionId,omitempty"`
	Usage            *Usage     `json:"usage,omitempty"`      // of models, over all attempts and items; absent when none was called
	ReusedFrom       *string    `json:"reusedFrom,omitempty"` // the execution that the result is of, when the step was not run again
	StartedAt        *time.Time `json:"startedAt"`
	CompletedAt      *time.Time `json:"completedAt"`
	DurationMs       *int64     `json:"durationMs"`
}

// ItemCounts counts the items of a LOOP, or the branches of a PARALLEL. Those that are neither completed nor failed run
// or were cancelled.
type ItemCounts struct {
	Begun     int `json:"begun"`
	Completed int `json:"completed"`
	Failed    int `json:"failed"`
}

// WaitingFor says what a RUNNING step waits for: for a RUNNER until one has said that it has begun, which it does after 200 ms.
type WaitingFor struct {
	Reason string     `json:"reason" enum:"RETRY,TIMER,SIGNAL,CHILD,RUNNER,LIMIT,BUDGET"`
	Until  *time.Time `json:"until"`
}

// SubmitRequest starts an execution of a workflow, or of an agent alone.
type SubmitRequest struct {
	WorkflowID     string          `json:"workflowId"`
	AgentID        string          `json:"agentId,omitempty"` // instead of WorkflowID: run it once, as catalog.ResolveRequest says
	Inputs         json.RawMessage `json:"inputs"`            // a JSON object; absent means {}
	Priority       *int            `json:"priority"`
	TriggerType    string          `json:"triggerType"`
	IdempotencyKey string          `json:"idempotencyKey"` // "" for none; per caller, 24 h
}

// SubmitResponse is the accepted execution. Replayed is set when the key had accepted it before.
type SubmitResponse struct {
	Execution Execution `json:"execution"`
	Replayed  bool      `json:"replayed"`
}

// IDRequest names one execution.
type IDRequest struct {
	ID string `json:"id"`
}

// ListRequest asks for a page of executions that the caller can see.
type ListRequest struct {
	rpc.Page
	WorkflowID  string     `json:"workflowId,omitempty"`
	Status      string     `json:"status,omitempty"`
	TriggerType string     `json:"triggerType,omitempty"`
	TriggerID   string     `json:"triggerId,omitempty"`
	From        *time.Time `json:"from,omitempty"` // createdAt, inclusive
	To          *time.Time `json:"to,omitempty"`   // createdAt, exclusive
}

// CommandResponse tells that a command is committed and will take effect in the order of the log.
type CommandResponse struct {
	CommandID string `json:"commandId"`
}

// SignalRequest sends a signal to an execution. NOT_FOUND when its definition has no WAIT for one of that name, CONFLICT
// when it has ended or the approval is decided, RATE_LIMITED beyond MaxSignals kept ones.
type SignalRequest struct {
	ID             string          `json:"id"`
	Name           string          `json:"name"`
	Payload        json.RawMessage `json:"payload"`
	Approve        *bool           `json:"approve"` // required for an approval
	Comment        string          `json:"comment"`
	IdempotencyKey string          `json:"idempotencyKey"` // "" for none; per caller and execution, 24 h
}

// RetryRequest runs again what has not completed in an execution that FAILED, was CANCELLED or ran into TIMEOUT; CONFLICT
// for any other, and while its compensation has not COMPLETED. It is a new execution with the same definition and inputs, in
// which the COMPLETED steps keep their results, but for those that were compensated and all that depend on them.
type RetryRequest struct {
	ID             string `json:"id"`
	IdempotencyKey string `json:"idempotencyKey"` // "" for none; per caller, 24 h
}

// RerunRequest runs an execution that has ended again from a step on, as a new one with the same definition: that step
// and all that depend on it run, the other COMPLETED ones keep their results, as with a RetryRequest.
type RerunRequest struct {
	ID             string                     `json:"id"`
	From           string                     `json:"from"`    // a step key
	Inputs         json.RawMessage            `json:"inputs"`  // instead of the execution's; absent for the same
	Outputs        map[string]json.RawMessage `json:"outputs"` // of steps that are not run, instead of theirs, by key
	IdempotencyKey string                     `json:"idempotencyKey"`
}

// ReplayRequest runs an execution that has ended once more, as a new one with the same definition and inputs. Nothing outside is asked
// again: what agents that reach outside have given or failed with, and what a WAIT was told, is taken from the one that is replayed.
type ReplayRequest struct {
	ID             string `json:"id"`
	IdempotencyKey string `json:"idempotencyKey"` // "" for none; per caller, 24 h
}

// What a BulkRequest can ask for.
const (
	BulkCancel = "CANCEL"
	BulkRetry  = "RETRY"
)

// MaxBulk is how many executions one BulkRequest reaches; of more, the oldest.
const MaxBulk = 1000

// BulkRequest cancels or retries the executions that a filter names and the caller can see. Those that are not in a state
// for it are left out.
type BulkRequest struct {
	Action string      `json:"action" enum:"CANCEL,RETRY"`
	Filter ListRequest `json:"filter"` // its page counts for nothing
}

// BulkResponse tells what became of them.
type BulkResponse struct {
	Matched int           `json:"matched"` // executions that the filter names; more than MaxBulk are left for another request
	Done    int           `json:"done"`    // accepted cancels, or new executions
	Failed  []BulkFailure `json:"failed"`  // what was refused or did not work, at most 100 of them
}

// BulkFailure is why nothing was done with one execution.
type BulkFailure struct {
	ID      string `json:"id"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Explanation tells why an execution is where it is.
type Explanation struct {
	ExecutionID string            `json:"executionId" format:"uuid"`
	Status      string            `json:"status"`
	Summary     string            `json:"summary"` // one sentence
	Limit       *LimitExplanation `json:"limit"`   // what it is queued behind; null when that is nothing
	Steps       []StepExplanation `json:"steps"`   // those that have not ended, failed or were skipped; in the definition's order
}

// LimitExplanation tells what an execution waits for that is queued behind its workflow's concurrency limit.
type LimitExplanation struct {
	Key     string   `json:"key"` // what the limit's key has become
	Max     int      `json:"max"`
	Held    int      `json:"held"`                  // executions that count for it
	Holders []string `json:"holders" format:"uuid"` // of them, those that have held their slot longest; at most 10
	Place   int      `json:"place"`                 // in the queue, from 1
	Waiting int      `json:"waiting"`               // executions in the queue
}

// StepExplanation tells why a step is where it is, and what a person can do.
type StepExplanation struct {
	StepKey string     `json:"stepKey"`
	Status  string     `json:"status"`
	Reason  string     `json:"reason" enum:"DEPENDENCIES,LIMIT,QUEUED,RUNNER,RUNNING,RETRY,TIMER,SIGNAL,CHILD,BUDGET,ITEMS,PAUSED,FAILED,SKIPPED"`
	Message string     `json:"message"` // a sentence
	Until   *time.Time `json:"until"`   // when that is over at the latest; null when nobody knows
	Remedy  string     `json:"remedy"`  // what to do; "" when nothing is to be done
}

// EventsRequest asks for the history of an execution.
type EventsRequest struct {
	ID    string `json:"id"`
	After uint64 `json:"after"` // seq; 0 for all
	Limit int    `json:"limit"` // 1..1000; 0 means 1000
}

// EventsResponse holds events in the order of their seq, each with its type and its bytes.
type EventsResponse struct {
	Events   []StoredEvent `json:"events"`
	Terminal bool          `json:"terminal"` // nothing follows the last of Events
}

// StoredEvent is a public event as it was published.
type StoredEvent struct {
	Seq  uint64          `json:"seq"`
	Type string          `json:"type"`
	Body json.RawMessage `json:"body"`
}

// AttemptRequest names an attempt of a step, or of one of its items.
type AttemptRequest struct {
	ExecutionID string `json:"executionId"`
	StepKey     string `json:"stepKey"`
	Iteration   int    `json:"iteration,omitempty"`
	Token       string `json:"token"`
	Attempt     int    `json:"attempt"`
}

// AttemptResponse tells whether the attempt's result would still count: none is recorded, and
// neither a later attempt nor the end of the execution.
type AttemptResponse struct {
	Awaited bool `json:"awaited"`
}

// AttemptBodyResponse has what an attempt is to do, when that was too large for its message: the body, a runner.StepBody, or why there
// is none, which is then how the attempt ends. Neither when its result would no longer count.
type AttemptBodyResponse struct {
	Body    []byte            `json:"body,omitempty"`
	Failure *runner.StepError `json:"failure,omitempty"`
}

// StorePayloadRequest brings a payload of an execution, JSON that is larger than runner.MaxInline.
type StorePayloadRequest struct {
	ExecutionID string `json:"executionId"`
	Payload     []byte `json:"payload"`
}

// GrantKeyResponse is the Ed25519 key that verifies grants of secrets; see package identity.
type GrantKeyResponse struct {
	PublicKey []byte `json:"publicKey"`
}

// The methods of the service. All answer NOT_FOUND for what the caller may not see.
var (
	Submit        = rpc.Method[SubmitRequest, SubmitResponse]{Service: Service, Name: "submit", Version: 1}
	GetExecution  = rpc.Method[IDRequest, Execution]{Service: Service, Name: "get_execution", Version: 1}
	ListExecution = rpc.Method[ListRequest, rpc.List[Execution]]{Service: Service, Name: "list_executions", Version: 1}
	Cancel        = rpc.Method[IDRequest, CommandResponse]{Service: Service, Name: "cancel", Version: 1}
	Pause         = rpc.Method[IDRequest, CommandResponse]{Service: Service, Name: "pause", Version: 1}
	Resume        = rpc.Method[IDRequest, CommandResponse]{Service: Service, Name: "resume", Version: 1}
	SendSignal    = rpc.Method[SignalRequest, CommandResponse]{Service: Service, Name: "signal", Version: 1}
	Retry         = rpc.Method[RetryRequest, SubmitResponse]{Service: Service, Name: "retry", Version: 1}
	Rerun         = rpc.Method[RerunRequest, SubmitResponse]{Service: Service, Name: "rerun", Version: 1}
	Replay        = rpc.Method[ReplayRequest, SubmitResponse]{Service: Service, Name: "replay", Version: 1}
	Bulk          = rpc.Method[BulkRequest, BulkResponse]{Service: Service, Name: "bulk", Version: 1}
	Explain       = rpc.Method[IDRequest, Explanation]{Service: Service, Name: "explain", Version: 1}
	// AttemptAwaited is asked by runners that a step is delivered to once more. System callers only.
	AttemptAwaited = rpc.Method[AttemptRequest, AttemptResponse]{Service: Service, Name: "attempt_awaited", Version: 1}
	// AttemptBody is asked by runners for a step whose message has no body. System callers only.
	AttemptBody = rpc.Method[AttemptRequest, AttemptBodyResponse]{Service: Service, Name: "attempt_body", Version: 1}
	// GrantKey is asked by identity, to know the grants that this service signs. System callers only.
	GrantKey = rpc.Method[rpc.Empty, GrantKeyResponse]{Service: Service, Name: "grant_key", Version: 1}
	// StorePayload is asked by runners before they report an output by its reference; it is safe to repeat. System callers only.
	StorePayload = rpc.Method[StorePayloadRequest, rpc.Empty]{Service: Service, Name: "store_payload", Version: 1}
	ListEvents   = rpc.Method[EventsRequest, EventsResponse]{Service: Service, Name: "list_events", Version: 1}
)

// PartitionEventsRequest asks for events of a partition after a number.
type PartitionEventsRequest struct {
	Partition int    `json:"partition"`
	After     uint64 `json:"after"`
	Limit     int    `json:"limit"`
}

// PartitionEventsResponse has them in the order of their numbers, from the oldest on that is kept; none when there are none.
type PartitionEventsResponse struct {
	Events []PartitionEvent `json:"events"`
}

// PartitionEvent is one of them.
type PartitionEvent struct {
	N    uint64          `json:"n"`
	Body json.RawMessage `json:"body"` // the CloudEvent
}

// EventNumbersResponse tells how many events the partitions have, by their number.
type EventNumbersResponse struct {
	Last []uint64 `json:"last"`
}

// SettledCallsRequest asks for calls of models whose end is known, after a number.
type SettledCallsRequest struct {
	After uint64 `json:"after"`
	Limit int    `json:"limit"`
}

// SettledCallsResponse has them in the order of their numbers, from the oldest on that is kept; none when there are none.
type SettledCallsResponse struct {
	Calls []SettledCall `json:"calls"`
}

// SettledCall is what a call of a model has used. Its number is above that of every call that was told before.
type SettledCall struct {
	N            uint64 `json:"n"`
	ID           string `json:"id"`
	ExecutionID  string `json:"executionId"`
	WorkflowID   string `json:"workflowId"`
	UserID       string `json:"userId"`
	AgentID      string `json:"agentId"`
	StepKey      string `json:"stepKey"`
	InputTokens  int64  `json:"inputTokens"`
	OutputTokens int64  `json:"outputTokens"`
	CostMicros   int64  `json:"costMicros"` // millionths of a dollar
}

// The methods by which telemetry makes sure that it has every event, and all that models have used. System callers only.
var (
	PartitionEvents = rpc.Method[PartitionEventsRequest, PartitionEventsResponse]{Service: Service, Name: "partition_events", Version: 1}
	EventNumbers    = rpc.Method[rpc.Empty, EventNumbersResponse]{Service: Service, Name: "event_numbers", Version: 1}
	SettledCalls    = rpc.Method[SettledCallsRequest, SettledCallsResponse]{Service: Service, Name: "settled_calls", Version: 1}
)

// CloudEvents types of the inputs the orchestrator puts into the log itself. ce-subject
// is the execution; those that have a body say so.
const (
	TypeSubmitted = "io.turbocat.execution.submitted.v1"
	TypeCancel    = "io.turbocat.execution.cancel.v1" // ce-id: the command
	TypeTimerDue  = "io.turbocat.timer.due.v1"
	TypePause     = "io.turbocat.execution.pause.v1"  // ce-id: the command
	TypeResume    = "io.turbocat.execution.resume.v1" // ce-id: the command
	TypeSignal    = "io.turbocat.execution.signal.v1" // ce-id: the command; body Signal
	TypeStepLost  = "io.turbocat.step.lost.v1"        // ce-id: the token; ce-stepkey, ce-iteration, ce-dispatch
	// The results of a LOOP's items, or of a PARALLEL's branches, put together: ce-stepkey; body the step's output, or a
	// runner.StepError when they are too large for one.
	TypeStepGathered     = "io.turbocat.step.gathered.v1"
	TypeStepGatherFailed = "io.turbocat.step.gather_failed.v1"
)

// Signal is what somebody tells an execution that waits for it, or is going to.
type Signal struct {
	Name    string          `json:"name"`
	Payload json.RawMessage `json:"payload"` // null for none
	Approve *bool           `json:"approve"` // of an approval; null for none
	Comment string          `json:"comment"`
	By      string          `json:"by" format:"uuid"` // the user
}

// MaxSignals is how many signals an execution keeps that no step has waited for yet.
const MaxSignals = 100

// ExecutionEvent is the data of every public event of an execution.
type ExecutionEvent struct {
	ExecutionID string `json:"executionId" format:"uuid"` // the execution that it happened to
	WorkflowID  string `json:"workflowId" format:"uuid"`  // the workflow it runs
	UserID      string `json:"userId" format:"uuid"`      // who started it
	Seq         uint64 `json:"seq"`                       // gapless from 1 in the execution
	// of the step when stepKey is set, else of the execution
	Status     string      `json:"status" enum:"PENDING,RUNNING,PAUSED,COMPLETED,FAILED,SKIPPED,CANCELLED,TIMEOUT"`
	StepKey    string      `json:"stepKey,omitempty"`               // the step that it happened to
	AgentID    string      `json:"agentId,omitempty" format:"uuid"` // whose work the step is, that of an AGENT or of each item of a LOOP
	Attempt    int         `json:"attempt,omitempty"`               // of the step, from 1; absent when it never began
	DurationMs *int64      `json:"durationMs,omitempty"`            // from the begin of the step, or of the execution, to its end
	Error      *EventError `json:"error,omitempty"`                 // why it failed, or why it is tried again
	Until      *time.Time  `json:"until,omitempty"`                 // when the next attempt begins, or the wait is over
	Signal     string      `json:"signal,omitempty"`                // that the step waits for
	Iteration  int         `json:"iteration,omitempty"`             // from 1: the item of the LOOP or branch of the PARALLEL that is tried again
	Depth      int         `json:"depth,omitempty"`                 // how many executions stand before it, each of which made the next one begin
}

// AppendJSON appends what encoding/json gives of an event.
func (e ExecutionEvent) AppendJSON(b []byte) []byte {
	text := func(name, value string) {
		b = append(b, name...)
		b = event.AppendString(b, value)
	}
	number := func(name string, value int64) {
		b = append(b, name...)
		b = strconv.AppendInt(b, value, 10)
	}
	text(`{"executionId":`, e.ExecutionID)
	text(`,"workflowId":`, e.WorkflowID)
	text(`,"userId":`, e.UserID)
	b = append(b, `,"seq":`...)
	b = strconv.AppendUint(b, e.Seq, 10)
	text(`,"status":`, e.Status)
	if e.StepKey != "" {
		text(`,"stepKey":`, e.StepKey)
	}
	if e.AgentID != "" {
		text(`,"agentId":`, e.AgentID)
	}
	if e.Attempt != 0 {
		number(`,"attempt":`, int64(e.Attempt))
	}
	if e.DurationMs != nil {
		number(`,"durationMs":`, *e.DurationMs)
	}
	if e.Error != nil {
		text(`,"error":{"code":`, e.Error.Code)
		text(`,"message":`, e.Error.Message)
		b = append(b, '}')
	}
	if e.Until != nil {
		b = append(b, `,"until":"`...)
		b = e.Until.AppendFormat(b, time.RFC3339Nano)
		b = append(b, '"')
	}
	if e.Signal != "" {
		text(`,"signal":`, e.Signal)
	}
	if e.Iteration != 0 {
		number(`,"iteration":`, int64(e.Iteration))
	}
	if e.Depth != 0 {
		number(`,"depth":`, int64(e.Depth))
	}
	return append(b, '}')
}

// EventError says in an event why something failed, without payloads.
type EventError struct {
	Code    string `json:"code"`    // one of the codes of a step's error
	Message string `json:"message"` // cut after 1,024 bytes; the execution has it all
}

func executionEvent(name string) event.Type[ExecutionEvent] {
	return event.Type[ExecutionEvent]{Entity: "execution", Name: name, Version: 1}
}

// The public events of an execution.
var (
	EventCreated            = executionEvent("created")
	EventStarted            = executionEvent("started")
	EventCompleted          = executionEvent("completed")
	EventFailed             = executionEvent("failed")
	EventCancelled          = executionEvent("cancelled")
	EventTimedOut           = executionEvent("timed_out")
	EventStepStarted        = executionEvent("step_started")
	EventPaused             = executionEvent("paused")
	EventResumed            = executionEvent("resumed")
	EventStepWaitStarted    = executionEvent("step_wait_started")
	EventStepRetryScheduled = executionEvent("step_retry_scheduled")
	EventStepCompleted      = executionEvent("step_completed")
	EventStepFailed         = executionEvent("step_failed")
	EventStepSkipped        = executionEvent("step_skipped")
	EventStepCancelled      = executionEvent("step_cancelled")
)
