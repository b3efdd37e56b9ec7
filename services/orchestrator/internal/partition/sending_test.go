package partition

import (
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/services/orchestrator/internal/engine"
)

// sentStep gives an execution of one step that was sent as message seq, and brings it into memory.
func (r *run) sentStep(t *testing.T, seq uint64) *live {
	t.Helper()
	agent := "a"
	def, err := engine.Compile(catalog.Definition{
		Steps:  []catalog.Step{{StepKey: "s", StepType: catalog.StepAgent, AgentID: &agent, OnError: catalog.OnErrorRetry, RetryCount: 1, RetryDelayMs: 1000}},
		Agents: []catalog.DefinitionAgent{{ID: agent, Type: catalog.AgentData}},
	})
	if err != nil {
		t.Fatal(err)
	}
	x := engine.New(engine.Execution{ID: "x", Partition: r.position.P}, def)
	engine.Apply(x, engine.Input{Kind: engine.Submitted, Time: 1}, r.keys)
	l := r.admit(t.Context(), Loaded{Execution: x, Sent: nil})
	l.sends[engine.Place{}] = &send{done: make(chan struct{}), seq: seq}
	return l
}

// A PubAck that comes after the commit is noted, once: else the next owner would send the step
// again, beside a copy that waits or runs.
func TestALatePubAckIsNoted(t *testing.T) {
	l := &ledger{answer: func(int, Batch) error { return nil }}
	w, s := writing(t, l)
	r := s.partition(3)
	r.did(7, "")
	step := r.sentStep(t, 9)
	r.noteSent()
	flushed(t, w, r)
	if len(l.committed) != 1 {
		t.Fatalf("%d commits before the PubAck", len(l.committed))
	}
	close(step.sends[engine.Place{}].done)
	for range 2 {
		r.noteSent()
		flushed(t, w, r)
	}
	if len(l.committed) != 2 {
		t.Fatalf("%d commits after the PubAck", len(l.committed))
	}
	b := l.committed[1]
	if len(b.Steps) != 1 || b.Steps[0].Sent != 9 || b.Steps[0].Token == "" || len(b.Executions)+len(b.Events) > 0 {
		t.Errorf("noted: %+v", b)
	}
	if a := b.Partitions[0]; a.From != 7 || a.InputSeq != 7 || a.Epoch != 1 {
		t.Errorf("the note moves the partition: %+v", a)
	}
}

// What the ledger has was noted before.
func TestALoadedSendIsNotNotedAgain(t *testing.T) {
	l := &ledger{answer: func(int, Batch) error { return nil }}
	w, s := writing(t, l)
	r := s.partition(3)
	x := r.sentStep(t, 9).x
	r.admit(t.Context(), Loaded{Execution: x, Sent: map[engine.Place]uint64{{}: 9}})
	r.noteSent()
	flushed(t, w, r)
	if len(l.committed) != 0 {
		t.Errorf("committed %+v", l.committed)
	}
}

// An attempt that has ended leaves no message: a step that is cancelled while it waits for its
// next attempt would else be one to stop for ever.
func TestAnEndedAttemptHasNoMessage(t *testing.T) {
	_, s := writing(t, &ledger{})
	r := s.partition(3)
	l := r.sentStep(t, 9)
	close(l.sends[engine.Place{}].done)
	failed := engine.Input{Kind: engine.StepFailed, Step: "s", Token: l.x.Steps[0].Token, Time: 2}
	for _, in := range []engine.Input{failed, {Kind: engine.Cancel, Time: 3}} {
		c := &change{}
		if err := r.carryOut(l, engine.Apply(l.x, in, r.keys), c); err != nil {
			t.Fatal(err)
		}
		if row := batchOf([]*change{{run: r, steps: c.steps}}).Steps[0]; row.Sent != 0 {
			t.Errorf("%s in attempt %d is stored with message %d", row.Status, row.Attempt, row.Sent)
		}
	}
	if l.x.Steps[0].Status != orchestrator.StepCancelled {
		t.Errorf("the step is %s", l.x.Steps[0].Status)
	}
}
