package bus_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
	"turbocat.io/pkg/observe"
	"turbocat.io/pkg/observe/observetest"
)

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tracing makes the spans of a service that end at the collector.
func tracing(t *testing.T, service string, collector *observetest.Collector) *observe.Tracing {
	t.Helper()
	tr, err := observe.NewTracing(observe.TracingConfig{Service: service, Endpoint: collector.URL, Ratio: 1, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	return tr
}

func connect(t *testing.T, url string, options ...bus.Option) *bus.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := bus.Connect(ctx, url, t.Name(), zerolog.Nop(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestACallIsWatched(t *testing.T) {
	t.Parallel()
	collector, url := observetest.New(t), bustest.Server(t)
	asking, answering := prometheus.NewRegistry(), prometheus.NewRegistry()
	client := connect(t, url, bus.WithTracing(tracing(t, "client", collector)), bus.WithMetrics(asking))
	served := connect(t, url, bus.WithTracing(tracing(t, "test", collector)), bus.WithMetrics(answering))
	var log lockedBuffer
	s := bus.NewServer("test", zerolog.New(&log))
	var seen rpc.Caller
	bus.Handle(s, echo, func(ctx context.Context, who rpc.Caller, req text) (text, error) {
		if got := observe.Traceparent(ctx); got != who.Traceparent {
			t.Errorf("the context is of %s and the caller of %s", got, who.Traceparent)
		}
		if req.Text == "fail" {
			return text{}, errors.New("reason")
		}
		seen = who
		return req, nil
	})
	bustest.Serve(t, served, s)
	const trace = "0af7651916cd43dd8448eb211c80319c"
	caller := rpc.Caller{RequestID: "r-1", Traceparent: "00-" + trace + "-b7ad6b7169203331-01"}
	if _, err := await(t, client, caller, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := await(t, client, caller, "fail"); errs.CodeOf(err) != errs.Internal {
		t.Fatal(err)
	}
	answered := collector.Await(t, "test", "echo")
	asked := collector.AwaitWhere(t, "the call", func(s observetest.Span) bool { return s.SpanID == answered.ParentID })
	if asked.TraceID != trace || asked.ParentID != "b7ad6b7169203331" || asked.Kind != "SPAN_KIND_CLIENT" || asked.Service != "client" || asked.Name != "test.echo" {
		t.Errorf("the call is %+v", asked)
	}
	if answered.TraceID != trace || answered.Kind != "SPAN_KIND_SERVER" || answered.Attributes["turbocat.request_id"] != "r-1" {
		t.Errorf("the answer is %+v", answered)
	}
	if observe.TraceID(seen.Traceparent) != trace || seen.Traceparent == caller.Traceparent {
		t.Errorf("the service is told %q", seen.Traceparent)
	}
	if l := log.String(); !strings.Contains(l, `"requestId":"r-1"`) || !strings.Contains(l, `"traceId":"`+trace+`"`) {
		t.Errorf("log %s", l)
	}
	for registry, name := range map[*prometheus.Registry]string{asking: "rpc_client_duration_seconds", answering: "rpc_server_duration_seconds"} {
		if n, err := testutil.GatherAndCount(registry, name); err != nil || n < 2 {
			t.Errorf("%s has %d codes: %v", name, n, err)
		}
	}
}

func TestEveryCallHasATrace(t *testing.T) {
	t.Parallel()
	c := bustest.New(t)
	s := bus.NewServer("test", zerolog.Nop())
	traces := make(chan string, 1)
	bus.Handle(s, echo, func(_ context.Context, who rpc.Caller, req text) (text, error) {
		traces <- observe.TraceID(who.Traceparent)
		return req, nil
	})
	bustest.Serve(t, c, s)
	if _, err := await(t, c, rpc.Caller{Traceparent: "nonsense"}, "a"); err != nil {
		t.Fatal(err)
	}
	if id := <-traces; len(id) != 32 {
		t.Errorf("trace %q", id)
	}
}

// A server whose store is full answers everything but publishes.
func TestWriteCheckSeesAFullStore(t *testing.T) {
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
	c := connect(t, ns.ClientURL())
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	check := func() error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return c.CheckWrite(ctx, "probe.test")
	}
	if err := check(); err == nil || !strings.Contains(err.Error(), "no stream takes probe.test") {
		t.Errorf("without a stream: %v", err)
	}
	js := c.JetStream()
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "PROBE", Subjects: []string{"probe.>"}, MaxMsgsPerSubject: 1}); err != nil {
		t.Fatal(err)
	}
	if err := check(); err != nil {
		t.Errorf("with a stream: %v", err)
	}
	fill, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "FILL", Subjects: []string{"fill"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err := js.Publish(ctx, "fill", make([]byte, 100_000)); err != nil {
			break
		}
	}
	if err := check(); err == nil || !strings.Contains(err.Error(), "JetStream stores nothing") {
		t.Errorf("with a full store: %v", err)
	}
	if err := c.Check(ctx); err != nil {
		t.Errorf("the server does not even answer: %v", err)
	}
	if err := fill.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for check() != nil {
		if time.Now().After(deadline) {
			t.Fatalf("with room again: %v", check())
		}
	}
}

// BenchmarkCall is one call and its answer over loopback, nothing recorded.
func BenchmarkCall(b *testing.B) {
	c := bustest.New(b)
	s := bus.NewServer("test", zerolog.Nop())
	bus.Handle(s, echo, func(_ context.Context, _ rpc.Caller, req text) (text, error) { return req, nil })
	bustest.Serve(b, c, s)
	caller := rpc.Caller{UserID: "u", Role: rpc.RoleUser, RequestID: "r", Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}
	for deadline := time.Now().Add(10 * time.Second); ; {
		_, err := bus.Call(context.Background(), c, echo, caller, text{Text: "a"})
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bus.Call(context.Background(), c, echo, caller, text{Text: "a"}); err != nil {
			b.Fatal(err)
		}
	}
}
