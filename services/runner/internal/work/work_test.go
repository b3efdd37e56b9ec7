package work

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"turbocat.io/contracts/runner"
)

func TestFaultOf(t *testing.T) {
	long := strings.Repeat("é", maxErrorText)
	own := &runner.StepError{Code: runner.CodeError, Message: long, Stack: long}
	got := faultOf(fmt.Errorf("wrapped: %w", own))
	if got.Code != runner.CodeError || len(got.Message) > maxErrorText+3 || len(got.Stack) > maxErrorText+3 || !utf8.ValidString(got.Message) {
		t.Errorf("%s with %d and %d bytes", got.Code, len(got.Message), len(got.Stack))
	}
	if own.Message != long {
		t.Error("it changes what it was given")
	}
	if got := faultOf(errors.New("/etc/secret")); got.Code != runner.CodeInternal || strings.Contains(got.Message, "secret") {
		t.Errorf("%+v", got)
	}
}

// countedLease counts what is done with it.
type countedLease struct {
	extended, acked, naked, freed atomic.Int32
	away                          atomic.Bool
}

func (l *countedLease) Extend() bool { l.extended.Add(1); return !l.away.Load() }
func (l *countedLease) Ack()         { l.acked.Add(1) }
func (l *countedLease) Nak()         { l.naked.Add(1) }
func (l *countedLease) Free()        { l.freed.Add(1) }

func deliver(token string, count int, l Lease) *Delivery {
	return &Delivery{Step: &Step{Token: token}, Sequence: 1, Count: count, AckWait: 3 * time.Second, Lease: l}
}

func silentAttempts() *Attempts { return NewAttempts(func(context.Context, Report, func()) {}) }

func TestLeaseThatRanOutIsNotBegun(t *testing.T) {
	s, lease := silentAttempts(), &countedLease{}
	lease.away.Store(true)
	a := s.admit(deliver("t", 1, lease))
	begin := a.extended
	s.look(context.Background(), begin.Add(2*time.Second))
	if lease.extended.Load() != 1 || !a.extended.Equal(begin) {
		t.Fatal("a lease that could not be extended counts as extended")
	}
	s.look(context.Background(), begin.Add(4*time.Second))
	if lease.extended.Load() != 1 {
		t.Error("a lease that ran out was extended")
	}
	a.extended = time.Now().Add(-4 * time.Second)
	if s.begin(context.Background(), a, func(error) {}) {
		t.Fatal("it was begun")
	}
	if lease.acked.Load()+lease.naked.Load() != 0 {
		t.Error("a lease that is not ours was answered")
	}
	if s.admit(deliver("t", 2, &countedLease{})) == nil {
		t.Error("its redelivery is not run")
	}
}

func TestRedeliveryTakesTheLeaseOver(t *testing.T) {
	s, first, second := silentAttempts(), &countedLease{}, &countedLease{}
	a := s.admit(deliver("t", 1, first))
	if s.admit(deliver("t", 2, second)) != nil {
		t.Fatal("it would run twice")
	}
	if second.freed.Load() != 1 || first.freed.Load() != 0 {
		t.Error("the wrong place was freed")
	}
	s.settle(a)
	if first.acked.Load() != 0 || second.acked.Load() != 1 {
		t.Error("the wrong delivery was acked")
	}
	third := &countedLease{}
	if s.admit(deliver("t", 3, third)) != nil || third.acked.Load() != 1 || third.freed.Load() != 1 {
		t.Error("an answered token was not acked unrun")
	}
}

func TestStartIsReportedOncePerDelivery(t *testing.T) {
	reports := 0
	s := NewAttempts(func(context.Context, Report, func()) { reports++ })
	a := s.admit(deliver("t", 1, &countedLease{}))
	if !s.begin(context.Background(), a, func(error) {}) || reports != 0 {
		t.Fatalf("%d reports at the beginning", reports)
	}
	for i, c := range []struct {
		after time.Duration
		want  int
	}{{100 * time.Millisecond, 0}, {200 * time.Millisecond, 1}, {time.Second, 1}} {
		if s.look(context.Background(), a.began.Add(c.after)); reports != c.want {
			t.Errorf("%d: %d reports after %s", i, reports, c.after)
		}
	}
	s.admit(deliver("t", 2, &countedLease{}))
	s.look(context.Background(), a.began.Add(time.Second))
	s.look(context.Background(), a.began.Add(time.Second))
	if reports != 2 {
		t.Errorf("%d reports after a redelivery", reports)
	}
}
