package enginetest

import (
	"fmt"
	"slices"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/services/orchestrator/internal/engine"
)

// Story follows the public events of one execution and knows what they may tell: without a
// gap, in legal transitions, no step before its dependencies are terminal, up to one end.
type Story struct {
	def       *engine.Definition
	seq       uint64
	last      engine.Time
	execution string   // name of the last event of the execution itself
	steps     []string // name of the last event of each step
	attempts  []int    // that the events told of
	begun     bool
}

// NewStory begins before the first event of an execution of def.
func NewStory(def *engine.Definition) *Story {
	return &Story{def: def, steps: make([]string, len(def.Steps)), attempts: make([]int, len(def.Steps))}
}

// legal are the events that may follow on one another: of an execution that has begun and of one that has not, and of
// one step.
var legal = map[bool]map[string][]string{
	false: {
		"":        {"created"},
		"created": {"started", "paused", "cancelled", "failed"},
		"paused":  {"resumed", "cancelled", "failed"},
		"resumed": {"started", "paused", "cancelled", "failed"}, // a queued one does not begin
	},
	true: {
		"started": {"paused", "completed", "failed", "cancelled", "timed_out"},
		"paused":  {"resumed", "completed", "failed", "cancelled", "timed_out"},
		"resumed": {"paused", "completed", "failed", "cancelled", "timed_out"},
	},
}

var legalOfStep = map[string][]string{
	"":                     {"step_started", "step_skipped", "step_cancelled"},
	"step_started":         {"step_completed", "step_failed", "step_cancelled", "step_retry_scheduled", "step_wait_started"},
	"step_retry_scheduled": {"step_started", "step_cancelled"},
	"step_wait_started":    {"step_completed", "step_failed", "step_cancelled"},
}

var statusOf = map[string]string{
	"": orchestrator.ExecutionPending, "created": orchestrator.ExecutionPending, "started": orchestrator.ExecutionRunning,
	"paused": orchestrator.ExecutionPaused, "resumed": orchestrator.ExecutionRunning,
	"completed": orchestrator.ExecutionCompleted, "failed": orchestrator.ExecutionFailed,
	"cancelled": orchestrator.ExecutionCancelled, "timed_out": orchestrator.ExecutionTimeout,
	"step_started": orchestrator.StepRunning, "step_retry_scheduled": orchestrator.StepRunning, "step_wait_started": orchestrator.StepRunning,
	"step_completed": orchestrator.StepCompleted, "step_failed": orchestrator.StepFailed,
	"step_skipped": orchestrator.StepSkipped, "step_cancelled": orchestrator.StepCancelled,
}

// StepTerminal tells whether a step's status is final.
func StepTerminal(status string) bool {
	return slices.Contains([]string{orchestrator.StepCompleted, orchestrator.StepFailed, orchestrator.StepSkipped, orchestrator.StepCancelled}, status)
}

// Hear takes the next event and fails when it may not be told now.
func (s *Story) Hear(name string, at engine.Time, d orchestrator.ExecutionEvent) error {
	if s.seq++; d.Seq != s.seq {
		return fmt.Errorf("event %s has seq %d after %d", name, d.Seq, s.seq-1)
	}
	if at < s.last {
		return fmt.Errorf("event %s has time %d; the last was of %d", name, at, s.last)
	}
	s.last = at
	if want := s.statusAfter(name); d.Status != want {
		return fmt.Errorf("event %s has status %s, it must be %s", name, d.Status, want)
	}
	if len(legal[s.begun][s.execution]) == 0 {
		return fmt.Errorf("event %s follows the terminal event %s", name, s.execution)
	}
	if d.StepKey == "" {
		if !slices.Contains(legal[s.begun][s.execution], name) {
			return fmt.Errorf("event %s follows %q", name, s.execution)
		}
		s.execution = name
		s.begun = s.begun || name == "started"
		return nil
	}
	return s.hearStep(name, d)
}

func (s *Story) hearStep(name string, d orchestrator.ExecutionEvent) error {
	i, ok := s.def.StepIndex(d.StepKey)
	if !ok {
		return fmt.Errorf("event %s is of the unknown step %q", name, d.StepKey)
	}
	if s.execution == "" || !slices.Contains(legalOfStep[s.steps[i]], name) {
		return fmt.Errorf("event %s of %s follows %q", name, d.StepKey, s.steps[i])
	}
	if d.Iteration > 0 {
		return s.hearItem(i, name, d)
	}
	s.steps[i] = name
	if name == "step_started" {
		if s.execution == "paused" {
			return fmt.Errorf("step %s starts during a pause", d.StepKey)
		}
		s.attempts[i]++
		for _, dep := range s.def.Steps[i].DependsOn {
			if !StepTerminal(s.StepStatus(dep)) {
				return fmt.Errorf("step %s starts before %s is terminal", d.StepKey, s.def.Steps[dep].Key)
			}
		}
	}
	if d.Attempt != s.attempts[i] {
		return fmt.Errorf("event %s of %s has attempt %d, it is the %d.", name, d.StepKey, d.Attempt, s.attempts[i])
	}
	if name != "step_wait_started" && (d.Signal != "" || (name == "step_retry_scheduled") != (d.Until != nil)) {
		return fmt.Errorf("event %s has until %v, signal %q", name, d.Until, d.Signal)
	}
	if (name == "step_retry_scheduled" || name == "step_failed") != (d.Error != nil) {
		return fmt.Errorf("event %s has error %v", name, d.Error)
	}
	return nil
}

// hearItem takes what is told of an item: only that it is tried again.
func (s *Story) hearItem(i int, name string, d orchestrator.ExecutionEvent) error {
	if t := s.def.Steps[i].Type; t != catalog.StepLoop && t != catalog.StepParallel {
		return fmt.Errorf("event %s is of an item of %s, which has none", name, d.StepKey)
	}
	if name != "step_retry_scheduled" || d.Attempt < 1 || d.Until == nil || d.Error == nil || d.Signal != "" {
		return fmt.Errorf("event %s of an item of %s: %+v", name, d.StepKey, d)
	}
	return nil
}

// statusAfter is the status that an event tells of: one that is resumed before it has begun is PENDING again.
func (s *Story) statusAfter(name string) string {
	if name == "resumed" && !s.begun {
		return orchestrator.ExecutionPending
	}
	return statusOf[name]
}

// Status is the execution's by what was told.
func (s *Story) Status() string { return s.statusAfter(s.execution) }

// Begun tells whether the execution was told to run.
func (s *Story) Begun() bool { return s.begun }

// StepStatus is that of step i by what was told.
func (s *Story) StepStatus(i int) string {
	if s.steps[i] == "" {
		return orchestrator.StepPending
	}
	return statusOf[s.steps[i]]
}

// Attempts is how many of step i were told of.
func (s *Story) Attempts(i int) int { return s.attempts[i] }
