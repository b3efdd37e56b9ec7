package execution

import (
	"context"
	"fmt"
	"slices"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

// Replay accepts an execution that repeats an ended one by what is recorded of it. Without an idempotency key it is not safe to repeat.
func (s *Service) Replay(ctx context.Context, caller rpc.Caller, req orchestrator.ReplayRequest) (orchestrator.SubmitResponse, error) {
	record, err := s.named(ctx, caller, req.ID, req.IdempotencyKey)
	if err != nil {
		return orchestrator.SubmitResponse{}, err
	}
	replay, err := replayOf(record)
	if err != nil {
		return orchestrator.SubmitResponse{}, err
	}
	if ref, stored := runner.ReferenceOf(replay.Inputs); stored {
		if replay.Inputs, err = s.payloads.Get(ctx, req.ID, ref); err != nil {
			return orchestrator.SubmitResponse{}, err
		}
	}
	if req.IdempotencyKey != "" {
		replay.Key = &IdempotencyKey{UserID: caller.UserID, Route: "replay", Key: req.IdempotencyKey, BodyHash: hashOf(req.ID)}
	}
	return s.runAgain(ctx, caller, replay)
}

// replayOf makes the execution that repeats one that has ended.
func replayOf(r Record) (Accepted, error) {
	x := r.Execution
	if !x.Terminal() {
		return Accepted{}, errs.New(errs.Conflict, "the execution is %s; only one that has ended can be replayed", x.Status)
	}
	f, err := freeze(recorded(r))
	if err != nil {
		return Accepted{}, err
	}
	return Accepted{
		Definition: f.definition, DefinitionBody: f.body, DefinitionHash: f.hash, Compiled: f.compiled,
		TriggerType: orchestrator.TriggerAPI, Priority: x.Priority, Inputs: x.Inputs,
	}, nil
}

// recorded gives an execution's definition with what a replay takes from it: all that reaches outside, what a WAIT was told, and what the
// execution had taken from another one. CONDITIONs are decided again. Nothing is done that could be undone. A replay has that of the
// execution that it replays itself.
func recorded(r Record) catalog.Definition {
	def := r.Definition
	if def.Recording != nil {
		return def
	}
	recording := &catalog.Recording{ExecutionID: r.Execution.ID}
	def.Steps = slices.Clone(def.Steps)
	for i, step := range def.Steps {
		def.Steps[i].Compensate = nil
		_, reused := r.Reused[i]
		if step.StepType == catalog.StepWait || reused && step.StepType != catalog.StepCondition {
			recording.Steps = append(recording.Steps, step.StepKey)
		}
	}
	for _, agent := range def.Agents {
		if agent.ReachesOutside() {
			recording.Agents = append(recording.Agents, agent.ID)
		}
	}
	slices.Sort(recording.Steps)
	slices.Sort(recording.Agents)
	def.Recording = recording
	return def
}

// recorded gives what came of a task in the execution that is replayed. What failed there fails at once, however often it was tried.
func (a *Acceptor) recorded(ctx context.Context, executionID string, task engine.Parent) ([]byte, *runner.StepError, error) {
	was, _, err := a.store.Step(ctx, executionID, task.StepKey, task.Place.Iteration)
	switch {
	case errs.CodeOf(err) == errs.NotFound:
		return nil, notRecorded("the execution %s is not kept any more", executionID), nil
	case err != nil:
		return nil, nil, err
	case was.Status == orchestrator.StepFailed && was.Error != nil:
		failure := *was.Error
		failure.Retryable = false
		return nil, &failure, nil
	case was.Status != orchestrator.StepCompleted:
		return nil, notRecorded("in the execution %s it is %s: it has come to no result there", executionID, was.Status), nil
	}
	if ref, stored := runner.ReferenceOf(was.Output); stored {
		output, err := a.store.Payload(ctx, executionID, ref)
		return output, nil, err
	}
	return was.Output, nil, nil
}

func notRecorded(format string, args ...any) *runner.StepError {
	return &runner.StepError{Code: runner.CodeNotRecorded, Message: "nothing is recorded of the step: " + fmt.Sprintf(format, args...)}
}
