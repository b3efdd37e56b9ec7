package promises

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/tools/internal/callbook"
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return noon.Add(time.Duration(ms) * time.Millisecond) }

func when(ms int) *time.Time {
	t := at(ms)
	return &t
}

// done is an execution of begin, then call and other side by side, then end, as it should be. Times are in ms.
func done(id string) Execution {
	plan := []Step{
		{Key: "begin", Status: "COMPLETED"},
		{Key: "call", DependsOn: []string{"begin"}, Calls: map[string]int{"call": 0}, Status: "COMPLETED"},
		{Key: "other", DependsOn: []string{"begin"}, Status: "FAILED"},
		{Key: "end", DependsOn: []string{"call", "other"}, Status: "COMPLETED"},
	}
	x := Execution{ID: id, AcceptedAt: at(0), TimeoutMs: 60_000, Plan: plan, Status: "COMPLETED", Outputs: `{"r":1}`}
	tell := teller(&x)
	tell(10, orchestrator.EventCreated, "PENDING", "", 0)
	tell(10, orchestrator.EventStarted, "RUNNING", "", 0)
	tell(10, orchestrator.EventStepStarted, "RUNNING", "begin", 1)
	tell(20, orchestrator.EventStepCompleted, "COMPLETED", "begin", 1)
	tell(20, orchestrator.EventStepStarted, "RUNNING", "call", 1)
	tell(20, orchestrator.EventStepStarted, "RUNNING", "other", 1)
	tell(30, orchestrator.EventStepRetryScheduled, "RUNNING", "other", 1)
	tell(40, orchestrator.EventStepCompleted, "COMPLETED", "call", 1)
	tell(50, orchestrator.EventStepStarted, "RUNNING", "other", 2)
	tell(60, orchestrator.EventStepFailed, "FAILED", "other", 2)
	tell(60, orchestrator.EventStepStarted, "RUNNING", "end", 1)
	tell(70, orchestrator.EventStepCompleted, "COMPLETED", "end", 1)
	tell(70, orchestrator.EventCompleted, "COMPLETED", "", 0)
	half := orchestrator.Execution{ID: id, Status: "RUNNING", Outputs: json.RawMessage("null"), Steps: []orchestrator.StepState{
		{StepKey: "begin", Status: "COMPLETED", Attempts: 1, Output: json.RawMessage("1"), StartedAt: when(10), CompletedAt: when(20)},
		{StepKey: "call", Status: "COMPLETED", Attempts: 1, Output: json.RawMessage("2"), StartedAt: when(20), CompletedAt: when(40)},
		{StepKey: "other", Status: "RUNNING", Attempts: 2, StartedAt: when(20)},
		{StepKey: "end", Status: "PENDING"},
	}}
	whole := half
	whole.Status, whole.Outputs, whole.CompletedAt = "COMPLETED", json.RawMessage(`{"r": 1}`), when(70)
	whole.Progress = orchestrator.Progress{Total: 4, Completed: 3, Failed: 1, Percent: 100}
	whole.Steps = slices.Clone(half.Steps)
	whole.Steps[2].Status, whole.Steps[2].CompletedAt = "FAILED", when(60)
	whole.Steps[3] = orchestrator.StepState{StepKey: "end", Status: "COMPLETED", Attempts: 1, Output: json.RawMessage("3"), StartedAt: when(60), CompletedAt: when(70)}
	x.Readings = []Reading{{at(55), half}, {at(80), whole}, {at(90), copyOf(whole)}}
	x.Followed = slices.Clone(x.Replay)
	return x
}

func copyOf(x orchestrator.Execution) orchestrator.Execution {
	x.Steps = slices.Clone(x.Steps)
	return x
}

// broken is one whose first step failed, so that the call was skipped.
func broken(id string) Execution {
	x := Execution{ID: id, AcceptedAt: at(0), TimeoutMs: 60_000, Status: "FAILED", Plan: []Step{
		{Key: "begin", Status: "FAILED"},
		{Key: "call", DependsOn: []string{"begin"}, Calls: map[string]int{"call": 0}, Status: "SKIPPED"},
	}}
	tell := teller(&x)
	tell(10, orchestrator.EventCreated, "PENDING", "", 0)
	tell(10, orchestrator.EventStarted, "RUNNING", "", 0)
	tell(10, orchestrator.EventStepStarted, "RUNNING", "begin", 1)
	tell(20, orchestrator.EventStepFailed, "FAILED", "begin", 1)
	tell(20, orchestrator.EventStepSkipped, "SKIPPED", "call", 0)
	tell(20, orchestrator.EventFailed, "FAILED", "", 0)
	x.Readings = []Reading{{at(30), orchestrator.Execution{
		ID: id, Status: "FAILED", CompletedAt: when(20), Outputs: json.RawMessage("null"), Progress: orchestrator.Progress{Total: 2, Failed: 1, Skipped: 1, Percent: 100},
		Steps: []orchestrator.StepState{
			{StepKey: "begin", Status: "FAILED", Attempts: 1, StartedAt: when(10), CompletedAt: when(20)},
			{StepKey: "call", Status: "SKIPPED", CompletedAt: when(20)},
		},
	}}}
	return x
}

func teller(x *Execution) func(ms int, kind event.Type[orchestrator.ExecutionEvent], status, step string, attempt int) {
	return func(ms int, kind event.Type[orchestrator.ExecutionEvent], status, step string, attempt int) {
		seq := uint64(len(x.Replay) + 1)
		x.Replay = append(x.Replay, Event{
			ID: fmt.Sprintf("%s-%d", x.ID, seq), Type: kind.String(), Execution: x.ID, Seq: seq, N: seq, At: at(ms), Status: status, StepKey: step, Attempt: attempt,
		})
	}
}

// kept are facts that show every promise kept. Each execution has a partition of its own.
func kept() Facts {
	f := Facts{
		Executions: []Execution{done("x"), broken("y")},
		Calls:      []callbook.Call{{Execution: "x", Step: "call", Key: "k", Attempt: 1, Began: at(25), Ended: at(35)}},
		Totals:     map[string]int{"": 2, "COMPLETED": 1, "FAILED": 1, "CANCELLED": 0},
		Ledger: &Ledger{
			Statuses: map[string]string{"x": "COMPLETED", "y": "FAILED"}, Living: 1, Running: 1,
		},
		Streams:   &Streams{},
		Processes: []Process{{Name: "runner", Before: Figures{100, 50 << 20, 20, 1, -1, 0}, Then: Figures{110, 80 << 20, 25, 1, 77, 0}}},
	}
	for p := range f.Executions {
		for i := range f.Executions[p].Replay {
			f.Executions[p].Replay[i].P = p
		}
		if f.Executions[p].Followed != nil {
			f.Executions[p].Followed = slices.Clone(f.Executions[p].Replay)
		}
		f.Ledger.Events = append(f.Ledger.Events, f.Executions[p].Replay...)
	}
	f.publish()
	return f
}

// publish has everybody told what is stored.
func (f *Facts) publish() {
	f.Streams.Published = slices.Clone(f.Ledger.Events)
	f.Counted = Recount(f.Ledger.Events)
	f.Feeds = nil
	for i, e := range f.Ledger.Events {
		f.Feeds = append(f.Feeds, Told{"u", uint64(i + 1), e})
	}
}

// tell puts other events into an execution, wherever they are told.
func (f *Facts) tell(i int, events []Event) {
	f.Executions[i].Replay = events
	if f.Executions[i].Followed != nil {
		f.Executions[i].Followed = slices.Clone(events)
	}
	f.Ledger.Events = nil
	for p := range f.Executions {
		f.Ledger.Events = append(f.Ledger.Events, f.Executions[p].Replay...)
	}
	f.publish()
}

func (f *Facts) call(step string, attempt, from, to int) {
	f.Calls = append(f.Calls, callbook.Call{Execution: "x", Step: step, Key: "k", Attempt: attempt, Began: at(from), Ended: at(to)})
}

func TestKept(t *testing.T) {
	for name, change := range map[string]func(f *Facts){
		"as it should be":   func(*Facts) {},
		"nothing looked at": func(f *Facts) { *f = Facts{} },
		"a call again after a fault, at the same time": func(f *Facts) {
			f.Faults = []Fault{{"kill", at(20), at(22)}}
			f.call("call", 1, 30, 40)
		},
		"a fault a moment before the attempt": func(f *Facts) {
			f.Faults = []Fault{{"kill", at(-9000), at(-8000)}}
			f.call("call", 1, 30, 40)
		},
		"late, because of a fault": func(f *Facts) {
			f.Executions[0].TimeoutMs = 1
			f.Executions[0].AcceptedAt = at(-100_000)
			f.Faults = []Fault{{"away", at(-100_000), at(-1000)}}
		},
		"EVENTS lost": func(f *Facts) {
			f.Streams.Lost = true
			f.Streams.Published = f.Streams.Published[9:]
		},
		"published twice": func(f *Facts) { f.Streams.Published = append(f.Streams.Published, f.Streams.Published[3:9]...) },
	} {
		f := kept()
		change(&f)
		if found := Check(f); len(found) > 0 {
			t.Errorf("%s: %v", name, found)
		}
	}
}

func TestEachViolationIsFound(t *testing.T) {
	last := func(f *Facts) *Reading { return &f.Executions[0].Readings[2] }
	events := func(f *Facts) []Event { return slices.Clone(f.Executions[0].Replay) }
	for name, c := range map[string]struct {
		change        func(f *Facts)
		promise, says string
	}{
		"not ended": {func(f *Facts) {
			f.Executions[0].Readings = f.Executions[0].Readings[:1]
			f.Totals = nil
			f.Ledger.Statuses["x"] = "RUNNING"
		}, "I1", "x was accepted at 12:00:00.000 and is RUNNING"},
		"not readable":     {func(f *Facts) { f.Executions[0].Readings = nil }, "I1", "can not be read"},
		"ended late":       {func(f *Facts) { f.Executions[0].AcceptedAt = at(-130_000) }, "I1", "later than"},
		"another end":      {func(f *Facts) { f.Executions[0].Status = "FAILED" }, "I1", "meant to be FAILED"},
		"another output":   {func(f *Facts) { f.Executions[0].Outputs = `{"r":2}` }, "I1", `meant to give {"r":2}`},
		"another step end": {func(f *Facts) { f.Executions[0].Plan[2].Status = "COMPLETED" }, "I1", "the step other of the execution x is meant to be COMPLETED"},
		"not in the ledger": {func(f *Facts) {
			delete(f.Ledger.Statuses, "x")
		}, "I1", "x was accepted at 12:00:00.000 and is not in the ledger"},

		"status changed": {func(f *Facts) {
			f.Executions[0].Readings[1].Status = "FAILED"
		}, "I2", "x was FAILED at 12:00:00.080 and is COMPLETED"},
		"outputs changed": {func(f *Facts) { last(f).Outputs = json.RawMessage(`{"r":2}`) }, "I2", "had the outputs"},
		"result changed":  {func(f *Facts) { last(f).Steps[1].Output = json.RawMessage("7") }, "I2", "the step call of the execution x was"},
		"result gone":     {func(f *Facts) { last(f).Steps[0].Status = "RUNNING" }, "I2", "the step begin"},
		"nobody was told": {func(f *Facts) { f.Ledger.Statuses["z"] = "COMPLETED" }, "I2", "z is in the ledger"},

		"no call":      {func(f *Facts) { f.Calls = nil }, "I3", "has made no call"},
		"called again": {func(f *Facts) { f.call("call", 1, 36, 38) }, "I3", "made 2 calls, at most 1"},
		"called again, the fault was long ago": {func(f *Facts) {
			f.Faults = []Fault{{"kill", at(-20_000), at(-11_000)}}
			f.call("call", 1, 36, 38)
		}, "I3", "made 2 calls, at most 1"},
		"called once too often": {func(f *Facts) {
			f.Faults = []Fault{{"kill", at(25), at(25)}}
			f.call("call", 1, 36, 38)
			f.call("call", 1, 39, 40)
		}, "I3", "made 3 calls, at most 2"},
		"called after its end": {func(f *Facts) {
			f.Faults = []Fault{{"kill", at(25), at(25)}}
			f.call("call", 1, 56, 57)
		}, "I3", "its end was told at 12:00:00.055"},
		"two at once": {func(f *Facts) { f.call("call", 1, 30, 33) }, "I3", "ran twice at the same time"},
		"two keys": {func(f *Facts) {
			f.Faults = []Fault{{"kill", at(25), at(25)}}
			f.call("call", 1, 36, 38)
			f.Calls[1].Key = "l"
		}, "I3", `the idempotency keys "k" and "l"`},
		"one key for two": {func(f *Facts) { f.call("end", 1, 62, 65) }, "I3", `the idempotency key "k" came from`},
		"unknown caller": {func(f *Facts) {
			f.Calls = append(f.Calls, callbook.Call{Execution: "z", Step: "call", Key: "z"})
		}, "I3", "which has none to make"},

		"called before": {func(f *Facts) { f.Calls[0].Began = at(15) }, "I4", "before begin, which it depends on, ended at 12:00:00.020"},
		"skipped and called": {func(f *Facts) {
			f.Calls = append(f.Calls, callbook.Call{Execution: "y", Step: "call", Key: "z", Attempt: 1, Began: at(22)})
		}, "I4", "is SKIPPED, was never started, and has made 1 calls"},
		"attempt not started": {func(f *Facts) { f.call("call", 2, 36, 38) }, "I4", "calls of the attempt 2, which was never started"},
		"started before": {func(f *Facts) {
			e := events(f)
			e[3].Type, e[3].Status, e[3].StepKey, e[4].Type, e[4].Status, e[4].StepKey = e[4].Type, e[4].Status, "call", e[3].Type, e[3].Status, "begin"
			f.tell(0, e)
		}, "I4", "the step call of x started by event 4, and begin"},

		"gap":           {func(f *Facts) { f.tell(0, slices.Delete(events(f), 6, 7)) }, "I5", "event 7 of x is event 8 of x"},
		"one id":        {func(f *Facts) { e := events(f); e[4].ID = e[2].ID; f.tell(0, e) }, "I5", "have one id"},
		"told twice":    {func(f *Facts) { e := events(f); e[5] = e[4]; f.tell(0, e) }, "I5", "event 6 of x is event 5 of x"},
		"two ends":      {func(f *Facts) { e := events(f); e[11] = e[12]; e[11].Seq, e[11].ID = 12, "z"; f.tell(0, e) }, "I5", "comes after the end"},
		"no beginning":  {func(f *Facts) { e := events(f); e[0].Type, e[0].Status = e[1].Type, e[1].Status; f.tell(0, e) }, "I5", "event 1 of x is io.turbocat.execution.started.v1"},
		"wrong status":  {func(f *Facts) { e := events(f); e[12].Status = "FAILED"; f.tell(0, e) }, "I5", "with the status FAILED"},
		"illegal":       {func(f *Facts) { e := events(f); e[8].Attempt = 3; f.tell(0, e) }, "I5", "of the attempt 3 of other"},
		"ended twice":   {func(f *Facts) { e := events(f); e[8] = e[7]; e[8].Seq, e[8].ID = 9, "z"; f.tell(0, e) }, "I5", "event 9 of x"},
		"another end ":  {func(f *Facts) { e := events(f); e[12].At = at(71); f.tell(0, e) }, "I5", "the events of x end with"},
		"another story": {func(f *Facts) { f.Executions[0].Followed = f.Executions[0].Followed[:12] }, "I5", "who followed x was told"},
		"untold":        {func(f *Facts) { last(f).Steps[3].Attempts = 2 }, "I5", "the step end of x is COMPLETED after 2 attempts"},
		"unknown step": {func(f *Facts) {
			for i := range f.Executions[0].Readings {
				f.Executions[0].Readings[i].Steps = f.Executions[0].Readings[i].Steps[:3]
			}
		}, "I5", "tell of the step end, which it does not have"},
		"stored otherwise":  {func(f *Facts) { f.Ledger.Events[3].ID = "z" }, "I5", "the ledger tells"},
		"gap in EVENTS":     {func(f *Facts) { f.Streams.Published = slices.Delete(f.Streams.Published, 3, 4) }, "I5", "the published event 5 follows 3"},
		"EVENTS ends early": {func(f *Facts) { f.Streams.Published = f.Streams.Published[:10] }, "I5", "published up to 10 of 13"},
		"published otherwise": {func(f *Facts) {
			f.Streams.Published[3].Status = "FAILED"
		}, "I5", "event 4 of the partition 0 is published as"},
		"gap in a feed":      {func(f *Facts) { f.Feeds = slices.Delete(f.Feeds, 3, 4) }, "I5", "in the feed of u the event 5 follows 3"},
		"feed lacks the end": {func(f *Facts) { f.Feeds = f.Feeds[:len(f.Feeds)-1] }, "I5", "of y, and the feed of its user"},
		"feed in another order": {func(f *Facts) {
			f.Feeds[3].Event, f.Feeds[4].Event = f.Feeds[4].Event, f.Feeds[3].Event
		}, "I5", "of x, and the feed of its user"},
		"in two feeds": {func(f *Facts) { f.Feeds = append(f.Feeds, Told{"v", 1, f.Feeds[3].Event}) }, "I5", "the feeds of u and of v have events of x"},
		"feed of what is not": {func(f *Facts) {
			e := f.Feeds[3].Event
			e.Execution = "z"
			f.Feeds = append(f.Feeds, Told{"v", 1, e})
		}, "I5", "a feed tells of z"},
		"ledger row": {func(f *Facts) { f.Ledger.Statuses["x"] = "FAILED" }, "I5", "is FAILED in the ledger"},

		"totals":    {func(f *Facts) { f.Totals["COMPLETED"] = 2 }, "I6", `counts 2 executions with the status "COMPLETED", there are 1`},
		"analytics": {func(f *Facts) { f.Counted[orchestrator.EventStepCompleted.String()]-- }, "I6", "analytics count"},
		"progress":  {func(f *Facts) { last(f).Progress.Completed = 4 }, "I6", "the progress of x"},

		"a dead one":     {func(f *Facts) { f.Ledger.Living = 2 }, "I7", "2 orchestrators count as alive"},
		"work left over": {func(f *Facts) { f.Streams.Unacked = 3 }, "I7", "3 steps are with a runner"},

		"goroutines":  {func(f *Facts) { f.Processes[0].Then.Goroutines = 135 }, "I8", "runner holds 135 goroutines"},
		"memory":      {func(f *Facts) { f.Processes[0].Then.Resident = 130 << 20 }, "I8", "bytes of memory"},
		"connections": {func(f *Facts) { f.Processes[0].Then.NATS = 2 }, "I8", "2 connections to NATS"},
	} {
		f := kept()
		c.change(&f)
		found := Check(f)
		if !slices.ContainsFunc(found, func(v Violation) bool { return v.Promise == c.promise && strings.Contains(v.What, c.says) }) {
			t.Errorf("%s: no %s says %q in %v", name, c.promise, c.says, found)
		}
	}
}

func TestParseEvent(t *testing.T) {
	body, err := orchestrator.EventStepCompleted.Encode(event.Meta{ID: "i", Source: "orchestrator", Subject: "x", Time: at(0), Partition: 3, Number: 7}, orchestrator.ExecutionEvent{
		ExecutionID: "x", Seq: 4, Status: "COMPLETED", StepKey: "s", Attempt: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseEvent(body)
	want := Event{ID: "i", Type: orchestrator.EventStepCompleted.String(), Execution: "x", Seq: 4, P: 3, N: 7, At: at(0), Status: "COMPLETED", StepKey: "s", Attempt: 2}
	if err != nil || got != want {
		t.Errorf("read %+v, %v, want %+v", got, err, want)
	}
	for _, wrong := range []string{`{`, `{"subject":"x","data":{"executionId":"x"}}`, strings.Replace(string(body), `"subject":"x"`, `"subject":"y"`, 1)} {
		if _, err := ParseEvent([]byte(wrong)); err == nil {
			t.Errorf("taken for an event: %s", wrong)
		}
	}
}

// TestWhatFourRunnersLost has a step fail because no runner answered: four faults in its time excuse that, three do not.
func TestWhatFourRunnersLost(t *testing.T) {
	for faults, want := range map[int]int{0: 2, 3: 2, 4: 0} {
		f := kept()
		x := &f.Executions[1]
		x.Status, x.Plan[0].Status = "COMPLETED", "COMPLETED"
		x.Readings[0].Steps[0].Error = &runner.StepError{Code: runner.CodeRunnerLost}
		for range faults {
			f.Faults = append(f.Faults, Fault{"kill -9", at(12), at(13)})
		}
		if found := Check(f); len(found) != want {
			t.Errorf("%d faults: %v", faults, found)
		}
	}
}
