package partition

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"turbocat.io/contracts/errs"
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
	secret    []byte
	log       zerolog.Logger
	metrics   *metrics
	// leased waits until the process may apply inputs, or ctx ends.
	leased func(ctx context.Context) error
}

// live is an execution in memory.
type live struct {
	x     *engine.Execution
	sends []*send // for each step the message of its current attempt
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
		live: map[string]*live{}, resetting: make(chan struct{}),
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
		for _, s := range c.stops {
			s.attempt.Sent = s.send.sequence()
			stops = append(stops, s.attempt)
		}
	}
	r.committedSeq.Store(changes[len(changes)-1].seq)
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
	e := &live{x: l.Execution, sends: make([]*send, len(l.Execution.Steps))}
	now := time.Now()
	for i, seq := range l.Sent {
		if seq > 0 {
			s := &send{done: make(chan struct{}), seq: seq, at: now}
			close(s.done)
			s.noted.Store(true)
			e.sends[i] = s
		}
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
		case <-due.C:
			r.fireTimers()
		case <-tick.C:
			r.forgetEnded()
			r.sendUnsent()
			r.noteSent()
			if time.Since(lastReconcile) >= reconcileEvery {
				lastReconcile = time.Now()
				r.reconcile(ctx, reconcileEvery/2)
				r.followIdle(ctx, reader)
			}
		}
	}
}

// handle applies a message and those that wait behind it.
func (r *run) handle(ctx context.Context, reader Reader, first Message) error {
	batch := []Message{first}
drain:
	for len(batch) < maxInputs {
		select {
		case m := <-reader.Messages():
			batch = append(batch, m)
		default:
			break drain
		}
	}
	if err := r.leased(ctx); err != nil {
		return err
	}
	if err := r.writer.admit(ctx); err != nil {
		return err
	}
	r.forgetEnded()
	if err := r.loadUnknown(ctx, batch); err != nil {
		return err
	}
	r.inMemory.Store(int64(len(r.live)))
	for _, m := range batch {
		if m.Seq <= r.seq {
			continue
		}
		if err := r.apply(m); err != nil {
			return err
		}
	}
	if r.catchingUp && batch[len(batch)-1].Pending == 0 {
		r.caughtUpNow(ctx)
	}
	return nil
}

// loadUnknown reads the executions of a batch that are not in memory, however long the
// database is away.
func (r *run) loadUnknown(ctx context.Context, batch []Message) error {
	var unknown []string
	asked := map[string]bool{}
	for _, m := range batch {
		if m.Fault == "" && r.live[m.ExecutionID] == nil && !asked[m.ExecutionID] {
			asked[m.ExecutionID] = true
			unknown = append(unknown, m.ExecutionID)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	for pause := 20 * time.Millisecond; ; pause = min(pause*2, time.Second) {
		loaded, err := r.ledger.Load(ctx, unknown)
		if err == nil {
			for _, l := range loaded {
				if l.Execution.Partition == r.position.P { // another's input is a dead letter here
					r.admit(l)
				}
			}
			return nil
		}
		if errs.CodeOf(err) != errs.DependencyUnavailable {
			return fmt.Errorf("load executions: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// apply applies one input and queues what it did for the writer.
func (r *run) apply(m Message) error {
	c := &change{run: r, from: r.seq, seq: m.Seq, time: m.Time, command: m.CommandID, size: m.Size + 512, made: time.Now()}
	l := r.live[m.ExecutionID]
	switch {
	case m.Fault != "":
		c.dead = &DeadLetter{P: r.position.P, Seq: m.Seq, Subject: m.Subject, Headers: m.Headers, Body: m.Body, Reason: m.Fault}
	case l == nil:
		c.dead = &DeadLetter{P: r.position.P, Seq: m.Seq, Subject: m.Subject, Headers: m.Headers, Body: m.Body, Reason: "no execution has the id " + m.ExecutionID}
	default:
		effects, err := r.decide(l.x, m.Input)
		if err != nil {
			r.log.Error().EmbedObject(about(l.x)).Err(err).Uint64("seq", m.Seq).Msg("the engine can not apply an input; the execution will be failed")
			r.reset(l.x.ID, "the engine could not apply an input; this is a fault of ours")
			return errReset
		}
		if err := r.carryOut(l, effects, c); err != nil {
			return err
		}
		if l.x.Terminal() {
			r.ended = append(r.ended, ended{l.x.ID, m.Seq})
			if !effects.None() {
				c.ended = l.x.Status
			}
		} else if m.Input.Kind == engine.TimerDue && effects.None() {
			r.cameEarly(l, m.Input.Time)
		}
	}
	r.seq, r.seqTime = m.Seq, m.Time
	r.clock.set(engine.Time(m.Time / 1000))
	if l != nil {
		r.schedule(l)
	}
	c.eventN = r.eventN
	r.metrics.applied.Inc()
	r.uncommitted.Add(1)
	r.writer.add(c)
	return nil
}

// decide asks the engine. A panic in it becomes an error; the state is then not to be used.
func (r *run) decide(x *engine.Execution, in engine.Input) (effects engine.Effects, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	if reason, ok := r.faulty[x.ID]; ok {
		return engine.Fault(x, in.Time, reason), nil
	}
	return engine.Apply(x, in, r.keys), nil
}

// carryOut sends what became ready and puts the new state into the change.
func (r *run) carryOut(l *live, effects engine.Effects, c *change) error {
	if effects.None() {
		return nil
	}
	for _, s := range effects.Stop {
		attempt := StoppedAttempt{ExecutionID: l.x.ID, Index: s.Step, Token: s.Token}
		c.stops = append(c.stops, stopChange{attempt, l.sends[s.Step]})
	}
	for _, i := range effects.Ready {
		l.sends[i] = nil
		if !r.catchingUp {
			r.send(l, i)
		}
	}
	for _, w := range effects.Warnings {
		r.transport.Warn(l.x, w)
	}
	row := executionRow(l.x)
	c.exec = &row
	for _, i := range effects.Steps {
		if l.x.Steps[i].Token == "" {
			l.sends[i] = nil // the attempt has ended; the ledger would remember its message as one to drop
		}
		c.steps = append(c.steps, r.stepChange(l, i))
	}
	for _, e := range effects.Events {
		r.eventN++
		body, err := l.x.Encode(e, r.secret, r.eventN)
		if err != nil {
			return fmt.Errorf("encode an event: %w", err)
		}
		c.events = append(c.events, EventRow{
			ExecutionID: l.x.ID, P: r.position.P, Seq: e.Data.Seq, N: r.eventN, Type: e.Type.String(), Body: body,
		})
		c.size += len(body)
	}
	return nil
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

func executionRow(x *engine.Execution) ExecutionRow {
	p := x.Progress()
	return ExecutionRow{
		ID: x.ID, Status: x.Status, Outputs: x.Outputs, Error: x.Error, EventSeq: x.EventSeq,
		LastInput: x.LastInput, NextDue: x.NextDue(), StartedAt: x.StartedAt, CompletedAt: x.CompletedAt,
		Completed: p.Completed, Failed: p.Failed, Skipped: p.Skipped, Percent: p.Percent,
	}
}
