// Package telemetry is the service that keeps log lines, and the feeds of users: what happened, in one order, and sends it to webhooks.
//
// It owns execution_logs, feed and what belongs to it, rollups, which analytics are read from, webhooks with their deliveries, and stream LOGS with its consumer. It consumes the batches
// of lines that runners put there and the public events, and offers the RPC methods of contracts/telemetry. It emits feed.news and logs.news.
package telemetry

import (
	"context"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	contract "turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/guard"
	"turbocat.io/pkg/postgres/once"
	"turbocat.io/pkg/postgres/outbox"
	"turbocat.io/pkg/postgres/trail"
	"turbocat.io/pkg/postgres/weekly"
	"turbocat.io/pkg/seal"
	"turbocat.io/pkg/service"
	"turbocat.io/services/telemetry/internal/analytics"
	"turbocat.io/services/telemetry/internal/feed"
	"turbocat.io/services/telemetry/internal/logline"
	"turbocat.io/services/telemetry/internal/natsapi"
	"turbocat.io/services/telemetry/internal/postgres"
	"turbocat.io/services/telemetry/internal/webhook"
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
	tally  *natsapi.Feeder // into the rollups
	sweeps *analytics.Sweeper
	keeper *weekly.Keeper

	webhooks *webhook.Webhooks
	expander *webhook.Expander
	courier  *webhook.Courier
	relay    *outbox.Relay // of what the audit trail is told
	answers  *once.Answers
	log      zerolog.Logger
}

// New wires the service. It reads and writes nothing before Run.
func New(env service.Env, cfg Config) (*Service, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	store, feeds := postgres.NewLogs(env.DB), postgres.NewFeed(env.DB)
	server := bus.NewServer(contract.Service, env.Log)
	rollups := postgres.NewRollups(env.DB)
	intake := natsapi.NewIntake(env.Bus, logline.NewKeeper(store, env.Log, env.Metrics), bus.NewCopies(env.Replicas, env.Metrics, env.Log), env.Log, env.Metrics)
	env.Health.Add("logs", intake.Check)
	keys, err := seal.NewKeyring("webhooks", cfg.Keys)
	if err != nil {
		return nil, err
	}
	hooks := postgres.NewWebhooks(env.DB, feeds)
	sender := webhook.NewSender(guard.Config{Allow: cfg.AllowAddresses, Variable: allowVariable}, keys, env.Tracing, time.Now)
	courier := webhook.NewCourier(hooks, sender, env.Log, env.Metrics)
	expander := webhook.NewExpander(hooks, courier, env.Log)
	webhooks := webhook.New(hooks, sender, courier, keys, time.Now, env.Log, natsapi.Notify(env.Bus))
	natsapi.Register(server, store, feeds, feed.NewIntake(feeds, time.Now, func(userID string, end uint64) {
		expander.Heard([]string{userID})
		natsapi.Tell(env.Bus, env.Log, map[string]uint64{userID: end})
	}), analytics.NewMetrics(rollups, time.Now))
	answers := once.New(env.DB)
	natsapi.RegisterWebhooks(server, webhooks, answers)
	feeder := natsapi.NewFeeder(env.Bus, feeds, expander.Heard, env.Log, env.Metrics)
	tally := natsapi.NewTally(env.Bus, rollups, env.Log, env.Metrics)
	keeper := weekly.NewKeeper(store.Weeks(), store.Retention(cfg.LogRetention), env.Log, env.Metrics)
	return &Service{
		bus: env.Bus, server: server, intake: intake, feeder: feeder, tally: tally, sweeps: analytics.NewSweeper(rollups, cfg.AnalyticsRetention, time.Now, env.Log), keeper: keeper, webhooks: webhooks, expander: expander, courier: courier,
		relay: outbox.NewRelay(env.DB, env.Bus, contract.Service, env.Log, env.Metrics, trail.Route(env.Bus, contract.Service)), answers: answers, log: env.Log,
	}, nil
}

// Run takes log lines and events in, sends webhooks and answers requests until ctx ends, then finishes what is in work.
func (s *Service) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.server.Run(ctx, s.bus) })
	for _, run := range []func(context.Context){
		s.intake.Run, s.feeder.Run, s.tally.Run, s.sweeps.Run, s.keeper.Run, s.expander.Run, s.courier.Run, s.webhooks.Tend, s.relay.Run,
		func(ctx context.Context) { s.answers.Run(ctx, s.log) },
	} {
		group.Go(func() error {
			run(ctx)
			return nil
		})
	}
	return group.Wait()
}
