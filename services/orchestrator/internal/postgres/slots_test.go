package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
)

// TestSlotsAtOnce accepts and ends executions of a few groups from many sides at once. There are never more holders than max, and
// every one gets its slot.
func TestSlotsAtOnce(t *testing.T) {
	t.Parallel()
	const clients, each, maximum = 50, 3, 3
	l := newLedger(t)
	template := l.acceptable("a")
	keys := []string{"", "k", "l"}
	positions, err := l.Acquire(t.Context(), "o", time.Hour, subject.Partitions)
	if err != nil {
		t.Fatal(err)
	}
	owners := make([]chan string, subject.Partitions) // what begins, as their log says
	for p := range owners {
		owners[p] = make(chan string, 2*clients*each)
	}
	begin := func(id string) { owners[subject.PartitionOf(id)] <- id }

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var accepting, owning sync.WaitGroup
	committers := make(chan struct{}, 4) // as two processes have; a statement is prepared over another connection of the ten
	for n := range clients {
		accepting.Go(func() {
			for i := range each {
				var batch []execution.Accepted
				for j := range 1 + (n+i)%3 { // several share a transaction
					x := template
					x.ID = uuid.Must(uuid.NewV7()).String()
					x.Limit = &execution.Limit{Key: keys[(n+j)%len(keys)], Max: maximum, OnLimit: catalog.OnLimitQueue}
					batch = append(batch, x)
				}
				committers <- struct{}{}
				outcomes, inputs, err := l.Accept(ctx, batch)
				<-committers
				if err != nil {
					t.Errorf("accept: %v", err)
					return
				}
				for _, o := range outcomes {
					if o.Slot == engine.SlotHeld {
						begin(o.ID)
					}
				}
				for _, c := range inputs {
					begin(c.ExecutionID)
				}
			}
		})
	}
	var mu sync.Mutex
	ended := map[string]bool{}
	total := 0
	for n := range clients {
		for i := range each {
			total += 1 + (n+i)%3
		}
	}
	done := make(chan struct{})
	slices.SortFunc(positions, func(a, b partition.Position) int { return cmp.Compare(a.P, b.P) })
	const writers = 3 // each commits for a share of the partitions, as processes do
	for w := range writers {
		owning.Go(func() {
			seqs := map[int]uint64{}
			for {
				b := partition.Batch{}
				for p := w; p < subject.Partitions; p += writers {
					select {
					case id := <-owners[p]:
						b.Executions = append(b.Executions, partition.ExecutionRow{ID: id, Status: orchestrator.ExecutionCompleted, EventSeq: 1, LastInput: 1, CompletedAt: 1, Limited: true})
						b.Partitions = append(b.Partitions, partition.Advance{P: p, Epoch: positions[p].Epoch, From: seqs[p], InputSeq: seqs[p] + 1})
						seqs[p]++
					default:
					}
				}
				if len(b.Executions) == 0 {
					select {
					case <-done:
						return
					case <-ctx.Done():
						return
					case <-time.After(time.Millisecond):
					}
					continue
				}
				inputs, err := l.Commit(ctx, b)
				if err != nil {
					t.Errorf("commit: %v", err)
					return
				}
				for _, c := range inputs {
					begin(c.ExecutionID)
				}
				mu.Lock()
				for _, x := range b.Executions {
					if ended[x.ID] {
						t.Errorf("%s begins twice", x.ID)
					}
					ended[x.ID] = true
				}
				if len(ended) == total {
					close(done)
				}
				mu.Unlock()
			}
		})
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			n, err := l.count(`SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM concurrency_slots WHERE state = 'HELD' GROUP BY workflow_id, key) g`)
			if err == nil && n > maximum {
				t.Errorf("%d hold a slot of one group", n)
			}
			select {
			case <-done:
				return
			case <-ctx.Done():
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	accepting.Wait()
	owning.Wait()
	<-watched
	if len(ended) != total {
		t.Errorf("%d of %d had their slot", len(ended), total)
	}
	for _, table := range []string{"concurrency_slots", "concurrency_groups"} {
		if n, err := l.count(`SELECT count(*) FROM ` + table); n != 0 || err != nil {
			t.Errorf("%d rows are left in %s, %v", n, table, err)
		}
	}
}

// TestADroppedExecutionIsShownAsItEnds reads one before its end is committed.
func TestADroppedExecutionIsShownAsItEnds(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	first := l.acceptable("a", "b")
	first.Limit = &execution.Limit{Max: 1, OnLimit: catalog.OnLimitDrop}
	second := first
	second.ID = uuid.Must(uuid.NewV7()).String()
	l.accept(first)
	l.accept(second)
	r, err := l.Get(t.Context(), second.ID)
	if err != nil || r.Execution.Status != orchestrator.ExecutionCancelled || r.Execution.Error == nil || r.Execution.CompletedAt != engine.TimeOf(second.CreatedAt) {
		t.Errorf("it is %+v, %v", r.Execution, err)
	}
	if e, found, err := l.Ending(t.Context(), second.ID); err != nil || !found || e.Ended {
		t.Errorf("its end is %+v, %t, %v", e, found, err)
	}
	dropped := r.Execution
	for status, want := range map[string]string{"": second.ID + first.ID, orchestrator.ExecutionCancelled: second.ID, orchestrator.ExecutionPending: first.ID} {
		var got string
		for page := (rpc.Page{PageSize: 1}); ; { // over a cursor
			listed, pagination, err := l.List(t.Context(), "", orchestrator.ListRequest{WorkflowID: first.Definition.WorkflowID, Status: status, Page: page})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range listed {
				got += s.ID
				if s.ID == second.ID {
					failure, _ := json.Marshal(dropped.Error)
					if s.Status != dropped.Status || string(s.Error) != string(failure) || s.CompletedAt == nil || !s.CompletedAt.Equal(dropped.CompletedAt.Std()) || s.Progress != dropped.Progress() {
						t.Errorf("it is listed as %+v", s)
					}
				}
			}
			if pagination.NextCursor == nil {
				break
			}
			page = rpc.Page{PageSize: 1, Cursor: *pagination.NextCursor}
		}
		if got != want {
			t.Errorf("listed with the status %q: %s, want %s", status, got, want)
		}
	}
	for status, want := range map[string][]string{orchestrator.ExecutionCancelled: {second.ID}, orchestrator.ExecutionPending: {first.ID}} {
		ids, matched, err := l.Named(t.Context(), "", orchestrator.ListRequest{WorkflowID: first.Definition.WorkflowID}, orchestrator.BulkCancel, []string{status}, 10)
		if err != nil || matched != len(want) || !slices.Equal(ids, want) {
			t.Errorf("a bulk finds as %s: %v of %d, %v", status, ids, matched, err)
		}
	}
	if r, err := l.Get(t.Context(), first.ID); err != nil || r.Execution.Status != orchestrator.ExecutionPending || r.Execution.Slot != engine.SlotHeld {
		t.Errorf("the holder is %+v, %v", r.Execution, err)
	}
}
