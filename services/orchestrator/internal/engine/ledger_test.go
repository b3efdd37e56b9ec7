package engine_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/engine/enginetest"
)

// ledger holds an execution the way the orchestrator's tables do: the row of the execution, one for each task that an
// input has touched, and the commands. Only what the effects name is written.
type ledger struct {
	accepted  engine.Execution
	execution *executionRow
	tasks     map[engine.Place]taskRow
	commands  map[string]*commandRow
}

type executionRow struct {
	status                    string
	outputs, failure          []byte
	seq                       uint64
	lastInput, started, ended time.Time
}

type taskRow struct {
	status                  string
	attempt, dispatch       int
	token                   string
	output, failure         []byte
	retryAt, backstop, wake time.Time
	started, ended          time.Time
}

// commandRow is a command that was applied; kept is the number of the input whose signal waits, 0 for none.
type commandRow struct {
	signal []byte
	kept   int
}

func newLedger(x *engine.Execution) *ledger {
	return &ledger{accepted: engine.Execution{
		ID: x.ID, WorkflowID: x.WorkflowID, UserID: x.UserID, TriggerType: x.TriggerType, RequestID: x.RequestID, Traceparent: x.Traceparent,
		Partition: x.Partition, Priority: x.Priority, Inputs: bytes.Clone(x.Inputs), CreatedAt: x.CreatedAt,
	}, tasks: map[engine.Place]taskRow{}, commands: map[string]*commandRow{}}
}

// commit writes what the input with the number seq has done.
func (l *ledger) commit(seq int, in engine.Input, x *engine.Execution, out engine.Effects) {
	if in.Command != "" && l.commands[in.Command] == nil {
		l.commands[in.Command] = &commandRow{}
	}
	l.accepted.Slot = x.Slot // it had it before the input came
	if out.None() {
		return
	}
	l.execution = &executionRow{
		x.Status, stored(x.Outputs), storedError(x.Error), x.EventSeq, moment(x.LastInput), moment(x.StartedAt), moment(x.CompletedAt),
	}
	for _, r := range out.Rows {
		l.tasks[r.Place] = taskRow{
			r.Status, r.Attempt, r.Dispatch, r.Token, stored(r.Output), storedError(r.Error),
			moment(r.RetryAt), moment(r.Backstop), moment(r.WakeAt), moment(r.StartedAt), moment(r.CompletedAt),
		}
	}
	if out.Kept {
		signal, err := json.Marshal(in.Signal)
		if err != nil {
			panic(err)
		}
		l.commands[in.Command] = &commandRow{signal, seq}
	}
	for _, command := range out.Taken {
		l.commands[command].kept = 0
	}
}

// load makes a state of the rows and nothing else.
func (l *ledger) load(def *engine.Definition) *engine.Execution {
	x := engine.New(l.accepted, def)
	if r := l.execution; r != nil {
		x.Status, x.Outputs, x.Error, x.EventSeq = r.status, bytes.Clone(r.outputs), loadedError(r.failure), r.seq
		x.LastInput, x.StartedAt, x.CompletedAt = loadedTime(r.lastInput), loadedTime(r.started), loadedTime(r.ended)
	}
	places := slices.SortedFunc(maps.Keys(l.tasks), func(a, b engine.Place) int { return cmp.Or(a.Step-b.Step, a.Iteration-b.Iteration) })
	for _, p := range places {
		r, s := l.tasks[p], &x.Steps[p.Step]
		t := engine.Task{
			Status: r.status, Attempt: r.attempt, Dispatch: r.dispatch, Token: r.token, Output: bytes.Clone(r.output), Error: loadedError(r.failure),
			RetryAt: loadedTime(r.retryAt), Backstop: loadedTime(r.backstop), StartedAt: loadedTime(r.started), CompletedAt: loadedTime(r.ended),
		}
		if p.Iteration == 0 {
			s.Task, s.WakeAt = t, loadedTime(r.wake)
			continue
		}
		s.Begun = max(s.Begun, p.Iteration)
		switch {
		case r.status == orchestrator.StepCompleted:
			s.Completed++
			if def.Steps[p.Step].Remembers() {
				s.Last = t.Output
			}
		case r.status == orchestrator.StepFailed:
			s.Failed++
		case !enginetest.StepTerminal(r.status):
			s.Items = append(s.Items, engine.Item{Iteration: p.Iteration, Task: t})
		}
	}
	x.Commands = map[string]bool{}
	kept := map[int]string{}
	for id, c := range l.commands {
		x.Commands[id] = true
		if c.kept > 0 {
			kept[c.kept] = id
		}
	}
	for _, seq := range slices.Sorted(maps.Keys(kept)) {
		k := engine.KeptSignal{Command: kept[seq]}
		if err := json.Unmarshal(l.commands[kept[seq]].signal, &k.Signal); err != nil {
			panic(err)
		}
		x.Signals = append(x.Signals, k)
	}
	return engine.Restore(*x, def)
}

// outputs gives those of the items of step i that completed.
func (l *ledger) outputs(i int) []engine.ItemOutput {
	var all []engine.ItemOutput
	for p, r := range l.tasks {
		if p.Step == i && p.Iteration > 0 && r.status == orchestrator.StepCompleted {
			all = append(all, engine.ItemOutput{Iteration: p.Iteration, Output: r.output})
		}
	}
	slices.SortFunc(all, func(a, b engine.ItemOutput) int { return a.Iteration - b.Iteration })
	return all
}

// stored is what a nullable column keeps of bytes: empty ones are NULL.
func stored(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return bytes.Clone(b)
}

func storedError(e *runner.StepError) []byte {
	if e == nil {
		return nil
	}
	b, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return b
}

func loadedError(b []byte) *runner.StepError {
	if b == nil {
		return nil
	}
	var e runner.StepError
	if err := json.Unmarshal(b, &e); err != nil {
		panic(err)
	}
	return &e
}

// moment is a time as a nullable column has it.
func moment(t engine.Time) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return t.Std()
}

func loadedTime(t time.Time) engine.Time {
	if t.IsZero() {
		return 0
	}
	return engine.TimeOf(t)
}

// TestRestoredFromTheLedger applies random logs to a state that stays in memory and to one
// that is read from the ledger before every input: what they are and do is the same, to the
// byte. So a crash between any two inputs changes nothing.
func TestRestoredFromTheLedger(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := enginetest.DrawMixedPlan(t)
		log := drive(t, p).log
		kept := accepted(executionID, recompiled(t, p))
		rows := newLedger(kept)
		for n, e := range log {
			restored := rows.load(recompiled(t, p))
			if err := same(kept, restored); err != nil {
				t.Fatalf("restored before input %d: %v", n, err)
			}
			a, b := engine.Apply(kept, e.in, e.keys), engine.Apply(restored, e.in, e.keys)
			if !reflect.DeepEqual(a, b) {
				t.Fatalf("%s gave %+v, restored %+v", describe(e.in), a, b)
			}
			if err := same(kept, restored); err != nil {
				t.Fatalf("after %s: %v", describe(e.in), err)
			}
			if x, y := encoded(t, kept, a), encoded(t, restored, b); !bytes.Equal(x, y) {
				t.Fatalf("%s told %s, restored %s", describe(e.in), x, y)
			}
			rows.commit(n+1, e.in, kept, a)
		}
	})
}

// TestReadAgainFromAnyPoint applies a random log, and on the way any part of it that was
// applied before once more, to no effect.
func TestReadAgainFromAnyPoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := enginetest.DrawMixedPlan(t)
		log := drive(t, p).log
		x := accepted(executionID, recompiled(t, p))
		rows := newLedger(x)
		stops := rapid.SliceOfN(rapid.IntRange(0, len(log)-1), 1, 3).Draw(t, "stops")
		now := engine.Time(0)
		for n, e := range log {
			rows.commit(n+1, e.in, x, engine.Apply(x, e.in, e.keys))
			now = max(now, e.in.Time)
			if !slices.Contains(stops, n) {
				continue
			}
			// A timer that is due by the latest time of the log, which may go back, fires at whatever timer message comes next or again, so let it.
			rows.commit(n+1, engine.Input{}, x, engine.Apply(x, engine.Input{Kind: engine.TimerDue, Time: now}, e.keys))
			if rapid.Bool().Draw(t, "restore") {
				x = rows.load(recompiled(t, p))
			}
			before := snapshot(x)
			from := rapid.IntRange(0, n).Draw(t, "from")
			for _, again := range log[from : n+1] {
				out := engine.Apply(x, again.in, again.keys)
				if !reflect.DeepEqual(out, engine.Effects{}) || !reflect.DeepEqual(before, engine.Bare(x)) {
					t.Fatalf("read again, %s gave %+v", describe(again.in), out)
				}
			}
		}
	})
}

// A fault ends a restored execution as it ends one in memory.
func TestFaultAfterARestore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := enginetest.DrawMixedPlan(t)
		log := drive(t, p).log
		x := accepted(executionID, recompiled(t, p))
		rows := newLedger(x)
		for n, e := range log[:rapid.IntRange(0, len(log)).Draw(t, "inputs")] {
			rows.commit(n+1, e.in, x, engine.Apply(x, e.in, e.keys))
		}
		restored := rows.load(recompiled(t, p))
		a, b := engine.Fault(x, start.Add(1), "ours", keys), engine.Fault(restored, start.Add(1), "ours", keys)
		if !reflect.DeepEqual(a, b) || !bytes.Equal(encoded(t, x, a), encoded(t, restored, b)) {
			t.Fatalf("a fault gave %+v, restored %+v", a, b)
		}
		if err := same(x, restored); err != nil || !x.Terminal() {
			t.Fatalf("%s: %v", x.Status, err)
		}
	})
}

// recompiled gives a definition that shares nothing with any other.
func recompiled(t *rapid.T, p enginetest.Plan) *engine.Definition {
	def, err := engine.Compile(p.Definition())
	if err != nil {
		t.Fatal(err)
	}
	return def
}

// same compares two states with all that is derived from them.
func same(a, b *engine.Execution) error {
	x, y := engine.Bare(a), engine.Bare(b)
	x.Payloads, y.Payloads = nil, nil
	x.Definition, y.Definition = nil, nil // expressions are functions, which nothing compares
	if x.Terminal() {
		x.Commands, y.Commands = nil, nil // it takes none any more
	}
	if !reflect.DeepEqual(x, y) {
		return fmt.Errorf("the state is %+v, restored %+v", a, b)
	}
	if a.NextDue() != b.NextDue() || a.Progress() != b.Progress() || !bytes.Equal(a.OutputsByKey(), b.OutputsByKey()) {
		return fmt.Errorf("what follows from the state is not the same")
	}
	for p := range a.Awaiting() {
		x, _ := a.Body(p, nil)
		y, _ := b.Body(p, nil)
		if !bytes.Equal(x, y) {
			return fmt.Errorf("the body of %v is %s, restored %s", p, x, y)
		}
	}
	for i := range a.Steps {
		if a.Gathers(i) != b.Gathers(i) || a.Signal(i) != b.Signal(i) {
			return fmt.Errorf("step %d gathers %v, restored %v; waits for %q, restored %q", i, a.Gathers(i), b.Gathers(i), a.Signal(i), b.Signal(i))
		}
	}
	return nil
}

func encoded(t *rapid.T, x *engine.Execution, out engine.Effects) []byte {
	var all []byte
	for _, e := range out.Events {
		b, err := x.Encode(e, keys, e.Data.Seq+1000)
		if err != nil {
			t.Fatal(err)
		}
		all = append(append(all, b...), '\n')
	}
	return all
}
