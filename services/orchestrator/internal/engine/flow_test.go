package engine_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

const (
	executionID = "01890a5d-ac96-774b-bcce-b302099a8057"
	workflowID  = "01890a5d-ac96-774b-bcce-b302099a8001"
	userID      = "01890a5d-ac96-774b-bcce-b302099a8002"
	agentID     = "01890a5d-ac96-774b-bcce-b302099a8003"

	stepTimeoutMs = 60_000
	// graceMs is how long after its timeout a started attempt is given up.
	graceMs = 10_000
)

var (
	start = engine.TimeOf(time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC))
	keys  = engine.Keys{Secret: []byte("a secret of the tests"), Generation: 7}

	retryable = runner.StepError{Code: runner.CodeHTTPStatus, Message: "503", Retryable: true}
	final     = runner.StepError{Code: runner.CodeError, Message: "boom", Type: "Error", Stack: "at handler"}
)

// step gives an AGENT step with the defaults FAIL and none_failed, as changed.
func step(key string, deps []string, changes ...func(*catalog.Step)) catalog.Step {
	agent := agentID
	s := catalog.Step{
		StepKey: key, StepType: catalog.StepAgent, AgentID: &agent, DependsOn: deps,
		OnError: catalog.OnErrorFail, TimeoutMs: stepTimeoutMs, TriggerRule: catalog.TriggerNoneFailed,
	}
	for _, change := range changes {
		change(&s)
	}
	return s
}

// typed gives a step of another type, with onError FAIL and the rule none_failed, as changed.
func typed(key, stepType, config string, deps []string, changes ...func(*catalog.Step)) catalog.Step {
	s := step(key, deps, changes...)
	s.StepType, s.Config = stepType, json.RawMessage(config)
	if stepType != catalog.StepLoop {
		s.AgentID = nil
	}
	return s
}

func within(ms int64) func(*catalog.Step) { return func(s *catalog.Step) { s.TimeoutMs = ms } }

func on(deps ...string) []string { return deps }

func rule(r string) func(*catalog.Step)    { return func(s *catalog.Step) { s.TriggerRule = r } }
func onError(e string) func(*catalog.Step) { return func(s *catalog.Step) { s.OnError = e } }
func inputs(raw string) func(*catalog.Step) {
	return func(s *catalog.Step) { s.Inputs = json.RawMessage(raw) }
}

func retry(count int, delayMs int64) func(*catalog.Step) {
	return func(s *catalog.Step) { s.OnError, s.RetryCount, s.RetryDelayMs = catalog.OnErrorRetry, count, delayMs }
}

func workflow(steps ...catalog.Step) catalog.Definition {
	return catalog.Definition{
		WorkflowID: workflowID, WorkflowOwner: userID, WorkflowVersion: 3, TimeoutMs: 3_600_000, Steps: steps,
		Agents: []catalog.DefinitionAgent{{ID: agentID, Type: "CODE", Version: 1, Config: json.RawMessage(`{"runtime":"javascript"}`)}},
	}
}

func compile(t testing.TB, d catalog.Definition) *engine.Definition {
	t.Helper()
	def, err := engine.Compile(d)
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	return def
}

func accepted(id string, def *engine.Definition) *engine.Execution {
	return engine.New(engine.Execution{
		ID: id, WorkflowID: def.WorkflowID, UserID: userID, TriggerType: "API", RequestID: "req-1",
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Partition: 5, Priority: 5,
		Inputs: json.RawMessage(`{"n":20}`), CreatedAt: start - 1000,
	}, def)
}

// flow drives one execution by hand; every input is checked against the invariants, and gives the same when the
// execution was read from the ledger just before.
type flow struct {
	stored      map[runner.Reference]json.RawMessage // what the state refers to
	t           testing.TB
	source      catalog.Definition
	x           *engine.Execution
	keys        engine.Keys
	now         engine.Time
	seen        *witness
	log         []engine.Input
	generations []int64 // of the log when each input was applied
	events      []engine.Event
	warned      []string
	last        engine.Effects
	rows        *ledger
	commands    int
}

// accept gives an execution that has seen no input.
func accept(t testing.TB, d catalog.Definition) *flow {
	t.Helper()
	x := accepted(executionID, compile(t, d))
	return &flow{t: t, source: d, x: x, keys: keys, now: start, seen: newWitness(x), rows: newLedger(x)}
}

// submit gives an execution that has begun.
func submit(t testing.TB, d catalog.Definition) *flow {
	t.Helper()
	f := accept(t, d)
	f.apply(engine.Input{Kind: engine.Submitted})
	return f
}

// apply applies an input at the flow's time, or at its own if it has one.
func (f *flow) apply(in engine.Input) engine.Effects {
	f.t.Helper()
	if in.Time == 0 {
		in.Time = f.now
	}
	before, restored := snapshot(f.x), f.rows.load(f.x.Definition)
	f.x.Payloads = func(ref runner.Reference) json.RawMessage { return f.stored[ref] }
	restored.Payloads = f.x.Payloads
	f.last = engine.Apply(f.x, in, f.keys)
	if err := f.seen.check(before, f.x, f.last); err != nil {
		f.t.Fatalf("after %s: %v", describe(in), err)
	}
	if again := engine.Apply(restored, in, f.keys); !reflect.DeepEqual(f.last, again) {
		f.t.Fatalf("%s gave %+v, restored %+v", describe(in), f.last, again)
	}
	if err := same(f.x, restored); err != nil {
		f.t.Fatalf("after %s: %v", describe(in), err)
	}
	f.rows.commit(len(f.log)+1, in, f.x, f.last)
	f.log, f.generations = append(f.log, in), append(f.generations, f.keys.Generation)
	f.events = append(f.events, f.last.Events...)
	for _, w := range f.last.Warnings {
		f.warned = append(f.warned, w.Message)
	}
	return f.last
}

func (f *flow) step(key string) *engine.Step {
	f.t.Helper()
	i, ok := f.x.Definition.StepIndex(key)
	if !ok {
		f.t.Fatalf("no step %q", key)
	}
	return &f.x.Steps[i]
}

func (f *flow) started(name string) engine.Effects {
	f.t.Helper()
	return f.apply(f.says(engine.StepStarted, name))
}

func (f *flow) completed(name, output string) engine.Effects {
	f.t.Helper()
	in := f.says(engine.StepCompleted, name)
	in.Output = json.RawMessage(output)
	return f.apply(in)
}

func (f *flow) failed(name string, failure runner.StepError) engine.Effects {
	f.t.Helper()
	in := f.says(engine.StepFailed, name)
	in.Err = &failure
	return f.apply(in)
}

func (f *flow) cancel() engine.Effects {
	f.t.Helper()
	return f.apply(engine.Input{Kind: engine.Cancel})
}

// command gives the next id of what somebody asks for.
func (f *flow) command() string {
	f.commands++
	return fmt.Sprintf("command-%d", f.commands)
}

func (f *flow) pause() engine.Effects {
	f.t.Helper()
	return f.apply(engine.Input{Kind: engine.Pause, Command: f.command()})
}

func (f *flow) resume() engine.Effects {
	f.t.Helper()
	return f.apply(engine.Input{Kind: engine.Resume, Command: f.command()})
}

func (f *flow) signal(name, payload string) engine.Effects {
	f.t.Helper()
	return f.sends(orchestrator.Signal{Name: name, Payload: json.RawMessage(payload), By: userID})
}

func (f *flow) decides(name string, approve bool, comment string) engine.Effects {
	f.t.Helper()
	return f.sends(orchestrator.Signal{Name: name, Payload: json.RawMessage(`{"x":1}`), Approve: &approve, Comment: comment, By: userID})
}

// sends puts a signal into the log, and takes it from there.
func (f *flow) sends(signal orchestrator.Signal) engine.Effects {
	f.t.Helper()
	raw, err := json.Marshal(signal)
	if err != nil {
		f.t.Fatal(err)
	}
	var read orchestrator.Signal
	if err := json.Unmarshal(raw, &read); err != nil {
		f.t.Fatal(err)
	}
	return f.apply(engine.Input{Kind: engine.Signaled, Command: f.command(), Signal: &read})
}

// large stores a payload and gives what stands for it.
func (f *flow) large(payload string) string {
	ref := runner.ReferTo([]byte(payload))
	if f.stored == nil {
		f.stored = map[runner.Reference]json.RawMessage{}
	}
	f.stored[ref] = json.RawMessage(payload)
	return string(ref.Payload())
}

// gather puts the outputs of a step's items together, as the ledger has them.
func (f *flow) gather(key string) engine.Effects {
	f.t.Helper()
	in := engine.Input{Kind: engine.Gathered, Step: key}
	i := f.place(key).Step
	in.Output, in.Err = f.x.Definition.Steps[i].Gather(f.x.Steps[i].Begun, f.rows.outputs(i), false)
	return f.apply(in)
}

// pass lets time pass and fires the timers that are due by then.
func (f *flow) pass(ms int64) engine.Effects {
	f.t.Helper()
	f.now = f.now.Add(ms)
	return f.apply(engine.Input{Kind: engine.TimerDue})
}

// due lets the time pass up to the next timer and fires it.
func (f *flow) due() engine.Effects {
	f.t.Helper()
	at := f.x.NextDue()
	if at == 0 {
		f.t.Fatal("no timer is set")
	}
	f.now = max(f.now, at)
	return f.apply(engine.Input{Kind: engine.TimerDue})
}

// statuses gives the state as one line: "RUNNING: a COMPLETED, b RUNNING".
func (f *flow) statuses() string {
	parts := make([]string, len(f.x.Steps))
	for i, s := range f.x.Steps {
		parts[i] = f.x.Definition.Steps[i].Key + " " + s.Status
	}
	return f.x.Status + ": " + strings.Join(parts, ", ")
}

func (f *flow) expect(want string) {
	f.t.Helper()
	if got := f.statuses(); got != want {
		f.t.Fatalf("state\n got %s\nwant %s", got, want)
	}
}

func (f *flow) expectEvents(want ...string) {
	f.t.Helper()
	if got := eventNames(f.events); !slices.Equal(got, want) {
		f.t.Fatalf("events\n got %s\nwant %s", strings.Join(got, ", "), strings.Join(want, ", "))
	}
}

// expectNothing says that the last input changed nothing.
func (f *flow) expectNothing() {
	f.t.Helper()
	if !reflect.DeepEqual(f.last, engine.Effects{}) {
		f.t.Fatalf("%s had effects: %+v", describe(f.log[len(f.log)-1]), f.last)
	}
}

// told gives the data of the n-th event of the last input.
func (f *flow) told(n int) orchestrator.ExecutionEvent {
	f.t.Helper()
	if n >= len(f.last.Events) {
		f.t.Fatalf("events %v", eventNames(f.last.Events))
	}
	return f.last.Events[n].Data
}

func (f *flow) ready() string { return f.keysOf(f.last.Ready) }

func (f *flow) keysOf(places []engine.Place) string {
	names := make([]string, len(places))
	for n, p := range places {
		names[n] = nameOf(f.x, p)
	}
	return strings.Join(names, " ")
}

// nameOf writes a place as "key", that of an item as "key#1".
func nameOf(x *engine.Execution, p engine.Place) string {
	name := x.Definition.Steps[p.Step].Key
	if p.Iteration > 0 {
		name += fmt.Sprintf("#%d", p.Iteration)
	}
	return name
}

// place reads what nameOf writes.
func (f *flow) place(name string) engine.Place {
	f.t.Helper()
	key, item, _ := strings.Cut(name, "#")
	i, ok := f.x.Definition.StepIndex(key)
	if !ok {
		f.t.Fatalf("no step %q", key)
	}
	p := engine.Place{Step: i}
	if item != "" {
		n, err := strconv.Atoi(item)
		if err != nil {
			f.t.Fatal(err)
		}
		p.Iteration = n
	}
	return p
}

// says is what a runner says of the task at a place.
func (f *flow) says(kind engine.Kind, name string) engine.Input {
	f.t.Helper()
	p := f.place(name)
	in := engine.Input{Kind: kind, Step: f.x.Definition.Steps[p.Step].Key, Iteration: p.Iteration}
	if task := f.x.Task(p); task != nil {
		in.Token = task.Token
	}
	return in
}

func eventNames(events []engine.Event) []string {
	names := make([]string, len(events))
	for i, e := range events {
		names[i] = e.Type.Name
		if e.Data.StepKey != "" {
			names[i] += " " + e.Data.StepKey
		}
		if e.Data.Iteration > 0 {
			names[i] += fmt.Sprintf("#%d", e.Data.Iteration)
		}
	}
	return names
}

var kindNames = map[engine.Kind]string{
	engine.Submitted: "Submitted", engine.StepStarted: "StepStarted", engine.StepCompleted: "StepCompleted", engine.StepFailed: "StepFailed",
	engine.StepLost: "StepLost", engine.TimerDue: "TimerDue", engine.Cancel: "Cancel",
	engine.Pause: "Pause", engine.Resume: "Resume", engine.Signaled: "Signaled", engine.Gathered: "Gathered",
}

func describe(in engine.Input) string {
	return fmt.Sprintf("%s(step %q %d, token %.8q, at %d, command %q, signal %+v)", kindNames[in.Kind], in.Step, in.Iteration, in.Token, in.Time, in.Command, in.Signal)
}
