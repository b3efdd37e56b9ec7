package promises

import (
	"maps"
	"slices"

	"turbocat.io/contracts/orchestrator"
)

var (
	stepStarted = orchestrator.EventStepStarted.String()
	stepRetry   = orchestrator.EventStepRetryScheduled.String()
	stepWaits   = orchestrator.EventStepWaitStarted.String()
)

// Story reads the events of one execution, in their order, and tells what can not have happened so. It holds the last
// event of each step alone.
type Story struct {
	id        string
	dependsOn map[string][]string
	reused    map[string]bool
	say       func(promise, format string, args ...any)

	seq    uint64
	ids    map[string]uint64
	status string // of the execution, as told
	steps  map[string]Event
	items  map[item]Event // that are tried again: the last time
	end    Event
}

type item struct {
	step      string
	iteration int
}

// NewStory begins the story of an execution, whose steps depend on others; the reused ones have the results of another
// execution. say is told each violation.
func NewStory(id string, dependsOn map[string][]string, reused map[string]bool, say func(promise, format string, args ...any)) *Story {
	return &Story{
		id: id, dependsOn: dependsOn, reused: reused, say: say,
		ids: map[string]uint64{}, status: orchestrator.ExecutionPending, steps: map[string]Event{}, items: map[item]Event{},
	}
}

// Tell takes the next event in.
func (s *Story) Tell(e Event) {
	s.seq++
	if e.Seq != s.seq || e.Execution != s.id {
		s.say("I5", "event %d of %s is event %d of %s", s.seq, s.id, e.Seq, e.Execution)
	}
	if other, ok := s.ids[e.ID]; ok {
		s.say("I5", "the events %d and %d of %s have one id, %s", other, e.Seq, s.id, e.ID)
	}
	s.ids[e.ID] = e.Seq
	if s.end.Type != "" {
		s.say("I5", "event %d of %s is %s and comes after the end, %s", e.Seq, s.id, e.Type, s.end.Type)
	}
	if e.StepKey == "" {
		s.tellOfExecution(e)
		return
	}
	s.tellOfStep(e)
}

func (s *Story) tellOfExecution(e Event) {
	legal, status := false, e.Status
	switch end := endOfExecution[e.Type]; {
	case end != "":
		legal, status, s.end = true, end, e
	case e.Type == orchestrator.EventCreated.String():
		legal, status = e.Seq == 1, orchestrator.ExecutionPending
	case e.Type == orchestrator.EventStarted.String():
		legal, status = s.status == orchestrator.ExecutionPending, orchestrator.ExecutionRunning
	case e.Type == orchestrator.EventPaused.String():
		legal, status = s.status == orchestrator.ExecutionPending || s.status == orchestrator.ExecutionRunning, orchestrator.ExecutionPaused
	case e.Type == orchestrator.EventResumed.String():
		legal = s.status == orchestrator.ExecutionPaused && (status == orchestrator.ExecutionPending || status == orchestrator.ExecutionRunning)
	}
	if !legal || e.Seq == 1 && e.Type != orchestrator.EventCreated.String() {
		s.say("I5", "event %d of %s is %s, and it was %s", e.Seq, s.id, e.Type, s.status)
	}
	if e.Status != status {
		s.say("I5", "event %d of %s is %s with the status %s", e.Seq, s.id, e.Type, e.Status)
	}
	s.status = status
}

func (s *Story) tellOfStep(e Event) {
	if s.reused[e.StepKey] {
		s.say("I2", "event %d of %s is %s of %s, which has the result of another execution", e.Seq, s.id, e.Type, e.StepKey)
	}
	before := s.steps[e.StepKey]
	if e.Type == stepRetry && e.Iteration > 0 {
		at := item{e.StepKey, e.Iteration}
		if before.Type != stepStarted || e.Attempt != s.items[at].Attempt+1 {
			s.say("I5", "event %d of %s is %s of the attempt %d of the item %d of %s, after the attempt %d", e.Seq, s.id, e.Type, e.Attempt, e.Iteration, e.StepKey, s.items[at].Attempt)
		}
		s.items[at] = e
		return
	}
	if !follows(before, e) {
		s.say("I5", "event %d of %s is %s of the attempt %d of %s, after %s of the attempt %d", e.Seq, s.id, e.Type, e.Attempt, e.StepKey, before.Type, before.Attempt)
	}
	if e.Type == stepStarted {
		s.checkStart(before, e)
	}
	s.steps[e.StepKey] = e
}

func (s *Story) checkStart(before, e Event) {
	for _, key := range s.dependsOn[e.StepKey] {
		if endOfStep[s.steps[key].Type] == "" && !s.reused[key] {
			s.say("I4", "the step %s of %s started by event %d, and %s, which it depends on, had not ended", e.StepKey, s.id, e.Seq, key)
		}
	}
	if before.Type == stepRetry && e.At.Before(before.Until) {
		s.say("I4", "the step %s of %s started by event %d at %s, and its next attempt was to begin at %s", e.StepKey, s.id, e.Seq, clock(e.At), clock(before.Until))
	}
	if s.status != orchestrator.ExecutionRunning {
		s.say("I4", "the step %s of %s started by event %d, when the execution was %s", e.StepKey, s.id, e.Seq, s.status)
	}
}

// follows tells whether an event of a step can come after another; before the first it is the zero event.
func follows(before, e Event) bool {
	started, waiting := before.Type == stepStarted || before.Type == stepWaits, before.Type == stepRetry
	switch {
	case e.Type == stepStarted:
		return e.Status == orchestrator.StepRunning && (before.Type == "" && e.Attempt == 1 || waiting && e.Attempt == before.Attempt+1)
	case e.Type == stepWaits:
		return e.Status == orchestrator.StepRunning && before.Type == stepStarted && e.Attempt == before.Attempt
	case e.Type == stepRetry:
		return before.Type == stepStarted && e.Attempt == before.Attempt
	case e.Status != endOfStep[e.Type]:
		return false
	case e.Status == orchestrator.StepSkipped:
		return before.Type == ""
	case e.Status == orchestrator.StepCancelled:
		return before.Type == "" || (started || waiting) && e.Attempt == before.Attempt
	case e.Status == orchestrator.StepFailed:
		return (started || waiting) && e.Attempt == before.Attempt
	default:
		return started && e.Attempt == before.Attempt
	}
}

// Compare checks that the execution is as its story tells.
func (s *Story) Compare(row orchestrator.Execution) {
	if row.Status != s.status || Ended(row.Status) && (s.end.Type == "" || row.CompletedAt == nil || !s.end.At.Equal(*row.CompletedAt)) {
		s.say("I5", "the events of %s end with %q at %s, and the execution is %s since %v", s.id, s.end.Type, clock(s.end.At), row.Status, row.CompletedAt)
	}
	counted := orchestrator.Progress{Total: len(row.Steps), Percent: 100}
	done := 0
	untold := maps.Clone(s.steps)
	for _, state := range row.Steps {
		switch state.Status {
		case orchestrator.StepCompleted:
			counted.Completed++
		case orchestrator.StepFailed:
			counted.Failed++
		case orchestrator.StepSkipped:
			counted.Skipped++
		}
		if stepEnded(state.Status) {
			done++
		} else if Ended(row.Status) {
			s.say("I7", "the step %s of %s is %s, and the execution is %s", state.StepKey, s.id, state.Status, row.Status)
		}
		e, told := s.steps[state.StepKey]
		delete(untold, state.StepKey)
		if !s.agrees(state, e, told) {
			s.say("I5", "the step %s of %s is %s after %d attempts since %v, and its last event is %q of the attempt %d at %s", state.StepKey, s.id, state.Status, state.Attempts, state.CompletedAt, e.Type, e.Attempt, clock(e.At))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(untold)) {
		s.say("I5", "the events of %s tell of the step %s, which it does not have", s.id, key)
	}
	if counted.Total > 0 {
		counted.Percent = done * 100 / counted.Total
	}
	if row.Progress != counted {
		s.say("I6", "the progress of %s is %+v, its steps are %+v", s.id, row.Progress, counted)
	}
}

// agrees tells whether a step is as its last event says.
func (s *Story) agrees(state orchestrator.StepState, e Event, told bool) bool {
	switch {
	case s.reused[state.StepKey]:
		return !told && state.Status == orchestrator.StepCompleted
	case state.Status == orchestrator.StepPending:
		return !told
	case state.Status == orchestrator.StepRunning:
		return (e.Type == stepStarted || e.Type == stepRetry || e.Type == stepWaits) && e.Attempt == state.Attempts
	default:
		return told && endOfStep[e.Type] == state.Status && e.Attempt == state.Attempts && state.CompletedAt != nil && e.At.Equal(*state.CompletedAt)
	}
}
