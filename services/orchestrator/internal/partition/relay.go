package partition

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

const (
	// relayBatch is how many events are on their way at once.
	relayBatch = 512
	// relayBuffer is how many committed events wait in memory; beyond it they are read again from the ledger.
	relayBuffer = 20_000
)

// relay publishes the committed events of one partition in the order of their numbers. An
// event may be published twice, never before it is committed.
type relay struct {
	p         int
	ledger    Ledger
	transport Transport
	log       zerolog.Logger
	metrics   *metrics
	published atomic.Uint64 // number of the last event that EVENTS has taken

	mu      sync.Mutex
	queue   []EventRow // committed, in order; may begin later than published+1
	last    uint64     // number of the last committed event
	arrived chan struct{}
}

func newRelay(pos Position, ledger Ledger, transport Transport, log zerolog.Logger, m *metrics) *relay {
	r := &relay{p: pos.P, ledger: ledger, transport: transport, log: log, metrics: m, arrived: make(chan struct{}, 1)}
	r.published.Store(pos.PublishedN)
	return r
}

// push hands over events that are committed now.
func (r *relay) push(events []EventRow) {
	if len(events) == 0 {
		return
	}
	r.mu.Lock()
	r.last = events[len(events)-1].N
	if len(r.queue)+len(events) <= relayBuffer {
		r.queue = append(r.queue, events...)
	} else {
		r.queue = nil
	}
	r.mu.Unlock()
	r.signal()
}

// upTo says that the ledger has events up to number n.
func (r *relay) upTo(n uint64) {
	r.mu.Lock()
	r.last = max(r.last, n)
	r.mu.Unlock()
	r.signal()
}

func (r *relay) signal() {
	select {
	case r.arrived <- struct{}{}:
	default:
	}
}

func (r *relay) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.arrived:
		}
		pause := 50 * time.Millisecond
		for r.behind() && ctx.Err() == nil {
			err := r.publishNext(ctx)
			if err == nil {
				pause = 50 * time.Millisecond
				continue
			}
			r.metrics.publishFailures.Inc()
			r.log.Warn().Err(err).Msg("public events wait; publishing is tried again")
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			pause = min(pause*2, 2*time.Second)
		}
	}
}

func (r *relay) behind() bool { return r.waiting() > 0 }

// waiting is how many committed events EVENTS has not taken yet.
func (r *relay) waiting() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	published := r.published.Load()
	return max(r.last, published) - published
}

func (r *relay) publishNext(ctx context.Context) error {
	batch, err := r.next(ctx)
	if err != nil || len(batch) == 0 {
		return err
	}
	results := make(chan error, len(batch))
	for _, e := range batch {
		r.transport.Publish(e, func(err error) { results <- err })
	}
	var failed error
	for range batch {
		select {
		case err := <-results:
			if err != nil {
				failed = err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if failed != nil {
		return failed // all of them again: who reads drops what it has
	}
	r.published.Store(batch[len(batch)-1].N)
	r.metrics.published.Add(float64(len(batch)))
	return nil
}

// next gives the events that follow the last published one, from memory if they are there.
func (r *relay) next(ctx context.Context) ([]EventRow, error) {
	published := r.published.Load()
	r.mu.Lock()
	for len(r.queue) > 0 && r.queue[0].N <= published {
		r.queue = r.queue[1:]
	}
	if len(r.queue) > 0 && r.queue[0].N == published+1 {
		n := min(len(r.queue), relayBatch)
		batch := r.queue[:n:n]
		r.mu.Unlock()
		return batch, nil
	}
	r.mu.Unlock()
	return r.ledger.Events(ctx, r.p, published, relayBatch)
}
