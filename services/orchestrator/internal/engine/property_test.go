package engine_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/engine/enginetest"
)

// TestAgainstTheReference runs random workflows in random schedules, with everything that a
// log may hold beside the results that count, and compares every state on the way.
func TestAgainstTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { drive(t, enginetest.DrawPlan(t)) })
}

// entry is one input as it was applied.
type entry struct {
	in   engine.Input
	keys engine.Keys
}

// outside plays the log, the runners and the users around one execution, and keeps its own
// account of what has happened.
type outside struct {
	t        *rapid.T
	plan     enginetest.Plan
	x        *engine.Execution
	seen     *witness
	now      engine.Time
	behind   engine.Time // of the log's clock
	keys     engine.Keys
	log      []entry
	begun    bool
	forced   string               // the status that somebody ended the execution with
	happens  []enginetest.History // of the steps
	current  []string             // token of the attempt that each step is in, "" for none
	dispatch []int
	before   *enginetest.World // nil until it has begun
}

// drive runs a plan to its end.
func drive(t *rapid.T, p enginetest.Plan) *outside {
	def, err := engine.Compile(p.Definition())
	if err != nil {
		t.Fatalf("Compile: %v\n%s", err, p)
	}
	x := accepted(executionID, def)
	n := len(p.Steps)
	o := &outside{t: t, plan: p, x: x, seen: newWitness(x), now: start, keys: keys, happens: make([]enginetest.History, n), current: make([]string, n), dispatch: make([]int, n)}
	cancelAfter := rapid.IntRange(-60, 40).Draw(t, "cancel after")
	for turn := range rapid.IntRange(0, 60).Draw(t, "turns") {
		if turn == cancelAfter {
			o.apply(engine.Input{Kind: engine.Cancel})
		}
		o.turn()
	}
	o.apply(engine.Input{Kind: engine.Submitted})
	for turns := 0; !o.x.Terminal(); turns++ {
		if turns > 400 {
			t.Fatalf("the execution does not end: %s", o.story())
		}
		o.goOn()
	}
	o.turn() // something late
	return o
}

// turn does one thing of all that may come to pass.
func (o *outside) turn() {
	o.pass(rapid.IntRange(0, 50).Draw(o.t, "ms"))
	i := rapid.IntRange(0, len(o.plan.Steps)-1).Draw(o.t, "step")
	key := o.plan.Key(i)
	switch rapid.IntRange(0, 13).Draw(o.t, "turn") {
	case 0:
		o.apply(engine.Input{Kind: engine.Submitted})
	case 1: // the runner begins, or begins again
		o.apply(engine.Input{Kind: engine.StepStarted, Step: key, Token: o.current[i]})
	case 2: // the log is read again
		if len(o.log) > 0 {
			o.apply(rapid.SampledFrom(o.log).Draw(o.t, "again").in)
		}
	case 3: // somebody repeats himself later
		if len(o.log) > 0 {
			in := rapid.SampledFrom(o.log).Draw(o.t, "repeated").in
			in.Time = o.now
			o.apply(in)
		}
	case 4: // a result of nothing that counts
		tokens := []string{"", "0123456789abcdef0123456789abcdef"}
		for j := range o.current {
			if j != i {
				tokens = append(tokens, o.current[j])
			}
		}
		for _, e := range o.log {
			if e.in.Token != o.current[i] {
				tokens = append(tokens, e.in.Token)
			}
		}
		kind := rapid.SampledFrom([]engine.Kind{engine.StepStarted, engine.StepCompleted, engine.StepFailed, engine.StepLost}).Draw(o.t, "kind")
		failure := enginetest.Final
		o.apply(engine.Input{Kind: kind, Step: key, Token: rapid.SampledFrom(tokens).Draw(o.t, "token"), Dispatch: 1, Output: json.RawMessage(`"stale"`), Err: &failure})
	case 5:
		o.apply(engine.Input{Kind: engine.StepLost, Step: key, Token: o.current[i], Dispatch: o.dispatch[i] - rapid.IntRange(0, 1).Draw(o.t, "late")})
	case 6: // a timer that comes early, or not
		o.apply(engine.Input{Kind: engine.TimerDue})
	case 7: // another log, of a server whose clock is behind
		o.keys.Generation++
		o.behind = engine.Time(rapid.IntRange(0, 5000).Draw(o.t, "behind")) * 1000
	case 8: // a step that is not there
		o.apply(engine.Input{Kind: engine.StepCompleted, Step: "nobody", Token: o.current[i], Output: json.RawMessage(`1`)})
	default:
		o.goOn()
	}
}

// goOn does one thing that brings the execution on, in any order.
func (o *outside) goOn() {
	var ways []func()
	for i := range o.plan.Steps {
		if o.current[i] == "" {
			continue
		}
		if o.next(i) != enginetest.StaysSilent {
			ways = append(ways, func() { o.apply(o.answer(i)) })
		}
		if o.x.Steps[i].Backstop == 0 {
			ways = append(ways, func() { o.apply(engine.Input{Kind: engine.StepStarted, Step: o.plan.Key(i), Token: o.current[i]}) })
		}
	}
	if due := o.x.NextDue(); due != 0 && due <= o.horizon() {
		ways = append(ways, func() {
			o.now = max(o.now, due)
			o.apply(engine.Input{Kind: engine.TimerDue, Time: o.now})
		})
	}
	if len(ways) > 0 {
		ways[rapid.IntRange(0, len(ways)-1).Draw(o.t, "way")]()
	}
}

func (o *outside) next(i int) enginetest.Answer { return o.plan.Steps[i].Script[o.happens[i].Heard] }

// answer is what the runner says at the end of the attempt that step i is in.
func (o *outside) answer(i int) engine.Input {
	in := engine.Input{Kind: engine.StepFailed, Step: o.plan.Key(i), Token: o.current[i]}
	switch o.next(i) {
	case enginetest.FailsForNow:
		failure := enginetest.Retryable
		in.Err = &failure
	case enginetest.FailsForGood:
		failure := enginetest.Final
		in.Err = &failure
	case enginetest.Succeeds:
		raw, serr := o.x.Body(i)
		var body struct{ Input map[string]any }
		if serr != nil || json.Unmarshal(raw, &body) != nil {
			o.t.Fatalf("body of %s: %s, %v", in.Step, raw, serr)
		}
		output, err := json.Marshal(enginetest.AnswerTo(i, body.Input, 0))
		if err != nil {
			o.t.Fatal(err)
		}
		in.Kind, in.Output = engine.StepCompleted, output
	}
	return in
}

// horizon is up to when time may pass: an attempt that will end is not given up before.
func (o *outside) horizon() engine.Time {
	h := engine.Time(1 << 62)
	for i := range o.plan.Steps {
		if b := o.x.Steps[i].Backstop; o.current[i] != "" && o.next(i) != enginetest.StaysSilent && b != 0 {
			h = min(h, b-1)
		}
	}
	return h
}

func (o *outside) pass(ms int) { o.now = max(o.now, min(o.horizon(), o.now.Add(int64(ms)))) }

// apply notes what an input means, applies it, and compares.
func (o *outside) apply(in engine.Input) {
	if in.Time == 0 {
		in.Time = o.now - o.behind
	}
	ended := o.x.Terminal()
	o.note(in)
	o.log = append(o.log, entry{in, o.keys})
	before := snapshot(o.x)
	out := engine.Apply(o.x, in, o.keys)
	for _, i := range out.Ready {
		o.current[i], o.dispatch[i] = o.x.Steps[i].Token, o.x.Steps[i].Dispatch
	}
	err := o.seen.check(before, o.x, out)
	if err == nil && !ended {
		err = o.compare()
	}
	if err != nil {
		o.t.Fatalf("after %s: %v\n%s", describe(in), err, o.story())
	}
}

// note keeps the account: only a result of the current attempt counts, and what is due when a
// timer comes.
func (o *outside) note(in engine.Input) {
	if o.x.Terminal() {
		return
	}
	switch in.Kind {
	case engine.Submitted:
		o.begun = true
	case engine.Cancel:
		o.forced = orchestrator.ExecutionCancelled
	case engine.StepCompleted, engine.StepFailed:
		i := slices.IndexFunc(o.x.Definition.Steps, func(s engine.StepDefinition) bool { return s.Key == in.Step })
		if i >= 0 && in.Token != "" && o.current[i] == in.Token {
			o.happens[i].Heard++
			o.current[i] = ""
		}
	case engine.TimerDue:
		o.noteTimers(max(in.Time, o.x.LastInput))
	}
}

func (o *outside) noteTimers(now engine.Time) {
	if !o.begun {
		return
	}
	if o.plan.TimeoutMs > 0 && o.x.StartedAt.Add(o.plan.TimeoutMs) <= now {
		o.forced = orchestrator.ExecutionTimeout
		return
	}
	for i := range o.x.Steps {
		s := &o.x.Steps[i]
		if s.RetryAt != 0 && s.RetryAt <= now {
			o.happens[i].Retries++
		}
		if s.Backstop != 0 && s.Backstop <= now {
			if o.next(i) != enginetest.StaysSilent {
				o.t.Fatalf("the test let %s run out of time", o.plan.Key(i))
			}
			o.happens[i].Heard++
			o.current[i] = ""
		}
	}
}

// compare holds the state against the reference.
func (o *outside) compare() error {
	var after *enginetest.World
	status, outputs, code := orchestrator.ExecutionPending, any(nil), ""
	if o.begun {
		after = enginetest.WorldOf(o.plan, slices.Clone(o.happens))
		status, outputs, code = after.Ends()
	}
	before := o.before
	o.before = after
	var accept func(i int) []enginetest.Verdict
	switch {
	case o.forced != "":
		status, outputs, code = o.forced, nil, ""
		if o.forced == orchestrator.ExecutionTimeout {
			code = runner.CodeWorkflowTime
		}
		accept = func(i int) []enginetest.Verdict {
			return []enginetest.Verdict{verdictOf(after, i).Cut(orchestrator.StepCancelled)}
		}
	case after != nil && o.failedStep(after) >= 0:
		// What else the same input would have done may have come before the failure, or not any more.
		accept = func(i int) []enginetest.Verdict {
			return []enginetest.Verdict{verdictOf(after, i).Cut(orchestrator.StepSkipped), verdictOf(before, i).Cut(orchestrator.StepSkipped)}
		}
		if err := o.compareFailure(after); err != nil {
			return err
		}
		code = after.Of(o.failedStep(after)).Code
	default:
		accept = func(i int) []enginetest.Verdict { return []enginetest.Verdict{verdictOf(after, i)} }
	}
	if o.x.Status != status {
		return fmt.Errorf("the execution is %s, want %s", o.x.Status, status)
	}
	if got := codeOf(o.x.Error); got != code {
		return fmt.Errorf("the execution has the error %q, want %q", got, code)
	}
	if got := decoded(o.x.OutputsByKey()); !reflect.DeepEqual(got, outputs) {
		return fmt.Errorf("the outputs are %v, want %v", got, outputs)
	}
	for i := range o.x.Steps {
		s := &o.x.Steps[i]
		got := enginetest.Verdict{Status: s.Status, Attempts: s.Attempt, Output: decoded(s.Output), Code: codeOf(s.Error)}
		if !slices.ContainsFunc(accept(i), func(v enginetest.Verdict) bool { return reflect.DeepEqual(v, got) }) {
			return fmt.Errorf("step %s is %+v, want %+v", o.plan.Key(i), got, accept(i))
		}
	}
	return nil
}

// failedStep is the step whose failure ended the execution, -1 when none has.
func (o *outside) failedStep(w *enginetest.World) int {
	for i := range o.x.Steps {
		if o.x.Steps[i].Status == orchestrator.StepFailed && w.Fatal(i) {
			return i
		}
	}
	for i := range o.x.Steps { // so that the comparison tells what is wrong
		if w.Fatal(i) {
			return i
		}
	}
	return -1
}

func (o *outside) compareFailure(w *enginetest.World) error {
	n := 0
	for i := range o.x.Steps {
		if o.x.Steps[i].Status == orchestrator.StepFailed && w.Fatal(i) {
			n++
		}
	}
	if n != 1 || o.x.Error == nil || o.x.Error.StepKey != o.plan.Key(o.failedStep(w)) {
		return fmt.Errorf("%d steps failed the execution, its error has %q", n, codeOf(o.x.Error))
	}
	return nil
}

func verdictOf(w *enginetest.World, i int) enginetest.Verdict {
	if w == nil {
		return enginetest.Verdict{Status: orchestrator.StepPending}
	}
	return w.Of(i)
}

// cut is what the end of the execution makes of a step.
func codeOf(e *runner.StepError) string {
	if e == nil {
		return ""
	}
	return e.Code
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

func (o *outside) story() string {
	b := []byte(o.plan.String())
	for _, e := range o.log {
		b = fmt.Appendf(b, "  %s\n", describe(e.in))
	}
	return string(b)
}
