// Package runner is the service that runs the attempts of AGENT steps. It holds no database.
//
// It owns nothing. It consumes ready steps of the agent types it can run from stream STEPS,
// and the bucket of cancelled attempts. It emits step.started, step.completed and step.failed
// into EXECUTION_INPUT, log lines into LOGS, what models write into TOKENS, and heartbeats for whoever listens. A ready step is acked only once its result is
// stored; whatever happens before that, another runner gets it.
package runner

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/guard"
	"turbocat.io/pkg/service"
	"turbocat.io/services/runner/internal/api"
	"turbocat.io/services/runner/internal/code"
	"turbocat.io/services/runner/internal/data"
	"turbocat.io/services/runner/internal/executor"
	"turbocat.io/services/runner/internal/jail"
	"turbocat.io/services/runner/internal/llm"
	"turbocat.io/services/runner/internal/natsapi"
	"turbocat.io/services/runner/internal/work"
)

// settleTimeout bounds how long a stop waits for the last reports to be stored.
const settleTimeout = 2 * time.Second

// Spec describes the service.
func Spec() service.Spec[Config] {
	return service.Spec[Config]{
		Name: runner.Service, Streams: true,
		New: func(env service.Env, cfg Config) (service.Service, error) { return New(env, cfg) },
	}
}

// SandboxMain makes this process the sandbox of one attempt and never returns, if it was
// started as one; else it returns at once. It must be the first thing main does.
func SandboxMain() { code.Main() }

// Service is a wired runner.
type Service struct {
	attempts   *work.Attempts
	cancels    *natsapi.Cancels
	reports    *natsapi.Reports
	logs       *natsapi.Logs
	tokens     *natsapi.Tokens
	heartbeats *natsapi.Heartbeats
	pools      []*work.Pool
	steps      []*natsapi.Steps // as many, one for each pool
	warm       func(ctx context.Context)
}

// New wires a runner for every agent type that this host can run.
func New(env service.Env, cfg Config) (*Service, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	watch := guard.NewWatch(env.Metrics, env.Tracing)
	client := guard.NewClient(guard.Config{Allow: cfg.AllowAddresses, Variable: allowVariable, MaxBody: runner.MaxOutput, Watch: watch})
	host := jail.Host{Nice: cfg.CodeNice, Groups: jail.FindGroups()}
	sandbox, err := code.New(code.Config{Client: client, Python: cfg.Python, Host: host, MaxMemoryMb: cfg.CodeMemoryMb})
	if err != nil {
		return nil, err
	}
	prices, err := llm.LoadPrices(cfg.LLMPrices)
	if err != nil {
		return nil, fmt.Errorf("TURBOCAT_LLM_PRICES: %w", err)
	}
	programs, err := llm.LoadPrograms(cfg.MCPPrograms)
	if err != nil {
		return nil, fmt.Errorf("TURBOCAT_RUNNER_MCP_PROGRAMS: %w", err)
	}
	env.Health.Add("sandbox", func(context.Context) error { return sandbox.Available() })
	promauto.With(env.Metrics).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sandbox_available", Help: "1 when this host can jail code, so that CODE steps are taken.",
	}, func() float64 {
		if sandbox.Available() != nil {
			return 0
		}
		return 1
	})
	kinds := []kind{
		{catalog.AgentAPI, cfg.APIConcurrency, api.New(client)},
		{catalog.AgentData, cfg.DataConcurrency, data.New()},
		{catalog.AgentLLM, cfg.LLMConcurrency, llm.New(llm.Config{
			Client: guard.NewClient(guard.Config{Allow: cfg.AllowAddresses, Variable: allowVariable, MaxBody: llm.MaxAnswer, Watch: watch}), Watch: llm.NewWatch(env.Metrics, env.Tracing), Prices: prices, OpenAIKey: cfg.OpenAIKey, AnthropicKey: cfg.AnthropicKey, OpenAIURL: cfg.OpenAIURL, AnthropicURL: cfg.AnthropicURL, Programs: programs, Host: host,
		})},
	}
	if err := sandbox.Available(); err == nil {
		kinds = append(kinds, kind{catalog.AgentCode, cfg.CodeConcurrency, sandbox})
		env.Log.Info().Strs("controlGroups", slices.Sorted(maps.Keys(host.Groups))).Msg("code is jailed")
		if err := sandbox.PythonAvailable(); err != nil {
			env.Log.Warn().Err(err).Msg("this host can not run Python; CODE steps of that runtime fail here")
		}
	} else {
		env.Log.Error().Err(err).Msg("this host can not jail code; CODE steps are left to other runners")
	}
	s, err := wire(env, cfg, kinds)
	if err != nil {
		return nil, err
	}
	s.warm = func(ctx context.Context) { sandbox.Warm(ctx, cfg.CodeConcurrency) }
	return s, nil
}

// kind is an agent type that is run here.
type kind struct {
	agentType   string
	concurrency int
	executor    executor.Interface
}

func wire(env service.Env, cfg Config, kinds []kind) (*Service, error) {
	reports, err := natsapi.NewReports(env.Bus, env.Log)
	if err != nil {
		return nil, err
	}
	s := &Service{
		reports: reports, logs: natsapi.NewLogs(env.Bus, env.Log, env.Metrics), tokens: natsapi.NewTokens(env.Bus, env.Metrics),
		attempts: work.NewAttempts(reports.Report), warm: func(context.Context) {},
	}
	offered, _ := catalog.PoolOf(cfg.Labels...) // they were checked
	s.cancels = natsapi.NewCancels(env.Bus, s.attempts.Cancel, env.Log)
	env.Health.Add("cancellations", s.cancels.Check)
	gauge := func(name, help, agentType string, of func() float64) {
		promauto.With(env.Metrics).NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: prometheus.Labels{"agent_type": agentType}}, of)
	}
	promauto.With(env.Metrics).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "reports_unstored", Help: "Starts and results of attempts that the log of inputs has not taken yet; each is sent until it has.",
	}, reports.Unstored)
	metrics, ledger := work.NewMetrics(env.Metrics), natsapi.NewLedger(env.Bus)
	for _, k := range kinds {
		pool := work.NewPool(work.Config{
			AgentType: k.agentType, Metrics: metrics, Tracing: env.Tracing, Executor: k.executor, Concurrency: k.concurrency, Drain: cfg.drain(), Attempts: s.attempts,
			Report: reports.Report, AwaitWatch: s.cancels.Await, Ledger: ledger, Vault: natsapi.NewVault(env.Bus), Calls: natsapi.NewCalls(env.Bus),
			Logger: s.logs.Of, Tokens: s.tokens.Of, Log: env.Log,
		})
		steps := natsapi.NewSteps(env.Bus, catalog.PoolsOf(offered), k.agentType, work.Places(k.concurrency), pool.Take, s.cancels.Await, env.Log)
		env.Health.Add("steps "+k.agentType, steps.Check)
		gauge("attempt_slots", "How many attempts this runner runs at once, by agent type; those that stand aside while they wait take none.", k.agentType, func() float64 { return float64(pool.Capacity().Slots) })
		gauge("deliveries_held", "Steps that this runner has, running or next, by agent type.", k.agentType, steps.Held)
		s.pools, s.steps = append(s.pools, pool), append(s.steps, steps)
	}
	s.heartbeats = natsapi.NewHeartbeats(env.Bus, offered, s.capacity)
	return s, nil
}

// capacity is what is taken at present.
func (s *Service) capacity() []runner.Capacity {
	capacity := []runner.Capacity{}
	for i, steps := range s.steps {
		if steps.Taking() {
			capacity = append(capacity, s.pools[i].Capacity())
		}
	}
	return capacity
}

// Run takes and runs steps until ctx ends. Then it takes no more, lets running attempts end
// within the drain time, and gives back what is left, so that other runners have it at once.
func (s *Service) Run(ctx context.Context) error {
	// What the last attempts need outlives ctx: their leases, cancellations, reports and logs.
	support, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var supporting, working, taking sync.WaitGroup
	supporting.Go(func() { s.attempts.Run(support) })
	supporting.Go(func() { s.cancels.Run(support) })
	supporting.Go(func() { s.reports.Run(support) })
	supporting.Go(func() { s.logs.Run(support) })
	supporting.Go(func() { s.warm(support) })
	supporting.Go(func() { s.tokens.Run(support) })
	// What is given back must not come here again, so the pools stop after the intake.
	running, drain := context.WithCancel(support)
	defer drain()
	for _, pool := range s.pools {
		working.Go(func() { pool.Run(running) })
	}
	for _, steps := range s.steps {
		taking.Go(func() { steps.Run(ctx) })
	}
	taking.Go(func() { s.heartbeats.Run(ctx) })
	taking.Wait()
	drain()
	working.Wait()
	settling, cancel := context.WithTimeout(support, settleTimeout)
	defer cancel()
	s.reports.Settle(settling)
	stop()
	supporting.Wait()
	s.attempts.GiveBackAll()
	return nil
}
