package partitiontest

import (
	"bytes"
	"context"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
)

// StorePayload implements partition.Ledger.
func (l *Ledger) StorePayload(ctx context.Context, executionID string, payload []byte) (runner.Reference, error) {
	ref := runner.ReferTo(payload)
	if err := l.lock(ctx); err != nil {
		return ref, err
	}
	defer l.mu.Unlock()
	if l.executions[executionID] == nil {
		return ref, errs.New(errs.NotFound, "execution not found")
	}
	l.payloads[partition.PayloadID{ExecutionID: executionID, Reference: ref}] = bytes.Clone(payload)
	if l.Stored != nil {
		l.Stored(executionID, payload)
	}
	return ref, nil
}

// Payload implements partition.Ledger.
func (l *Ledger) Payload(ctx context.Context, executionID string, ref runner.Reference) ([]byte, error) {
	if err := l.lock(ctx); err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	payload, ok := l.payloads[partition.PayloadID{ExecutionID: executionID, Reference: ref}]
	if !ok {
		return nil, errs.New(errs.NotFound, "payload not found")
	}
	return bytes.Clone(payload), nil
}

// MissingPayloads implements partition.Ledger.
func (l *Ledger) MissingPayloads(ctx context.Context, wanted []partition.PayloadID) (map[partition.PayloadID]bool, error) {
	if err := l.lock(ctx); err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	missing := map[partition.PayloadID]bool{}
	for _, id := range wanted {
		if _, ok := l.payloads[id]; !ok {
			missing[id] = true
		}
	}
	return missing, nil
}

// inputsOf gives the inputs as the row of an accepted execution has them.
func (l *Ledger) inputsOf(x execution.Accepted) []byte {
	if len(x.Inputs) <= runner.MaxInline {
		return bytes.Clone(x.Inputs)
	}
	ref := runner.ReferTo(x.Inputs)
	l.payloads[partition.PayloadID{ExecutionID: x.ID, Reference: ref}] = bytes.Clone(x.Inputs)
	return ref.Payload()
}

// ForgetPayload drops a payload, as a ledger has that was restored from an earlier copy.
func (l *Ledger) ForgetPayload(id partition.PayloadID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.payloads, id)
}
