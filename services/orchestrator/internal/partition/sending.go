package partition

import (
	"context"
	"time"

	"turbocat.io/services/orchestrator/internal/engine"
)

// send puts the current attempt of a step into STEPS.
func (r *run) send(l *live, i int) {
	x, s, def := l.x, &l.x.Steps[i], &l.x.Definition.Steps[i]
	body, failure := x.Body(i)
	if failure != nil {
		return // the engine has refused such inputs before the step became ready
	}
	if s.Dispatch > 1 || l.sends[i] != nil {
		r.metrics.resent.Inc()
	} else {
		r.metrics.sent.Inc()
	}
	out := &send{done: make(chan struct{}), at: time.Now()}
	l.sends[i] = out
	r.transport.Send(StepMessage{
		ExecutionID: x.ID, WorkflowID: x.WorkflowID, UserID: x.UserID, RequestID: x.RequestID, Traceparent: x.Traceparent,
		StepKey: def.Key, AgentID: def.AgentID, AgentType: def.AgentType, Priority: x.Priority,
		Token: s.Token, Dispatch: s.Dispatch, Attempt: s.Attempt, TimeoutMs: def.TimeoutMs,
		IdempotencyKey: engine.IdempotencyKey(r.secret, x.ID, def.Key), Body: body,
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
	r.reconcile(ctx, 0)
}

// sendUnsent sends the ready steps that STEPS has not taken.
func (r *run) sendUnsent() {
	if r.catchingUp {
		return
	}
	for _, l := range r.live {
		for i := range l.x.Steps {
			if !l.x.Steps[i].AwaitsResult() {
				continue
			}
			if s := l.sends[i]; s == nil || (isClosed(s.done) && s.seq == 0) {
				r.send(l, i)
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
		for i := range l.x.Steps {
			if s := l.sends[i]; l.x.Steps[i].AwaitsResult() && s.sequence() > 0 && !s.noted.Load() {
				c.steps = append(c.steps, r.stepChange(l, i))
				c.size += len(l.x.Steps[i].Output) + 256
			}
		}
	}
	if len(c.steps) == 0 {
		return
	}
	r.uncommitted.Add(1)
	r.writer.add(c)
}

// stepChange is step i as it is now.
func (r *run) stepChange(l *live, i int) stepChange {
	return stepChange{row: StepRow{ExecutionID: l.x.ID, P: r.position.P, Index: i, Step: l.x.Steps[i]}, send: l.sends[i]}
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
