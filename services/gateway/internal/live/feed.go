package live

import (
	"context"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/runner"
)

// PageSize is how many events a History gives at most at once; fewer mean there are no more yet.
const PageSize = 1000

// History reads up to PageSize events of an execution after a seq, oldest first. terminal
// says that nothing follows the last of them.
type History func(ctx context.Context, after uint64) (events []Event, terminal bool, err error)

// Reader is who a Feed is read by. Whatever of it fails ends the feed.
type Reader struct {
	Event func(Event) error
	Text  func(runner.Token) error // nil for who does not want what models write
	Ping  func() error
}

// Feed is every event of one execution after a seq: the history, then the tail; and what models write in it, until it ends. It
// belongs to one goroutine and must be closed.
type Feed struct {
	hub         *Hub
	executionID string
	history     History
	tail        *tail
	texts       *follower

	last     uint64  // seq of the last event given out
	first    []Event // of the history, read by Follow
	terminal bool    // nothing follows first
}

// Follow opens a feed that begins behind the event after; 0 means with the first. It reads
// the beginning of the history and fails as that does.
func (h *Hub) Follow(ctx context.Context, executionID string, after uint64, history History) (*Feed, error) {
	f := &Feed{hub: h, executionID: executionID, history: history, last: after}
	// Subscribed before the history is read: no event can fall between the two.
	f.tail = h.subscribe(executionID)
	f.texts = h.texts.follow(executionID)
	var err error
	if f.first, f.terminal, err = history(ctx, after); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Close ends the feed. It may be called twice.
func (f *Feed) Close() {
	f.hub.unsubscribe(f.executionID, f.tail)
	f.hub.texts.leave(f.texts)
}

// Run gives every event to its reader, in order and each once, and returns nil after the
// terminal one. Every interval without end it pings the reader and compares with the history. It
// returns the reader's error, that of ctx, or NOT_FOUND once the execution is no longer
// shown. A history that can not be read is tried again at the next interval.
func (f *Feed) Run(ctx context.Context, interval time.Duration, to Reader) error {
	done, err := f.give(f.first, to)
	if err != nil || done || f.terminal {
		return err
	}
	if len(f.first) >= PageSize {
		if done, err = f.catchUp(ctx, to); done || err != nil {
			return err
		}
	}
	f.first = nil
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-f.tail.events:
			if e.Seq == f.last+1 {
				done, err = f.give([]Event{e}, to)
			} else if e.Seq > f.last {
				done, err = f.catchUp(ctx, to)
			}
		case <-f.texts.news:
			err = f.write(to)
		case <-f.tail.stale:
			done, err = f.catchUp(ctx, to)
		case <-ticker.C:
			if err := to.Ping(); err != nil {
				return err
			}
			done, err = f.catchUp(ctx, to)
		}
		if done || err != nil {
			return err
		}
	}
}

// catchUp reads the history from the last event on, until it has nothing new.
func (f *Feed) catchUp(ctx context.Context, to Reader) (done bool, err error) {
	for {
		events, terminal, err := f.history(ctx, f.last)
		if errs.CodeOf(err) == errs.NotFound {
			return false, err // the caller may no longer see it
		}
		if err != nil {
			return false, nil // whoever answers it logs it; the next interval asks again
		}
		done, err := f.give(events, to)
		if done || terminal || err != nil {
			return done || terminal, err
		}
		if len(events) < PageSize {
			return false, nil
		}
	}
}

func (f *Feed) give(events []Event, to Reader) (done bool, err error) {
	for _, e := range events {
		if e.Seq <= f.last {
			continue
		}
		if e.Terminal() && !f.terminal {
			if err := f.write(to); err != nil {
				return false, err
			}
		}
		if err := to.Event(e); err != nil {
			return false, err
		}
		f.last = e.Seq
		if e.Terminal() {
			return true, nil
		}
	}
	return false, nil
}

// write gives what models have written since the last time.
func (f *Feed) write(to Reader) error {
	if to.Text == nil {
		return nil
	}
	for _, token := range f.hub.texts.unread(f.texts) {
		if err := to.Text(token); err != nil {
			return err
		}
	}
	return nil
}
