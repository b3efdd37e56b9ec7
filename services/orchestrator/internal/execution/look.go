package execution

import (
	"context"
	"strings"
	"sync"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
)

// looks has submits share what the catalog is asked. An answer tells what was saved before it was asked for; so a submit that comes
// while a call is under way waits for the next one, together with all others that come until then.
type looks struct {
	mu    sync.Mutex
	calls map[looked]*look // under way
}

// looked is what an answer depends on.
type looked struct{ workflowID, userID, role, scopes string }

// look is one call.
type look struct {
	done   chan struct{} // closed when the answer is there
	next   *look         // for those who came during the call; nil for none; under the mutex of looks
	frozen *frozen
	err    error
}

func newLooks() *looks { return &looks{calls: map[looked]*look{}} }

// do gives what call answers, which begins after do and does not end with ctx, for others may wait for it too.
func (l *looks) do(ctx context.Context, caller rpc.Caller, workflowID string, call func(context.Context) (*frozen, error)) (*frozen, error) {
	key := looked{workflowID, caller.UserID, caller.Role, strings.Join(caller.Scopes, " ")}
	l.mu.Lock()
	mine := &look{done: make(chan struct{})}
	switch under := l.calls[key]; {
	case under == nil:
		l.calls[key] = mine
		go l.run(context.WithoutCancel(ctx), key, mine, call)
	case under.next == nil:
		under.next = mine
	default:
		mine = under.next
	}
	l.mu.Unlock()
	select {
	case <-mine.done:
		return mine.frozen, mine.err
	case <-ctx.Done():
		return nil, errs.Wrap(ctx.Err(), errs.DependencyUnavailable, "the catalog service did not answer in time; try again shortly")
	}
}

// run calls for one look after the other, until nobody waits for another.
func (l *looks) run(ctx context.Context, key looked, at *look, call func(context.Context) (*frozen, error)) {
	for at != nil {
		at.frozen, at.err = call(ctx)
		close(at.done)
		l.mu.Lock()
		if at = at.next; at != nil {
			l.calls[key] = at
		} else {
			delete(l.calls, key)
		}
		l.mu.Unlock()
	}
}
