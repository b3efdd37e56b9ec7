package partition

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

// PayloadID names a stored payload.
type PayloadID struct {
	ExecutionID string
	runner.Reference
}

// PayloadStore is where payloads are that are too large to be held in memory.
type PayloadStore interface {
	// Payload gives a stored payload; NOT_FOUND when it is not there.
	Payload(ctx context.Context, executionID string, ref runner.Reference) ([]byte, error)
}

// cachedBytes bounds what Payloads keeps.
const cachedBytes = 128 << 20

// Payloads reads stored payloads, and keeps those that were read last. It is safe for concurrent use.
type Payloads struct {
	store PayloadStore

	mu     sync.Mutex
	cached *simplelru.LRU[PayloadID, []byte]
	bytes  int
}

// NewPayloads makes Payloads over a store.
func NewPayloads(store PayloadStore) *Payloads {
	p := &Payloads{store: store}
	p.cached, _ = simplelru.NewLRU(cachedBytes/runner.MaxInline, func(_ PayloadID, payload []byte) { p.bytes -= len(payload) }) // it refuses sizes below 1 alone
	return p
}

// Get gives a payload of an execution; NOT_FOUND when it is not there.
func (p *Payloads) Get(ctx context.Context, executionID string, ref runner.Reference) (json.RawMessage, error) {
	id := PayloadID{executionID, ref}
	p.mu.Lock()
	payload, known := p.cached.Get(id)
	p.mu.Unlock()
	if known {
		return payload, nil
	}
	payload, err := p.store.Payload(ctx, executionID, ref)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.cached.Contains(id) {
		p.bytes += len(payload)
		p.cached.Add(id, payload)
	}
	for p.bytes > cachedBytes {
		p.cached.RemoveOldest()
	}
	return payload, nil
}

// Lend lets a state that nobody else has read what is stored of it. failed tells what could not be read, so that what was made of the state
// is not to be used.
func (p *Payloads) Lend(ctx context.Context, x *engine.Execution) (failed func() error) {
	var failure error
	x.Payloads = func(ref runner.Reference) json.RawMessage {
		payload, err := p.Get(ctx, x.ID, ref)
		if err != nil {
			failure = fmt.Errorf("read a payload of execution %s: %w", x.ID, err)
			return nil
		}
		return payload
	}
	return func() error { return failure }
}

// reader gives an execution in memory what it refers to, however long the database is away. What can not be had ends the run before
// anything of it is committed: with an execution that the next one fails, when the ledger has not what it refers to.
func (r *run) reader(ctx context.Context, id string) func(runner.Reference) json.RawMessage {
	return func(ref runner.Reference) json.RawMessage {
		var payload json.RawMessage
		err := r.whileAway(ctx, func() (err error) {
			payload, err = r.payloads.Get(ctx, id, ref)
			return err
		})
		switch {
		case err == nil:
			return payload
		case errs.CodeOf(err) == errs.NotFound && r.faulty[id] != "": // it is failed, and undone without it
			return nil
		case errs.CodeOf(err) == errs.NotFound:
			r.log.Error().Str("executionId", id).Err(err).Msg("a payload is not in the ledger; the execution will be failed")
			r.reset(id, "a payload of the execution is not in the ledger")
		default:
			r.reset("", "")
		}
		return nil
	}
}

// whileAway repeats what asks the ledger until that answers.
func (r *run) whileAway(ctx context.Context, ask func() error) error {
	for pause := 20 * time.Millisecond; ; pause = min(pause*2, time.Second) {
		err := ask()
		if err == nil || errs.CodeOf(err) != errs.DependencyUnavailable {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// markMissing notes which results of a batch the ledger has not: one that was restored from a backup may be behind the log.
func (r *run) markMissing(ctx context.Context, batch []Message) error {
	var wanted []PayloadID
	for _, m := range batch {
		if id, stored := payloadOf(m); stored && r.live[m.ExecutionID] != nil {
			wanted = append(wanted, id)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	return r.whileAway(ctx, func() error {
		missing, err := r.ledger.MissingPayloads(ctx, wanted)
		for i := range batch {
			if id, stored := payloadOf(batch[i]); stored && err == nil {
				batch[i].Input.Missing = missing[id]
			}
		}
		return err
	})
}

func payloadOf(m Message) (PayloadID, bool) {
	ref, stored := runner.ReferenceOf(m.Input.Output)
	return PayloadID{m.ExecutionID, ref}, stored
}

// keep gives what stands for a payload of an execution: itself, or a reference once it is stored.
func (r *run) keep(ctx context.Context, executionID string, payload json.RawMessage) (json.RawMessage, error) {
	if len(payload) <= r.inline {
		return payload, nil
	}
	ref, err := r.ledger.StorePayload(ctx, executionID, payload)
	return ref.Payload(), err
}
