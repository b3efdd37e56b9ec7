package service

import (
	"context"
	"sync"
	"time"

	"turbocat.io/contracts/rpc"
)

// checkTimeout bounds one check of a dependency.
const checkTimeout = 2 * time.Second

// Health is the list of things a service needs to work. It is safe for concurrent use.
type Health struct {
	service string
	started time.Time

	mu     sync.Mutex
	checks []check
}

type check struct {
	name string
	run  func(ctx context.Context) error
}

// NewHealth makes an empty list.
func NewHealth(service string) *Health { return &Health{service: service, started: time.Now()} }

// Add names a dependency and how to tell that it works. The error's text is shown to operators.
func (h *Health) Add(name string, run func(ctx context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, check{name, run})
}

// Check runs all checks at once and reports each, in the order they were added.
func (h *Health) Check(ctx context.Context) rpc.Health {
	h.mu.Lock()
	checks := append([]check(nil), h.checks...)
	h.mu.Unlock()
	report := rpc.Health{Service: h.service, Version: Version, UptimeMs: time.Since(h.started).Milliseconds(), Ready: true, Dependencies: make([]rpc.Dependency, len(checks))}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() {
			begin := time.Now()
			d := rpc.Dependency{Name: c.name, Status: rpc.Healthy}
			if err := c.run(ctx); err != nil {
				d.Status, d.Message = rpc.Unhealthy, err.Error()
			}
			d.LatencyMs = time.Since(begin).Milliseconds()
			report.Dependencies[i] = d
		})
	}
	wg.Wait()
	for _, d := range report.Dependencies {
		report.Ready = report.Ready && d.Status == rpc.Healthy
	}
	return report
}

func (h *Health) answer(ctx context.Context, _ rpc.Caller, _ rpc.Empty) (rpc.Health, error) {
	return h.Check(ctx), nil
}

// await returns when every check passes or ctx ends.
func (h *Health) await(ctx context.Context) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for !h.Check(ctx).Ready {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
