package live

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/telemetry"
)

// news wakes those who follow something, the feed of a user or the log of an execution, when there is something new in it. It is safe for concurrent use.
type news struct {
	mu     sync.Mutex
	awaits map[string]map[chan struct{}]struct{} // by the id of the user or the execution
}

func newNews() *news { return &news{awaits: map[string]map[chan struct{}]struct{}{}} }

func (n *news) await(id string) chan struct{} {
	woken := make(chan struct{}, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.awaits[id] == nil {
		n.awaits[id] = map[chan struct{}]struct{}{}
	}
	n.awaits[id][woken] = struct{}{}
	return woken
}

func (n *news) leave(id string, woken chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.awaits[id], woken)
	if len(n.awaits[id]) == 0 {
		delete(n.awaits, id)
	}
}

// wake wakes who follows any of ids.
func (n *news) wake(ids []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, id := range ids {
		for woken := range n.awaits[id] {
			select {
			case woken <- struct{}{}:
			default:
			}
		}
	}
}

// heardNews wakes the followers of feeds that have something new.
func (h *Hub) heardNews(m *nats.Msg) {
	var said telemetry.FeedNews
	if json.Unmarshal(m.Data, &said) == nil {
		h.news.wake(slices.Collect(maps.Keys(said.Ends)))
	}
}

// FeedReader is who follows a feed. Whatever of it fails ends that.
type FeedReader struct {
	Event   func(Event) error // its Seq is the cursor
	Skipped func(events uint64) error
	Ping    func() error
}

func (to FeedReader) give(got telemetry.FeedResponse) error {
	if got.Skipped > 0 {
		if err := to.Skipped(got.Skipped); err != nil {
			return err
		}
	}
	for _, e := range got.Events {
		if err := to.Event(Event{Seq: e.Cursor, Type: e.Type, Body: e.Body}); err != nil {
			return err
		}
	}
	return nil
}

// FollowFeed gives what was read first of a user's feed, and then every event behind it, to a reader, in order and each once, until ctx ends
// or the reader fails. Every interval it pings the reader, and looks whether there is something that it was not told of. read gives what is
// behind a cursor.
func (h *Hub) FollowFeed(ctx context.Context, userID string, first telemetry.FeedResponse, interval time.Duration, read func(ctx context.Context, after uint64) (telemetry.FeedResponse, error), to FeedReader) error {
	woken := h.news.await(userID) // before it is looked: nothing can fall between the two
	defer h.news.leave(userID, woken)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	if err := to.give(first); err != nil {
		return err
	}
	after := first.Cursor
	for {
		for more := true; more; {
			got, err := read(ctx, after)
			if err != nil && (ctx.Err() != nil || errs.CodeOf(err) != errs.DependencyUnavailable) {
				return err
			}
			if err != nil {
				break // whoever answers it logs it; the next interval asks again
			}
			if err := to.give(got); err != nil {
				return err
			}
			after, more = got.Cursor, got.More
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-woken:
		case <-ticker.C:
			if err := to.Ping(); err != nil {
				return err
			}
		}
	}
}

// hear has news taken that come on a subject, until ctx ends. The subscription outlives reconnects; what is lost meanwhile the intervals find.
func (h *Hub) hear(ctx context.Context, on string, take nats.MsgHandler) {
	sub, err := h.conn.NATS().Subscribe(on, take)
	if err != nil {
		h.log.Warn().Err(err).Str("subject", on).Msg("no news are heard; who follows looks at each interval")
		return
	}
	<-ctx.Done()
	_ = sub.Unsubscribe() // the connection may be closed by now
}
