package partition

import (
	"context"
	"encoding/json"
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
	Detached   bool // the task goes on once it has begun
	WorkflowID string
	AgentID    string // instead of a workflow: the agent alone
	Recording  string // instead of both: the execution in which it is recorded what comes of the task
	Inputs     Inputs
	Priority   int

	UserID, TriggerType, RequestID, Traceparent string
}

// Inputs makes the inputs of a child, or tells why it can have none. They are asked for when it is not there yet, from any goroutine.
type Inputs func(context.Context) ([]byte, *runner.StepError, error)

// Children are the executions that steps wait for.
type Children interface {
	// Begin gives what is recorded of a child that has a Recording. Any other it accepts, unless it is there already or nobody waits for it any more, and tells whether it has ended: with an
	// output or a failure, which is also what a child gets that can not be. A detached one that is there has not. Safe to repeat.
	Begin(ctx context.Context, c Child) (ended bool, output []byte, failure *runner.StepError, err error)
}

// begunChild stands where an attempt of a runner has its message: a task that waits for a child is not to be sent.
func begunChild() *send {
	s := &send{done: make(chan struct{}), seq: 1, at: time.Now()}
	close(s.done)
	return s
}

// endingOf is what the task that waits for an execution gets to know of its end, or that this is large; both nil when none waits.
func (r *run) endingOf(x *engine.Execution) (*Control, *largeEnd) {
	switch {
	case x.Parent == nil:
		return nil, nil
	case x.EndsLarge(r.inline):
		return nil, &largeEnd{x.ID, *x.Parent}
	}
	output, failure := x.Ending()
	return resultOf(*x.Parent, output, failure), nil
}

// largeEnd is the end of an execution whose outputs are read, and stored once more with the execution that waits for them.
type largeEnd struct {
	id     string
	parent engine.Parent
}

// tellParents tells of large ends that are committed. What is lost of it, the owner of the one that waits finds out.
func (r *run) tellParents(ctx context.Context) {
	r.mu.Lock()
	ends := r.untold
	r.untold = nil
	r.mu.Unlock()
	for _, end := range ends {
		r.background.Go(func() {
			if err := r.withRoom(ctx, func() error {
				var output json.RawMessage
				var failure *runner.StepError
				if err := r.withState(ctx, end.id, func(x *engine.Execution) { output, failure = x.Ending() }); err != nil {
					return err
				}
				return r.tellEnd(ctx, end.parent, output, failure)
			}); err != nil {
				r.log.Warn().Err(err).Str("executionId", end.id).Msg("the outputs of an execution are not with the one that waits for them yet; that is looked for again")
			}
		})
	}
}

// tellEnd puts the end of an execution into the log of the one that waits for it, which has then stored what is large.
func (r *run) tellEnd(ctx context.Context, parent engine.Parent, output json.RawMessage, failure *runner.StepError) error {
	output, err := r.keep(ctx, parent.ExecutionID, output)
	if err == nil {
		r.append(*resultOf(parent, output, failure))
	}
	return err
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
	parent := engine.Parent{ExecutionID: x.ID, StepKey: def.Key, Place: p, Token: t.Token}
	if def.Work(p.Iteration).Recorded {
		recorded := Child{ID: t.Child, Parent: parent, Recording: x.Definition.Recording.ExecutionID}
		r.background.Go(func() { r.beginChild(ctx, recorded) })
		return
	}
	config := def.Work(p.Iteration).Child
	c := Child{
		ID: t.Child, Parent: parent, Depth: x.Depth + 1, Detached: config.Detached, WorkflowID: config.WorkflowID, Priority: x.Priority,
		UserID: x.UserID, TriggerType: x.TriggerType, RequestID: x.RequestID, Traceparent: x.Traceparent,
	}
	if x.Defers(p) {
		c.Inputs = func(ctx context.Context) (inputs []byte, failure *runner.StepError, err error) {
			err = r.withState(ctx, parent.ExecutionID, func(x *engine.Execution) {
				var warnings []engine.Warning
				inputs, warnings, failure = x.ChildInputs(p)
				for _, w := range warnings {
					r.transport.Warn(x, w)
				}
			})
			return inputs, failure, err
		}
	} else {
		inputs, _, failure := x.ChildInputs(p) // the engine has given the warnings
		c.Inputs = func(context.Context) ([]byte, *runner.StepError, error) { return inputs, failure, nil }
	}
	r.background.Go(func() { r.beginChild(ctx, c) })
}

func awaitsChild(t *engine.Task) bool { return t != nil && t.AwaitsResult() && t.Child != "" }

func (r *run) beginChild(ctx context.Context, c Child) {
	select {
	case r.beginning <- struct{}{}:
		defer func() { <-r.beginning }()
	case <-ctx.Done():
		return
	}
	ended, output, failure, err := r.begin.Begin(ctx, c)
	switch {
	case err != nil:
	case failure == nil && c.Detached:
		r.append(*resultOf(c.Parent, []byte(`{"executionId":"`+c.ID+`"}`), nil))
	case ended:
		err = r.tellEnd(ctx, c.Parent, output, failure)
	}
	if err != nil {
		r.log.Warn().Err(err).Str("executionId", c.Parent.ExecutionID).Str("stepKey", c.Parent.StepKey).Msg("the execution of a WORKFLOW agent does not begin, or end, yet; trying again")
	}
}
