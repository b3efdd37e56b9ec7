package partition

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// stream plays EVENTS: answer decides what becomes of each message, whose numbers it is told.
type stream struct {
	Transport
	answer   func(try int) error
	messages [][]EventRow
}

func (s *stream) Publish(events []EventRow, done func(err error)) {
	s.messages = append(s.messages, slices.Clone(events))
	err := s.answer(len(s.messages))
	go done(err)
}

func (s *stream) numbers() (all [][]uint64) {
	for _, m := range s.messages {
		var ns []uint64
		for _, e := range m {
			ns = append(ns, e.N)
		}
		all = append(all, ns)
	}
	return all
}

// relayed gives the numbers of the events of each message that a relay publishes of events with bodies of these sizes, numbered from 1.
func relayed(t *testing.T, answer func(try int) error, sizes ...int) (messages [][]uint64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		to := &stream{answer: answer}
		r := newRelay(Position{P: 3}, nil, to, zerolog.Nop(), newMetrics(nil))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		var events []EventRow
		for i, size := range sizes {
			events = append(events, EventRow{P: 3, N: uint64(i + 1), Body: make([]byte, size)})
		}
		r.push(events)
		go func() { defer close(ended); r.run(ctx) }()
		<-time.After(time.Minute)
		if left := r.waiting(); left != 0 {
			t.Errorf("%d events are not published", left)
		}
		cancel()
		<-ended
		messages = to.numbers()
	})
	return messages
}

func taken(int) error { return nil }

func TestCommittedEventsGoInOneMessage(t *testing.T) {
	if got := relayed(t, taken, 100, 200, 300); !equalNumbers(got, [][]uint64{{1, 2, 3}}) {
		t.Errorf("published %v", got)
	}
}

func TestMessagesOfEventsAreBounded(t *testing.T) {
	for name, tc := range map[string]struct {
		sizes []int
		want  [][]uint64
	}{
		"just full":              {[]int{relayBytes/2 - 1, relayBytes/2 - 1, 1}, [][]uint64{{1, 2}, {3}}},
		"one byte too many":      {[]int{relayBytes/2 - 1, relayBytes / 2}, [][]uint64{{1}, {2}}},
		"a large one goes alone": {[]int{1, 2 * relayBytes, 1, 1}, [][]uint64{{1}, {2}, {3, 4}}},
	} {
		if got := relayed(t, taken, tc.sizes...); !equalNumbers(got, tc.want) {
			t.Errorf("%s: published %v, want %v", name, got, tc.want)
		}
	}
	var sizes []int
	for range relayBatch + 1 {
		sizes = append(sizes, 1)
	}
	if got := relayed(t, taken, sizes...); len(got) != 2 || len(got[0]) != relayBatch || len(got[1]) != 1 {
		t.Errorf("%d events went in %d messages", len(sizes), len(got))
	}
}

// A message that was not taken is sent again before any that follows.
func TestEventsAreNotOvertaken(t *testing.T) {
	got := relayed(t, func(try int) error {
		if try <= 2 {
			return errors.New("no space left")
		}
		return nil
	}, relayBytes, relayBytes)
	if want := [][]uint64{{1}, {1}, {1}, {2}}; !equalNumbers(got, want) {
		t.Errorf("published %v, want %v", got, want)
	}
}

// oneCommit is a ledger whose events were committed at once.
type oneCommit struct {
	Ledger
	events []EventRow
	asked  int
}

func (l *oneCommit) Events(_ context.Context, _ int, n uint64, _ int) ([]EventRow, error) {
	l.asked++
	return slices.Clone(after(n, l.events)), nil
}

// What one commit has is read from the ledger once, though it goes in many messages, and what is committed meanwhile follows it.
func TestACommitOfManyEventsIsReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many, published = 3*relayBatch + 7, 5
		ledger := &oneCommit{}
		for n := range uint64(many) {
			ledger.events = append(ledger.events, EventRow{P: 3, N: n + 1, Body: []byte("x")})
		}
		var r *relay
		to := &stream{answer: func(try int) error {
			switch try {
			case 2:
				return errors.New("no space left")
			case 3:
				r.push([]EventRow{{P: 3, N: many + 1, Body: []byte("x")}})
			}
			return nil
		}}
		r = newRelay(Position{P: 3, PublishedN: published}, ledger, to, zerolog.Nop(), newMetrics(nil))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		r.upTo(many)
		go func() { defer close(ended); r.run(ctx) }()
		<-time.After(time.Minute)
		cancel()
		<-ended
		next := uint64(published + 1)
		for i, m := range to.numbers() {
			if i == 1 {
				continue // it was not taken
			}
			for _, n := range m {
				if n != next {
					t.Fatalf("message %d has %d, not %d", i, n, next)
				}
				next++
			}
		}
		if next != many+2 || ledger.asked != 1 || r.read != nil {
			t.Errorf("published up to %d after %d questions, %d events are kept", next-1, ledger.asked, len(r.read))
		}
	})
}

func equalNumbers(a, b [][]uint64) bool { return slices.EqualFunc(a, b, slices.Equal[[]uint64]) }
