package execution

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
)

func TestAUserHasSoManyExecutionsAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var counts, have atomic.Int64
		have.Store(7)
		a := newAdmission(10, func(_ context.Context, userID string, most int) (int, error) {
			counts.Add(1)
			if userID != "u" {
				return 0, nil
			}
			return min(int(have.Load()), most), nil
		})
		var taken, refused atomic.Int64
		var asking sync.WaitGroup
		for range 8 {
			asking.Go(func() {
				switch err := a.take(t.Context(), "u"); errs.CodeOf(err) {
				case "":
					taken.Add(1)
				case errs.RateLimited:
					refused.Add(1)
					if errs.From(err).RetryAfterMs != 5000 {
						t.Errorf("%+v", err)
					}
				default:
					t.Error(err)
				}
			})
		}
		asking.Wait()
		if taken.Load() != 3 || refused.Load() != 5 || counts.Load() != 1 {
			t.Errorf("7 of 10 are there: %d taken, %d refused, counted %d times", taken.Load(), refused.Load(), counts.Load())
		}
		if err := a.take(t.Context(), "other"); err != nil {
			t.Errorf("another user: %v", err)
		}
		have.Store(9)
		<-time.After(countedFor + time.Millisecond)
		if err := a.take(t.Context(), "u"); err != nil {
			t.Errorf("when one has ended: %v", err)
		}
		if err := a.take(t.Context(), "u"); errs.CodeOf(err) != errs.RateLimited {
			t.Errorf("the eleventh: %v", err)
		}
	})
}

func TestWithoutACountNobodyIsAdmitted(t *testing.T) {
	a := newAdmission(10, func(context.Context, string, int) (int, error) {
		return 0, errs.Wrap(errors.New("gone"), errs.DependencyUnavailable, "the database does not answer")
	})
	if err := a.take(t.Context(), "u"); errs.CodeOf(err) != errs.DependencyUnavailable {
		t.Errorf("%v", err)
	}
}

// keys stand for executions.
type keys struct {
	Store
	used map[string]Outcome
}

func (k keys) Keyed(_ context.Context, key IdempotencyKey) (Outcome, bool, error) {
	o, used := k.used[key.Key]
	return o, used, nil
}

// TestWhatWasAcceptedUnderItsKeyIsFoundUnderPressure asks while nothing new is accepted.
func TestWhatWasAcceptedUnderItsKeyIsFoundUnderPressure(t *testing.T) {
	t.Parallel()
	store := keys{used: map[string]Outcome{"used": {ID: someExecution, Replayed: true}, "other": {ID: someExecution, Replayed: true, Conflict: true}}}
	a := NewAcceptor(store, nil, nil, zerolog.Nop(), WithPressure(func() error { return errs.New(errs.DependencyUnavailable, "full") }))
	for key, want := range map[string]errs.Code{"": errs.DependencyUnavailable, "new": errs.DependencyUnavailable, "other": errs.Conflict, "used": ""} {
		req := orchestrator.SubmitRequest{WorkflowID: someExecution, IdempotencyKey: key}
		_, outcome, err := a.Submit(t.Context(), rpc.Caller{UserID: someAgent}, req)
		if errs.CodeOf(err) != want || (outcome.ID == someExecution) != (want == "") {
			t.Errorf("under the key %q: %+v, %v", key, outcome, err)
		}
	}
}
