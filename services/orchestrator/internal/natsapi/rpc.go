package natsapi

import (
	"context"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/orchestrator/internal/execution"
)

// Register lets the service answer the methods of contracts/orchestrator.
func Register(server *bus.Server, s *execution.Service) {
	bus.Handle(server, orchestrator.Submit, s.Submit)
	bus.Handle(server, orchestrator.GetExecution, s.Get)
	bus.Handle(server, orchestrator.ListExecution, s.List)
	bus.Handle(server, orchestrator.Cancel, s.Cancel)
	bus.Handle(server, orchestrator.Pause, s.Pause)
	bus.Handle(server, orchestrator.Resume, s.Resume)
	bus.Handle(server, orchestrator.SendSignal, s.SendSignal)
	bus.Handle(server, orchestrator.Retry, s.Retry)
	bus.Handle(server, orchestrator.Rerun, s.Rerun)
	bus.Handle(server, orchestrator.Bulk, s.Bulk)
	bus.Handle(server, orchestrator.Explain, s.Explain)
	bus.Handle(server, orchestrator.ListEvents, s.Events)
	bus.Handle(server, orchestrator.AttemptAwaited, s.AttemptAwaited)
}

// Catalog asks the catalog service; it implements execution.Catalog.
type Catalog struct{ Conn *bus.Conn }

// Resolve implements execution.Catalog.
func (c Catalog) Resolve(ctx context.Context, caller rpc.Caller, workflowID string) (catalog.Definition, error) {
	return bus.Call(ctx, c.Conn, catalog.ResolveDefinition, caller, catalog.IDRequest{ID: workflowID})
}
