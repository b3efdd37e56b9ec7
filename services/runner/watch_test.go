package runner

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/observe/observetest"
	"turbocat.io/pkg/service/servicetest"
)

// An attempt is a span of its execution's trace, and whatever is said of it names that trace.
func TestTheRunnerCanBeWatched(t *testing.T) {
	w := newWorld(t, long)
	collector := observetest.New(t)
	p := servicetest.Start(t, Spec().Unit(), map[string]string{
		"NATS_URL": w.url, "TURBOCAT_RUNNER_ALLOW_ADDRESSES": "127.0.0.0/8,::1/128", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL,
	})
	called := make(chan http.Header, 2)
	target := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		called <- r.Header
		_, _ = rw.Write([]byte("{}"))
	}))
	defer target.Close()
	recorded := with(event.HeaderTraceparent, "00-"+traceID+"-b7ad6b7169203331-01")
	call := func(headers string) func(*nats.Msg) {
		return func(m *nats.Msg) {
			m.Subject = subject.Step(subject.DefaultPool, catalog.AgentAPI, 5)
			m.Data = fmt.Appendf(nil, `{"config":{"method":"GET","url":%q,"headers":%s},"input":{}}`, target.URL, headers)
		}
	}

	w.send(step("call", recorded, call(`{}`)))
	result := w.expect(runner.TypeStepCompleted, "call")
	span := collector.AwaitWhere(t, "the attempt", func(s observetest.Span) bool { return s.Name == "attempt API" })
	own := "00-" + traceID + "-" + span.SpanID + "-01"
	if span.TraceID != traceID || span.ParentID != "b7ad6b7169203331" || span.Kind != "SPAN_KIND_CONSUMER" ||
		span.Attributes["turbocat.execution_id"] != "execution-of-call" || span.Attributes["turbocat.outcome"] != "completed" || span.Failed {
		t.Errorf("the attempt is %+v", span)
	}
	if got := result.Headers().Get(event.HeaderTraceparent); got != own {
		t.Errorf("the result is of %s, not %s", got, own)
	}
	request := collector.AwaitWhere(t, "the request", func(s observetest.Span) bool { return s.Name == "GET" && s.ParentID == span.SpanID })
	if got, want := await(t, "the call", called).Get("traceparent"), "00-"+traceID+"-"+request.SpanID+"-01"; got != want {
		t.Errorf("the call is of %s, not %s", got, want)
	}
	w.send(step("own", recorded, call(`{"traceparent":"mine"}`)))
	w.expect(runner.TypeStepCompleted, "own")
	if got := await(t, "the call", called).Get("traceparent"); got != "mine" {
		t.Errorf("the agent's own header became %s", got)
	}

	w.send(step("broken", recorded, func(m *nats.Msg) { m.Data = []byte("{") }))
	w.expect(runner.TypeStepFailed, "broken")
	broken := collector.AwaitWhere(t, "the broken attempt", func(s observetest.Span) bool { return s.Attributes["turbocat.execution_id"] == "execution-of-broken" })
	if !broken.Failed || broken.Attributes["turbocat.outcome"] != "internal" {
		t.Errorf("the broken attempt is %+v", broken)
	}
	found := false
	for line := range strings.Lines(p.Logs()) {
		var got map[string]any
		w.must(json.Unmarshal([]byte(line), &got))
		if got["message"] == "step not run" {
			found = got["requestId"] == "request" && got["traceId"] == traceID && got["executionId"] == "execution-of-broken" && got["stepKey"] == "b"
		}
	}
	if !found {
		t.Error("the log does not say whose step was not run")
	}

	w.send(step("code", func(m *nats.Msg) {
		m.Subject = subject.Step(subject.DefaultPool, catalog.AgentCode, 0)
		m.Data = []byte(`{"config":{"runtime":"javascript","source":"function handler(){console.log('hello')}"},"input":{}}`)
	}))
	for m := w.next(); m.Headers().Get(event.HeaderType) == runner.TypeStepStarted; m = w.next() {
		if got := m.Headers().Get(event.HeaderTraceparent); !strings.Contains(got, traceID) {
			t.Errorf("its start is of %s", got)
		}
	}
	lines, err := w.js.OrderedConsumer(w.ctx(), subject.LogsStream, jetstream.OrderedConsumerConfig{})
	w.must(err)
	m, err := lines.Next(jetstream.FetchMaxWait(patience))
	w.must(err)
	var batch telemetry.LogBatch
	w.must(json.Unmarshal(m.Data(), &batch))
	if len(batch.Lines) != 1 || string(batch.Lines[0].Fields) != `{}` {
		t.Errorf("the lines are %s", m.Data())
	}

	families := p.Metrics(t)
	servicetest.CheckMetrics(t, runner.Service, families, "attempts_running", "http_client_duration_seconds", "attempt_slots", "deliveries_held", "reports_unstored", "attempt_duration_seconds", "deliveries_redelivered_total", "sandbox_available", "log_lines_dropped_total", "live_text_dropped_bytes_total")
	finished := map[string]float64{}
	for _, metric := range families["turbocat_runner_attempts_finished_total"].GetMetric() {
		if n := metric.GetCounter().GetValue(); n > 0 {
			finished[metric.GetLabel()[0].GetValue()+" "+metric.GetLabel()[1].GetValue()] = n
		}
	}
	if finished["API completed"] != 2 || finished["DATA internal"] != 1 || finished["CODE completed"] != 1 || len(finished) != 3 {
		t.Errorf("finished are %v", finished)
	}
	status, body := p.Get(t, "/health/ready")
	if status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	for _, agentType := range catalog.RunnerAgentTypes() {
		if !strings.Contains(body, `"steps `+agentType+`"`) {
			t.Errorf("steps of %s agents are not taken; add its kind in runner.go", agentType)
		}
	}
}
