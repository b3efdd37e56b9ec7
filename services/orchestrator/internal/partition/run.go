package partition

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"turbocat.io/pkg/observe"
	"turbocat.io/services/orchestrator/internal/dealing"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/grant"
)

const (
	// maxInputs is how many waiting inputs are applied between two looks at everything else.
	maxInputs = 256
	tickEvery = time.Second
	// reconcileEvery is how often what may be lost is looked for.
	reconcileEvery = 10 * time.Second
	// lostAfter is how long a sent step is left alone before its message is looked for: twice
	// the runners' ack wait.
	lostAfter = 10 * time.Second
	// resendTimer is after how long a timer's message that was not applied is sent again.
	resendTimer = 5 * time.Second
)

var (
	errOtherLog = errors.New("the input log is not the one the partition was applied from")
	errReset    = errors.New("the partition begins anew from the ledger")
)

// run applies the inputs of one partition under one epoch, from the ledger's state on. Its
// fields belong to the goroutine of work, but for those that say otherwise.
type run struct {
	shell
	position Position
	relay    *relay
	verify   <-chan struct{}   // receives when the log may be another
	faulty   map[string]string // executions to fail, and why

	seq        uint64 // last applied
	seqTime    int64  // its time; 0: nothing to compare
	eventN     uint64
	keys       engine.Keys
	live       map[string]*live
	ended      []ended
	followUps  map[followUp]*followUpState
	hand       *dealing.Hand
	waiting    map[stepID]*dealing.Step // ready, and not their turn yet
	timers     timers
	waking     map[string]engine.Time // executions that are not in memory and soon due, and when their timers are
	clock      clock
	catchingUp bool
	arrivals   arrivals // any goroutine

	dead         atomic.Bool   // nothing of this run may be committed any more; any goroutine
	uncommitted  atomic.Int64  // changes; any goroutine
	committedSeq atomic.Uint64 // any goroutine
	inMemory     atomic.Int64  // executions in live; any goroutine
	unseen       atomic.Int64  // inputs that the reconciler's last look found accepted and not applied; any goroutine
	caughtUp     atomic.Bool   // any goroutine
	reconciling  atomic.Bool   // any goroutine
	lookingUp    atomic.Bool   // any goroutine
	background   sync.WaitGroup

	mu     sync.Mutex
	untold []largeEnd // whose parents are to be told

	lookedUp  chan map[string]engine.Time // what of the ledger is soon due
	beginning chan struct{}               // has an entry for each child that begins
	ready     chan struct{}               // receives when something is committed that is to be followed up

	resetOnce sync.Once
	resetting chan struct{} // closed by reset
	culprit   string        // set before resetting is closed
	reason    string
	fenced    atomic.Bool
}

// shell is what all runs of a process share.
type shell struct {
	ledger    Ledger
	transport Transport
	writer    *Writer
	stopper   *stopper
	begin     Children
	dealer    *dealing.Dealer
	payloads  *Payloads
	inline    int           // the largest payload that is kept as it is
	large     chan struct{} // has an entry for each large payload that is made
	secret    []byte
	grants    *grant.Signer
	log       zerolog.Logger
	metrics   *metrics
	tracing   *observe.Tracing // nil records nothing
	// leased waits until the process may apply inputs, or ctx ends.
	leased func(ctx context.Context) error
}

// live is an execution in memory.
type live struct {
	x     *engine.Execution
	sends map[engine.Place]*send // messages of current attempts
	due   engine.Time
	seq   uint64    // of its last input
	at    time.Time // when that came
}

// ended is an execution that can be forgotten once seq is committed.
type ended struct {
	id  string
	seq uint64
}

func newRun(s shell, pos Position, relay *relay, verify <-chan struct{}, faulty map[string]string) *run {
	r := &run{
		shell: s, position: pos, relay: relay, verify: verify, faulty: faulty,
		seq: pos.InputSeq, seqTime: pos.InputTime, eventN: pos.EventN,
		keys: engine.Keys{Secret: s.secret, Generation: pos.Generation}.Quick(),
		live: map[string]*live{}, followUps: map[followUp]*followUpState{},
		hand: dealing.NewHand(), waiting: map[stepID]*dealing.Step{},
		waking: map[string]engine.Time{}, lookedUp: make(chan map[string]engine.Time, 1),
		ready: make(chan struct{}, 1), beginning: make(chan struct{}, childrenAtOnce), resetting: make(chan struct{}),
	}
	r.committedSeq.Store(pos.InputSeq)
	return r
}

// drop ends the run because the partition is another's. Any goroutine may call it.
func (r *run) drop() {
	r.fenced.Store(true)
	r.reset("", "")
}

// reset ends the run without committing anything more of it; culprit, if any, is an execution
// that the next run fails. Any goroutine may call it.
func (r *run) reset(culprit, reason string) {
	r.resetOnce.Do(func() {
		r.culprit, r.reason = culprit, reason
		r.dead.Store(true)
		close(r.resetting)
	})
}

// committed takes note of what the writer has committed, and tells the world.
func (r *run) committed(changes []*change) {
	var events []EventRow
	var stops []StoppedAttempt
	for _, c := range changes {
		events = append(events, c.events...)
		for _, in := range c.told {
			r.append(in)
		}
		if c.endsLarge != nil {
			r.mu.Lock()
			r.untold = append(r.untold, *c.endsLarge)
			r.mu.Unlock()
		}
		for _, s := range c.stops {
			s.attempt.Sent = s.send.sequence()
			stops = append(stops, s.attempt)
		}
	}
	r.committedSeq.Store(changes[len(changes)-1].seq)
	if slices.ContainsFunc(changes, func(c *change) bool { return c.follows || c.endsLarge != nil }) {
		select {
		case r.ready <- struct{}{}:
		default:
		}
	}
	r.relay.push(events)
	r.stopper.push(stops)
}

// work applies inputs until ctx ends, the run is reset, or the log turns out to be another.
func (r *run) work(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer r.background.Wait()
	defer cancel()
	defer r.letAllGo()
	if err := r.load(ctx); err != nil {
		return err
	}
	for {
		if err := r.checkLog(ctx); err != nil {
			return err
		}
		err := r.follow(ctx)
		if !errors.Is(err, errReadAgain) {
			return err
		}
	}
}

var errReadAgain = errors.New("the log is to be read again")

// load brings the partition's executions into memory.
func (r *run) load(ctx context.Context) error {
	streams, err := r.transport.Ensure(ctx)
	if err != nil {
		return err
	}
	r.clock.set(engine.Time(streams.Now / 1000)) // the first input corrects it
	loaded, err := r.ledger.LoadLive(ctx, r.position.P, r.nearby())
	if err != nil {
		return fmt.Errorf("load the executions of partition %d: %w", r.position.P, err)
	}
	for _, l := range loaded {
		r.admit(ctx, l)
	}
	r.inMemory.Store(int64(len(r.live)))
	stopped, err := r.ledger.Stopped(ctx, []int{r.position.P}, 0)
	if err != nil {
		return fmt.Errorf("load the stopped attempts of partition %d: %w", r.position.P, err)
	}
	r.stopper.push(stopped)
	return nil
}

func (r *run) admit(ctx context.Context, l Loaded) *live {
	r.arrivals.take(l.Execution.ID) // from now on it changes
	now := time.Now()
	e := &live{x: l.Execution, sends: make(map[engine.Place]*send, len(l.Sent)), seq: r.seq, at: now}
	for p, seq := range l.Sent {
		s := &send{done: make(chan struct{}), seq: seq, at: now}
		close(s.done)
		s.noted.Store(true)
		e.sends[p] = s
		if t := e.x.Task(p); t != nil && t.AwaitsResult() && t.Child == "" {
			s.dealt = r.dealingStep(e, p, t.Token)
			r.dealer.Hold(s.dealt)
		}
	}
	e.x.Payloads = r.reader(ctx, e.x.ID)
	for i := engine.Outputs; i < len(e.x.Steps); i++ {
		if e.x.Gathers(i) {
			r.toFollowUp(e.x, engine.Place{Step: i}, 0)
		}
	}
	for p := range e.x.Children() {
		r.toFollowUp(e.x, p, 0)
	}
	r.live[e.x.ID] = e
	delete(r.waking, e.x.ID)
	if e.x.Terminal() {
		r.ended = append(r.ended, ended{e.x.ID, r.seq})
	}
	r.schedule(e)
	return e
}

// checkLog fails with errOtherLog unless the log is the one that seq speaks of.
func (r *run) checkLog(ctx context.Context) error {
	streams, err := r.transport.Ensure(ctx)
	if err != nil {
		return err
	}
	if r.position.StreamCreated == 0 {
		if err := r.ledger.Adopt(ctx, r.position.P, r.position.Epoch, streams.LogCreated); err != nil {
			return err
		}
		r.position.StreamCreated = streams.LogCreated
	}
	if streams.LogCreated != r.position.StreamCreated || streams.FirstSeq > r.seq+1 || streams.LastSeq < r.seq {
		return errOtherLog
	}
	if r.seqTime == 0 || streams.FirstSeq > r.seq {
		return nil
	}
	ns, found, err := r.transport.TimeAt(ctx, r.seq)
	if err != nil {
		return err
	}
	if !found || ns != r.seqTime {
		return errOtherLog
	}
	return nil
}

// follow reads the log from seq on.
func (r *run) follow(ctx context.Context) error {
	if err := r.appendUnseen(ctx); err != nil {
		return err
	}
	reader, err := r.transport.Read(ctx, r.position.P, r.seq+1)
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	defer reader.Close()
	if r.catchingUp = reader.Pending(); !r.catchingUp {
		if err := r.caughtUpNow(ctx); err != nil {
			return err
		}
	}
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	lastReconcile := time.Now()
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		due.Reset(r.timers.wait(r.clock.now(), time.Minute))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.resetting:
			return errReset
		case <-r.verify:
			return errReadAgain
		case <-reader.Resets():
			return errReadAgain
		case m := <-reader.Messages():
			if err := r.handle(ctx, reader, m); err != nil {
				return err
			}
		case <-r.hand.Dealt():
			if err := r.sendDealt(ctx); err != nil {
				return err
			}
		case <-r.ready:
			r.tellParents(ctx)
			r.followUpAll(ctx)
		case due := <-r.lookedUp:
			r.wakeLater(due)
		case <-due.C:
			r.fireTimers()
		case <-tick.C:
			if err := r.leased(ctx); err != nil {
				return err
			}
			r.forgetEnded()
			r.forgetSleeping()
			r.sendUnsent()
			r.followUpAll(ctx)
			r.noteSent()
			if time.Since(lastReconcile) >= reconcileEvery {
				lastReconcile = time.Now()
				r.reconcile(ctx, reconcileEvery/2)
				r.lookUp(ctx)
				r.followIdle(ctx, reader)
			}
		}
	}
}

// forgetEnded drops ended executions whose end is committed; until then they tell late inputs apart.
func (r *run) forgetEnded() {
	committed := r.committedSeq.Load()
	n := 0
	for n < len(r.ended) && r.ended[n].seq <= committed {
		delete(r.live, r.ended[n].id)
		n++
	}
	r.ended = r.ended[n:]
	r.inMemory.Store(int64(len(r.live)))
	if len(r.timers) > 2*(len(r.live)+len(r.waking))+1024 { // most are of executions that have ended
		r.timers = r.timers[:0]
		for id, l := range r.live {
			if l.due != 0 {
				r.timers.add(l.due, id)
			}
		}
		for id, due := range r.waking {
			r.timers.add(due, id)
		}
	}
}
