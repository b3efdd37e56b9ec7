// Package dealing decides when a ready step goes to the runners. STEPS is one line for everybody, so it is kept short: it
// has about twice as many steps as the runners that are alive run at once, and the rest waits here, where users and
// executions take turns. One Dealer serves all partitions of a process.
package dealing

import (
	"cmp"
	"math"
	"sync"
	"time"

	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
)

const (
	// perSlot is how many steps there are in STEPS for each attempt that runners can run at once: the one that runs, and
	// one that the runner has at hand when it ends.
	perSlot = 2
	// AtLeast is how many steps of a type a process puts into STEPS however few runners it knows: a runner that has just
	// begun finds work, and is known by then.
	AtLeast = 4
)

// Dealer has the steps that wait, and counts those that are in STEPS. It is safe for concurrent use.
type Dealer struct {
	began   time.Time
	mu      sync.Mutex
	share   float64 // of all partitions: what this process owns
	lines   map[class]*line
	runners map[string]*alive // by id
}

// class is what runners have a line for.
type class struct{ pool, agentType string }

func (s *Step) class() class { return classOf(s.Pool, s.AgentType) }

func classOf(pool, agentType string) class {
	return class{cmp.Or(pool, subject.DefaultPool), agentType}
}

// line is that of one class.
type line struct {
	order order
	out   int // steps that were dealt and not given back
	limit int // of out
}

type state int

const (
	unknown state = iota
	waiting       // in the line
	dealt         // in STEPS, or on its way there
)

// Hand takes what is dealt to one owner of executions, who alone asks with it.
type Hand struct {
	steps   []*Step
	arrived chan struct{}
}

// NewHand makes an empty hand.
func NewHand() *Hand { return &Hand{arrived: make(chan struct{}, 1)} }

// Dealt receives when there is something to be picked up.
func (h *Hand) Dealt() <-chan struct{} { return h.arrived }

// New makes a dealer that knows of no runner and serves all partitions.
func New() *Dealer {
	return &Dealer{began: time.Now(), share: 1, lines: map[class]*line{}, runners: map[string]*alive{}}
}

// line gives the line of a class. The caller has the mutex.
func (d *Dealer) line(c class) *line {
	l := d.lines[c]
	if l == nil {
		l = &line{limit: d.limit(c)}
		d.lines[c] = l
	}
	return l
}

// Ask tells whether a step may be sent now. Else it waits, and comes to the hand when it is its turn. Either way it is to be
// given back once.
func (d *Dealer) Ask(s *Step, h *Hand) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.line(s.class())
	s.hand = h
	if l.order.steps.Len() == 0 && l.out < l.limit {
		l.out++
		s.state = dealt
		return true
	}
	l.order.add(s)
	s.state = waiting
	return false
}

// Hold counts a step that is in STEPS already.
func (d *Dealer) Hold(s *Step) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.line(s.class()).out++
	s.state = dealt
}

// GiveBack lets go of a step: it has a result, was stopped, is to be sent no more, or its message is gone. Another one is
// dealt in its place. Safe to repeat.
func (d *Dealer) GiveBack(s *Step) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.line(s.class())
	switch s.state {
	case waiting:
		l.order.remove(s)
	case dealt:
		l.out--
		l.deal()
	}
	s.state = unknown
	if l.out == 0 && l.order.steps.Len() == 0 {
		delete(d.lines, s.class()) // whoever writes an agent names its pool: what is left of that must not add up
	}
}

// deal hands out what there is room for. The caller has the mutex.
func (l *line) deal() {
	for l.out < l.limit {
		s := l.order.next()
		if s == nil {
			return
		}
		l.out++
		s.state = dealt
		s.hand.steps = append(s.hand.steps, s)
		select {
		case s.hand.arrived <- struct{}{}:
		default:
		}
	}
}

// PickUp gives what was dealt to a hand since the last time, without what was given back meanwhile.
func (d *Dealer) PickUp(h *Hand) []*Step {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []*Step
	for _, s := range h.steps {
		if s.state == dealt {
			out = append(out, s)
		}
	}
	h.steps = nil
	return out
}

// Serve says which share of all partitions this process owns, and forgets runners that are silent. It is called every second
// or so.
func (d *Dealer) Serve(share float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.share = share
	for id, r := range d.runners {
		if time.Since(r.heard) > ForgottenAfter {
			delete(d.runners, id)
		}
	}
	d.resize()
}

// resize makes every line as long as the runners want it. The caller has the mutex.
func (d *Dealer) resize() {
	for c, l := range d.lines {
		l.limit = d.limit(c)
		l.deal()
	}
}

// limit is how many steps of a class this process may have in STEPS. A pool that nobody runs has none there, for nobody may come.
func (d *Dealer) limit(c class) int {
	alive, slots, _ := d.capacity(c)
	if alive == 0 && c.pool != subject.DefaultPool {
		return 0
	}
	return max(AtLeast, int(math.Ceil(perSlot*float64(slots)*d.share)))
}

// Standing is how the line of an agent type in a pool is.
type Standing struct {
	Alive   int // runners of the pool, whatever they run
	Runners int // of them those that run the agent type
	Slots   int // how many attempts they run at once
	Dealt   int // steps of this process in STEPS, or on their way there
	Limit   int // of Dealt
	Waiting int // steps that wait for their turn in this process
	OfUser  int // of Waiting, those of the user that was asked for

	Oldest time.Time // when the step became ready that has waited for the longest; the zero value when none waits
}

// Of tells how the line of an agent type in a pool is, and how many steps of a user wait in it.
func (d *Dealer) Of(pool, agentType, userID string) Standing {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := classOf(pool, agentType)
	alive, slots, runners := d.capacity(c)
	s := Standing{Alive: alive, Runners: runners, Slots: slots, Limit: d.limit(c)}
	if l := d.lines[c]; l != nil {
		s.Dealt, s.Waiting, s.OfUser = l.out, l.order.steps.Len(), l.order.ofUser(userID)
	}
	return s
}

// total adds up the lines of an agent type in all pools, and the runners that run it.
func (d *Dealer) total(agentType string) (sum Standing) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c, l := range d.lines {
		if c.agentType == agentType {
			sum.Dealt, sum.Waiting = sum.Dealt+l.out, sum.Waiting+l.order.steps.Len()
			if ready := l.order.oldest(); sum.Oldest.IsZero() || !ready.IsZero() && ready.Before(sum.Oldest) {
				sum.Oldest = ready
			}
		}
	}
	for _, r := range d.runners { // some are of several pools
		if n := r.slots(agentType); n > 0 {
			sum.Slots, sum.Runners = sum.Slots+n, sum.Runners+1
		}
	}
	return sum
}

// Ahead tells how many steps of its user go before a step of an agent type that waits for a pool in this process; false when it does not wait here.
func (d *Dealer) Ahead(pool, agentType, userID, executionID string, p engine.Place) (int, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.lines[classOf(pool, agentType)]
	if l == nil {
		return 0, false
	}
	return l.order.ahead(userID, executionID, p)
}
