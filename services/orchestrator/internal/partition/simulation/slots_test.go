package simulation

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/engine/enginetest"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
)

// drawLimited gives a workflow that has a concurrency limit, and others submit too, and when it is submitted.
func (w *world) drawLimited(r *rand.Rand) (begin time.Duration, plan enginetest.Plan, d catalog.Definition, limit *execution.Limit) {
	name := fmt.Sprintf("limited workflow %d", r.IntN(2))
	same := w.chance.Same(name)
	c := catalog.Concurrency{Max: []int{1, 1, 2, 3}[same.IntN(4)], OnLimit: []string{catalog.OnLimitQueue, catalog.OnLimitDrop, catalog.OnLimitCancelOldest}[same.IntN(3)]}
	rush := []time.Duration{time.Second, 4 * time.Second, 20 * time.Second}[same.IntN(3)]
	begin = time.Duration(same.Int64N(int64(w.profile.length)*6/10) + r.Int64N(int64(rush)))
	limit = &execution.Limit{Max: c.Max, OnLimit: c.OnLimit}
	if same.IntN(3) == 0 {
		c.Key, limit.Key = "{{inputs.key}}", fmt.Sprintf("key %d", r.IntN(2))
	}
	plan = w.drawFamily(same, 0)
	d = plan.Definition()
	d.WorkflowID, d.Concurrency = uuid.NewSHA1(uuid.Nil, []byte(name)).String(), &c
	return begin, plan, d, limit
}

// standing is how an execution stands to its limit, or stood when it ended.
type standing struct {
	slot    engine.Slot
	arrived int // when it came to that, among all
	waited  int // when it came to wait; 0 when it did not
	evicted bool
	gone    bool
}

// ofQueued are the events that there may be of an execution that holds no slot.
var ofQueued = []string{"created", "paused", "resumed", "cancelled", "step_cancelled", "step_skipped"}

// settled holds what an accept or a commit has made of the slots against the limits.
func (v *witness) settled(slots map[string]engine.Slot, wrong []string, follow []partition.Control) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, group := range wrong {
		v.failed("the group %s has counted wrongly, or is nobody's", group)
	}
	came, evicted := v.move(slots, follow)
	for id, s := range v.standings {
		_, there := slots[id]
		if s.gone = !there; there == engine.Terminal(v.account(id).row.Status) {
			v.failed("execution %s is %s, and stands under its limit: %t", id, v.account(id).row.Status, there)
		}
	}
	for _, group := range v.groups() {
		v.checkGroup(group, came, evicted)
	}
}

// move takes over how the executions stand now, and tells who has just come to that, and who was evicted.
func (v *witness) move(slots map[string]engine.Slot, follow []partition.Control) (came, evicted []string) {
	order := slices.SortedFunc(maps.Keys(slots), func(a, b string) int { return cmp.Compare(v.accepts[a], v.accepts[b]) })
	for _, c := range slices.Backward(follow) { // those that were granted one stand in their order
		if c.Kind == engine.Submitted {
			order = slices.Insert(order, 0, c.ExecutionID)
		}
	}
	for _, id := range order {
		before, waited := engine.SlotNone, 0
		if s := v.standings[id]; s != nil {
			before, waited = s.slot, s.waited
		}
		now := slots[id]
		if now == before {
			continue
		}
		if before != engine.SlotNone && (before != engine.SlotWaiting || now != engine.SlotHeld) {
			v.failed("the slot of %s goes from %d to %d", id, before, now)
		}
		v.arrivals++
		s := &standing{slot: now, arrived: v.arrivals, waited: waited}
		if now == engine.SlotWaiting {
			s.waited = s.arrived
		}
		v.standings[id] = s
		v.w.trace.note("slot of %s: %s", short(id), map[engine.Slot]string{engine.SlotWaiting: "waiting", engine.SlotHeld: "held", engine.SlotDropped: "dropped"}[now])
		came = append(came, id)
	}
	for _, c := range follow {
		if c.Kind == engine.Cancel {
			v.evictions[c.CommandID] = c.ExecutionID
			v.standings[c.ExecutionID].evicted = true
			v.w.trace.note("evicted: %s", short(c.ExecutionID))
			evicted = append(evicted, c.ExecutionID)
		}
	}
	return came, evicted
}

// checkGroup holds that the slots are taken and given as the limit says.
func (v *witness) checkGroup(group string, came, evicted []string) {
	held, waiting := v.in(group, engine.SlotHeld), v.in(group, engine.SlotWaiting)
	limit := v.w.scripted(slices.Concat(held, waiting, v.in(group, engine.SlotDropped))[0]).limit
	switch {
	case len(held) > limit.Max:
		v.failed("%d of the group %s hold a slot, of %d: %v", len(held), group, limit.Max, held)
	case len(waiting) > 0 && (len(held) < limit.Max || limit.OnLimit == catalog.OnLimitDrop):
		v.failed("of the group %s %v wait, with %s, and of %d slots %d are held", group, waiting, limit.OnLimit, limit.Max, len(held))
	}
	for _, id := range came {
		switch x, s := v.w.scripted(id), v.standings[id]; {
		case x.group != group:
		case s.slot == engine.SlotDropped && (limit.OnLimit != catalog.OnLimitDrop || len(held) < limit.Max):
			v.failed("execution %s is dropped, with %s, and of %d slots %d are held", id, limit.OnLimit, limit.Max, len(held))
		case s.slot == engine.SlotHeld:
			for _, other := range waiting {
				y := v.w.scripted(other)
				if y.priority > x.priority || y.priority == x.priority && v.standings[other].waited < cmp.Or(s.waited, s.arrived) {
					v.failed("execution %s is given a slot before %s", id, other)
				}
			}
		}
	}
	v.checkEvictions(group, limit, held, len(waiting), evicted)
}

// checkEvictions holds that for each newcomer one holder is cancelled, those that have held longest, and nobody else.
func (v *witness) checkEvictions(group string, limit *execution.Limit, held []string, waiting int, evicted []string) {
	isEvicted := func(id string) bool { return v.standings[id].evicted }
	isDoomed := func(id string) bool {
		_, unwanted := v.unawaited(id)
		return unwanted || isEvicted(id) || v.w.isCancelled(id)
	}
	doomed, out := 0, 0
	for _, id := range held {
		if isEvicted(id) {
			out++
		}
		if isDoomed(id) {
			doomed++
		}
	}
	if limit.OnLimit == catalog.OnLimitCancelOldest && doomed < min(waiting, len(held)) {
		v.failed("%d newcomers of the group %s wait, and of %v only %d are being cancelled", waiting, group, held, doomed)
	}
	for _, id := range evicted {
		if v.w.scripted(id).group != group {
			continue
		}
		if limit.OnLimit != catalog.OnLimitCancelOldest || !slices.Contains(held, id) || out > waiting {
			v.failed("execution %s is evicted, with %s, %d of %v for %d newcomers", id, limit.OnLimit, out, held, waiting)
		}
		for _, older := range held {
			if v.standings[older].arrived < v.standings[id].arrived && !isDoomed(older) {
				v.failed("execution %s is evicted before %s, which has held its slot longer", id, older)
			}
		}
	}
}

// groups gives those that anybody stands in, in an order.
func (v *witness) groups() []string {
	all := map[string]bool{}
	for id, s := range v.standings {
		if !s.gone {
			all[v.w.scripted(id).group] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// in gives the executions that stand so in a group, in the order in which they came to it.
func (v *witness) in(group string, slot engine.Slot) []string {
	var out []string
	for id, s := range v.standings {
		if s.slot == slot && !s.gone && v.w.scripted(id).group == group {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, func(a, b string) int { return cmp.Compare(v.standings[a].arrived, v.standings[b].arrived) })
	return out
}

// members gives the accepted executions that the limit of one counts with it; that one when it has none.
func (v *witness) members(x *scripted) []*scripted {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := []*scripted{x}
	for id := range v.standings {
		if other := v.w.scripted(id); other != x && other.group == x.group && x.limit != nil {
			out = append(out, other)
		}
	}
	return out
}

func (w *world) isCancelled(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.defs[id].cancelled
}

// checkCancelled holds that somebody has cancelled an execution, or its limit; and that one without room has done nothing.
func (w *world) checkCancelled(x *scripted, got *engine.Execution, code string) error {
	v := w.witness
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.standings[x.id]
	switch dropped := s != nil && s.slot == engine.SlotDropped; {
	case dropped != (code == runner.CodeConcurrency):
		return fmt.Errorf("it ended with %q, and its slot is %+v", code, s)
	case dropped && (got.StartedAt != 0 || slices.ContainsFunc(got.Steps, func(s engine.Step) bool { return s.Status != orchestrator.StepCancelled })):
		return fmt.Errorf("it was dropped, and it began at %v", got.StartedAt)
	case !dropped && !x.cancelled && (s == nil || !s.evicted):
		if at, unwanted := v.unawaited(x.id); !unwanted || at.After(v.account(x.id).over) {
			return fmt.Errorf("nobody has cancelled it")
		}
	}
	return nil
}
