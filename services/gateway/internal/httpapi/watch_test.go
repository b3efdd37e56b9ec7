package httpapi_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/rs/zerolog"

	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
	"turbocat.io/pkg/observe"
	"turbocat.io/pkg/observe/observetest"
	"turbocat.io/pkg/service/servicetest"
)

// scrape reads the gateway's metrics from its public port.
func (w *world) scrape() map[string]*dto.MetricFamily {
	w.t.Helper()
	got := w.do(request{method: "GET", path: "/metrics"})
	if got.status != http.StatusOK {
		w.t.Fatalf("/metrics: %d %s", got.status, got.text)
	}
	return servicetest.Parse(w.t, got.text)
}

// counted gives how many samples a histogram has with the given values of its labels, in their order.
func counted(families map[string]*dto.MetricFamily, name string, labels ...string) (n uint64) {
	for _, m := range families[name].GetMetric() {
		var values []string
		for _, l := range m.GetLabel() {
			values = append(values, l.GetValue())
		}
		if strings.Join(values, " ") == strings.Join(labels, " ") {
			n += m.GetHistogram().GetSampleCount() + uint64(m.GetCounter().GetValue()+m.GetGauge().GetValue())
		}
	}
	return n
}

func TestRequestsAreCounted(t *testing.T) {
	w := start(t, setup{authPerMinute: 2})
	w.do(request{method: "GET", path: "/api/v1/executions/" + thingID, token: aliceToken})
	w.do(request{method: "GET", path: "/api/v1/executions/" + thingID, token: bobToken})
	w.do(request{method: "GET", path: "/no/such/path/" + thingID})
	w.do(request{method: "PUT", path: "/api/v1/agents/" + thingID, token: aliceToken})
	for range 3 {
		w.do(request{method: "POST", path: "/api/v1/auth/login", body: `{"email":"a@x.io","password":"x"}`})
	}
	families := w.scrape()
	const requests = "turbocat_gateway_http_request_duration_seconds"
	for _, want := range [][]string{
		{"GET", "/api/v1/executions/:id", "2xx"}, {"GET", "/api/v1/executions/:id", "4xx"}, {"GET", "-", "4xx"}, {"PUT", "-", "4xx"},
	} {
		if n := counted(families, requests, want...); n != 1 {
			t.Errorf("%v: %d", want, n)
		}
	}
	if n := counted(families, "turbocat_gateway_rate_limited_total", "auth"); n != 1 {
		t.Errorf("%d requests over the limit", n)
	}
	if n := counted(families, "turbocat_gateway_http_requests_in_flight"); n != 1 { // this very one
		t.Errorf("%d requests in flight", n)
	}
}

func TestEventStreamsAreCounted(t *testing.T) {
	w := start(t, setup{ping: 20 * time.Millisecond})
	open := func() uint64 { return counted(w.scrape(), "turbocat_gateway_event_streams_open") }
	stream := w.follow("", nil)
	w.await(func() bool { return open() == 1 })
	stream.stop()
	w.await(func() bool { return open() == 0 })
}

// One request is one trace, from the client through the gateway to the service that answers,
// and the logs of each hop name it.
func TestARequestIsOneTrace(t *testing.T) {
	collector, url := observetest.New(t), bustest.Server(t)
	tracing := func(service string) *observe.Tracing {
		tr, err := observe.NewTracing(observe.TracingConfig{Service: service, Endpoint: collector.URL, Ratio: 1, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(tr.Close)
		return tr
	}
	gateway := tracing("gateway")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := bus.Connect(ctx, url, "gateway", zerolog.Nop(), bus.WithTracing(gateway))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	w := start(t, setup{tracing: gateway, conn: conn})
	const trace = "0af7651916cd43dd8448eb211c80319c"
	for _, sampled := range []string{"01", "00"} {
		got := w.do(request{method: "POST", path: "/api/v1/workflows/" + thingID + "/execute", token: aliceToken, header: map[string]string{
			"traceparent": "00-" + trace + "-b7ad6b7169203331-" + sampled, "X-Request-ID": "r-" + sampled,
		}})
		if got.status != http.StatusCreated {
			t.Fatalf("%d %s", got.status, got.text)
		}
		if _, caller := w.called("orchestrator.submit"); observe.TraceID(caller.Traceparent) != trace || !strings.HasSuffix(caller.Traceparent, "-"+sampled) {
			t.Errorf("the orchestrator is told %s", caller.Traceparent)
		}
	}
	w.do(request{method: "PATCH", path: "/api/v1/workflows/" + thingID, token: aliceToken, body: `{}`, header: map[string]string{"X-Request-ID": "r-fail"}})

	door := collector.Await(t, "gateway", "POST /api/v1/workflows/:id/execute")
	asked := collector.Await(t, "gateway", "orchestrator.submit")
	answered := collector.Await(t, "gateway", "submit") // played over the gateway's own connection
	if door.TraceID != trace || door.ParentID != "b7ad6b7169203331" || door.Kind != "SPAN_KIND_SERVER" || door.Attributes["turbocat.request_id"] != "r-01" {
		t.Errorf("the request is %+v", door)
	}
	if asked.TraceID != trace || asked.ParentID != door.SpanID || answered.TraceID != trace || answered.ParentID != asked.SpanID {
		t.Errorf("the call is %+v, its answer %+v", asked, answered)
	}
	failed := collector.Await(t, "gateway", "PATCH /api/v1/workflows/:id")
	if !failed.Failed || failed.TraceID == trace {
		t.Errorf("the failed request is %+v", failed)
	}
	for _, s := range collector.Spans() {
		if strings.Contains(s.Name, thingID) || s.Attributes["turbocat.request_id"] == "r-00" {
			t.Errorf("a span that is not wanted: %+v", s)
		}
	}
	w.logged(map[string]string{"message": "request", "requestId": "r-01", "traceId": trace, "route": "/api/v1/workflows/:id/execute"})
	w.logged(map[string]string{"message": "request failed", "requestId": "r-fail", "traceId": failed.TraceID})
}

// logged fails the test unless a line of the log has all these fields.
func (w *world) logged(want map[string]string) {
	w.t.Helper()
lines:
	for line := range strings.Lines(w.log.String()) {
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			w.t.Fatal(err)
		}
		for k, v := range want {
			if got[k] != v {
				continue lines
			}
		}
		return
	}
	w.t.Errorf("no line has %v", want)
}

func TestWatchingIsNotTraced(t *testing.T) {
	collector := observetest.New(t)
	tracing, err := observe.NewTracing(observe.TracingConfig{Service: "gateway", Endpoint: collector.URL, Ratio: 1, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	w := start(t, setup{tracing: tracing})
	for _, path := range []string{"/metrics", "/health", "/health/live", "/health/ready"} {
		if got := w.do(request{method: "GET", path: path}); got.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, got.status, got.text)
		}
	}
	tracing.Close()
	if spans := collector.Spans(); len(spans) != 0 {
		t.Errorf("spans %+v", spans)
	}
}
