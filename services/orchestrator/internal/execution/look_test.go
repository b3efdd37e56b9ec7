package execution

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
)

// What a submit gets was asked for after it came, and those who come during one call share the next.
func TestLooksAreSharedAndFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, caller := newLooks(), rpc.Caller{UserID: "u", Scopes: []string{"a"}}
		var calls []chan *frozen
		call := func(context.Context) (*frozen, error) {
			c := make(chan *frozen)
			calls = append(calls, c)
			if f := <-c; f != nil {
				return f, nil
			}
			return nil, errors.New("away")
		}
		var waiting sync.WaitGroup
		ask := func(n int, caller rpc.Caller, want *frozen) {
			for range n {
				waiting.Go(func() {
					if got, err := l.do(t.Context(), caller, "w", call); got != want || (err == nil) != (want != nil) {
						t.Errorf("got %p and %v, want %p", got, err, want)
					}
				})
				synctest.Wait()
			}
		}
		expect := func(n int) {
			t.Helper()
			if synctest.Wait(); len(calls) != n {
				t.Fatalf("%d calls, want %d", len(calls), n)
			}
		}
		first, second := &frozen{}, &frozen{}
		ask(1, caller, first)
		expect(1)
		ask(5, caller, second)
		expect(1)
		ask(1, rpc.Caller{UserID: "u"}, second) // the catalog may answer them otherwise
		ask(1, rpc.Caller{UserID: "u", Role: rpc.RoleAdmin}, second)
		expect(3)
		calls[1] <- second
		calls[2] <- second
		calls[0] <- first
		expect(4)
		ask(2, caller, nil)
		calls[3] <- second
		expect(5)
		calls[4] <- nil
		waiting.Wait()
		if synctest.Wait(); len(l.calls) != 0 {
			t.Errorf("%d calls are kept", len(l.calls))
		}
	})
}

// Who gives up takes nothing from those who wait on.
func TestALookOutlivesItsFirstCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, begun, answer := newLooks(), make(chan struct{}), make(chan *frozen)
		call := func(ctx context.Context) (*frozen, error) {
			close(begun)
			f := <-answer
			return f, ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		var gone sync.WaitGroup
		gone.Go(func() {
			if _, err := l.do(ctx, rpc.Caller{}, "w", call); errs.CodeOf(err) != errs.DependencyUnavailable {
				t.Error(err)
			}
		})
		<-begun
		begun = make(chan struct{})
		want := &frozen{}
		var waiting sync.WaitGroup
		waiting.Go(func() {
			if got, err := l.do(t.Context(), rpc.Caller{}, "w", nil); got != want || err != nil {
				t.Error(got, err)
			}
		})
		synctest.Wait()
		cancel()
		gone.Wait()
		answer <- want
		answer <- want
		waiting.Wait()
	})
}
