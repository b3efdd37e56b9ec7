package work

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// What becomes of an attempt.
const (
	outcomeCompleted = "completed"
	outcomeFailed    = "failed"    // by the agent, or by what it was given
	outcomeInternal  = "internal"  // by the runner
	outcomeTimedOut  = "timed_out" // by the step's timeout
	outcomeCancelled = "cancelled"
	outcomeGivenBack = "given_back" // another runner has it
	outcomeTakenOver = "taken_over" // another runner took it while this one stood still
	outcomeLost      = "lost"       // four runners took it and none answered: it is not run
)

func outcomes() []string {
	return []string{outcomeCompleted, outcomeFailed, outcomeInternal, outcomeTimedOut, outcomeCancelled, outcomeGivenBack, outcomeTakenOver, outcomeLost}
}

// Metrics are what all pools of a runner are measured by.
type Metrics struct {
	running     *prometheus.GaugeVec
	finished    *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	redelivered prometheus.Counter
}

// measured are the metrics of one agent type. They are looked up once: each costs as much as reading a small step.
type measured struct {
	running  prometheus.Gauge
	seconds  prometheus.Observer
	finished map[string]prometheus.Counter // by outcome
}

func (m *Metrics) of(agentType string) measured {
	out := measured{m.running.WithLabelValues(agentType), m.seconds.WithLabelValues(agentType), map[string]prometheus.Counter{}}
	for _, outcome := range outcomes() {
		out.finished[outcome] = m.finished.WithLabelValues(agentType, outcome)
	}
	return out
}

// NewMetrics registers what attempts are measured by; nil registers nothing.
func NewMetrics(r prometheus.Registerer) *Metrics {
	with := promauto.With(r)
	return &Metrics{
		running: with.NewGaugeVec(prometheus.GaugeOpts{
			Name: "attempts_running", Help: "Attempts that are running, by agent type.",
		}, []string{"agent_type"}),
		finished: with.NewCounterVec(prometheus.CounterOpts{
			Name: "attempts_finished_total", Help: "Attempts that are no longer here, by agent type and outcome: completed, failed, internal, timed_out, cancelled, given_back, taken_over or lost.",
		}, []string{"agent_type", "outcome"}),
		seconds: with.NewHistogramVec(prometheus.HistogramOpts{
			Name: "attempt_duration_seconds", Help: "How long attempts ran, by agent type.", Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10, 30, 60, 300, 1800},
		}, []string{"agent_type"}),
		redelivered: with.NewCounter(prometheus.CounterOpts{
			Name: "deliveries_redelivered_total", Help: "Deliveries of ready steps that a runner has had before.",
		}),
	}
}
