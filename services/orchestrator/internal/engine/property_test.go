package engine_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/engine/enginetest"
)

// TestAgainstTheReference runs random workflows in random schedules, with everything that a
// log may hold beside the results that count, and compares every state on the way.
func TestAgainstTheReference(t *testing.T) {
	for name, plan := range map[string]func(*rapid.T) enginetest.Plan{"agents": enginetest.DrawPlan, "mixed": enginetest.DrawMixedPlan} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { drive(t, plan(t)) })
		})
	}
}

// entry is one input as it was applied.
type entry struct {
	in   engine.Input
	keys engine.Keys
}

// attempt is a token, and how often it was sent.
type attempt struct {
	token    string
	dispatch int
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
	forced   string                      // the status that somebody ended the execution with
	happens  []enginetest.History        // of the steps
	current  map[engine.Place]attempt    // the attempts whose results count
	stopped  []engine.Stop               // items that are not wanted any more
	rows     map[engine.Place]engine.Row // of the items
	paused   bool
	frozen   *enginetest.World         // as it was when it was paused; nil: not begun
	commands map[string]bool           // that were applied
	kept     map[string][]engine.Input // signals that nobody has heard yet, by name
	before   *enginetest.World         // nil until it has begun
}

// drive runs a plan to its end.
func drive(t *rapid.T, p enginetest.Plan) *outside {
	def, err := engine.Compile(p.Definition())
	if err != nil {
		t.Fatalf("Compile: %v\n%s", err, p)
	}
	x := accepted(executionID, def)
	o := &outside{
		t: t, plan: p, x: x, seen: newWitness(x), now: start, keys: keys, happens: make([]enginetest.History, len(p.Steps)),
		current: map[engine.Place]attempt{}, rows: map[engine.Place]engine.Row{}, commands: map[string]bool{}, kept: map[string][]engine.Input{},
	}
	for i, s := range p.Steps {
		o.happens[i].Items = make([]enginetest.History, len(s.Items))
	}
	cancelAfter := rapid.IntRange(-60, 40).Draw(t, "cancel after")
	for turn := range rapid.IntRange(0, 60).Draw(t, "turns") {
		if turn == cancelAfter {
			o.apply(engine.Input{Kind: engine.Cancel})
		}
		o.turn()
	}
	o.apply(engine.Input{Kind: engine.Submitted})
	for turns := 0; !o.x.Terminal(); turns++ {
		if turns > 1000 {
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
	p := o.somewhere()
	key, now := o.plan.Key(p.Step), o.current[p]
	switch rapid.IntRange(0, 16).Draw(o.t, "turn") {
	case 0:
		o.apply(engine.Input{Kind: engine.Submitted})
	case 1: // the runner begins, or begins again
		o.apply(engine.Input{Kind: engine.StepStarted, Step: key, Iteration: p.Iteration, Token: now.token})
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
		for other := range o.x.Awaiting() {
			if other != p {
				tokens = append(tokens, o.current[other].token)
			}
		}
		for _, e := range o.log {
			if e.in.Token != now.token {
				tokens = append(tokens, e.in.Token)
			}
		}
		o.applyStale(p, rapid.SampledFrom(tokens).Draw(o.t, "token"))
	case 5:
		late := rapid.IntRange(0, 1).Draw(o.t, "late")
		o.apply(engine.Input{Kind: engine.StepLost, Step: key, Iteration: p.Iteration, Token: now.token, Dispatch: now.dispatch - late})
	case 6: // a timer that comes early, or not
		o.apply(engine.Input{Kind: engine.TimerDue})
	case 7: // another log, of a server whose clock is behind
		o.keys.Generation++
		o.behind = engine.Time(rapid.IntRange(0, 5000).Draw(o.t, "behind")) * 1000
	case 8: // a step that is not there
		o.apply(engine.Input{Kind: engine.StepCompleted, Step: "nobody", Token: now.token, Output: json.RawMessage(`1`)})
	case 9:
		o.apply(engine.Input{Kind: engine.Pause, Command: o.command()})
	case 10:
		o.resume()
	case 11: // a signal that may come too early, too late, or to nobody
		o.signal(rapid.IntRange(0, len(o.plan.Steps)-1).Draw(o.t, "of"))
	case 12: // outputs that nobody has asked for, or has again
		if v := verdictOf(o.before, p.Step); !v.Gathers {
			o.apply(engine.Input{Kind: engine.Gathered, Step: key, Output: json.RawMessage(`"stale"`)})
			o.log = o.log[:len(o.log)-1] // nobody ever reads it again when it counts
		}
	case 13: // a result of an item that was stopped
		if len(o.stopped) > 0 {
			stop := rapid.SampledFrom(o.stopped).Draw(o.t, "stopped")
			o.applyStale(stop.Place, stop.Token)
		}
	default:
		o.goOn()
	}
}

// somewhere draws a step, or one of its items.
func (o *outside) somewhere() engine.Place {
	p := engine.Place{Step: rapid.IntRange(0, len(o.plan.Steps)-1).Draw(o.t, "step")}
	if items := len(o.plan.Steps[p.Step].Items); items > 0 {
		p.Iteration = rapid.IntRange(0, items).Draw(o.t, "item")
	}
	return p
}

func (o *outside) applyStale(p engine.Place, token string) {
	kind := rapid.SampledFrom([]engine.Kind{engine.StepStarted, engine.StepCompleted, engine.StepFailed, engine.StepLost}).Draw(o.t, "kind")
	failure := enginetest.Final
	o.apply(engine.Input{
		Kind: kind, Step: o.plan.Key(p.Step), Iteration: p.Iteration, Token: token, Dispatch: 1, Output: json.RawMessage(`"stale"`), Err: &failure,
	})
}

func (o *outside) command() string { return fmt.Sprintf("command-%d", len(o.log)) }

// resume lets what is due end first, so that nothing of it comes in the same moment as what begins.
func (o *outside) resume() {
	o.apply(engine.Input{Kind: engine.TimerDue})
	o.apply(engine.Input{Kind: engine.Resume, Command: o.command()})
}

// signal sends the signal of step i, if it has one.
func (o *outside) signal(i int) {
	name := o.plan.SignalOf(i)
	if name == "" {
		return
	}
	approve := rapid.Bool().Draw(o.t, "approve")
	o.apply(engine.Input{Kind: engine.Signaled, Command: o.command(), Signal: &orchestrator.Signal{
		Name: name, Payload: json.RawMessage(fmt.Sprintf(`{"v":%d}`, len(o.log))), Approve: &approve, Comment: "so", By: userID,
	}})
}

// goOn does one thing that brings the execution on, in any order.
func (o *outside) goOn() {
	var ways []func()
	for p := range o.x.Awaiting() {
		if _, counts := o.current[p]; !counts {
			continue
		}
		if o.next(p) != enginetest.StaysSilent {
			ways = append(ways, func() { o.apply(o.answer(p)) })
		}
		if o.x.Task(p).Backstop == 0 {
			ways = append(ways, func() {
				o.apply(engine.Input{Kind: engine.StepStarted, Step: o.plan.Key(p.Step), Iteration: p.Iteration, Token: o.current[p].token})
			})
		}
	}
	for i := range o.plan.Steps {
		if verdictOf(o.before, i).Gathers {
			ways = append(ways, func() { o.apply(o.gathered(i)) })
		}
		if o.x.Signal(i) != "" {
			ways = append(ways, func() { o.signal(i) })
		}
	}
	if o.paused {
		ways = append(ways, o.resume)
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

// history is what has happened to a step, or to an item.
func (o *outside) history(p engine.Place) *enginetest.History {
	if p.Iteration > 0 {
		return &o.happens[p.Step].Items[p.Iteration-1]
	}
	return &o.happens[p.Step]
}

// next is how the attempt at a place will end.
func (o *outside) next(p engine.Place) enginetest.Answer {
	script := o.plan.Steps[p.Step].Script
	if p.Iteration > 0 {
		script = o.plan.Steps[p.Step].Items[p.Iteration-1]
	}
	return script[o.history(p).Heard]
}

// answer is what the runner says at the end of the attempt at a place.
func (o *outside) answer(p engine.Place) engine.Input {
	in := engine.Input{Kind: engine.StepFailed, Step: o.plan.Key(p.Step), Iteration: p.Iteration, Token: o.current[p].token}
	switch o.next(p) {
	case enginetest.FailsForNow:
		failure := enginetest.Retryable
		in.Err = &failure
	case enginetest.FailsForGood:
		failure := enginetest.Final
		in.Err = &failure
	case enginetest.Succeeds:
		raw, serr := o.x.Body(p, nil)
		var body struct{ Input map[string]any }
		if serr != nil || json.Unmarshal(raw, &body) != nil {
			o.t.Fatalf("body of %s: %s, %v", in.Step, raw, serr)
		}
		answer := enginetest.AnswerTo(p.Step, body.Input, 0)
		if p.Iteration > 0 {
			answer = enginetest.ItemAnswer(p.Step, p.Iteration, body.Input, 0)
		}
		output, err := json.Marshal(answer)
		if err != nil {
			o.t.Fatal(err)
		}
		in.Kind, in.Output = engine.StepCompleted, output
	}
	return in
}

// gathered puts the outputs of a step's items together, as they stand in their rows.
func (o *outside) gathered(i int) engine.Input {
	in := engine.Input{Kind: engine.Gathered, Step: o.plan.Key(i)}
	var outputs []engine.ItemOutput
	for p, row := range o.rows {
		if p.Step == i && row.Status == orchestrator.StepCompleted {
			outputs = append(outputs, engine.ItemOutput{Iteration: p.Iteration, Output: row.Output})
		}
	}
	slices.SortFunc(outputs, func(a, b engine.ItemOutput) int { return cmp.Compare(a.Iteration, b.Iteration) })
	tooLarge := rapid.IntRange(0, 9).Draw(o.t, "too large") == 0
	in.Output, in.Err = o.x.Definition.Steps[i].Gather(o.x.Steps[i].Begun, outputs, tooLarge)
	return in
}

// horizon is up to when time may pass: an attempt that will end is not given up before.
func (o *outside) horizon() engine.Time {
	h := engine.Time(1 << 62)
	for p := range o.current {
		if t := o.x.Task(p); t != nil && p.Iteration == 0 && t.Backstop != 0 && o.next(p) != enginetest.StaysSilent {
			h = min(h, t.Backstop-1)
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
	for _, p := range out.Ready {
		o.current[p] = attempt{o.x.Task(p).Token, o.x.Task(p).Dispatch}
	}
	for _, r := range out.Rows {
		if r.Iteration > 0 {
			o.rows[r.Place] = r
		}
	}
	err := o.seen.check(before, o.x, out)
	if err == nil && !ended {
		err = o.compare()
		if err == nil {
			err = o.plan.CheckCompensation(o.x, o.before, out.Compensation)
		}
	}
	if err != nil {
		o.t.Fatalf("after %s: %v\n%s", describe(in), err, o.story())
	}
	for p, a := range o.current { // what runs on in vain
		if v := verdictOf(o.before, p.Step); p.Iteration > 0 && (v.Status != orchestrator.StepRunning || v.Gathers) {
			o.stopped = append(o.stopped, engine.Stop{Place: p, Token: a.token})
			delete(o.current, p)
		}
	}
	slices.SortFunc(o.stopped, func(a, b engine.Stop) int {
		return cmp.Or(cmp.Compare(a.Step, b.Step), cmp.Compare(a.Iteration, b.Iteration), cmp.Compare(a.Token, b.Token))
	})
}

// note keeps the account: only a result of the current attempt counts, and what is due when a
// timer comes.
func (o *outside) note(in engine.Input) {
	if o.x.Terminal() {
		return
	}
	if in.Command != "" {
		if o.commands[in.Command] {
			return
		}
		o.commands[in.Command] = true
	}
	for i := range o.happens {
		if v := verdictOf(o.before, i); v.Status == orchestrator.StepRunning {
			o.happens[i].Begun = v.Items.Begun
		}
	}
	step := slices.IndexFunc(o.x.Definition.Steps, func(s engine.StepDefinition) bool { return s.Key == in.Step })
	switch in.Kind {
	case engine.Submitted:
		o.begun = o.begun || !o.paused
	case engine.Cancel:
		o.forced = orchestrator.ExecutionCancelled
	case engine.StepCompleted, engine.StepFailed:
		p := engine.Place{Step: step, Iteration: in.Iteration}
		if a, counts := o.current[p]; counts && a.token == in.Token {
			o.history(p).Heard++
			if p.Iteration > 0 {
				o.happens[step].Last = p.Iteration
			}
			delete(o.current, p)
		}
	case engine.TimerDue:
		o.noteTimers(max(in.Time, o.x.LastInput))
	case engine.Pause:
		if !o.paused {
			o.paused, o.frozen = true, o.before
		}
	case engine.Resume:
		if o.paused {
			o.paused, o.begun = false, true
			o.noteTimers(max(in.Time, o.x.LastInput))
		}
	case engine.Signaled:
		o.kept[in.Signal.Name] = append(o.kept[in.Signal.Name], in)
	case engine.Gathered:
		if step >= 0 && verdictOf(o.before, step).Gathers {
			o.happens[step].Gathered, o.happens[step].GatherFailed = in.Err == nil, in.Err != nil
		}
	}
	o.hear()
}

// hear gives the signals that are kept to the steps that wait for them.
func (o *outside) hear() {
	if !o.begun {
		return
	}
	for again := true; again; {
		again = false
		w := o.world()
		for i := range o.plan.Steps {
			name, h := o.plan.SignalOf(i), &o.happens[i]
			if kept := o.kept[name]; name != "" && len(kept) > 0 && h.Signal == nil && w.Of(i).Status == orchestrator.StepRunning {
				h.Signal, o.kept[name], again = kept[0].Signal, kept[1:], true
				break
			}
		}
	}
}

// world is what the account comes to.
func (o *outside) world() *enginetest.World {
	happens := slices.Clone(o.happens)
	for i := range happens {
		happens[i].Items = slices.Clone(happens[i].Items)
	}
	w := enginetest.WorldOf(o.plan, happens)
	if o.paused {
		w.Held(o.frozen)
	}
	return w
}

func (o *outside) noteTimers(now engine.Time) {
	if !o.begun || o.x.StartedAt == 0 {
		return
	}
	if o.plan.TimeoutMs > 0 && o.x.StartedAt.Add(o.plan.TimeoutMs) <= now {
		o.forced = orchestrator.ExecutionTimeout
		return
	}
	for i := range o.x.Steps {
		s := &o.x.Steps[i]
		if s.Status != orchestrator.StepRunning {
			continue
		}
		if t := o.plan.Steps[i].Type; t != "" && t != catalog.StepCondition {
			deadline := s.StartedAt.Add(o.plan.Steps[i].TimeoutMs)
			o.happens[i].TimedOut = deadline <= now && (s.WakeAt == 0 || deadline < s.WakeAt)
			o.happens[i].Woke = !o.happens[i].TimedOut && s.WakeAt != 0 && s.WakeAt <= now
		}
		o.noteAttempt(engine.Place{Step: i}, now)
		for _, item := range s.Items {
			o.noteAttempt(engine.Place{Step: i, Iteration: item.Iteration}, now)
		}
	}
}

func (o *outside) noteAttempt(p engine.Place, now engine.Time) {
	t := o.x.Task(p)
	if t.RetryAt != 0 && t.RetryAt <= now && !o.paused {
		o.history(p).Retries++
	}
	if p.Iteration == 0 && t.Backstop != 0 && t.Backstop <= now {
		if o.next(p) != enginetest.StaysSilent {
			o.t.Fatalf("the test let %s run out of time", o.plan.Key(p.Step))
		}
		o.history(p).Heard++
		delete(o.current, p)
	}
}

// compare holds the state against the reference.
func (o *outside) compare() error {
	var after *enginetest.World
	status, outputs, code := orchestrator.ExecutionPending, any(nil), ""
	if o.begun {
		after = o.world()
		status, outputs, code = after.Ends()
	}
	if o.paused && (status == orchestrator.ExecutionRunning || !o.begun) {
		status = orchestrator.ExecutionPaused
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
		got.Items = enginetest.Counts{Begun: s.Begun, Completed: s.Completed, Failed: s.Failed}
		got.Gathers = o.x.Gathers(i)
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
