// Package catalog is the service that owns agents, workflows and their immutable versions.
//
// It offers the RPC methods of contracts/catalog: reading and changing agents and workflows,
// checked in full at save, and the definition that an execution runs. It consumes and
// publishes no events.
package catalog

import (
	"context"
	"time"

	contract "turbocat.io/contracts/catalog"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/service"
	"turbocat.io/services/catalog/internal/agent"
	"turbocat.io/services/catalog/internal/natsapi"
	"turbocat.io/services/catalog/internal/postgres"
	"turbocat.io/services/catalog/internal/workflow"
)

// Spec describes the service to whatever starts it.
func Spec() service.Spec[Config] {
	return service.Spec[Config]{Name: contract.Service, Database: true, New: New}
}

// Service is the wired catalog.
type Service struct {
	bus    *bus.Conn
	server *bus.Server
}

// New wires the service. It reads and writes nothing before Run.
func New(env service.Env, _ Config) (service.Service, error) {
	schemas, err := agent.LoadSchemas()
	if err != nil {
		return nil, err
	}
	agents := postgres.NewAgents(env.DB)
	server := bus.NewServer(contract.Service, env.Log)
	natsapi.Register(server,
		agent.NewAgents(agents, schemas, time.Now),
		workflow.NewWorkflows(postgres.NewWorkflows(env.DB), agents, time.Now),
	)
	return &Service{bus: env.Bus, server: server}, nil
}

// Run answers requests until ctx ends, then finishes those in work.
func (s *Service) Run(ctx context.Context) error { return s.server.Run(ctx, s.bus) }
