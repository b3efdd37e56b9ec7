package simulation

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
	"turbocat.io/services/orchestrator/internal/partition/partitiontest"
)

func (s steps) Get(ctx context.Context, id string) (execution.Record, error) {
	loaded, err := s.ledger.Load(ctx, []string{id})
	if err != nil || len(loaded) == 0 {
		return execution.Record{}, errs.Wrap(err, errs.DependencyUnavailable, "the execution is not read")
	}
	return execution.Record{Execution: loaded[0].Execution}, nil
}

func (s steps) Payload(ctx context.Context, executionID string, ref runner.Reference) ([]byte, error) {
	return s.ledger.Payload(ctx, executionID, ref)
}

func (s steps) Secret(ctx context.Context) ([]byte, error) { return s.ledger.Secret(ctx) }

// fetch asks for the body of a step that came without one; false when there is nothing to run.
func (r *runnerProcess) fetch(chance *rand.Rand, d *partitiontest.Delivery) bool {
	for {
		ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second)
		answer, err := r.asks.AttemptBody(ctx, rpc.System("runner"), orchestrator.AttemptRequest{
			ExecutionID: d.ExecutionID, StepKey: d.StepKey, Iteration: d.Iteration, Attempt: d.Attempt, Token: d.Token,
		})
		cancel()
		switch {
		case err == nil && answer.Failure != nil:
			r.report(chance, *d, engine.Input{Kind: engine.StepFailed, Step: d.StepKey, Iteration: d.Iteration, Token: d.Token, Err: answer.Failure})
			return false
		case err == nil && answer.Body == nil:
			r.w.witness.declined(*d)
			r.w.trace.note("%s: %s of %s has no body any more", r.name, d.StepKey, short(d.ExecutionID))
			r.ack(chance, *d)
			return false
		case err == nil:
			d.Body = answer.Body
			return true
		}
		if pause(r.ctx, 200*time.Millisecond+lag(chance)) != nil {
			return false
		}
	}
}

// store keeps an output in the ledger and refers to it; false when the runner dies. The ledger may lose it at once, as one has that was restored
// from an earlier copy.
func (r *runnerProcess) store(chance *rand.Rand, d partitiontest.Delivery, in *engine.Input) bool {
	var ref runner.Reference
	for {
		ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second)
		var err error
		ref, err = r.ledger.StorePayload(ctx, d.ExecutionID, in.Output)
		cancel()
		if err == nil {
			break
		}
		if pause(r.ctx, 200*time.Millisecond+lag(chance)) != nil {
			return false
		}
	}
	if !r.w.healthy.Load() && d.Dispatch == 1 && chance.Float64() < r.w.profile.forgets {
		id := partition.PayloadID{ExecutionID: d.ExecutionID, Reference: ref}
		r.w.witness.forgotten(id)
		r.w.ledger.ForgetPayload(id)
		r.w.witness.hit(d.Token, "the ledger has lost its output")
	}
	in.Output, in.Dispatch = ref.Payload(), d.Dispatch
	return !r.dies(chance, d, "once its output is stored")
}

// stored notes a payload that the ledger has.
func (v *witness) stored(executionID string, payload []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.payloads[partition.PayloadID{ExecutionID: executionID, Reference: runner.ReferTo(payload)}] = bytes.Clone(payload)
}

// forgotten notes a payload that it has no more.
func (v *witness) forgotten(id partition.PayloadID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.payloads, id)
}

// missing tells whether an output refers to what the ledger has not; v.mu is held.
func (v *witness) missing(executionID string, output []byte) bool {
	ref, stored := runner.ReferenceOf(output)
	return stored && v.payloads[partition.PayloadID{ExecutionID: executionID, Reference: ref}] == nil
}

// whole gives a batch with its payloads, and holds that the ledger has all that it refers to; v.mu is held.
func (v *witness) whole(b partition.Batch) partition.Batch {
	payload := func(id string, raw json.RawMessage) json.RawMessage {
		ref, stored := runner.ReferenceOf(raw)
		if !stored {
			return raw
		}
		if v.missing(id, raw) {
			v.failed("what is committed of %s refers to a payload of %d bytes that the ledger has not", id, ref.Size)
		}
		return v.payloads[partition.PayloadID{ExecutionID: id, Reference: ref}]
	}
	executions, rows := make([]partition.ExecutionRow, len(b.Executions)), make([]partition.StepRow, len(b.Steps))
	for i, x := range b.Executions {
		x.Outputs = payload(x.ID, x.Outputs)
		executions[i] = x
	}
	for i, s := range b.Steps {
		s.Output = payload(s.ExecutionID, s.Output)
		rows[i] = s
	}
	b.Executions, b.Steps = executions, rows
	return b
}

// unfold puts the payloads of an execution where its state refers to them.
func (w *world) unfold(ctx context.Context, x *engine.Execution) {
	failed := partition.NewPayloads(w.ledger).Lend(ctx, x)
	x.Outputs = x.Whole(x.Outputs)
	for i := range x.Steps {
		x.Steps[i].Output = x.Whole(x.Steps[i].Output)
	}
	if err := failed(); err != nil {
		w.witness.fail("%v", err)
	}
}
