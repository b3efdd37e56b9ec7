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
	out := &send{done: make(chan struct{}), at: time.Now()}
	l.sends[i] = out
	r.transport.Send(StepMessage{
		ExecutionID: x.ID, WorkflowID: x.WorkflowID, UserID: x.UserID, RequestID: x.RequestID, Traceparent: x.Traceparent,
		StepKey: def.Key, AgentID: def.AgentID, AgentType: def.AgentType, Priority: x.Priority,
		Token: s.Token, Dispatch: s.Dispatch, Attempt: s.Attempt, TimeoutMs: def.TimeoutMs,
		IdempotencyKey: engine.IdempotencyKey(r.secret, x.ID, def.Key), Body: body,
	}, func(seq uint64, err error) {
		if err != nil {
			r.log.Warn().Err(err).Str("executionId", x.ID).Msg("a ready step is not sent yet; trying again")
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

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
