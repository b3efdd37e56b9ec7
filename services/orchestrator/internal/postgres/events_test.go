package postgres

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/services/orchestrator/internal/partition"
	"turbocat.io/services/orchestrator/internal/partition/partitiontest"
)

// told is what a ledger was given to keep of the events of a partition.
type told struct {
	ledger
	p      int
	inputs uint64
	all    []partition.EventRow            // of the partition
	of     map[string][]partition.EventRow // of an execution
	ends   []uint64                        // the number that each commit ended with
}

func (l ledger) telling(p int) *told {
	return &told{ledger: l, p: p, of: map[string][]partition.EventRow{}}
}

// next makes the next event of an execution.
func (w *told) next(id string) partition.EventRow {
	e := partitiontest.EventOf(id, w.p, uint64(len(w.of[id])+1), uint64(len(w.all)+1))
	w.all, w.of[id] = append(w.all, e), append(w.of[id], e)
	return e
}

// commit commits the next events of these executions, in their order.
func (w *told) commit(executions ...string) {
	w.t.Helper()
	batch := partition.Batch{Partitions: []partition.Advance{{P: w.p, From: w.inputs, InputSeq: w.inputs + 1, EventN: uint64(len(w.all) + len(executions))}}}
	for _, id := range executions {
		batch.Events = append(batch.Events, w.next(id))
	}
	w.inputs++
	w.ends = append(w.ends, uint64(len(w.all)))
	if _, err := w.Commit(w.t.Context(), batch); err != nil {
		w.t.Fatal(err)
	}
}

// history checks what is read of an execution.
func (w *told) history(t rapid.TB, id string, after uint64, limit int) {
	t.Helper()
	from := min(after, uint64(len(w.of[id])))
	want := make([]orchestrator.StoredEvent, 0, limit)
	for _, e := range w.of[id][from:min(from+uint64(limit), uint64(len(w.of[id])))] {
		want = append(want, orchestrator.StoredEvent{Seq: e.Seq, Type: e.Type, Body: e.Body})
	}
	if got, err := w.History(w.t.Context(), id, after, limit); err != nil || len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
		t.Errorf("%d events of an execution of %d after %d are read as %s, %v", limit, len(w.of[id]), after, got, err)
	}
}

// events checks what is read of the partition: whole commits, until there are enough.
func (w *told) events(t rapid.TB, after uint64, limit int) {
	t.Helper()
	to := uint64(len(w.all))
	if i := slices.IndexFunc(w.ends, func(end uint64) bool { return end >= after+uint64(limit) }); i >= 0 {
		to = w.ends[i]
	}
	want := w.all[min(after, to):to]
	if got, err := w.Events(w.t.Context(), w.p, after, limit); err != nil || len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
		t.Errorf("%d events after %d of commits up to %v are read as %v, %v", limit, after, w.ends, got, err)
	}
}

// What is committed, however the events of executions alternate, is read back as it was, to the byte.
func TestEventsAreReadAsTheyWereCommitted(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	rapid.Check(t, func(t *rapid.T) {
		l.exec(`TRUNCATE execution_events`)
		l.exec(`UPDATE partitions SET input_seq = 0, event_n = 0`)
		var worlds []*told
		for p := range 2 {
			worlds = append(worlds, l.telling(p))
		}
		ids := make([]string, rapid.IntRange(1, 4).Draw(t, "executions"))
		for i := range ids {
			ids[i] = uuid.Must(uuid.NewV7()).String()
		}
		for range rapid.IntRange(1, 6).Draw(t, "commits") {
			p := rapid.IntRange(0, 1).Draw(t, "partition")
			turns := rapid.SliceOfN(rapid.IntRange(0, len(ids)-1), 0, 12).Draw(t, "turns")
			var of []string
			for _, i := range turns {
				if i%2 == p {
					of = append(of, ids[i])
				}
			}
			worlds[p].commit(of...)
		}
		for range 8 {
			w := worlds[rapid.IntRange(0, 1).Draw(t, "read")]
			w.events(t, rapid.Uint64Range(0, uint64(len(w.all)+1)).Draw(t, "after"), rapid.IntRange(1, len(w.all)+2).Draw(t, "limit"))
			i := rapid.IntRange(0, len(ids)-1).Draw(t, "execution")
			n := len(worlds[i%2].of[ids[i]])
			worlds[i%2].history(t, ids[i], rapid.Uint64Range(0, uint64(n+1)).Draw(t, "seq"), rapid.IntRange(1, n+2).Draw(t, "most"))
		}
	})
}

// A commit may have more events of an execution than a row, and more of a partition than its relay asks for.
func TestACommitOfManyEvents(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	w := l.telling(3)
	one, other := uuid.Must(uuid.NewV7()).String(), uuid.Must(uuid.NewV7()).String()
	var turns []string
	for range maxRowEvents + 1 {
		turns = append(turns, one, one, other)
	}
	w.commit(other)
	w.commit(turns...)
	w.commit(one)
	if n := mustCount(l, `SELECT count(*) FROM execution_events`); n != 1+3+2+1 {
		t.Errorf("they are in %d rows", n)
	}
	last := uint64(len(w.all))
	for _, after := range []uint64{0, 1, 2, maxRowEvents, last - 2, last - 1, last, last + 1, 1 << 63} {
		for _, limit := range []int{1, 2, maxRowEvents, 2 * maxRowEvents, 10 * maxRowEvents} {
			if after <= last {
				w.events(t, after, limit)
			}
			w.history(t, one, after, limit)
			w.history(t, other, after, limit)
		}
	}
}

// What would leave a gap is not written, for no index would refuse it.
func TestEventsThatDoNotFollowAreRefused(t *testing.T) {
	t.Parallel()
	one, other := uuid.NewString(), uuid.NewString()
	for name, events := range map[string][]partition.EventRow{
		"a number is left out":     {partitiontest.EventOf(one, 3, 1, 1), partitiontest.EventOf(other, 3, 1, 3)},
		"a number comes twice":     {partitiontest.EventOf(one, 3, 1, 2), partitiontest.EventOf(other, 3, 1, 2), partitiontest.EventOf(one, 3, 2, 3)},
		"fewer than are counted":   {partitiontest.EventOf(one, 3, 1, 1), partitiontest.EventOf(other, 3, 1, 2)},
		"more than are counted":    {partitiontest.EventOf(one, 3, 1, 1), partitiontest.EventOf(one, 3, 2, 2), partitiontest.EventOf(one, 3, 3, 3), partitiontest.EventOf(one, 3, 4, 4)},
		"an event is left out":     {partitiontest.EventOf(one, 3, 1, 1), partitiontest.EventOf(other, 3, 1, 2), partitiontest.EventOf(one, 3, 3, 3)},
		"an event comes twice":     {partitiontest.EventOf(one, 3, 1, 1), partitiontest.EventOf(other, 3, 1, 2), partitiontest.EventOf(one, 3, 1, 3)},
		"one of two partitions":    {partitiontest.EventOf(one, 3, 1, 1), partitiontest.EventOf(one, 4, 2, 1), partitiontest.EventOf(one, 3, 3, 2), partitiontest.EventOf(one, 3, 4, 3)},
		"of a partition not moved": {partitiontest.EventOf(one, 5, 1, 1)},
	} {
		if rows, err := eventRows(partition.Batch{Partitions: []partition.Advance{{P: 3, EventN: 3}, {P: 4, EventN: 1}}, Events: events}); !errors.Is(err, partition.ErrRefused) {
			t.Errorf("%s: %s, %v", name, fmt.Sprint(rows), err)
		}
	}
}
