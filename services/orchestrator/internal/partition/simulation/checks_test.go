package simulation

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/engine/enginetest"
)

// work is how long the rest of an execution may take when nothing goes wrong: one attempt
// after the other.
func (w *world) work(x *scripted) time.Duration {
	var all time.Duration
	for i, s := range x.plan.Steps {
		for n := range s.Script {
			takes := w.duration(x.id, x.plan.Key(i), n+1, s.TimeoutMs, s.Script[n])
			if s.Script[n] == enginetest.StaysSilent {
				takes = 2*time.Duration(s.TimeoutMs)*time.Millisecond + 100*time.Second
			}
			delay := time.Duration(s.DelayMs) * time.Millisecond << n
			all += takes + min(delay, 5*time.Minute)*12/10 + time.Second
		}
	}
	return all
}

// deadline is when an execution must have ended: its own time and 60 s after the last fault.
func (w *world) deadline(x *scripted, healed time.Time) time.Time {
	begin := healed
	if x.accepted.After(begin) {
		begin = x.accepted
	}
	own := w.work(x)
	if w.profile.slots < 16 { // it waits for the others
		own = 0
		for _, id := range w.ids() {
			own += w.work(w.scripted(id))
		}
	}
	if t := time.Duration(x.plan.TimeoutMs) * time.Millisecond; t > 0 {
		own = min(own, t)
	}
	// Timers go by the server's clock, which may have gone back.
	return begin.Add(own + time.Minute + time.Duration(w.clockWentBack.Load()))
}

// unended gives the accepted executions that have not ended.
func (w *world) unended(ctx context.Context) []*engine.Execution {
	loaded, err := w.ledger.Load(ctx, w.ids())
	if err != nil {
		return nil
	}
	var out []*engine.Execution
	for _, l := range loaded {
		if !l.Execution.Terminal() {
			out = append(out, l.Execution)
		}
	}
	return out
}

// awaitEnds checks I1: every accepted execution ends in time.
func (w *world) awaitEnds(healed time.Time) {
	for {
		left := w.unended(w.ending)
		if len(left) == 0 {
			return
		}
		for _, x := range left {
			if time.Now().After(w.deadline(w.scripted(x.ID), healed)) {
				w.witness.fail("I1: execution %s is still %s: %s", x.ID, x.Status, statuses(x))
				return
			}
		}
		if pause(w.ending, 5*time.Second) != nil {
			return
		}
	}
}

func statuses(x *engine.Execution) string {
	out := ""
	for i := range x.Steps {
		s := &x.Steps[i]
		out += fmt.Sprintf(" %s %s attempt %d token %s.%d", x.Definition.Steps[i].Key, s.Status, s.Attempt, short(s.Token), s.Dispatch)
	}
	return out
}

// check holds the world at its end against the invariants.
func (w *world) check(ctx context.Context) {
	v := w.witness
	loaded, err := w.ledger.Load(ctx, w.ids())
	if err != nil {
		v.fail("%v", err)
		return
	}
	for _, l := range loaded {
		x := w.scripted(l.Execution.ID)
		if !l.Execution.Terminal() {
			continue // told by awaitEnds
		}
		if err := w.checkEnd(x, l.Execution); err != nil {
			v.fail("execution %s, %s%s: %v", x.id, l.Execution.Status, statuses(l.Execution), err)
		}
		if l.Execution.Error == nil || l.Execution.Error.Code != runner.CodeEngineFault { // what it had not committed may have run
			w.checkEffects(x, l.Execution)
		}
	}
	w.checkRest(ctx)
}

// awaitRest waits until runners have done what was sent: an attempt that has its result may
// still run a second time.
func (w *world) awaitRest() {
	for range 40 {
		if len(w.server.Steps()) == 0 {
			return
		}
		if pause(w.ending, 10*time.Second) != nil {
			return
		}
	}
}

// checkRest holds that nothing is left to do.
func (w *world) checkRest(ctx context.Context) {
	v := w.witness
	for p := range w.profile.partitions {
		unseen, err := w.ledger.Unseen(ctx, p, 0)
		stopped, serr := w.ledger.Stopped(ctx, p)
		positions, perr := w.ledger.Positions(ctx, []int{p})
		if err != nil || serr != nil || perr != nil {
			v.fail("%v %v %v", err, serr, perr)
			return
		}
		if len(unseen) > 0 {
			v.fail("partition %d has unseen inputs: %+v", p, unseen)
		}
		if len(stopped) > 0 {
			v.fail("partition %d has attempts to stop: %+v", p, stopped)
		}
		v.mu.Lock()
		n := uint64(len(v.committedN[p]))
		if pos := positions[0]; pos.EventN != n || pos.PublishedN != n {
			v.failed("I5: partition %d stands at event %d, published %d, and has %d", p, pos.EventN, pos.PublishedN, n)
		}
		if v.heard[p] != n && len(v.storeHits) == 0 {
			v.failed("I5: a reader has event %d of partition %d, which has %d", v.heard[p], p, n)
		}
		v.mu.Unlock()
	}
	if left := w.server.Steps(); len(left) > 0 {
		v.fail("I7: %d messages are left in STEPS, first %s of %s, token %s", len(left), left[0].StepKey, left[0].ExecutionID, short(left[0].Token))
	}
	if w.profile.calm && (v.gaps > 0 || v.repeated > 0) {
		v.fail("I5: nothing went wrong, and readers of EVENTS had %d gaps and %d repeats", v.gaps, v.repeated)
	}
}

// checkEnd compares an ended execution with the reference: with the ends that its attempts had,
// it must have come to this.
func (w *world) checkEnd(x *scripted, got *engine.Execution) error {
	v := w.witness
	v.mu.Lock()
	a := v.account(x.id)
	ends := a.ends
	v.mu.Unlock()
	code := ""
	if got.Error != nil {
		code = got.Error.Code
	}
	if code == runner.CodeEngineFault {
		if !x.poisonous && !x.cursed {
			return fmt.Errorf("it failed by a fault of the engine: %s", got.Error.Message)
		}
		return nil
	}
	plan, happens, err := w.told(x, got, ends)
	if err != nil {
		return err
	}
	reference := enginetest.WorldOf(plan, happens)
	switch got.Status {
	case orchestrator.ExecutionCancelled:
		if !x.cancelled {
			return fmt.Errorf("nobody has cancelled it")
		}
		return compareSteps(got, func(i int) []enginetest.Verdict {
			v := reference.Of(i)
			if got.StartedAt == 0 {
				v = enginetest.Verdict{Status: orchestrator.StepPending}
			}
			return []enginetest.Verdict{v.Cut(orchestrator.StepCancelled)}
		})
	case orchestrator.ExecutionTimeout:
		if x.plan.TimeoutMs == 0 || got.CompletedAt < got.StartedAt.Add(x.plan.TimeoutMs) || code != runner.CodeWorkflowTime {
			return fmt.Errorf("it ended by its timeout of %d ms after %d ms with %q", x.plan.TimeoutMs, got.CompletedAt.Ms(got.StartedAt), code)
		}
		return compareSteps(got, func(i int) []enginetest.Verdict {
			return []enginetest.Verdict{reference.Of(i).Cut(orchestrator.StepCancelled)}
		})
	}
	status, outputs, wantCode := reference.Ends()
	if status == orchestrator.ExecutionFailed && wantCode != runner.CodeTemplate || got.Error != nil && got.Error.StepKey != "" {
		wantCode = failedBy(reference, got)
	}
	if got.Status != status || code != wantCode {
		return fmt.Errorf("the reference is %s with %q, it has %q", status, wantCode, code)
	}
	if have := decoded(got.OutputsByKey()); !reflect.DeepEqual(have, outputs) {
		return fmt.Errorf("its outputs are %v, the reference has %v", have, outputs)
	}
	return compareSteps(got, func(i int) []enginetest.Verdict {
		if status == orchestrator.ExecutionCompleted {
			return []enginetest.Verdict{reference.Of(i)}
		}
		// What the last input would have done beside the failure may have come before it or not any more.
		return []enginetest.Verdict{reference.Of(i).Cut(orchestrator.StepSkipped), {Status: orchestrator.StepSkipped}}
	})
}

// failedBy gives the code of the step that ended the execution, if the reference lets it.
func failedBy(reference *enginetest.World, got *engine.Execution) string {
	for i := range got.Steps {
		if got.Error != nil && got.Definition.Steps[i].Key == got.Error.StepKey && reference.Fatal(i) {
			return reference.Of(i).Code
		}
	}
	return "of a step that ends it"
}

// told gives the plan as it went: the same workflow with the ends that its attempts had. Where
// nothing went wrong they are those of the script.
func (w *world) told(x *scripted, got *engine.Execution, ends map[int][]string) (enginetest.Plan, []enginetest.History, error) {
	plan := x.plan
	plan.Steps = slices.Clone(plan.Steps)
	happens := make([]enginetest.History, len(plan.Steps))
	for i := range plan.Steps {
		s := &plan.Steps[i]
		var script []enginetest.Answer
		for n, code := range ends[i] {
			if code == runner.CodeTemplate {
				break // of its own making; the reference knows
			}
			answer, ok := map[string]enginetest.Answer{
				"": enginetest.Succeeds, enginetest.Retryable.Code: enginetest.FailsForNow, enginetest.Final.Code: enginetest.FailsForGood,
				runner.CodeStepTimeout: enginetest.StaysSilent, runner.CodeRunnerLost: enginetest.LosesRunner,
			}[code]
			if !ok {
				return plan, nil, fmt.Errorf("attempt %d of %s ended with %s", n+1, plan.Key(i), code)
			}
			byFault := answer == enginetest.StaysSilent || answer == enginetest.LosesRunner
			if answer != s.Script[n] && (w.profile.calm || !byFault) {
				return plan, nil, fmt.Errorf("attempt %d of %s ended with %q, the script says %d", n+1, plan.Key(i), code, s.Script[n])
			}
			script = append(script, answer)
		}
		s.Script = script
		s.Salt = w.saltOf(x, got, i)
		happens[i] = enginetest.History{Heard: len(script), Retries: max(0, got.Steps[i].Attempt-1)}
	}
	return plan, happens, nil
}

// saltOf gives the run whose output is recorded; -1 when no run with these inputs has made it.
func (w *world) saltOf(x *scripted, got *engine.Execution, i int) int {
	if got.Steps[i].Status != orchestrator.StepCompleted {
		return 0
	}
	var input map[string]any
	if raw, _, failure := got.Input(engine.Place{Step: i}); failure != nil || json.Unmarshal(raw, &input) != nil {
		return -1
	}
	w.witness.mu.Lock()
	defer w.witness.mu.Unlock()
	for salt := range w.witness.effects[stepOf{x.id, x.plan.Key(i)}] {
		if reflect.DeepEqual(decoded(got.Steps[i].Output), any(enginetest.AnswerTo(i, input, salt))) {
			return salt
		}
	}
	return -1
}

func compareSteps(got *engine.Execution, want func(i int) []enginetest.Verdict) error {
	for i := range got.Steps {
		s := &got.Steps[i]
		have := enginetest.Verdict{Status: s.Status, Attempts: s.Attempt, Output: decoded(s.Output)}
		if s.Error != nil {
			have.Code = s.Error.Code
		}
		if accepted := want(i); !slices.ContainsFunc(accepted, func(v enginetest.Verdict) bool { return reflect.DeepEqual(v, have) }) {
			return fmt.Errorf("step %s is %+v, the reference has %+v", got.Definition.Steps[i].Key, have, accepted)
		}
	}
	return nil
}

func decoded(raw json.RawMessage) any {
	if raw == nil {
		return nil
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	return v
}

// checkEffects checks I3 and I4: every result was made, and nothing ran more often than faults
// explain, with other inputs, or without having begun.
func (w *world) checkEffects(x *scripted, got *engine.Execution) {
	v := w.witness
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range got.Steps {
		s, of := &got.Steps[i], stepOf{x.id, x.plan.Key(i)}
		effects := v.effects[of]
		if s.Status == orchestrator.StepCompleted {
			if len(effects) == 0 {
				v.failed("I3: step %s of %s is COMPLETED and never ran", of.key, x.id)
			}
			made := slices.ContainsFunc(effects, func(e effect) bool {
				return slices.ContainsFunc(v.results[e.delivery.Token], func(r []byte) bool { return bytes.Equal(r, s.Output) })
			})
			if !made {
				v.failed("I3: the result of %s of %s is %s, and no runner has reported it", of.key, x.id, s.Output)
			}
		}
		if len(v.storeHits) > 0 {
			continue // what was lost with the log may have run
		}
		if s.Attempt == 0 && len(effects) > 0 {
			v.failed("I4: step %s of %s never began, and ran %d times", of.key, x.id, len(effects))
		}
		if most := s.Attempt + v.hits[of]; len(effects) > most {
			v.failed("I3: step %s of %s ran %d times in %d attempts with %d faults", of.key, x.id, len(effects), s.Attempt, v.hits[of])
		}
		if s.Attempt > 0 {
			body, _ := got.Body(engine.Place{Step: i})
			for _, e := range effects {
				if !bytes.Equal(body, e.delivery.Body) {
					v.failed("I4: step %s of %s ran with %s, and should with %s", of.key, x.id, e.delivery.Body, body)
				}
			}
		}
	}
}
