package guard

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"turbocat.io/pkg/observe"
	"turbocat.io/pkg/observe/observetest"
)

func TestRequestsCanBeWatched(t *testing.T) {
	t.Parallel()
	collector := observetest.New(t)
	tracing, err := observe.NewTracing(observe.TracingConfig{Service: "runner", Endpoint: collector.URL, Ratio: 1, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	c := client(t, Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Watch: NewWatch(registry, tracing)})
	headers := make(chan http.Header, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers <- r.Header
		if r.URL.Path == "/missing" {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	ctx, outer := tracing.Start(t.Context(), trace.SpanKindConsumer, "outer")
	ctx = Masked(ctx, func(text string) string { return strings.ReplaceAll(text, "127", "***") })
	own := observe.Traceparent(ctx)
	call := func(method, url, traceparent string) error {
		req, err := http.NewRequestWithContext(ctx, method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if traceparent != "" {
			req.Header.Set("traceparent", traceparent)
		}
		resp, err := c.Do(req)
		if req.Header.Get("traceparent") != traceparent {
			t.Errorf("the caller's request was changed to %s", req.Header.Get("traceparent"))
		}
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			err = resp.Body.Close()
		}
		return err
	}
	for _, made := range []struct{ method, path, traceparent string }{{"GET", "/named?key=secret", own}, {"PURGE", "/missing", ""}, {"PUT", "/other", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}} {
		if err := call(made.method, server.URL+made.path, made.traceparent); err != nil {
			t.Fatal(err)
		}
	}
	if call("DELETE", "http://10.0.0.1/", "") == nil {
		t.Error("a private address is called")
	}
	outer.End()
	tracing.Close()

	parent := collector.Await(t, "runner", "outer")
	named := collector.Await(t, "runner", "GET")
	if named.ParentID != parent.SpanID || named.Kind != "SPAN_KIND_CLIENT" || named.Failed || named.Attributes["server.address"] != "***.0.0.1" || named.Attributes["http.response.status_code"] != "200" {
		t.Errorf("the request is %+v", named)
	}
	for name, value := range named.Attributes {
		if strings.Contains(value, "secret") || strings.Contains(value, "named") {
			t.Errorf("%s is %s", name, value)
		}
	}
	if got := (<-headers).Get("traceparent"); !strings.Contains(got, named.SpanID) {
		t.Errorf("the server was called in %s, and not in the request's span %s", got, named.SpanID)
	}
	if got := (<-headers).Get("traceparent"); got != "" {
		t.Errorf("who was to be told of no trace was called in %s", got)
	}
	if got := (<-headers).Get("traceparent"); !strings.Contains(got, "b7ad6b7169203331") {
		t.Errorf("the caller's own trace became %s", got)
	}
	if other := collector.Await(t, "runner", "_OTHER"); !other.Failed || other.Attributes["error.type"] != "404" {
		t.Errorf("the missing one is %+v", other)
	}
	if refused := collector.Await(t, "runner", "DELETE"); !refused.Failed || refused.Attributes["error.type"] != "refused" {
		t.Errorf("the refused one is %+v", refused)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, m := range families[0].GetMetric() {
		counts[m.GetLabel()[0].GetValue()] = m.GetHistogram().GetSampleCount()
	}
	if counts["2xx"] != 2 || counts["4xx"] != 1 || counts["refused"] != 1 || len(counts) != 3 {
		t.Errorf("counted are %v", counts)
	}
}
