package natsapi

import (
	"context"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/postgres/once"
	"turbocat.io/services/orchestrator/internal/calls"
	"turbocat.io/services/orchestrator/internal/deadletter"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/inbound"
	"turbocat.io/services/orchestrator/internal/schedule"
	"turbocat.io/services/orchestrator/internal/trigger"
)

// Register lets the services answer the methods of contracts/orchestrator; leases reads the lease table.
func Register(server *bus.Server, s *execution.Service, c *calls.Service, d *deadletter.Service, leases func(context.Context) ([]orchestrator.Lease, error)) {
	bus.Handle(server, orchestrator.Submit, s.Submit)
	bus.Handle(server, orchestrator.GetExecution, s.Get)
	bus.Handle(server, orchestrator.ListExecution, s.List)
	bus.Handle(server, orchestrator.Cancel, s.Cancel)
	bus.Handle(server, orchestrator.Pause, s.Pause)
	bus.Handle(server, orchestrator.Resume, s.Resume)
	bus.Handle(server, orchestrator.SendSignal, s.SendSignal)
	bus.Handle(server, orchestrator.Retry, s.Retry)
	bus.Handle(server, orchestrator.Rerun, s.Rerun)
	bus.Handle(server, orchestrator.Replay, s.Replay)
	bus.Handle(server, orchestrator.Bulk, s.Bulk)
	bus.Handle(server, orchestrator.Explain, s.Explain)
	bus.Handle(server, orchestrator.ListEvents, s.Events)
	bus.Handle(server, orchestrator.PartitionEvents, s.PartitionEvents)
	bus.Handle(server, orchestrator.ListLeases, func(ctx context.Context, caller rpc.Caller, _ rpc.Empty) (orchestrator.LeaseTable, error) {
		if !caller.IsAdmin() {
			return orchestrator.LeaseTable{}, errs.New(errs.Forbidden, "only an ADMIN may see the leases; ask one")
		}
		all, err := leases(ctx)
		return orchestrator.LeaseTable{Leases: all}, err
	})
	bus.Handle(server, orchestrator.EventNumbers, s.EventNumbers)
	bus.Handle(server, orchestrator.AttemptAwaited, s.AttemptAwaited)
	bus.Handle(server, orchestrator.AttemptBody, s.AttemptBody)
	bus.Handle(server, orchestrator.GrantKey, s.GrantKey)
	bus.Handle(server, orchestrator.StorePayload, s.StorePayload)
	bus.Handle(server, orchestrator.ListCalls, c.List)
	bus.Handle(server, orchestrator.SettledCalls, c.Settled)
	bus.Handle(server, orchestrator.DecideBudget, c.Decide)
	bus.Handle(server, orchestrator.BeginCall, c.Begin)
	bus.Handle(server, orchestrator.EndCall, c.End)
	bus.Handle(server, orchestrator.CallAgent, c.CallAgent)
	bus.Handle(server, orchestrator.AwaitAgent, c.AwaitAgent)
	bus.Handle(server, orchestrator.Recall, c.Recall)
	bus.Handle(server, orchestrator.Remember, c.Remember)
	bus.Handle(server, orchestrator.ListDeadLetters, d.List)
	bus.Handle(server, orchestrator.GetDeadLetter, d.Get)
	bus.Handle(server, orchestrator.CountDeadLetters, d.Count)
	bus.Handle(server, orchestrator.ReplayDeadLetter, d.Replay)
}

// RegisterTriggers lets the services answer the methods of triggers.
func RegisterTriggers(server *bus.Server, t *trigger.Triggers, s *schedule.Schedules, r *inbound.Receiver, answers *once.Answers) {
	bus.Handle(server, orchestrator.CreateTrigger, once.Shown(answers, orchestrator.CreateTrigger.Name, t.Create, func(t orchestrator.IssuedTrigger) error {
		if t.Type == orchestrator.TriggerTypeWebhook {
			return shown(t)
		}
		return nil
	}))
	bus.Handle(server, orchestrator.GetTrigger, t.Get)
	bus.Handle(server, orchestrator.ListTriggers, t.List)
	bus.Handle(server, orchestrator.PatchTrigger, t.Patch)
	bus.Handle(server, orchestrator.DeleteTrigger, t.Delete)
	bus.Handle(server, orchestrator.PreviewSchedule, s.Preview)
	bus.Handle(server, orchestrator.ListSkips, s.Skips)
	bus.Handle(server, orchestrator.RotateTrigger, once.Shown(answers, orchestrator.RotateTrigger.Name, r.Rotate, shown))
	bus.Handle(server, orchestrator.ListTriggerDeliveries, r.Deliveries)
	bus.Handle(server, orchestrator.ReceiveHook, r.Receive)
}

// shown says what to do when a secret was shown before.
func shown(t orchestrator.IssuedTrigger) error {
	if t.Secret != "" {
		return nil
	}
	return errs.New(errs.Conflict, "the request was answered before, with a secret that is shown once; its trigger is %s: give it a new secret by POST .../triggers/%s/rotate", t.ID, t.ID)
}

// Catalog asks the catalog service; it implements execution.Catalog and trigger.Catalog.
type Catalog struct{ Conn *bus.Conn }

// Resolve implements execution.Catalog.
func (c Catalog) Resolve(ctx context.Context, caller rpc.Caller, req catalog.ResolveRequest) (catalog.Resolution, error) {
	return bus.Call(ctx, c.Conn, catalog.ResolveDefinition, caller, req)
}

// Workflow implements trigger.Catalog.
func (c Catalog) Workflow(ctx context.Context, caller rpc.Caller, id string) (catalog.Workflow, error) {
	return bus.Call(ctx, c.Conn, catalog.GetWorkflow, caller, catalog.IDRequest{ID: id})
}
