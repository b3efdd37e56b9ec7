package promises

import (
	"maps"
	"slices"

	"turbocat.io/contracts/orchestrator"
)

// checkOrder checks that each step started after what it depends on had ended.
func (c *checker) checkOrder(x *Execution) {
	depends := map[string][]string{}
	for _, s := range x.Plan {
		depends[s.Key] = s.DependsOn
	}
	ended := map[string]bool{}
	for _, e := range x.Replay {
		if endOfStep[e.Type] != "" {
			ended[e.StepKey] = true
		}
		if e.Type != stepStarted {
			continue
		}
		for _, key := range depends[e.StepKey] {
			if !ended[key] {
				c.say("I4", "the step %s of %s started by event %d, and %s, which it depends on, had not ended", e.StepKey, x.ID, e.Seq, key)
			}
		}
	}
}

// checkHistory checks that the events are a possible story, and that of the execution.
func (c *checker) checkHistory(x *Execution) {
	if last := x.last(); last == nil || !Ended(last.Status) {
		return // told by I1
	}
	ids := map[string]uint64{}
	steps := map[string]Event{} // the last of each
	var end Event
	for i, e := range x.Replay {
		if e.Seq != uint64(i+1) || e.Execution != x.ID {
			c.say("I5", "event %d of %s is event %d of %s", i+1, x.ID, e.Seq, e.Execution)
		}
		if other, ok := ids[e.ID]; ok {
			c.say("I5", "the events %d and %d of %s have one id, %s", other, e.Seq, x.ID, e.ID)
		}
		ids[e.ID] = e.Seq
		if end.Type != "" {
			c.say("I5", "event %d of %s is %s and comes after the end, %s", e.Seq, x.ID, e.Type, end.Type)
		}
		if (e.Type == orchestrator.EventCreated.String()) != (e.Seq == 1) || (e.Type == orchestrator.EventStarted.String()) && e.Seq != 2 {
			c.say("I5", "event %d of %s is %s", e.Seq, x.ID, e.Type)
		}
		if status := endOfExecution[e.Type]; status != "" {
			end = e
			if e.Status != status {
				c.say("I5", "event %d of %s is %s with the status %s", e.Seq, x.ID, e.Type, e.Status)
			}
		}
		if e.StepKey != "" {
			if !follows(steps[e.StepKey], e) {
				c.say("I5", "event %d of %s is %s of the attempt %d of %s, after %s of the attempt %d", e.Seq, x.ID, e.Type, e.Attempt, e.StepKey, steps[e.StepKey].Type, steps[e.StepKey].Attempt)
			}
			steps[e.StepKey] = e
		}
	}
	c.compareWithRow(x, end, steps)
	if x.Followed != nil && !slices.Equal(x.Followed, x.Replay) {
		c.say("I5", "who followed %s was told %s, and the history is %s", x.ID, story(x.Followed), story(x.Replay))
	}
}

// follows tells whether an event of a step can come after another; before the first it is the zero event.
func follows(before, e Event) bool {
	started, waiting := before.Type == stepStarted, before.Type == stepRetry
	switch {
	case e.Type == stepStarted:
		return e.Status == orchestrator.StepRunning && (before.Type == "" && e.Attempt == 1 || waiting && e.Attempt == before.Attempt+1)
	case e.Type == stepRetry:
		return started && e.Attempt == before.Attempt
	case e.Status != endOfStep[e.Type]:
		return false
	case e.Status == orchestrator.StepSkipped:
		return before.Type == ""
	case e.Status == orchestrator.StepCancelled:
		return before.Type == "" || (started || waiting) && e.Attempt == before.Attempt
	default:
		return started && e.Attempt == before.Attempt
	}
}

// compareWithRow checks that the execution is as its events tell.
func (c *checker) compareWithRow(x *Execution, end Event, steps map[string]Event) {
	row := x.last()
	if end.Status != row.Status || row.CompletedAt == nil || !end.At.Equal(*row.CompletedAt) {
		c.say("I5", "the events of %s end with %q at %s, and the execution is %s since %v: %s", x.ID, end.Type, clock(end.At), row.Status, row.CompletedAt, story(x.Replay))
	}
	counted := orchestrator.Progress{Total: len(row.Steps)}
	for _, s := range row.Steps {
		switch s.Status {
		case orchestrator.StepCompleted:
			counted.Completed++
		case orchestrator.StepFailed:
			counted.Failed++
		case orchestrator.StepSkipped:
			counted.Skipped++
		}
		e, told := steps[s.StepKey]
		delete(steps, s.StepKey)
		if !told || endOfStep[e.Type] != s.Status || e.Attempt != s.Attempts || s.CompletedAt == nil || !e.At.Equal(*s.CompletedAt) {
			c.say("I5", "the step %s of %s is %s after %d attempts since %v, and its last event is %q of the attempt %d at %s", s.StepKey, x.ID, s.Status, s.Attempts, s.CompletedAt, e.Type, e.Attempt, clock(e.At))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(steps)) {
		c.say("I5", "the events of %s tell of the step %s, which it does not have", x.ID, key)
	}
	if p := row.Progress; p.Total != counted.Total || p.Completed != counted.Completed || p.Failed != counted.Failed || p.Skipped != counted.Skipped {
		c.say("I6", "the progress of %s is %+v, its steps are %+v", x.ID, p, counted)
	}
}

// checkTold checks that the ledger, the stream of public events and the API tell the same.
func (c *checker) checkTold() {
	if c.Ledger == nil {
		return
	}
	ofExecution := map[string][]Event{}
	numbers := map[int]uint64{}
	for _, e := range c.Ledger.Events {
		ofExecution[e.Execution] = append(ofExecution[e.Execution], e)
		if e.N != numbers[e.P]+1 {
			c.say("I5", "in the partition %d event %d of the ledger follows %d", e.P, e.N, numbers[e.P])
		}
		numbers[e.P] = e.N
	}
	for i := range c.Executions {
		x := &c.Executions[i]
		stored := ofExecution[x.ID]
		slices.SortFunc(stored, func(a, b Event) int { return int(a.Seq) - int(b.Seq) })
		if x.last() != nil && Ended(x.last().Status) && !slices.Equal(stored, x.Replay) {
			c.say("I5", "the ledger tells %s of %s, and a client is told %s", story(stored), x.ID, story(x.Replay))
		}
	}
	if c.Streams != nil {
		c.checkPublished(c.Ledger.Events, numbers)
	}
}

// checkPublished checks the stream as every reader of it does: what has no higher number than the last of its partition is dropped.
func (c *checker) checkPublished(stored []Event, newest map[int]uint64) {
	type place struct {
		p int
		n uint64
	}
	want := map[place]Event{}
	for _, e := range stored {
		want[place{e.P, e.N}] = e
	}
	read := map[int]uint64{}
	for _, e := range c.Streams.Published {
		if e.N <= read[e.P] {
			continue
		}
		if e.N != read[e.P]+1 && !c.Streams.Lost {
			c.say("I5", "in the partition %d the published event %d follows %d", e.P, e.N, read[e.P])
		}
		read[e.P] = e.N
		if s := want[place{e.P, e.N}]; s != e {
			c.say("I5", "event %d of the partition %d is published as %+v and stored as %+v", e.N, e.P, e, s)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(newest)) {
		if read[p] < newest[p] && (!c.Streams.Lost || read[p] > 0) {
			c.say("I5", "the events of the partition %d are published up to %d of %d", p, read[p], newest[p])
		}
	}
}

// story tells events in one line.
func story(events []Event) string {
	text := "["
	for i, e := range events {
		if i > 0 {
			text += ", "
		}
		text += e.Type
		if e.StepKey != "" {
			text += " " + e.StepKey
		}
	}
	return text + "]"
}
