package partition

import (
	"context"
	"time"

	"turbocat.io/services/orchestrator/internal/engine"
)

// send puts the current attempt of a task into STEPS.
func (r *run) send(l *live, p engine.Place) {
	x, t, def := l.x, l.x.Task(p), &l.x.Definition.Steps[p.Step]
	body, failure := x.Body(p)
	if failure != nil {
		return // the engine has refused such inputs before the task became ready
	}
	if t.Dispatch > 1 || l.sends[p] != nil {
		r.metrics.resent.Inc()
	} else {
		r.metrics.sent.Inc()
	}
	out := &send{done: make(chan struct{}), at: time.Now()}
	l.sends[p] = out
	work := def.Work(p.Iteration)
	r.transport.Send(StepMessage{
		ExecutionID: x.ID, WorkflowID: x.WorkflowID, UserID: x.UserID, RequestID: x.RequestID, Traceparent: x.Traceparent,
		StepKey: def.Key, Iteration: p.Iteration, AgentID: work.AgentID, AgentType: work.AgentType, Priority: x.Priority,
		Token: t.Token, Dispatch: t.Dispatch, Attempt: t.Attempt, TimeoutMs: def.TimeoutMs,
		IdempotencyKey: engine.IdempotencyKey(r.secret, x.ID, def.Key, p.Iteration), Body: body,
	}, func(seq uint64, err error) {
		if err != nil {
			r.log.Warn().EmbedObject(about(x)).Str("stepKey", def.Key).Err(err).Msg("a ready step is not sent yet; trying again")
			seq = 0
		}
		out.seq = seq
		close(out.done)
	})
}

// caughtUpNow is called once everything that was in the log at take-over is applied: only now
// it is known which steps are still without a result.
func (r *run) caughtUpNow(ctx context.Context) {
	r.catchingUp = false
	r.caughtUp.Store(true)
	r.sendUnsent()
	r.followUpAll(ctx)
	r.reconcile(ctx, 0)
}

// sendUnsent sends the ready steps that STEPS has not taken.
func (r *run) sendUnsent() {
	if r.catchingUp {
		return
	}
	for _, l := range r.live {
		for p := range l.x.Awaiting() {
			if s := l.sends[p]; s == nil || (isClosed(s.done) && s.seq == 0) {
				r.send(l, p)
			}
		}
	}
}

// noteSent has the ledger note where the messages are whose PubAck came after the commit of
// their steps, or that were sent without an input. Whoever takes over would send them again,
// beside a copy that waits or runs once STEPS has forgotten it.
func (r *run) noteSent() {
	c := &change{run: r, from: r.seq, seq: r.seq, time: r.seqTime, eventN: r.eventN, made: time.Now()}
	for _, l := range r.live {
		for p := range l.x.Awaiting() {
			if s := l.sends[p]; s.sequence() > 0 && !s.noted.Load() {
				c.steps = append(c.steps, r.stepChange(l, l.x.Row(p)))
				c.size += 256
			}
		}
	}
	if len(c.steps) == 0 {
		return
	}
	r.uncommitted.Add(1)
	r.writer.add(c)
}

// stepChange is a task as it is now, and its message.
func (r *run) stepChange(l *live, row engine.Row) stepChange {
	return stepChange{row: StepRow{ExecutionID: l.x.ID, P: r.position.P, Row: row}, send: l.sends[row.Place]}
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
