package work

import "testing"

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
