package dealing

import (
	"cmp"
	"slices"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
)

// ForgottenAfter is for how long a runner counts as alive that is heard no more: three heartbeats.
const ForgottenAfter = 3*runner.HeartbeatEvery + runner.HeartbeatEvery/2

// alive is a runner that was heard.
type alive struct {
	runner.Heartbeat
	pools []string
	heard time.Time
}

// Heard takes note of a runner's heartbeat.
func (d *Dealer) Heard(h runner.Heartbeat) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h.Stopping {
		delete(d.runners, h.RunnerID)
	} else {
		d.runners[h.RunnerID] = &alive{h, catalog.PoolsOf(cmp.Or(h.Pool, subject.DefaultPool)), time.Now()}
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

// capacity adds up what the runners alive run of a class; alive are those of its pool. The caller has the mutex.
func (d *Dealer) capacity(of class) (alive, slots, runners int) {
	for _, r := range d.runners {
		if !slices.Contains(r.pools, of.pool) {
			continue
		}
		alive++
		if n := r.slots(of.agentType); n > 0 {
			slots += n
			runners++
		}
	}
	return alive, slots, runners
}

// slots is how many attempts of an agent type it runs at once.
func (a *alive) slots(agentType string) (n int) {
	for _, c := range a.Capacity {
		if c.AgentType == agentType {
			n += c.Slots
		}
	}
	return n
}
