// Package orchestrator is the service that runs executions.
//
// It owns the ledger (executions, steps, events, partitions), the calls of LLM steps and what they use, the triggers, and the streams
// EXECUTION_INPUT, STEPS and EVENTS. It consumes the inputs of the partitions it holds,
// offers the RPC methods of contracts/orchestrator, sends ready steps to runners, and
// publishes the public events of executions.
package orchestrator

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/postgres/once"
	"turbocat.io/pkg/postgres/outbox"
	"turbocat.io/pkg/postgres/trail"
	"turbocat.io/pkg/postgres/weekly"
	"turbocat.io/pkg/seal"
	"turbocat.io/pkg/service"
	"turbocat.io/services/orchestrator/internal/backlog"
	"turbocat.io/services/orchestrator/internal/calls"
	"turbocat.io/services/orchestrator/internal/deadletter"
	"turbocat.io/services/orchestrator/internal/dealing"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/inbound"
	"turbocat.io/services/orchestrator/internal/natsapi"
	"turbocat.io/services/orchestrator/internal/partition"
	"turbocat.io/services/orchestrator/internal/postgres"
	"turbocat.io/services/orchestrator/internal/schedule"
	"turbocat.io/services/orchestrator/internal/trigger"
)

// Spec describes the service to whatever starts it.
func Spec() service.Spec[Config] {
	return service.Spec[Config]{Name: contract.Service, Database: true, Writer: postgres.ByKey, Streams: true, New: New}
}

// Service is the wired orchestrator.
type Service struct {
	bus       *bus.Conn
	server    *bus.Server
	acceptor  *execution.Acceptor
	owner     *partition.Owner
	transport *natsapi.Transport
	keeper    *weekly.Keeper
	firer     *schedule.Firer
	receiver  *inbound.Receiver
	watcher   *inbound.Watcher
	backlog   *backlog.Watch
	dealer    *dealing.Dealer
	relay     *outbox.Relay // of what the audit trail and the catalog are told
	answers   *once.Answers
	calls     *calls.Service
	log       zerolog.Logger
}

// New wires the service. It takes no partition before Run.
func New(env service.Env, cfg Config) (service.Service, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	keys, err := seal.NewKeyring("triggers", cfg.Keys)
	if err != nil {
		return nil, err
	}
	store := postgres.New(env.DB, env.Writer)
	transport, err := natsapi.NewTransport(env.Bus.NATS(), natsapi.Limits{
		ExecutionInputBytes: cfg.ExecutionInputBytes, StepsBytes: cfg.StepsBytes, EventsBytes: cfg.EventsBytes, EventsAge: cfg.EventsAge,
	}, bus.NewCopies(env.Replicas, env.Metrics, env.Log), env.Log)
	if err != nil {
		return nil, err
	}
	promauto.With(env.Metrics).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "inputs_pending", Help: "Inputs of the log that have not come to this orchestrator yet, of the partitions that it reads.",
	}, transport.Inputs)
	catalog := natsapi.Catalog{Conn: env.Bus}
	var owner *partition.Owner
	acceptor := execution.NewAcceptor(store, transport, catalog, env.Log, execution.WithMetrics(env.Metrics),
		execution.WithBound(cfg.UnfinishedPerUser), execution.WithPressure(func() error { return owner.Pressed() }),
		execution.WithArrivals(func(p int, id string) func(*engine.Execution) { return owner.Expect(p, id) }))
	dealer := dealing.New()
	dealer.Measure(env.Metrics)
	s := &Service{
		bus: env.Bus, transport: transport, log: env.Log, answers: once.New(env.DB), dealer: dealer, server: bus.NewServer(contract.Service, env.Log), acceptor: acceptor,
		keeper:  weekly.NewKeeper(store.Weeks(), store.Retention(cfg.Retention), env.Log, env.Metrics),
		backlog: backlog.New(store.Overdue, transport.Queues, env.Metrics),
		firer:   schedule.NewFirer(store, acceptor, env.Log, env.Metrics),
		relay:   outbox.NewRelay(env.DB, env.Bus, contract.Service, env.Log, env.Metrics, trail.Route(env.Bus, contract.Service), natsapi.Schedules(env.Bus)),
	}
	owner = partition.NewOwner(uuid.Must(uuid.NewV7()).String(), store, transport, env.Log,
		partition.WithMetrics(env.Metrics), partition.WithTracing(env.Tracing), partition.WithDealer(dealer), partition.WithChildren(execution.Children{Acceptor: acceptor}))
	s.owner = owner
	executions := execution.NewService(s.acceptor, store, transport, dealer)
	s.calls = calls.NewService(store, store, executions, execution.Children{Acceptor: acceptor}, transport, cfg.LLMUserDailyUSD, env.Log)
	natsapi.Register(s.server, executions, s.calls, deadletter.NewService(store, transport), store.Leases)
	feeds := natsapi.Feeds{Conn: env.Bus}
	triggers := trigger.New(store, catalog, map[string]trigger.Kind{
		contract.TriggerTypeSchedule: schedule.Kind{}, contract.TriggerTypeWebhook: inbound.NewHooks(keys), contract.TriggerTypeEvent: inbound.NewListeners(feeds),
	})
	s.receiver = inbound.NewReceiver(store, triggers, acceptor, keys, env.Log, env.Metrics)
	s.watcher = inbound.NewWatcher(store, feeds, acceptor, env.Log, env.Metrics)
	natsapi.RegisterTriggers(s.server, triggers, schedule.NewSchedules(store, triggers), s.receiver, s.answers)
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

// Run answers, fires and applies until ctx ends; then it answers and fires no more, and after that hands its partitions over.
func (s *Service) Run(ctx context.Context) error {
	reconnected, forget := s.bus.OnReconnect()
	defer forget()
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var group errgroup.Group
	group.Go(func() error { return s.acceptor.Run(working) })
	group.Go(func() error { return s.owner.Run(working, reconnected) })
	group.Go(func() error { return natsapi.HearRunners(working, s.bus.NATS(), s.dealer, s.transport.Serve, s.log) })
	group.Go(func() error {
		s.backlog.Run(ctx)
		return nil
	})
	group.Go(func() error {
		s.keeper.Run(ctx)
		return nil
	})
	group.Go(func() error {
		s.relay.Run(ctx)
		return nil
	})
	group.Go(func() error {
		s.calls.Run(ctx)
		return nil
	})
	group.Go(func() error {
		s.receiver.Tend(ctx)
		return nil
	})
	group.Go(func() error {
		s.answers.Run(ctx, s.log)
		return nil
	})
	intake, endIntake := context.WithCancel(ctx)
	var firing errgroup.Group
	firing.Go(func() error { return s.firer.Run(intake) })
	firing.Go(func() error { return s.watcher.Run(intake) })
	firing.Go(func() error { return natsapi.HearFeeds(intake, s.bus, s.watcher.Heard, s.log) })
	err := s.server.Run(ctx, s.bus)
	endIntake()
	if ferr := firing.Wait(); err == nil {
		err = ferr
	}
	stop()
	if werr := group.Wait(); err == nil {
		err = werr
	}
	return err
}
