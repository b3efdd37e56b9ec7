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

	"turbocat.io/services/orchestrator/internal/engine"
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
	timers     timers
	clock      clock
	catchingUp bool

	dead         atomic.Bool   // nothing of this run may be committed any more; any goroutine
	uncommitted  atomic.Int64  // changes; any goroutine
	committedSeq atomic.Uint64 // any goroutine
	inMemory     atomic.Int64  // executions in live; any goroutine
	caughtUp     atomic.Bool   // any goroutine
	reconciling  atomic.Bool   // any goroutine
	background   sync.WaitGroup

	beginning chan struct{} // has an entry for each child that begins
	ready     chan struct{} // receives when something is committed that is to be followed up

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
	secret    []byte
	log       zerolog.Logger
	metrics   *metrics
	// leased waits until the process may apply inputs, or ctx ends.
	leased func(ctx context.Context) error
}

// live is an execution in memory.
type live struct {
	x     *engine.Execution
	sends map[engine.Place]*send // messages of current attempts
	due   engine.Time
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
		keys: engine.Keys{Secret: s.secret, Generation: pos.Generation},
		live: map[string]*live{}, followUps: map[followUp]*followUpState{}, ready: make(chan struct{}, 1), beginning: make(chan struct{}, childrenAtOnce), resetting: make(chan struct{}),
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
		if c.ending != nil {
			r.append(*c.ending)
		}
		for _, s := range c.stops {
			s.attempt.Sent = s.send.sequence()
			stops = append(stops, s.attempt)
		}
	}
	r.committedSeq.Store(changes[len(changes)-1].seq)
	if slices.ContainsFunc(changes, func(c *change) bool { return c.follows }) {
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
	loaded, err := r.ledger.LoadLive(ctx, r.position.P)
	if err != nil {
		return fmt.Errorf("load the executions of partition %d: %w", r.position.P, err)
	}
	for _, l := range loaded {
		r.admit(l)
	}
	r.inMemory.Store(int64(len(r.live)))
	stopped, err := r.ledger.Stopped(ctx, r.position.P)
	if err != nil {
		return fmt.Errorf("load the stopped attempts of partition %d: %w", r.position.P, err)
	}
	r.stopper.push(stopped)
	streams, err := r.transport.Ensure(ctx)
	if err != nil {
		return err
	}
	r.clock.set(engine.Time(streams.Now / 1000)) // the first input corrects it
	return nil
}

func (r *run) admit(l Loaded) *live {
	e := &live{x: l.Execution, sends: make(map[engine.Place]*send, len(l.Sent))}
	now := time.Now()
	for p, seq := range l.Sent {
		s := &send{done: make(chan struct{}), seq: seq, at: now}
		close(s.done)
		s.noted.Store(true)
		e.sends[p] = s
	}
	for i := range e.x.Steps {
		if e.x.Gathers(i) {
			r.toFollowUp(e.x, engine.Place{Step: i}, 0)
		}
	}
	for p := range e.x.Children() {
		r.toFollowUp(e.x, p, 0)
	}
	r.live[e.x.ID] = e
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
	reader, err := r.transport.Read(ctx, r.position.P, r.seq+1)
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	defer reader.Close()
	if r.catchingUp = reader.Pending() > 0; !r.catchingUp {
		r.caughtUpNow(ctx)
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
		case <-r.ready:
			r.followUpAll(ctx)
		case <-due.C:
			r.fireTimers()
		case <-tick.C:
			r.forgetEnded()
			r.sendUnsent()
			r.followUpAll(ctx)
			r.noteSent()
			if time.Since(lastReconcile) >= reconcileEvery {
				lastReconcile = time.Now()
				r.reconcile(ctx, reconcileEvery/2)
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
	if len(r.timers) > 2*len(r.live)+1024 { // most are of executions that have ended
		r.timers = r.timers[:0]
		for id, l := range r.live {
			if l.due != 0 {
				r.timers.add(l.due, id)
			}
		}
	}
}
