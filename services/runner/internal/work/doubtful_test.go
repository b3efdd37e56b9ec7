package work

import (
	"testing"
	"time"
)

func TestDoubtfulDeliveryMayBeAnswered(t *testing.T) {
	for name, c := range map[string]struct {
		count    int
		doubtful bool
		want     bool
	}{"first": {1, false, false}, "second": {2, false, true}, "doubtful": {1, true, true}} {
		s, d := silentAttempts(), deliver("t", c.count, &countedLease{})
		d.Doubtful = c.doubtful
		if got := s.redelivered(s.admit(d)); got != c.want {
			t.Errorf("%s: may be answered %t, want %t", name, got, c.want)
		}
	}
}

// A delivery may have waited in the socket of a runner that stood still, and another may have run the attempt since: it makes
// nobody surer than before. What is asked after it does.
func TestARedeliveryAfterAGapMakesNobodySurer(t *testing.T) {
	gone := func(a *attempt) { a.extended = time.Now().Add(-a.ackWait - time.Second) }
	s := silentAttempts()
	a := s.admit(deliver("t", 1, &countedLease{}))
	if !s.begin(t.Context(), a, func(error) {}) || !s.ours(a) {
		t.Fatal("a fresh one is not ours")
	}
	s.admit(deliver("t", 2, &countedLease{}))
	if !s.ours(a) {
		t.Error("a redelivery in time takes it from us")
	}
	gone(a)
	late := &countedLease{}
	s.admit(deliver("t", 3, late))
	if s.ours(a) {
		t.Error("after a gap it is ours because it came again")
	}
	s.look(t.Context(), time.Now().Add(a.ackWait/2))
	if late.extended.Load() == 0 {
		t.Error("its lease is not kept, though it runs")
	}

	waits := s.admit(deliver("u", 1, &countedLease{}))
	s.redelivered(waits)
	gone(waits)
	s.admit(deliver("u", 2, &countedLease{}))
	if s.begin(t.Context(), waits, func(error) {}) {
		t.Error("it begins after a gap of which nobody was asked")
	}
	waits = s.admit(deliver("v", 1, &countedLease{}))
	gone(waits)
	s.admit(deliver("v", 2, &countedLease{}))
	if !s.redelivered(waits) || !s.begin(t.Context(), waits, func(error) {}) || !s.ours(waits) {
		t.Error("it is not ours though it was asked for")
	}
}
