package promises

import (
	"maps"
	"runtime"
	"slices"

	"turbocat.io/contracts/orchestrator"
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

// CountedTypes are the events that analytics count, each of an execution or of a run of a step that has ended.
func CountedTypes() []string {
	return []string{
		orchestrator.EventCreated.String(), orchestrator.EventCompleted.String(), orchestrator.EventFailed.String(), orchestrator.EventCancelled.String(), orchestrator.EventTimedOut.String(),
		orchestrator.EventStepCompleted.String(), orchestrator.EventStepFailed.String(), orchestrator.EventStepSkipped.String(), orchestrator.EventStepCancelled.String(),
	}
}

// Recount gives what analytics are to count by the events of a ledger.
func Recount(events []Event) map[string]int {
	counted := map[string]int{}
	for _, kind := range CountedTypes() {
		counted[kind] = 0
	}
	for _, e := range events {
		if _, counts := counted[e.Type]; counts {
			counted[e.Type]++
		}
	}
	return counted
}

// checkCounted holds analytics against the events of the ledger.
func (c *checker) checkCounted() {
	if c.Counted == nil || c.Ledger == nil {
		return
	}
	want := Recount(c.Ledger.Events)
	for _, kind := range CountedTypes() {
		if c.Counted[kind] != want[kind] {
			c.say("I6", "analytics count %d events %s, there are %d", c.Counted[kind], kind, want[kind])
		}
	}
}

// checkLeftovers checks that everything has come to its end.
func (c *checker) checkLeftovers() {
	if l := c.Ledger; l != nil && l.Living != l.Running {
		c.say("I7", "%d orchestrators count as alive, %d run", l.Living, l.Running)
	}
	if s := c.Streams; s != nil && s.Unacked > 0 {
		c.say("I7", "%d steps are with a runner", s.Unacked)
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
