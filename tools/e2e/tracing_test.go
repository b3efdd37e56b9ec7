//go:build unix

package e2e

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/llmtest"
	"turbocat.io/pkg/observe"
	"turbocat.io/pkg/observe/observetest"
)

// TestOneTrace follows one trace from a client's request through the gateway, the log of inputs and the runner to what an agent calls
// to the model that another one asks, and to a webhook.
func TestOneTrace(t *testing.T) {
	t.Parallel()
	collector := observetest.New(t)
	i := own(t, "trace")
	i.environ = append(i.environ, "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL)
	if err := i.start(); err != nil {
		t.Fatal(err)
	}
	c := register(t, i.url)
	called := make(chan string, 1)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		called <- r.Header.Get("Traceparent")
		_, _ = w.Write([]byte(`{"ok":true}`))
	}))
	defer target.Close()
	model := llmtest.New(t, func(llmtest.Request) llmtest.Reply { return llmtest.Reply{Text: "done", Input: 100, Output: 10} })
	asks := c.llm(t, model, object{"prompt": "Say done."}) // keeps the canary as a secret
	calls := c.agent(t, "API", object{"method": "GET", "url": target.URL + "/path-of-it?key={{secrets.MODEL_KEY}}"})
	told := make(chan string, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { told <- r.Header.Get("Traceparent") }))
	defer hook.Close()
	data[telemetry.IssuedWebhook](t, c.do(t, "POST", "/webhooks", object{"url": hook.URL, "filter": `type startsWith "io.turbocat.execution.completed"`}), 201)
	workflow := c.workflow(t, []object{step("call", calls), step("ask", asks, after("call"))})

	const trace, client = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	e := c.begin(t, workflow, "traceparent", "00-"+trace+"-"+client+"-01")
	if e = c.awaitEnd(t, e.ID); e.Status != "COMPLETED" {
		t.Fatalf("%s: %+v", statuses(e), e.Error)
	}

	await := func(service, name, step string) observetest.Span {
		t.Helper()
		return collector.AwaitWhere(t, service+": "+name+" "+step, func(s observetest.Span) bool {
			return s.TraceID == trace && s.Service == service && s.Name == name && (step == "" || s.Attributes["turbocat.step_key"] == step)
		})
	}
	// Each is the child of the one before; the chain begins anew at an empty line.
	request := collector.AwaitWhere(t, "the request", func(s observetest.Span) bool { return s.ParentID == client && s.Service == "gateway" })
	submitting := await("gateway", "orchestrator.submit", "")
	submitted := await("orchestrator", "submit", "")
	begun := await("orchestrator", "apply submitted", "")

	sentCall := await("orchestrator", "dispatch API", "call")
	attempt := await("runner", "attempt API", "call")
	call := await("runner", "GET", "")
	result := await("orchestrator", "apply step_completed", "call")

	sentAsk := await("orchestrator", "dispatch LLM", "ask")
	asking := await("runner", "attempt LLM", "ask")
	chat := await("runner", "chat gpt-5-mini", "")
	post := collector.AwaitWhere(t, "the request to the provider", func(s observetest.Span) bool { return s.Name == "POST" && s.Service == "runner" })
	delivery := await("telemetry", "webhook", "")
	for _, edge := range []struct{ child, parent observetest.Span }{
		{submitting, request},
		{submitted, submitting},
		{begun, submitted},
		{sentCall, submitted},
		{attempt, sentCall},
		{call, attempt},
		{result, attempt},
		{sentAsk, submitted},
		{asking, sentAsk},
		{chat, asking},
		{post, chat},
		{delivery, submitted},
	} {
		if edge.child.TraceID != trace || edge.child.ParentID != edge.parent.SpanID {
			t.Errorf("%s of %s is not below %s of %s: %+v", edge.child.Name, edge.child.Service, edge.parent.Name, edge.parent.Service, edge.child)
		}
	}
	if got := <-called; observe.TraceID(got) != trace || !strings.Contains(got, call.SpanID) {
		t.Errorf("the agent's target is called in %s; the span of the call is %s", got, call.SpanID)
	}
	if got := <-told; got != "00-"+trace+"-"+delivery.SpanID+"-01" {
		t.Errorf("the webhook is called in %s; the span of the delivery is %s", got, delivery.SpanID)
	}
	if call.Attributes["http.response.status_code"] != "200" || call.Attributes["server.address"] != "127.0.0.1" {
		t.Errorf("the call is %+v", call.Attributes)
	}
	if a := chat.Attributes; a["gen_ai.provider.name"] != "openai" || a["gen_ai.usage.input_tokens"] != "100" || a["gen_ai.usage.output_tokens"] != "10" {
		t.Errorf("the question to the model is %+v", a)
	}
	for _, s := range collector.Spans() {
		for name, value := range s.Attributes {
			if strings.Contains(value, canary) || strings.Contains(value, "path-of-it") {
				t.Errorf("%s of %s tells by %s: %s", s.Name, s.Service, name, value)
			}
		}
	}
}
