package engine

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
)

const (
	maxBackoffMs = 5 * 60 * 1000
	// maxRetryAfterMs bounds what the other side may ask for.
	maxRetryAfterMs = 24 * 60 * 60 * 1000
	// backstopMs is how much longer than its timeout an attempt that has started is waited
	// for: the runner keeps the timeout, the engine only the case that it does not.
	backstopMs = 10 * 1000
)

// Apply changes x as the input says and tells what follows.
func Apply(x *Execution, in Input, keys Keys) Effects {
	if x.Terminal() {
		return Effects{}
	}
	if in.Command != "" {
		if x.Commands[in.Command] {
			return Effects{}
		}
		x.Commands[in.Command] = true
	}
	a := applier{x: x, keys: keys}
	before := x.LastInput
	x.LastInput = max(x.LastInput, in.Time)
	if x.Slot == SlotDropped {
		a.drop()
		return a.effects()
	}
	switch in.Kind {
	case Submitted:
		a.submitted()
	case StepStarted:
		a.stepStarted(in)
	case StepCompleted:
		a.stepCompleted(in)
	case StepFailed:
		a.stepFailed(in)
	case StepLost:
		a.stepLost(in)
	case TimerDue:
		a.timerDue()
	case Cancel:
		a.created()
		a.end(orchestrator.ExecutionCancelled, nil, orchestrator.EventCancelled)
	case Pause:
		a.pause()
	case Resume:
		a.resume()
	case Signaled:
		a.signaled(in)
	case Gathered:
		a.gathered(in)
	}
	a.decide()
	out := a.effects()
	if out.None() {
		x.LastInput = before
	}
	return out
}

// Fault ends an execution that the engine or the ledger can not go on with.
func Fault(x *Execution, at Time, reason string, keys Keys) Effects {
	if x.Terminal() {
		return Effects{}
	}
	a := applier{x: x, keys: keys}
	x.LastInput = max(x.LastInput, at)
	a.created()
	a.end(orchestrator.ExecutionFailed, &runner.StepError{Code: runner.CodeEngineFault, Message: reason}, orchestrator.EventFailed)
	return a.effects()
}

// applier carries one input through the state.
type applier struct {
	x     *Execution
	keys  Keys
	out   Effects
	queue []int // pending steps whose dependencies are all terminal
	fans  []int // LOOPs and PARALLELs whose items may begin
	rows  []Place
	ended []Row // items that are no longer in the state

	resolved int // bytes of the inputs that were put together
}

// effects gives what came of the input.
func (a *applier) effects() Effects {
	slices.SortFunc(a.rows, byPlace)
	a.out.Rows = slices.Grow(a.ended, len(a.rows))
	for n, p := range a.rows {
		if (n == 0 || p != a.rows[n-1]) && a.x.Task(p) != nil {
			a.out.Rows = append(a.out.Rows, a.x.Row(p))
		}
	}
	if len(a.ended) > 0 {
		slices.SortFunc(a.out.Rows, func(p, q Row) int { return byPlace(p.Place, q.Place) })
	}
	stopped := func(p Place) bool { // what followed may have stopped an item again
		t := a.x.Task(p)
		return t == nil || !t.AwaitsResult()
	}
	a.out.Ready, a.out.Children = slices.DeleteFunc(a.out.Ready, stopped), slices.DeleteFunc(a.out.Children, stopped)
	return a.out
}

func byPlace(p, q Place) int {
	return cmp.Or(cmp.Compare(p.Step, q.Step), cmp.Compare(p.Iteration, q.Iteration))
}

// created tells the world of the execution, once, before anything else of it.
func (a *applier) created() {
	if a.x.EventSeq == 0 {
		a.emit(orchestrator.EventCreated, orchestrator.ExecutionEvent{Status: orchestrator.ExecutionPending})
	}
}

// begin brings the execution from PENDING to RUNNING.
func (a *applier) begin() bool {
	if a.x.Status != orchestrator.ExecutionPending {
		return false
	}
	a.created()
	a.x.Status = orchestrator.ExecutionRunning
	a.x.StartedAt = a.x.LastInput
	a.emit(orchestrator.EventStarted, orchestrator.ExecutionEvent{Status: orchestrator.ExecutionRunning})
	return true
}

func (a *applier) submitted() {
	if a.x.Slot == SlotWaiting {
		a.x.Slot = SlotHeld // it is said only then; a paused execution begins when it is resumed
	}
	if !a.begin() {
		return
	}
	for i := range a.x.Steps {
		if s := &a.x.Steps[i]; s.waiting == 0 && s.Status == orchestrator.StepPending { // some begin with the result of another execution
			a.queue = append(a.queue, i)
		}
	}
}

// current gives the task whose attempt the input speaks of, if that attempt still counts.
func (a *applier) current(in Input) (Place, *Task) {
	i, ok := a.x.Definition.byKey[in.Step]
	if !ok {
		return Place{}, nil
	}
	p := Place{i, in.Iteration}
	if t := a.x.Task(p); t != nil && t.AwaitsResult() && t.Token == in.Token {
		return p, t
	}
	return Place{}, nil
}

func (a *applier) stepStarted(in Input) {
	p, t := a.current(in)
	if t == nil {
		return
	}
	at := a.x.LastInput
	if t.Backstop != 0 {
		at = in.Time // a start that is read again after others is not a later one
	}
	if until := at.Add(a.x.Definition.Steps[p.Step].TimeoutMs + backstopMs); until > t.Backstop {
		t.Backstop = until
		a.touch(p)
	}
}

func (a *applier) stepCompleted(in Input) {
	p, t := a.current(in)
	if t == nil {
		return
	}
	if in.Missing {
		a.outputMissing(p, t, in.Dispatch)
		return
	}
	t.Output = in.Output
	t.Error = nil
	if p.Iteration > 0 {
		a.itemEnded(p, orchestrator.StepCompleted)
		return
	}
	a.settle(p.Step, orchestrator.StepCompleted, orchestrator.EventStepCompleted)
}

func (a *applier) stepFailed(in Input) {
	p, t := a.current(in)
	if t == nil {
		return
	}
	failure := in.Err
	if failure == nil {
		failure = &runner.StepError{Code: runner.CodeInternal, Message: "the runner reported a failure without a reason", Retryable: true}
	}
	a.attemptFailed(p, failure)
}

func (a *applier) stepLost(in Input) {
	if p, t := a.current(in); t != nil && t.Dispatch == in.Dispatch {
		t.Dispatch++
		a.touch(p)
		a.out.Ready = append(a.out.Ready, p)
	}
}

// maxMissing is how often an attempt is sent again because its output is not where its runner says.
const maxMissing = 5

// outputMissing has an attempt run again whose output the ledger has lost since, as one that was restored from a backup has.
func (a *applier) outputMissing(p Place, t *Task, dispatch int) {
	switch {
	case t.Child != "":
		return // its end is told again, and stored before
	case dispatch != 0 && dispatch != t.Dispatch:
		return // it is sent again already
	}
	if t.Dispatch >= maxMissing {
		a.attemptFailed(p, &runner.StepError{Code: runner.CodeInvalidOutput, Message: "the output is not where its runner says"})
		return
	}
	t.Dispatch++
	a.touch(p)
	a.out.Ready = append(a.out.Ready, p)
}

// timerDue fires every timer that is due by the time of the input, the workflow's first.
func (a *applier) timerDue() {
	x := a.x
	if x.StartedAt == 0 {
		return
	}
	now := x.LastInput
	if at := x.timeoutAt(); at != 0 && at <= now {
		a.end(orchestrator.ExecutionTimeout, &runner.StepError{
			Code: runner.CodeWorkflowTime, Message: fmt.Sprintf("the execution ran longer than its timeoutMs of %d", x.Definition.TimeoutMs),
		}, orchestrator.EventTimedOut)
		return
	}
	for i := range x.Steps {
		s, def := &x.Steps[i], &x.Definition.Steps[i]
		if x.Terminal() {
			return
		}
		if s.Status != orchestrator.StepRunning {
			continue
		}
		if at := x.deadline(i); at != 0 && at <= now && (s.WakeAt == 0 || at < s.WakeAt) {
			a.stopItems(i)
			a.fail(i, &runner.StepError{Code: runner.CodeStepTimeout, Message: fmt.Sprintf("the step did not end within its timeoutMs of %d", def.TimeoutMs)})
			continue
		}
		if s.WakeAt != 0 && s.WakeAt <= now {
			a.wake(i)
			continue
		}
		a.taskDue(Place{Step: i}, now)
		for _, item := range slices.Clone(s.Items) {
			a.taskDue(Place{i, item.Iteration}, now)
		}
	}
}

// taskDue begins the next attempt of a task, or gives the running one up, when it is time.
func (a *applier) taskDue(p Place, now Time) {
	t := a.x.Task(p)
	switch {
	case t == nil: // what came before it has ended the step
	case t.RetryAt != 0 && t.RetryAt <= now && a.x.Status != orchestrator.ExecutionPaused:
		a.attempt(p)
	case t.Backstop != 0 && t.Backstop <= now:
		a.out.Stop = append(a.out.Stop, Stop{p, t.Token, t.Child})
		a.attemptFailed(p, &runner.StepError{
			Code: runner.CodeStepTimeout, Retryable: true,
			Message: outOfTime(&a.x.Definition.Steps[p.Step], p.Iteration, t.Child),
		})
	}
}

func outOfTime(d *StepDefinition, iteration int, child string) string {
	if child != "" {
		return fmt.Sprintf("the execution %s did not end within timeoutMs of %d", child, d.childTimeoutMs(iteration))
	}
	return fmt.Sprintf("the step did not end within its timeoutMs of %d and its runner does not answer", d.TimeoutMs)
}

// decide works through the steps whose dependencies are all terminal and the fan-outs whose items have ended, and ends
// the execution when no step is left.
func (a *applier) decide() {
	for paused := a.x.Status == orchestrator.ExecutionPaused; !a.x.Terminal(); {
		switch {
		case len(a.fans) > 0:
			i := a.fans[0]
			a.fans = a.fans[1:]
			a.fill(i)
			continue
		case len(a.queue) > 0 && !paused:
			i := a.queue[0]
			a.queue = a.queue[1:]
			if a.ruleHolds(i) {
				a.start(i)
			} else {
				a.settle(i, orchestrator.StepSkipped, orchestrator.EventStepSkipped)
			}
			continue
		}
		if a.x.open == 0 && a.x.StartedAt != 0 {
			a.complete()
		}
		return
	}
}

// ruleHolds tells whether a step runs, now that its dependencies are terminal: every CONDITION that names it has taken
// it, and its rule holds. A FAILED dependency of a running execution has onError CONTINUE.
func (a *applier) ruleHolds(i int) bool {
	def := &a.x.Definition.Steps[i]
	if len(def.DependsOn) == 0 {
		return true
	}
	for _, c := range def.NamedBy {
		if !a.x.taken(c, def.Key) {
			return false
		}
	}
	completed, failed := 0, 0
	for _, dep := range def.DependsOn {
		switch a.x.Steps[dep].Status {
		case orchestrator.StepCompleted:
			completed++
		case orchestrator.StepFailed:
			failed++
		}
	}
	switch def.Rule {
	case catalog.TriggerAllSuccess:
		return completed == len(def.DependsOn)
	case catalog.TriggerOneSuccess:
		return completed > 0
	case catalog.TriggerAllDone:
		return true
	default: // none_failed
		return completed+failed > 0
	}
}

// start begins a step.
func (a *applier) start(i int) {
	s, def := &a.x.Steps[i], &a.x.Definition.Steps[i]
	if def.Works() {
		a.attempt(Place{Step: i})
		return
	}
	s.Attempt, s.Status, s.StartedAt = 1, orchestrator.StepRunning, a.x.LastInput
	a.touch(Place{Step: i})
	a.emit(orchestrator.EventStepStarted, a.stepEvent(Place{Step: i}))
	if failure := a.x.tooMuch(i); failure != nil {
		a.fail(i, failure)
		return
	}
	switch {
	case def.condition != nil:
		a.choose(i)
	case def.wait != nil:
		a.startWait(i)
	default:
		a.fans = append(a.fans, i)
	}
}

// attempt begins the next attempt of a task. Only those of steps are told to the world: a step may have a great many items.
func (a *applier) attempt(p Place) {
	x, t := a.x, a.x.Task(p)
	t.Attempt++
	t.Status = orchestrator.StepRunning
	if t.StartedAt == 0 {
		t.StartedAt = x.LastInput
	}
	t.Token = a.keys.token(x.ID, x.Definition.Steps[p.Step].Key, p.Iteration, t.Attempt)
	t.Dispatch = 1
	t.RetryAt, t.Backstop = 0, 0
	a.touch(p)
	if p.Iteration == 0 {
		a.emit(orchestrator.EventStepStarted, a.stepEvent(p))
	}

	if !x.Defers(p) {
		input, warnings, failure := x.resolve(p)
		if failure != nil {
			a.attemptFailed(p, failure)
			return
		}
		if a.resolved += len(input); a.resolved <= maxResolved {
			a.out.Inputs = append(a.out.Inputs, Resolved{p, input})
		}
		a.out.Warnings = append(a.out.Warnings, warnings...)
	}
	if x.Definition.Steps[p.Step].Work(p.Iteration).Elsewhere() {
		t.Child = a.keys.childID(t.Token, x.LastInput)
		t.Backstop = x.LastInput.Add(x.Definition.Steps[p.Step].childTimeoutMs(p.Iteration)) // nobody else keeps its time
		a.out.Children = append(a.out.Children, p)
		return
	}
	a.out.Ready = append(a.out.Ready, p)
}

// attemptFailed decides between another attempt, going on without the task, and the end.
func (a *applier) attemptFailed(p Place, failure *runner.StepError) {
	x, t, def := a.x, a.x.Task(p), &a.x.Definition.Steps[p.Step]
	failed := *failure
	failed.StepKey = def.Key
	t.Error = &failed
	if def.OnError == catalog.OnErrorRetry && failed.Retryable && t.Attempt <= def.RetryCount {
		t.Token, t.Backstop = "", 0
		delay := a.keys.jitter(backoff(def.RetryDelayMs, t.Attempt), x.ID, def.Key, p.Iteration, t.Attempt)
		t.RetryAt = x.LastInput.Add(max(delay, min(failed.RetryAfterMs, maxRetryAfterMs)))
		a.touch(p)
		data := a.stepEvent(p)
		until := t.RetryAt.Std()
		data.Until, data.Error, data.Iteration = &until, eventError(&failed), p.Iteration
		a.emit(orchestrator.EventStepRetryScheduled, data)
		return
	}
	if p.Iteration > 0 {
		a.itemEnded(p, orchestrator.StepFailed)
		return
	}
	a.fail(p.Step, &failed)
}

// fail ends a step, and unless its onError is CONTINUE the execution.
func (a *applier) fail(i int, failure *runner.StepError) {
	def := &a.x.Definition.Steps[i]
	failed := *failure
	failed.StepKey = def.Key
	a.x.Steps[i].Error = &failed
	a.settle(i, orchestrator.StepFailed, orchestrator.EventStepFailed)
	if def.OnError != catalog.OnErrorContinue {
		a.end(orchestrator.ExecutionFailed, &failed, orchestrator.EventFailed)
	}
}

// backoff is the delay after the attempt-th failure: doubled each time, at most five minutes.
func backoff(delayMs int64, attempt int) int64 {
	ms := float64(delayMs) * math.Pow(2, float64(attempt-1))
	return int64(min(ms, maxBackoffMs))
}

// settle makes a step terminal and queues the dependents that waited for it alone.
func (a *applier) settle(i int, status string, kind event.Type[orchestrator.ExecutionEvent]) {
	s := &a.x.Steps[i]
	s.Status = status
	if status != orchestrator.StepCancelled {
		s.Token = "" // a cancelled attempt keeps its name until its runner is told
	}
	s.RetryAt, s.Backstop, s.WakeAt = 0, 0, 0
	s.CompletedAt = a.x.LastInput
	s.Last, s.items = nil, nil
	a.x.open--
	a.touch(Place{Step: i})
	data := a.stepEvent(Place{Step: i})
	if status == orchestrator.StepFailed {
		data.Error = eventError(s.Error)
	}
	a.emit(kind, data)
	for _, d := range a.x.Definition.Steps[i].Dependents {
		a.x.Steps[d].waiting--
		if a.x.Steps[d].waiting == 0 && a.x.Steps[d].Status == orchestrator.StepPending {
			a.queue = append(a.queue, d)
		}
	}
}

// end makes the execution terminal. When it FAILED, steps not begun are SKIPPED, as nothing
// stopped them but the failure; else every step that is not terminal is CANCELLED.
func (a *applier) end(status string, failure *runner.StepError, kind event.Type[orchestrator.ExecutionEvent]) {
	for i := range a.x.Steps {
		s := &a.x.Steps[i]
		switch {
		case s.Status == orchestrator.StepPending && status == orchestrator.ExecutionFailed:
			a.settle(i, orchestrator.StepSkipped, orchestrator.EventStepSkipped)
		case !stepTerminal(s.Status):
			a.stopItems(i)
			if s.AwaitsResult() {
				a.out.Stop = append(a.out.Stop, Stop{Place{Step: i}, s.Token, s.Child})
			}
			a.settle(i, orchestrator.StepCancelled, orchestrator.EventStepCancelled)
		}
	}
	a.queue, a.fans = nil, nil
	a.out.Ready, a.out.Children, a.out.Gather = nil, nil, nil // nothing that this input made ready is wanted any more
	a.finish(status, failure, kind)
}

// complete ends an execution whose steps are all terminal and none of which failed it. Outputs that are large, or made of what is, are
// gathered first.
func (a *applier) complete() {
	if t := a.x.Definition.outputs; t != nil {
		for _, p := range t.Paths() {
			if _, stored := a.x.storedAt(Place{}, p); stored {
				a.gatherOutputs()
				return
			}
		}
		outputs, unresolved, err := t.RenderWithin(runner.MaxInline, a.x.lookup)
		switch {
		case err != nil:
			a.gatherOutputs()
			return
		case len(unresolved) > 0 && a.x.Definition.Strict:
			a.finish(orchestrator.ExecutionFailed, unresolvedOutputs(unresolved), orchestrator.EventFailed)
			return
		case len(unresolved) > 0:
			a.out.Warnings = append(a.out.Warnings, Warning{Place{Step: Outputs}, 0, unresolvedOutputs(unresolved).Message + "; it stays as written"})
		}
		a.x.Outputs = outputs
	}
	a.finish(orchestrator.ExecutionCompleted, nil, orchestrator.EventCompleted)
}

func (a *applier) gatherOutputs() {
	if !slices.Contains(a.out.Gather, Outputs) {
		a.out.Gather = append(a.out.Gather, Outputs)
	}
}

func (a *applier) finish(status string, failure *runner.StepError, kind event.Type[orchestrator.ExecutionEvent]) {
	x := a.x
	x.Status, x.Error = status, failure
	x.CompletedAt = x.LastInput
	data := orchestrator.ExecutionEvent{Status: status, Error: eventError(failure)}
	if x.StartedAt != 0 {
		ms := x.CompletedAt.Ms(x.StartedAt)
		data.DurationMs = &ms
	}
	a.emit(kind, data)
	a.compensate()
}

func (a *applier) touch(p Place) { a.rows = append(a.rows, p) }

func (a *applier) stepEvent(p Place) orchestrator.ExecutionEvent {
	t := a.x.Task(p)
	step := &a.x.Definition.Steps[p.Step]
	data := orchestrator.ExecutionEvent{Status: t.Status, StepKey: step.Key, AgentID: step.work.AgentID, Attempt: t.Attempt}
	if t.CompletedAt != 0 && t.StartedAt != 0 {
		ms := t.CompletedAt.Ms(t.StartedAt)
		data.DurationMs = &ms
	}
	return data
}

func (a *applier) emit(kind event.Type[orchestrator.ExecutionEvent], data orchestrator.ExecutionEvent) {
	x := a.x
	x.EventSeq++
	data.ExecutionID, data.WorkflowID, data.UserID, data.Seq = x.ID, x.WorkflowID, x.UserID, x.EventSeq
	data.Depth = x.Depth
	a.out.Events = append(a.out.Events, Event{Type: kind, Time: x.LastInput, Data: data})
	a.out.Changed = true
}
