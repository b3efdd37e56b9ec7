package partition

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/observe"
	"turbocat.io/services/orchestrator/internal/engine"
)

// Why a commit failed.
const (
	failedFenced  = "fenced"      // another orchestrator has a partition of it
	failedRefused = "refused"     // the ledger rejects data of it
	failedAway    = "unavailable" // the ledger does not answer, or not in time
)

// metrics are what the owner's work is measured by. They count even when they are registered nowhere.
type metrics struct {
	lost            prometheus.Counter
	applied         prometheus.Counter
	deadLetters     prometheus.Counter
	ended           *prometheus.CounterVec
	commitSeconds   prometheus.Histogram
	commitInputs    prometheus.Histogram
	commitFailures  *prometheus.CounterVec
	applyToCommit   prometheus.Histogram
	sent            prometheus.Counter
	resent          prometheus.Counter
	waits           map[string]prometheus.Observer // by agent type: looked up once, for it is done for every step
	published       prometheus.Counter
	publishFailures prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	with := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return with.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	waits := with.NewHistogramVec(prometheus.HistogramOpts{
		Name: "step_wait_seconds", Help: "How long steps that were ready waited in this process for their turn, by agent type.", Buckets: append(observe.Seconds(), 30, 60, 300, 1800),
	}, []string{"agent_type"})
	m := &metrics{
		lost:        counter("partitions_lost_total", "Partitions that another orchestrator has taken, or whose epoch has passed."),
		applied:     counter("inputs_applied_total", "Inputs of the log that were applied, also those that changed nothing."),
		deadLetters: counter("dead_letters_total", "Inputs that could not be applied and are kept in dead_letters."),
		ended: with.NewCounterVec(prometheus.CounterOpts{
			Name: "executions_ended_total", Help: "Executions whose end was committed, by their status.",
		}, []string{"status"}),
		commitSeconds: with.NewHistogram(prometheus.HistogramOpts{
			Name: "commit_duration_seconds", Help: "How long transactions of the writer took that succeeded.", Buckets: observe.Seconds(),
		}),
		commitInputs: with.NewHistogram(prometheus.HistogramOpts{
			Name: "commit_inputs", Help: "How many inputs one transaction has committed.", Buckets: prometheus.ExponentialBuckets(1, 4, 7),
		}),
		commitFailures: with.NewCounterVec(prometheus.CounterOpts{
			Name: "commit_failures_total", Help: "Transactions of the writer that failed, by reason: unavailable, fenced or refused.",
		}, []string{"reason"}),
		applyToCommit: with.NewHistogram(prometheus.HistogramOpts{
			Name: "apply_to_commit_seconds", Help: "How long the oldest input of a transaction was applied before it was committed.", Buckets: observe.Seconds(),
		}),
		sent:            counter("steps_sent_total", "Ready steps that were sent to runners for the first time."),
		resent:          counter("steps_resent_total", "Ready steps that were sent again, because STEPS had not taken them or they were lost."),
		published:       counter("events_published_total", "Public events that EVENTS has taken."),
		publishFailures: counter("event_publish_failures_total", "Batches of public events that EVENTS has not taken; each is tried again."),
		waits:           map[string]prometheus.Observer{},
	}
	for _, t := range catalog.RunnerAgentTypes() {
		m.waits[t] = waits.WithLabelValues(t)
	}
	// What has not happened yet is 0, so that its first time is seen to be one more.
	for _, reason := range []string{failedFenced, failedRefused, failedAway} {
		m.commitFailures.WithLabelValues(reason)
	}
	for _, status := range []string{orchestrator.ExecutionCompleted, orchestrator.ExecutionFailed, orchestrator.ExecutionCancelled} {
		m.ended.WithLabelValues(status)
	}
	return m
}

// waited notes how long a step waited for its turn.
func (m *metrics) waited(agentType string, ready time.Time) {
	if o := m.waits[agentType]; o != nil {
		o.Observe(time.Since(ready).Seconds())
	}
}

// committed counts what a transaction has made true.
func (m *metrics) committed(changes []*change, took time.Duration) {
	m.commitSeconds.Observe(took.Seconds())
	m.commitInputs.Observe(float64(len(changes)))
	m.applyToCommit.Observe(time.Since(changes[0].made).Seconds())
	for _, c := range changes {
		if c.span != nil {
			c.span.End()
		}
		if c.ended != "" {
			m.ended.WithLabelValues(c.ended).Inc()
		}
		if c.dead != nil {
			m.deadLetters.Inc()
		}
	}
}

// measure shows what the owner holds.
func (o *Owner) measure(r prometheus.Registerer) {
	gauge := func(name, help string, of func(*holding) float64) {
		promauto.With(r).NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			o.mu.Lock()
			defer o.mu.Unlock()
			sum := 0.0
			for _, h := range o.held {
				sum += of(h)
			}
			return sum
		})
	}
	ofRun := func(of func(*run) int64) func(*holding) float64 {
		return func(h *holding) float64 {
			if r := h.current.Load(); r != nil {
				return float64(of(r))
			}
			return 0
		}
	}
	gauge("partitions_held", "Partitions that this orchestrator owns.", func(*holding) float64 { return 1 })
	gauge("executions_live", "Executions in memory that have not ended, or whose end is not committed.", ofRun(func(r *run) int64 { return r.inMemory.Load() }))
	gauge("inputs_uncommitted", "Inputs that are applied and not committed.", ofRun(func(r *run) int64 { return r.uncommitted.Load() }))
	gauge("inputs_unapplied", "Executions and commands that were accepted longer than 5 s ago and are not applied, as the reconcilers saw it last.", ofRun(func(r *run) int64 { return r.unseen.Load() }))
	fill := func(stream string, of func(*fillOf) float64) {
		promauto.With(r).NewGaugeFunc(prometheus.GaugeOpts{
			Name: "stream_fill_ratio", Help: "How full a stream is that drops nothing; from 0.8 on nothing is accepted.", ConstLabels: prometheus.Labels{"stream": stream},
		}, func() float64 { return of(o.full.Load()) })
	}
	fill(subject.ExecutionInputStream, func(f *fillOf) float64 { return f.log })
	fill(subject.StepsStream, func(f *fillOf) float64 { return f.steps })
	gauge("events_unpublished", "Committed events that EVENTS has not taken yet.", func(h *holding) float64 { return float64(h.relay.waiting()) })
}

// about gives the ids of an execution, for log lines.
func about(x *engine.Execution) observe.IDs {
	return observe.IDs{RequestID: x.RequestID, TraceID: observe.TraceID(x.Traceparent), ExecutionID: x.ID}
}
