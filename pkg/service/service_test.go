package service_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
	"turbocat.io/pkg/observe"
	"turbocat.io/pkg/observe/observetest"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/pkg/redistest"
	"turbocat.io/pkg/service"
	"turbocat.io/pkg/service/servicetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type config struct{}

// idle is a service that does nothing until it is stopped, and then whatever leave does.
type idle struct{ leave func() }

func (i idle) Run(ctx context.Context) error {
	<-ctx.Done()
	if i.leave != nil {
		i.leave()
	}
	return nil
}

func report(t *testing.T, body string) rpc.Health {
	t.Helper()
	var h rpc.Health
	if err := json.Unmarshal([]byte(body), &h); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return h
}

func eventually(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !holds(); <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

func TestAServiceIsWatchedFromItsStartToItsEnd(t *testing.T) {
	t.Parallel()
	var works atomic.Bool
	leave := make(chan struct{})
	letGo := sync.OnceFunc(func() { close(leave) })
	unit := service.Spec[config]{Name: "test", Redis: true, New: func(env service.Env, _ config) (service.Service, error) {
		env.Health.Add("warm", func(context.Context) error {
			if works.Load() {
				return nil
			}
			return errors.New("it is cold")
		})
		return idle{func() { <-leave }}, nil
	}}.Unit()
	p := servicetest.Launch(t, unit, map[string]string{"NATS_URL": bustest.Server(t), "REDIS_URL": redistest.URL(t)})
	t.Cleanup(letGo)

	status, body := p.Get(t, "/health/ready")
	if status != http.StatusServiceUnavailable || report(t, body).Ready {
		t.Errorf("before it is ready: %d %s", status, body)
	}
	if status, body := p.Get(t, "/health/live"); status != http.StatusOK || !strings.Contains(body, `"service":"test"`) {
		t.Errorf("alive: %d %s", status, body)
	}
	works.Store(true)
	p.AwaitReady(t)
	for _, path := range []string{"/health", "/health/ready"} {
		status, body := p.Get(t, path)
		h := report(t, body)
		names := []string{}
		for _, d := range h.Dependencies {
			names = append(names, d.Name+" "+d.Status)
		}
		if status != http.StatusOK || !h.Ready || h.Service != "test" || h.Version != service.Version || fmt.Sprint(names) != "[nats HEALTHY redis HEALTHY warm HEALTHY]" {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	servicetest.CheckMetrics(t, "test", p.Metrics(t), "redis_connections_open", "redis_connections_in_use", "redis_pool_timeouts_total")
	shown := func() string {
		families := p.Metrics(t)
		text := fmt.Sprint("ready ", families["turbocat_test_ready"].GetMetric()[0].GetGauge().GetValue())
		for _, m := range families["turbocat_test_dependency_up"].GetMetric() {
			text += fmt.Sprint(" ", m.GetLabel()[0].GetValue(), " ", m.GetGauge().GetValue())
		}
		return text
	}
	if got := shown(); got != "ready 1 nats 1 redis 1 warm 1" {
		t.Errorf("its metrics say %s", got)
	}
	works.Store(false)
	if got := shown(); got != "ready 0 nats 1 redis 1 warm 0" {
		t.Errorf("while it is cold its metrics say %s", got)
	}
	works.Store(true)
	for path, want := range map[string]int{"/": http.StatusNotFound, "/debug/pprof/": http.StatusNotFound, "/health/": http.StatusNotFound} {
		if status, _ := p.Get(t, path); status != want {
			t.Errorf("%s: %d", path, status)
		}
	}
	resp, err := http.Post(p.Operations(t)+"/health", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", resp.StatusCode)
	}

	p.Tell()
	eventually(t, 10*time.Second, "it says that it is stopping", func() bool {
		status, body := p.Get(t, "/health/ready")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "the service is stopping")
	})
	if status, _ := p.Get(t, "/health/live"); status != http.StatusOK {
		t.Errorf("alive while it stops: %d", status)
	}
	letGo()
	p.Stop(t)
	if n := strings.Count(p.Logs(), "opsAddress"); n != 1 {
		t.Errorf("the address is logged %d times", n)
	}
}

// R14: what can not store any more is not ready within five seconds, and ready again by itself.
func TestReadinessSeesAFullNATS(t *testing.T) {
	t.Parallel()
	ns, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true, JetStreamMaxStore: 1 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() {
		ns.Shutdown()
		ns.WaitForShutdown()
	})
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("no NATS")
	}
	js := bustest.Connect(t, ns.ClientURL()).JetStream()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: subject.ProbeStream, Subjects: []string{subject.ProbeAll}, MaxMsgsPerSubject: 1}); err != nil {
		t.Fatal(err)
	}
	fill, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "FILL", Subjects: []string{"fill"}})
	if err != nil {
		t.Fatal(err)
	}
	unit := service.Spec[config]{Name: "test", Streams: true, New: func(service.Env, config) (service.Service, error) { return idle{}, nil }}.Unit()
	p := servicetest.Start(t, unit, map[string]string{"NATS_URL": ns.ClientURL()})
	ready := func() bool {
		status, body := p.Get(t, "/health/ready")
		if status != http.StatusOK && !strings.Contains(body, "is its disk or max_file_store full?") {
			t.Errorf("not ready for another reason: %s", body)
		}
		return status == http.StatusOK
	}
	if !ready() {
		t.Fatal("not ready with an empty store")
	}
	for range 100 {
		if _, err := js.Publish(ctx, "fill", make([]byte, 100_000)); err != nil {
			break
		}
	}
	eventually(t, 5*time.Second, "not ready", func() bool { return !ready() })
	if err := fill.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "ready again", ready)
}

func TestReadinessSeesAReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	url, nats := pgtest.URL(t, nil), bustest.Server(t)
	unit := service.Spec[config]{Name: "test", Database: true, New: func(service.Env, config) (service.Service, error) { return idle{}, nil }}.Unit()
	p := servicetest.Start(t, unit, map[string]string{"NATS_URL": nats, "DATABASE_URL": url})
	if status, body := p.Get(t, "/health/ready"); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	servicetest.CheckMetrics(t, "test", p.Metrics(t), "postgres_connections_open", "postgres_connections_in_use", "postgres_waits_total", "postgres_wait_seconds_total")

	separator := "?"
	if strings.Contains(url, "?") {
		separator = "&"
	}
	p = servicetest.Launch(t, unit, map[string]string{"NATS_URL": nats, "DATABASE_URL": url + separator + "default_transaction_read_only=on"})
	eventually(t, 20*time.Second, "it says why it is not ready", func() bool {
		status, body := p.Get(t, "/health/ready")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "the database takes reads alone")
	})
}

func TestWhoAsksOftenCostsNothing(t *testing.T) {
	t.Parallel()
	health := service.NewHealth("test")
	var checked atomic.Int64
	health.AddProbe("x", func(ctx context.Context) error {
		checked.Add(1)
		return ctx.Err()
	})
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	begin := time.Now()
	var asking sync.WaitGroup
	for range 100 {
		asking.Go(func() {
			// Who went away meanwhile does not spoil the answer for the others.
			if !health.Check(gone).Ready {
				t.Error("not ready")
			}
		})
	}
	asking.Wait()
	if n, most := checked.Load(), int64(time.Since(begin)/time.Second)+1; n > most {
		t.Errorf("checked %d times", n)
	}
	eventually(t, 10*time.Second, "a report gets old", func() bool {
		health.Check(context.Background())
		return checked.Load() > 1
	})
}

func TestSettingsThatCanNotBeUsed(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	unit := service.Spec[config]{Name: "test", New: func(service.Env, config) (service.Service, error) { return idle{}, nil }}.Unit()
	for value, name := range map[string]string{
		taken.Addr().String(): "TURBOCAT_TEST_OPS_ADDRESS", "9090": "TURBOCAT_TEST_OPS_ADDRESS", "127.0.0.1:no": "TURBOCAT_TEST_OPS_ADDRESS", "127.0.0.1:70000": "TURBOCAT_TEST_OPS_ADDRESS",
		"2": "OTEL_TRACES_SAMPLER_ARG", "half": "OTEL_TRACES_SAMPLER_ARG", "NaN": "OTEL_TRACES_SAMPLER_ARG", "localhost:4318": "OTEL_EXPORTER_OTLP_ENDPOINT",
		"https://sentry.example.com/1": "SENTRY_DSN",
	} {
		err := unit.Run(context.Background(), map[string]string{name: value}, io.Discard, func() {})
		if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}

// A service tells Sentry of what it logs as an error, and before its end of a panic that ends it.
func TestFaultsOfAServiceAreTold(t *testing.T) {
	t.Parallel()
	sentry := observetest.NewSentry(t)
	unit := service.Spec[config]{Name: "test", New: func(env service.Env, _ config) (service.Service, error) {
		env.Log.Error().EmbedObject(observe.IDs{RequestID: "r-1"}).Err(errors.New("full")).Msg("not stored")
		panic("broken")
	}}.Unit()
	func() {
		defer func() {
			if p := recover(); p != "broken" {
				t.Errorf("it ends with %v", p)
			}
		}()
		_ = unit.Run(t.Context(), map[string]string{"NATS_URL": bustest.Server(t), "SENTRY_DSN": sentry.DSN, "SENTRY_ENVIRONMENT": "test"}, io.Discard, func() {})
	}()
	if got := sentry.Next(t); got.Message != "not stored" || got.Tags["requestId"] != "r-1" || got.Tags["service"] != "test" || got.Release != "turbocat@"+service.Version || got.Environment != "test" {
		t.Errorf("of the line it is told %+v", got)
	}
	if got := sentry.Next(t); got.Level != "fatal" || !strings.HasPrefix(got.Exception[0].Value, "broken") {
		t.Errorf("of the panic it is told %+v", got)
	}
}

func TestHealthOverTheBus(t *testing.T) {
	t.Parallel()
	url := bustest.Server(t)
	unit := service.Spec[config]{Name: "test", New: func(service.Env, config) (service.Service, error) { return idle{}, nil }}.Unit()
	p := servicetest.Start(t, unit, map[string]string{"NATS_URL": url})
	conn := bustest.Connect(t, url)
	got, err := bus.Call(t.Context(), conn, rpc.HealthOf("test"), rpc.Caller{}, rpc.Empty{})
	if err != nil || !got.Ready || len(got.Dependencies) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	servicetest.CheckMetrics(t, "test", p.Metrics(t), "rpc_server_duration_seconds")
}
