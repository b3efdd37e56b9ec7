// Package catalog is the service that owns agents, workflows and their immutable versions.
//
// It offers the RPC methods of contracts/catalog: reading and changing agents and workflows,
// checked in full at save, and the definition that an execution runs. It consumes and
// publishes no events.
package catalog

import (
	"context"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	contract "turbocat.io/contracts/catalog"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/postgres/once"
	"turbocat.io/pkg/postgres/outbox"
	"turbocat.io/pkg/postgres/trail"
	"turbocat.io/pkg/service"
	"turbocat.io/services/catalog/internal/agent"
	"turbocat.io/services/catalog/internal/natsapi"
	"turbocat.io/services/catalog/internal/postgres"
	"turbocat.io/services/catalog/internal/template"
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
	relay  *outbox.Relay

	answers   *once.Answers
	templates *template.Templates
	log       zerolog.Logger
}

// New wires the service. It reads and writes nothing before Run.
func New(env service.Env, _ Config) (service.Service, error) {
	schemas, err := agent.LoadSchemas()
	if err != nil {
		return nil, err
	}
	agents, store := postgres.NewAgents(env.DB), postgres.NewWorkflows(env.DB)
	workflows := workflow.NewWorkflows(store, agents, time.Now)
	templates := template.New(postgres.NewTemplates(env.DB, agents, store), workflows, agents, schemas, time.Now)
	answers := once.New(env.DB)
	server := bus.NewServer(contract.Service, env.Log)
	natsapi.Register(server,
		agent.NewAgents(agents, schemas, time.Now),
		workflows,
		templates,
		answers,
	)
	return &Service{
		bus: env.Bus, server: server, relay: outbox.NewRelay(env.DB, env.Bus, contract.Service, env.Log, env.Metrics, trail.Route(env.Bus, contract.Service)), answers: answers, templates: templates, log: env.Log,
	}, nil
}

// Run answers requests until ctx ends, then finishes those in work.
func (s *Service) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.server.Run(ctx, s.bus) })
	group.Go(func() error {
		s.relay.Run(ctx)
		return nil
	})
	group.Go(func() error {
		s.answers.Run(ctx, s.log)
		return nil
	})
	group.Go(func() error {
		s.keepOfficial(ctx)
		return nil
	})
	return group.Wait()
}

// keepOfficial saves the official templates of this release, as soon as there is a database.
func (s *Service) keepOfficial(ctx context.Context) {
	for {
		err := s.templates.KeepOfficial(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		s.log.Warn().Err(err).Msg("the official templates are not saved yet; trying again")
		select {
		case <-ctx.Done():
			return
		case <-time.After(5 * time.Second):
		}
	}
}
