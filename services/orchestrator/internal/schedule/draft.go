package schedule

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/template"
)

// Bounds and defaults of a schedule.
const (
	maxName              = 200
	minCatchUpWindow     = 10 * time.Second // longer than another orchestrator takes to step in
	maxCatchUpWindow     = 7 * 24 * time.Hour
	defaultCatchUpWindow = 10 * time.Minute
	maxJitter            = 24 * time.Hour
	defaultZone          = "UTC"
)

// overlaps are the overlap policies, the default first.
var overlaps = []string{orchestrator.OverlapSkip, orchestrator.OverlapQueue, orchestrator.OverlapAllow}

// notYet are the types of triggers that are known and not available.
var notYet = []string{orchestrator.TriggerTypeWebhook, orchestrator.TriggerTypeEvent}

// newTrigger reads the body that makes a trigger, and reports all that is wrong with it.
func newTrigger(body json.RawMessage) (Trigger, error) {
	var faults form.Faults
	t := Trigger{Enabled: true, Inputs: []byte("{}"), TimeZone: defaultZone, Overlap: overlaps[0], CatchUpWindow: defaultCatchUpWindow}
	if o, ok := form.Read(body, &faults); ok {
		o.Require(true, "name", "type")
		if !slices.Contains(notYet, o.Text("type")) {
			o.Require(true, "cron")
		}
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
	readType(o, faults)
	o.Only("type", "name", "enabled", "inputs", "priority", "cron", "timeZone", "overlap", "catchUpWindowMs", "jitterMs",
		"id", "workflowId", "userId", "createdAt", "updatedAt", "nextFireTimes", "lastFiredAt") // what an answer has may be sent back
	o.String("name", &t.Name, "", 1, maxName)
	o.Bool("enabled", &t.Enabled, true)
	readInputs(o, &t.Inputs, faults)
	readPriority(o, &t.Priority)
	o.Enum("overlap", &t.Overlap, overlaps[0], overlaps...)
	milliseconds(o, "catchUpWindowMs", &t.CatchUpWindow, defaultCatchUpWindow, minCatchUpWindow, maxCatchUpWindow)
	milliseconds(o, "jitterMs", &t.Jitter, 0, 0, maxJitter)
	o.String("cron", &t.Cron, "", 1, maxCron)
	o.String("timeZone", &t.TimeZone, defaultZone, 1, maxName)
	if t.Cron != "" { // else that is told
		NewTimetable(t.Cron, t.TimeZone, faults)
	}
}

func readType(o form.Object, faults *form.Faults) {
	if given := o.Text("type"); slices.Contains(notYet, given) {
		faults.Add("type", errs.Unsupported, "triggers of type %s are not available yet; give %s", given, orchestrator.TriggerTypeSchedule)
		return
	}
	var kind string
	o.Enum("type", &kind, "", orchestrator.TriggerTypeSchedule)
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

func readPriority(o form.Object, dst **int) {
	if o.IsNull("priority") && o.Has("priority") {
		*dst = nil
		return
	}
	priority := int64(-1)
	if o.Int("priority", &priority, 0, 0, 9); priority >= 0 {
		p := int(priority)
		*dst = &p
	}
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
		o.String("timeZone", &t.TimeZone, defaultZone, 1, maxName)
		if t.Cron != "" {
			table = NewTimetable(t.Cron, t.TimeZone, &faults)
		}
	}
	return table, faults.Err("schedule")
}
