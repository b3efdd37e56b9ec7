package partition

import (
	"sync"

	"turbocat.io/services/orchestrator/internal/engine"
)

const (
	// maxArrivals bounds how many executions of a partition are kept for it that were accepted here.
	maxArrivals = 256
	// maxArrival bounds the bytes of the inputs of one.
	maxArrival = 16 << 10
)

// arrivals are executions of a partition that its own process accepts: they need not be read from the ledger. What arrives is there as
// it was accepted: an execution is expected before it is committed, and no more once anything of it was read.
type arrivals struct {
	mu       sync.Mutex
	expected map[string]*engine.Execution // nil until it is committed
}

// expect says that an execution is about to be committed. The function is called once, with its state if it was.
func (a *arrivals) expect(id string) func(*engine.Execution) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.expected) >= maxArrivals {
		return func(*engine.Execution) {}
	}
	if a.expected == nil {
		a.expected = map[string]*engine.Execution{}
	}
	a.expected[id] = nil
	return func(x *engine.Execution) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if _, still := a.expected[id]; !still {
			return
		}
		if a.expected[id] = x; x == nil || len(x.Inputs) > maxArrival {
			delete(a.expected, id)
		}
	}
}

// take gives an execution that has arrived, or nil, and expects it no more.
func (a *arrivals) take(id string) *engine.Execution {
	a.mu.Lock()
	defer a.mu.Unlock()
	x := a.expected[id]
	delete(a.expected, id)
	return x
}

// Expect says that an execution is about to be accepted by this process, under an id that is new. The function is called once, before Submitted is put into
// the log: with the execution as it was committed, or with nil when it was not, or is not known to be. That spares whoever owns the partition
// reading it. It may be called at any time; for partitions of others it does nothing.
func (o *Owner) Expect(p int, id string) func(*engine.Execution) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if h := o.held[p]; h != nil {
		if r := h.current.Load(); r != nil {
			return r.arrivals.expect(id)
		}
	}
	return func(*engine.Execution) {}
}
