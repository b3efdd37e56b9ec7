// Package servicetest runs a service in a test as a process of its own would run, and looks at
// it as operators do.
package servicetest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"turbocat.io/pkg/service"
)

// patience is how long a start or a stop may take.
const patience = 60 * time.Second

// Process is a service that runs until the test ends.
type Process struct {
	name   string
	client *http.Client
	logs   *lockedBuffer
	stop   context.CancelFunc
	ready  chan struct{}
	done   chan struct{} // closed when err is set
	err    error
}

// Start runs a service and returns once it is ready.
func Start(t testing.TB, unit service.Unit, environ map[string]string) *Process {
	t.Helper()
	p := Launch(t, unit, environ)
	p.AwaitReady(t)
	return p
}

// Launch runs a service and returns at once.
func Launch(t testing.TB, unit service.Unit, environ map[string]string) *Process {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &Process{
		name: unit.Name, client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}, logs: &lockedBuffer{},
		stop: cancel, ready: make(chan struct{}), done: make(chan struct{}),
	}
	go func() {
		defer close(p.done)
		p.err = unit.Run(ctx, environ, p.logs, func() { close(p.ready) })
	}()
	t.Cleanup(func() {
		p.client.CloseIdleConnections()
		p.Stop(t)
		if t.Failed() {
			t.Log(p.Logs())
		}
	})
	return p
}

// AwaitReady returns once the service says that it is ready.
func (p *Process) AwaitReady(t testing.TB) {
	t.Helper()
	select {
	case <-p.ready:
	case <-p.done:
		t.Fatalf("%s ended before it was ready: %v", p.name, p.err)
	case <-time.After(patience):
		t.Fatalf("%s is not ready; log:\n%s", p.name, p.Logs())
	}
}

// Tell asks the service to stop.
func (p *Process) Tell() { p.stop() }

// Stop stops the service and waits until it has ended; it may be called again.
func (p *Process) Stop(t testing.TB) {
	t.Helper()
	p.stop()
	select {
	case <-p.done:
		if p.err != nil {
			t.Errorf("%s ended: %v", p.name, p.err)
		}
	case <-time.After(patience):
		t.Errorf("%s does not stop", p.name)
	}
}

// Logs gives what the service has logged so far.
func (p *Process) Logs() string { return p.logs.String() }

// Operations gives the address of the service's operations listener, as its log tells it.
func (p *Process) Operations(t testing.TB) string {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		for line := range strings.Lines(p.Logs()) {
			var entry struct {
				OpsAddress string `json:"opsAddress"`
			}
			if json.Unmarshal([]byte(line), &entry) == nil && entry.OpsAddress != "" {
				return "http://" + entry.OpsAddress
			}
		}
	}
	t.Fatalf("the log has no opsAddress:\n%s", p.Logs())
	return ""
}

// Get asks the operations listener.
func (p *Process) Get(t testing.TB, path string) (status int, body string) {
	t.Helper()
	resp, err := p.client.Get(p.Operations(t) + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// Metrics scrapes the service.
func (p *Process) Metrics(t testing.TB) map[string]*dto.MetricFamily {
	t.Helper()
	status, body := p.Get(t, "/metrics")
	if status != http.StatusOK {
		t.Fatalf("/metrics: %d %s", status, body)
	}
	return Parse(t, body)
}

// Parse reads what a /metrics answered.
func Parse(t testing.TB, body string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatalf("not the text format: %v\n%s", err, body)
	}
	return families
}

var uuid = regexp.MustCompile(`(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// CheckMetrics fails the test unless every metric of the service is named turbocat_<service>_<noun>_<unit>,
// says what it is, keeps to the customs of Prometheus, and has no id in a label. want are some that
// must be there, without turbocat_<service>_.
func CheckMetrics(t testing.TB, service string, families map[string]*dto.MetricFamily, want ...string) {
	t.Helper()
	prefix := "turbocat_" + service + "_"
	own := regexp.MustCompile("^" + prefix + "[a-z][a-z0-9_]*[a-z0-9]$")
	var mine []*dto.MetricFamily
	for name, family := range families {
		foreign := strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") || strings.HasPrefix(name, "promhttp_")
		if !foreign {
			mine = append(mine, family)
			if name != "turbocat_build_info" && !own.MatchString(name) {
				t.Errorf("%s is not named %s<noun>_<unit>", name, prefix)
			}
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if uuid.MatchString(label.GetValue()) {
					t.Errorf("%s has an id in its label %s: %s", name, label.GetName(), label.GetValue())
				}
			}
		}
	}
	problems, err := promlint.NewWithMetricFamilies(mine).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for _, name := range append([]string{"nats_connected", "nats_reconnects_total"}, want...) {
		if families[prefix+name] == nil {
			t.Errorf("there is no %s", prefix+name)
		}
	}
	for _, name := range []string{"go_goroutines", "process_open_fds", "turbocat_build_info"} {
		if families[name] == nil {
			t.Errorf("there is no %s", name)
		}
	}
}

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
