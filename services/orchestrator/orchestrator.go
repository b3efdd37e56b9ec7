// Package orchestrator is the service that runs executions.
//
// It owns the ledger (executions, steps, events, partitions) and the streams
// EXECUTION_INPUT, STEPS and EVENTS. It consumes the inputs of the partitions it holds,
// offers the RPC methods of contracts/orchestrator, sends ready steps to runners, and
// publishes the public events of executions.
package orchestrator

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/service"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/natsapi"
	"turbocat.io/services/orchestrator/internal/partition"
	"turbocat.io/services/orchestrator/internal/postgres"
)

// Spec describes the service to whatever starts it.
func Spec() service.Spec[Config] {
	return service.Spec[Config]{Name: contract.Service, Database: true, Streams: true, New: New}
}

// Service is the wired orchestrator.
type Service struct {
	bus      *bus.Conn
	server   *bus.Server
	acceptor *execution.Acceptor
	owner    *partition.Owner
}

// New wires the service. It takes no partition before Run.
func New(env service.Env, cfg Config) (service.Service, error) {
	store := postgres.New(env.DB)
	transport, err := natsapi.NewTransport(env.Bus.NATS(), natsapi.Limits{
		ExecutionInputBytes: cfg.ExecutionInputBytes, StepsBytes: cfg.StepsBytes, EventsBytes: cfg.EventsBytes, EventsAge: cfg.EventsAge, Replicas: cfg.Replicas,
	}, env.Log)
	if err != nil {
		return nil, err
	}
	acceptor := execution.NewAcceptor(store, transport, natsapi.Catalog{Conn: env.Bus}, env.Log, execution.WithMetrics(env.Metrics))
	s := &Service{
		bus: env.Bus, server: bus.NewServer(contract.Service, env.Log), acceptor: acceptor,
		owner: partition.NewOwner(uuid.NewString(), store, transport, env.Log,
			partition.WithMetrics(env.Metrics), partition.WithChildren(execution.Children{Acceptor: acceptor})),
	}
	natsapi.Register(s.server, execution.NewService(s.acceptor, store, transport))
	env.Health.AddProbe("partitions", func(ctx context.Context) error {
		orphans, err := store.Orphans(ctx)
		if err != nil {
			return err
		}
		if held, caughtUp := s.owner.Ready(); orphans > 0 || !caughtUp {
			return fmt.Errorf("%d partitions have no owner; this instance holds %d, caught up: %t; they are taken over within seconds", orphans, held, caughtUp)
		}
		return nil
	})
	return s, nil
}

// Run answers and applies until ctx ends; then it answers no more, and after that hands its partitions over.
func (s *Service) Run(ctx context.Context) error {
	reconnected, forget := s.bus.OnReconnect()
	defer forget()
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var group errgroup.Group
	group.Go(func() error { return s.acceptor.Run(working) })
	group.Go(func() error { return s.owner.Run(working, reconnected) })
	err := s.server.Run(ctx, s.bus)
	stop()
	if werr := group.Wait(); err == nil {
		err = werr
	}
	return err
}
