package simulation

import (
	"fmt"
	"math/rand/v2"
	"time"

	"turbocat.io/services/orchestrator/internal/partition/partitiontest"
)

// profile is what kind of world a seed makes. Each seed has a few kinds of faults, so that one
// kind does not hide what another would show.
type profile struct {
	partitions int
	owners     int
	runners    int
	slots      int // of each runner
	executions int
	length     time.Duration // during which faults come and clients submit
	slow       bool          // steps take minutes
	calm       bool          // nothing goes wrong

	ledger    partitiontest.Faults
	transport partitiontest.Faults
	runner    runnerFaults

	kills, stops, freezes, cuts int // of owners
	restarts, losses, rollbacks int // of NATS
	drops                       int // of one of its streams
	mutes                       int // of the readers of the log
	outages                     int // of the ledger
	disasters                   int // everything dies at once
	runnerKills, crashes        int
	junk                        int           // inputs that are none
	poisoned                    bool          // an execution that the ledger refuses, and one that Apply panics on
	ledgerClock, jetstreamClock time.Duration // how far they are off
	unheard                     bool          // no orchestrator hears that there are runners
	users                       int           // who submit the executions
	cancels                     float64       // share of the executions
	unsaid                      float64       // share of the `submitted` and of the commands that clients never send
	impatient                   float64       // share of the clients that submit again, with the same key
	mixed                       float64       // share of the workflows that have steps of every type
	pauses                      float64       // share of the executions that are paused for a while
	repeats                     float64       // share of the commands that come twice
	patient                     bool          // signals come, and pauses last, for minutes: executions leave the memory of their owners
	ambush                      float64       // share of the commits with items, commands, compensations or freed slots after which all owners die
	children                    float64       // share of the steps of AGENTs that are other executions
	limited                     float64       // share of the executions that a concurrency limit counts
	inline                      int           // the largest payload that owners keep as it is; 0 for the usual
	stored                      float64       // share of the outputs that runners store, and refer to
	forgets                     float64       // share of those that the ledger has lost when they are reported
}

// runnerFaults are what may happen to an attempt: probabilities.
type runnerFaults struct {
	die    float64 // the runner ends, at one of the points of an attempt
	freeze float64 // the runner is stopped for longer than its lease
	twice  float64 // the result is reported twice
	late   float64 // the result is repeated much later, when its token is old
	lose   float64 // the report does not arrive and is repeated, or its PubAck is lost
	ack    float64 // the ack is lost
}

func drawProfile(r *rand.Rand) profile {
	some := func(p float64) float64 { // a rate, in half of the worlds
		if r.Float64() < 0.5 {
			return 0
		}
		return p * r.Float64()
	}
	often := func(most int) int {
		if r.Float64() < 0.6 {
			return 0
		}
		return 1 + r.IntN(most)
	}
	p := profile{
		partitions: []int{1, 2, 4, 4, 4, 8}[r.IntN(6)], owners: 1 + r.IntN(3), runners: 1 + r.IntN(3), slots: 16,
		executions: 2 + r.IntN(11), length: time.Duration(20+r.IntN(80)) * time.Second,
	}
	if r.IntN(100) == 0 {
		p.partitions = 32
	}
	if r.IntN(5) >= 2 {
		p.mixed = 0.5 + 0.5*r.Float64()
	}
	p.pauses = some(1)
	p.unheard, p.users = r.IntN(4) == 0, 1+r.IntN(4)
	if p.calm = r.IntN(12) == 0; p.calm {
		p.limit(r)
		p.bear(r)
		p.store(r)
		return p
	}
	if r.IntN(6) == 0 {
		p.slots = 1 + r.IntN(2)
	}
	if p.slow = r.IntN(8) == 0; p.slow {
		p.length = time.Duration(4+r.IntN(8)) * time.Minute
		p.executions = 1 + r.IntN(4)
	}
	faults := func() partitiontest.Faults {
		return partitiontest.Faults{
			Fail: some(0.1), Drop: some(0.1), Lose: some(0.1), Late: some(0.05), Slow: some(0.15), Twice: some(0.1),
			SlowBy: []time.Duration{100 * time.Millisecond, 1500 * time.Millisecond, 4 * time.Second}[r.IntN(3)],
		}
	}
	p.ledger, p.transport = faults(), faults()
	p.runner = runnerFaults{die: some(0.1), freeze: some(0.05), twice: some(0.2), late: some(0.2), lose: some(0.2), ack: some(0.1)}
	p.kills, p.stops, p.freezes, p.cuts = often(5), often(3), often(4), often(3)
	p.restarts, p.losses, p.rollbacks, p.drops = often(3), often(2), often(3), often(2)
	p.outages, p.disasters, p.runnerKills, p.junk = often(3), often(2), often(4), often(10)
	if p.disasters > 0 {
		p.runner.late += 0.3 * r.Float64()
	}
	if p.slow { // steps outlive what STEPS remembers of them, and their owners
		p.kills += 2 + r.IntN(4)
		p.transport.Slow += 0.3 * r.Float64()
		if r.IntN(2) == 0 { // and nothing else hits them
			p.restarts, p.losses, p.rollbacks, p.drops, p.disasters, p.runner = 0, 0, 0, 0, 0, runnerFaults{}
			p.transport.SlowBy = 4 * time.Second
		}
	}
	p.poisoned = r.IntN(8) == 0
	if r.IntN(3) == 0 {
		p.ledgerClock = time.Duration(r.Int64N(int64(20*time.Minute))) - 10*time.Minute
		p.jetstreamClock = time.Duration(r.Int64N(int64(20*time.Minute))) - 10*time.Minute
	}
	p.cancels, p.unsaid, p.impatient, p.repeats = some(0.5), some(0.3), some(0.5), some(0.3)
	p.ambush = some(0.1)
	p.crashes = often(4)
	p.patient = r.IntN(4) == 0
	p.limit(r)
	p.bear(r)
	p.mutes = often(3)
	p.store(r)
	if p.stored > 0 && r.IntN(2) == 0 {
		p.forgets = 0.3 * r.Float64()
	}
	return p
}

// store has payloads stored, in half of the worlds.
func (p *profile) store(r *rand.Rand) {
	if r.IntN(2) == 0 {
		return
	}
	p.inline, p.stored = 10+r.IntN(200), 0.2+0.8*r.Float64()
}

// limit lets executions compete for slots, in half of the worlds.
func (p *profile) limit(r *rand.Rand) {
	if r.IntN(2) == 0 {
		return
	}
	p.limited = 0.4 + 0.6*r.Float64()
	p.executions += r.IntN(8)
}

// bear lets steps be other executions, in one of eight worlds. They may be of any partition.
func (p *profile) bear(r *rand.Rand) {
	if r.IntN(8) > 0 {
		return
	}
	p.children = 0.1 + 0.4*r.Float64()
	p.partitions, p.executions = 32, 1+r.IntN(5)
}

func (p profile) String() string {
	type plain profile
	return fmt.Sprintf("%+v", plain(p))
}
