package partitiontest

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/google/uuid"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
)

// testCompensation holds that a compensation is accepted with the batch that it is in, once, and is then an execution like any.
func testCompensation(t *testing.T, s store) {
	id := s.accepted()
	p := subject.PartitionOf(id)
	pos := s.acquired("one", lease, 32)[p]
	c := partition.Compensation{
		Compensation: engine.Compensation{ID: idIn(p), Definition: workflow(), Inputs: json.RawMessage(`{"a": {"x":1}}`)},
		Of:           id, Priority: 3, Depth: 2, EndedAt: 1_767_323_045_678_901,
		UserID: uuid.NewString(), TriggerType: orchestrator.TriggerManual, RequestID: "r-1", Traceparent: "t-1",
	}
	b := partition.Batch{
		Partitions: []partition.Advance{{P: p, Epoch: pos.Epoch, From: 0, InputSeq: 3, InputTime: 3}},
		Executions: []partition.ExecutionRow{{
			ID: id, Status: orchestrator.ExecutionFailed, LastInput: 3, StartedAt: 1, CompletedAt: 3,
		}},
		Compensations: []partition.Compensation{c},
	}
	if err := s.Rehearse(t.Context(), b); err != nil {
		t.Fatalf("rehearse: %v", err)
	}
	if loaded, err := s.Load(t.Context(), []string{c.ID}); err != nil || len(loaded) != 0 {
		t.Fatalf("a rehearsal leaves %v, %v", loaded, err)
	}
	s.commit(b)
	s.commit(b) // its answer may be lost
	x := s.load(c.ID).Execution
	want := engine.New(engine.Execution{
		ID: c.ID, WorkflowID: c.Definition.WorkflowID, UserID: c.UserID, TriggerType: c.TriggerType, RequestID: "r-1", Traceparent: "t-1", Partition: p,
		Priority: 3, Depth: 2, CompensationOf: id, Inputs: c.Inputs, CreatedAt: c.EndedAt,
	}, x.Definition)
	if !reflect.DeepEqual(x, want) {
		t.Errorf("it is %+v, want %+v", x, want)
	}
	if len(x.Definition.Steps) != 1 || x.Definition.Steps[0].Key != "a" {
		t.Errorf("it runs %+v", x.Definition)
	}
	unseen, err := s.Unseen(t.Context(), p, 0)
	if err != nil || len(unseen) != 1 || unseen[0].ExecutionID != c.ID || unseen[0].Kind != engine.Submitted {
		t.Errorf("unseen are %+v, %v", unseen, err)
	}
	if other := s.load(id).Execution; other.CompensationOf != "" {
		t.Errorf("what it undoes is %+v", other)
	}
}

// idIn gives an id of a partition.
func idIn(p int) string {
	for {
		if id := uuid.Must(uuid.NewV7()).String(); subject.PartitionOf(id) == p {
			return id
		}
	}
}
