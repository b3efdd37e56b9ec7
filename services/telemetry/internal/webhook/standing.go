package webhook

import (
	"math"
	"time"
)

const (
	// parallel is how many deliveries of a webhook are made at once, once it has shown that it takes them.
	parallel = 8
	// tripped is after how many failed attempts in a row the webhook is left alone for a while.
	tripped = 5

	// An attempt that failed is made again after firstWait, twice that, and so on up to longestWait, each give or take a fifth.
	firstWait   = time.Second
	longestWait = 4 * time.Hour
	jitter      = 0.2
	// patience is for how long after its first attempt a delivery is tried again.
	patience = 24 * time.Hour
	// A webhook that is left alone is tried with one delivery after firstPause, and when that fails after twice as long, up to longestPause.
	firstPause   = 5 * time.Second
	longestPause = 15 * time.Minute
	// givenUp is for how long all attempts must have failed until the webhook is switched off.
	givenUp = 24 * time.Hour
)

// Standing is what the attempts so far say about a webhook. The zero value is that of one which was never tried.
type Standing struct {
	Streak       int       // attempts in a row that were answered well; below 0, that were not
	PausedUntil  time.Time // nothing is sent before
	FailingSince time.Time // the first of the failed attempts in a row
}

// Room is how many deliveries may be made at once: one while it is not known whether the target takes any, and one more with each that it has
// taken, so that what has piled up does not fall upon a target that has just come back.
func (s Standing) Room() int { return min(max(s.Streak+1, 1), parallel) }

// Outcome is what came of an attempt.
type Outcome struct {
	Delivered  bool
	Gone       bool          // the target says that it is there no more: 410
	RetryAfter time.Duration // what the target asks for; 0 for nothing
}

// Verdict is what follows from an attempt.
type Verdict struct {
	Standing Standing
	Done     bool      // the delivery is over: delivered or given up
	Next     time.Time // else the next attempt
	Disable  string    // why the webhook is to be switched off; "" when it is not
}

// Judge decides what follows from the outcome of an attempt, the attempts-th of a delivery whose first was at first. luck is from 0 to below 1.
func Judge(s Standing, o Outcome, attempts int, first, now time.Time, luck float64) Verdict {
	if o.Delivered {
		return Verdict{Standing: Standing{Streak: max(s.Streak, 0) + 1}, Done: true}
	}
	v := Verdict{Standing: s}
	if s.FailingSince.IsZero() {
		v.Standing.FailingSince = now
	}
	if !now.Before(s.PausedUntil) { // else it was under way when another one failed, and says nothing new
		v.Standing.Streak = min(s.Streak, 0) - 1
		if n := -v.Standing.Streak; n >= tripped {
			v.Standing.PausedUntil = now.Add(wait(firstPause, longestPause, n-tripped, luck))
		}
	}
	v.Next = now.Add(max(wait(firstWait, longestWait, attempts-1, luck), min(o.RetryAfter, longestWait)))
	switch {
	case o.Gone:
		v.Disable = "the target answered 410: it is there no more"
	case now.Sub(v.Standing.FailingSince) >= givenUp:
		v.Disable = "every attempt has failed for a day"
	case v.Next.Sub(first) > patience:
		v.Done = true
	}
	return v
}

// wait gives the n-th of waits that double from first to longest, give or take a fifth.
func wait(first, longest time.Duration, n int, luck float64) time.Duration {
	d := longest
	if n < 30 {
		d = min(first<<max(n, 0), longest)
	}
	return time.Duration(math.Round(float64(d) * (1 - jitter + 2*jitter*luck)))
}
