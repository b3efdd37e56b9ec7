package live

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/subject"
	"turbocat.io/contracts/telemetry"
)

// news wakes those who follow feeds of users when there is something new in them. It is safe for concurrent use.
type news struct {
	mu     sync.Mutex
	awaits map[string]map[chan struct{}]struct{} // by user
}

func newNews() *news { return &news{awaits: map[string]map[chan struct{}]struct{}{}} }

func (n *news) await(userID string) chan struct{} {
	woken := make(chan struct{}, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.awaits[userID] == nil {
		n.awaits[userID] = map[chan struct{}]struct{}{}
	}
	n.awaits[userID][woken] = struct{}{}
	return woken
}

func (n *news) leave(userID string, woken chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.awaits[userID], woken)
	if len(n.awaits[userID]) == 0 {
		delete(n.awaits, userID)
	}
}

func (n *news) heard(m *nats.Msg) {
	var said telemetry.FeedNews
	if json.Unmarshal(m.Data, &said) != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for userID := range said.Ends {
		for woken := range n.awaits[userID] {
			select {
			case woken <- struct{}{}:
			default:
			}
		}
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

// hearNews wakes the followers of feeds until ctx ends. The subscription outlives reconnects; what is lost meanwhile the intervals find.
func (h *Hub) hearNews(ctx context.Context) {
	sub, err := h.conn.NATS().Subscribe(subject.FeedNews, h.news.heard)
	if err != nil {
		h.log.Warn().Err(err).Msg("it is not heard of new events in feeds; they are looked for at each interval")
		return
	}
	<-ctx.Done()
	_ = sub.Unsubscribe() // the connection may be closed by now
}
