// Package executor declares what the runner asks of an executor, the code that runs one type of agent.
package executor

import (
	"context"
	"encoding/json"
)

// Task is one attempt of a step.
type Task struct {
	ExecutionID    string
	StepKey        string
	Attempt        int
	IdempotencyKey string // the same over retries and redeliveries of the step
	UserID         string
	WorkflowID     string
	Config         json.RawMessage // the agent's config, as saved
	Input          json.RawMessage // the step's inputs, resolved
	Log            Logger
}

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
