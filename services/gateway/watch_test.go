package gateway

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"turbocat.io/pkg/bus/bustest"
	"turbocat.io/pkg/redistest"
	"turbocat.io/pkg/service/servicetest"
)

func TestTheGatewayCanBeWatched(t *testing.T) {
	p := servicetest.Start(t, Spec().Unit(), map[string]string{"NATS_URL": bustest.Server(t), "REDIS_URL": redistest.URL(t), "PORT": "0"})
	address := listening(t, p)
	defer http.DefaultClient.CloseIdleConnections()
	get := func(path string) string {
		t.Helper()
		resp, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	get("/api/v1/executions/01930000-0000-7000-8000-000000000001")
	get("/01930000-0000-7000-8000-000000000001")
	want := []string{"http_request_duration_seconds", "http_requests_in_flight", "event_streams_open"}
	servicetest.CheckMetrics(t, Name, p.Metrics(t), want...)
	servicetest.CheckMetrics(t, Name, servicetest.Parse(t, get("/metrics")), want...) // where its clients are, too
	if status, body := p.Get(t, "/health/ready"); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
}

// listening gives where clients are answered, as the log tells it a moment after the start.
func listening(t *testing.T, p *servicetest.Process) string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		for line := range strings.Lines(p.Logs()) {
			var entry struct{ Message, Address string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Message == "listening" {
				return entry.Address
			}
		}
	}
	t.Fatalf("the log does not say that it listens:\n%s", p.Logs())
	return ""
}
