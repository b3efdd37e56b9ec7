package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func encoded(t testing.TB, executionID string, seq uint64) []byte {
	t.Helper()
	body, err := orchestrator.EventStepStarted.Encode(event.Meta{ID: "e", Source: "orchestrator", Subject: executionID, Time: time.Unix(0, 0)},
		orchestrator.ExecutionEvent{ExecutionID: executionID, Seq: seq})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// numbers is a history of events from 1 to last.
func numbers(last uint64, asked *int) History {
	return func(_ context.Context, after uint64) ([]Event, bool, error) {
		*asked++
		var events []Event
		for seq := after + 1; seq <= last && len(events) < PageSize; seq++ {
			events = append(events, Event{Seq: seq, Type: "t"})
		}
		return events, false, nil
	}
}

func TestFollowersLagWithoutBuffer(t *testing.T) {
	hub := NewHub(nil, zerolog.Nop())
	asked := 0
	history := numbers(0, &asked)
	feed, err := hub.Follow(context.Background(), "x", 0, func(ctx context.Context, after uint64) ([]Event, bool, error) { return history(ctx, after) })
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	const published = 10 * tailSize
	for seq := uint64(1); seq <= published; seq++ {
		hub.publish(encoded(t, "x", seq))
		hub.publish(encoded(t, "y", seq))
	}
	if n := len(feed.tail.events); n != tailSize {
		t.Fatalf("%d events buffered", n)
	}
	history = numbers(published, &asked)
	stop := errors.New("enough")
	var last uint64
	err = feed.Run(context.Background(), time.Hour, Reader{Event: func(e Event) error {
		if e.Seq != last+1 {
			t.Fatalf("event %d after %d", e.Seq, last)
		}
		if last = e.Seq; last == published {
			return stop
		}
		return nil
	}, Ping: func() error { return nil }})
	if !errors.Is(err, stop) {
		t.Error(err)
	}
	if asked > 8 {
		t.Errorf("the history was read %d times", asked)
	}
}

func TestFeedEnds(t *testing.T) {
	lost := errs.New(errs.NotFound, "no execution has this id; check it")
	away := errs.New(errs.DependencyUnavailable, "the orchestrator service is not running; try again shortly")
	for name, c := range map[string]struct {
		later error // of the history after the first time
		ping  error
		want  error
	}{
		"hidden meanwhile":      {later: lost, want: lost},
		"client gone":           {later: away, ping: context.Canceled, want: context.Canceled},
		"history away for once": {later: away, want: context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			hub := NewHub(nil, zerolog.Nop())
			var now error
			feed, err := hub.Follow(context.Background(), "x", 0, func(context.Context, uint64) ([]Event, bool, error) { return nil, false, now })
			if err != nil {
				t.Fatal(err)
			}
			defer feed.Close()
			now = c.later
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			if err := feed.Run(ctx, 10*time.Millisecond, Reader{Event: func(Event) error { return nil }, Ping: func() error { return c.ping }}); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	hub := NewHub(nil, zerolog.Nop())
	if _, err := hub.Follow(context.Background(), "x", 0, func(context.Context, uint64) ([]Event, bool, error) { return nil, false, lost }); !errors.Is(err, lost) {
		t.Errorf("got %v", err)
	}
	if len(hub.tails) != 0 {
		t.Error("a follower that failed is still subscribed")
	}
}

func TestForeignEventsAreIgnored(t *testing.T) {
	hub := NewHub(nil, zerolog.Nop())
	tail := hub.subscribe("x")
	for _, body := range []string{
		"", "{", `{"subject":"x"`, `{"subject":"x","data":{}}`, `{"subject":"x","data":{"seq":"1"}}`,
		`{"data":{"subject":"x","seq":1},"subject":"y"}`, string(encoded(t, "y", 1)),
	} {
		hub.publish([]byte(body))
		if len(tail.events) != 0 {
			t.Errorf("%s was handed out", body)
		}
	}
	hub.publish(encoded(t, "x", 1))
	if e := <-tail.events; e.Seq != 1 || e.Type != orchestrator.EventStepStarted.String() {
		t.Errorf("event %+v", e)
	}
	hub.unsubscribe("x", tail)
	if len(hub.tails) != 0 {
		t.Error("the execution is still followed")
	}
}

func FuzzSubjectOf(f *testing.F) {
	f.Add("0193")
	f.Add(`a"b\c`)
	f.Fuzz(func(t *testing.T, id string) {
		if strings.ContainsAny(id, "\"\\<>&") || strings.ContainsFunc(id, func(r rune) bool { return r < 0x20 || r >= 0x7f }) {
			t.Skip("ids are plain")
		}
		quoted, err := json.Marshal(id)
		if err != nil {
			t.Fatal(err)
		}
		if got := subjectOf(encoded(t, id, 1)); got != id {
			t.Errorf("%q in %s", got, fmt.Sprint(string(quoted)))
		}
		subjectOf([]byte(id))
	})
}
