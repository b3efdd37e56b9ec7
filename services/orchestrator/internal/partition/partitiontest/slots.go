package partitiontest

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
)

// groupID names the executions that a concurrency limit counts together.
type groupID struct{ workflow, key string }

type group struct {
	max, version, held, last int
}

// slotRow is how an execution that has not ended stands to its limit.
type slotRow struct {
	execution string
	group     groupID
	state     engine.Slot
	priority  int
	n         int // the order in the group: of the accept while it waits, then of the grant
	evicts    bool
}

// Slots tells of the executions that have a limit and have not ended how they stand to it, and names the groups
// that have a wrong count, or nobody.
func (l *Ledger) Slots() (slots map[string]engine.Slot, wrong []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.slotsNow()
}

func (l *Ledger) slotsNow() (slots map[string]engine.Slot, wrong []string) {
	slots = map[string]engine.Slot{}
	held, there := map[groupID]int{}, map[groupID]bool{}
	for id, s := range l.slots {
		slots[id], there[s.group] = s.state, true
		if s.state == engine.SlotHeld {
			held[s.group]++
		}
	}
	for id, g := range l.groups {
		if g.held != held[id] || !there[id] {
			wrong = append(wrong, id.workflow+" "+id.key)
		}
	}
	return slots, wrong
}

// settled tells of the slots as they are now, and of the inputs that follow.
func (l *Ledger) settled(follow []partition.Control) []partition.Control {
	if l.Settled != nil {
		slots, wrong := l.slotsNow()
		l.Settled(slots, wrong, follow)
	}
	return follow
}

// limitOf gives the limit of an execution, unless one that waits for it holds a slot of the same group.
func (l *Ledger) limitOf(x execution.Accepted) *execution.Limit {
	if x.Limit == nil || x.Parent == nil || x.Detached {
		return x.Limit
	}
	for up, height := l.executions[x.Parent.ExecutionID], 1; up != nil && height <= catalog.MaxDepth; height++ {
		if s := l.slots[up.id]; s != nil && s.state == engine.SlotHeld && s.group == (groupID{x.Definition.WorkflowID, x.Limit.Key}) {
			return nil
		}
		if up.detached || up.accepted.Parent == nil {
			break
		}
		up = l.executions[up.accepted.Parent.ExecutionID]
	}
	return x.Limit
}

// takeSlots gives executions, which are there since just now, their places under their limits.
func (l *Ledger) takeSlots(executions []execution.Accepted, outcomes []execution.Outcome) []partition.Control {
	groups := map[groupID]bool{}
	for _, x := range executions {
		id := groupID{x.Definition.WorkflowID, x.Limit.Key}
		g := l.groups[id]
		if g == nil {
			g = &group{}
			l.groups[id] = g
		}
		if x.Definition.WorkflowVersion >= g.version {
			g.max, g.version = x.Limit.Max, x.Definition.WorkflowVersion
		}
		g.last++
		l.slots[x.ID] = &slotRow{x.ID, id, engine.SlotWaiting, x.Priority, g.last, x.Limit.OnLimit == catalog.OnLimitCancelOldest}
		groups[id] = true
	}
	granted, evictions := l.settle(groups)
	for _, x := range executions {
		s := l.slots[x.ID]
		if s.state == engine.SlotWaiting && x.Limit.OnLimit == catalog.OnLimitDrop {
			s.state = engine.SlotDropped
		}
		outcomes[slices.IndexFunc(outcomes, func(o execution.Outcome) bool { return o.ID == x.ID })].Slot = s.state
		granted = slices.DeleteFunc(granted, func(id string) bool { return id == x.ID })
	}
	return append(evictions, submitted(granted)...)
}

func sorted(groups map[groupID]bool) []groupID {
	return slices.SortedFunc(maps.Keys(groups), func(a, b groupID) int {
		return cmp.Or(cmp.Compare(a.workflow, b.workflow), cmp.Compare(a.key, b.key))
	})
}

// settle grants what is free, and has the longest holders cancelled for those that wait for that.
func (l *Ledger) settle(groups map[groupID]bool) (granted []string, evictions []partition.Control) {
	for _, id := range sorted(groups) {
		g := l.groups[id]
		waiting := l.slotsIn(id, engine.SlotWaiting)
		for len(waiting) > 0 && g.held < g.max {
			g.held++
			g.last++
			waiting[0].state, waiting[0].n = engine.SlotHeld, g.last
			granted, waiting = append(granted, waiting[0].execution), waiting[1:]
		}
		missing := 0
		for _, s := range waiting {
			if s.evicts {
				missing++
			}
		}
		var left []*slotRow
		for _, s := range l.slotsIn(id, engine.SlotHeld) {
			if slices.ContainsFunc(l.commands, func(c *commandRow) bool { return c.ExecutionID == s.execution && c.Kind == execution.CommandCancel }) {
				missing--
			} else {
				left = append(left, s)
			}
		}
		for _, s := range left[:min(max(missing, 0), len(left))] {
			c := execution.Eviction(s.execution)
			l.commands = append(l.commands, &commandRow{Command: c, createdAt: l.Now()})
			if control, err := c.Control(); err == nil {
				evictions = append(evictions, control)
			}
		}
	}
	return granted, evictions
}

// slotsIn gives those of a group in a state: what waits in the order of the queue, what holds in that of the grants.
func (l *Ledger) slotsIn(id groupID, state engine.Slot) []*slotRow {
	var out []*slotRow
	for _, s := range l.slots {
		if s.group == id && s.state == state {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b *slotRow) int {
		if state == engine.SlotWaiting {
			return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.n, b.n))
		}
		return cmp.Compare(a.n, b.n)
	})
	return out
}

// releaseSlots takes what has ended out of its groups.
func (l *Ledger) releaseSlots(rows []partition.ExecutionRow) []partition.Control {
	groups := map[groupID]bool{}
	for _, r := range rows {
		s := l.slots[r.ID]
		if !r.Limited || !engine.Terminal(r.Status) || s == nil {
			continue
		}
		if s.state == engine.SlotHeld {
			l.groups[s.group].held--
		}
		groups[s.group] = true
		delete(l.slots, r.ID)
	}
	granted, evictions := l.settle(groups)
	for id := range groups {
		if l.groups[id].held == 0 && !slices.ContainsFunc(slices.Collect(maps.Values(l.slots)), func(s *slotRow) bool { return s.group == id }) {
			delete(l.groups, id)
		}
	}
	return append(submitted(granted), evictions...)
}

func submitted(ids []string) []partition.Control {
	out := make([]partition.Control, len(ids))
	for i, id := range ids {
		out[i] = partition.Control{P: subject.PartitionOf(id), Kind: engine.Submitted, ExecutionID: id}
	}
	return out
}

// Queue implements execution.Store.
func (l *Ledger) Queue(ctx context.Context, id string) (execution.Queue, bool, error) {
	if err := l.lock(ctx); err != nil {
		return execution.Queue{}, false, err
	}
	defer l.mu.Unlock()
	s := l.slots[id]
	if s == nil || s.state != engine.SlotWaiting {
		return execution.Queue{}, false, nil
	}
	g, waiting := l.groups[s.group], l.slotsIn(s.group, engine.SlotWaiting)
	q := execution.Queue{Key: s.group.key, Max: g.max, Held: g.held, Place: slices.Index(waiting, s) + 1, Waiting: len(waiting)}
	for _, holder := range l.slotsIn(s.group, engine.SlotHeld) {
		if len(q.Holders) < execution.MaxHolders {
			q.Holders = append(q.Holders, holder.execution)
		}
	}
	return q, true, nil
}
