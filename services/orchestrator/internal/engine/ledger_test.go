package engine_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/engine/enginetest"
)

// ledger holds an execution the way the orchestrator's tables do: the row of the execution,
// and one for each step that an input has touched. Only what the effects name is written.
type ledger struct {
	accepted  engine.Execution
	execution *executionRow
	steps     map[int]stepRow
}

type executionRow struct {
	status                    string
	outputs, failure          []byte
	seq                       uint64
	lastInput, started, ended time.Time
}

type stepRow struct {
	status            string
	attempt, dispatch int
	token             string
	output, failure   []byte
	retryAt, backstop time.Time
	started, ended    time.Time
}

func newLedger(x *engine.Execution) *ledger {
	return &ledger{accepted: engine.Execution{
		ID: x.ID, WorkflowID: x.WorkflowID, UserID: x.UserID, TriggerType: x.TriggerType, RequestID: x.RequestID, Traceparent: x.Traceparent,
		Partition: x.Partition, Priority: x.Priority, Inputs: bytes.Clone(x.Inputs), CreatedAt: x.CreatedAt,
	}, steps: map[int]stepRow{}}
}

func (l *ledger) commit(x *engine.Execution, out engine.Effects) {
	if out.None() {
		return
	}
	l.execution = &executionRow{
		x.Status, stored(x.Outputs), storedError(x.Error), x.EventSeq, moment(x.LastInput), moment(x.StartedAt), moment(x.CompletedAt),
	}
	for _, i := range out.Steps {
		s := &x.Steps[i]
		l.steps[i] = stepRow{
			s.Status, s.Attempt, s.Dispatch, s.Token, stored(s.Output), storedError(s.Error),
			moment(s.RetryAt), moment(s.Backstop), moment(s.StartedAt), moment(s.CompletedAt),
		}
	}
}

// load makes a state of the rows and nothing else.
func (l *ledger) load(def *engine.Definition) *engine.Execution {
	x := engine.New(l.accepted, def)
	if r := l.execution; r != nil {
		x.Status, x.Outputs, x.Error, x.EventSeq = r.status, bytes.Clone(r.outputs), loadedError(r.failure), r.seq
		x.LastInput, x.StartedAt, x.CompletedAt = loadedTime(r.lastInput), loadedTime(r.started), loadedTime(r.ended)
	}
	for i, r := range l.steps {
		x.Steps[i] = engine.Step{
			Status: r.status, Attempt: r.attempt, Dispatch: r.dispatch, Token: r.token, Output: bytes.Clone(r.output), Error: loadedError(r.failure),
			RetryAt: loadedTime(r.retryAt), Backstop: loadedTime(r.backstop), StartedAt: loadedTime(r.started), CompletedAt: loadedTime(r.ended),
		}
	}
	return engine.Restore(*x, def)
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
		p := enginetest.DrawPlan(t)
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
			rows.commit(kept, a)
		}
	})
}

// TestReadAgainFromAnyPoint applies a random log, and on the way any part of it that was
// applied before once more, to no effect.
func TestReadAgainFromAnyPoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := enginetest.DrawPlan(t)
		log := drive(t, p).log
		x := accepted(executionID, recompiled(t, p))
		rows := newLedger(x)
		stops := rapid.SliceOfN(rapid.IntRange(0, len(log)-1), 1, 3).Draw(t, "stops")
		for n, e := range log {
			rows.commit(x, engine.Apply(x, e.in, e.keys))
			if !slices.Contains(stops, n) {
				continue
			}
			// A timer that is due by now fires at whatever timer message comes next, so let it.
			rows.commit(x, engine.Apply(x, engine.Input{Kind: engine.TimerDue, Time: x.LastInput}, e.keys))
			if rapid.Bool().Draw(t, "restore") {
				x = rows.load(recompiled(t, p))
			}
			before := snapshot(x)
			from := rapid.IntRange(0, n).Draw(t, "from")
			for _, again := range log[from : n+1] {
				out := engine.Apply(x, again.in, again.keys)
				if !reflect.DeepEqual(out, engine.Effects{}) || !reflect.DeepEqual(before, x) {
					t.Fatalf("read again, %s gave %+v", describe(again.in), out)
				}
			}
		}
	})
}

// A fault ends a restored execution as it ends one in memory.
func TestFaultAfterARestore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := enginetest.DrawPlan(t)
		log := drive(t, p).log
		x := accepted(executionID, recompiled(t, p))
		rows := newLedger(x)
		for _, e := range log[:rapid.IntRange(0, len(log)).Draw(t, "inputs")] {
			rows.commit(x, engine.Apply(x, e.in, e.keys))
		}
		restored := rows.load(recompiled(t, p))
		a, b := engine.Fault(x, start.Add(1), "ours"), engine.Fault(restored, start.Add(1), "ours")
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
	if !reflect.DeepEqual(a, b) {
		return fmt.Errorf("the state is %+v, restored %+v", a, b)
	}
	if a.NextDue() != b.NextDue() || a.Progress() != b.Progress() || !bytes.Equal(a.OutputsByKey(), b.OutputsByKey()) {
		return fmt.Errorf("what follows from the state is not the same")
	}
	for i := range a.Steps {
		if !a.Steps[i].AwaitsResult() {
			continue
		}
		x, _ := a.Body(i)
		y, _ := b.Body(i)
		if !bytes.Equal(x, y) {
			return fmt.Errorf("the body of step %d is %s, restored %s", i, x, y)
		}
	}
	return nil
}

func encoded(t *rapid.T, x *engine.Execution, out engine.Effects) []byte {
	var all []byte
	for _, e := range out.Events {
		b, err := x.Encode(e, keys.Secret, e.Data.Seq+1000)
		if err != nil {
			t.Fatal(err)
		}
		all = append(append(all, b...), '\n')
	}
	return all
}
