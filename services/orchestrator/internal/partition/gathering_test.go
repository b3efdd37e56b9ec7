package partition_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
	"turbocat.io/services/orchestrator/internal/partition/partitiontest"
)

// unready does not read items at first, and then loses what was put together of them.
type unready struct {
	partitiontest.Store
	partition.Transport
	reads, losses atomic.Int64
}

func (u *unready) ItemOutputs(ctx context.Context, id string, step, limit int) ([]engine.ItemOutput, error) {
	if u.reads.Add(-1) >= 0 {
		return nil, errors.New("not now")
	}
	return u.Store.ItemOutputs(ctx, id, step, limit)
}

func (u *unready) Append(c partition.Control, done func(error)) {
	if c.Kind == engine.Gathered {
		if u.losses.Add(-1) >= 0 {
			done(errors.New("lost"))
			return
		}
	}
	u.Transport.Append(c, done)
}

// The outputs of items are read and put into the log until the step has ended, also by an owner that takes over in between.
func TestAStepIsGatheredUntilItHasEnded(t *testing.T) {
	for _, takenOver := range []bool{false, true} {
		t.Run(fmt.Sprintf("taken over %t", takenOver), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { gather(t, takenOver) }) })
	}
}

func gather(t *testing.T, takenOver bool) {
	ledger, server := partitiontest.NewLedger([]byte("a secret of the tests")), partitiontest.NewJetStream()
	u := &unready{Store: ledger, Transport: server.Connect()}
	u.reads.Store(2)
	u.losses.Store(1)
	run := func(name string) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- partition.NewOwner(name, u, u, zerolog.Nop()).Run(ctx, make(chan struct{})) }()
		return func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	stop := run("a")
	id := accept(t, ledger, catalog.Step{StepType: catalog.StepLoop, Config: json.RawMessage(`{"forEach":["x","y","z"],"concurrency":2}`), Inputs: json.RawMessage(`{"of":"{{item}}"}`)})
	p := subject.PartitionOf(id)
	<-time.After(3 * time.Second)
	u.Append(partition.Control{P: p, Kind: engine.Submitted, ExecutionID: id}, func(error) {})
	for range 3 {
		d, err := server.Take(t.Context(), "runner")
		if err != nil {
			t.Fatal(err)
		}
		in := engine.Input{Kind: engine.StepCompleted, Step: d.StepKey, Iteration: d.Iteration, Token: d.Token, Output: fmt.Appendf(nil, "%d", 10*d.Iteration)}
		if err := server.Put(p, partition.Message{ExecutionID: id, Input: in}); err != nil {
			t.Fatal(err)
		}
	}
	state := func() *engine.Execution {
		loaded, err := ledger.Load(t.Context(), []string{id})
		if err != nil || len(loaded) != 1 {
			t.Fatalf("loaded %v, %v", loaded, err)
		}
		return loaded[0].Execution
	}
	<-time.After(3 * time.Second)
	if x := state(); x.Status != orchestrator.ExecutionRunning || x.Steps[0].Begun != 3 || x.Steps[0].Completed != 3 || !x.Gathers(0) {
		t.Fatalf("%s, %+v", x.Status, x.Steps[0])
	}
	if takenOver {
		stop()
		stop = run("b")
	}
	<-time.After(20 * time.Second)
	stop()
	if x := state(); x.Status != orchestrator.ExecutionCompleted || string(x.Steps[0].Output) != "[10,20,30]" || u.losses.Load() >= 0 {
		t.Errorf("%s, %s", x.Status, x.Steps[0].Output)
	}
}
