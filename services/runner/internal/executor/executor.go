// Package executor declares what the runner asks of an executor, the code that runs one type of agent.
package executor

import (
	"context"
	"encoding/json"
	"errors"
)

// Task is one attempt of a step.
type Task struct {
	ExecutionID    string
	StepKey        string
	Attempt        int
	IdempotencyKey string // the same over retries and redeliveries of the step
	UserID         string
	WorkflowID     string
	AgentID        string
	Config         json.RawMessage // the agent's config, as saved; valid JSON
	Input          json.RawMessage // the step's inputs, resolved; valid JSON
	// Secrets that the config or the input names, by name. Who runs the task takes them out of what the executor says and gives.
	Secrets map[string]string
	Log     Logger

	// Tokens takes what a call of a model writes, as it writes it, for those who watch; call is its number in the attempt. It never
	// blocks, may drop, and is safe for concurrent use. The output has all of it.
	Tokens func(call int, text string)

	// Ours tells whether the attempt is still this runner's. It is not once the process stood still for longer than its
	// lease; an effect on others that begins then would be the second one. An executor asks right before it begins one.
	Ours func() bool

	Calls Calls // the ledger of what the attempt calls
}

// ErrNotOurs is what Run gives when Ours said no.
var ErrNotOurs = errors.New("the attempt is no longer this runner's")

// Logger takes the log lines of a task, in order. level is one of telemetry.Levels,
// source is console, stdout, stderr or engine. It is safe for concurrent use.
type Logger func(level, source, message string)

// Interface runs the attempts of one agent type and is safe for concurrent use. Run gives
// the step's output, a JSON value, or a *runner.StepError; any other error counts as the
// runner's own. It returns within a second after ctx ends, with nothing of it still running.
// The caller bounds the attempt by the step's timeout; config.timeoutMs is the executor's.
type Interface interface {
	Run(ctx context.Context, task Task) (json.RawMessage, error)
}
