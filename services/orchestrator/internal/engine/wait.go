package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/template"
)

// wait is a compiled catalog.WaitConfig.
type wait struct {
	duration  *template.Template // nil for none
	until     *template.Template // nil for none
	signal    string             // "" for none
	approval  bool
	timeoutMs int64
	otherwise json.RawMessage // the output when the signal does not come; nil: the step fails
}

func compileWait(key string, raw json.RawMessage) (*wait, error) {
	var c catalog.WaitConfig
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	w := &wait{signal: c.Signal, approval: c.Approval, timeoutMs: c.TimeoutMs, otherwise: c.Default}
	var err error
	switch {
	case len(c.DurationMs) > 0:
		w.duration, err = parseTemplate("config.durationMs", c.DurationMs)
	case c.Until != "":
		quoted, _ := json.Marshal(c.Until) // a string always encodes
		w.until, err = parseTemplate("config.until", quoted)
	case c.Approval && c.Signal == "":
		w.signal = key
	case c.Signal == "":
		err = fmt.Errorf("config: it names nothing to wait for")
	}
	return w, err
}

// maxWaitMs is the longest durationMs: more is no moment any more.
const maxWaitMs = 100 * 365 * 24 * 3600 * 1000

// begin gives when the wait is over, or its signal comes too late; 0 for never.
func (w *wait) begin(now Time, lookup template.Lookup) (Time, *runner.StepError) {
	switch {
	case w.duration != nil:
		raw, unresolved := w.duration.Render(lookup)
		var ms float64
		if len(unresolved) > 0 || string(raw) == "null" || json.Unmarshal(raw, &ms) != nil || ms < 0 || ms > maxWaitMs {
			return 0, wrongWait("durationMs", raw, "a number of milliseconds from 0")
		}
		return now.Add(int64(ms)), nil
	case w.until != nil:
		raw, unresolved := w.until.Render(lookup)
		var at time.Time
		if len(unresolved) > 0 || string(raw) == "null" || json.Unmarshal(raw, &at) != nil {
			return 0, wrongWait("until", raw, "a time like 2027-01-31T09:00:00Z")
		}
		return max(now, TimeOf(at)), nil
	case w.timeoutMs > 0:
		return now.Add(w.timeoutMs), nil
	}
	return 0, nil
}

func wrongWait(field string, got []byte, want string) *runner.StepError {
	if len(got) > 100 {
		got = append(slices.Clone(got[:100]), "..."...)
	}
	return &runner.StepError{Code: runner.CodeInvalidInput, Message: fmt.Sprintf("%s is %s; it must be %s", field, got, want)}
}

// startWait lets a WAIT begin, and end when what it waits for is there.
func (a *applier) startWait(i int) {
	x, s, w := a.x, &a.x.Steps[i], a.x.Definition.Steps[i].wait
	at, failure := w.begin(x.LastInput, x.lookup)
	if failure != nil {
		a.fail(i, failure)
		return
	}
	if kept := slices.IndexFunc(x.Signals, func(k KeptSignal) bool { return k.Signal.Name == w.signal }); w.signal != "" && kept >= 0 {
		signal := x.Signals[kept]
		x.Signals = slices.Delete(x.Signals, kept, kept+1)
		a.out.Taken = append(a.out.Taken, signal.Command)
		a.heard(i, signal.Signal)
		return
	}
	if w.signal == "" && at <= x.LastInput {
		a.waited(i, nil)
		return
	}
	s.WakeAt = at
	a.touch(Place{Step: i})
	data := a.stepEvent(Place{Step: i})
	data.Signal = w.signal
	if until := x.WaitsUntil(i); until != 0 {
		std := until.Std()
		data.Until = &std
	}
	a.emit(orchestrator.EventStepWaitStarted, data)
}

// waited ends a WAIT with an output; none is null.
func (a *applier) waited(i int, output json.RawMessage) {
	if len(output) == 0 {
		output = json.RawMessage("null")
	}
	a.x.Steps[i].Output = output
	a.settle(i, orchestrator.StepCompleted, orchestrator.EventStepCompleted)
}

// wake ends a WAIT whose time is up.
func (a *applier) wake(i int) {
	switch w := a.x.Definition.Steps[i].wait; {
	case w.signal == "":
		a.waited(i, nil)
	case w.otherwise != nil:
		a.waited(i, w.otherwise)
	default:
		a.fail(i, &runner.StepError{Code: runner.CodeStepTimeout, Message: fmt.Sprintf("the signal %q did not come within timeoutMs of %d", w.signal, w.timeoutMs)})
	}
}

// KeptSignal is a signal that no step has waited for yet.
type KeptSignal struct {
	Command string // that it came with
	Signal  orchestrator.Signal
}

// signaled gives a signal to the first step that waits for it, or keeps it for one that will.
func (a *applier) signaled(in Input) {
	x := a.x
	if in.Signal == nil {
		return
	}
	for i := range x.Steps {
		if w := x.Definition.Steps[i].wait; w != nil && w.signal == in.Signal.Name && x.Steps[i].Status == orchestrator.StepRunning {
			a.heard(i, *in.Signal)
			return
		}
	}
	x.Signals = append(x.Signals, KeptSignal{in.Command, *in.Signal})
	a.out.Kept = true
}

// heard ends a WAIT with the signal it waited for.
func (a *applier) heard(i int, signal orchestrator.Signal) {
	if !a.x.Definition.Steps[i].wait.approval {
		a.waited(i, signal.Payload)
		return
	}
	approval := catalog.Approval{Approved: signal.Approve != nil && *signal.Approve, By: signal.By, Comment: signal.Comment, Payload: signal.Payload}
	if !approval.Approved {
		message := "refused by " + signal.By
		if signal.Comment != "" {
			message += ": " + signal.Comment
		}
		a.fail(i, &runner.StepError{Code: runner.CodeRejected, Message: message})
		return
	}
	output, err := json.Marshal(approval)
	if err != nil { // the payload is no JSON
		a.fail(i, &runner.StepError{Code: runner.CodeInvalidInput, Message: "the payload of the approval is not valid JSON"})
		return
	}
	a.waited(i, output)
}

// Awaits tells whether the definition has a WAIT for a signal of this name, and whether that is an approval.
func (d *Definition) Awaits(signal string) (waits int, approval bool) {
	for i := range d.Steps {
		if w := d.Steps[i].wait; w != nil && w.signal == signal && signal != "" {
			waits++
			approval = approval || w.approval
		}
	}
	return waits, approval
}

// Signal gives the name of the signal that a step is to wait for; "" when it is for none.
func (d *Definition) Signal(i int) string {
	if w := d.Steps[i].wait; w != nil {
		return w.signal
	}
	return ""
}

// Signal gives the name of the signal that a RUNNING step waits for; "" when it waits for none.
func (x *Execution) Signal(i int) string {
	if x.Steps[i].Status != orchestrator.StepRunning {
		return ""
	}
	return x.Definition.Signal(i)
}

// WaitsUntil is when a RUNNING WAIT is over, or fails, at the latest; 0 for never.
func (x *Execution) WaitsUntil(i int) Time { return earlier(x.Steps[i].WakeAt, x.deadline(i)) }
