package execution

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

// retryable are the statuses from which an execution is retried.
var retryable = []string{orchestrator.ExecutionFailed, orchestrator.ExecutionCancelled, orchestrator.ExecutionTimeout}

// Retry accepts an execution that runs what has not completed in an ended one. It needs neither the workflow nor its agents
// to be ACTIVE: the definition is the ended one's. Without an idempotency key it is not safe to repeat.
func (s *Service) Retry(ctx context.Context, caller rpc.Caller, req orchestrator.RetryRequest) (orchestrator.SubmitResponse, error) {
	var faults []errs.Detail
	checkKey(req.IdempotencyKey, &faults)
	if len(faults) > 0 {
		return orchestrator.SubmitResponse{}, errs.Invalid("request", faults)
	}
	record, err := s.visible(ctx, caller, req.ID)
	if err != nil {
		return orchestrator.SubmitResponse{}, err
	}
	again, err := retryOf(record)
	if err != nil {
		return orchestrator.SubmitResponse{}, err
	}
	if req.IdempotencyKey != "" {
		again.Key = &IdempotencyKey{UserID: caller.UserID, Route: "retry", Key: req.IdempotencyKey, BodyHash: hashOf(again.RetryOf)}
	}
	return s.runAgain(ctx, caller, again)
}

// retryOf decides what runs again of an execution that is retried.
func retryOf(r Record) (Accepted, error) {
	if !slices.Contains(retryable, r.Execution.Status) {
		return Accepted{}, errs.New(errs.Conflict, "the execution is %s; only one that is %s can be retried", r.Execution.Status, strings.Join(retryable, ", "))
	}
	return again(r, func(int) bool { return false }), nil
}

// again is an execution like another, in which its COMPLETED steps keep their results, but for those that run.
func again(r Record, runs func(i int) bool) Accepted {
	x := r.Execution
	out := Accepted{
		Definition: r.Definition, DefinitionHash: r.DefinitionHash, TriggerType: orchestrator.TriggerAPI, Priority: x.Priority, Inputs: x.Inputs, RetryOf: x.ID,
	}
	for i := range x.Steps {
		if x.Steps[i].Status == orchestrator.StepCompleted && !runs(i) {
			out.Reused = append(out.Reused, ReusedStep{Index: i})
		}
	}
	return out
}

// runAgain accepts an execution for a caller.
func (s *Service) runAgain(ctx context.Context, caller rpc.Caller, again Accepted) (orchestrator.SubmitResponse, error) {
	outcome, err := s.acceptAgain(ctx, caller, again)
	if err != nil {
		return orchestrator.SubmitResponse{}, err
	}
	record, err := s.store.Get(ctx, outcome.ID)
	if err != nil {
		return orchestrator.SubmitResponse{}, err
	}
	return orchestrator.SubmitResponse{Execution: view(record), Replayed: outcome.Replayed}, nil
}

func (s *Service) acceptAgain(ctx context.Context, caller rpc.Caller, again Accepted) (Outcome, error) {
	if caller.UserID == "" {
		return Outcome{}, errs.New(errs.Unauthorized, "only a user runs executions again; sign in")
	}
	again.ID, again.Caller, again.CreatedAt = uuid.Must(uuid.NewV7()).String(), caller, time.Now().UTC()
	return s.acceptor.Accept(ctx, again)
}

// Rerun accepts an execution that runs an ended one again from a step on. Without an idempotency key it is not safe to repeat.
func (s *Service) Rerun(ctx context.Context, caller rpc.Caller, req orchestrator.RerunRequest) (orchestrator.SubmitResponse, error) {
	record, err := s.visible(ctx, caller, req.ID)
	if err != nil {
		return orchestrator.SubmitResponse{}, err
	}
	again, err := rerunOf(record, req)
	if err != nil {
		return orchestrator.SubmitResponse{}, err
	}
	if len(req.Inputs) > 0 {
		if err := checkInputs(ctx, record.Definition.InputSchema, again.Inputs); err != nil {
			return orchestrator.SubmitResponse{}, err
		}
	}
	if req.IdempotencyKey != "" {
		again.Key = &IdempotencyKey{UserID: caller.UserID, Route: "rerun", Key: req.IdempotencyKey, BodyHash: rerunHash(again, req.From)}
	}
	return s.runAgain(ctx, caller, again)
}

// rerunOf decides what runs again of an execution from a step on, and with which inputs and outputs.
func rerunOf(r Record, req orchestrator.RerunRequest) (Accepted, error) {
	x := r.Execution
	var faults []errs.Detail
	checkKey(req.IdempotencyKey, &faults)
	from, known := x.Definition.StepIndex(req.From)
	switch {
	case req.From == "":
		faults = append(faults, errs.Detail{Field: "from", Message: "is missing; give the key of a step", Code: errs.Required})
	case !known:
		faults = append(faults, errs.Detail{Field: "from", Message: "the execution has no step of this key; give one of its step keys", Code: errs.UnknownStep})
	}
	runs := map[int]bool{}
	if known {
		runs = descendants(x.Definition, from)
	}
	out := again(r, func(i int) bool { return runs[i] })
	if len(req.Inputs) > 0 {
		inputs, err := checkObject("inputs", req.Inputs, &faults)
		if err != nil {
			return Accepted{}, err
		}
		out.Inputs = inputs
	}
	for key, output := range req.Outputs {
		kept := ReusedStep{Output: bytes.TrimSpace(output)}
		index, exists := x.Definition.StepIndex(key)
		kept.Index = index
		if fault := checkOutput(kept.Output, exists, runs[index]); fault != nil {
			fault.Field = "outputs." + key
			faults = append(faults, *fault)
			continue
		}
		out.Reused = slices.DeleteFunc(out.Reused, func(k ReusedStep) bool { return k.Index == index })
		out.Reused = append(out.Reused, kept)
	}
	slices.SortFunc(out.Reused, func(a, b ReusedStep) int { return cmp.Compare(a.Index, b.Index) })
	if len(faults) > 0 {
		slices.SortStableFunc(faults, func(a, b errs.Detail) int { return strings.Compare(a.Field, b.Field) })
		return Accepted{}, errs.Invalid("request", faults)
	}
	if !x.Terminal() {
		return Accepted{}, errs.New(errs.Conflict, "the execution is %s; only one that has ended can be run again", x.Status)
	}
	return out, nil
}

// checkOutput tells what is wrong with an output that is given instead of a step's; nil for nothing.
func checkOutput(output []byte, exists, runs bool) *errs.Detail {
	switch {
	case !exists:
		return &errs.Detail{Message: "the execution has no step of this key; remove it", Code: errs.UnknownStep}
	case runs:
		return &errs.Detail{Message: "this step runs again; give outputs of steps that do not depend on it, or begin from a later step", Code: errs.BadValue}
	case len(output) > runner.MaxOutput:
		return &errs.Detail{Message: "is larger than 1 MiB; give less", Code: errs.OutOfRange}
	case !utf8.Valid(output) || !json.Valid(output):
		return &errs.Detail{Message: "is not valid JSON in UTF-8; correct it", Code: errs.BadJSON}
	}
	return nil
}

// descendants gives a step and all that depend on it.
func descendants(def *engine.Definition, from int) map[int]bool {
	found := map[int]bool{from: true}
	for next := []int{from}; len(next) > 0; {
		i := next[0]
		next = next[1:]
		for _, d := range def.Steps[i].Dependents {
			if !found[d] {
				found[d] = true
				next = append(next, d)
			}
		}
	}
	return found
}

func rerunHash(again Accepted, from string) []byte {
	parts := []string{again.RetryOf, from, compact(again.Inputs)}
	for _, k := range again.Reused {
		parts = append(parts, again.Definition.Steps[k.Index].StepKey, compact(k.Output))
	}
	for i, part := range parts {
		quoted, _ := json.Marshal(part) // strings always encode
		parts[i] = string(quoted)
	}
	return hashOf(parts...)
}
