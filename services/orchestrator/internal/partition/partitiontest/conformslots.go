package partitiontest

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
)

// limited are executions of one workflow that a concurrency limit counts.
type limited struct {
	store
	def       catalog.Definition
	positions map[int]partition.Position
	seqs      map[int]uint64
}

func newLimited(t *testing.T, s store) *limited {
	t.Helper()
	return &limited{s, workflow(), s.acquired("a", lease, subject.Partitions), map[int]uint64{}}
}

// new is an execution that is to be accepted.
func (l *limited) new(limit execution.Limit, priority int) execution.Accepted {
	l.t.Helper()
	x := acceptable(l.t, nil)
	body, err := json.Marshal(l.def)
	if err != nil {
		l.t.Fatal(err)
	}
	hash := sha256.Sum256(body)
	x.Definition, x.DefinitionBody, x.DefinitionHash, x.Priority, x.Limit = l.def, body, hash[:], priority, &limit
	return x
}

// take accepts executions, and gives how they stand and what follows.
func (l *limited) take(xs ...execution.Accepted) (slots []engine.Slot, inputs []partition.Control) {
	l.t.Helper()
	outcomes, inputs, err := l.Accept(l.t.Context(), xs)
	if err != nil {
		l.t.Fatal(err)
	}
	for i, o := range outcomes {
		if o.ID != xs[i].ID || o.Replayed {
			l.t.Fatalf("outcome %+v of %s", o, xs[i].ID)
		}
		slots = append(slots, o.Slot)
		if got := l.load(o.ID).Execution.Slot; got != o.Slot {
			l.t.Errorf("the slot of %s is loaded as %d, was %d", o.ID, got, o.Slot)
		}
	}
	return slots, inputs
}

// batch ends executions, or brings them to another status.
func (l *limited) batch(status string, ids ...string) partition.Batch {
	b := partition.Batch{}
	for _, id := range ids {
		p := subject.PartitionOf(id)
		row := partition.ExecutionRow{ID: id, Status: status, EventSeq: 1, LastInput: 10, Limited: true}
		if engine.Terminal(status) {
			row.CompletedAt = 10
		}
		b.Executions = append(b.Executions, row)
		if !slices.ContainsFunc(b.Partitions, func(a partition.Advance) bool { return a.P == p }) {
			b.Partitions = append(b.Partitions, partition.Advance{P: p, Epoch: l.positions[p].Epoch, From: l.seqs[p], InputSeq: l.seqs[p] + 1, InputTime: 5})
			l.seqs[p]++
		}
	}
	slices.SortFunc(b.Partitions, func(a, b partition.Advance) int { return cmp.Compare(a.P, b.P) })
	return b
}

func (l *limited) put(b partition.Batch) []partition.Control {
	l.t.Helper()
	inputs, err := l.Commit(l.t.Context(), b)
	if err != nil {
		l.t.Fatal(err)
	}
	return inputs
}

func (l *limited) end(ids ...string) []partition.Control {
	l.t.Helper()
	return l.put(l.batch(orchestrator.ExecutionCompleted, ids...))
}

// expect holds what follows against executions that begin and executions that are cancelled.
func (l *limited) expect(what string, inputs []partition.Control, begin []string, cancel ...string) {
	l.t.Helper()
	var begun, cancelled []string
	for _, c := range inputs {
		if c.P != subject.PartitionOf(c.ExecutionID) {
			l.t.Errorf("%s: %+v is not of partition %d", what, c, c.P)
		}
		switch c.Kind {
		case engine.Submitted:
			begun = append(begun, c.ExecutionID)
		case engine.Cancel:
			cancelled = append(cancelled, c.ExecutionID)
			if c.CommandID != execution.Eviction(c.ExecutionID).ID {
				l.t.Errorf("%s: the cancel has the id %s", what, c.CommandID)
			}
		default:
			l.t.Errorf("%s: %+v", what, c)
		}
	}
	if !slices.Equal(begun, begin) || !slices.Equal(cancelled, cancel) {
		l.t.Errorf("%s: %v begin and %v are cancelled; want %v and %v", what, begun, cancelled, begin, cancel)
	}
}

func (l *limited) queue(id string) execution.Queue {
	l.t.Helper()
	q, waits, err := l.Queue(l.t.Context(), id)
	if err != nil || waits != (q.Place > 0) {
		l.t.Fatalf("queue %+v, %t, %v", q, waits, err)
	}
	return q
}

// unseen gives the executions and commands of which the reconciler says that they are to be put into the log.
func (l *limited) unseen(id string) []engine.Kind {
	l.t.Helper()
	controls, err := l.Unseen(l.t.Context(), subject.PartitionOf(id), 0)
	if err != nil {
		l.t.Fatal(err)
	}
	var kinds []engine.Kind
	for _, c := range controls {
		if c.ExecutionID == id {
			kinds = append(kinds, c.Kind)
		}
	}
	return kinds
}

const (
	held    = engine.SlotHeld
	waiting = engine.SlotWaiting
	dropped = engine.SlotDropped
)

func testSlotsQueue(t *testing.T, s store) {
	l := newLimited(t, s)
	two := execution.Limit{Key: "k", Max: 2, OnLimit: catalog.OnLimitQueue}
	a, b, c := l.new(two, 5), l.new(two, 5), l.new(two, 5)
	if slots, inputs := l.take(a, b, c); !slices.Equal(slots, []engine.Slot{held, held, waiting}) || len(inputs) > 0 {
		t.Fatalf("accepted as %v, %v", slots, inputs)
	}
	// Another key, another workflow, and none at all do not count.
	other, elsewhere, free := l.new(execution.Limit{Key: "", Max: 1, OnLimit: catalog.OnLimitQueue}, 5), l.new(two, 5), l.new(two, 5)
	elsewhere.Definition.WorkflowID = uuid.NewString()
	free.Limit = nil
	if slots, _ := l.take(other, elsewhere, free); !slices.Equal(slots, []engine.Slot{held, held, engine.SlotNone}) {
		t.Errorf("of others: %v", slots)
	}
	d, urgent, e := l.new(two, 5), l.new(two, 9), l.new(two, 5)
	for _, x := range []execution.Accepted{d, urgent, e} {
		if slots, inputs := l.take(x); slots[0] != waiting || len(inputs) > 0 {
			t.Errorf("accepted as %v, %v", slots, inputs)
		}
	}
	if q, want := l.queue(d.ID), (execution.Queue{Key: "k", Max: 2, Held: 2, Holders: []string{a.ID, b.ID}, Place: 3, Waiting: 4}); !reflect.DeepEqual(q, want) {
		t.Errorf("it stands at %+v, want %+v", q, want)
	}
	if l.queue(a.ID).Place != 0 || l.queue(uuid.NewString()).Place != 0 || l.queue(urgent.ID).Place != 1 {
		t.Error("who waits is another")
	}
	if got := l.unseen(c.ID); len(got) > 0 {
		t.Errorf("one that waits is to begin: %v", got)
	}
	// By priority, then in the order of the accepts. What only pauses keeps its slot; what waits and ends frees none.
	l.expect("a pause", l.put(l.batch(orchestrator.ExecutionPaused, b.ID)), nil)
	l.expect("the end of one that waits", l.end(d.ID), nil)
	first := l.batch(orchestrator.ExecutionCompleted, a.ID)
	l.expect("the end of a holder", l.put(first), []string{urgent.ID})
	l.expect("the same again, the answer being lost", l.put(first), nil)
	if got := l.unseen(urgent.ID); !slices.Equal(got, []engine.Kind{engine.Submitted}) {
		t.Errorf("of one that got its slot the reconciler says %v", got)
	}
	if got := l.load(urgent.ID).Execution.Slot; got != held {
		t.Errorf("its slot is %d", got)
	}
	if q := l.queue(c.ID); !slices.Equal(q.Holders, []string{b.ID, urgent.ID}) || q.Place != 1 || q.Waiting != 2 {
		t.Errorf("it stands at %+v", q)
	}
	l.expect("the end of two at once", l.end(b.ID, urgent.ID), []string{c.ID, e.ID})
	l.expect("the last ends", l.end(c.ID, e.ID), nil)
	if slots, _ := l.take(l.new(two, 5), l.new(two, 5), l.new(two, 5)); !slices.Equal(slots, []engine.Slot{held, held, waiting}) {
		t.Errorf("once all had ended: %v", slots)
	}
}

func testSlotsMax(t *testing.T, s store) {
	l := newLimited(t, s)
	of := func(version, maximum int) execution.Accepted {
		l.def.WorkflowVersion = version
		return l.new(execution.Limit{Max: maximum, OnLimit: catalog.OnLimitQueue}, 5)
	}
	a, b, c, d := of(2, 1), of(2, 1), of(2, 1), of(2, 1)
	l.take(a, b, c, d)
	if slots, inputs := l.take(of(1, 5)); slots[0] != waiting || len(inputs) > 0 {
		t.Errorf("an older version with more room: %v, %v", slots, inputs)
	}
	last := of(3, 3)
	slots, inputs := l.take(last)
	if slots[0] != waiting {
		t.Errorf("after others, it is %v", slots)
	}
	l.expect("max is raised", inputs, []string{b.ID, c.ID})
	if slots, inputs = l.take(of(4, 1)); slots[0] != waiting || len(inputs) > 0 {
		t.Errorf("max is lowered: %v, %v", slots, inputs)
	}
	l.expect("two of three end", l.end(a.ID, b.ID), nil)
	l.expect("the third ends", l.end(c.ID), []string{d.ID})
}

func testSlotsDrop(t *testing.T, s store) {
	l := newLimited(t, s)
	drop := execution.Limit{Max: 1, OnLimit: catalog.OnLimitDrop}
	a, b := l.new(drop, 5), l.new(drop, 9)
	if slots, _ := l.take(a, b); !slices.Contains(slots, held) || !slices.Contains(slots, dropped) {
		t.Fatalf("accepted as %v", slots)
	}
	if l.load(a.ID).Execution.Slot == dropped {
		a, b = b, a
	}
	if got := l.unseen(b.ID); !slices.Equal(got, []engine.Kind{engine.Submitted}) {
		t.Errorf("of the dropped one the reconciler says %v", got)
	}
	signal := execution.Command{ID: uuid.NewString(), ExecutionID: b.ID, Partition: subject.PartitionOf(b.ID), Kind: execution.CommandSignal, Name: "go", Signal: []byte("{}")}
	refused := errors.New("refused")
	if _, err := l.AddSignal(t.Context(), signal, nil, func(now execution.Standing) error {
		if now.Status != orchestrator.ExecutionCancelled {
			t.Errorf("a signal finds the dropped one %s", now.Status)
		}
		return refused
	}); !errors.Is(err, refused) {
		t.Error(err)
	}
	l.expect("the end of the dropped one", l.put(l.batch(orchestrator.ExecutionCancelled, b.ID)), nil)
	if slots, _ := l.take(l.new(drop, 5)); slots[0] != dropped {
		t.Errorf("another is %v", slots)
	}
	l.expect("the end of the holder", l.end(a.ID), nil)
	if slots, _ := l.take(l.new(drop, 5)); slots[0] != held {
		t.Errorf("then it is %v", slots)
	}
}

func testSlotsCancelOldest(t *testing.T, s store) {
	l := newLimited(t, s)
	two := execution.Limit{Max: 2, OnLimit: catalog.OnLimitCancelOldest}
	a, b := l.new(two, 5), l.new(two, 5)
	if slots, inputs := l.take(a, b); !slices.Equal(slots, []engine.Slot{held, held}) || len(inputs) > 0 {
		t.Fatalf("accepted as %v, %v", slots, inputs)
	}
	// Somebody has cancelled the first already, so it makes room for one.
	if err := l.AddCommands(t.Context(), []execution.Command{{ID: uuid.NewString(), ExecutionID: a.ID, Partition: subject.PartitionOf(a.ID), Kind: execution.CommandCancel, UserID: "u"}}); err != nil {
		t.Fatal(err)
	}
	c, d, e := l.new(two, 5), l.new(two, 5), l.new(two, 5)
	for i, x := range []execution.Accepted{c, d, e} {
		slots, inputs := l.take(x)
		if slots[0] != waiting {
			t.Errorf("newcomer %d is %v", i, slots)
		}
		l.expect("a newcomer", inputs, nil, [][]string{nil, {b.ID}, nil}[i]...) // nobody is left for the third
	}
	if got := l.unseen(b.ID); !slices.Equal(got, []engine.Kind{engine.Submitted, engine.Cancel}) {
		t.Errorf("of the evicted one the reconciler says %v", got)
	}
	// Each that waits is owed one cancel, whoever holds the slots by then: those run that came last.
	cancelled := func(id string) []partition.Control {
		return l.put(l.batch(orchestrator.ExecutionCancelled, id))
	}
	l.expect("the second ends", cancelled(b.ID), []string{c.ID}, c.ID)
	l.expect("the first ends", cancelled(a.ID), []string{d.ID})
	l.expect("the third ends", cancelled(c.ID), []string{e.ID})
	l.expect("all end", l.end(d.ID, e.ID), nil)
}

// A child takes no slot of a group that one of those which wait for it holds; a detached one does.
func testSlotsOfChildren(t *testing.T, s store) {
	l := newLimited(t, s)
	one := execution.Limit{Key: "k", Max: 1, OnLimit: catalog.OnLimitQueue}
	child := func(of execution.Accepted, detached bool) execution.Accepted {
		x := l.new(one, 5)
		x.Parent, x.Depth, x.Detached = &engine.Parent{ExecutionID: of.ID, StepKey: "a", Token: "t"}, of.Depth+1, detached
		return x
	}
	begin := func(x execution.Accepted) { // its first step waits for a child
		b := l.batch(orchestrator.ExecutionRunning, x.ID)
		b.Steps = []partition.StepRow{{ExecutionID: x.ID, P: b.Partitions[0].P, Row: engine.Row{Task: engine.Task{Status: orchestrator.StepRunning, Attempt: 1, Token: "t", Dispatch: 1}}}}
		l.put(b)
	}
	top := l.new(one, 5)
	l.take(top)
	begin(top)
	middle := child(top, false)
	if slots, _ := l.take(middle); slots[0] != engine.SlotNone {
		t.Fatalf("the child is %v", slots)
	}
	begin(middle)
	if slots, _ := l.take(child(middle, false)); slots[0] != engine.SlotNone {
		t.Errorf("the child's child is %v", slots)
	}
	alone := child(middle, true)
	if slots, _ := l.take(alone); slots[0] != waiting {
		t.Errorf("a detached child is %v", slots)
	}
	outcomes, inputs, err := l.Accept(t.Context(), []execution.Accepted{alone})
	if err != nil || len(inputs) > 0 || len(outcomes) != 1 || l.queue(alone.ID).Waiting != 1 {
		t.Errorf("accepted again: %+v, %v, %v, %+v", outcomes, inputs, err, l.queue(alone.ID))
	}
	begin(alone)
	if slots, _ := l.take(child(alone, false)); slots[0] != waiting {
		t.Errorf("the child of a detached one is %v", slots)
	}
	other := child(middle, false)
	other.Limit = &execution.Limit{Key: "other", Max: 1, OnLimit: catalog.OnLimitQueue}
	if slots, _ := l.take(other); slots[0] != held {
		t.Errorf("a child under another key is %v", slots)
	}
	l.expect("the holder ends", l.end(top.ID), []string{alone.ID})
}
