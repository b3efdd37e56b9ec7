package simulation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
)

// happen plans the n-th fault of a kind at a moment of the world.
func (w *world) happen(kind string, n int, what func(r *rand.Rand)) {
	r := w.chance.Draw("happening", kind, fmt.Sprint(n))
	w.after(time.Duration(r.Int64N(int64(w.profile.length))), func() {
		if !w.healthy.Load() {
			what(r)
		}
	})
}

// plan decides on everything that is going to go wrong.
func (w *world) plan() {
	p := w.profile
	slot := func(r *rand.Rand) int { return r.IntN(p.owners) }
	for n := range p.kills {
		w.happen("kill", n, func(r *rand.Rand) {
			s := slot(r)
			w.killOwner(s)
			w.startLater(r, s)
		})
	}
	for n := range p.stops {
		w.happen("stop", n, func(r *rand.Rand) {
			s := slot(r)
			w.stopOwner(s)
			w.startLater(r, s)
		})
	}
	for n := range p.freezes {
		w.happen("freeze", n, func(r *rand.Rand) {
			if o := w.owner(slot(r)); o != nil {
				w.witness.fault("%s is stopped for a while", o.name)
				w.witness.bereaved()
				o.process.Freeze()
				w.later(r, 30*time.Second, func() {
					w.trace.note("%s goes on", o.name)
					o.process.Thaw()
				})
			}
		})
	}
	for n := range p.cuts {
		w.happen("cut", n, func(r *rand.Rand) {
			o := w.owner(slot(r))
			if o == nil {
				return
			}
			which, cut := "the ledger", o.process.CutLedger
			if r.IntN(2) == 0 {
				which, cut = "NATS", o.process.CutJetStream
			}
			w.witness.fault("%s is cut off from %s", o.name, which)
			w.witness.bereaved()
			cut(true)
			w.later(r, 15*time.Second, func() {
				w.trace.note("%s has %s again", o.name, which)
				cut(false)
			})
		})
	}
	for n := range p.outages {
		w.happen("outage", n, func(r *rand.Rand) {
			w.witness.fault("the ledger is away")
			w.witness.bereaved()
			w.ledger.SetAway(true)
			w.later(r, 20*time.Second, func() {
				w.trace.note("the ledger is back")
				w.ledger.SetAway(false)
			})
		})
	}
	for n := range p.runnerKills {
		w.happen("runner", n, func(r *rand.Rand) {
			s := r.IntN(p.runners)
			w.killRunner(s)
			w.later(r, 10*time.Second, func() { w.startRunner(s) })
		})
	}
	for n := range p.crashes { // as when all services are one process
		w.happen("crash", n, func(r *rand.Rand) {
			w.restartNATS(w.chance.Draw("happening", "crash of NATS", fmt.Sprint(n)), "crashes", func() {})
			for s := range p.owners {
				w.killOwner(s)
				w.startLater(r, s)
			}
			for s := range p.runners {
				w.killRunner(s)
				w.later(r, time.Second, func() { w.startRunner(s) })
			}
		})
	}
	for n := range p.junk {
		w.happen("junk", n, func(*rand.Rand) { w.disturb(n) })
	}
	w.planNATS()
}

// mute has the consumers that read the log be on a server that lags.
func (w *world) mute() {
	w.witness.fault("a server of NATS lags, and its consumers deliver nothing")
	w.server.Mute()
}

// ambush kills all owners when something has just been committed that they were about to go on with.
func (w *world) ambush(b partition.Batch) {
	items := slices.ContainsFunc(b.Steps, func(s partition.StepRow) bool { return s.Iteration > 0 })
	begets := slices.ContainsFunc(b.Steps, func(s partition.StepRow) bool { return s.Child != "" }) || len(b.Cancels) > 0
	freed := slices.ContainsFunc(b.Executions, func(x partition.ExecutionRow) bool { return x.Limited && engine.Terminal(x.Status) })
	if !items && !freed && !begets && len(b.Commands) == 0 && len(b.Compensations) == 0 || w.healthy.Load() {
		return
	}
	r := w.chance.Draw("ambush", fmt.Sprint(b.Partitions[0].P))
	if r.Float64() >= w.profile.ambush {
		return
	}
	w.later(r, 5*time.Millisecond, func() {
		for s := range w.profile.owners {
			w.killOwner(s)
			w.startLater(r, s)
		}
	})
}

func (w *world) planNATS() {
	p := w.profile
	for n := range p.restarts {
		w.happen("restart", n, func(r *rand.Rand) { w.restartNATS(r, "restarts", func() {}) })
	}
	for n := range p.losses {
		w.happen("loss", n, func(r *rand.Rand) {
			w.restartNATS(r, "loses its store", func() {
				w.witness.storeHit()
				w.server.Lose()
			})
		})
	}
	for n := range p.rollbacks {
		r := w.chance.Draw("rollback", fmt.Sprint(n))
		at := time.Duration(r.Int64N(int64(w.profile.length)))
		back := time.Duration(r.Int64N(int64(3 * time.Second)))
		if r.IntN(3) == 0 {
			back = time.Duration(r.Int64N(int64(w.profile.length) / 2))
		}
		w.after(max(0, at-back), func() {
			before := w.server.Snapshot()
			w.after(back, func() {
				if w.healthy.Load() {
					return
				}
				w.restartNATS(r, fmt.Sprintf("goes back by %v", back), func() {
					w.witness.storeHit()
					w.server.Restore(before)
				})
			})
		})
	}
	for n := range p.mutes {
		w.happen("mute", n, func(*rand.Rand) { w.mute() })
	}
	for n := range p.disasters {
		w.happen("disaster", n, w.disaster)
	}
	for n := range p.drops {
		w.happen("drop", n, func(r *rand.Rand) {
			stream := []string{subject.ExecutionInputStream, subject.StepsStream, subject.EventsStream}[r.IntN(3)]
			w.witness.fault("the stream %s is deleted", stream)
			w.witness.storeHit()
			w.server.Drop(stream)
		})
	}
}

// disaster lets owners apply and send what they can not commit, and then ends them all, with
// NATS going back to before.
func (w *world) disaster(r *rand.Rand) {
	before := w.server.Snapshot()
	w.witness.fault("the ledger is away, before everything dies")
	w.ledger.SetAway(true)
	w.later(r, 4*time.Second, func() {
		for slot := range w.profile.owners {
			w.killOwner(slot)
			w.startLater(r, slot)
		}
		w.restartNATS(r, "goes back to before", func() {
			w.witness.storeHit()
			w.server.Restore(before)
		})
		w.ledger.SetAway(false)
	})
}

// restartNATS takes the server down for a while; meanwhile its store may change.
func (w *world) restartNATS(r *rand.Rand, what string, change func()) {
	w.mu.Lock()
	again := w.natsAway
	w.natsAway = true
	w.mu.Unlock()
	if again {
		return
	}
	w.witness.fault("NATS %s", what)
	w.witness.bereaved()
	w.server.Stop()
	grows := r.IntN(2) == 0
	clock := time.Duration(0)
	if r.IntN(2) == 0 { // another server goes on, with another clock
		clock = time.Duration(r.Int64N(int64(40*time.Second))) - 20*time.Second
	}
	w.later(r, 12*time.Second, func() {
		last := w.server.LastSeq()
		change()
		w.jetstreamLags.Add(int64(clock))
		w.clockWentBack.Add(max(0, -int64(clock)))
		w.mu.Lock()
		w.natsAway = false
		w.mu.Unlock()
		w.trace.note("NATS is back, its clock %v off", time.Duration(w.jetstreamLags.Load()))
		w.witness.natsStarts()
		w.server.Start()
		if grows {
			w.grow(r, last)
		}
		w.reconnect()
	})
}

// grow fills the log with what is of nobody, until it is about as long as it was: what comes
// next has sequences that were others' before.
func (w *world) grow(r *rand.Rand, until uint64) {
	p := r.IntN(w.profile.partitions)
	until += 3
	until -= min(until, r.Uint64N(9))
	for n := 0; w.server.LastSeq() < until && n < 3000; n++ {
		m := partition.Message{ExecutionID: "nobody", Subject: "junk", Input: engine.Input{Kind: engine.StepCompleted, Step: "s0", Token: "x", Output: []byte(`1`)}}
		if w.server.Put(p, m) != nil {
			return // the log itself is gone
		}
	}
}

func (w *world) startLater(r *rand.Rand, slot int) {
	most := 10 * time.Second
	if w.profile.slow && r.IntN(2) == 0 {
		most = 4 * time.Minute // longer than STEPS remembers what was sent
	}
	w.later(r, most, func() { w.startOwner(slot) })
}

// later calls then after a while of at most most.
func (w *world) later(r *rand.Rand, most time.Duration, then func()) {
	w.after(time.Duration(r.Int64N(int64(most))), then)
}

// heal ends all faults for good.
func (w *world) heal() {
	if w.profile.mutes > 0 { // nothing that comes later makes them begin anew
		w.mute()
	}
	w.healthy.Store(true)
	w.trace.note("no faults any more")
	w.ledger.SetAway(false)
	w.mu.Lock()
	away := w.natsAway
	w.natsAway = false
	owners := append([]*owner(nil), w.owners...)
	w.mu.Unlock()
	if away {
		w.witness.natsStarts()
		w.server.Start()
		w.reconnect()
	}
	for _, o := range owners {
		if o != nil {
			o.process.CutLedger(false)
			o.process.CutJetStream(false)
			o.process.Thaw()
		}
	}
	for slot := range w.profile.owners {
		w.startOwner(slot)
	}
	for slot := range w.profile.runners {
		w.startRunner(slot)
	}
}
