package partitiontest

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
)

// Conform runs the suite that every Store passes. open gives each test an empty one.
func Conform(t *testing.T, open func(t *testing.T) Store) {
	for name, test := range map[string]func(t *testing.T, s store){
		"Leases": testLeases, "LeasesRunOut": testLeasesRunOut, "EpochIsNeverUsedTwice": testEpochs, "Adopt": testAdopt,
		"CommitOnce": testCommitOnce, "CommitNote": testCommitNote, "CommitFenced": testCommitFenced, "CommitRefused": testCommitRefused,
		"CommitKeepsEveryField": testCommitKeepsEveryField, "DeadLetterOfAnyBytes": testDeadLetters,
		"LoadKnowsOneSpellingOfAnID": testSpelling, "LoadLive": testLoadLive, "Sleeping": testSleeping, "Events": testEvents, "Unseen": testUnseen, "Cancels": testCancels,
		"Items": testItems, "Payloads": testPayloads, "KeptSignals": testKeptSignals, "Compensation": testCompensation,
		"SlotsQueue": testSlotsQueue, "SlotsMax": testSlotsMax, "SlotsDrop": testSlotsDrop, "SlotsCancelOldest": testSlotsCancelOldest, "SlotsOfChildren": testSlotsOfChildren,
		"Stopped": testStopped, "AcceptOnce": testAcceptOnce, "BegunAsLoaded": testBegun, "Step": testStep, "Secret": testSecret, "EndedContext": testEndedContext,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, store{open(t), t})
		})
	}
}

const lease = 5 * time.Second

// store is a Store whose answers must be good.
type store struct {
	Store
	t *testing.T
}

func (s store) acquired(owner string, lease time.Duration, n int) map[int]partition.Position {
	s.t.Helper()
	positions, err := s.Acquire(s.t.Context(), owner, lease, n)
	if err != nil {
		s.t.Fatal(err)
	}
	out := map[int]partition.Position{}
	for _, pos := range positions {
		out[pos.P] = pos
	}
	return out
}

func (s store) position(p int) partition.Position {
	s.t.Helper()
	positions, err := s.Positions(s.t.Context(), []int{p})
	if err != nil || len(positions) != 1 {
		s.t.Fatalf("positions: %v, %v", positions, err)
	}
	return positions[0]
}

func (s store) beat(owner string, ps ...int) (held []int, live int) {
	s.t.Helper()
	published := map[int]uint64{}
	for _, p := range ps {
		published[p] = uint64(100 + p)
	}
	held, others, err := s.Heartbeat(s.t.Context(), owner, lease, published)
	if err != nil {
		s.t.Fatal(err)
	}
	slices.Sort(held)
	if !slices.Contains(others, owner) {
		s.t.Errorf("%s is not among those that live: %v", owner, others)
	}
	return held, len(others)
}

func (s store) commit(b partition.Batch) {
	s.t.Helper()
	if _, err := s.Commit(s.t.Context(), b); err != nil {
		s.t.Fatalf("commit: %v", err)
	}
}

func (s store) load(id string) partition.Loaded {
	s.t.Helper()
	loaded, err := s.Load(s.t.Context(), []string{id})
	if err != nil || len(loaded) != 1 {
		s.t.Fatalf("%d executions are loaded: %v", len(loaded), err)
	}
	return loaded[0]
}

// workflow is a definition of one step.
func workflow() catalog.Definition {
	agent := uuid.NewString()
	return catalog.Definition{
		WorkflowID: uuid.NewString(), WorkflowOwner: uuid.NewString(), WorkflowVersion: 1, TimeoutMs: 1000,
		Steps:  []catalog.Step{{StepKey: "a", StepType: catalog.StepAgent, AgentID: &agent, OnError: catalog.OnErrorFail, TriggerRule: catalog.TriggerNoneFailed, TimeoutMs: 1000}},
		Agents: []catalog.DefinitionAgent{{ID: agent, Type: catalog.AgentData, Version: 1, Config: json.RawMessage(`{}`)}},
	}
}

func acceptable(t *testing.T, key *execution.IdempotencyKey) execution.Accepted {
	t.Helper()
	def := workflow()
	body, err := json.Marshal(def)
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(body)
	return execution.Accepted{
		ID: uuid.Must(uuid.NewV7()).String(), Caller: rpc.Caller{UserID: uuid.NewString(), RequestID: "r", Traceparent: "t"}, Definition: def,
		DefinitionBody: body, DefinitionHash: hash[:], TriggerType: orchestrator.TriggerAPI, Priority: 7, Inputs: []byte(`{"n":1}`),
		CreatedAt: time.Now().UTC().Truncate(time.Microsecond), Key: key,
	}
}

func (s store) accept(x execution.Accepted) execution.Outcome {
	s.t.Helper()
	outcomes, _, err := s.Accept(s.t.Context(), []execution.Accepted{x})
	if err != nil || len(outcomes) != 1 {
		s.t.Fatalf("accept: %v, %v", outcomes, err)
	}
	return outcomes[0]
}

// accepted commits an execution of one step.
func (s store) accepted() string {
	s.t.Helper()
	return s.accept(acceptable(s.t, nil)).ID
}

func begun(id string, pos partition.Position, from, to uint64) partition.Batch {
	return partition.Batch{
		Partitions: []partition.Advance{{P: pos.P, Epoch: pos.Epoch, From: from, InputSeq: to, InputTime: 5, EventN: 1}},
		Executions: []partition.ExecutionRow{{ID: id, Status: orchestrator.ExecutionRunning, EventSeq: 1, LastInput: 10, StartedAt: 10}},
		Steps:      []partition.StepRow{{ExecutionID: id, P: pos.P, Row: engine.Row{Task: engine.Task{Status: orchestrator.StepRunning, Attempt: 1, Token: "t", Dispatch: 1}}, Sent: 9}},
		Events:     []partition.EventRow{EventOf(id, pos.P, 1, 1)},
	}
}

// EventOf gives an event as a ledger takes it, which tells its type and number itself.
func EventOf(executionID string, p int, seq, n uint64) partition.EventRow {
	kind := fmt.Sprintf("t%d", n%3)
	return partition.EventRow{ExecutionID: executionID, P: p, Seq: seq, N: n, Type: kind, Body: fmt.Appendf(nil, `{"type":%q,"n":"%d","data":[{"n":"0","é<\u0000>": 1.0}]}`, kind, n)}
}

func testLeases(t *testing.T, s store) {
	s.beat("a")
	mine := s.acquired("a", lease, subject.Partitions)
	if len(mine) != subject.Partitions || len(s.acquired("a", lease, subject.Partitions)) != 0 || len(s.acquired("b", lease, subject.Partitions)) != 0 {
		t.Fatal("partitions that are leased were given away")
	}
	if held, live := s.beat("b", 1, 2); len(held) != 0 || live != 2 {
		t.Errorf("b holds %v of %d", held, live)
	}
	if held, live := s.beat("a", 1, 2); !slices.Equal(held, []int{1, 2}) || live != 2 {
		t.Errorf("a holds %v of %d", held, live)
	}
	if got := s.position(2).PublishedN; got != 102 {
		t.Errorf("published up to %d", got)
	}
	if _, _, err := s.Heartbeat(t.Context(), "a", lease, map[int]uint64{2: 5}); err != nil || s.position(2).PublishedN != 102 {
		t.Errorf("published up to %d after a lower number, %v", s.position(2).PublishedN, err)
	}
	if err := s.Release(t.Context(), "b", []int{1}); err != nil || s.position(1).Owner != "a" {
		t.Errorf("b released what a holds: %v", err)
	}
	if err := s.Release(t.Context(), "a", []int{1}); err != nil || s.position(1).Owner != "" {
		t.Errorf("release: %v", err)
	}
	if got := s.acquired("b", lease, subject.Partitions); len(got) != 1 || got[1].Owner != "b" || got[1].Epoch <= mine[1].Epoch {
		t.Errorf("b took %+v after the release of %+v", got, mine[1])
	}
	if held, _ := s.beat("a", 1, 2); !slices.Equal(held, []int{2}) {
		t.Errorf("a holds %v, b has 1", held)
	}
	if err := s.Leave(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, live := s.beat("b"); live != 1 {
		t.Errorf("%d live after one of two left", live)
	}
}

// What an owner does not work on runs out, although it lives; it may take it again itself.
func testLeasesRunOut(t *testing.T, s store) {
	const short = 50 * time.Millisecond
	s.acquired("a", time.Hour, subject.Partitions-4)
	mine := s.acquired("a", short, 4)
	const last = subject.Partitions - 1
	if held, _ := s.beat("a", last-3, last-2); !slices.Equal(held, []int{last - 3, last - 2}) {
		t.Fatalf("a holds %v", held)
	}
	var taken, again map[int]partition.Position
	s.eventually("leases run out", func() bool { taken = s.acquired("b", lease, 1); return len(taken) == 1 })
	s.eventually("leases run out", func() bool { again = s.acquired("a", lease, 4); return len(again) > 0 })
	if taken[last-1].Owner != "b" || len(again) != 1 || again[last].Owner != "a" || again[last].Epoch <= mine[last].Epoch {
		t.Errorf("b took %+v, a took %+v again, before it had %+v", taken, again, mine)
	}
}

func (s store) eventually(what string, ok func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			s.t.Fatalf("not in time: %s", what)
		}
		select {
		case <-s.t.Context().Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func testEpochs(t *testing.T, s store) {
	begin := time.Now().Add(-time.Minute).UnixMilli()
	pos := s.acquired("a", lease, 1)[0]
	if pos.Epoch < begin {
		t.Errorf("epoch %d is below the clock, so a restored database uses it again", pos.Epoch)
	}
	rebuilt, err := s.Rebuild(t.Context(), 0, pos.Epoch, 41, 7)
	if err != nil || rebuilt.Epoch <= pos.Epoch || rebuilt.Generation != rebuilt.Epoch || rebuilt.InputSeq != 41 || rebuilt.InputTime != 0 || rebuilt.StreamCreated != 7 {
		t.Errorf("rebuilt: %+v, %v", rebuilt, err)
	}
	if got := s.position(0); got != rebuilt || got.Owner != "a" {
		t.Errorf("it stands at %+v, rebuilt as %+v", got, rebuilt)
	}
	var fenced *partition.FencedError
	if _, err := s.Rebuild(t.Context(), 0, pos.Epoch, 0, 7); !errors.As(err, &fenced) {
		t.Errorf("rebuilt under an old epoch: %v", err)
	}
}

func testAdopt(t *testing.T, s store) {
	pos := s.acquired("a", lease, 1)[0]
	for _, step := range []struct{ epoch, created, want int64 }{{pos.Epoch - 1, 5, 0}, {pos.Epoch, 7, 7}, {pos.Epoch, 8, 7}} {
		if err := s.Adopt(t.Context(), 0, step.epoch, step.created); err != nil || s.position(0).StreamCreated != step.want {
			t.Errorf("stream %d under epoch %d: created %d, %v", step.created, step.epoch, s.position(0).StreamCreated, err)
		}
	}
}

func testCommitOnce(t *testing.T, s store) {
	id := s.accepted()
	p := subject.PartitionOf(id)
	pos := s.acquired("a", lease, subject.Partitions)[p]
	batch := begun(id, pos, 0, 10)
	for range 3 { // its answer may have been lost
		s.commit(batch)
	}
	if got := s.position(p); got.InputSeq != 10 || got.InputTime != 5 || got.EventN != 1 {
		t.Errorf("position %+v", got)
	}
	// What leads to the same place by other events is another batch, of an owner that began too early.
	other := batch
	other.Partitions = slices.Clone(batch.Partitions)
	other.Partitions[0].EventN, other.Events = 0, nil
	var fenced *partition.FencedError
	if _, err := s.Commit(t.Context(), other); !errors.As(err, &fenced) {
		t.Errorf("another batch to the same place: %v", err)
	}
	loaded, err := s.LoadLive(t.Context(), p, partition.Forever)
	if err != nil || len(loaded) != 1 || loaded[0].Execution.Steps[0].Token != "t" || loaded[0].Sent[engine.Place{}] != 9 {
		t.Errorf("loaded %+v, %v", loaded, err)
	}
}

// What moves no partition, such as where a message is, is written each time, under the fence.
func testCommitNote(t *testing.T, s store) {
	id := s.accepted()
	p := subject.PartitionOf(id)
	all := s.acquired("a", lease, subject.Partitions)
	pos, other := all[p], all[(p+1)%subject.Partitions]
	first := begun(id, pos, 0, 10)
	first.Steps[0].Sent = 0
	s.commit(first)
	note := begun(id, pos, 10, 10)
	note.Executions, note.Events = nil, nil
	for _, sent := range []uint64{9, 12} {
		note.Steps[0].Sent = sent
		s.commit(note)
		if got := s.load(id).Sent[engine.Place{}]; got != sent {
			t.Errorf("sent %d is noted as %d", sent, got)
		}
	}
	// Together with a move: what is there already is there as a whole.
	both := note
	both.Partitions = append(slices.Clone(note.Partitions), partition.Advance{P: other.P, Epoch: other.Epoch, InputSeq: 4, EventN: 1})
	both.Events = []partition.EventRow{EventOf(uuid.NewString(), other.P, 1, 1)}
	for range 2 {
		s.commit(both)
	}
	for name, change := range map[string]func(*partition.Advance){
		"another epoch": func(a *partition.Advance) { a.Epoch-- }, "elsewhere": func(a *partition.Advance) { a.From, a.InputSeq = 9, 9 },
		"other events": func(a *partition.Advance) { a.EventN++ },
	} {
		bad := note
		bad.Partitions = slices.Clone(note.Partitions)
		change(&bad.Partitions[0])
		var fenced *partition.FencedError
		if _, err := s.Commit(t.Context(), bad); !errors.As(err, &fenced) || !slices.Equal(fenced.Partitions, []int{p}) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func testCommitFenced(t *testing.T, s store) {
	id := s.accepted()
	p := subject.PartitionOf(id)
	all := s.acquired("a", lease, subject.Partitions)
	pos := all[p]
	other := all[(p+1)%subject.Partitions]
	stale := pos
	stale.Epoch--
	two := begun(id, stale, 0, 10)
	two.Partitions = append(two.Partitions, partition.Advance{P: other.P, Epoch: other.Epoch, InputSeq: 4})
	later := begun(id, pos, 0, 10)
	later.Partitions[0].EventN, later.Events[0].N = 2, 2
	for name, batch := range map[string]partition.Batch{
		"another epoch": begun(id, stale, 0, 10), "not where it goes on": begun(id, pos, 3, 10), "one of two is another's": two,
		"events that do not go on": later,
	} {
		_, err := s.Commit(t.Context(), batch)
		var fenced *partition.FencedError
		if !errors.As(err, &fenced) || !slices.Equal(fenced.Partitions, []int{p}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := s.position(p); got.InputSeq != 0 || s.position(other.P).InputSeq != 0 {
		t.Errorf("something was written: %+v", got)
	}
	if events, err := s.Events(t.Context(), p, 0, 10); err != nil || len(events) != 0 {
		t.Errorf("events %v, %v", events, err)
	}
}

func testCommitRefused(t *testing.T, s store) {
	id := s.accepted()
	pos := s.acquired("a", lease, subject.Partitions)[subject.PartitionOf(id)]
	sameSeq, sameN := begun(id, pos, 0, 10), begun(id, pos, 0, 10)
	again := sameSeq.Events[0]
	again.N++
	sameSeq.Events = append(sameSeq.Events, again)
	again.N, again.Seq = 1, 2
	sameN.Events = append(sameN.Events, again)
	commit := func(ctx context.Context, b partition.Batch) error {
		_, err := s.Commit(ctx, b)
		return err
	}
	for name, batch := range map[string]partition.Batch{"seq": sameSeq, "n": sameN} {
		for what, write := range map[string]func(context.Context, partition.Batch) error{"commit": commit, "rehearse": s.Rehearse} {
			if err := write(t.Context(), batch); !errors.Is(err, partition.ErrRefused) {
				t.Errorf("%s with the same %s twice: %v", what, name, err)
			}
		}
	}
	stale := pos
	stale.Epoch--
	if err := s.Rehearse(t.Context(), begun(id, stale, 3, 10)); err != nil {
		t.Errorf("rehearse: %v", err)
	}
	if got := s.position(pos.P); got.InputSeq != 0 || s.load(id).Execution.Status != orchestrator.ExecutionPending {
		t.Errorf("something was written: %+v", got)
	}
	s.commit(begun(id, pos, 0, 10))
	late := begun(id, pos, 10, 11)
	late.Partitions[0].EventN, late.Events[0].N = 2, 2
	if _, err := s.Commit(t.Context(), late); !errors.Is(err, partition.ErrRefused) {
		t.Errorf("an event that is there already: %v", err)
	}
}

func testCommitKeepsEveryField(t *testing.T, s store) {
	x := acceptable(t, nil)
	s.accept(x)
	pos := s.acquired("a", lease, subject.Partitions)[subject.PartitionOf(x.ID)]
	failure := &runner.StepError{Code: runner.CodeError, Message: "m", Type: "T", Stack: "s", Retryable: true, StepKey: "a"}
	batch := begun(x.ID, pos, 0, 10)
	batch.Executions[0] = partition.ExecutionRow{
		ID: x.ID, Status: orchestrator.ExecutionFailed, Outputs: []byte("\x00 opaque"), Error: failure, EventSeq: 3,
		LastInput: 1_000_003, StartedAt: 1_000_001, CompletedAt: 1_000_003, Failed: 1, Percent: 100,
	}
	batch.Steps[0] = partition.StepRow{ExecutionID: x.ID, P: pos.P, Sent: 12, Row: engine.Row{WakeAt: 1_000_006, Task: engine.Task{
		Status: orchestrator.StepFailed, Attempt: 2, Token: "t2", Dispatch: 3, RetryAt: 1_000_004, Backstop: 1_000_005, Output: []byte("\xff\x00"),
		Error: failure, StartedAt: 1_000_002, CompletedAt: 1_000_003,
	}}}
	s.commit(batch)
	got := s.load(x.ID)
	def, err := engine.Compile(x.Definition)
	if err != nil {
		t.Fatal(err)
	}
	want := engine.Restore(engine.Execution{
		ID: x.ID, WorkflowID: x.Definition.WorkflowID, UserID: x.Caller.UserID, TriggerType: x.TriggerType, RequestID: "r", Traceparent: "t",
		Partition: pos.P, Priority: 7, Status: orchestrator.ExecutionFailed, Inputs: x.Inputs, Outputs: []byte("\x00 opaque"), Error: failure,
		CreatedAt: engine.TimeOf(x.CreatedAt), StartedAt: 1_000_001, CompletedAt: 1_000_003, LastInput: 1_000_003, EventSeq: 3,
		Steps: []engine.Step{{Task: batch.Steps[0].Task, WakeAt: 1_000_006}}, Commands: map[string]bool{},
	}, def)
	got.Execution.Definition, want.Definition = nil, nil // compiled each by its own
	if !reflect.DeepEqual(got.Execution, want) || !maps.Equal(got.Sent, map[engine.Place]uint64{{}: 12}) {
		t.Errorf("loaded %+v, sent %v, committed %+v", got.Execution, got.Sent, want)
	}
	if live, err := s.LoadLive(t.Context(), pos.P, partition.Forever); err != nil || len(live) != 0 {
		t.Errorf("%d ended executions are live, %v", len(live), err)
	}
}

// A stranger's bytes must not stop the partition they came to.
func testDeadLetters(t *testing.T, s store) {
	pos := s.acquired("a", lease, 1)[0]
	s.commit(partition.Batch{
		Partitions:  []partition.Advance{{P: 0, Epoch: pos.Epoch, InputSeq: 1}},
		DeadLetters: []partition.DeadLetter{{Subject: "exec.in.0.\xff", Reason: "no execution has the id \x00\xfe", Body: []byte("\x00\xff")}},
		Commands:    []partition.CommandRow{{ID: "no-uuid"}, {ID: "urn:uuid:" + uuid.NewString()}, {ID: "\x00"}},
	})
	if got := s.position(0); got.InputSeq != 1 {
		t.Errorf("it stands at %d", got.InputSeq)
	}
}

func testSpelling(t *testing.T, s store) {
	id := s.accepted()
	for _, spelling := range []string{"urn:uuid:" + id, "{" + id + "}", "", "\x00", "x"} {
		if loaded, err := s.Load(t.Context(), []string{spelling}); err != nil || len(loaded) != 0 {
			t.Errorf("%q: %d executions, %v", spelling, len(loaded), err)
		}
	}
	if loaded, err := s.Load(t.Context(), []string{id, "x"}); err != nil || len(loaded) != 1 {
		t.Errorf("%d executions, %v", len(loaded), err)
	}
}

// An execution that nothing was applied to is not live: its `submitted` brings it into memory.
func testLoadLive(t *testing.T, s store) {
	id := s.accepted()
	pos := s.acquired("a", lease, subject.Partitions)[subject.PartitionOf(id)]
	if live, err := s.LoadLive(t.Context(), pos.P, partition.Forever); err != nil || len(live) != 0 {
		t.Errorf("%d live, %v", len(live), err)
	}
	s.commit(begun(id, pos, 0, 10))
	if live, err := s.LoadLive(t.Context(), pos.P, partition.Forever); err != nil || len(live) != 1 || live[0].Execution.ID != id {
		t.Errorf("%d live, %v", len(live), err)
	}
	if live, err := s.LoadLive(t.Context(), (pos.P+1)%subject.Partitions, partition.Forever); err != nil || len(live) != 0 {
		t.Errorf("%d live in another partition, %v", len(live), err)
	}
}

func testSleeping(t *testing.T, s store) {
	id := s.accepted()
	pos := s.acquired("a", lease, subject.Partitions)[subject.PartitionOf(id)]
	for i, c := range []struct {
		until        engine.Time
		live, waking string // at the times 1,999,999, 2,000,000 and that without end
	}{
		{0, "111", "000"}, {2_000_000, "011", "011"}, {partition.Forever, "001", "001"},
	} {
		batch := begun(id, pos, uint64(i*10), uint64(i*10+10))
		batch.Executions[0].SleepsUntil = c.until
		batch.Events = nil
		s.commit(batch)
		live, waking := "", ""
		for _, at := range []engine.Time{1_999_999, 2_000_000, partition.Forever} {
			loaded, err := s.LoadLive(t.Context(), pos.P, at)
			if err != nil {
				t.Fatal(err)
			}
			live += strconv.Itoa(len(loaded))
			due, err := s.Waking(t.Context(), pos.P, at)
			if err != nil || len(due) > 0 && due[id] != c.until {
				t.Errorf("it wakes %v, %v", due, err)
			}
			waking += strconv.Itoa(len(due))
		}
		if live != c.live || waking != c.waking {
			t.Errorf("until %d: live %s, waking %s", c.until, live, waking)
		}
	}
}

// Executions share commits, in which their events come in turns. What one commit has is given as a whole.
func testEvents(t *testing.T, s store) {
	ids := []string{s.accepted(), uuid.NewString(), uuid.NewString()}
	pos := s.acquired("a", lease, subject.Partitions)[subject.PartitionOf(ids[0])]
	var all []partition.EventRow
	var ends []uint64
	seqs := map[string]uint64{}
	for i, turns := range [][]int{{0, 1, 0, 0, 1, 2}, {1}, {0, 2, 0}} {
		batch := begun(ids[0], pos, uint64(i), uint64(i+1))
		batch.Events = nil
		for _, of := range turns {
			seqs[ids[of]]++
			batch.Events = append(batch.Events, EventOf(ids[of], pos.P, seqs[ids[of]], uint64(len(all)+len(batch.Events)+1)))
		}
		all = append(all, batch.Events...)
		batch.Partitions[0].EventN = uint64(len(all))
		ends = append(ends, uint64(len(all)))
		s.commit(batch)
	}
	for after := range uint64(12) {
		for limit := 1; limit <= 12; limit++ {
			got, err := s.Events(t.Context(), pos.P, after, limit)
			to := uint64(len(all))
			for _, end := range slices.Backward(ends) {
				if end >= after+uint64(limit) {
					to = end
				}
			}
			want := all[min(after, to):to]
			if err != nil || len(got) < min(limit, len(want)) || len(got) > len(want) || len(got) > 0 && !reflect.DeepEqual(got, want[:len(got)]) {
				t.Errorf("after %d at least %d: %v, %v", after, limit, got, err)
			}
		}
	}
}

func testUnseen(t *testing.T, s store) {
	old, fresh, ahead := acceptable(t, nil), acceptable(t, nil), acceptable(t, nil)
	old.CreatedAt = time.Now().Add(-time.Hour)
	ahead.CreatedAt = time.Now().Add(time.Hour) // by the clock of who accepted it
	for _, x := range []*execution.Accepted{&fresh, &ahead} {
		for subject.PartitionOf(x.ID) != subject.PartitionOf(old.ID) {
			x.ID = uuid.Must(uuid.NewV7()).String()
		}
	}
	s.accept(old)
	s.accept(fresh)
	s.accept(ahead)
	pos := s.acquired("a", lease, subject.Partitions)[subject.PartitionOf(old.ID)]
	command := execution.Command{ID: uuid.NewString(), ExecutionID: old.ID, Partition: pos.P, Kind: execution.CommandCancel, UserID: "u"}
	if err := s.AddCommands(t.Context(), []execution.Command{command}); err != nil {
		t.Fatal(err)
	}
	submitted := func(x execution.Accepted) partition.Control {
		return partition.Control{P: pos.P, Kind: engine.Submitted, ExecutionID: x.ID}
	}
	cancel := partition.Control{P: pos.P, Kind: engine.Cancel, ExecutionID: old.ID, CommandID: command.ID}
	unseen := func(p int, age time.Duration, want ...partition.Control) {
		t.Helper()
		if got, err := s.Unseen(t.Context(), p, age); err != nil || !slices.EqualFunc(got, want, func(a, b partition.Control) bool { return reflect.DeepEqual(a, b) }) {
			t.Errorf("unseen for %v: %v, %v; want %v", age, got, err, want)
		}
	}
	unseen(pos.P, 0, submitted(old), submitted(fresh), submitted(ahead), cancel)
	unseen(pos.P, time.Minute, submitted(old), submitted(ahead))
	unseen((pos.P+1)%subject.Partitions, 0)
	batch := begun(old.ID, pos, 0, 10)
	batch.Commands = []partition.CommandRow{{ID: command.ID}}
	s.commit(batch)
	unseen(pos.P, 0, submitted(fresh), submitted(ahead))
}

// What a child was to do is unwanted from the commit on by which nobody waits for it, whether or not the parent's owner can still say so.
func testCancels(t *testing.T, s store) {
	parent := s.accepted()
	positions := s.acquired("a", lease, subject.Partitions)
	child, detached, over := acceptable(t, nil), acceptable(t, nil), acceptable(t, nil)
	for _, x := range []*execution.Accepted{&child, &detached, &over} {
		x.Parent = &engine.Parent{ExecutionID: parent, StepKey: "a", Token: "t"}
		for subject.PartitionOf(x.ID) == subject.PartitionOf(parent) || x != &child && subject.PartitionOf(x.ID) != subject.PartitionOf(child.ID) {
			x.ID = uuid.Must(uuid.NewV7()).String()
		}
	}
	detached.Detached = true
	pos := positions[subject.PartitionOf(child.ID)]
	s.commit(begun(parent, positions[subject.PartitionOf(parent)], 0, 10))
	for _, x := range []execution.Accepted{child, detached, over} {
		if o := s.accept(x); o.Obsolete {
			t.Errorf("of a task that waits: %+v", o)
		}
		if waits := s.load(x.ID).Execution.Parent; (waits == nil) != x.Detached {
			t.Errorf("of one that is detached, %t, %+v waits for the end", x.Detached, waits)
		}
	}
	late := acceptable(t, nil)
	late.Parent = &engine.Parent{ExecutionID: parent, StepKey: "a", Token: "of an attempt before"}
	if o := s.accept(late); !o.Obsolete {
		t.Errorf("of a task that waits for another: %+v", o)
	}
	s.commit(begun(child.ID, pos, 0, 10))
	ended := begun(over.ID, pos, 10, 11)
	ended.Executions[0].Status, ended.Executions[0].CompletedAt = orchestrator.ExecutionCompleted, engine.TimeOf(time.Now())
	ended.Partitions[0].EventN, ended.Events[0].N = 2, 2
	s.commit(ended)
	for id, want := range map[string][2]bool{child.ID: {true, false}, over.ID: {true, true}, late.ID: {false, false}} {
		if e, found, err := s.Ending(t.Context(), id); err != nil || found != want[0] || e.Ended != want[1] {
			t.Errorf("its end is %+v, %t, %v; want %v", e, found, err, want)
		}
	}
	cancel := partition.Control{P: pos.P, Kind: engine.Cancel, ExecutionID: child.ID, CommandID: child.ID}
	same := func(what string, got []partition.Control, err error, want ...partition.Control) {
		t.Helper()
		got = slices.DeleteFunc(got, func(c partition.Control) bool { return c.Kind == engine.Submitted })
		if err != nil || !slices.EqualFunc(got, want, func(a, b partition.Control) bool { return reflect.DeepEqual(a, b) }) {
			t.Errorf("%s: %v, %v; want %v", what, got, err, want)
		}
	}
	unapplied := func(least, most time.Duration, want ...partition.Control) {
		t.Helper()
		got, err := s.Unapplied(t.Context(), []int{subject.PartitionOf(parent), pos.P}, least, most)
		same(fmt.Sprintf("unapplied from %v to %v ago", most, least), got, err, want...)
	}
	unapplied(0, time.Minute)
	batch := begun(parent, positions[subject.PartitionOf(parent)], 10, 11)
	batch.Events, batch.Cancels = nil, []string{child.ID, detached.ID, over.ID, uuid.NewString()}
	if err := s.Rehearse(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	unapplied(0, time.Minute)
	follow, err := s.Commit(t.Context(), batch)
	same("what follows from the commit", follow, err, cancel)
	unapplied(0, time.Minute, cancel)
	unapplied(time.Minute, time.Hour)
	got, err := s.Unseen(t.Context(), pos.P, 0)
	same("unseen", got, err, cancel)

	again := begun(parent, positions[subject.PartitionOf(parent)], 11, 12)
	again.Events, again.Cancels = nil, []string{child.ID}
	follow, err = s.Commit(t.Context(), again)
	same("what follows from a second one", follow, err, cancel)
	batch = begun(child.ID, pos, 11, 12)
	batch.Events, batch.Commands = nil, []partition.CommandRow{{ID: child.ID}}
	s.commit(batch)
	unapplied(0, time.Minute)
}

func testStopped(t *testing.T, s store) {
	id := s.accepted()
	pos := s.acquired("a", lease, subject.Partitions)[subject.PartitionOf(id)]
	stopped := func(want ...partition.StoppedAttempt) {
		t.Helper()
		if got, err := s.Stopped(t.Context(), []int{(pos.P + 1) % subject.Partitions, pos.P}, 0); err != nil || !slices.Equal(got, want) {
			t.Errorf("stopped: %v, %v; want %v", got, err, want)
		}
		for age, aged := range map[time.Duration][]partition.StoppedAttempt{time.Second: want, time.Hour: nil} {
			if got, err := s.Stopped(t.Context(), []int{pos.P}, age); err != nil || !slices.Equal(got, aged) {
				t.Errorf("stopped %v ago: %v, %v; want %v", age, got, err, aged)
			}
		}
		if got, err := s.Stopped(t.Context(), []int{(pos.P + 1) % subject.Partitions}, 0); err != nil || len(got) > 0 {
			t.Errorf("stopped elsewhere: %v, %v", got, err)
		}
	}
	s.commit(begun(id, pos, 0, 10))
	stopped()
	batch := begun(id, pos, 10, 11)
	batch.Events = nil
	batch.Steps[0].Status, batch.Steps[0].CompletedAt = orchestrator.StepCancelled, engine.TimeOf(time.Now().Add(-time.Minute))
	s.commit(batch)
	attempt := partition.StoppedAttempt{ExecutionID: id, Token: "t", Sent: 9}
	stopped(attempt)
	other := attempt
	other.Sent = 8
	for range 2 {
		if err := s.Cleared(t.Context(), []partition.StoppedAttempt{other}); err != nil {
			t.Fatal(err)
		}
	}
	stopped(attempt)
	if err := s.Cleared(t.Context(), []partition.StoppedAttempt{attempt}); err != nil {
		t.Fatal(err)
	}
	stopped()
}

func testAcceptOnce(t *testing.T, s store) {
	key := func(body string) *execution.IdempotencyKey {
		return &execution.IdempotencyKey{UserID: "u", Route: "execute", Key: "k", BodyHash: []byte(body)}
	}
	first, again, other, free := acceptable(t, key("b")), acceptable(t, key("b")), acceptable(t, key("c")), acceptable(t, nil)
	for _, tc := range []struct {
		x    execution.Accepted
		want execution.Outcome
	}{
		{first, execution.Outcome{ID: first.ID}},
		{again, execution.Outcome{ID: first.ID, Replayed: true}},
		{other, execution.Outcome{ID: first.ID, Replayed: true, Conflict: true}},
		{free, execution.Outcome{ID: free.ID}},
	} {
		if got := s.accept(tc.x); got != tc.want {
			t.Errorf("outcome %+v, want %+v", got, tc.want)
		}
	}
	if loaded, err := s.Load(t.Context(), []string{first.ID, again.ID, other.ID, free.ID}); err != nil || len(loaded) != 2 {
		t.Errorf("%d executions, %v", len(loaded), err)
	}
}

// What is known of an accepted execution is what the ledger has of it.
func testBegun(t *testing.T, s store) {
	x := acceptable(t, &execution.IdempotencyKey{UserID: uuid.NewString(), Route: "r", Key: "k", BodyHash: []byte("h")})
	x.CreatedAt, x.Depth = x.CreatedAt.Add(999*time.Nanosecond), 3
	def, err := engine.Compile(x.Definition)
	if err != nil {
		t.Fatal(err)
	}
	x.Compiled = def
	s.accept(x)
	loaded := s.load(x.ID)
	loaded.Execution.Definition = def
	if begun := x.Begun(); len(loaded.Sent) > 0 || !reflect.DeepEqual(begun, loaded.Execution) {
		t.Errorf("it is begun as\n%+v\nand loaded as\n%+v", begun, loaded.Execution)
	}
	for what, change := range map[string]func(x *execution.Accepted){
		"a child":                func(x *execution.Accepted) { x.Parent = &engine.Parent{} },
		"limited":                func(x *execution.Accepted) { x.Limit = &execution.Limit{} },
		"of a schedule":          func(x *execution.Accepted) { x.Scheduled = &execution.Scheduled{} },
		"begun with results":     func(x *execution.Accepted) { x.Reused = []execution.ReusedStep{{}} },
		"to undo another's":      func(x *execution.Accepted) { x.CompensationOf = x.ID },
		"of a definition's hash": func(x *execution.Accepted) { x.Compiled = nil },
	} {
		y := x
		if change(&y); y.Begun() != nil {
			t.Errorf("one that is %s is begun", what)
		}
	}
}

func testStep(t *testing.T, s store) {
	id := s.accepted()
	pos := s.acquired("a", lease, subject.Partitions)[subject.PartitionOf(id)]
	step := func(want engine.Task, recorded bool) {
		t.Helper()
		if got, is, err := s.Step(t.Context(), id, "a", 0); err != nil || is != recorded || !reflect.DeepEqual(got, want) {
			t.Errorf("step %+v, recorded %t, %v; want %+v, %t", got, is, err, want, recorded)
		}
	}
	step(engine.Task{Status: orchestrator.StepPending}, false)
	s.commit(begun(id, pos, 0, 10))
	step(engine.Task{Status: orchestrator.StepRunning, Attempt: 1, Token: "t", Dispatch: 1}, true)
	failed := engine.Task{
		Status: orchestrator.StepFailed, Attempt: 2, Token: "u", Dispatch: 1, Output: json.RawMessage(`{"a": 1}`), Error: &runner.StepError{Code: "x", Message: "m", Retryable: true}, StartedAt: 20, CompletedAt: 30,
	}
	end := begun(id, pos, 10, 20)
	end.Partitions[0].EventN, end.Executions[0].EventSeq, end.Events = 2, 2, []partition.EventRow{EventOf(id, pos.P, 2, 2)}
	end.Steps[0].Task = failed
	s.commit(end)
	step(failed, true)
	for _, other := range [][2]string{{id, "b"}, {uuid.NewString(), "a"}, {"x", "a"}} {
		if _, _, err := s.Step(t.Context(), other[0], other[1], 0); errs.CodeOf(err) != errs.NotFound {
			t.Errorf("step %q of %q: %v", other[1], other[0], err)
		}
	}
}

func testSecret(t *testing.T, s store) {
	one, err := s.Secret(t.Context())
	if err != nil || len(one) < 16 {
		t.Fatalf("a secret of %d bytes, %v", len(one), err)
	}
	if two, err := s.Secret(t.Context()); err != nil || !slices.Equal(one, two) {
		t.Errorf("another secret, %v", err)
	}
}

func testEndedContext(t *testing.T, s store) {
	pos := s.acquired("a", lease, 1)[0]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Commit(ctx, partition.Batch{Partitions: []partition.Advance{{P: 0, Epoch: pos.Epoch, InputSeq: 1}}}); err == nil || s.position(0).InputSeq != 0 {
		t.Errorf("committed up to %d after the context has ended: %v", s.position(0).InputSeq, err)
	}
}
