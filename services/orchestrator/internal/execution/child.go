package execution

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/partition"
)

// Children implements partition.Children by an acceptor.
type Children struct{ Acceptor *Acceptor }

// Begin implements partition.Children.
func (c Children) Begin(ctx context.Context, child partition.Child) (ended bool, output []byte, failure *runner.StepError, err error) {
	a := c.Acceptor
	known, found, err := a.store.Ending(ctx, child.ID)
	if err != nil || found {
		return known.Ended, known.Output, known.Failure, err
	}
	if child.Depth > catalog.MaxDepth {
		return true, nil, &runner.StepError{
			Code: runner.CodeDepth, Message: fmt.Sprintf("the execution would stand in %d others; at most %d are possible, so let the workflow not run itself without end", child.Depth, catalog.MaxDepth),
		}, nil
	}
	caller := rpc.Caller{UserID: child.UserID, Role: rpc.RoleUser, RequestID: child.RequestID, Traceparent: child.Traceparent}
	execution, err := a.prepare(ctx, caller, child.WorkflowID, child.Inputs)
	if err != nil {
		return refused(err)
	}
	execution.ID, execution.TriggerType, execution.Priority = child.ID, child.TriggerType, child.Priority
	execution.Parent, execution.Depth = &child.Parent, child.Depth
	_, err = a.Accept(ctx, execution) // one that is obsolete by now needs nothing more
	return false, nil, nil, err
}

// refused tells a child that can not be from one that can not be yet.
func refused(err error) (bool, []byte, *runner.StepError, error) {
	switch code := errs.CodeOf(err); code {
	case errs.NotFound, errs.Conflict, errs.Forbidden, errs.Validation, errs.PayloadTooLarge:
		return true, nil, &runner.StepError{Code: runner.CodeChildFailed, Message: "the workflow can not be run: " + err.Error()}, nil
	}
	return false, nil, nil, err
}

// Cancel implements partition.Children.
func (c Children) Cancel(ctx context.Context, id string) error {
	a := c.Acceptor
	known, found, err := a.store.Ending(ctx, id)
	if err != nil || !found || known.Ended {
		return err
	}
	command := Command{ID: uuid.Must(uuid.NewV7()).String(), ExecutionID: id, Partition: subject.PartitionOf(id), Kind: CommandCancel}
	if err := a.store.AddCommands(ctx, []Command{command}); err != nil {
		return err
	}
	appendCommand(a.inputLog, command)
	return nil
}
