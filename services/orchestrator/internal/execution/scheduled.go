package execution

import (
	"context"
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
