package partition

import (
	"context"
	"time"

	"turbocat.io/services/orchestrator/internal/engine"
)

const (
	// nearbyMs is how long before its timer is due a sleeping execution is watched. It is looked for every reconcileEvery.
	nearbyMs = 30_000
	// restFor is how long after its last input an execution stays in memory.
	restFor = 5 * time.Second
)

// nearby is the time up to which timers are watched.
func (r *run) nearby() engine.Time { return r.clock.now().Add(nearbyMs) }

// sleepsUntil is when an execution is to be watched again that nothing is at work for; 0 while something is.
func sleepsUntil(x *engine.Execution) engine.Time {
	switch due := x.NextDue(); {
	case !x.Sleeps():
		return 0
	case due == 0:
		return Forever
	default:
		return due
	}
}

// forgetSleeping drops executions that only wait, for a signal or for a time that is far, and whose state is committed. The
// next input of theirs reads them again; when their timer is near, lookUp finds them.
func (r *run) forgetSleeping() {
	if r.catchingUp {
		return
	}
	committed, near := r.committedSeq.Load(), r.nearby()
	for id, l := range r.live {
		if l.seq <= committed && time.Since(l.at) > restFor && sleepsUntil(l.x) > near {
			delete(r.live, id)
		}
	}
	r.inMemory.Store(int64(len(r.live)))
}

// lookUp reads, in the background, which executions of the ledger sleep until soon.
func (r *run) lookUp(ctx context.Context) {
	if !r.lookingUp.CompareAndSwap(false, true) {
		return
	}
	until := r.nearby()
	r.background.Go(func() {
		defer r.lookingUp.Store(false)
		due, err := r.ledger.Waking(ctx, r.position.P, until)
		if err != nil {
			r.log.Warn().Err(err).Msg("which timers are due soon is not known; asking again")
			return
		}
		select {
		case r.lookedUp <- due:
		case <-ctx.Done():
		}
	})
}

// wakeLater watches the timers of executions that are not in memory.
func (r *run) wakeLater(due map[string]engine.Time) {
	for id, at := range due {
		if r.live[id] == nil && r.waking[id] == 0 {
			r.waking[id] = at
			r.timers.add(at, id)
		}
	}
}
