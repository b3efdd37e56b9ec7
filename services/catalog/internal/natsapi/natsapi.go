// Package natsapi answers the catalog's methods on the bus.
package natsapi

import (
	"turbocat.io/contracts/catalog"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/catalog/internal/agent"
	"turbocat.io/services/catalog/internal/workflow"
)

// Register adds every method of the catalog to the server.
func Register(s *bus.Server, agents *agent.Agents, workflows *workflow.Workflows) {
	bus.Handle(s, catalog.CreateAgent, agents.Create)
	bus.Handle(s, catalog.GetAgent, agents.Get)
	bus.Handle(s, catalog.ListAgents, agents.List)
	bus.Handle(s, catalog.PatchAgent, agents.Patch)
	bus.Handle(s, catalog.DeleteAgent, agents.Delete)
	bus.Handle(s, catalog.CreateWorkflow, workflows.Create)
	bus.Handle(s, catalog.GetWorkflow, workflows.Get)
	bus.Handle(s, catalog.ListWorkflows, workflows.List)
	bus.Handle(s, catalog.PatchWorkflow, workflows.Patch)
	bus.Handle(s, catalog.DeleteWorkflow, workflows.Delete)
	bus.Handle(s, catalog.ResolveDefinition, workflows.Resolve)
}
