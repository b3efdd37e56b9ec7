package execution

import (
	"context"
	"fmt"

	"turbocat.io/contracts/catalog"
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
	if child.Recording != "" {
		output, failure, err = a.recorded(ctx, child.Recording, child.Parent)
		return err == nil, output, failure, err
	}
	known, found, err := a.store.Ending(ctx, child.ID)
	switch {
	case found && child.Detached: // nobody asks how it ends
		return false, nil, nil, err
	case found || err != nil:
		return known.Ended, known.Output, known.Failure, err
	}
	if child.Depth > catalog.MaxDepth {
		return true, nil, &runner.StepError{
			Code: runner.CodeDepth, Message: fmt.Sprintf("the execution would stand in %d others; at most %d are possible, so let the workflow not run itself without end", child.Depth, catalog.MaxDepth),
		}, nil
	}
	inputs, failure, err := child.Inputs(ctx)
	if err != nil || failure != nil {
		return failure != nil, nil, failure, err
	}
	caller := rpc.Caller{UserID: child.UserID, Role: rpc.RoleUser, RequestID: child.RequestID, Traceparent: child.Traceparent}
	var execution Accepted
	if child.AgentID != "" {
		execution, err = a.prepareTest(ctx, caller, child.AgentID, inputs)
	} else {
		execution, err = a.prepare(ctx, caller, child.WorkflowID, inputs)
	}
	if err != nil {
		return failedChild(child, err)
	}
	execution.ID, execution.TriggerType, execution.Priority = child.ID, child.TriggerType, child.Priority
	execution.Parent, execution.Depth, execution.Detached = &child.Parent, child.Depth, child.Detached
	if _, err = a.Accept(ctx, execution); err != nil { // one that is obsolete by now needs nothing more
		return failedChild(child, err)
	}
	return false, nil, nil, nil
}

// failedChild tells a child that can not be from one that can not be yet.
func failedChild(child partition.Child, err error) (bool, []byte, *runner.StepError, error) {
	if Refused(err) {
		what := "workflow"
		if child.AgentID != "" {
			what = "agent"
		}
		return true, nil, &runner.StepError{Code: runner.CodeChildFailed, Message: "the " + what + " can not be run: " + err.Error()}, nil
	}
	return false, nil, nil, err
}

// Unawaited is the cancel of an execution that no step waits for any more. It is the same however often it is asked for.
func Unawaited(executionID string) Command {
	return Command{ID: executionID, ExecutionID: executionID, Partition: subject.PartitionOf(executionID), Kind: CommandCancel}
}
