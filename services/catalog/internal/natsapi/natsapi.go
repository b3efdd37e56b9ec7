// Package natsapi answers the catalog's methods on the bus.
package natsapi

import (
	"turbocat.io/contracts/catalog"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/postgres/once"
	"turbocat.io/services/catalog/internal/agent"
	"turbocat.io/services/catalog/internal/template"
	"turbocat.io/services/catalog/internal/workflow"
)

// Register adds every method of the catalog to the server. Those that create give their first answer again by its Idempotency-Key.
func Register(s *bus.Server, agents *agent.Agents, workflows *workflow.Workflows, templates *template.Templates, answers *once.Answers) {
	bus.Handle(s, catalog.CreateAgent, once.Do(answers, catalog.CreateAgent.Name, agents.Create))
	bus.Handle(s, catalog.GetAgent, agents.Get)
	bus.Handle(s, catalog.ListAgents, agents.List)
	bus.Handle(s, catalog.PatchAgent, agents.Patch)
	bus.Handle(s, catalog.DeleteAgent, agents.Delete)
	bus.Handle(s, catalog.DuplicateAgent, once.Do(answers, catalog.DuplicateAgent.Name, agents.Duplicate))
	bus.Handle(s, catalog.ListAgentVersions, agents.Versions)
	bus.Handle(s, catalog.GetAgentVersion, agents.Version)
	bus.Handle(s, catalog.CreateWorkflow, once.Do(answers, catalog.CreateWorkflow.Name, workflows.Create))
	bus.Handle(s, catalog.GetWorkflow, workflows.Get)
	bus.Handle(s, catalog.ListWorkflows, workflows.List)
	bus.Handle(s, catalog.PatchWorkflow, workflows.Patch)
	bus.Handle(s, catalog.DeleteWorkflow, workflows.Delete)
	bus.Handle(s, catalog.DuplicateWorkflow, once.Do(answers, catalog.DuplicateWorkflow.Name, workflows.Duplicate))
	bus.Handle(s, catalog.ValidateWorkflow, workflows.Validate)
	bus.Handle(s, catalog.ListWorkflowVersions, workflows.Versions)
	bus.Handle(s, catalog.GetWorkflowVersion, workflows.Version)
	bus.Handle(s, catalog.DiffWorkflow, workflows.Diff)
	bus.Handle(s, catalog.ResolveDefinition, workflows.Resolve)
	bus.Handle(s, catalog.NoteSchedules, workflows.NoteSchedules)
	bus.Handle(s, catalog.ExportWorkflow, templates.Export)
	bus.Handle(s, catalog.ImportWorkflow, once.Do(answers, catalog.ImportWorkflow.Name, templates.Import))
	bus.Handle(s, catalog.ListTemplates, templates.List)
	bus.Handle(s, catalog.TemplateCategories, templates.Categories)
	bus.Handle(s, catalog.GetTemplate, templates.Get)
	bus.Handle(s, catalog.CreateTemplate, once.Do(answers, catalog.CreateTemplate.Name, templates.Create))
	bus.Handle(s, catalog.PatchTemplate, templates.Patch)
	bus.Handle(s, catalog.DeleteTemplate, templates.Delete)
	bus.Handle(s, catalog.RateTemplate, templates.Rate)
	bus.Handle(s, catalog.InstantiateTemplate, once.Do(answers, catalog.InstantiateTemplate.Name, templates.Instantiate))
}
