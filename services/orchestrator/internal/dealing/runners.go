package dealing

import (
	"time"

	"turbocat.io/contracts/runner"
)

// ForgottenAfter is for how long a runner counts as alive that is heard no more: three heartbeats.
const ForgottenAfter = 3*runner.HeartbeatEvery + runner.HeartbeatEvery/2

// alive is a runner that was heard.
type alive struct {
	runner.Heartbeat
	heard time.Time
}

func (a *alive) pool() string { return classOf(a.Pool, "").pool }

// Heard takes note of a runner's heartbeat.
func (d *Dealer) Heard(h runner.Heartbeat) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h.Stopping {
		delete(d.runners, h.RunnerID)
	} else {
		d.runners[h.RunnerID] = &alive{h, time.Now()}
	}
	d.resize()
}

// Listened tells whether every runner that is alive was heard by now.
func (d *Dealer) Listened() bool { return time.Since(d.began) > ForgottenAfter }

// Runners is how many runners are alive, of any pool and whatever they run.
func (d *Dealer) Runners() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.runners)
}

// pools gives those that runners are alive of. The caller has the mutex.
func (d *Dealer) pools() map[string]bool {
	pools := map[string]bool{}
	for _, r := range d.runners {
		pools[r.pool()] = true
	}
	return pools
}

// capacity adds up what the runners alive run of a class; alive are those of its pool. The caller has the mutex.
func (d *Dealer) capacity(of class) (alive, slots, runners int) {
	for _, r := range d.runners {
		if r.pool() != of.pool {
			continue
		}
		alive++
		for _, c := range r.Capacity {
			if c.AgentType == of.agentType && c.Slots > 0 {
				slots += c.Slots
				runners++
			}
		}
	}
	return alive, slots, runners
}
