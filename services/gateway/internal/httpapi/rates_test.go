package httpapi

import (
	"testing"
	"time"
)

func TestRatesAreOfTheLastMinute(t *testing.T) {
	var r rates
	now := time.Unix(1_800_000_000, 0)
	if got := r.last(now); got.PerSecond != 0 || got.AvgMs != nil {
		t.Errorf("%+v", got)
	}
	for i := range 120 { // one a second for two minutes, of the last of which each tenth fails
		status := 200
		if i >= 60 && i%10 == 0 {
			status = 503
		}
		r.add(now.Add(time.Duration(i)*time.Second), status, 20*time.Millisecond)
	}
	r.add(now.Add(119*time.Second), 404, 20*time.Millisecond)
	got := r.last(now.Add(119 * time.Second))
	if got.PerSecond != 61./60 || got.FailedPerSec != 6./60 || got.RefusedPerSec != 1./60 || got.AvgMs == nil || *got.AvgMs != 20 {
		t.Errorf("%+v", got)
	}
	if got := r.last(now.Add(149 * time.Second)); got.PerSecond != 31./60 {
		t.Errorf("half a minute later: %+v", got)
	}
	if got := r.last(now.Add(time.Hour)); got.PerSecond != 0 {
		t.Errorf("an hour later: %+v", got)
	}
}
