package work

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"turbocat.io/contracts/runner"
)

// How much is remembered of what is done with; the oldest goes.
const (
	rememberAnswered  = 8192
	rememberCancelled = 65536

	// tick is how often Attempts looks after what it holds.
	tick = 50 * time.Millisecond
	// announceAfter is how long a step runs before it is reported as started.
	announceAfter = 200 * time.Millisecond
)

var errCancelled = errors.New("the attempt was cancelled")

// Attempts knows every attempt that this runner holds, has answered or was told to stop,
// whatever its agent type. It keeps the leases of those held. It is safe for concurrent use.
type Attempts struct {
	report func(context.Context, Report, func())

	mu        sync.Mutex
	held      map[string]*attempt              // by token
	answered  *simplelru.LRU[string, struct{}] // sendings: a step that is sent again after its answer was lost is run again
	cancelled *simplelru.LRU[string, struct{}] // tokens
}

// attempt is what Attempts holds from its delivery until its message is done with.
// From count on it is guarded by the mutex of Attempts.
type attempt struct {
	step     *Step
	sendings []string // each a token and dispatch; see Step.sending
	overrun  bool     // delivered too often to be run
	free     func()   // it takes none of the places that bound what is delivered any more
	ackWait  time.Duration
	count    int // of deliveries, the most that a message of it had
	doubtful bool
	leases   []hold
	extended time.Time // when its leases were last ours
	gap      bool      // they had run out before that, and nobody was asked since: another may have run it

	place place // among those that run

	began     time.Time // zero while it waits for a slot and once it has ended
	announced int       // the count that step.started was reported for
	stop      context.CancelCauseFunc
}

// hold is the lease on the latest delivery of one message.
type hold struct {
	sequence uint64
	lease    Lease
}

// NewAttempts makes Attempts that hold none. report must not block for step.started.
func NewAttempts(report func(context.Context, Report, func())) *Attempts {
	answered, _ := simplelru.NewLRU[string, struct{}](rememberAnswered, nil) // it refuses sizes below 1 alone
	cancelled, _ := simplelru.NewLRU[string, struct{}](rememberCancelled, nil)
	return &Attempts{report: report, held: map[string]*attempt{}, answered: answered, cancelled: cancelled}
}

// Run keeps leases and reports starts until ctx ends.
func (s *Attempts) Run(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			s.look(ctx, now)
		}
	}
}

// Cancel stops the attempt with this token, now or when it is delivered; nothing is reported of it.
func (s *Attempts) Cancel(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancelled.Add(token, struct{}{})
	if a := s.held[token]; a != nil && a.stop != nil {
		a.stop(errCancelled)
	}
}

// GiveBackAll lets other runners take everything that is still held.
func (s *Attempts) GiveBackAll() {
	s.mu.Lock()
	held := s.held
	s.held = map[string]*attempt{}
	s.mu.Unlock()
	for _, a := range held {
		for _, h := range a.leases {
			h.lease.Nak()
		}
	}
}

// admit takes a delivery in. It gives nil when there is nothing to run: the attempt was
// answered or cancelled, or is held already.
func (s *Attempts) admit(d *Delivery) *attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	token := d.Step.Token
	if s.answered.Contains(d.Step.sending()) || s.cancelled.Contains(token) {
		d.Lease.Ack()
		d.Lease.Free()
		return nil
	}
	if a := s.held[token]; a != nil {
		a.renew(d)
		d.Lease.Free()
		return nil
	}
	a := &attempt{
		step: d.Step, sendings: []string{d.Step.sending()}, overrun: d.Count >= MaxDeliveries, free: sync.OnceFunc(d.Lease.Free), ackWait: d.AckWait,
		count: d.Count, doubtful: d.Doubtful, extended: time.Now(), leases: []hold{{d.Sequence, d.Lease}},
	}
	s.held[token] = a
	return a
}

// renew makes a later delivery the one that is kept and acked. One that comes after the lease ran out may itself have waited,
// in the socket of a process that stood still.
func (a *attempt) renew(d *Delivery) {
	now := time.Now()
	a.gap = a.gap || now.Sub(a.extended) > a.ackWait
	a.extended = now
	a.count = max(a.count, d.Count)
	for i := range a.leases {
		if a.leases[i].sequence == d.Sequence {
			a.leases[i].lease = d.Lease
			return
		}
	}
	a.sendings = append(a.sendings, d.Step.sending())
	a.leases = append(a.leases, hold{d.Sequence, d.Lease})
}

// begin marks the attempt as running; stop ends it. False: it is not to be run, because it
// was cancelled or because its lease ran out while it waited, and it is let go of.
func (s *Attempts) begin(ctx context.Context, a *attempt, stop context.CancelCauseFunc) bool {
	s.mu.Lock()
	now := time.Now()
	cancelled := s.cancelled.Contains(a.step.Token)
	if cancelled || !a.sure(now) {
		delete(s.held, a.step.Token)
		s.mu.Unlock()
		if cancelled {
			a.ack()
		}
		return false
	}
	a.began, a.stop = now, stop
	announce := a.count > 1
	if announce {
		a.announced = a.count
	}
	s.mu.Unlock()
	if announce {
		s.report(ctx, Report{Type: runner.TypeStepStarted, Step: a.step}, nil)
	}
	return true
}

// ours tells whether the lease on the attempt has surely not run out.
func (s *Attempts) ours(a *attempt) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return a.sure(time.Now())
}

func (a *attempt) sure(now time.Time) bool { return !a.gap && now.Sub(a.extended) <= a.ackWait }

// redelivered tells whether a runner before this one may have answered the attempt. Who asks about it then knows of every
// gap so far.
func (s *Attempts) redelivered(a *attempt) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.gap = false
	return a.count > 1 || a.doubtful
}

// end marks the attempt as no longer running; its leases are still kept.
func (s *Attempts) end(a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.began, a.stop = time.Time{}, nil
}

// settle lets go of an attempt whose result is stored.
func (s *Attempts) settle(a *attempt) {
	s.mu.Lock()
	for _, sending := range a.sendings {
		s.answered.Add(sending, struct{}{})
	}
	s.mu.Unlock()
	s.drop(a)
}

// drop acks every message of an attempt and forgets it.
func (s *Attempts) drop(a *attempt) {
	if s.forget(a) {
		a.ack()
	}
}

// giveBack lets another runner take the attempt.
func (s *Attempts) giveBack(a *attempt) {
	if s.forget(a) {
		for _, h := range a.leases {
			h.lease.Nak()
		}
	}
}

// forget takes the attempt out, so that nobody else changes its leases; false
// when it was out already.
func (s *Attempts) forget(a *attempt) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[a.step.Token] != a {
		return false
	}
	delete(s.held, a.step.Token)
	return true
}

func (a *attempt) ack() {
	for _, h := range a.leases {
		h.lease.Ack()
	}
}

// look extends the leases that are due and reports what has run for a while.
func (s *Attempts) look(ctx context.Context, now time.Time) {
	var due []*attempt
	var leases [][]hold
	var started []*Step
	s.mu.Lock()
	for _, a := range s.held {
		// A lease that has run out is not ours to extend; a redelivery renews it.
		if since := now.Sub(a.extended); since >= a.ackWait/3-tick/2 && since <= a.ackWait {
			due = append(due, a)
			leases = append(leases, append([]hold(nil), a.leases...))
		}
		if !a.began.IsZero() && a.announced < a.count && (a.count > 1 || now.Sub(a.began) >= announceAfter) {
			a.announced = a.count
			started = append(started, a.step)
		}
	}
	s.mu.Unlock()

	var extended []*attempt
	for i, a := range due {
		ok := true
		for _, h := range leases[i] {
			ok = h.lease.Extend() && ok
		}
		if ok {
			extended = append(extended, a)
		}
	}
	for _, step := range started {
		s.report(ctx, Report{Type: runner.TypeStepStarted, Step: step}, nil)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range extended {
		if a.extended.Before(now) {
			a.extended = now
		}
	}
}
