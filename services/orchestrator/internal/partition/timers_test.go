package partition

import (
	"fmt"
	"testing"
	"time"

	"turbocat.io/services/orchestrator/internal/engine"
)

func TestTimersComeInOrder(t *testing.T) {
	var ts timers
	for _, due := range []engine.Time{30, 10, 20, 10} {
		ts.add(due, fmt.Sprint(due))
	}
	var got []engine.Time
	for {
		next, ok := ts.next(25)
		if !ok {
			break
		}
		got = append(got, next.due)
	}
	if fmt.Sprint(got) != "[10 10 20]" {
		t.Errorf("came: %v", got)
	}
	if w := ts.wait(25, time.Minute); w != 5*time.Microsecond {
		t.Errorf("waits %v", w)
	}
	if w := ts.wait(99, time.Minute); w != 0 {
		t.Errorf("waits %v for what is due", w)
	}
	if w := (timers{}).wait(0, time.Minute); w != time.Minute {
		t.Errorf("waits %v for nothing", w)
	}
}

// Timers of executions that have ended must not be kept until they are due.
func TestTimersOfEndedExecutionsAreForgotten(t *testing.T) {
	r := newRun(shell{}, Position{}, nil, nil, nil)
	stays := &live{x: &engine.Execution{ID: "stays"}, due: 77}
	r.live["stays"] = stays
	r.timers.add(77, "stays")
	for i := range 20_000 {
		id := fmt.Sprint(i)
		r.live[id] = &live{x: &engine.Execution{ID: id}, due: 1 << 50}
		r.timers.add(1<<50, id)
		r.ended = append(r.ended, ended{id, uint64(i + 1)})
		r.committedSeq.Store(uint64(i + 1))
		r.forgetEnded()
	}
	if len(r.live) != 1 || len(r.timers) > 2000 {
		t.Errorf("%d executions and %d timers are left", len(r.live), len(r.timers))
	}
	if next, ok := r.timers.next(77); !ok || next.execution != "stays" {
		t.Errorf("the timer of the one that is left: %v, %t", next, ok)
	}
}

func TestClockGoesByTheStream(t *testing.T) {
	var c clock
	c.set(1_000_000)
	if now := c.now(); now < 1_000_000 || now > 2_000_000 {
		t.Errorf("now %d", now)
	}
	c.set(500_000) // an older message tells nothing
	if now := c.now(); now < 1_000_000 {
		t.Errorf("now %d", now)
	}
}

// After a fail-over the log's clock may be behind. Going on by the old one would send a timer's
// message again and again until it has caught up.
func TestATimerThatCameEarlySetsTheClockBack(t *testing.T) {
	_, s := writing(t, &ledger{})
	r := s.partition(3)
	l := r.sentStep(t, 9)
	l.x.Steps[0].Backstop = 60_000_000
	r.clock.set(61_000_000)
	l.due = 60_000_000
	r.cameEarly(l, 40_000_000)
	r.schedule(l)
	if w := r.timers.wait(r.clock.now(), time.Minute); w < 15*time.Second || w > 20*time.Second {
		t.Errorf("the timer is sent again after %v", w)
	}
	// While the backlog is applied its times are old, and tell nothing.
	r.catchingUp = true
	r.clock.set(61_000_000)
	r.cameEarly(l, 40_000_000)
	if now := r.clock.now(); now < 61_000_000 {
		t.Errorf("now %d", now)
	}
	// What came when nothing was due, because another message had been first, is not early.
	r.catchingUp = false
	l.x.Steps[0].Backstop = 90_000_000
	r.cameEarly(l, 40_000_000)
	if now := r.clock.now(); now < 61_000_000 {
		t.Errorf("now %d", now)
	}
}
