package execution

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
)

// Scheduled is the time of a schedule that an execution is of, and what the schedule goes on with once it is accepted.
type Scheduled struct {
	TriggerID        string
	Revision         int64
	For              time.Time
	Next, NextFireAt time.Time // zero when there is none
}

// Fire accepts the execution of a scheduled time. The outcome is Obsolete when that time is decided already or the schedule was changed.
func (a *Acceptor) Fire(ctx context.Context, caller rpc.Caller, workflowID string, inputs []byte, priority *int, at Scheduled) (Outcome, error) {
	execution, err := a.prepare(ctx, caller, workflowID, inputs)
	if err != nil {
		return Outcome{}, err
	}
	execution.ID, execution.TriggerType, execution.Scheduled = uuid.Must(uuid.NewV7()).String(), orchestrator.TriggerScheduled, &at
	if priority != nil {
		execution.Priority = *priority
	}
	return a.Accept(ctx, execution)
}

// Refused tells whether an execution that could not be accepted can never be, as things stand, from one that may be later.
func Refused(err error) bool {
	switch errs.CodeOf(err) {
	case errs.NotFound, errs.Conflict, errs.Forbidden, errs.Validation, errs.PayloadTooLarge:
		return true
	}
	return false
}

// maxReason bounds what ReasonOf says, in bytes.
const maxReason = 1000

// ReasonOf says why an execution was refused.
func ReasonOf(err error) string {
	text := err.Error()
	var refused *errs.Error
	if errors.As(err, &refused) {
		text = refused.Message
		for _, d := range refused.Details {
			if !strings.Contains(text, d.Message) {
				text += "; " + d.Field + " " + d.Message
			}
		}
	}
	return strings.ToValidUTF8(text[:min(len(text), maxReason)], "")
}

// Received is what came in for a trigger and is to have an execution.
type Received struct {
	TriggerID   string
	TriggerType string // of the execution
	Name        string // that its sender gave it
	Depth       int    // how many executions stand before
}

// Receive accepts the execution of what came in for a trigger, once. It is safe to repeat: the outcome is Replayed when there is one already.
func (a *Acceptor) Receive(ctx context.Context, caller rpc.Caller, workflowID string, inputs []byte, priority *int, received Received) (Outcome, error) {
	if _, err := a.admit(ctx, caller.UserID, nil); err != nil {
		return Outcome{}, err
	}
	execution, err := a.prepare(ctx, caller, workflowID, inputs)
	if err != nil {
		return Outcome{}, err
	}
	execution.ID, execution.TriggerType, execution.Received, execution.Depth = uuid.Must(uuid.NewV7()).String(), received.TriggerType, &received, received.Depth
	if priority != nil {
		execution.Priority = *priority
	}
	return a.Accept(ctx, execution)
}
