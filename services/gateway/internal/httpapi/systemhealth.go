package httpapi

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/bus"
)

// SystemHealth is how the installation is now. What could not be asked stands in unanswered, and is absent.
type SystemHealth struct {
	At          time.Time                      `json:"at"`
	Requests    RequestRates                   `json:"requests" doc:"of this gateway, within the last minute"`
	Services    []SystemService                `json:"services" doc:"of each a process that answered"`
	Streams     []SystemStream                 `json:"streams"`
	Leases      []orchestrator.Lease           `json:"leases" doc:"which orchestrator runs the executions of each partition"`
	DeadLetters []orchestrator.DeadLetterCount `json:"deadLetters" doc:"inputs that could not be applied, by reason"`
	Unanswered  []SystemSilence                `json:"unanswered"`
}

// SystemService is a process of a service.
type SystemService struct {
	Name     string     `json:"name"`
	Version  string     `json:"version"`
	Ready    bool       `json:"ready"`
	UptimeMs int64      `json:"uptimeMs"`
	Pools    []rpc.Pool `json:"pools" doc:"of connections to the database"`
}

// SystemStream is a stream of JetStream.
type SystemStream struct {
	Name      string           `json:"name"`
	Messages  uint64           `json:"messages"`
	Bytes     uint64           `json:"bytes"`
	MaxBytes  int64            `json:"maxBytes" doc:"-1 for no bound"`
	Consumers []SystemConsumer `json:"consumers"`
}

// SystemConsumer is who reads a stream, and how far it is behind.
type SystemConsumer struct {
	Name        string `json:"name"`
	Pending     uint64 `json:"pending" doc:"messages that it has not been sent"`
	AckPending  int    `json:"ackPending" doc:"that were sent and are not done"`
	Redelivered int    `json:"redelivered" doc:"of these, how many were sent before"`
	Waiting     int    `json:"waiting" doc:"requests of readers for more"`
}

// SystemSilence is what could not be asked.
type SystemSilence struct {
	Of      string `json:"of" doc:"a service, or streams"`
	Message string `json:"message"`
}

// systemTimeout is how long it is waited for what is asked.
const systemTimeout = 5 * time.Second

// mostConsumers bounds the consumers of a stream that are shown.
const mostConsumers = 200

func (a *API) routeSystemHealth() {
	register(a, route{
		method: http.MethodGet, path: "/analytics/system-health", id: "getSystemHealth", tag: "analytics", summary: "Show queues, consumers, leases, pools and request rates; for an ADMIN",
	},
		func(ctx context.Context, _ *struct{}) (*answer[SystemHealth], error) {
			if !requestOf(ctx).caller.IsAdmin() {
				return nil, errs.New(errs.Forbidden, "only an ADMIN may see how the installation is")
			}
			return answerWith(ctx, a.systemHealth(ctx), nil)
		})
}

// systemHealth asks all at once.
func (a *API) systemHealth(ctx context.Context) SystemHealth {
	ctx, cancel := context.WithTimeout(ctx, systemTimeout)
	defer cancel()
	now := time.Now()
	out := SystemHealth{
		At: now.UTC(), Requests: a.rates.last(now), Services: []SystemService{}, Streams: []SystemStream{}, Leases: []orchestrator.Lease{}, DeadLetters: []orchestrator.DeadLetterCount{}, Unanswered: []SystemSilence{},
	}
	var mu sync.Mutex
	var asking sync.WaitGroup
	part := func(of string, get func() (put func(), err error)) {
		asking.Go(func() {
			put, err := get()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				out.Unanswered = append(out.Unanswered, SystemSilence{of, errs.From(err).Message})
				return
			}
			put()
		})
	}
	add := func(h rpc.Health) {
		out.Services = append(out.Services, SystemService{Name: h.Service, Version: h.Version, Ready: h.Ready, UptimeMs: h.UptimeMs, Pools: append([]rpc.Pool{}, h.Pools...)})
	}
	part("gateway", func() (func(), error) {
		own := a.Health.Check(ctx)
		return func() { add(own) }, nil
	})
	for _, name := range []string{identity.Service, catalog.Service, orchestrator.Service, runner.Service, telemetry.Service} {
		part(name, func() (func(), error) {
			got, err := bus.Call(ctx, a.Bus, rpc.HealthOf(name), rpc.Caller{}, rpc.Empty{})
			return func() { add(got) }, err
		})
	}
	part("leases", func() (func(), error) {
		got, err := ask(ctx, a, orchestrator.ListLeases, rpc.Empty{})
		return func() { out.Leases = got.Leases }, err
	})
	part("dead letters", func() (func(), error) {
		got, err := ask(ctx, a, orchestrator.CountDeadLetters, rpc.Empty{})
		return func() {
			out.DeadLetters = append(out.DeadLetters, got.Counts...)
		}, err
	})
	part("streams", func() (func(), error) {
		got, err := systemStreams(ctx, a.Bus.JetStream())
		return func() { out.Streams = got }, err
	})
	asking.Wait()
	slices.SortFunc(out.Services, func(x, y SystemService) int { return strings.Compare(x.Name, y.Name) })
	slices.SortFunc(out.Unanswered, func(x, y SystemSilence) int { return strings.Compare(x.Of, y.Of) })
	return out
}

// systemStreams reads how full all streams are, and how far behind their consumers.
func systemStreams(ctx context.Context, js jetstream.JetStream) ([]SystemStream, error) {
	streams := []SystemStream{}
	infos := js.ListStreams(ctx)
	for info := range infos.Info() {
		streams = append(streams, SystemStream{
			Name: info.Config.Name, Messages: info.State.Msgs, Bytes: info.State.Bytes, MaxBytes: info.Config.MaxBytes, Consumers: []SystemConsumer{},
		})
	}
	if err := infos.Err(); err != nil {
		return nil, errs.Wrap(err, errs.DependencyUnavailable, "NATS does not tell its streams; is JetStream on?")
	}
	for i := range streams {
		stream, err := js.Stream(ctx, streams[i].Name)
		if err != nil {
			return nil, errs.Wrap(err, errs.DependencyUnavailable, "NATS does not tell of the stream %s", streams[i].Name)
		}
		consumers := stream.ListConsumers(ctx)
		for c := range consumers.Info() {
			if len(streams[i].Consumers) < mostConsumers {
				streams[i].Consumers = append(streams[i].Consumers, SystemConsumer{Name: c.Name, Pending: c.NumPending, AckPending: c.NumAckPending, Redelivered: c.NumRedelivered, Waiting: c.NumWaiting})
			}
		}
		if err := consumers.Err(); err != nil {
			return nil, errs.Wrap(err, errs.DependencyUnavailable, "NATS does not tell the consumers of the stream %s", streams[i].Name)
		}
		slices.SortFunc(streams[i].Consumers, func(x, y SystemConsumer) int { return strings.Compare(x.Name, y.Name) })
	}
	slices.SortFunc(streams, func(x, y SystemStream) int { return strings.Compare(x.Name, y.Name) })
	return streams, nil
}
