package httpapi

import (
	"context"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/service"
)

const (
	// healthTimeout leaves services that find a dependency dead, after two seconds, the time to say so.
	healthTimeout = 3 * time.Second
	// healthFor is how long a report is repeated: whoever asks often does not make all services work.
	healthFor = 200 * time.Millisecond
)

// healthReport tells how every service and what it needs was a moment ago.
type healthReport struct {
	Status   string          `json:"status"`
	Services []serviceHealth `json:"services"`
}

type serviceHealth struct {
	Name         string             `json:"name"`
	Status       string             `json:"status"`
	LatencyMs    int64              `json:"latencyMs"`
	Version      string             `json:"version,omitempty"`
	Dependencies []dependencyHealth `json:"dependencies"`
}

// dependencyHealth leaves out why, which may name inner addresses; the log has it.
type dependencyHealth struct {
	Name      string `json:"name"`
	Status    string `json:"status"`
	LatencyMs int64  `json:"latencyMs"`
}

// unhealthy is a failure with the report beside it.
type unhealthy struct {
	Success   bool         `json:"success" enum:"false"`
	Error     fault        `json:"error"`
	Data      healthReport `json:"data"`
	RequestID string       `json:"requestId"`
}

// unready names the services that can not work.
func (r healthReport) unready() []string {
	var names []string
	for _, s := range r.Services {
		if s.Status != rpc.Healthy {
			names = append(names, s.Name)
		}
	}
	return names
}

func (a *API) routeHealth() {
	a.app.Get("/health/live", func(c *fiber.Ctx) error {
		return a.sendHealth(c, healthReport{Status: rpc.Healthy, Services: []serviceHealth{}})
	})
	a.app.Get("/health/ready", func(c *fiber.Ctx) error { return a.sendHealth(c, a.checkHealth(c.UserContext())) })
	a.app.Get("/health", func(c *fiber.Ctx) error { return a.sendHealth(c, a.checkHealth(c.UserContext())) })
	a.documentHealth("/health", "getHealth", "How each service is, and what it needs")
	a.documentHealth("/health/ready", "getReady", "Whether a client may work: as /health")
	a.documentHealth("/health/live", "getLive", "Whether the gateway answers, whatever it needs")
}

func (a *API) documentHealth(path, id, summary string) {
	registry := a.huma.OpenAPI().Components.Schemas
	content := func(t reflect.Type) map[string]*huma.MediaType {
		return map[string]*huma.MediaType{"application/json": {Schema: registry.Schema(t, true, "")}}
	}
	responses := a.errorResponses(route{access: access{anonymous: true}})
	responses["200"] = &huma.Response{Description: http.StatusText(http.StatusOK), Content: content(reflect.TypeFor[envelope[healthReport]]())}
	down := content(reflect.TypeFor[unhealthy]())
	down["application/json"].Examples = map[string]*huma.Example{string(errs.DependencyUnavailable): {Value: unhealthy{
		Error: fault{errs.DependencyUnavailable, notReady([]string{identity.Service}), []errs.Detail{}},
		Data: healthReport{Status: rpc.Unhealthy, Services: []serviceHealth{
			{Name: identity.Service, Status: rpc.Unhealthy, LatencyMs: 2, Dependencies: []dependencyHealth{{"postgres", rpc.Unhealthy, 2}}},
		}},
		RequestID: a.examples.RequestID,
	}}}
	responses["503"] = &huma.Response{Description: http.StatusText(http.StatusServiceUnavailable), Content: down}
	a.huma.OpenAPI().AddOperation(&huma.Operation{
		Method: http.MethodGet, Path: path, OperationID: id, Tags: []string{"health"}, Summary: summary, Responses: responses,
	})
}

func (a *API) checkHealth(ctx context.Context) healthReport {
	report := a.health.report(ctx)
	if a.draining.Load() {
		report.Status = rpc.Unhealthy
	}
	return report
}

func (a *API) sendHealth(c *fiber.Ctx, report healthReport) error {
	requestID := requestOf(c.UserContext()).caller.RequestID
	if report.Status == rpc.Healthy {
		return c.JSON(envelope[healthReport]{Success: true, Data: report, RequestID: requestID})
	}
	message := "the gateway is stopping"
	details := []errs.Detail{}
	if names := report.unready(); len(names) > 0 {
		message = notReady(names)
		for _, name := range names {
			details = append(details, errs.Detail{Field: name, Message: "the service is not ready", Code: errs.NotReady})
		}
	}
	return c.Status(http.StatusServiceUnavailable).JSON(unhealthy{Error: fault{errs.DependencyUnavailable, message, details}, Data: report, RequestID: requestID})
}

func notReady(services []string) string {
	return "not ready: " + strings.Join(services, ", ") + "; try again shortly"
}

// healthCheck asks all services how they are, each at most every healthFor.
type healthCheck struct {
	bus *bus.Conn
	own *service.Health
	log zerolog.Logger

	mu     sync.Mutex
	last   healthReport
	at     time.Time
	failed string // what was wrong at the last check, so that only changes are logged
}

func newHealthCheck(b *bus.Conn, own *service.Health, log zerolog.Logger) *healthCheck {
	return &healthCheck{bus: b, own: own, log: log}
}

func (h *healthCheck) report(ctx context.Context) healthReport {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.at) < healthFor {
		return h.last
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	others := []string{identity.Service, catalog.Service, orchestrator.Service, runner.Service, telemetry.Service}
	services := make([]serviceHealth, len(others)+1)
	faults := make([]string, len(services))
	var wg sync.WaitGroup
	wg.Go(func() {
		services[0], faults[0] = summarize("gateway", time.Now(), h.own.Check(ctx), nil)
	})
	for i, name := range others {
		wg.Go(func() {
			began := time.Now()
			got, err := bus.Call(ctx, h.bus, rpc.HealthOf(name), rpc.Caller{}, rpc.Empty{})
			services[i+1], faults[i+1] = summarize(name, began, got, err)
		})
	}
	wg.Wait()
	h.last, h.at = healthReport{Status: rpc.Healthy, Services: services}, time.Now()
	if len(h.last.unready()) > 0 {
		h.last.Status = rpc.Unhealthy
	}
	h.logChange(strings.Join(strings.Fields(strings.Join(faults, " ")), " "))
	return h.last
}

func (h *healthCheck) logChange(failed string) {
	if failed == h.failed {
		return
	}
	h.failed = failed
	if failed == "" {
		h.log.Info().Msg("all services are healthy")
		return
	}
	h.log.Warn().Str("faults", failed).Msg("services are not healthy")
}

func summarize(name string, began time.Time, got rpc.Health, err error) (s serviceHealth, fault string) {
	s = serviceHealth{Name: name, Status: rpc.Healthy, LatencyMs: time.Since(began).Milliseconds(), Version: got.Version, Dependencies: []dependencyHealth{}}
	if err != nil {
		s.Status = rpc.Unhealthy
		return s, name + ": " + errs.From(err).Message
	}
	for _, d := range got.Dependencies {
		s.Dependencies = append(s.Dependencies, dependencyHealth{d.Name, d.Status, d.LatencyMs})
		if d.Status != rpc.Healthy {
			fault += name + "/" + d.Name + ": " + d.Message + " "
		}
	}
	if !got.Ready {
		s.Status = rpc.Unhealthy
	}
	return s, fault
}
