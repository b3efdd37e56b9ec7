package partition_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
	"turbocat.io/services/orchestrator/internal/partition/partitiontest"
)

var errHindered = errors.New("not now")

// hindered fails when a partition looks where it stands, in the ledger and in the log.
type hindered struct {
	partitiontest.Store
	partition.Transport
	now atomic.Bool
}

func (h *hindered) Positions(ctx context.Context, ps []int) ([]partition.Position, error) {
	if h.now.Load() {
		return nil, errHindered
	}
	return h.Store.Positions(ctx, ps)
}

func (h *hindered) Ensure(ctx context.Context) (partition.Streams, error) {
	if h.now.Load() {
		return partition.Streams{}, errHindered
	}
	return h.Transport.Ensure(ctx)
}

// A partition whose run has failed begins where the ledger says, also when the ledger does not
// say so at once: what it knew before is older than what it has committed.
func TestBeginsAgainWhereTheLedgerSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger, server := partitiontest.NewLedger([]byte("a secret of the tests")), partitiontest.NewJetStream()
		h := &hindered{Store: ledger, Transport: server.Connect()}
		reconnected := make(chan struct{}, 1)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- partition.NewOwner("o", h, h, zerolog.Nop()).Run(ctx, reconnected) }()
		defer func() {
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()

		id := accept(t, ledger, catalog.Step{StepType: catalog.StepAgent})
		p := subject.PartitionOf(id)
		<-time.After(3 * time.Second)
		h.Append(partition.Control{P: p, Kind: engine.Submitted, ExecutionID: id}, func(error) {})
		<-time.After(3 * time.Second)
		before := position(t, ledger, p)
		if before.EventN != 3 {
			t.Fatalf("it stands at %+v", before)
		}

		h.now.Store(true)
		reconnected <- struct{}{}
		<-time.After(20 * time.Second)
		h.now.Store(false)
		<-time.After(20 * time.Second)

		d, err := server.Take(ctx, "runner")
		if err != nil {
			t.Fatal(err)
		}
		if err := server.Put(p, partition.Message{ExecutionID: id, Input: engine.Input{Kind: engine.StepCompleted, Step: d.StepKey, Token: d.Token, Output: []byte(`1`)}}); err != nil {
			t.Fatal(err)
		}
		<-time.After(3 * time.Second)
		after := position(t, ledger, p)
		if after.Epoch != before.Epoch || after.EventN != 5 {
			t.Errorf("it stood at %+v and stands at %+v", before, after)
		}
		loaded, err := ledger.Load(ctx, []string{id})
		if err != nil || len(loaded) != 1 || loaded[0].Execution.Status != orchestrator.ExecutionCompleted {
			t.Errorf("loaded %+v, %v", loaded, err)
		}
	})
}

// accept accepts an execution of the steps s, ss and so on.
func accept(t *testing.T, ledger *partitiontest.Ledger, steps ...catalog.Step) string {
	t.Helper()
	return acceptChild(t, ledger, nil, steps...)
}

// acceptChild has an execution accepted whose parent, if any, waits for it.
func acceptChild(t *testing.T, ledger *partitiontest.Ledger, parent *engine.Parent, steps ...catalog.Step) string {
	t.Helper()
	id := uuid.Must(uuid.NewV7()).String()
	acceptAs(t, ledger, id, parent, catalog.DefinitionAgent{Type: catalog.AgentData, Config: json.RawMessage(`{}`)}, steps...)
	return id
}

// acceptAs is acceptChild under an id, and with the agent that all its steps have.
func acceptAs(t *testing.T, ledger *partitiontest.Ledger, id string, parent *engine.Parent, agent catalog.DefinitionAgent, steps ...catalog.Step) {
	t.Helper()
	agent.ID = uuid.NewString()
	for i := range steps {
		steps[i].StepKey, steps[i].AgentID, steps[i].OnError, steps[i].TimeoutMs = "s"+strings.Repeat("s", i), &agent.ID, catalog.OnErrorFail, 60_000
		if undo := steps[i].Compensate; undo != nil {
			undo.AgentID = agent.ID
		}
	}
	x := execution.Accepted{
		ID: id, Inputs: []byte(`{}`), CreatedAt: time.Now(), Parent: parent,
		Definition: catalog.Definition{Steps: steps, Agents: []catalog.DefinitionAgent{agent}},
	}
	if outcomes, _, err := ledger.Accept(t.Context(), []execution.Accepted{x}); err != nil || outcomes[0].Obsolete {
		t.Fatal(outcomes, err)
	}
}

func position(t *testing.T, ledger *partitiontest.Ledger, p int) partition.Position {
	t.Helper()
	positions, err := ledger.Positions(t.Context(), []int{p})
	if err != nil || len(positions) != 1 {
		t.Fatalf("positions %v, %v", positions, err)
	}
	return positions[0]
}

// The owner of a parent may die before it can say that a child is unwanted; the next owner of the child sends nothing of it all the same.
func TestAChildThatNobodyWaitsForSendsNothingAfterATakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger, server := partitiontest.NewLedger([]byte("a secret of the tests")), partitiontest.NewJetStream()
		parent := accept(t, ledger, catalog.Step{StepType: catalog.StepAgent})
		positions, err := ledger.Acquire(t.Context(), "dead", time.Second, subject.Partitions)
		if err != nil {
			t.Fatal(err)
		}
		put := func(id, status string, task engine.Task, cancels ...string) {
			t.Helper()
			p := subject.PartitionOf(id)
			if _, err := ledger.Commit(t.Context(), partition.Batch{
				Partitions: []partition.Advance{{P: p, Epoch: positions[slices.IndexFunc(positions, func(pos partition.Position) bool { return pos.P == p })].Epoch}},
				Executions: []partition.ExecutionRow{{ID: id, Status: status, LastInput: 10, StartedAt: 10}},
				Steps:      []partition.StepRow{{ExecutionID: id, P: p, Row: engine.Row{Task: task}}},
				Cancels:    cancels,
			}); err != nil {
				t.Fatal(err)
			}
		}
		put(parent, orchestrator.ExecutionRunning, engine.Task{Status: orchestrator.StepRunning, Attempt: 1, Token: "t"})
		child := acceptChild(t, ledger, &engine.Parent{ExecutionID: parent, StepKey: "s", Token: "t"}, catalog.Step{StepType: catalog.StepAgent})
		put(child, orchestrator.ExecutionRunning, engine.Task{Status: orchestrator.StepRunning, Attempt: 1, Token: "u", Dispatch: 1})
		put(parent, orchestrator.ExecutionCancelled, engine.Task{Status: orchestrator.StepCancelled, Attempt: 1, Token: "t", Child: child, CompletedAt: engine.TimeOf(time.Now())}, child)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- partition.NewOwner("o", ledger, server.Connect(), zerolog.Nop()).Run(ctx, make(chan struct{}))
		}()
		defer func() {
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()
		taking, enough := context.WithTimeout(ctx, 20*time.Second)
		defer enough()
		if d, err := server.Take(taking, "runner"); err == nil {
			t.Errorf("the step %s of %s was sent", d.StepKey, d.ExecutionID)
		}
	})
}
