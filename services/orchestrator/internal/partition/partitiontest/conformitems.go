package partitiontest

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
)

// looping accepts an execution of one LOOP.
func (s store) looping(config string) string {
	s.t.Helper()
	x := acceptable(s.t, nil)
	x.Definition.Steps[0].StepType, x.Definition.Steps[0].Config = catalog.StepLoop, json.RawMessage(config)
	body, err := json.Marshal(x.Definition)
	if err != nil {
		s.t.Fatal(err)
	}
	hash := sha256.Sum256(body)
	x.DefinitionBody, x.DefinitionHash = body, hash[:]
	s.accept(x)
	return x.ID
}

// The state holds the items that have not ended, and counts the others.
func testItems(t *testing.T, s store) {
	s.acquired("a", lease, subject.Partitions)
	for name, tc := range map[string]struct {
		config string
		last   json.RawMessage
	}{
		"forEach": {`{"forEach":[1,2,3,4,5,6]}`, nil},
		"while":   {`{"while":"index < 6"}`, json.RawMessage(`30`)},
	} {
		id := s.looping(tc.config)
		pos := s.position(subject.PartitionOf(id))
		item := func(iteration int, task engine.Task, sent uint64) partition.StepRow {
			return partition.StepRow{ExecutionID: id, P: pos.P, Sent: sent, Row: engine.Row{Place: engine.Place{Iteration: iteration}, Task: task}}
		}
		running := func(token string) engine.Task {
			return engine.Task{Status: orchestrator.StepRunning, Attempt: 1, Token: token, Dispatch: 1, Backstop: 30, StartedAt: 10}
		}
		batch := begun(id, pos, pos.InputSeq, pos.InputSeq+1)
		batch.Partitions[0].EventN = pos.EventN + 1
		batch.Events[0].N = pos.EventN + 1
		batch.Steps[0] = partition.StepRow{ExecutionID: id, P: pos.P, Row: engine.Row{Task: engine.Task{Status: orchestrator.StepRunning, Attempt: 1, StartedAt: 10}}}
		for n := range 6 {
			batch.Steps = append(batch.Steps, item(n+1, running("t"), uint64(n+1)))
		}
		s.commit(batch)
		failure := &runner.StepError{Code: runner.CodeError, Message: "m"}
		batch.Executions, batch.Events = nil, nil
		batch.Partitions[0].From, batch.Partitions[0].InputSeq = pos.InputSeq+1, pos.InputSeq+2
		batch.Steps = []partition.StepRow{
			item(1, engine.Task{Status: orchestrator.StepCompleted, Attempt: 1, Dispatch: 1, Output: []byte(`1`), StartedAt: 10, CompletedAt: 11}, 0),
			item(2, engine.Task{Status: orchestrator.StepFailed, Attempt: 1, Dispatch: 1, Error: failure, StartedAt: 10, CompletedAt: 12}, 0),
			item(3, engine.Task{Status: orchestrator.StepCompleted, Attempt: 1, Dispatch: 1, Output: []byte(`30`), StartedAt: 10, CompletedAt: 13}, 0),
			item(4, engine.Task{Status: orchestrator.StepCancelled, Attempt: 1, Token: "t4", Dispatch: 1, StartedAt: 10, CompletedAt: 14}, 4),
			item(5, engine.Task{Status: orchestrator.StepRunning, Attempt: 1, Dispatch: 1, RetryAt: 40, Error: failure, StartedAt: 10}, 0),
		}
		s.commit(batch)

		live, err := s.LoadLive(t.Context(), pos.P, partition.Forever)
		i := slices.IndexFunc(live, func(l partition.Loaded) bool { return l.Execution.ID == id })
		if err != nil || i < 0 {
			t.Fatalf("%s: %d executions are live, %v", name, len(live), err)
		}
		for how, l := range map[string]partition.Loaded{"load": s.load(id), "load live": live[i]} {
			step := l.Execution.Steps[0]
			items := []engine.Item{{Iteration: 5, Task: batch.Steps[4].Task}, {Iteration: 6, Task: running("t")}}
			if step.Begun != 6 || step.Completed != 2 || step.Failed != 1 || string(step.Last) != string(tc.last) || !reflect.DeepEqual(step.Items, items) {
				t.Errorf("%s, %s: %+v", name, how, step)
			}
			if len(l.Sent) != 1 || l.Sent[engine.Place{Iteration: 6}] != 6 {
				t.Errorf("%s, %s: sent are %v", name, how, l.Sent)
			}
		}
		want := []engine.ItemOutput{{Iteration: 1, Output: []byte(`1`)}, {Iteration: 3, Output: []byte(`30`)}}
		if got, err := s.ItemOutputs(t.Context(), id, 0, 3); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: outputs %v, %v", name, got, err)
		}
		if _, err := s.ItemOutputs(t.Context(), id, 0, 2); !errors.Is(err, partition.ErrTooLarge) {
			t.Errorf("%s: outputs that are too large: %v", name, err)
		}
		stopped, err := s.Stopped(t.Context(), []int{pos.P}, 0)
		if want := []partition.StoppedAttempt{{ExecutionID: id, Place: engine.Place{Iteration: 4}, Token: "t4", Sent: 4}}; err != nil || !slices.Equal(stopped, want) {
			t.Errorf("%s: stopped %v, %v", name, stopped, err)
		}
		if err := s.Cleared(t.Context(), stopped); err != nil {
			t.Error(err)
		}
		for iteration, status := range []string{orchestrator.StepRunning, orchestrator.StepCompleted, orchestrator.StepFailed} {
			if task, recorded, err := s.Step(t.Context(), id, "a", iteration); err != nil || !recorded || task.Status != status {
				t.Errorf("%s: item %d is %+v, recorded %t, %v", name, iteration, task, recorded, err)
			}
		}
	}
}

// Signals are kept in the order in which they came, also when the log is another by then and counts anew.
func testKeptSignals(t *testing.T, s store) {
	id := s.accepted()
	pos := s.acquired("a", lease, subject.Partitions)[subject.PartitionOf(id)]
	ids := []string{uuid.NewString(), uuid.NewString(), uuid.NewString(), uuid.NewString()}
	for n, command := range ids {
		c := execution.Command{ID: command, ExecutionID: id, Partition: pos.P, Kind: execution.CommandSignal, UserID: "u", Name: "go"}
		c.Signal = []byte(`{"name":"go","payload":` + string(rune('0'+n)) + `,"approve":null,"comment":"","by":"u"}`)
		admit := func(now execution.Standing) error {
			if want := (execution.Standing{Status: orchestrator.ExecutionPending, Kept: n, Named: n}); now != want {
				t.Errorf("signal %d comes to %+v, want %+v", n, now, want)
			}
			return nil
		}
		if outcome, err := s.AddSignal(t.Context(), c, nil, admit); err != nil || outcome.ID != command {
			t.Fatal(outcome, err)
		}
	}
	refusal := errs.New(errs.Conflict, "no more")
	more := execution.Command{ID: uuid.NewString(), ExecutionID: id, Partition: pos.P, Kind: execution.CommandSignal, UserID: "u", Name: "other"}
	if _, err := s.AddSignal(t.Context(), more, nil, func(now execution.Standing) error {
		if now.Kept != len(ids) || now.Named != 0 {
			t.Errorf("another signal comes to %+v", now)
		}
		return refusal
	}); !errors.Is(err, refusal) {
		t.Errorf("a signal that is not let in: %v", err)
	}
	more.ExecutionID = uuid.NewString()
	if _, err := s.AddSignal(t.Context(), more, nil, func(execution.Standing) error { return nil }); errs.CodeOf(err) != errs.NotFound {
		t.Errorf("a signal to nobody: %v", err)
	}
	kept := func(want ...int) {
		t.Helper()
		x := s.load(id).Execution
		var got []int
		for _, k := range x.Signals {
			got = append(got, slices.Index(ids, k.Command))
			if string(k.Signal.Payload) != string(rune('0'+got[len(got)-1])) || k.Signal.Name != "go" {
				t.Errorf("signal %+v", k)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("kept are %v, want %v", got, want)
		}
	}
	batch := begun(id, pos, 0, 100)
	batch.Commands = []partition.CommandRow{{ID: ids[2], Kept: 99}, {ID: ids[0], Kept: 100}}
	s.commit(batch)
	kept(2, 0)
	rebuilt, err := s.Rebuild(t.Context(), pos.P, pos.Epoch, 1, 7)
	if err != nil {
		t.Fatal(err)
	}
	<-time.After(time.Millisecond)
	s.commit(partition.Batch{
		Partitions: []partition.Advance{{P: pos.P, Epoch: rebuilt.Epoch, From: 1, InputSeq: 3, EventN: 1}},
		Commands:   []partition.CommandRow{{ID: ids[1], Kept: 2}, {ID: ids[3], Kept: 3}},
	})
	kept(2, 0, 1, 3)
	s.commit(partition.Batch{
		Partitions: []partition.Advance{{P: pos.P, Epoch: rebuilt.Epoch, From: 3, InputSeq: 4, EventN: 1}},
		Commands:   []partition.CommandRow{{ID: ids[2]}},
	})
	kept(0, 1, 3)
	if unseen, err := s.Unseen(t.Context(), pos.P, 0); err != nil || len(unseen) > 0 {
		t.Errorf("unseen are %v, %v", unseen, err)
	}
}
