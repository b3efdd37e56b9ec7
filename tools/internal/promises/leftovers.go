package promises

import (
	"maps"
	"runtime"
	"slices"
)

// checkTotals recounts.
func (c *checker) checkTotals() {
	if c.Totals != nil {
		counted := map[string]int{}
		for i := range c.Executions {
			if last := c.Executions[i].last(); last != nil {
				counted[last.Status]++
				counted[""]++
			}
		}
		for status := range c.Totals {
			counted[status] += 0
		}
		for _, status := range slices.Sorted(maps.Keys(counted)) {
			if c.Totals[status] != counted[status] {
				c.say("I6", "the API counts %d executions with the status %q, there are %d", c.Totals[status], status, counted[status])
			}
		}
	}
	if c.Ledger == nil {
		return
	}
	accepted := map[string]bool{}
	for i := range c.Executions {
		x := &c.Executions[i]
		accepted[x.ID] = true
		status, ok := c.Ledger.Statuses[x.ID]
		if last := x.last(); !ok {
			c.say("I1", "the execution %s was accepted at %s and is not in the ledger", x.ID, clock(x.AcceptedAt))
		} else if last != nil && last.Status != status {
			c.say("I5", "the execution %s is %s in the ledger and was read as %s", x.ID, status, last.Status)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.Ledger.Statuses)) {
		if !accepted[id] {
			c.say("I2", "the execution %s is in the ledger, and no client was told of it although all repeated their requests", id)
		}
	}
}

// checkLeftovers checks that everything has come to its end.
func (c *checker) checkLeftovers() {
	if l := c.Ledger; l != nil {
		for _, step := range l.Unended {
			c.say("I7", "the step %s has not ended, its execution has", step)
		}
		for _, p := range l.Partitions {
			switch {
			case !p.Leased:
				c.say("I7", "nobody has the partition %d; its lease of %q has run out", p.P, p.Owner)
			case !slices.Contains(l.Owners, p.Owner):
				c.say("I7", "the partition %d is leased to %q, which does not live", p.P, p.Owner)
			}
			if p.PublishedN != p.EventN {
				c.say("I7", "the partition %d has published its events up to %d of %d", p.P, p.PublishedN, p.EventN)
			}
		}
		if len(l.Owners) != l.Orchestrators {
			c.say("I7", "%d orchestrators count as alive, %d run", len(l.Owners), l.Orchestrators)
		}
		if l.Commands > 0 {
			c.say("I7", "%d commands are not applied", l.Commands)
		}
		if l.Stops > 0 {
			c.say("I7", "runners are not told of %d stopped attempts", l.Stops)
		}
		for _, letter := range l.DeadLetters {
			c.say("I7", "an input is a dead letter: %s", letter)
		}
	}
	if s := c.Streams; s != nil && (s.Steps > 0 || s.Unacked > 0) {
		c.say("I7", "STEPS has %d messages, %d of them with a runner", s.Steps, s.Unacked)
	}
}

// checkProcesses checks that what a load took was given back: what was held before, a tenth, and what a process may
// keep for later.
func (c *checker) checkProcesses() {
	for _, p := range c.Processes {
		for _, f := range []struct {
			what          string
			before, after int
			keeps         int
		}{
			{"goroutines", p.Before.Goroutines, p.Then.Goroutines, 24},
			{"bytes of memory", p.Before.Resident, p.Then.Resident, 64 << 20},
			{"descriptors", p.Before.Descriptors, p.Then.Descriptors, 16},
			{"connections to NATS", p.Before.NATS, p.Then.NATS, 0},
			{"connections to PostgreSQL", p.Before.Postgres, p.Then.Postgres, 10},              // a pool
			{"connections to Redis", p.Before.Redis, p.Then.Redis, 10 * runtime.GOMAXPROCS(0)}, // likewise
		} {
			if f.before >= 0 && f.after > f.before+f.before/10+f.keeps {
				c.say("I8", "%s holds %d %s after the load and held %d before it", p.Name, f.after, f.what, f.before)
			}
		}
	}
}
