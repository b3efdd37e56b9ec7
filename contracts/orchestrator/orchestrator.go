// Package orchestrator declares what the orchestrator offers: accepting, controlling and
// reading executions; the inputs it sends itself; and the public events of executions.
package orchestrator

import (
	"encoding/json"
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
	Progress          Progress          `json:"progress"`
	CreatedAt         time.Time         `json:"createdAt"`
	StartedAt         *time.Time        `json:"startedAt"`
	CompletedAt       *time.Time        `json:"completedAt"`
	DurationMs        *int64            `json:"durationMs"`
	Steps             []StepState       `json:"steps,omitempty"` // absent in lists
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
	StepKey     string            `json:"stepKey"`
	StepType    string            `json:"stepType" enum:"AGENT,CONDITION,LOOP,PARALLEL,WAIT"`
	AgentID     *string           `json:"agentId"`
	Status      string            `json:"status" enum:"PENDING,RUNNING,COMPLETED,FAILED,SKIPPED,CANCELLED"`
	Attempts    int               `json:"attempts"`
	Input       json.RawMessage   `json:"input"`  // resolved; null before the step is ready
	Output      json.RawMessage   `json:"output"` // null until COMPLETED
	Error       *runner.StepError `json:"error"`
	WaitingFor  *WaitingFor       `json:"waitingFor"`
	StartedAt   *time.Time        `json:"startedAt"`
	CompletedAt *time.Time        `json:"completedAt"`
	DurationMs  *int64            `json:"durationMs"`
}

// WaitingFor says what a RUNNING step waits for.
type WaitingFor struct {
	Reason string     `json:"reason" enum:"RETRY,TIMER,SIGNAL,CHILD,RUNNER,LIMIT"`
	Until  *time.Time `json:"until"`
}

// SubmitRequest starts an execution of a workflow.
type SubmitRequest struct {
	WorkflowID     string          `json:"workflowId"`
	Inputs         json.RawMessage `json:"inputs"` // a JSON object; absent means {}
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
	From        *time.Time `json:"from,omitempty"` // createdAt, inclusive
	To          *time.Time `json:"to,omitempty"`   // createdAt, exclusive
}

// CommandResponse tells that a command is committed and will take effect in the order of the log.
type CommandResponse struct {
	CommandID string `json:"commandId"`
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

// AttemptRequest names an attempt of a step.
type AttemptRequest struct {
	ExecutionID string `json:"executionId"`
	StepKey     string `json:"stepKey"`
	Token       string `json:"token"`
	Attempt     int    `json:"attempt"`
}

// AttemptResponse tells whether the attempt's result would still count: none is recorded, and
// neither a later attempt nor the end of the execution.
type AttemptResponse struct {
	Awaited bool `json:"awaited"`
}

// The methods of the service. All answer NOT_FOUND for what the caller may not see.
var (
	Submit        = rpc.Method[SubmitRequest, SubmitResponse]{Service: Service, Name: "submit", Version: 1}
	GetExecution  = rpc.Method[IDRequest, Execution]{Service: Service, Name: "get_execution", Version: 1}
	ListExecution = rpc.Method[ListRequest, rpc.List[Execution]]{Service: Service, Name: "list_executions", Version: 1}
	Cancel        = rpc.Method[IDRequest, CommandResponse]{Service: Service, Name: "cancel", Version: 1}
	// AttemptAwaited is asked by runners that a step is delivered to once more. System callers only.
	AttemptAwaited = rpc.Method[AttemptRequest, AttemptResponse]{Service: Service, Name: "attempt_awaited", Version: 1}
	ListEvents     = rpc.Method[EventsRequest, EventsResponse]{Service: Service, Name: "list_events", Version: 1}
)

// CloudEvents types of the inputs the orchestrator puts into the log itself. ce-subject
// is the execution; none has a body.
const (
	TypeSubmitted = "io.turbocat.execution.submitted.v1"
	TypeCancel    = "io.turbocat.execution.cancel.v1" // ce-id: the command
	TypeTimerDue  = "io.turbocat.timer.due.v1"
	TypeStepLost  = "io.turbocat.step.lost.v1" // ce-id: the token; ce-stepkey, ce-dispatch
)

// ExecutionEvent is the data of every public event of an execution.
type ExecutionEvent struct {
	ExecutionID string `json:"executionId" format:"uuid"` // the execution that it happened to
	WorkflowID  string `json:"workflowId" format:"uuid"`  // the workflow it runs
	UserID      string `json:"userId" format:"uuid"`      // who started it
	Seq         uint64 `json:"seq"`                       // gapless from 1 in the execution
	// of the step when stepKey is set, else of the execution
	Status     string      `json:"status" enum:"PENDING,RUNNING,PAUSED,COMPLETED,FAILED,SKIPPED,CANCELLED,TIMEOUT"`
	StepKey    string      `json:"stepKey,omitempty"`    // the step that it happened to
	Attempt    int         `json:"attempt,omitempty"`    // of the step, from 1; absent when it never began
	DurationMs *int64      `json:"durationMs,omitempty"` // from the begin of the step, or of the execution, to its end
	Error      *EventError `json:"error,omitempty"`      // why it failed, or why it is tried again
	Until      *time.Time  `json:"until,omitempty"`      // when the next attempt begins; of step_retry_scheduled
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
	EventStepRetryScheduled = executionEvent("step_retry_scheduled")
	EventStepCompleted      = executionEvent("step_completed")
	EventStepFailed         = executionEvent("step_failed")
	EventStepSkipped        = executionEvent("step_skipped")
	EventStepCancelled      = executionEvent("step_cancelled")
)
