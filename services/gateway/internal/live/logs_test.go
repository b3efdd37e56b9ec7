package live

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/telemetry"
)

// shelf is a log that is read in pages of three.
type shelf struct {
	mu    sync.Mutex
	lines []telemetry.LogLine // by time
	away  bool
}

func (s *shelf) add(at time.Time, messages ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range messages {
		s.lines = append(s.lines, telemetry.LogLine{ID: uuid.Must(uuid.NewV7()).String(), Message: m, CreatedAt: at})
	}
}

func (s *shelf) read(_ context.Context, since time.Time, cursor string) (rpc.List[telemetry.LogLine], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return rpc.List[telemetry.LogLine]{}, errs.New(errs.DependencyUnavailable, "away")
	}
	var from int
	_, _ = fmt.Sscan(cursor, &from)
	var out rpc.List[telemetry.LogLine]
	for i := from; i < len(s.lines); i++ {
		if s.lines[i].CreatedAt.Before(since) {
			continue
		}
		if len(out.Items) == 3 {
			next := fmt.Sprint(i)
			out.Pagination.NextCursor = &next
			break
		}
		out.Items = append(out.Items, s.lines[i])
	}
	return out, nil
}

// leave has the log answer no more, or again.
func (s *shelf) leave(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

func TestAFollowerIsToldOfEachLineOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := NewHub(nil, zerolog.Nop())
		s := &shelf{}
		now := time.Now()
		s.add(now, "1", "2", "3", "4", "5")
		var got []string
		pings := 0
		ended, done := make(chan struct{}), make(chan error, 1)
		begin := func(from LogPlace, ended <-chan struct{}) {
			got = nil
			go func() {
				done <- hub.FollowLogs(t.Context(), "x", from, time.Minute, s.read, ended, LogReader{
					Line: func(l telemetry.LogLine) error { got = append(got, l.Message); return nil }, Ping: func() error { pings++; return nil },
				})
			}()
			synctest.Wait()
		}
		expect := func(want string) {
			t.Helper()
			synctest.Wait()
			if told := fmt.Sprint(got); told != want {
				t.Errorf("told %s, want %s", told, want)
			}
		}
		begin(LogPlace{}, ended)
		expect("[1 2 3 4 5]")
		s.add(now.Add(time.Second), "6")
		expect("[1 2 3 4 5]")
		hub.logs.wake([]string{"y", "x"})
		expect("[1 2 3 4 5 6]")
		s.add(now.Add(time.Second-lateLines), "late")
		s.add(now.Add(-lateLines), "too late")
		s.leave(true)
		hub.logs.wake([]string{"x"})
		expect("[1 2 3 4 5 6]")
		s.leave(false)
		<-time.After(time.Minute) // nobody tells
		synctest.Wait()
		expect("[1 2 3 4 5 6 late]")
		if pings != 1 {
			t.Errorf("%d pings", pings)
		}
		close(ended)
		<-time.After(settleLines / 2)
		synctest.Wait()
		s.add(now.Add(time.Second), "last")
		hub.logs.wake([]string{"x"})
		<-time.After(settleLines)
		if err := <-done; err != nil {
			t.Error(err)
		}
		expect("[1 2 3 4 5 6 late last]")

		third := s.lines[2]
		ended = make(chan struct{})
		begin(LogPlace{At: third.CreatedAt, ID: uuid.MustParse(third.ID)}, ended)
		expect("[4 5 6 last]")
		close(ended)
		<-done
	})
}

func TestAFollowerForgets(t *testing.T) {
	seen := told{known: map[uuid.UUID]bool{}}
	now := time.Now()
	for i := range 10 * manyLines {
		if !seen.take(telemetry.LogLine{ID: uuid.Must(uuid.NewV7()).String(), CreatedAt: now.Add(time.Duration(i) * time.Microsecond)}) {
			t.Fatal("it is taken for an old one")
		}
		if i%100 == 0 {
			seen.since()
		}
	}
	if since := seen.since(); len(seen.known) > manyLines+1 || len(seen.lines) != len(seen.known) || since.Before(now.Add(8*manyLines*time.Microsecond)) {
		t.Errorf("%d lines are remembered, since %s", len(seen.known), since.Sub(now))
	}
}

func TestAReaderThatFailsEndsIt(t *testing.T) {
	hub := NewHub(nil, zerolog.Nop())
	s := &shelf{}
	s.add(time.Now(), "1")
	gone := errors.New("gone")
	if err := hub.FollowLogs(t.Context(), "x", LogPlace{}, time.Minute, s.read, nil, LogReader{Line: func(telemetry.LogLine) error { return gone }}); !errors.Is(err, gone) {
		t.Error(err)
	}
	if len(hub.logs.awaits) != 0 {
		t.Errorf("%v await news still", hub.logs.awaits)
	}
}
