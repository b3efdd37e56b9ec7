package promises

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
)

// endsWithin is how long after its timeout, or the last fault, an execution may take to end.
const endsWithin = 60 * time.Second

func (c *checker) checkEnd(x *Execution) {
	last := x.last()
	switch {
	case last == nil:
		c.say("I1", "the execution %s was accepted at %s and can not be read", x.ID, clock(x.AcceptedAt))
		return
	case !Ended(last.Status):
		c.say("I1", "the execution %s was accepted at %s and is %s at %s: %s", x.ID, clock(x.AcceptedAt), last.Status, clock(last.At), progress(last.Execution))
		return
	case last.CompletedAt == nil:
		c.say("I1", "the execution %s is %s and has no completedAt", x.ID, last.Status)
		return
	}
	begin := x.AcceptedAt
	for _, f := range c.Faults {
		if f.To.After(begin) && f.From.Before(*last.CompletedAt) {
			begin = f.To
		}
	}
	if latest := begin.Add(time.Duration(x.TimeoutMs)*time.Millisecond + endsWithin); x.TimeoutMs > 0 && last.CompletedAt.After(latest) {
		c.say("I1", "the execution %s ended at %s, later than %s", x.ID, clock(*last.CompletedAt), clock(latest))
	}
	if c.lost(last.Execution) {
		return
	}
	if x.Status != "" && last.Status != x.Status {
		c.say("I1", "the execution %s is meant to be %s and is %s (%v): %s", x.ID, x.Status, last.Status, last.Error, progress(last.Execution))
	}
	if x.Outputs != "" && !sameJSON(last.Outputs, []byte(x.Outputs)) {
		c.say("I1", "the execution %s is meant to give %s and gives %s", x.ID, x.Outputs, last.Outputs)
	}
	for _, s := range x.Plan {
		got, ok := stepOf(last.Execution, s.Key)
		if !ok || s.Status != "" && got.Status != s.Status {
			c.say("I1", "the step %s of the execution %s is meant to be %s and is %s (%v)", s.Key, x.ID, s.Status, got.Status, got.Error)
		}
		c.checkStep(x, s, got)
	}
}

// lost tells whether a step of an execution, or of its child, failed because each of four runners that took it was hit by a fault:
// a step is not given to a fifth, because it may be what ends them, and it is no fault of the engine that it is not.
func (c *checker) lost(x orchestrator.Execution) bool {
	return slices.ContainsFunc(x.Steps, func(s orchestrator.StepState) bool {
		if s.Error == nil || s.StartedAt == nil || s.CompletedAt == nil || c.hits(*s.StartedAt, *s.CompletedAt) < runner.LostAfter {
			return false
		}
		return s.Error.Code == runner.CodeRunnerLost || s.Error.Code == runner.CodeChildFailed && strings.Contains(s.Error.Message, runner.CodeRunnerLost)
	})
}

// checkStep checks what a type of step promises of its own.
func (c *checker) checkStep(x *Execution, s Step, got orchestrator.StepState) {
	if got.Status != orchestrator.StepCompleted || s.Reused {
		return
	}
	if c.Gentle && s.Attempts > 0 && got.Attempts != s.Attempts {
		c.say("I3", "the step %s of %s took %d attempts, and nothing but its own %d was asked for", s.Key, x.ID, got.Attempts, s.Attempts)
	}
	if s.Waits > 0 && got.StartedAt != nil && got.CompletedAt != nil && got.CompletedAt.Sub(*got.StartedAt) < s.Waits-rounding {
		c.say("I4", "the step %s of %s was to wait %s and has waited %s", s.Key, x.ID, s.Waits, got.CompletedAt.Sub(*got.StartedAt))
	}
	if s.Items > 0 && (got.Items == nil || got.Items.Begun != s.Items || got.Items.Completed != s.Items || got.Items.Failed != 0) {
		c.say("I6", "the step %s of %s has %d items, and counts %+v", s.Key, x.ID, s.Items, got.Items)
	}
	if s.Child && got.ChildExecutionID == nil {
		c.say("I2", "the step %s of %s is COMPLETED and names no execution", s.Key, x.ID)
	}
}

// checkResults compares what was read later with what was read earlier.
func (c *checker) checkResults(x *Execution) {
	for i := 1; i < len(x.Readings); i++ {
		before, after := x.Readings[i-1], x.Readings[i]
		if Ended(before.Status) && before.Status != after.Status {
			c.say("I2", "the execution %s was %s at %s and is %s at %s", x.ID, before.Status, clock(before.At), after.Status, clock(after.At))
		}
		if Ended(before.Status) && !sameJSON(before.Outputs, after.Outputs) {
			c.say("I2", "the execution %s had the outputs %s at %s and has %s at %s", x.ID, before.Outputs, clock(before.At), after.Outputs, clock(after.At))
		}
		for _, was := range before.Steps {
			is, _ := stepOf(after.Execution, was.StepKey)
			if stepEnded(was.Status) && !sameResult(was, is) {
				c.say("I2", "the step %s of the execution %s was %s at %s and is %s at %s", was.StepKey, x.ID, result(was), clock(before.At), result(is), clock(after.At))
			}
		}
	}
}

func sameResult(a, b orchestrator.StepState) bool {
	return a.Status == b.Status && a.Attempts == b.Attempts && bytes.Equal(a.Output, b.Output) && reflect.DeepEqual(a.Error, b.Error) &&
		sameTime(a.StartedAt, b.StartedAt) && sameTime(a.CompletedAt, b.CompletedAt)
}

func result(s orchestrator.StepState) string {
	b, err := json.Marshal(struct {
		Status      string
		Attempts    int
		Output      json.RawMessage
		Error       any
		CompletedAt *time.Time
	}{s.Status, s.Attempts, s.Output, s.Error, s.CompletedAt})
	if err != nil {
		return s.Status // a broken output, told by its status alone
	}
	return string(b)
}

func progress(x orchestrator.Execution) string {
	text := ""
	for _, s := range x.Steps {
		text += s.StepKey + " " + s.Status + ", "
	}
	return text
}

func sameTime(a, b *time.Time) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Equal(*b)
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }
