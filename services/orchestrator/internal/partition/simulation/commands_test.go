package simulation

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/engine/enginetest"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
)

// command is what a client asks of an execution, and what became of it by the commits so far.
type command struct {
	id        string
	execution string
	kind      string
	signal    *orchestrator.Signal // of a signal

	applied int  // the how manieth it was; 0 for not yet
	kept    bool // its signal waits for a step
	heard   bool // a step has taken its signal
}

// command says everything else than a cancel that somebody has to say to those executions of a client that were
// accepted: the signals that their steps wait for, too early or when they wait, and perhaps a pause with the resume that
// follows it.
func (w *world) command(name string, tried []string) {
	loaded, err := w.ledger.Load(w.ending, tried)
	for err != nil {
		if pause(w.ending, time.Second) != nil {
			return
		}
		loaded, err = w.ledger.Load(w.ending, tried)
	}
	for n, l := range loaded {
		x := w.scripted(l.Execution.ID)
		for i := range x.plan.Steps {
			if x.plan.SignalOf(i) != "" {
				for again := range 2 {
					w.also(x, fmt.Sprintf("%s.%d signals %d.%d", name, n, i, again), func(name string, r *rand.Rand) {
						if again == 0 || r.IntN(3) == 0 { // nobody counts what is wanted
							w.signal(name, r, x, i)
						}
					})
				}
			}
		}
		w.also(x, fmt.Sprintf("%s.%d pauses", name, n), func(name string, r *rand.Rand) {
			if r.Float64() < w.profile.pauses {
				w.pauseAndResume(name, r, x.id)
			}
		})
	}
}

// also lets another client do something about an execution.
func (w *world) also(x *scripted, name string, what func(name string, r *rand.Rand)) {
	w.clients.Go(func() {
		what(name, w.chance.Draw("client", name))
		w.mu.Lock()
		defer w.mu.Unlock()
		x.left = time.Now()
	})
}

// signal sends what step i waits for. One that waits for a minute only may wait in vain.
func (w *world) signal(name string, r *rand.Rand, x *scripted, i int) {
	if x.plan.Steps[i].TimeoutMs <= shortWait && r.IntN(4) == 0 {
		return
	}
	most := 30 * time.Second
	switch {
	case r.IntN(2) == 0:
		most = time.Second // before the step waits
	case w.profile.patient:
		most = 4 * time.Minute
	}
	if pause(w.ending, time.Duration(r.Int64N(int64(most)))) != nil {
		return
	}
	c := &command{id: w.newID(r), execution: x.id, kind: execution.CommandSignal}
	payload, err := json.Marshal(map[string]any{"v": r.IntN(1000), "command": c.id})
	if err != nil {
		panic(err)
	}
	approve := r.IntN(3) > 0
	c.signal = &orchestrator.Signal{Name: x.plan.SignalOf(i), Payload: payload, Approve: &approve, Comment: c.id, By: name}
	w.say(name, r, c, true)
}

// shortWait is the timeoutMs of a WAIT whose signal need not come.
const shortWait = 60_000

// pauseAndResume leaves no execution paused. Its resume comes after the pause is applied: one that overtakes it would
// find nothing to resume.
func (w *world) pauseAndResume(name string, r *rand.Rand, id string) {
	for range 1 + r.IntN(2) {
		if pause(w.ending, time.Duration(r.Int64N(int64(20*time.Second)))) != nil {
			return
		}
		paused := &command{execution: id, kind: execution.CommandPause}
		w.say(name, r, paused, true)
		for !w.witness.hasApplied(paused) {
			if pause(w.ending, time.Second) != nil {
				return
			}
		}
		most := 20 * time.Second
		if w.profile.patient {
			most = 2 * time.Minute
		}
		if pause(w.ending, time.Duration(r.Int64N(int64(most)))) != nil {
			return
		}
		resumed := &command{execution: id, kind: execution.CommandResume}
		w.say(name, r, resumed, true)
		for !w.witness.hasApplied(resumed) {
			if pause(w.ending, time.Second) != nil {
				return
			}
		}
	}
}

// say has a command committed, and puts it into the log or leaves that to the reconciler. One who insists repeats
// himself until it is committed.
func (w *world) say(name string, r *rand.Rand, c *command, insists bool) {
	process := w.process(name)
	ledger, transport := process.Ledger(w.ledger), process.Transport(w.server.Connect())
	if c.id == "" {
		c.id = w.newID(r)
	}
	row := execution.Command{ID: c.id, ExecutionID: c.execution, Partition: subject.PartitionOf(c.execution), Kind: c.kind}
	if c.signal != nil {
		body, err := json.Marshal(c.signal)
		if err != nil {
			panic(err)
		}
		row.Name, row.Signal = c.signal.Name, body
	}
	w.witness.said(c)
	for {
		var err error
		if c.signal == nil {
			err = ledger.AddCommands(w.ending, []execution.Command{row})
		} else {
			_, err = ledger.AddSignal(w.ending, row, nil, openTo)
		}
		if err == nil || errors.Is(err, partition.ErrRefused) { // it was committed before, with the answer lost
			break
		}
		if errs.CodeOf(err) == errs.Conflict {
			return
		}
		if !insists || pause(w.ending, time.Second) != nil {
			return
		}
	}
	w.trace.note("%s: %s of %s, command %s", name, c.kind, short(c.execution), short(c.id))
	control, err := row.Control()
	if err != nil {
		panic(err)
	}
	put := func() { transport.Append(control, func(error) {}) }
	if r.Float64() >= w.profile.unsaid {
		put()
	}
	if r.Float64() < w.profile.repeats {
		w.after(time.Duration(r.Int64N(int64(20*time.Second))), put)
	}
}

// openTo lets a signal in unless the execution has ended.
func openTo(now execution.Standing) error {
	if engine.Terminal(now.Status) {
		return errs.New(errs.Conflict, "the execution has ended")
	}
	return nil
}

// waits gives the WAIT of a workflow that a place is; nil when it is none.
func (x *scripted) waits(p engine.Place) *enginetest.Wait {
	if p.Iteration > 0 || x.plan.Steps[p.Step].Type != catalog.StepWait {
		return nil
	}
	return x.plan.Steps[p.Step].Wait
}

// said notes what a client is about to ask for.
func (v *witness) said(c *command) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.commands[c.id] = c
}

// hasApplied tells whether a command has taken effect.
func (v *witness) hasApplied(c *command) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return c.applied > 0
}

// committedCommands holds that a signal is kept until one step takes it, or the execution ends.
func (v *witness) committedCommands(rows []partition.CommandRow) {
	for _, row := range rows {
		c := v.commands[row.ID]
		if v.evictions[row.ID] != "" {
			continue
		}
		if b, born := v.births[row.ID]; born {
			if _, unwanted := v.unawaited(row.ID); !unwanted {
				v.failed("execution %s is cancelled, and attempt %d of %s of %s waits for it", row.ID, b.attempt, v.w.name(b.parent), b.parent.execution)
			}
			continue
		}
		if c == nil {
			v.failed("the command %s is applied, which nobody has given", row.ID)
			continue
		}
		ended := engine.Terminal(v.account(c.execution).row.Status)
		switch {
		case row.Kept > 0 && (c.applied > 0 || c.kind != execution.CommandSignal):
			v.failed("command %s of %s, a %s, is kept after it was applied", c.id, c.execution, c.kind)
		case row.Kept == 0 && c.signal != nil && !c.heard && !ended:
			v.failed("the signal %s of %s, command %s, is gone and no step has taken it", c.signal.Name, c.execution, c.id)
		}
		if c.applied == 0 {
			v.applied++
			c.applied = v.applied
		}
		c.kept = row.Kept > 0
		v.w.trace.note("committed: command %s, a %s of %s, is applied, kept %t", short(c.id), c.kind, short(c.execution), c.kept)
		if c.kind == execution.CommandResume {
			delete(v.account(c.execution).resumes, c.id)
		}
	}
}

// checkOldest holds that steps take the oldest signal of their name.
func (v *witness) checkOldest(rows []partition.CommandRow) {
	for _, row := range rows {
		c := v.commands[row.ID]
		if c == nil || !c.heard {
			continue
		}
		for _, other := range v.commands {
			if other.kept && other.execution == c.execution && other.signal.Name == c.signal.Name && other.applied < c.applied {
				v.failed("the signal %s of %s, command %s, is taken before the older command %s", c.signal.Name, c.execution, c.id, other.id)
			}
		}
	}
}

// hears notes that a WAIT has ended, and with which signal.
func (v *witness) hears(id string, p engine.Place, t engine.Task) {
	said := string(t.Output)
	if t.Error != nil {
		said += t.Error.Message
	}
	c := v.signalIn(id, said)
	if c == nil {
		return
	}
	if c.heard {
		v.failed("the signal %s of %s, command %s, is taken again, by %s", c.signal.Name, id, c.id, v.w.scripted(id).plan.Key(p.Step))
	}
	c.heard = true
	v.account(id).heard[p.Step] = c
}

// signalIn gives the signal that somebody repeats: each names its command.
func (v *witness) signalIn(id, said string) *command {
	for _, c := range v.commands {
		if c.signal != nil && c.execution == id && strings.Contains(said, c.id) {
			return c
		}
	}
	return nil
}
