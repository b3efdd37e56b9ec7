package service

import (
	"context"
	"database/sql"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"turbocat.io/contracts/rpc"
)

const (
	// checkTimeout bounds one check of a dependency.
	checkTimeout = 2 * time.Second
	// probedFor is how long the outcome of a probe is repeated: whoever asks often does not make
	// the database work.
	probedFor = time.Second
)

// Health is the list of things a service needs to work, and a collector of how they are. It is safe for concurrent use.
type Health struct {
	service string
	started time.Time

	mu     sync.Mutex
	checks []*check
	pools  []pool
	state  string // why the service is not at work; "" while it is
}

// pool is a pool of connections.
type pool struct {
	name  string
	stats func() sql.DBStats
}

// AddPool has the health tell of a pool of connections.
func (h *Health) AddPool(name string, stats func() sql.DBStats) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pools = append(h.pools, pool{name, stats})
}

// check is one dependency and how it was when it was looked at last.
type check struct {
	name     string
	run      func(ctx context.Context) error
	remember time.Duration

	mu   sync.Mutex // held by the one that looks
	last rpc.Dependency
	at   time.Time
}

// NewHealth makes an empty list.
func NewHealth(service string) *Health { return &Health{service: service, started: time.Now()} }

// Add names a dependency and how the process itself knows that it works. The error's text is
// shown to operators.
func (h *Health) Add(name string, run func(ctx context.Context) error) {
	h.add(&check{name: name, run: run})
}

// AddProbe is Add for a check that makes somebody else work; its outcome is good for a second.
func (h *Health) AddProbe(name string, run func(ctx context.Context) error) {
	h.add(&check{name: name, run: run, remember: probedFor})
}

func (h *Health) add(c *check) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, c)
}

// Check looks at all dependencies at once and reports each, in the order they were added. It
// takes up to two seconds, also when ctx ends before.
func (h *Health) Check(ctx context.Context) rpc.Health { return h.report(ctx, false) }

// report is Check; anew looks again at what was probed a moment ago.
func (h *Health) report(ctx context.Context, anew bool) rpc.Health {
	h.mu.Lock()
	checks, pools, state := append([]*check(nil), h.checks...), append([]pool(nil), h.pools...), h.state
	h.mu.Unlock()
	dependencies := make([]rpc.Dependency, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() { dependencies[i] = c.look(ctx, anew) })
	}
	wg.Wait()
	if state != "" {
		own := rpc.Dependency{Name: h.service, Status: rpc.Unhealthy, Message: state}
		dependencies = append([]rpc.Dependency{own}, dependencies...)
	}
	report := rpc.Health{Service: h.service, Version: Version, UptimeMs: time.Since(h.started).Milliseconds(), Ready: true, Dependencies: dependencies}
	for _, d := range dependencies {
		report.Ready = report.Ready && d.Status == rpc.Healthy
	}
	for _, p := range pools {
		s := p.stats()
		report.Pools = append(report.Pools, rpc.Pool{Name: p.name, Open: s.OpenConnections, InUse: s.InUse, Max: s.MaxOpenConnections, WaitCount: s.WaitCount, WaitMs: s.WaitDuration.Milliseconds()})
	}
	return report
}

func (c *check) look(ctx context.Context, anew bool) rpc.Dependency {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !anew && time.Since(c.at) < c.remember {
		return c.last
	}
	// Who asks may go away meanwhile: the outcome is others' too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
	defer cancel()
	begin := time.Now()
	d := rpc.Dependency{Name: c.name, Status: rpc.Healthy}
	if err := c.run(ctx); err != nil {
		d.Status, d.Message = rpc.Unhealthy, err.Error()
	}
	c.at = time.Now()
	d.LatencyMs = c.at.Sub(begin).Milliseconds()
	c.last = d
	return d
}

// dependencyUp and ready are what measure shows.
var (
	dependencyUp = prometheus.NewDesc("dependency_up", "1 while what the service needs works, by its name in /health.", []string{"dependency"}, nil)
	readyNow     = prometheus.NewDesc("ready", "1 while the service can do its work, as /health/ready says.", nil, nil)
)

// Describe implements prometheus.Collector.
func (h *Health) Describe(descs chan<- *prometheus.Desc) {
	descs <- dependencyUp
	descs <- readyNow
}

// Collect implements prometheus.Collector: it makes a report.
func (h *Health) Collect(metrics chan<- prometheus.Metric) {
	one := map[bool]float64{true: 1}
	report := h.Check(context.Background())
	metrics <- prometheus.MustNewConstMetric(readyNow, prometheus.GaugeValue, one[report.Ready])
	for _, d := range report.Dependencies {
		metrics <- prometheus.MustNewConstMetric(dependencyUp, prometheus.GaugeValue, one[d.Status == rpc.Healthy], d.Name)
	}
}

// set says why the service is not at work; "" says that it is.
func (h *Health) set(state string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.state = state
}

func (h *Health) answer(ctx context.Context, _ rpc.Caller, _ rpc.Empty) (rpc.Health, error) {
	return h.Check(ctx), nil
}

// await returns when every check passes or ctx ends. The longer it takes the less often it looks.
func (h *Health) await(ctx context.Context) {
	for begin := time.Now(); !h.report(ctx, true).Ready; {
		pause := min(max(time.Since(begin)/10, 50*time.Millisecond), probedFor)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
