package partitiontest

import (
	"math/rand/v2"
	"time"
)

// Faults says how often something goes wrong with a call: probabilities, each by itself.
type Faults struct {
	Fail  float64 // nothing comes of it, and the caller is told
	Drop  float64 // of a publish: it never arrives, and the caller is told when its time is up
	Lose  float64 // it is done, and the answer is lost
	Late  float64 // of a publish: it arrives after the caller was told that it had not
	Slow  float64 // the request or the answer takes up to SlowBy
	Twice float64 // of a publish: it arrives twice
	// SlowBy is how much longer something slow takes at most.
	SlowBy time.Duration
}

// Incident is something that went wrong with a call.
type Incident struct {
	Process string
	Call    string // the method
	About   string // what it was about: an execution, a step and the iteration of an item for Send, a partition for Commit
	What    string // happened
}

func (i Incident) String() string { return i.Process + ": " + i.Call + " " + i.About + " " + i.What }

// publishTimeout is after how long a publish without an answer has failed.
const publishTimeout = 5 * time.Second

// fate is what becomes of one call.
type fate struct {
	before, after time.Duration // on the way there and back
	fail          bool
	drop          bool
	lose          bool
	late          time.Duration // 0: not late
	twice         time.Duration // 0: once
	survives      bool          // it arrives although who sent it is gone
}

func newFate(r *rand.Rand, f Faults) fate {
	hit := func(probability float64) bool { return r.Float64() < probability }
	upTo := func(d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(max(d, 1)))) }
	out := fate{before: lag(r), after: lag(r), fail: hit(f.Fail), drop: hit(f.Drop), lose: hit(f.Lose), survives: hit(0.5)}
	slow, late, twice := hit(f.Slow), hit(f.Late), hit(f.Twice)
	switch by := upTo(f.SlowBy); {
	case slow && hit(0.5):
		out.before += by
	case slow:
		out.after += by
	}
	if late {
		out.late = publishTimeout + lag(r) + upTo(25*time.Second)
	}
	if twice {
		out.twice = lag(r) + upTo(20*time.Second)
	}
	return out
}

// lag is how long a message is on its way when nothing is wrong. That it is drawn in ns keeps
// two things from happening at the same moment.
func lag(r *rand.Rand) time.Duration {
	return 100*time.Microsecond + time.Duration(r.Int64N(int64(time.Millisecond)))
}
