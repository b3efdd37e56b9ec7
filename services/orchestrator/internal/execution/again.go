package execution

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/rawjson"
	"turbocat.io/services/orchestrator/internal/engine"
)

// retryable are the statuses from which an execution is retried.
var retryable = []string{orchestrator.ExecutionFailed, orchestrator.ExecutionCancelled, orchestrator.ExecutionTimeout}

// Retry accepts an execution that runs what has not completed in an ended one. It needs neither the workflow nor its agents
// to be ACTIVE: the definition is the ended one's. Without an idempotency key it is not safe to repeat.
func (s *Service) Retry(ctx context.Context, caller rpc.Caller, req orchestrator.RetryRequest) (orchestrator.SubmitResponse, error) {
	record, err := s.named(ctx, caller, req.ID, req.IdempotencyKey)
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

// named gives an execution that a caller wants run again under a key.
func (s *Service) named(ctx context.Context, caller rpc.Caller, id, key string) (Record, error) {
	var faults []errs.Detail
	checkKey(key, &faults)
	if len(faults) > 0 {
		return Record{}, errs.Invalid("request", faults)
	}
	return s.Visible(ctx, caller, id)
}

// retryOf decides what runs again of an execution that is retried.
func retryOf(r Record) (Accepted, error) {
	if !slices.Contains(retryable, r.Execution.Status) {
		return Accepted{}, errs.New(errs.Conflict, "the execution is %s; only one that is %s can be retried", r.Execution.Status, strings.Join(retryable, ", "))
	}
	if err := undone(r); err != nil {
		return Accepted{}, err
	}
	return again(r, runsAgain(r)), nil
}

// runsAgain gives the COMPLETED steps that run again: those that were undone, those from which somebody wants it, and all
// that depend on them.
func runsAgain(r Record, from ...int) map[int]bool {
	return descendants(r.Execution.Definition, append(from, r.Execution.Compensated()...))
}

// again is an execution like another, in which its COMPLETED steps keep their results, but for those that run.
func again(r Record, runs map[int]bool) Accepted {
	x := r.Execution
	out := Accepted{
		Definition: r.Definition, DefinitionHash: r.DefinitionHash, TriggerType: orchestrator.TriggerAPI, Priority: x.Priority, Inputs: x.Inputs, RetryOf: x.ID, CompensationOf: x.CompensationOf,
	}
	for i := range x.Steps {
		if x.Steps[i].Status == orchestrator.StepCompleted && !runs[i] {
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
	view, err := s.view(ctx, record)
	return orchestrator.SubmitResponse{Execution: view, Replayed: outcome.Replayed}, err
}

func (s *Service) acceptAgain(ctx context.Context, caller rpc.Caller, again Accepted) (Outcome, error) {
	if caller.UserID == "" {
		return Outcome{}, errs.New(errs.Unauthorized, "only a user runs executions again; sign in")
	}
	if before, err := s.acceptor.admit(ctx, caller.UserID, again.Key); err != nil || before.Replayed {
		return before, err
	}
	if ref, stored := runner.ReferenceOf(again.Inputs); stored && again.Definition.Concurrency != nil { // the limit's key is made of them
		inputs, err := s.payloads.Get(ctx, again.RetryOf, ref)
		if err != nil {
			return Outcome{}, err
		}
		again.Inputs = inputs
	}
	again.ID, again.Caller, again.CreatedAt = uuid.Must(uuid.NewV7()).String(), caller, time.Now().UTC()
	return s.acceptor.Accept(ctx, again)
}

// Rerun accepts an execution that runs an ended one again from a step on. Without an idempotency key it is not safe to repeat.
func (s *Service) Rerun(ctx context.Context, caller rpc.Caller, req orchestrator.RerunRequest) (orchestrator.SubmitResponse, error) {
	record, err := s.Visible(ctx, caller, req.ID)
	if err != nil {
		return orchestrator.SubmitResponse{}, err
	}
	again, err := rerunOf(record, req)
	if err != nil {
		return orchestrator.SubmitResponse{}, err
	}
	if len(req.Inputs) > 0 {
		compiled, err := compileInputs(record.Definition.InputSchema)
		if err != nil {
			return orchestrator.SubmitResponse{}, err
		}
		if err := checkInputs(ctx, compiled, again.Inputs); err != nil {
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
		runs = runsAgain(r, from)
	}
	out := again(r, runs)
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
	if x.CompensationOf != "" {
		for i := range runs {
			if x.Steps[i].Status == orchestrator.StepCompleted {
				return Accepted{}, errs.New(errs.Conflict, "the step %s is undone; a compensation undoes nothing twice, so run it again from a step that has not COMPLETED", x.Definition.Steps[i].Key)
			}
		}
	}
	return out, undone(r)
}

// checkOutput tells what is wrong with an output that is given instead of a step's; nil for nothing.
func checkOutput(output []byte, exists, runs bool) *errs.Detail {
	switch {
	case !exists:
		return &errs.Detail{Message: "the execution has no step of this key; remove it", Code: errs.UnknownStep}
	case runs:
		return &errs.Detail{Message: "this step runs again; give outputs of steps that do not depend on it, or begin from a later step", Code: errs.BadValue}
	case len(output) > runner.MaxOutput:
		return &errs.Detail{Message: "is larger than 64 MiB; give less", Code: errs.OutOfRange}
	}
	if fault := rawjson.Fault(output); fault != "" {
		return &errs.Detail{Message: fault, Code: errs.BadJSON}
	}
	return nil
}

// descendants gives steps and all that depend on them.
func descendants(def *engine.Definition, from []int) map[int]bool {
	found := map[int]bool{}
	for _, i := range from {
		found[i] = true
	}
	for next := from; len(next) > 0; {
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
