package partition_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
	"turbocat.io/services/orchestrator/internal/partition/partitiontest"
)

// run has an owner run, until the test ends.
func run(t *testing.T, ledger *partitiontest.Ledger, server *partitiontest.JetStream, options ...partition.Option) {
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- partition.NewOwner("a", ledger, server.Connect(), zerolog.Nop(), options...).Run(ctx, make(chan struct{}))
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	<-time.After(3 * time.Second)
}

func put(t *testing.T, server *partitiontest.JetStream, id string, in engine.Input) {
	t.Helper()
	if err := server.Put(subject.PartitionOf(id), partition.Message{ExecutionID: id, Input: in}); err != nil {
		t.Fatal(err)
	}
	<-time.After(time.Second)
}

// complete gives the result of the step that is ready.
func complete(t *testing.T, server *partitiontest.JetStream, output []byte) {
	t.Helper()
	d, err := server.Take(t.Context(), "runner")
	if err != nil {
		t.Fatal(err)
	}
	put(t, server, d.ExecutionID, engine.Input{Kind: engine.StepCompleted, Step: d.StepKey, Token: d.Token, Output: output})
}

func state(t *testing.T, ledger *partitiontest.Ledger, id string) *engine.Execution {
	t.Helper()
	loaded, err := ledger.Load(t.Context(), []string{id})
	if err != nil || len(loaded) != 1 {
		t.Fatalf("loaded %v, %v", loaded, err)
	}
	return loaded[0].Execution
}

func store(t *testing.T, ledger *partitiontest.Ledger, id, payload string) []byte {
	t.Helper()
	ref, err := ledger.StorePayload(t.Context(), id, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return ref.Payload()
}

// asked counts how often it is asked for children.
type asked struct {
	nursery
	times atomic.Int64
}

func (a *asked) Begin(ctx context.Context, c partition.Child) (bool, []byte, *runner.StepError, error) {
	if a.times.Add(1); a.times.Load() > 1 {
		return false, nil, nil, nil
	}
	return a.nursery.Begin(ctx, c)
}

// Who waits for an execution with large outputs is told by its owner, and need not ask for it again.
func TestALargeEndIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger, server := partitiontest.NewLedger([]byte("a secret of the tests")), partitiontest.NewJetStream()
		children := &asked{nursery: nursery{t, ledger}}
		run(t, ledger, server, partition.WithChildren(children))
		id := uuid.Must(uuid.NewV7()).String()
		acceptAs(t, ledger, id, nil, catalog.DefinitionAgent{Type: catalog.AgentWorkflow, Config: json.RawMessage(`{"workflowId":"w"}`)}, catalog.Step{StepType: catalog.StepAgent})
		put(t, server, id, engine.Input{Kind: engine.Submitted})
		child := state(t, ledger, id).Steps[0].Child
		put(t, server, child, engine.Input{Kind: engine.Submitted})
		output := `"` + strings.Repeat("x", runner.MaxInline) + `"`
		complete(t, server, store(t, ledger, child, output))
		x := state(t, ledger, id)
		if x.Status != orchestrator.ExecutionCompleted || children.times.Load() != 1 {
			t.Fatalf("%s after %d questions", x.Status, children.times.Load())
		}
		ref, _ := runner.ReferenceOf(x.Steps[0].Output)
		if got, err := ledger.Payload(t.Context(), id, ref); err != nil || string(got) != `{"s":`+output+`}` {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

// An execution whose payload is nowhere fails, also when what it has done is undone by that payload; it holds up nobody.
func TestAPayloadThatIsNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger, server := partitiontest.NewLedger([]byte("a secret of the tests")), partitiontest.NewJetStream()
		run(t, ledger, server)
		undo := catalog.Compensate{Inputs: json.RawMessage(`{"all":"{{s.output}}"}`), TimeoutMs: 60_000}
		steps := []catalog.Step{{StepType: catalog.StepAgent, Compensate: &undo}, {StepType: catalog.StepAgent, DependsOn: []string{"s"}}, {
			StepType: catalog.StepCondition, DependsOn: []string{"s", "ss"}, Config: json.RawMessage(`{"expression":"s.output == 'x'"}`),
		}}
		id := accept(t, ledger, steps...)
		put(t, server, id, engine.Input{Kind: engine.Submitted})
		payload := `"` + strings.Repeat("x", runner.MaxInline) + `"`
		complete(t, server, store(t, ledger, id, payload))
		ledger.ForgetPayload(partition.PayloadID{ExecutionID: id, Reference: runner.ReferTo([]byte(payload))})
		complete(t, server, []byte("1"))
		<-time.After(10 * time.Second)
		if x := state(t, ledger, id); x.Status != orchestrator.ExecutionFailed || x.Error.Code != runner.CodeEngineFault {
			t.Errorf("%s, %v", x.Status, x.Error)
		}
	})
}
