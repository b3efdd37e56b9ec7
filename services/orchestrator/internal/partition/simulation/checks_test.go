package simulation

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"turbocat.io/contracts/catalog"
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
		limit := time.Duration(s.TimeoutMs) * time.Millisecond
		switch {
		case s.Wait != nil && x.plan.SignalOf(i) == "":
			all += min(limit, time.Duration(s.Wait.Ms)*time.Millisecond)
		case s.Wait != nil && s.TimeoutMs <= shortWait:
			all += limit
		case s.Wait != nil: // its signal is there
		case s.Items != nil:
			var items time.Duration
			for n := range s.Items {
				items += w.attempts(x, engine.Place{Step: i, Iteration: n + 1})
			}
			all += min(limit, items) + 10*time.Second
		case s.Child != nil:
			all += time.Duration(s.Retries+1) * (limit + time.Duration(s.DelayMs<<s.Retries)*time.Millisecond*12/10 + 30*time.Second)
		default:
			all += w.attempts(x, engine.Place{Step: i})
		}
	}
	return all
}

// attempts is how long all that a script holds may take.
func (w *world) attempts(x *scripted, p engine.Place) time.Duration {
	var all time.Duration
	s := x.plan.Steps[p.Step]
	for n, answer := range x.script(p) {
		takes := w.duration(placeOf{x.id, p}, n+1, answer)
		if answer == enginetest.StaysSilent {
			takes = 2*time.Duration(s.TimeoutMs)*time.Millisecond + 100*time.Second
		}
		delay := time.Duration(s.DelayMs) * time.Millisecond << n
		all += takes + min(delay, 5*time.Minute)*12/10 + time.Second
	}
	return all
}

// deadline is when an execution must have ended: its own time and 60 s after the last fault. One with a concurrency limit
// may be the last in the queue.
func (w *world) deadline(x *scripted, healed time.Time) time.Time {
	begin, all := healed, time.Duration(0)
	for _, member := range w.witness.members(x) {
		all += w.own(member) + time.Minute
		w.mu.Lock()
		for _, later := range []time.Time{member.accepted, member.left} {
			if later.After(begin) {
				begin = later
			}
		}
		w.mu.Unlock()
	}
	// Timers go by the server's clock, which may have gone back.
	return begin.Add(all + time.Duration(w.clockWentBack.Load()))
}

// own is how long an execution may take once it has begun.
func (w *world) own(x *scripted) time.Duration {
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
	return own
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
		w.unfold(ctx, l.Execution)
		if err := cmp.Or(w.checkEnd(x, l.Execution), w.checkChild(x)); err != nil {
			v.fail("execution %s, %s%s: %v", x.id, l.Execution.Status, statuses(l.Execution), err)
		}
		if l.Execution.Error == nil || l.Execution.Error.Code != runner.CodeEngineFault { // what it had not committed may have run
			w.checkEffects(x, l.Execution)
		}
	}
	if slots, wrong := w.ledger.Slots(); len(slots) > 0 || len(wrong) > 0 {
		v.fail("everything has ended, and the slots %v and the groups %v are left", slots, wrong)
	}
	w.checkRest(ctx)
	w.checkDealt()
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
		stopped, serr := w.ledger.Stopped(ctx, []int{p}, 0)
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
	v.mu.Unlock()
	code := ""
	if got.Error != nil {
		code = got.Error.Code
	}
	if code == runner.CodeEngineFault {
		if !x.poisonous && !x.cursed {
			return fmt.Errorf("it failed by a fault of the engine: %s", got.Error.Message)
		}
		if x.poisonous { // what it has done is not recorded
			return nil
		}
		plan, happens, err := w.told(x, got, a)
		if err != nil {
			return err
		}
		return plan.CheckCompensation(got, enginetest.WorldOf(plan, happens), a.compensation)
	}
	plan, happens, err := w.told(x, got, a)
	if err != nil {
		return err
	}
	if err := w.checkGatheredInTime(x, a, plan, happens); err != nil {
		return err
	}
	reference := enginetest.WorldOf(plan, happens)
	if err := plan.CheckCompensation(got, reference, a.compensation); err != nil {
		return err
	}
	switch got.Status {
	case orchestrator.ExecutionCancelled:
		if err := w.checkCancelled(x, got, code); err != nil {
			return err
		}
		return compareSteps(got, a.held, func(i int) []enginetest.Verdict {
			v := reference.Of(i)
			if got.StartedAt == 0 {
				v = enginetest.Verdict{Status: orchestrator.StepPending}
			}
			return w.cut(v, a.held, orchestrator.StepCancelled)
		})
	case orchestrator.ExecutionTimeout:
		if x.plan.TimeoutMs == 0 || got.CompletedAt < got.StartedAt.Add(x.plan.TimeoutMs) || code != runner.CodeWorkflowTime {
			return fmt.Errorf("it ended by its timeout of %d ms after %d ms with %q", x.plan.TimeoutMs, got.CompletedAt.Ms(got.StartedAt), code)
		}
		return compareSteps(got, a.held, func(i int) []enginetest.Verdict {
			return w.cut(reference.Of(i), a.held, orchestrator.StepCancelled)
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
	failed := status == orchestrator.ExecutionFailed
	return compareSteps(got, failed, func(i int) []enginetest.Verdict {
		if !failed {
			return []enginetest.Verdict{reference.Of(i)}
		}
		// What the last input would have done beside the failure may have come before it or not any more.
		return w.cut(reference.Of(i), true, orchestrator.StepSkipped)
	})
}

// checkGatheredInTime holds that no step ran out of time whose outputs had only to be put together while nothing went wrong.
func (w *world) checkGatheredInTime(x *scripted, a *account, plan enginetest.Plan, happens []enginetest.History) error {
	for i := range happens {
		if plan.Steps[i].Items == nil || !happens[i].TimedOut {
			continue
		}
		inTime := slices.Clone(happens)
		inTime[i].TimedOut = false
		since := w.healed
		for n := range plan.Steps[i].Items {
			for _, at := range a.settled[engine.Place{Step: i, Iteration: n + 1}] {
				if at.After(since) {
					since = at
				}
			}
		}
		ended := a.settled[engine.Place{Step: i}][1]
		if enginetest.WorldOf(plan, inTime).Of(i).Gathers && ended.Sub(since) > gatherTime {
			return fmt.Errorf("%s ran out of time %v after its items had ended", x.plan.Key(i), ended.Sub(since))
		}
	}
	return nil
}

// gatherTime is within which the outputs of items that have ended are put together when nothing goes wrong.
const gatherTime = 20 * time.Second

// dealing holds, while an orchestrator lives, that nothing waits in its dealer while there is room in STEPS.
func (v *witness) dealing(o *owner) {
	for !isClosed(o.done) && pause(v.w.ending, 700*time.Millisecond) == nil {
		for _, t := range catalog.RunnerAgentTypes() {
			if s := o.dealer.Of("", t, ""); s.Dealt < 0 || s.Waiting > 0 && s.Dealt < s.Limit {
				v.fail("I9: in the dealer of %s the line of %s is %+v", o.name, t, s)
			}
		}
	}
}

// checkDealt holds that a dealer has given back all places once everything has ended.
func (w *world) checkDealt() {
	for slot := range w.profile.owners {
		o := w.owner(slot)
		if o == nil {
			continue
		}
		for _, t := range catalog.RunnerAgentTypes() {
			if s := o.dealer.Of("", t, ""); s.Dealt != 0 || s.Waiting != 0 {
				w.witness.fail("I9: everything has ended, and in the dealer of %s the line of %s is %+v", o.name, t, s)
			}
		}
	}
}

// cut is what the end of the execution may have made of a step. Of one that was held, as by a pause, it may not have begun. That templates over
// stored payloads do not resolve is found out by the runner, and the end may come before.
func (w *world) cut(v enginetest.Verdict, held bool, pending string) []enginetest.Verdict {
	accepted := []enginetest.Verdict{v.Cut(pending)}
	if held {
		accepted = append(accepted, enginetest.Verdict{Status: pending})
	}
	if w.profile.stored > 0 && v.Code == runner.CodeTemplate {
		accepted = append(accepted, enginetest.Verdict{Status: orchestrator.StepCancelled, Attempts: v.Attempts})
	}
	return accepted
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
func (w *world) told(x *scripted, got *engine.Execution, a *account) (enginetest.Plan, []enginetest.History, error) {
	plan := x.plan
	plan.Steps = slices.Clone(plan.Steps)
	happens := make([]enginetest.History, len(plan.Steps))
	for i := range plan.Steps {
		s, h, end := &plan.Steps[i], &happens[i], &got.Steps[i]
		h.Retries = max(0, end.Attempt-1)
		var err error
		switch {
		case s.Script != nil:
			p := engine.Place{Step: i}
			if s.Script, err = w.heard(x, p, a); err != nil {
				return plan, nil, err
			}
			h.Heard = len(s.Script)
			s.Salt = w.saltOf(x, p, a)
		case s.Child != nil:
			var err error
			if s.Script, s.Child, err = w.toldChildren(x, i, end, a); err != nil {
				return plan, nil, err
			}
			h.Heard = len(s.Script)
		case s.Wait != nil:
			if c := a.heard[i]; c != nil {
				h.Signal = c.signal
			}
			h.Woke = end.Status == orchestrator.StepCompleted
			h.TimedOut = end.Status == orchestrator.StepFailed
			if err := punctual(x, i, end, h.Signal != nil); err != nil {
				return plan, nil, err
			}
		case s.Items != nil:
			if err := w.toldItems(x, i, end, a, s, h); err != nil {
				return plan, nil, err
			}
		}
		if s.Loop != nil || s.Branches != nil {
			h.Begun = end.Begun
			h.Gathered = end.Status == orchestrator.StepCompleted
			h.TimedOut = end.Status == orchestrator.StepFailed && end.CompletedAt >= end.StartedAt.Add(s.TimeoutMs)
		}
	}
	return plan, happens, nil
}

// toldItems does the same for the items of a step.
func (w *world) toldItems(x *scripted, i int, end *engine.Step, a *account, s *enginetest.Step, h *enginetest.History) error {
	scripts := s.Items
	s.Items, s.Salts = slices.Clone(scripts), make([]int, len(scripts))
	h.Items = make([]enginetest.History, len(scripts))
	for n := range scripts {
		p := engine.Place{Step: i, Iteration: n + 1}
		var err error
		if s.Items[n], err = w.heard(x, p, a); err != nil {
			return err
		}
		h.Items[n].Heard = len(s.Items[n])
		s.Salts[n] = w.saltOf(x, p, a)
		if t := a.tasks[p]; t.Status == orchestrator.StepFailed && t.CompletedAt == end.CompletedAt && end.Error != nil && end.Error.Code == t.Error.Code {
			h.Last = p.Iteration
		}
	}
	return nil
}

// heard gives the ends that the attempts at a place had.
func (w *world) heard(x *scripted, p engine.Place, a *account) ([]enginetest.Answer, error) {
	var answers []enginetest.Answer
	script := x.script(p)
	for n, code := range a.ends[p] {
		if code == runner.CodeTemplate {
			break // of its own making; the reference knows
		}
		answer, ok := map[string]enginetest.Answer{
			"": enginetest.Succeeds, enginetest.Retryable.Code: enginetest.FailsForNow, enginetest.Final.Code: enginetest.FailsForGood,
			runner.CodeStepTimeout: enginetest.StaysSilent, runner.CodeRunnerLost: enginetest.LosesRunner,
		}[code]
		if !ok {
			return nil, fmt.Errorf("attempt %d of %s ended with %s", n+1, w.name(placeOf{x.id, p}), code)
		}
		byFault := answer == enginetest.StaysSilent || answer == enginetest.LosesRunner
		if answer != script[n] && (w.profile.calm || !byFault) {
			return nil, fmt.Errorf("attempt %d of %s ended with %q, the script says %d", n+1, w.name(placeOf{x.id, p}), code, script[n])
		}
		answers = append(answers, answer)
	}
	return answers, nil
}

// punctual holds that a WAIT that was not ended by a signal did not end before its time.
func punctual(x *scripted, i int, end *engine.Step, signaled bool) error {
	s := x.plan.Steps[i]
	limit := s.TimeoutMs
	switch {
	case signaled || !enginetest.StepTerminal(end.Status) || end.Status == orchestrator.StepCancelled || end.Status == orchestrator.StepSkipped:
		return nil
	case s.Wait.Form == enginetest.PastMoment || s.Wait.Form == enginetest.PassesNot:
		limit = 0
	case s.Wait.Form == enginetest.PassesBy:
		limit = 20
	case s.Wait.Form == enginetest.Passes:
		limit = min(limit, s.Wait.Ms)
	case s.Wait.TimeoutMs > 0:
		limit = min(limit, s.Wait.TimeoutMs)
	}
	if end.CompletedAt < end.StartedAt.Add(limit) {
		return fmt.Errorf("the WAIT %s ended after %d ms, it had to wait for %d", x.plan.Key(i), end.CompletedAt.Ms(end.StartedAt), limit)
	}
	return nil
}

// saltOf gives the run whose output is recorded; -1 when no run has made it.
func (w *world) saltOf(x *scripted, p engine.Place, a *account) int {
	t := a.tasks[p]
	if t.Status != orchestrator.StepCompleted {
		return 0
	}
	w.witness.mu.Lock()
	defer w.witness.mu.Unlock()
	for salt, e := range w.witness.effects[placeOf{x.id, p}] {
		var body struct{ Input map[string]any }
		if json.Unmarshal(e.delivery.Body, &body) != nil {
			continue
		}
		if reflect.DeepEqual(decoded(t.Output), any(answerTo(p, body.Input, salt))) {
			return salt
		}
	}
	return -1
}

// compareSteps holds the steps against what is accepted. Of one whose end came in the middle of things it does not count
// how many items had begun.
func compareSteps(got *engine.Execution, amid bool, want func(i int) []enginetest.Verdict) error {
	for i := range got.Steps {
		s := &got.Steps[i]
		have := enginetest.Verdict{
			Status: s.Status, Attempts: s.Attempt, Output: decoded(s.Output), Items: enginetest.Counts{Begun: s.Begun, Completed: s.Completed, Failed: s.Failed},
		}
		if s.Error != nil {
			have.Code = s.Error.Code
		}
		accepted := want(i)
		if !slices.ContainsFunc(accepted, func(v enginetest.Verdict) bool {
			if amid && s.Status == orchestrator.StepCancelled {
				v.Items.Begun = have.Items.Begun
			}
			return reflect.DeepEqual(v, have)
		}) {
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
	a := v.account(x.id)
	places := map[engine.Place]bool{}
	for p := range a.tasks {
		places[p] = p.Iteration > 0 || x.plan.Steps[p.Step].Script != nil
	}
	for of := range v.effects {
		if of.execution == x.id {
			places[of.Place] = true
		}
	}
	for p, works := range places {
		if works {
			w.checkPlace(placeOf{x.id, p}, a, got)
		}
	}
}

func (w *world) checkPlace(of placeOf, a *account, got *engine.Execution) {
	v, t, name := w.witness, a.tasks[of.Place], w.name(of)
	effects := v.effects[of]
	if t.Status == orchestrator.StepCompleted {
		if len(effects) == 0 {
			v.failed("I3: %s of %s is COMPLETED and never ran", name, of.execution)
		}
		made := slices.ContainsFunc(effects, func(e effect) bool {
			return slices.ContainsFunc(v.results[e.delivery.Token], func(r []byte) bool { return bytes.Equal(r, t.Output) })
		})
		if !made {
			v.failed("I3: the result of %s of %s is %s, and no runner has reported it", name, of.execution, t.Output)
		}
	}
	if len(v.storeHits) > 0 {
		return // what was lost with the log may have run
	}
	if t.Attempt == 0 && len(effects) > 0 {
		v.failed("I4: %s of %s never began, and ran %d times", name, of.execution, len(effects))
	}
	if most := t.Attempt + v.hits[of]; len(effects) > most {
		v.failed("I3: %s of %s ran %d times in %d attempts with %d faults", name, of.execution, len(effects), t.Attempt, v.hits[of])
	}
	if t.Attempt == 0 {
		return
	}
	got.Steps[of.Step].Last = a.before(of.Place)
	body, _ := got.Body(of.Place, nil)
	granted := got.Definition.Steps[of.Step].Work(of.Iteration).Secrets != nil
	for _, e := range effects {
		if ranWith := e.delivery.Body; !granted && !bytes.Equal(body, ranWith) || granted && !grants(ranWith, body) {
			v.failed("I4: %s of %s ran with %s, and should with %s", name, of.execution, e.delivery.Body, body)
		}
	}
}

// grants tells whether one body is another and a grant.
func grants(body, of []byte) bool {
	rest, found := bytes.CutPrefix(body, append(of[:len(of)-1:len(of)-1], `,"grant":"`...))
	return found && len(rest) > len(`"}`) && bytes.HasSuffix(rest, []byte(`"}`)) && !bytes.ContainsAny(rest[:len(rest)-2], `"{}`)
}

// before gives the output of the last item before one that has completed.
func (a *account) before(p engine.Place) json.RawMessage {
	for p.Iteration--; p.Iteration > 0; p.Iteration-- {
		if t := a.tasks[p]; t.Status == orchestrator.StepCompleted {
			return t.Output
		}
	}
	return nil
}
