package partition

import (
	"context"
	"time"

	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
)

const (
	// lookAtChild is after how long it is looked whether an execution that a step waits for is there, and how it has ended. Its
	// owner tells of the end at once; this is for when that is lost.
	lookAtChild = 10 * time.Second
	// childrenAtOnce is how many a partition begins, or looks at, at once.
	childrenAtOnce = 32
)

// Child is an execution that a task of another waits for.
type Child struct {
	ID         string
	Parent     engine.Parent
	Depth      int
	WorkflowID string
	Inputs     []byte
	Priority   int

	UserID, TriggerType, RequestID, Traceparent string
}

// Children are the executions that steps wait for.
type Children interface {
	// Begin accepts a child, unless it is there already or nobody waits for it any more, and tells whether it has ended: with an
	// output or a failure, which is also what a child gets that can not be. Safe to repeat.
	Begin(ctx context.Context, c Child) (ended bool, output []byte, failure *runner.StepError, err error)
	// Cancel asks for the end of a child; one that is not there or has ended is left alone. Safe to repeat.
	Cancel(ctx context.Context, id string) error
}

// begunChild stands where an attempt of a runner has its message, so that the ledger remembers to stop the child.
func begunChild() *send {
	s := &send{done: make(chan struct{}), seq: 1, at: time.Now()}
	close(s.done)
	return s
}

// endingOf is what the task that waits for an execution gets to know of its end; nil when none waits.
func endingOf(x *engine.Execution) *Control {
	if x.Parent == nil {
		return nil
	}
	output, failure := x.Ending()
	return resultOf(*x.Parent, output, failure)
}

// resultOf is the result of an attempt whose child has ended.
func resultOf(parent engine.Parent, output []byte, failure *runner.StepError) *Control {
	c := &Control{
		P: subject.PartitionOf(parent.ExecutionID), Kind: engine.StepCompleted, ExecutionID: parent.ExecutionID, Step: parent.StepKey,
		Iteration: parent.Iteration, Token: parent.Token, Output: output, Err: failure,
	}
	if failure != nil {
		c.Kind = engine.StepFailed
	}
	return c
}

// watchChild begins the execution that a task waits for, or asks for it when nothing was heard of it.
func (r *run) watchChild(ctx context.Context, x *engine.Execution, p engine.Place) {
	t, def := x.Task(p), &x.Definition.Steps[p.Step]
	config := def.Work(p.Iteration).Child
	parent := engine.Parent{ExecutionID: x.ID, StepKey: def.Key, Place: p, Token: t.Token}
	inputs, failure := x.ChildInputs(p)
	if failure != nil {
		r.append(*resultOf(parent, nil, failure))
		return
	}
	c := Child{
		ID: t.Child, Parent: parent, Depth: x.Depth + 1, WorkflowID: config.WorkflowID, Inputs: inputs, Priority: x.Priority,
		UserID: x.UserID, TriggerType: x.TriggerType, RequestID: x.RequestID, Traceparent: x.Traceparent,
	}
	r.background.Go(func() { r.beginChild(ctx, c, config.Detached) })
}

func awaitsChild(t *engine.Task) bool { return t != nil && t.AwaitsResult() && t.Child != "" }

func (r *run) beginChild(ctx context.Context, c Child, detached bool) {
	select {
	case r.beginning <- struct{}{}:
		defer func() { <-r.beginning }()
	case <-ctx.Done():
		return
	}
	ended, output, failure, err := r.begin.Begin(ctx, c)
	switch {
	case err != nil:
		r.log.Warn().Err(err).Str("executionId", c.Parent.ExecutionID).Str("stepKey", c.Parent.StepKey).Msg("the execution of a WORKFLOW agent does not begin yet; trying again")
	case failure == nil && detached:
		r.append(*resultOf(c.Parent, []byte(`{"executionId":"`+c.ID+`"}`), nil))
	case ended:
		r.append(*resultOf(c.Parent, output, failure))
	}
}
