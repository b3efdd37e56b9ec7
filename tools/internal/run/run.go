// Package run runs a workflow file on an installation and shows how it goes.
package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
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
	p.begin(workflow.Name, workflow.Steps, started.ID)
	return await(ctx, c, started.ID, p)
}

// Test runs an agent once with an input, a JSON object, and gives the execution as Run does. The agent is named by its id, or by its name when it is the user's own.
func Test(ctx context.Context, c *client.Client, agent string, input json.RawMessage, p *Progress) (orchestrator.Execution, error) {
	found, err := find(ctx, c, agent)
	if err != nil {
		return orchestrator.Execution{}, err
	}
	id, err := c.TestAgent(ctx, found.ID, input)
	if err != nil {
		return orchestrator.Execution{}, err
	}
	p.begin(found.Name, []catalog.Step{{StepKey: catalog.TestStep}}, id)
	return await(ctx, c, id, p)
}

func find(ctx context.Context, c *client.Client, agent string) (catalog.Agent, error) {
	if uuid.Validate(agent) == nil {
		return c.Agent(ctx, agent)
	}
	named, err := c.Agents(ctx, agent)
	switch {
	case err != nil:
		return catalog.Agent{}, err
	case len(named) == 0:
		return catalog.Agent{}, fmt.Errorf("you have no agent %q; name one of yours, or give the id of any that you may see", agent)
	case len(named) > 1:
		return catalog.Agent{}, ambiguous("agents", agent, len(named))
	}
	return named[0], nil
}

// await follows an execution to its end.
func await(ctx context.Context, c *client.Client, id string, p *Progress) (orchestrator.Execution, error) {
	err := c.Follow(ctx, id, p.show)
	p.end()
	var ended orchestrator.Execution
	if err == nil {
		ended, err = c.Execution(ctx, id)
	}
	if err != nil && ctx.Err() != nil {
		return orchestrator.Execution{ID: id}, interrupt(ctx, c, id)
	}
	return ended, err
}

// Log gives the end of the log of a step that has ended; "" when it wrote nothing, or nothing has come yet.
func Log(ctx context.Context, c *client.Client, x orchestrator.Execution, stepKey string) string {
	for _, s := range x.Steps {
		if s.StepKey == stepKey {
			return Plain(logTail(ctx, c, x.ID, s))
		}
	}
	return ""
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
	return Plain(text)
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
