// Package service is the skeleton of every service: configuration, connections, health,
// and an orderly end. One process may run several of them.
package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/observe"
	"turbocat.io/pkg/postgres"
)

// Version of the build. The linker sets it.
var Version = "dev"

// startTimeout bounds how long a start waits for NATS and the database.
const startTimeout = 30 * time.Second

// writerConns is how many of a service's connections are for who writes alone: a transaction's, and one to prepare a statement over meanwhile.
const writerConns = 2

// maxReplicas is the most copies that JetStream keeps.
const maxReplicas = 5

// Env is what a service is given: connections and a logger, all open and shared with nobody.
type Env struct {
	Log    zerolog.Logger
	Bus    *bus.Conn
	DB     *sqlx.DB      // the service's own schema; nil unless Spec.Database
	Writer *sqlx.DB      // connections to it for a single writer, with the settings of Spec.Writer; nil without any
	Redis  *redis.Client // nil unless Spec.Redis
	Health *Health

	// Replicas is how many copies each stream and bucket that the service makes is to have.
	Replicas int

	Metrics  prometheus.Registerer // prefixes names with turbocat_<service>_; nil registers nothing
	Gatherer prometheus.Gatherer   // of all that is registered; nil when Metrics is
	Tracing  *observe.Tracing      // nil records nothing
}

// Service is a wired service. Run works until ctx ends, finishes what it has begun, and
// returns nil; an error before that ends the process.
type Service interface {
	Run(ctx context.Context) error
}

// Spec describes a service with the configuration C, a struct with env tags. Fields are read
// from TURBOCAT_<NAME>_<FIELD>; tags may name plain variables with the prefix left out, see Parse.
type Spec[C any] struct {
	Name     string
	Database bool              // owns a schema of that name
	Writer   map[string]string // settings of the server for the connections of Env.Writer
	Redis    bool
	Streams  bool // can not work while JetStream stores nothing
	New      func(Env, C) (Service, error)
}

// Unit is a service that can be started, whatever its configuration's type.
type Unit struct {
	Name string
	// Run starts the service, calls ready when it works, and returns after ctx ended and it stopped.
	Run func(ctx context.Context, environ map[string]string, logs io.Writer, ready func()) error
}

// shared is what all services read, under plain names.
type shared struct {
	DatabaseURL string `env:"DATABASE_URL"`
	NatsURL     string `env:"NATS_URL"`
	Replicas    int    `env:"TURBOCAT_NATS_REPLICAS" envDefault:"1"`
	RedisURL    string `env:"REDIS_URL"`
	LogLevel    string `env:"LOG_LEVEL" envDefault:"info"`

	// By the names that OpenTelemetry gives them everywhere.
	TraceEndpoint string `env:"OTEL_EXPORTER_OTLP_ENDPOINT"`
	TraceRatio    string `env:"OTEL_TRACES_SAMPLER_ARG" envDefault:"1"`

	// By the names that Sentry gives them everywhere.
	SentryDSN         string `env:"SENTRY_DSN"`
	SentryEnvironment string `env:"SENTRY_ENVIRONMENT"`

	opsAddress string
}

func (p shared) tracing(service string, log zerolog.Logger) (*observe.Tracing, error) {
	ratio, err := strconv.ParseFloat(p.TraceRatio, 64)
	if err != nil || !(ratio >= 0 && ratio <= 1) {
		return nil, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG is %q; give the share of traces to record, 0 to 1", p.TraceRatio)
	}
	return observe.NewTracing(observe.TracingConfig{Service: service, Version: Version, Endpoint: p.TraceEndpoint, Ratio: ratio, Log: log})
}

// Unit makes the service startable.
func (s Spec[C]) Unit() Unit {
	return Unit{Name: s.Name, Run: s.run}
}

func (s Spec[C]) run(ctx context.Context, environ map[string]string, logs io.Writer, ready func()) error {
	var plain shared
	var cfg C
	if err := env.ParseWithOptions(&plain, env.Options{Environment: environ}); err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	if err := env.ParseWithOptions(&cfg, env.Options{Environment: environ}); err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	level, err := zerolog.ParseLevel(plain.LogLevel)
	if err != nil {
		return fmt.Errorf("LOG_LEVEL is %q; use debug, info, warn or error", plain.LogLevel)
	}
	if plain.Replicas < 1 || plain.Replicas > maxReplicas {
		return fmt.Errorf("TURBOCAT_NATS_REPLICAS is %d; give 1 with one NATS server, 3 with a cluster of three, at most %d", plain.Replicas, maxReplicas)
	}
	plain.opsAddress = environ[operationsVariable(s.Name)]
	faults, err := observe.NewFaults(observe.FaultsConfig{Service: s.Name, Version: Version, DSN: plain.SentryDSN, Environment: plain.SentryEnvironment})
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	defer faults.Close()
	defer faults.Panicked()
	log := zerolog.New(faults.Writer(logs)).Level(level).With().Timestamp().Str("service", s.Name).Logger()

	e, closeEnv, err := s.connect(ctx, plain, log)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	defer closeEnv()
	svc, err := s.New(e, cfg)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	e.Health.set("")
	stopTelling := context.AfterFunc(ctx, func() { e.Health.set("the service is stopping") })
	defer stopTelling()
	health := bus.NewServer(s.Name, log)
	bus.Handle(health, rpc.HealthOf(s.Name), e.Health.answer)

	// The health method outlives the service's work, so that a drain can be watched.
	healthCtx, stopHealth := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHealth()
	group, groupCtx := errgroup.WithContext(healthCtx)
	group.Go(func() error { return health.Run(groupCtx, e.Bus) })
	serveCtx, stopServe := context.WithCancel(ctx)
	defer stopServe()
	group.Go(func() error {
		defer stopHealth()
		defer faults.Panicked()
		if err := svc.Run(serveCtx); err != nil {
			return err
		}
		if ctx.Err() == nil {
			return errors.New("stopped by itself")
		}
		return nil
	})
	group.Go(func() error {
		select { // whoever hears that it is ready may ask it so
		case <-health.Serving():
		case <-groupCtx.Done():
		}
		e.Health.await(groupCtx)
		if groupCtx.Err() == nil {
			log.Info().Str("version", Version).Msg("ready")
			ready()
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	log.Info().Msg("stopped")
	return nil
}

func (s Spec[C]) connect(ctx context.Context, plain shared, log zerolog.Logger) (e Env, closeAll func(), err error) {
	var closers []func()
	closeAll = func() {
		for i := len(closers) - 1; i >= 0; i-- {
			closers[i]()
		}
	}
	defer func() {
		if err != nil {
			closeAll()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	registry := observe.NewRegistry(s.Name, Version)
	e = Env{Log: log, Health: NewHealth(s.Name), Replicas: plain.Replicas, Metrics: observe.Of(registry, s.Name), Gatherer: registry}
	e.Health.set("the service is starting")
	e.Metrics.MustRegister(e.Health)

	// Taken first and given up last, so that a start and an end can be watched.
	operations, err := startOperations(s.Name, plain.opsAddress, e.Health, registry, log)
	if err != nil {
		return e, closeAll, err
	}
	closers = append(closers, operations.close)
	if e.Tracing, err = plain.tracing(s.Name, log); err != nil {
		return e, closeAll, err
	}
	closers = append(closers, e.Tracing.Close)

	if plain.NatsURL == "" {
		return e, closeAll, errors.New("NATS_URL is not set; give the address of a NATS server, like nats://127.0.0.1:4222")
	}
	if e.Bus, err = bus.Connect(ctx, plain.NatsURL, "turbocat-"+s.Name, log, bus.WithMetrics(e.Metrics), bus.WithTracing(e.Tracing)); err != nil {
		return e, closeAll, err
	}
	closers = append(closers, e.Bus.Close)
	e.Health.AddProbe("nats", e.Bus.Check)
	if s.Streams {
		e.Health.AddProbe("jetstream", func(ctx context.Context) error { return e.Bus.CheckWrite(ctx, subject.Probe(s.Name)) })
	}

	if s.Database {
		if plain.DatabaseURL == "" {
			return e, closeAll, errors.New("DATABASE_URL is not set; give the address of a PostgreSQL database, like postgres://user:password@127.0.0.1:5432/turbocat?sslmode=disable")
		}
		if e.DB, err = postgres.Open(plain.DatabaseURL, s.Name); err != nil {
			return e, closeAll, err
		}
		closers = append(closers, func() { _ = e.DB.Close() })
		e.Health.AddProbe("postgres", func(ctx context.Context) error { return checkPostgres(ctx, e.DB) })
		measurePool(e.Metrics, e.DB)
		e.Health.AddPool("database", e.DB.Stats)
		if s.Writer != nil {
			if e.Writer, err = postgres.OpenWith(plain.DatabaseURL, s.Name, s.Writer); err != nil {
				return e, closeAll, err
			}
			closers = append(closers, func() { _ = e.Writer.Close() })
			e.DB.SetMaxOpenConns(postgres.MaxConns - writerConns)
			e.Writer.SetMaxOpenConns(writerConns)
			e.Health.AddPool("writer", e.Writer.Stats)
		}
	}
	if s.Redis {
		if plain.RedisURL == "" {
			return e, closeAll, errors.New("REDIS_URL is not set; give the address of a Redis server, like redis://127.0.0.1:6379")
		}
		options, perr := redis.ParseURL(plain.RedisURL)
		if perr != nil {
			return e, closeAll, errors.New("REDIS_URL is not of the form redis://:password@host:port/db; correct it")
		}
		options.DialTimeout, options.ReadTimeout, options.WriteTimeout = 500*time.Millisecond, 500*time.Millisecond, 500*time.Millisecond
		e.Redis = redis.NewClient(options)
		closers = append(closers, func() { _ = e.Redis.Close() })
		measureRedis(e.Metrics, e.Redis)
		e.Health.AddProbe("redis", func(ctx context.Context) error { return checkRedis(ctx, e.Redis, s.Name) })
	}
	return e, closeAll, nil
}
