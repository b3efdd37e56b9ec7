package execution

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"turbocat.io/services/orchestrator/internal/partition"
)

// ledger accepts everything, and takes its time for it.
type ledger struct {
	Store
	takes time.Duration

	mu    sync.Mutex
	sizes []int // of the transactions, in the order in which they began
}

func (l *ledger) Accept(_ context.Context, executions []Accepted) ([]Outcome, []partition.Control, error) {
	l.mu.Lock()
	l.sizes = append(l.sizes, len(executions))
	takes := l.takes
	l.mu.Unlock()
	<-time.After(takes)
	outcomes := make([]Outcome, len(executions))
	for i, x := range executions {
		outcomes[i] = Outcome{ID: x.ID}
	}
	return outcomes, nil, nil
}

// accepting runs an acceptor over a ledger while ask is under way. Who asks has the answer when it returns.
func accepting(t *testing.T, l *ledger, ask func(commit func(id, key string))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a := NewAcceptor(l, nil, nil, zerolog.Nop())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		ask(func(id, key string) {
			x := Accepted{ID: id}
			if key != "" {
				x.Key = &IdempotencyKey{Key: key}
			}
			if outcome, err := a.commit(t.Context(), x); err != nil || outcome.ID != id {
				t.Errorf("%s: %+v, %v", id, outcome, err)
			}
		})
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestWhatComesDuringAnAcceptSharesTheNext(t *testing.T) {
	l := &ledger{takes: patience / 2}
	accepting(t, l, func(commit func(id, key string)) {
		var asking sync.WaitGroup
		asking.Go(func() { commit("first", "") })
		synctest.Wait()
		for _, id := range []string{"a", "b", "c", "d"} {
			asking.Go(func() { commit(id, "") })
		}
		asking.Wait()
	})
	if !slices.Equal(l.sizes, []int{1, 4}) {
		t.Errorf("transactions of %v executions, wanted one of 1 and one of 4", l.sizes)
	}
}

func TestASlowAcceptHoldsUpNobodyForLong(t *testing.T) {
	l := &ledger{takes: time.Second}
	accepting(t, l, func(commit func(id, key string)) {
		var asking sync.WaitGroup
		asking.Go(func() { commit("slow", "") })
		synctest.Wait()
		l.mu.Lock()
		l.takes = time.Millisecond
		l.mu.Unlock()
		began := time.Now()
		commit("quick", "")
		if took := time.Since(began); took > patience+time.Millisecond {
			t.Errorf("answered after %s", took)
		}
		asking.Wait()
	})
}

// TestARepeatedKeyIsAcceptedNext has the other committer idle: nobody else comes who would wake it.
func TestARepeatedKeyIsAcceptedNext(t *testing.T) {
	l := &ledger{takes: patience / 2}
	accepting(t, l, func(commit func(id, key string)) {
		var asking sync.WaitGroup
		asking.Go(func() { commit("first", "") })
		synctest.Wait()
		for _, id := range []string{"a", "b"} {
			asking.Go(func() { commit(id, "same") })
		}
		asking.Wait()
	})
	if !slices.Equal(l.sizes, []int{1, 1, 1}) {
		t.Errorf("transactions of %v executions, wanted three of 1", l.sizes)
	}
}
