// Package telemetry is the service that keeps log lines, and the feeds of users: what happened, in one order.
//
// It owns execution_logs, feed and what belongs to it, and stream LOGS with its consumer. It consumes the batches of lines
// that runners put there and the public events, and offers the RPC methods of contracts/telemetry. It emits feed.news.
package telemetry

import (
	"context"

	"golang.org/x/sync/errgroup"

	contract "turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/postgres/weekly"
	"turbocat.io/pkg/service"
	"turbocat.io/services/telemetry/internal/logline"
	"turbocat.io/services/telemetry/internal/natsapi"
	"turbocat.io/services/telemetry/internal/postgres"
)

// Spec describes the service.
func Spec() service.Spec[Config] {
	return service.Spec[Config]{
		Name: contract.Service, Database: true, Streams: true,
		New: func(env service.Env, cfg Config) (service.Service, error) { return New(env, cfg) },
	}
}

// Service is the wired telemetry service.
type Service struct {
	bus    *bus.Conn
	server *bus.Server
	intake *natsapi.Intake
	feeder *natsapi.Feeder
	keeper *weekly.Keeper
}

// New wires the service. It reads and writes nothing before Run.
func New(env service.Env, cfg Config) (*Service, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	store, feeds := postgres.NewLogs(env.DB), postgres.NewFeed(env.DB)
	server := bus.NewServer(contract.Service, env.Log)
	natsapi.Register(server, store, feeds)
	intake := natsapi.NewIntake(env.Bus, logline.NewKeeper(store, env.Log, env.Metrics), bus.NewCopies(env.Replicas, env.Metrics, env.Log), env.Log, env.Metrics)
	env.Health.Add("logs", intake.Check)
	feeder := natsapi.NewFeeder(env.Bus, feeds, env.Log, env.Metrics)
	keeper := weekly.NewKeeper(store.Weeks(), store.Retention(cfg.LogRetention), env.Log, env.Metrics)
	return &Service{bus: env.Bus, server: server, intake: intake, feeder: feeder, keeper: keeper}, nil
}

// Run takes log lines in and answers requests until ctx ends, then finishes what is in work.
func (s *Service) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.server.Run(ctx, s.bus) })
	group.Go(func() error {
		s.intake.Run(ctx)
		return nil
	})
	group.Go(func() error {
		s.feeder.Run(ctx)
		return nil
	})
	group.Go(func() error {
		s.keeper.Run(ctx)
		return nil
	})
	return group.Wait()
}
