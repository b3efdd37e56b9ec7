package schedule

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/template"
	"turbocat.io/services/orchestrator/internal/trigger"
)

// Bounds and defaults of a schedule.
const (
	maxZone              = 200
	minCatchUpWindow     = 10 * time.Second // longer than another orchestrator takes to step in
	maxCatchUpWindow     = 7 * 24 * time.Hour
	defaultCatchUpWindow = 10 * time.Minute
	maxJitter            = 24 * time.Hour
	defaultZone          = "UTC"
)

// overlaps are the overlap policies, the default first.
var overlaps = []string{orchestrator.OverlapSkip, orchestrator.OverlapQueue, orchestrator.OverlapAllow}

// Kind makes and changes schedules; it implements trigger.Kind.
type Kind struct{}

// New implements trigger.Kind.
func (Kind) New(_ context.Context, b trigger.Base, body json.RawMessage) (trigger.Trigger, string, error) {
	t, err := newTrigger(b, body)
	if err != nil {
		return nil, "", err
	}
	table, err := t.timetable()
	t.Place = t.after(table, t.Now)
	return &t, "", err
}

// Patched implements trigger.Kind. The schedule fires no time at or before its last fired one after that.
func (Kind) Patched(_ context.Context, was trigger.Trigger, body json.RawMessage) (trigger.Trigger, error) {
	before := *was.(*Trigger)
	t, err := before.patched(body)
	if err == nil {
		t, err = t.changed(before)
	}
	return &t, err
}

// newTrigger reads the body that makes a trigger, and reports all that is wrong with it.
func newTrigger(b trigger.Base, body json.RawMessage) (Trigger, error) {
	var faults form.Faults
	t := Trigger{Base: b, TimeZone: defaultZone, Overlap: overlaps[0], CatchUpWindow: defaultCatchUpWindow}
	t.Inputs = []byte("{}")
	if o, ok := form.Read(body, &faults); ok {
		o.Require(true, "name", "type", "cron")
		t.read(o, &faults)
	}
	return t, faults.Err("trigger")
}

// patched reads the body that changes a trigger.
func (t Trigger) patched(body json.RawMessage) (Trigger, error) {
	var faults form.Faults
	if o, ok := form.Read(body, &faults); ok {
		o.Require(false, "name", "type", "cron")
		t.read(o, &faults)
	}
	return t, faults.Err("trigger")
}

func (t *Trigger) read(o form.Object, faults *form.Faults) {
	o.Only(append([]string{"inputs", "cron", "timeZone", "overlap", "catchUpWindowMs", "jitterMs", "nextFireTimes"}, trigger.CommonFields...)...)
	t.Base.Read(o)
	readInputs(o, &t.Inputs, faults)
	o.Enum("overlap", &t.Overlap, overlaps[0], overlaps...)
	milliseconds(o, "catchUpWindowMs", &t.CatchUpWindow, defaultCatchUpWindow, minCatchUpWindow, maxCatchUpWindow)
	milliseconds(o, "jitterMs", &t.Jitter, 0, 0, maxJitter)
	o.String("cron", &t.Cron, "", 1, maxCron)
	o.String("timeZone", &t.TimeZone, defaultZone, 1, maxZone)
	if t.Cron != "" { // else that is told
		NewTimetable(t.Cron, t.TimeZone, faults)
	}
}

// maxInputs bounds the inputs of a trigger: they stand in its row, and are sent with each of its executions.
const maxInputs = 1 << 20

// readInputs reads the inputs of the executions, which are data: no templates, and no secrets that would look like ones.
func readInputs(o form.Object, dst *[]byte, faults *form.Faults) {
	inputs := json.RawMessage(*dst)
	o.Object("inputs", &inputs, json.RawMessage("{}"))
	if len(inputs) > maxInputs {
		faults.Add("inputs", errs.OutOfRange, "have %d bytes; give at most %d", len(inputs), maxInputs)
		return
	}
	if parsed, _ := template.Parse(inputs); parsed != nil {
		for _, r := range parsed.References() {
			if r.Path.Root() == "secrets" {
				faults.Add(strings.TrimSuffix("inputs."+r.Field, "."), errs.NotApplicable, "secrets are not for the inputs of a trigger; name {{%s}} in the agent's config or the step's inputs", r.Path)
			}
		}
	}
	*dst = inputs
}

func milliseconds(o form.Object, name string, dst *time.Duration, otherwise, least, most time.Duration) {
	ms := dst.Milliseconds()
	o.Int(name, &ms, otherwise.Milliseconds(), least.Milliseconds(), most.Milliseconds())
	*dst = time.Duration(ms) * time.Millisecond
}

// newPreview reads a timetable that is not saved.
func newPreview(body json.RawMessage) (Timetable, error) {
	var faults form.Faults
	t := Trigger{TimeZone: defaultZone}
	var table Timetable
	if o, ok := form.Read(body, &faults); ok {
		o.Only("cron", "timeZone")
		o.Require(true, "cron")
		o.String("cron", &t.Cron, "", 1, maxCron)
		o.String("timeZone", &t.TimeZone, defaultZone, 1, maxZone)
		if t.Cron != "" {
			table = NewTimetable(t.Cron, t.TimeZone, &faults)
		}
	}
	return table, faults.Err("schedule")
}
