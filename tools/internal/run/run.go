// Package run runs a workflow file on an installation and shows how it goes.
package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/tools/internal/client"
	"turbocat.io/tools/internal/workflowfile"
)

const (
	cancelTimeout = 5 * time.Second
	logLines      = 10 // of a failed step
	// Log lines come a moment after the step that wrote them.
	logTries = 5
	logPause = 200 * time.Millisecond
)

// Interrupted is an execution that was broken off because ctx ended.
type Interrupted struct {
	ExecutionID string
	Cancel      error // why it could not be cancelled, so that it goes on; nil when it was
}

func (e *Interrupted) Error() string {
	if e.Cancel != nil {
		return fmt.Sprintf("interrupted; the execution %s could not be cancelled and goes on: %v", e.ExecutionID, e.Cancel)
	}
	return fmt.Sprintf("interrupted; the execution %s is cancelled", e.ExecutionID)
}

// Run applies the file, runs its workflow with inputs, a JSON object, and gives the execution when it has ended,
// however it has. When ctx ends before, the execution is cancelled and the error is *Interrupted.
func Run(ctx context.Context, c *client.Client, f *workflowfile.File, inputs json.RawMessage, p *Progress) (orchestrator.Execution, error) {
	workflow, err := Apply(ctx, c, f)
	if err != nil {
		return orchestrator.Execution{}, err
	}
	started, err := c.Execute(ctx, workflow.ID, inputs)
	if err != nil {
		return started, err
	}
	p.begin(workflow, started.ID)
	err = c.Follow(ctx, started.ID, p.show)
	p.end()
	var ended orchestrator.Execution
	if err == nil {
		ended, err = c.Execution(ctx, started.ID)
	}
	if err != nil && ctx.Err() != nil {
		return started, interrupt(ctx, c, started.ID)
	}
	return ended, err
}

func interrupt(ctx context.Context, c *client.Client, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer cancel()
	err := c.Cancel(ctx, id)
	var refused *client.Refusal
	if errors.As(err, &refused) && refused.Reason.Code == errs.Conflict {
		err = nil // it ended meanwhile
	}
	return &Interrupted{ExecutionID: id, Cancel: err}
}

// Failure says why an execution is not COMPLETED: each step that failed with its error and the end of its log.
func Failure(ctx context.Context, c *client.Client, x orchestrator.Execution) string {
	text := fmt.Sprintf("the execution %s ended %s", x.ID, x.Status)
	if x.Error != nil {
		text += ": " + x.Error.Message
	}
	for _, s := range x.Steps {
		if s.Status != orchestrator.StepFailed || s.Error == nil {
			continue
		}
		text += fmt.Sprintf("\n\nstep %s: %s: %s", s.StepKey, s.Error.Code, s.Error.Message)
		if s.Error.Stack != "" {
			text += "\n" + indent(s.Error.Stack)
		}
		if tail := logTail(ctx, c, x.ID, s); tail != "" {
			text += "\nthe end of its log:\n" + indent(tail)
		}
	}
	return plain(text)
}

// logTail gives the last lines a step wrote; "" when there are none.
func logTail(ctx context.Context, c *client.Client, id string, step orchestrator.StepState) string {
	text := ""
	for range logTries {
		lines, err := c.LogTail(ctx, id, step.StepKey)
		if err != nil {
			return text
		}
		text = ""
		for _, l := range lines[max(len(lines)-logLines, 0):] {
			text += fmt.Sprintf("%s %-5s %s\n", l.CreatedAt.Local().Format("15:04:05.000"), l.Level, l.Message)
		}
		if len(lines) > 0 && lines[len(lines)-1].Attempt == step.Attempts {
			break
		}
		select {
		case <-ctx.Done():
			return text
		case <-time.After(logPause):
		}
	}
	return text
}
