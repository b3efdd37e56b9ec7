package partition_test

import (
	"context"
	"encoding/json"
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

// A signal that stands twice in the log, as by its sender and by the reconciler, stays kept until a step takes it, also
// for an owner that takes over in between.
func TestASignalThatComesTwiceIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger, server := partitiontest.NewLedger([]byte("a secret of the tests")), partitiontest.NewJetStream()
		connection := server.Connect()
		work := func(name string, what func()) {
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() {
				ended <- partition.NewOwner(name, ledger, connection, zerolog.Nop()).Run(ctx, make(chan struct{}))
			}()
			<-time.After(3 * time.Second)
			what()
			<-time.After(3 * time.Second)
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		id := accept(t, ledger, catalog.Step{StepType: catalog.StepAgent}, catalog.Step{
			StepType: catalog.StepWait, DependsOn: []string{"s"}, Config: json.RawMessage(`{"signal":"go"}`),
		})
		signal := orchestrator.Signal{Name: "go", Payload: json.RawMessage(`7`)}
		body, err := json.Marshal(signal)
		if err != nil {
			t.Fatal(err)
		}
		c := execution.Command{ID: uuid.NewString(), ExecutionID: id, Partition: subject.PartitionOf(id), Kind: execution.CommandSignal, Name: "go", Signal: body}
		if _, err := ledger.AddSignal(t.Context(), c, nil, func(execution.Standing) error { return nil }); err != nil {
			t.Fatal(err)
		}
		control := partition.Control{P: c.Partition, Kind: engine.Signaled, ExecutionID: id, CommandID: c.ID, Signal: &signal}
		for _, name := range []string{"a", "b"} {
			work(name, func() { connection.Append(control, func(error) {}) })
		}
		work("c", func() {
			d, err := server.Take(t.Context(), "runner")
			if err != nil {
				t.Fatal(err)
			}
			in := engine.Input{Kind: engine.StepCompleted, Step: d.StepKey, Token: d.Token, Output: json.RawMessage(`1`)}
			if err := server.Put(c.Partition, partition.Message{ExecutionID: id, Input: in}); err != nil {
				t.Fatal(err)
			}
		})
		loaded, err := ledger.Load(t.Context(), []string{id})
		if err != nil || len(loaded) != 1 {
			t.Fatalf("loaded %v, %v", loaded, err)
		}
		if x := loaded[0].Execution; x.Status != orchestrator.ExecutionCompleted || string(x.Steps[1].Output) != "7" {
			t.Errorf("%s, the step is %s with %s", x.Status, x.Steps[1].Status, x.Steps[1].Output)
		}
	})
}
