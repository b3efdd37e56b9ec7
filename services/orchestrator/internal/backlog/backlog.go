// Package backlog measures what waits in the whole installation, and what should have happened already. Every orchestrator looks for
// itself and sees the same. It changes nothing.
package backlog

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"turbocat.io/contracts/catalog"
)

const (
	// LookEvery is how often is looked.
	LookEvery = 5 * time.Second
	// lookTimeout bounds a look, and goodFor for how long what was seen is told: then it is not known.
	lookTimeout = 3 * time.Second
	goodFor     = 4 * LookEvery
)

// Overdue is what the ledger has that should have happened. Durations are those of the oldest; 0 for none.
type Overdue struct {
	Timers    time.Duration // of executions that only wait for them
	Schedules time.Duration
	Commands  time.Duration // accepted, and not applied
	Orphans   int           // partitions that nobody holds
}

// Queue is the line of the steps of an agent type in STEPS, of all pools.
type Queue struct {
	Pending    uint64 // no runner has had them
	AckPending uint64 // runners have them
}

// Watch looks, and shows what it saw. It is safe for concurrent use.
type Watch struct {
	ledger func(context.Context) (Overdue, error)
	steps  func(context.Context) (map[string]Queue, error)

	overdue seen[Overdue]
	queues  seen[map[string]Queue]
}

// seen is what the last look saw.
type seen[T any] struct{ last atomic.Pointer[look[T]] }

type look[T any] struct {
	at    time.Time
	value T
}

// of gives a figure of what was seen lately; NaN when that is not known.
func (s *seen[T]) of(figure func(T) float64) float64 {
	l := s.last.Load()
	if l == nil || time.Since(l.at) > goodFor {
		return math.NaN()
	}
	return figure(l.value)
}

// New makes a watch over the ledger and STEPS, which queues are of by agent type, and registers what it shows; nil registers nothing.
func New(ledger func(context.Context) (Overdue, error), steps func(context.Context) (map[string]Queue, error), r prometheus.Registerer) *Watch {
	w := &Watch{ledger: ledger, steps: steps}
	with := promauto.With(r)
	overdue := func(name, help string, of func(Overdue) float64) {
		with.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return w.overdue.of(of) })
	}
	overdue("timers_overdue_seconds", "For how long the oldest timer of an execution that only waits for it is due; of the whole installation.", func(o Overdue) float64 { return o.Timers.Seconds() })
	overdue("schedules_overdue_seconds", "For how long the oldest time of a schedule is due that has not fired and was not skipped; of the whole installation.", func(o Overdue) float64 { return o.Schedules.Seconds() })
	overdue("commands_overdue_seconds", "How long the oldest command waits that was accepted and is not applied; of the whole installation.", func(o Overdue) float64 { return o.Commands.Seconds() })
	overdue("partitions_orphaned", "Partitions that no orchestrator holds; of the whole installation.", func(o Overdue) float64 { return float64(o.Orphans) })
	queue := func(name, help string, of func(Queue) uint64) {
		for _, agentType := range catalog.RunnerAgentTypes() {
			with.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: prometheus.Labels{"agent_type": agentType}}, func() float64 {
				return w.queues.of(func(q map[string]Queue) float64 { return float64(of(q[agentType])) })
			})
		}
	}
	queue("steps_pending", "Steps in STEPS that no runner has had yet, by agent type; of the whole installation.", func(q Queue) uint64 { return q.Pending })
	queue("steps_ack_pending", "Steps in STEPS that runners have and have not answered, by agent type; of the whole installation.", func(q Queue) uint64 { return q.AckPending })
	return w
}

// Run looks until ctx ends. What can not be seen is not known, and who else can not work without it says why.
func (w *Watch) Run(ctx context.Context) {
	ticker := time.NewTicker(LookEvery)
	defer ticker.Stop()
	for {
		w.Look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Look looks once.
func (w *Watch) Look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if overdue, err := w.ledger(ctx); err == nil {
		w.overdue.last.Store(&look[Overdue]{time.Now(), overdue})
	}
	if queues, err := w.steps(ctx); err == nil {
		w.queues.last.Store(&look[map[string]Queue]{time.Now(), queues})
	}
}
