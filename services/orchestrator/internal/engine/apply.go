package engine

import (
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
	// backstopMs is how much longer than its timeout an attempt that has started is waited
	// for: the runner keeps the timeout, the engine only the case that it does not.
	backstopMs = 10 * 1000
)

// Apply changes x as the input says and tells what follows.
func Apply(x *Execution, in Input, keys Keys) Effects {
	if x.Terminal() {
		return Effects{}
	}
	a := applier{x: x, keys: keys}
	before := x.LastInput
	x.LastInput = max(x.LastInput, in.Time)
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
	}
	a.decide()
	slices.Sort(a.out.Steps)
	a.out.Steps = slices.Compact(a.out.Steps)
	if a.out.None() {
		x.LastInput = before
	}
	return a.out
}

// Fault ends an execution that the engine or the ledger can not go on with.
func Fault(x *Execution, at Time, reason string) Effects {
	if x.Terminal() {
		return Effects{}
	}
	a := applier{x: x}
	x.LastInput = max(x.LastInput, at)
	a.created()
	a.end(orchestrator.ExecutionFailed, &runner.StepError{Code: runner.CodeEngineFault, Message: reason}, orchestrator.EventFailed)
	slices.Sort(a.out.Steps)
	a.out.Steps = slices.Compact(a.out.Steps)
	return a.out
}

// applier carries one input through the state.
type applier struct {
	x     *Execution
	keys  Keys
	out   Effects
	queue []int // pending steps whose dependencies are all terminal
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
	if !a.begin() {
		return
	}
	for i := range a.x.Steps {
		if a.x.Steps[i].waiting == 0 {
			a.queue = append(a.queue, i)
		}
	}
}

// current gives the step whose attempt the input speaks of, if that attempt still counts.
func (a *applier) current(in Input) (int, bool) {
	i, ok := a.x.Definition.byKey[in.Step]
	if !ok || !a.x.Steps[i].AwaitsResult() || a.x.Steps[i].Token != in.Token {
		return 0, false
	}
	return i, true
}

func (a *applier) stepStarted(in Input) {
	i, ok := a.current(in)
	if !ok {
		return
	}
	s, at := &a.x.Steps[i], a.x.LastInput
	if s.Backstop != 0 {
		at = in.Time // a start that is read again after others is not a later one
	}
	if until := at.Add(a.x.Definition.Steps[i].TimeoutMs + backstopMs); until > s.Backstop {
		s.Backstop = until
		a.touch(i)
	}
}

func (a *applier) stepCompleted(in Input) {
	i, ok := a.current(in)
	if !ok {
		return
	}
	a.x.Steps[i].Output = in.Output
	a.x.Steps[i].Error = nil
	a.settle(i, orchestrator.StepCompleted, orchestrator.EventStepCompleted)
}

func (a *applier) stepFailed(in Input) {
	i, ok := a.current(in)
	if !ok {
		return
	}
	failure := in.Err
	if failure == nil {
		failure = &runner.StepError{Code: runner.CodeInternal, Message: "the runner reported a failure without a reason", Retryable: true}
	}
	a.attemptFailed(i, failure)
}

func (a *applier) stepLost(in Input) {
	if i, ok := a.current(in); ok && a.x.Steps[i].Dispatch == in.Dispatch {
		a.x.Steps[i].Dispatch++
		a.touch(i)
		a.out.Ready = append(a.out.Ready, i)
	}
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
		if x.Terminal() {
			return
		}
		s := &x.Steps[i]
		switch {
		case s.RetryAt != 0 && s.RetryAt <= now:
			a.start(i)
		case s.Backstop != 0 && s.Backstop <= now:
			a.out.Stop = append(a.out.Stop, Stop{i, s.Token})
			a.attemptFailed(i, &runner.StepError{
				Code: runner.CodeStepTimeout, Retryable: true,
				Message: fmt.Sprintf("the step did not end within its timeoutMs of %d and its runner does not answer", x.Definition.Steps[i].TimeoutMs),
			})
		}
	}
}

// decide works through the steps whose dependencies are all terminal, and ends the
// execution when no step is left.
func (a *applier) decide() {
	for len(a.queue) > 0 && !a.x.Terminal() {
		i := a.queue[0]
		a.queue = a.queue[1:]
		if a.ruleHolds(i) {
			a.start(i)
		} else {
			a.settle(i, orchestrator.StepSkipped, orchestrator.EventStepSkipped)
		}
	}
	if a.x.open == 0 && !a.x.Terminal() && a.x.Status != orchestrator.ExecutionPending {
		a.complete()
	}
}

// ruleHolds tells whether a step runs, now that its dependencies are terminal. A FAILED
// dependency of a running execution has onError CONTINUE.
func (a *applier) ruleHolds(i int) bool {
	def := &a.x.Definition.Steps[i]
	if len(def.DependsOn) == 0 {
		return true
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

// start begins the next attempt of a step.
func (a *applier) start(i int) {
	x, s := a.x, &a.x.Steps[i]
	s.Attempt++
	s.Status = orchestrator.StepRunning
	if s.StartedAt == 0 {
		s.StartedAt = x.LastInput
	}
	s.Token = a.keys.token(x.ID, x.Definition.Steps[i].Key, s.Attempt)
	s.Dispatch = 1
	s.RetryAt, s.Backstop = 0, 0
	a.touch(i)
	a.emit(orchestrator.EventStepStarted, a.stepEvent(i))

	_, unresolved, failure := x.Input(i)
	if failure == nil && len(unresolved) > 0 {
		message := unresolvedMessage(unresolved)
		if x.Definition.Strict {
			failure = &runner.StepError{Code: runner.CodeTemplate, Message: message}
		} else {
			a.out.Warnings = append(a.out.Warnings, Warning{i, s.Attempt, "in the inputs " + message + "; it stays as written"})
		}
	}
	if failure != nil {
		a.attemptFailed(i, failure)
		return
	}
	a.out.Ready = append(a.out.Ready, i)
}

// attemptFailed decides between another attempt, going on without the step, and the end.
func (a *applier) attemptFailed(i int, failure *runner.StepError) {
	x, s, def := a.x, &a.x.Steps[i], &a.x.Definition.Steps[i]
	failed := *failure
	failed.StepKey = def.Key
	s.Error = &failed
	if def.OnError == catalog.OnErrorRetry && failed.Retryable && s.Attempt <= def.RetryCount {
		s.Token, s.Backstop = "", 0
		s.RetryAt = x.LastInput.Add(a.keys.jitter(backoff(def.RetryDelayMs, s.Attempt), x.ID, def.Key, s.Attempt))
		a.touch(i)
		data := a.stepEvent(i)
		until := s.RetryAt.Std()
		data.Until, data.Error = &until, eventError(&failed)
		a.emit(orchestrator.EventStepRetryScheduled, data)
		return
	}
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
	s.RetryAt, s.Backstop = 0, 0
	s.CompletedAt = a.x.LastInput
	a.x.open--
	a.touch(i)
	data := a.stepEvent(i)
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
			if s.AwaitsResult() {
				a.out.Stop = append(a.out.Stop, Stop{i, s.Token})
			}
			a.settle(i, orchestrator.StepCancelled, orchestrator.EventStepCancelled)
		}
	}
	a.queue = nil
	a.out.Ready = nil // nothing that this input made ready is wanted any more
	a.finish(status, failure, kind)
}

// complete ends an execution whose steps are all terminal and none of which failed it.
func (a *applier) complete() {
	if t := a.x.Definition.outputs; t != nil {
		outputs, unresolved, err := t.RenderWithin(runner.MaxInput, a.x.lookup)
		switch {
		case err != nil:
			a.finish(orchestrator.ExecutionFailed, &runner.StepError{
				Code: runner.CodeOutputLimit, Message: fmt.Sprintf("the outputs are larger than %d bytes; let the workflow's outputs name less", runner.MaxInput),
			}, orchestrator.EventFailed)
			return
		case len(unresolved) > 0 && a.x.Definition.Strict:
			a.finish(orchestrator.ExecutionFailed, &runner.StepError{
				Code: runner.CodeTemplate, Message: "in the outputs " + unresolvedMessage(unresolved),
			}, orchestrator.EventFailed)
			return
		case len(unresolved) > 0:
			a.out.Warnings = append(a.out.Warnings, Warning{-1, 0, "in the outputs " + unresolvedMessage(unresolved) + "; it stays as written"})
		}
		a.x.Outputs = outputs
	}
	a.finish(orchestrator.ExecutionCompleted, nil, orchestrator.EventCompleted)
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
}

func (a *applier) touch(i int) { a.out.Steps = append(a.out.Steps, i) }

func (a *applier) stepEvent(i int) orchestrator.ExecutionEvent {
	s := &a.x.Steps[i]
	data := orchestrator.ExecutionEvent{Status: s.Status, StepKey: a.x.Definition.Steps[i].Key, Attempt: s.Attempt}
	if s.CompletedAt != 0 && s.StartedAt != 0 {
		ms := s.CompletedAt.Ms(s.StartedAt)
		data.DurationMs = &ms
	}
	return data
}

func (a *applier) emit(kind event.Type[orchestrator.ExecutionEvent], data orchestrator.ExecutionEvent) {
	x := a.x
	x.EventSeq++
	data.ExecutionID, data.WorkflowID, data.UserID, data.Seq = x.ID, x.WorkflowID, x.UserID, x.EventSeq
	a.out.Events = append(a.out.Events, Event{Type: kind, Time: x.LastInput, Data: data})
	a.out.Changed = true
}
