package partition

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/services/orchestrator/internal/engine"
)

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
	if err := r.markMissing(ctx, batch); err != nil {
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
	if r.catchingUp && !batch[len(batch)-1].Pending {
		return r.caughtUpNow(ctx)
	}
	return nil
}

// loadUnknown brings the executions of a batch into memory that are not there: those that were accepted here, and from the ledger, however
// long it is away, the others.
func (r *run) loadUnknown(ctx context.Context, batch []Message) error {
	var unknown []string
	asked := map[string]bool{}
	for _, m := range batch {
		if m.Fault == "" && r.live[m.ExecutionID] == nil && !asked[m.ExecutionID] {
			asked[m.ExecutionID] = true
			if x := r.arrivals.take(m.ExecutionID); x != nil {
				r.admit(ctx, Loaded{Execution: x})
				continue
			}
			unknown = append(unknown, m.ExecutionID)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	var loaded []Loaded
	if err := r.whileAway(ctx, func() (err error) {
		loaded, err = r.ledger.Load(ctx, unknown)
		return err
	}); err != nil {
		return fmt.Errorf("load executions: %w", err)
	}
	for _, l := range loaded {
		if l.Execution.Partition == r.position.P { // another's input is a dead letter here
			r.admit(ctx, l)
		}
	}
	return nil
}

func (r *run) deadLetter(m Message, code, reason string) *DeadLetter {
	return &DeadLetter{P: r.position.P, Seq: m.Seq, Subject: m.Subject, Headers: m.Headers, Body: m.Body, Code: code, Reason: reason}
}

// apply applies one input and queues what it did for the writer.
func (r *run) apply(m Message) error {
	c := &change{run: r, from: r.seq, seq: m.Seq, time: m.Time, size: m.Size + 512, made: time.Now()}
	l := r.live[m.ExecutionID]
	if id := m.Input.Command; id != "" && (l == nil || !l.x.Commands[id]) { // a second one would forget that a signal is kept
		c.commands = append(c.commands, CommandRow{ID: id})
	}
	switch {
	case m.Fault != "":
		c.dead = r.deadLetter(m, orchestrator.DeadNoInput, m.Fault)
	case l == nil:
		c.dead = r.deadLetter(m, orchestrator.DeadNoExecution, "no execution has the id "+m.ExecutionID)
	default:
		c.span = r.applying(m, l.x)
		before := l.x.Status
		effects, err := r.decide(l.x, m.Input)
		if r.dead.Load() {
			return errReset // perhaps because a payload could not be read
		}
		if err != nil {
			r.log.Error().EmbedObject(about(l.x)).Err(err).Uint64("seq", m.Seq).Msg("the engine can not apply an input; the execution will be failed")
			r.reset(l.x.ID, "the engine could not apply an input; this is a fault of ours")
			return errReset
		}
		if err := r.carryOut(l, effects, c); err != nil {
			return err
		}
		if l.x.Status != before {
			r.turned(l, before)
		}
		if l.x.Terminal() {
			r.ended = append(r.ended, ended{l.x.ID, m.Seq})
			if !effects.None() {
				c.ended = l.x.Status
				ending, large := r.endingOf(l.x)
				c.tell(ending)
				c.endsLarge = large
			}
		} else if m.Input.Kind == engine.TimerDue && effects.None() {
			r.cameEarly(l, m.Input.Time)
		}
	}
	r.seq, r.seqTime = m.Seq, m.Time
	r.clock.set(engine.Time(m.Time / 1000))
	if l != nil {
		l.seq, l.at = m.Seq, c.made
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
		return engine.Fault(x, in.Time, reason, r.keys), nil
	}
	return engine.Apply(x, in, r.keys), nil
}

// carryOut sends what became ready and puts the new state into the change.
func (r *run) carryOut(l *live, effects engine.Effects, c *change) error {
	if effects.None() {
		return nil
	}
	for _, s := range effects.Stop {
		if s.Child != "" {
			c.cancels = append(c.cancels, s.Child)
			continue
		}
		c.stops = append(c.stops, stopChange{StoppedAttempt{ExecutionID: l.x.ID, Place: s.Place, Token: s.Token}, l.sends[s.Place]})
	}
	for _, row := range effects.Rows { // first, so that what is ready may have their places
		if t := l.x.Task(row.Place); t == nil || !t.AwaitsResult() {
			r.letGo(l, row.Place)
		}
	}
	for _, p := range effects.Ready {
		r.letGo(l, p)
		delete(l.sends, p)
		if !r.catchingUp {
			r.offer(l, p, effects.Input(p))
		}
	}
	for _, p := range effects.Children {
		l.sends[p] = begunChild()
		r.toFollowUp(l.x, p, c.seq)
		c.follows = true
	}
	for _, w := range effects.Warnings {
		r.transport.Warn(l.x, w)
	}
	row := executionRow(l.x)
	c.exec = &row
	for _, row := range effects.Rows {
		if row.Token == "" || row.Child != "" && !row.AwaitsResult() {
			delete(l.sends, row.Place) // the attempt has ended; the ledger would remember its message as one to drop
		}
		c.steps = append(c.steps, r.stepChange(l, row))
		c.size += len(row.Output)
		if l.x.Task(row.Place) == nil {
			delete(l.sends, row.Place)
		}
	}
	for _, i := range effects.Gather {
		r.toFollowUp(l.x, engine.Place{Step: i}, c.seq)
		c.follows = true
	}
	if effects.Kept {
		c.commands[0].Kept = c.seq
	}
	for _, id := range effects.Taken {
		c.commands = append(c.commands, CommandRow{ID: id})
	}
	if k := effects.Compensation; k != nil {
		row := compensationOf(l.x, *k)
		c.compensation = &row
		c.tell(&Control{P: r.position.P, Kind: engine.Submitted, ExecutionID: k.ID})
		c.size += len(k.Inputs)
	}
	for _, e := range effects.Events {
		r.eventN++
		body, err := l.x.Encode(e, r.keys, r.eventN)
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

func executionRow(x *engine.Execution) ExecutionRow {
	p := x.Progress()
	return ExecutionRow{
		ID: x.ID, Status: x.Status, Outputs: x.Outputs, Error: x.Error, EventSeq: x.EventSeq,
		LastInput: x.LastInput, SleepsUntil: sleepsUntil(x), StartedAt: x.StartedAt, CompletedAt: x.CompletedAt,
		Completed: p.Completed, Failed: p.Failed, Skipped: p.Skipped, Percent: p.Percent,
		Limited: x.Slot != engine.SlotNone,
	}
}
