package partition

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// holding is one partition that is held.
type holding struct {
	position Position
	relay    *relay
	verify   chan struct{}
	cancel   context.CancelFunc
	done     chan struct{} // closed when nothing of it runs any more
	current  atomic.Pointer[run]
}

// hold starts a partition. It runs until it is dropped or released, beginning anew whenever
// its run was reset or the log is another.
func (o *Owner) hold(writing context.Context, s shell, pos Position) {
	ctx, cancel := context.WithCancel(writing)
	s.log = s.log.With().Int("partition", pos.P).Logger()
	h := &holding{
		position: pos, verify: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{}),
		relay: newRelay(pos, o.ledger, o.transport, s.log, s.metrics),
	}
	o.mu.Lock()
	o.held[pos.P] = h
	o.mu.Unlock()
	go func() {
		defer close(h.done)
		var relaying sync.WaitGroup
		relaying.Go(func() { h.relay.run(ctx) })
		defer relaying.Wait()
		defer cancel()
		h.run(ctx, s)
	}()
}

func (h *holding) run(ctx context.Context, s shell) {
	pos := h.position
	faulty := map[string]string{}
	for pause := 100 * time.Millisecond; ; pause = min(pause*2, 5*time.Second) {
		h.relay.upTo(pos.EventN)
		r := newRun(s, pos, h.relay, h.verify, faulty)
		h.current.Store(r)
		err := r.work(ctx)
		if ctx.Err() != nil {
			h.finish(s, r)
			return
		}
		next, nerr := h.next(ctx, s, r, err, faulty)
		switch {
		case errors.Is(nerr, errFenced):
			r.drop()
			return
		case nerr == nil:
			pos, pause = next, 100*time.Millisecond
			continue
		}
		s.log.Warn().Err(errors.Join(err, nerr)).Msg("the partition pauses and begins again")
		r.reset("", "")
		// It begins where the ledger says and nowhere else: the run may have committed since pos was read.
		for known := false; !known; {
			select {
			case <-ctx.Done():
				h.finish(s, r)
				return
			case <-time.After(pause):
			}
			pos, known = reread(ctx, s, r)
		}
	}
}

var errFenced = errors.New("the partition has another owner")

// next gives the position from which to begin after a run that ended with err.
func (h *holding) next(ctx context.Context, s shell, r *run, err error, faulty map[string]string) (Position, error) {
	switch {
	case errors.Is(err, errReset):
		if r.fenced.Load() {
			return Position{}, errFenced
		}
		if r.culprit != "" {
			faulty[r.culprit] = r.reason
		}
		if pos, ok := reread(ctx, s, r); ok {
			return pos, nil
		}
		return Position{}, errors.New("the partition's position can not be read")
	case errors.Is(err, errOtherLog):
		if ferr := s.writer.flush(ctx, r); ferr != nil {
			return Position{}, ferr
		}
		streams, serr := s.transport.Ensure(ctx)
		if serr != nil {
			return Position{}, serr
		}
		pos, rerr := s.ledger.Rebuild(ctx, r.position.P, r.position.Epoch, max(streams.FirstSeq, 1)-1, streams.LogCreated)
		var fenced *FencedError
		if errors.As(rerr, &fenced) {
			return Position{}, errFenced
		}
		if rerr != nil {
			return Position{}, rerr
		}
		s.log.Warn().Msg("the input log is not the one that was applied; the partition goes on from the ledger")
		return pos, nil
	}
	return Position{}, err
}

// reread gives where the partition of a run that was reset stands, once nothing more of it can be committed.
func reread(ctx context.Context, s shell, r *run) (Position, bool) {
	if err := s.writer.flush(ctx, r); err != nil {
		return r.position, false
	}
	positions, err := s.ledger.Positions(ctx, []int{r.position.P})
	if err != nil || len(positions) != 1 || positions[0].Owner != r.position.Owner {
		return r.position, false
	}
	return positions[0], true
}

// drop ends a holding whose partition is another's; nothing more of it is committed.
func (h *holding) drop() {
	if r := h.current.Load(); r != nil {
		r.drop()
	}
	h.cancel()
}

// finish commits what a released run has applied.
func (h *holding) finish(s shell, r *run) {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
	defer cancel()
	if err := s.writer.flush(ctx, r); err != nil {
		s.log.Warn().Msg("not everything is committed before the hand-over; the next owner applies it again")
		r.drop()
	}
}
