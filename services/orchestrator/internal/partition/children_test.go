package partition_test

import (
	"context"
	"encoding/json"
	"slices"
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
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
	"turbocat.io/services/orchestrator/internal/partition/partitiontest"
)

// nursery accepts children, each with a step that no runner takes.
type nursery struct {
	t      *testing.T
	ledger *partitiontest.Ledger
}

func (n nursery) Begin(_ context.Context, c partition.Child) (bool, []byte, *runner.StepError, error) {
	acceptAs(n.t, n.ledger, c.ID, &c.Parent, catalog.DefinitionAgent{Type: catalog.AgentData, Config: json.RawMessage(`{}`)}, catalog.Step{StepType: catalog.StepAgent})
	return false, nil, nil, nil
}

// doomed ends its process with the commit of an execution's end.
type doomed struct {
	partitiontest.Store
	process *partitiontest.Process
	with    string // the execution
}

func (d *doomed) Commit(ctx context.Context, b partition.Batch) ([]partition.Control, error) {
	follow, err := d.Store.Commit(ctx, b)
	if err == nil && slices.ContainsFunc(b.Executions, func(x partition.ExecutionRow) bool { return x.ID == d.with && engine.Terminal(x.Status) }) {
		d.process.Kill()
	}
	return follow, err
}

// world has two owners, the first of which dies with the commit of an execution's end.
type world struct {
	ledger *partitiontest.Ledger
	server *partitiontest.JetStream
	doomed *doomed
}

// newWorld starts the owners and waits until each has half of the partitions. The test ends them.
func newWorld(t *testing.T) *world {
	ledger, server := partitiontest.NewLedger([]byte("a secret of the tests")), partitiontest.NewJetStream()
	none := func() partitiontest.Faults { return partitiontest.Faults{} }
	process := partitiontest.NewProcess("doomed", partitiontest.NewChance(1), none, none, func(partitiontest.Incident) {})
	w := &world{ledger, server, &doomed{Store: ledger, process: process}}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	children := partition.WithChildren(nursery{t, ledger})
	for _, o := range []*partition.Owner{
		partition.NewOwner("doomed", process.Ledger(w.doomed), process.Transport(server.Connect()), zerolog.Nop(), children),
		partition.NewOwner("other", ledger, server.Connect(), zerolog.Nop(), children),
	} {
		go func() { ended <- o.Run(ctx, make(chan struct{})) }()
	}
	t.Cleanup(func() {
		stop()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	<-time.After(10 * time.Second)
	return w
}

// begun accepts executions of a step with an agent, and gives them as they are once they run.
func (w *world) begun(t *testing.T, agent catalog.DefinitionAgent) []*engine.Execution {
	t.Helper()
	var ids []string
	for range 64 {
		id := uuid.Must(uuid.NewV7()).String()
		acceptAs(t, w.ledger, id, nil, agent, catalog.Step{StepType: catalog.StepAgent})
		ids = append(ids, id)
	}
	<-time.After(20 * time.Second) // the reconciler has them begin
	var begun []*engine.Execution
	for _, id := range ids {
		begun = append(begun, w.read(t, id))
	}
	return begun
}

func (w *world) read(t *testing.T, id string) *engine.Execution {
	t.Helper()
	loaded, err := w.ledger.Load(t.Context(), []string{id})
	if err != nil || len(loaded) != 1 {
		t.Fatalf("%d executions, %v", len(loaded), err)
	}
	return loaded[0].Execution
}

func (w *world) ownerOf(t *testing.T, id string) string {
	t.Helper()
	return position(t, w.ledger, subject.PartitionOf(id)).Owner
}

// cancel has an execution cancelled, with which its owner dies.
func (w *world) cancel(t *testing.T, id string) {
	t.Helper()
	w.doomed.with = id
	cancel := execution.Command{ID: uuid.NewString(), ExecutionID: id, Partition: subject.PartitionOf(id), Kind: execution.CommandCancel}
	if err := w.ledger.AddCommands(t.Context(), []execution.Command{cancel}); err != nil {
		t.Fatal(err)
	}
	control, err := cancel.Control()
	if err != nil {
		t.Fatal(err)
	}
	w.server.Connect().Append(control, func(err error) {
		if err != nil {
			t.Error(err)
		}
	})
	for !w.doomed.process.Dead() {
		<-time.After(time.Millisecond)
	}
}

// within waits until something holds, for as long as a cancel may take.
func within(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for begin := time.Now(); !holds(); <-time.After(10 * time.Millisecond) {
		if took := time.Since(begin); took > 2*time.Second {
			t.Fatalf("%v after its owner has died with the end, not yet: %s", took, what)
		}
	}
}

// The owner of a parent may die with the commit that cancels it, before it has said a word of that; the owner of the child, which lives, ends it
// within the time that a cancel may take all the same.
func TestTheCancelOfAChildOutlivesTheOwnerOfItsParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		parents := w.begun(t, catalog.DefinitionAgent{Type: catalog.AgentWorkflow, Config: json.RawMessage(`{"workflowId":"w"}`)})
		i := slices.IndexFunc(parents, func(x *engine.Execution) bool {
			return w.ownerOf(t, x.ID) == "doomed" && w.ownerOf(t, x.Steps[0].Child) == "other"
		})
		child := parents[i].Steps[0].Child
		w.cancel(t, parents[i].ID)
		within(t, "the child is cancelled", func() bool { return w.read(t, child).Status == orchestrator.ExecutionCancelled })
	})
}

// So may the owner of an attempt that a runner has, or that waits for one: another owner stops it.
func TestAStopOutlivesTheOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var mine []*engine.Execution
		for _, x := range w.begun(t, catalog.DefinitionAgent{Type: catalog.AgentData, Config: json.RawMessage(`{}`)}) {
			sent := slices.ContainsFunc(w.server.Steps(), func(d partitiontest.Delivery) bool { return d.ExecutionID == x.ID })
			if sent && w.ownerOf(t, x.ID) == "doomed" {
				mine = append(mine, x)
			}
		}
		x := mine[0]
		told := w.server.Cancelled(x.Steps[0].Token)
		w.cancel(t, x.ID)
		within(t, "runners are told, and the message is gone", func() bool {
			select {
			case <-told:
			default:
				return false
			}
			return !slices.ContainsFunc(w.server.Steps(), func(d partitiontest.Delivery) bool { return d.ExecutionID == x.ID })
		})
	})
}
