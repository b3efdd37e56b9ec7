package postgres

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/subject"
	"turbocat.io/migrations"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
)

const lease = 5 * time.Second

func newStore(t *testing.T) *Store {
	t.Helper()
	return New(pgtest.New(t, "orchestrator", migrations.Of("orchestrator")))
}

func (s *Store) run(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := s.db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func acquire(t *testing.T, s *Store, owner string, n int) map[int]partition.Position {
	t.Helper()
	positions, err := s.Acquire(t.Context(), owner, lease, n)
	if err != nil {
		t.Fatal(err)
	}
	out := map[int]partition.Position{}
	for _, pos := range positions {
		out[pos.P] = pos
	}
	return out
}

func position(t *testing.T, s *Store, p int) partition.Position {
	t.Helper()
	positions, err := s.Positions(t.Context(), []int{p})
	if err != nil || len(positions) != 1 {
		t.Fatalf("positions: %v, %v", positions, err)
	}
	return positions[0]
}

func TestLeases(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	beat := func(owner string, ps ...int) (held []int, live int) {
		t.Helper()
		published := map[int]uint64{}
		for _, p := range ps {
			published[p] = uint64(100 + p)
		}
		held, live, err := s.Heartbeat(t.Context(), owner, lease, published)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(held)
		return held, live
	}
	beat("a")
	mine := acquire(t, s, "a", subject.Partitions)
	if len(mine) != subject.Partitions || len(acquire(t, s, "a", subject.Partitions)) != 0 || len(acquire(t, s, "b", subject.Partitions)) != 0 {
		t.Fatal("partitions that are leased were given away")
	}
	if held, live := beat("b", 1, 2); len(held) != 0 || live != 2 {
		t.Errorf("b holds %v of %d", held, live)
	}
	if held, live := beat("a", 1, 2); !slices.Equal(held, []int{1, 2}) || live != 2 {
		t.Errorf("a holds %v of %d", held, live)
	}
	if got := position(t, s, 2).PublishedN; got != 102 {
		t.Errorf("published up to %d", got)
	}

	// What a does not work on runs out, although a lives; a itself may take it again.
	s.run(t, `UPDATE partitions SET lease_until = clock_timestamp() - interval '1 second' WHERE p IN (2, 3)`)
	beat("a", 1, 2)
	again := acquire(t, s, "a", subject.Partitions)
	if len(again) != 1 || again[3].Epoch <= mine[3].Epoch {
		t.Errorf("taken again: %+v, before: %+v", again, mine[3])
	}

	if err := s.Release(t.Context(), "b", []int{1}); err != nil || position(t, s, 1).Owner != "a" {
		t.Errorf("b released what a holds: %v", err)
	}
	if err := s.Release(t.Context(), "a", []int{1}); err != nil || position(t, s, 1).Owner != "" {
		t.Errorf("release: %v", err)
	}
	if err := s.Leave(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, live := beat("b"); live != 1 {
		t.Errorf("%d live after one of two left", live)
	}
}

func TestEpochIsNeverUsedTwice(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	begin := time.Now().Add(-time.Minute).UnixMilli()
	pos := acquire(t, s, "a", 1)[0]
	if pos.Epoch < begin {
		t.Errorf("epoch %d is below the clock, so a restored database uses it again", pos.Epoch)
	}
	rebuilt, err := s.Rebuild(t.Context(), 0, pos.Epoch, 41, 7)
	if err != nil || rebuilt.Epoch <= pos.Epoch || rebuilt.Generation != rebuilt.Epoch || rebuilt.InputSeq != 41 || rebuilt.InputTime != 0 || rebuilt.StreamCreated != 7 {
		t.Errorf("rebuilt: %+v, %v", rebuilt, err)
	}
	var fenced *partition.FencedError
	if _, err := s.Rebuild(t.Context(), 0, pos.Epoch, 0, 7); !errors.As(err, &fenced) {
		t.Errorf("rebuilt under an old epoch: %v", err)
	}
}

// accepted commits an execution of one step.
func accepted(t *testing.T, s *Store) string {
	t.Helper()
	agent := uuid.NewString()
	def := catalog.Definition{
		WorkflowID: uuid.NewString(), WorkflowOwner: uuid.NewString(), WorkflowVersion: 1, TimeoutMs: 1000,
		Steps:  []catalog.Step{{StepKey: "a", StepType: catalog.StepAgent, AgentID: &agent, OnError: catalog.OnErrorFail, TriggerRule: catalog.TriggerNoneFailed, TimeoutMs: 1000}},
		Agents: []catalog.DefinitionAgent{{ID: agent, Type: catalog.AgentData, Version: 1, Config: json.RawMessage(`{}`)}},
	}
	body, err := json.Marshal(def)
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.Must(uuid.NewV7()).String()
	hash := make([]byte, 32)
	copy(hash, id)
	if _, err := s.Accept(t.Context(), []execution.Accepted{{
		ID: id, Caller: rpc.Caller{UserID: uuid.NewString()}, Definition: def, DefinitionBody: body, DefinitionHash: hash,
		TriggerType: orchestrator.TriggerAPI, Inputs: []byte(`{}`), CreatedAt: time.Now(),
	}}); err != nil {
		t.Fatal(err)
	}
	return id
}

func begun(id string, pos partition.Position, from, to uint64) partition.Batch {
	return partition.Batch{
		Partitions: []partition.Advance{{P: pos.P, Epoch: pos.Epoch, From: from, InputSeq: to, InputTime: 5, EventN: 1}},
		Executions: []partition.ExecutionRow{{ID: id, Status: orchestrator.ExecutionRunning, EventSeq: 1, LastInput: 10, StartedAt: 10}},
		Steps:      []partition.StepRow{{ExecutionID: id, P: pos.P, Step: engine.Step{Status: orchestrator.StepRunning, Attempt: 1, Token: "t", Dispatch: 1}, Sent: 9}},
		Events:     []partition.EventRow{{ExecutionID: id, P: pos.P, Seq: 1, N: 1, Type: "x", Body: []byte(`{}`)}},
	}
}

func TestCommitOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	id := accepted(t, s)
	p := subject.PartitionOf(id)
	pos := acquire(t, s, "a", subject.Partitions)[p]
	batch := begun(id, pos, 0, 10)
	for i := range 3 { // its answer may have been lost
		if err := s.Commit(t.Context(), batch); err != nil {
			t.Fatalf("commit %d: %v", i, err)
		}
	}
	if got := position(t, s, p); got.InputSeq != 10 || got.EventN != 1 {
		t.Errorf("position %+v", got)
	}
	loaded, err := s.LoadLive(t.Context(), p)
	if err != nil || len(loaded) != 1 || loaded[0].Execution.Steps[0].Token != "t" || loaded[0].Sent[0] != 9 {
		t.Errorf("loaded %+v, %v", loaded, err)
	}
}

func TestCommitFenced(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	id := accepted(t, s)
	p := subject.PartitionOf(id)
	all := acquire(t, s, "a", subject.Partitions)
	pos := all[p]
	other := all[(p+1)%subject.Partitions]
	stale := pos
	stale.Epoch--
	for name, batch := range map[string]partition.Batch{
		"another epoch":           begun(id, stale, 0, 10),
		"not where it goes on":    begun(id, pos, 3, 10),
		"one of two is another's": begun(id, stale, 0, 10),
	} {
		if name == "one of two is another's" {
			batch.Partitions = append(batch.Partitions, partition.Advance{P: other.P, Epoch: other.Epoch, InputSeq: 4})
		}
		err := s.Commit(t.Context(), batch)
		var fenced *partition.FencedError
		if !errors.As(err, &fenced) || !slices.Equal(fenced.Partitions, []int{p}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := position(t, s, p); got.InputSeq != 0 || position(t, s, other.P).InputSeq != 0 {
		t.Errorf("something was written: %+v", got)
	}
	if events, err := s.Events(t.Context(), p, 0, 10); err != nil || len(events) != 0 {
		t.Errorf("events %v, %v", events, err)
	}
}

func TestCommitRefused(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	id := accepted(t, s)
	pos := acquire(t, s, "a", subject.Partitions)[subject.PartitionOf(id)]
	batch := begun(id, pos, 0, 10)
	batch.Events = append(batch.Events, batch.Events[0])
	for name, write := range map[string]func() error{
		"commit": func() error { return s.Commit(t.Context(), batch) }, "rehearse": func() error { return s.Rehearse(t.Context(), batch) },
	} {
		if err := write(); !errors.Is(err, partition.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Rehearse(t.Context(), begun(id, pos, 0, 10)); err != nil {
		t.Errorf("rehearse: %v", err)
	}
	if got := position(t, s, pos.P); got.InputSeq != 0 {
		t.Errorf("something was written: %+v", got)
	}
}

// A stranger's bytes must not stop the partition they came to.
func TestDeadLetterOfAnyBytes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	pos := acquire(t, s, "a", 1)[0]
	if err := s.Commit(t.Context(), partition.Batch{
		Partitions:  []partition.Advance{{P: 0, Epoch: pos.Epoch, InputSeq: 1}},
		DeadLetters: []partition.DeadLetter{{Subject: "exec.in.0.\xff", Reason: "no execution has the id \x00\xfe", Body: []byte("\x00\xff")}},
		Commands:    []string{"no-uuid", "urn:uuid:" + uuid.NewString(), "\x00"},
	}); err != nil {
		t.Fatal(err)
	}
}

func TestLoadKnowsOneSpellingOfAnID(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	id := accepted(t, s)
	for _, spelling := range []string{"urn:uuid:" + id, "{" + id + "}", "", "\x00", "x"} {
		if loaded, err := s.Load(t.Context(), []string{spelling}); err != nil || len(loaded) != 0 {
			t.Errorf("%q: %d executions, %v", spelling, len(loaded), err)
		}
	}
	if loaded, err := s.Load(t.Context(), []string{id, "x"}); err != nil || len(loaded) != 1 {
		t.Errorf("%d executions, %v", len(loaded), err)
	}
}
