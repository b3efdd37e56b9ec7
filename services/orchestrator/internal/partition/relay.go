package partition

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

const (
	// relayBatch and relayBytes bound the events of one message; a larger event goes alone.
	relayBatch = 512
	relayBytes = 256 << 10
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
	read      []EventRow    // from the ledger, what follows that one; only for run

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
	batch = fitting(batch)
	result := make(chan error, 1)
	r.transport.Publish(batch, func(err error) { result <- err })
	// One message after the other, so that EVENTS has none before one that it lacks.
	select {
	case err := <-result:
		if err != nil {
			return err // again: who reads drops what it has
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	last := batch[len(batch)-1].N
	r.published.Store(last)
	r.read = after(last, r.read)
	r.metrics.published.Add(float64(len(batch)))
	return nil
}

// fitting gives as many events from the front as one message may hold, at least one.
func fitting(events []EventRow) []EventRow {
	size := 0
	for i, e := range events {
		if size += len(e.Body) + 1; size > relayBytes && i > 0 {
			return events[:i]
		}
	}
	return events
}

// next gives the events that follow the last published one, from memory if they are there.
func (r *relay) next(ctx context.Context) ([]EventRow, error) {
	published := r.published.Load()
	r.mu.Lock()
	r.queue = after(published, r.queue)
	queue := r.queue
	r.mu.Unlock()
	if len(queue) > 0 && queue[0].N == published+1 {
		return firstOf(queue), nil
	}
	if len(r.read) == 0 {
		var err error
		if r.read, err = r.ledger.Events(ctx, r.p, published, relayBatch); err != nil {
			return nil, err
		}
	}
	return firstOf(r.read), nil
}

// after gives those of events, which are in order, that come after a number.
func after(n uint64, events []EventRow) []EventRow {
	i := slices.IndexFunc(events, func(e EventRow) bool { return e.N > n })
	if i < 0 {
		return nil
	}
	return events[i:]
}

// firstOf gives no more events than one message may have.
func firstOf(events []EventRow) []EventRow {
	n := min(len(events), relayBatch)
	return events[:n:n]
}
