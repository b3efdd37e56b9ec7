package partition

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"turbocat.io/services/orchestrator/internal/dealing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ledger plays the database of a writer: answer decides what becomes of each commit.
type ledger struct {
	Ledger
	answer func(n int, b Batch) error

	mu        sync.Mutex
	tries     int
	committed []Batch
}

func (l *ledger) Commit(_ context.Context, b Batch) ([]Control, error) {
	l.mu.Lock()
	l.tries++
	n := l.tries
	l.mu.Unlock()
	if err := l.answer(n, b); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.committed = append(l.committed, b)
	return nil, nil
}

func (l *ledger) Rehearse(_ context.Context, b Batch) error { return l.answer(0, b) }

func (l *ledger) Positions(_ context.Context, ps []int) ([]Position, error) {
	return []Position{{P: ps[0]}}, nil
}

// writing runs a writer until the test ends.
func writing(t *testing.T, l *ledger) (*Writer, shell) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := shell{ledger: l, dealer: dealing.New(), writer: newWriter(l, zerolog.Nop(), newMetrics(nil)), stopper: newStopper(l, nil, zerolog.Nop()), log: zerolog.Nop()}
	var working sync.WaitGroup
	working.Go(func() { _ = s.writer.run(ctx) })
	t.Cleanup(func() { cancel(); working.Wait() })
	return s.writer, s
}

func (s shell) partition(p int) *run {
	pos := Position{P: p, Epoch: 1}
	return newRun(s, pos, newRelay(pos, s.ledger, nil, s.log, newMetrics(nil)), nil, nil)
}

func (r *run) did(seq uint64, execution string) {
	c := &change{run: r, from: r.seq, seq: seq, made: time.Now()}
	if execution != "" {
		c.exec = &ExecutionRow{ID: execution}
	}
	r.seq = seq
	r.uncommitted.Add(1)
	r.writer.add(c)
}

func flushed(t *testing.T, w *Writer, r *run) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := w.flush(ctx, r); err != nil {
		t.Fatalf("flush: %v", err)
	}
}

func TestCommitIsRepeatedUntilItIsAnswered(t *testing.T) {
	l := &ledger{answer: func(n int, _ Batch) error {
		if n < 4 {
			return errors.New("the connection is gone")
		}
		return nil
	}}
	w, s := writing(t, l)
	r := s.partition(3)
	r.did(7, "x")
	flushed(t, w, r)
	if len(l.committed) != 1 || l.tries != 4 || r.committedSeq.Load() != 7 {
		t.Errorf("%d commits in %d tries, up to %d", len(l.committed), l.tries, r.committedSeq.Load())
	}
}

func TestLostPartitionsAreDroppedAndTheRestIsCommitted(t *testing.T) {
	l := &ledger{answer: func(_ int, b Batch) error {
		for _, a := range b.Partitions {
			if a.P == 1 {
				return &FencedError{Partitions: []int{1}}
			}
		}
		return nil
	}}
	w, s := writing(t, l)
	lost, kept := s.partition(1), s.partition(2)
	lost.did(5, "x")
	kept.did(6, "y")
	flushed(t, w, lost)
	flushed(t, w, kept)
	if !lost.dead.Load() || !lost.fenced.Load() || kept.dead.Load() || kept.committedSeq.Load() != 6 || lost.committedSeq.Load() != 0 {
		t.Errorf("lost: dead %t, up to %d; kept: dead %t, up to %d", lost.dead.Load(), lost.committedSeq.Load(), kept.dead.Load(), kept.committedSeq.Load())
	}
}

func TestRefusedExecutionIsFoundAmongMany(t *testing.T) {
	l := &ledger{answer: func(_ int, b Batch) error {
		if slices.ContainsFunc(b.Executions, func(x ExecutionRow) bool { return x.ID == "poison" }) {
			return ErrRefused
		}
		return nil
	}}
	w, s := writing(t, l)
	runs := map[int]*run{}
	for p := range 4 {
		runs[p] = s.partition(p)
	}
	for i := range 40 {
		id := "well"
		if i == 22 {
			id = "poison"
		}
		runs[i%4].did(uint64(i+1), id)
	}
	for p, r := range runs {
		flushed(t, w, r)
		if (p == 2) != r.dead.Load() {
			t.Errorf("partition %d: dead %t", p, r.dead.Load())
		}
	}
	if r := runs[2]; r.culprit != "poison" || r.reason == "" || r.fenced.Load() {
		t.Errorf("culprit %q, %q", r.culprit, r.reason)
	}
}

// A partition that begins anew must not read where it stands while its last commit is under way.
func TestRereadWaitsForTheCommitUnderWay(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	l := &ledger{answer: func(int, Batch) error {
		close(begun)
		<-finish
		return nil
	}}
	_, s := writing(t, l)
	r := s.partition(3)
	r.did(7, "x")
	<-begun
	r.reset("", "")
	read := make(chan struct{})
	go func() {
		defer close(read)
		reread(t.Context(), s, r)
	}()
	select {
	case <-read:
		t.Error("the position was read before the commit ended")
	case <-time.After(100 * time.Millisecond):
	}
	close(finish)
	<-read
}

func TestBatchGoesOnFromItsFirstChange(t *testing.T) {
	l := &ledger{}
	s := shell{ledger: l, dealer: dealing.New(), writer: newWriter(l, zerolog.Nop(), newMetrics(nil)), log: zerolog.Nop()}
	r := s.partition(3)
	r.did(7, "x")
	r.did(9, "x")
	r.did(12, "y")
	changes, _ := s.writer.queue.take(time.Now().Add(maxLinger))
	b := batchOf(changes)
	if len(b.Partitions) != 1 || b.Partitions[0].From != 0 || b.Partitions[0].InputSeq != 12 || len(b.Executions) != 2 {
		t.Errorf("batch %+v", b)
	}
}

// Changes that nothing waits for linger, one that is awaited takes those of its partition along at once and no others, and where
// several executions end in each commit the commits keep their pace.
func TestChangesShareACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took := time.Duration(0)
		l := &ledger{answer: func(int, Batch) error {
			<-time.After(took)
			return nil
		}}
		w, s := writing(t, l)
		r, other := s.partition(3), s.partition(4)
		change := func(r *run, ends ...bool) { // at one moment
			w.mu.Lock()
			for _, end := range ends {
				c := &change{run: r, from: r.seq, seq: r.seq + 1, made: time.Now()}
				if end {
					c.ended = "COMPLETED"
				}
				r.seq++
				w.queue.add(c)
				w.count++
				r.uncommitted.Add(1)
			}
			w.mu.Unlock()
			signal(w.arrived)
			if slices.Contains(ends, true) {
				signal(w.hurry)
			}
		}
		commits := func(after time.Duration, want ...string) {
			t.Helper()
			<-time.After(after)
			synctest.Wait()
			l.mu.Lock()
			defer l.mu.Unlock()
			var got []string
			for _, b := range l.committed {
				up := ""
				for _, a := range b.Partitions {
					up += fmt.Sprintf(" %d:%d", a.P, a.InputSeq)
				}
				got = append(got, up[1:])
			}
			if l.committed = nil; !slices.Equal(got, want) {
				t.Fatalf("committed up to %q, want %q", got, want)
			}
		}
		change(r, false)
		commits(minLinger / 2)
		change(r, false)
		commits(minLinger/2 - 1)
		commits(1, "3:2")

		change(r, false)
		change(other, false)
		commits(minLinger / 2)
		change(r, true)
		commits(0, "3:4")
		commits(minLinger/2, "4:1")
		change(r, true)
		commits(0, "3:5") // each alone
		change(r, false, true, true)
		commits(0, "3:8")
		change(r, true)
		change(other, false)
		commits(pace-1, "4:2")
		change(r, true)
		commits(1, "3:10")

		// Slow commits have more in each.
		took = 5 * time.Millisecond
		commits(pace)
		change(other, true)
		commits(took, "4:3")
		change(other, false)
		commits(lingerCommits*took + took - 1)
		commits(1, "4:4")
	})
}

// However much is queued, a transaction has at most maxBatch changes, those of each partition in their order.
func TestACommitIsBounded(t *testing.T) {
	l := &ledger{}
	s := shell{ledger: l, dealer: dealing.New(), writer: newWriter(l, zerolog.Nop(), newMetrics(nil)), log: zerolog.Nop()}
	runs := []*run{s.partition(0), s.partition(1)}
	for i := range maxBatch + 10 {
		runs[i%2].did(uint64(i+1), "x")
	}
	q, from := &s.writer.queue, []uint64{0, 0}
	for _, want := range []int{maxBatch, 10} {
		batch, _ := q.take(time.Now().Add(maxLinger))
		if len(batch) != want {
			t.Fatalf("%d changes, not %d", len(batch), want)
		}
		for _, c := range batch {
			if p := c.run.position.P; c.from != from[p] {
				t.Fatalf("partition %d goes on from %d, not %d", p, c.from, from[p])
			}
			from[c.run.position.P] = c.seq
		}
	}
	if batch, _ := q.take(time.Now()); batch != nil || q.count != 0 || !q.oldest().IsZero() {
		t.Errorf("%d changes are left, counted as %d", len(batch), q.count)
	}
}
