package simulation

import (
	"time"

	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
)

// compensates notes an execution that is accepted to undo another, with the end of that one, and what will happen to it.
func (v *witness) compensates(c partition.Compensation) {
	a, of := v.account(c.Of), v.w.scripted(c.Of)
	if a.compensation != nil || engine.Terminal(a.row.Status) {
		v.failed("execution %s, which is %s, is compensated by %s, and before by %+v", c.Of, a.row.Status, c.ID, a.compensation)
		return
	}
	if subject.PartitionOf(c.ID) != subject.PartitionOf(c.Of) || of.undoes != "" {
		v.failed("execution %s, which undoes %q, is compensated by %s", c.Of, of.undoes, c.ID)
	}
	def, err := engine.Compile(c.Definition)
	if err != nil {
		v.failed("the compensation of %s can not run: %v", c.Of, err)
		return
	}
	a.compensation = &c.Compensation
	x := &scripted{id: c.ID, plan: of.plan.Undoing(c.Compensation), def: def, accepted: time.Now(), cursed: of.cursed, undoes: c.Of}
	v.w.trace.note("committed: execution %s is compensated by %s, inputs %s\n%s", short(c.Of), short(c.ID), c.Inputs, x.plan)
	v.w.mu.Lock()
	defer v.w.mu.Unlock()
	v.w.defs[c.ID] = x
}
