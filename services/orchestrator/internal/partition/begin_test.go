package partition_test

import (
	"context"
	"encoding/json"
	"errors"
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
	agent := uuid.NewString()
	for i := range steps {
		steps[i].StepKey, steps[i].AgentID, steps[i].OnError, steps[i].TimeoutMs = "s"+strings.Repeat("s", i), &agent, catalog.OnErrorFail, 60_000
	}
	x := execution.Accepted{
		ID: uuid.Must(uuid.NewV7()).String(), Inputs: []byte(`{}`), CreatedAt: time.Now(),
		Definition: catalog.Definition{
			Steps:  steps,
			Agents: []catalog.DefinitionAgent{{ID: agent, Type: catalog.AgentData, Config: json.RawMessage(`{}`)}},
		},
	}
	if _, err := ledger.Accept(t.Context(), []execution.Accepted{x}); err != nil {
		t.Fatal(err)
	}
	return x.ID
}

func position(t *testing.T, ledger *partitiontest.Ledger, p int) partition.Position {
	t.Helper()
	positions, err := ledger.Positions(t.Context(), []int{p})
	if err != nil || len(positions) != 1 {
		t.Fatalf("positions %v, %v", positions, err)
	}
	return positions[0]
}
