// Package runner declares the protocol between the orchestrator and the runners: a
// ready step and the three things a runner says about it. All four are CloudEvents in
// binary mode with their headers in a line before the data (event.Headers), so that payloads pass through untouched. A Heartbeat is plain JSON.
//
// A ready step is a message on subject.Step with the headers below; its data is
// StepBody, or nothing when that is larger than MaxInline: the runner then asks the orchestrator for it. A runner answers on subject.ExecutionInputRun(p), has the PubAck, and only
// then acks the ready step. ce-id is the token of the attempt, ce-subject the execution.
package runner

import (
	"encoding/json"
	"time"
)

// Service is the name of the service.
const Service = "runner"

// CloudEvents types of the protocol.
const (
	TypeStepReady     = "io.turbocat.step.ready.v1"     // body StepBody
	TypeStepStarted   = "io.turbocat.step.started.v1"   // no body; after 200 ms of work or on a second delivery
	TypeStepCompleted = "io.turbocat.step.completed.v1" // body: the output, any JSON value, or a Reference to it
	TypeStepFailed    = "io.turbocat.step.failed.v1"    // body: a StepError
)

// Headers beside the CloudEvents attributes. A ready step has all but Duration; what a runner says of it repeats
// the step's key and iteration.
const (
	HeaderStepKey        = "ce-stepkey"
	HeaderDispatch       = "ce-dispatch" // decimal, from 1: how often this token was sent
	HeaderAttempt        = "ce-attempt"  // decimal, from 1
	HeaderTimeoutMs      = "ce-timeoutms"
	HeaderIdempotencyKey = "ce-idempotencykey"
	HeaderUserID         = "ce-userid"
	HeaderWorkflowID     = "ce-workflowid"
	HeaderAgentID        = "ce-agentid"
	HeaderIteration      = "ce-iteration"  // decimal, from 1: the item of a LOOP, the branch of a PARALLEL; absent for the step itself
	HeaderDurationMs     = "ce-durationms" // of a result
)

// StepBody is the body of a ready step.
type StepBody struct {
	Config       json.RawMessage `json:"config"`                 // the agent's config, as saved
	Input        json.RawMessage `json:"input"`                  // the step's inputs, resolved
	InputSchema  json.RawMessage `json:"inputSchema,omitempty"`  // a JSON Schema that Input must fit; absent for none
	OutputSchema json.RawMessage `json:"outputSchema,omitempty"` // a JSON Schema that the output must fit; absent for none
	Secrets      []SecretPoint   `json:"secrets,omitempty"`      // where secrets belong in Input, ascending
	Grant        string          `json:"grant,omitempty"`        // for identity.OpenSecrets, of those and of the config's; absent when there are none
}

// SecretPoint is a place in a string of a JSON text where a secret belongs. There is nothing there to be found: what looks like a
// template of a secret is data.
type SecretPoint struct {
	Name string `json:"name"`
	At   int    `json:"at"` // the byte before which the value is put in, escaped as JSON has it
}

// HeartbeatEvery is how often a runner says that it is alive.
const HeartbeatEvery = 2 * time.Second

// Heartbeat is the body of what a runner says on subject.RunnerHeartbeat every HeartbeatEvery, at once when something of it
// but Running changes, and once more when it stops.
type Heartbeat struct {
	RunnerID string     `json:"runnerId"`           // of the process; another after each start
	Pool     string     `json:"pool"`               // of all labels that it offers; it is of that of each choice of them too
	Capacity []Capacity `json:"capacity"`           // of the agent types whose steps it takes at present
	Stopping bool       `json:"stopping,omitempty"` // it takes no more
}

// Capacity is how many attempts of an agent type a runner runs at once.
type Capacity struct {
	AgentType string `json:"agentType"`
	Slots     int    `json:"slots"`
	Running   int    `json:"running"`
}

// StepError is why an attempt failed, and also the error of a step or an execution in the API.
type StepError struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	Type      string `json:"type,omitempty"`
	Stack     string `json:"stack,omitempty"`
	Retryable bool   `json:"retryable"`
	StepKey   string `json:"stepKey,omitempty"`

	// RetryAfterMs is how long the other side asks to be left alone, as an HTTP answer does with Retry-After; 0 for not.
	RetryAfterMs int64 `json:"retryAfterMs,omitempty"`
}

func (e *StepError) Error() string { return e.Code + ": " + e.Message }

// LostAfter is how many runners may take an attempt and not answer; a fifth is not given it, for it may be what ends them: it fails
// with CodeRunnerLost.
const LostAfter = 4

// Codes of a StepError. docs/errors.md has these comments.
const (
	CodeError          = "CODE_ERROR"        // user code threw
	CodeSyntax         = "SYNTAX_ERROR"      // user code does not parse
	CodeStepTimeout    = "STEP_TIMEOUT"      // the attempt ran out of time
	CodeMemoryLimit    = "MEMORY_LIMIT"      // user code ran out of memory
	CodeOutputLimit    = "OUTPUT_LIMIT"      // the output is larger than MaxOutput
	CodeInputLimit     = "INPUT_LIMIT"       // the resolved input is larger than MaxInput
	CodeHTTPStatus     = "HTTP_STATUS"       // the answer's status is none of successStatus
	CodeHTTPError      = "HTTP_ERROR"        // no answer: connection, TLS, protocol
	CodeAddress        = "ADDRESS_REFUSED"   // the address is private and not allowed
	CodeDataError      = "DATA_ERROR"        // a DATA operation does not fit its rows
	CodeInvalidConfig  = "INVALID_CONFIG"    // the config can not be run
	CodeInvalidInput   = "INVALID_INPUT"     // the resolved input does not fit the agent's inputSchema
	CodeInvalidOutput  = "INVALID_OUTPUT"    // the output is no JSON, or does not fit the agent's outputSchema
	CodeNoSandbox      = "SANDBOX_MISSING"   // this host can not jail CODE
	CodeRunnerLost     = "RUNNER_LOST"       // four runners took the attempt and none answered
	CodeNoSecret       = "SECRET_NOT_FOUND"  // a secret that the attempt needs does not exist
	CodeForeignSecret  = "SECRET_NOT_SHARED" // a secret is named by what does not belong to the user whose execution it is
	CodeTemplate       = "TEMPLATE_ERROR"    // strictTemplates and a template that does not resolve
	CodeExpression     = "EXPRESSION_ERROR"  // an expression has no value, or one of the wrong kind
	CodeLoopLimit      = "LOOP_LIMIT"        // a LOOP would go on beyond its maxIterations
	CodeRejected       = "REJECTED"          // somebody refused the approval that a WAIT waited for
	CodeChildFailed    = "CHILD_FAILED"      // the execution of a WORKFLOW agent FAILED, or could not begin
	CodeChildTimeout   = "CHILD_TIMEOUT"     // it ran into its TIMEOUT
	CodeChildStopped   = "CHILD_CANCELLED"   // somebody cancelled it
	CodeNotRecorded    = "NOT_RECORDED"      // a replay has come to a step that has no result in the execution it replays
	CodeDepth          = "DEPTH_LIMIT"       // it would stand deeper than ten others
	CodeCancelled      = "CANCELLED"         // stopped on request; never reported by a runner
	CodeWorkflowTime   = "WORKFLOW_TIMEOUT"  // the execution ran out of its timeoutMs
	CodeEngineFault    = "ENGINE_FAULT"      // a bug of ours; the execution can not go on
	CodeUnsupported    = "UNSUPPORTED"       // this version can not run this agent type
	CodeLLMError       = "LLM_ERROR"         // no provider of models has answered, and none will when it is asked again
	CodeLLMUnavailable = "LLM_UNAVAILABLE"   // no provider of models has answered; one may a little later
	CodeBudget         = "BUDGET_EXCEEDED"   // a budget has no room for another call of a model
	CodeTurnLimit      = "TURN_LIMIT"        // models were asked maxTurns times and had no answer
	CodeInternal       = "INTERNAL"          // the runner failed, not the agent

	CodeConcurrency = "CONCURRENCY_LIMIT" // as many executions had not ended as the workflow's concurrency allows, and onLimit is DROP
)
