package httpapi

import (
	"sync"
	"time"
)

// ratedFor is of how many seconds rates tell.
const ratedFor = 60

// rates count the answers of the last minute. They are safe for concurrent use.
type rates struct {
	mu      sync.Mutex
	seconds [ratedFor]second
}

// second has the answers of a second.
type second struct {
	at                        int64 // of Unix
	requests, refused, failed int64
	took                      time.Duration
}

// RequestRates tell of the answers of a gateway within the last minute.
type RequestRates struct {
	PerSecond     float64  `json:"perSecond"`
	RefusedPerSec float64  `json:"refusedPerSecond" doc:"answered with 4xx"`
	FailedPerSec  float64  `json:"failedPerSecond" doc:"answered with 5xx"`
	AvgMs         *float64 `json:"avgMs" doc:"until an answer began; null without any"`
}

// add counts an answer.
func (r *rates) add(now time.Time, status int, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := now.Unix()
	s := &r.seconds[at%ratedFor]
	if s.at != at {
		*s = second{at: at}
	}
	s.requests++
	s.took += took
	switch {
	case status >= 500:
		s.failed++
	case status >= 400:
		s.refused++
	}
}

// last gives the rates of the minute before.
func (r *rates) last(now time.Time) RequestRates {
	r.mu.Lock()
	defer r.mu.Unlock()
	var sum second
	for _, s := range r.seconds {
		if at := now.Unix(); s.at > at-ratedFor && s.at <= at {
			sum.requests += s.requests
			sum.refused += s.refused
			sum.failed += s.failed
			sum.took += s.took
		}
	}
	out := RequestRates{PerSecond: float64(sum.requests) / ratedFor, RefusedPerSec: float64(sum.refused) / ratedFor, FailedPerSec: float64(sum.failed) / ratedFor}
	if sum.requests > 0 {
		avg := float64(sum.took.Microseconds()) / 1000 / float64(sum.requests)
		out.AvgMs = &avg
	}
	return out
}
