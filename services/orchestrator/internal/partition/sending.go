package partition

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/dealing"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/grant"
)

// offer has the current attempt of a task sent as soon as it is its turn. input are its inputs if they are at hand; nobody keeps them until
// then. What is ready in a paused execution waits for the resume.
func (r *run) offer(l *live, p engine.Place, input json.RawMessage) {
	x, t := l.x, l.x.Task(p)
	if x.Status == orchestrator.ExecutionPaused {
		return
	}
	s := r.dealingStep(l, p, t.Token)
	if r.dealer.Ask(s, r.hand) {
		r.send(l, p, s, input)
		return
	}
	r.waiting[stepID{x.ID, p}] = s
}

func (r *run) dealingStep(l *live, p engine.Place, token string) *dealing.Step {
	x := l.x
	work := x.Definition.Steps[p.Step].Work(p.Iteration)
	return &dealing.Step{
		ExecutionID: x.ID, Place: p, Token: token, UserID: x.UserID, Priority: x.Priority, Pool: work.Pool, AgentType: work.AgentType,
		Ready: time.Now(),
	}
}

// letGo takes an attempt that needs no runner any more out of the dealer's line, or lets another step have its place in STEPS.
func (r *run) letGo(l *live, p engine.Place) {
	if s := l.sends[p]; s != nil && s.dealt != nil {
		r.dealer.GiveBack(s.dealt)
		s.dealt = nil
	}
	if len(r.waiting) == 0 {
		return
	}
	id := stepID{l.x.ID, p}
	if s := r.waiting[id]; s != nil {
		r.dealer.GiveBack(s)
		delete(r.waiting, id)
	}
}

// letAllGo ends what the run has of the dealer.
func (r *run) letAllGo() {
	for _, l := range r.live {
		for p := range l.sends {
			r.letGo(l, p)
		}
	}
	for _, s := range r.waiting {
		r.dealer.GiveBack(s)
	}
}

// sendDealt sends the steps whose turn has come.
func (r *run) sendDealt(ctx context.Context) error {
	if r.catchingUp {
		return nil // they are picked up once it is known which of them have a result
	}
	// Whoever has lost its lease would send what another owner has sent, and perhaps has the result of.
	if err := r.leased(ctx); err != nil {
		return err
	}
	for _, s := range r.dealer.PickUp(r.hand) {
		id := stepID{s.ExecutionID, s.Place}
		if r.waiting[id] != s {
			continue
		}
		delete(r.waiting, id)
		r.send(r.live[s.ExecutionID], s.Place, s, nil)
	}
	return nil
}

// turned has what an execution has ready wait while it is paused, and go on from then.
func (r *run) turned(l *live, before string) {
	switch {
	case l.x.Status == orchestrator.ExecutionPaused:
		for p := range l.x.Awaiting() {
			if l.sends[p] == nil {
				r.letGo(l, p)
			}
		}
	case before == orchestrator.ExecutionPaused && !l.x.Terminal() && !r.catchingUp:
		for p := range l.x.Awaiting() {
			if l.sends[p] == nil && r.waiting[stepID{l.x.ID, p}] == nil {
				r.offer(l, p, nil)
			}
		}
	}
}

// send puts the current attempt of a task, which was dealt, into STEPS.
func (r *run) send(l *live, p engine.Place, dealt *dealing.Step, input json.RawMessage) {
	x, t, def := l.x, l.x.Task(p), &l.x.Definition.Steps[p.Step]
	var body []byte // none: the runner asks for it
	if !x.Defers(p) {
		var failure *runner.StepError
		if body, failure = x.Body(p, input); failure != nil {
			r.dealer.GiveBack(dealt)
			return // the engine has refused such inputs before the task became ready
		}
		if names := def.Work(p.Iteration).Secrets; names != nil {
			body = r.granted(x, names, body)
		}
		if len(body) > runner.MaxInline {
			body = nil
		}
	}
	if t.Dispatch > 1 || l.sends[p] != nil {
		r.metrics.resent.Inc()
	} else {
		r.metrics.sent.Inc()
		r.metrics.waited(dealt.AgentType, dealt.Ready)
	}
	out := &send{done: make(chan struct{}), at: time.Now(), dealt: dealt}
	l.sends[p] = out
	work := def.Work(p.Iteration)
	traceparent, span := r.dispatching(x, p, dealt)
	r.transport.Send(StepMessage{
		ExecutionID: x.ID, WorkflowID: x.WorkflowID, UserID: x.UserID, RequestID: x.RequestID, Traceparent: traceparent,
		StepKey: def.Key, Iteration: p.Iteration, AgentID: work.AgentID, Pool: work.Pool, AgentType: work.AgentType, Priority: x.Priority,
		Token: t.Token, Dispatch: t.Dispatch, Attempt: t.Attempt, TimeoutMs: def.TimeoutMs,
		IdempotencyKey: x.IdempotencyKey(r.keys, p), Body: body,
	}, func(seq uint64, err error) {
		dispatched(span, err)
		if err != nil {
			r.log.Warn().EmbedObject(about(x)).Str("stepKey", def.Key).Err(err).Msg("a ready step is not sent yet; trying again")
			seq = 0
		}
		out.seq = seq
		close(out.done)
	})
}

// granted gives the body of a step that needs secrets with what lets a runner have them; none when that can not be made: the
// runner then asks for all of it.
func (r *run) granted(x *engine.Execution, names []string, body []byte) []byte {
	token, err := r.grants.Sign(x.UserID, x.ID, names, time.Now())
	if err != nil {
		r.log.Error().EmbedObject(about(x)).Err(err).Msg("a grant of secrets is not signed")
		return nil
	}
	return grant.Within(body, token)
}

// caughtUpNow is called once everything that was in the log at take-over is applied: only now
// it is known which steps are still without a result.
func (r *run) caughtUpNow(ctx context.Context) error {
	r.catchingUp = false
	r.caughtUp.Store(true)
	if err := r.sendDealt(ctx); err != nil {
		return err
	}
	r.sendUnsent()
	r.followUpAll(ctx)
	r.reconcile(ctx, 0)
	r.lookUp(ctx)
	return nil
}

// sendUnsent sends the ready steps that STEPS has not taken, and has those sent that nobody has asked for yet.
func (r *run) sendUnsent() {
	if r.catchingUp {
		return
	}
	var unasked []stepID
	for _, l := range r.live {
		if l.x.Status == orchestrator.ExecutionPaused {
			continue
		}
		for p := range l.x.Awaiting() {
			s, id := l.sends[p], stepID{l.x.ID, p}
			switch {
			case s == nil && r.waiting[id] == nil:
				unasked = append(unasked, id)
			case s != nil && isClosed(s.done) && s.seq == 0:
				r.send(l, p, s.dealt, nil)
			}
		}
	}
	slices.SortFunc(unasked, func(a, b stepID) int { // the ids of executions have the time in them: the oldest ask first
		return cmp.Or(cmp.Compare(a.execution, b.execution), cmp.Compare(a.Step, b.Step), cmp.Compare(a.Iteration, b.Iteration))
	})
	for _, id := range unasked {
		r.offer(r.live[id.execution], id.Place, nil)
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
