package promises

import (
	"slices"
	"time"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/tools/internal/callbook"
)

const (
	// rounding is what times of the API may lack.
	rounding = time.Millisecond
	// stopsWithin is how long an attempt that counts no more may begin new effects.
	stopsWithin = 2 * time.Second
)

// checkCalls compares the book with what the executions say.
func (c *checker) checkCalls() {
	type place struct{ execution, step string }
	calls := map[place][]callbook.Call{}
	owner := map[string]place{}
	for _, call := range c.Calls {
		at := place{call.Execution, call.Step}
		calls[at] = append(calls[at], call)
		if known, ok := owner[call.Key]; ok && known != at {
			c.say("I3", "the idempotency key %q came from the step %s of %s and the step %s of %s", call.Key, known.step, known.execution, at.step, at.execution)
		}
		owner[call.Key] = at
	}
	for i := range c.Executions {
		x := &c.Executions[i]
		if x.last() == nil {
			continue
		}
		for _, s := range x.Plan {
			for name, iteration := range s.Calls {
				at := place{x.ID, name}
				c.checkCallsOf(x, s, name, iteration, calls[at])
				delete(calls, at)
			}
		}
	}
	for at, unknown := range calls {
		c.say("I3", "%d calls came from the step %s of %s, which has none to make", len(unknown), at.step, at.execution)
	}
}

// checkCallsOf checks the calls of a step, or of one of its items, under a name.
func (c *checker) checkCallsOf(x *Execution, s Step, name string, iteration int, calls []callbook.Call) {
	state, _ := stepOf(x.last().Execution, s.Key)
	attempts := attemptsOf(x.Replay, s.Key, iteration)
	if state.Status == orchestrator.StepCompleted && !s.Reused && len(calls) == 0 {
		c.say("I3", "the step %s of %s is COMPLETED and has made no call", name, x.ID)
	}
	if len(attempts) == 0 && len(calls) > 0 {
		c.say("I4", "the step %s of %s is %s, was never started, and has made %d calls, the first at %s", name, x.ID, state.Status, len(calls), clock(calls[0].Began))
		return
	}
	of := map[int][]callbook.Call{}
	for i, call := range calls {
		of[call.Attempt] = append(of[call.Attempt], call)
		if call.Key == "" || call.Key != calls[0].Key {
			c.say("I3", "the step %s of %s called with the idempotency keys %q and %q", name, x.ID, calls[0].Key, call.Key)
		}
		if at, ok := recorded(x, s.Key); ok && call.Began.After(at) {
			c.say("I3", "call %d of the step %s of %s (attempt %d) came at %s; its end was told at %s", i+1, name, x.ID, call.Attempt, clock(call.Began), clock(at))
		}
		c.checkCallAfterDependencies(x, s, call)
	}
	for number, made := range of {
		span, ok := attempts[number]
		if !ok {
			c.say("I4", "the step %s of %s made %d calls of the attempt %d, which was never started", name, x.ID, len(made), number)
			continue
		}
		most := 1 + c.hits(span.from, span.to)
		if len(made) > most {
			c.say("I3", "the attempt %d of the step %s of %s made %d calls, at most %d are possible from %s to %s: %s", number, name, x.ID, len(made), most, clock(span.from), clock(span.to), times(made))
		}
		if most == 1 && overlap(made) {
			c.say("I3", "the attempt %d of the step %s of %s ran twice at the same time: %s", number, name, x.ID, times(made))
		}
		if early := made[0].Began; early.Before(span.from.Add(-rounding)) {
			c.say("I4", "the attempt %d of the step %s of %s called at %s, and was to begin at %s", number, name, x.ID, clock(early), clock(span.from))
		}
	}
}

func (c *checker) checkCallAfterDependencies(x *Execution, s Step, call callbook.Call) {
	for _, e := range x.Replay {
		if endOfStep[e.Type] != "" && slices.Contains(s.DependsOn, e.StepKey) && call.Began.Before(e.At.Add(-rounding)) {
			c.say("I4", "the step %s of %s called at %s, before %s, which it depends on, ended at %s", s.Key, x.ID, clock(call.Began), e.StepKey, clock(e.At))
		}
	}
}

// span is how long an attempt counted.
type span struct{ from, to time.Time }

// attemptsOf reads from the events when each attempt of a step, or of one of its items, can have begun and ended. Of items is told
// alone which of their attempts failed, and when the next one begins.
func attemptsOf(events []Event, key string, iteration int) map[int]span {
	never := time.Unix(1<<40, 0)
	found := map[int]span{}
	newest := 0
	for _, e := range events {
		if e.StepKey != key {
			continue
		}
		switch {
		case e.Type == stepStarted && iteration == 0:
			newest = e.Attempt
			found[newest] = span{e.At, never}
		case e.Type == stepStarted:
			newest = 1
			found[newest] = span{e.At, never}
		case e.Type == stepRetry && e.Iteration != iteration:
		case e.Type == stepRetry && iteration > 0:
			found[newest] = span{found[newest].from, e.At}
			newest = e.Attempt + 1
			found[newest] = span{e.Until, never}
		case e.Type == stepRetry || endOfStep[e.Type] != "" && newest > 0:
			found[newest] = span{found[newest].from, e.At}
		}
	}
	return found
}

// recorded gives from when on a step of the execution must make no call: it was told that the step has ended, and an
// attempt that was stopped has had the time to notice.
func recorded(x *Execution, key string) (time.Time, bool) {
	for _, r := range x.Readings {
		s, _ := stepOf(r.Execution, key)
		switch {
		case s.Status == orchestrator.StepCompleted:
			return r.At, true
		case stepEnded(s.Status):
			return r.At.Add(stopsWithin), true
		}
	}
	return time.Time{}, false
}

// overlap tells whether a call came before an earlier one was answered.
func overlap(calls []callbook.Call) bool {
	for i := 1; i < len(calls); i++ {
		if e := calls[i-1].Ended; e.IsZero() || calls[i].Began.Before(e) {
			return true
		}
	}
	return false
}

func times(calls []callbook.Call) string {
	text := ""
	for _, call := range calls {
		text += clock(call.Began) + "-" + clock(call.Ended) + " "
	}
	return text
}
