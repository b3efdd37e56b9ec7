package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/getsentry/sentry-go"
	"github.com/rs/zerolog"
)

const (
	// maxFault bounds the text of an error that is told, in bytes.
	maxFault = 8 << 10
	// tellTimeout bounds how long the end of a process waits until what happened is told.
	tellTimeout = 2 * time.Second
)

// FaultsConfig says where the faults of a service are told.
type FaultsConfig struct {
	Service     string
	Version     string
	DSN         string // of a Sentry project; "" tells nobody
	Environment string // "" leaves it to Sentry
}

// Faults tells Sentry of log lines that are errors, and of panics. A line is told by its message, its error, whose work it was and nothing
// else. Nil tells nobody. It is safe for concurrent use.
type Faults struct {
	service string
	client  *sentry.Client
	way     *breakable
}

// NewFaults makes a Faults; nil without a DSN. The error says what is wrong with cfg. Nobody ever waits for Sentry but Close.
func NewFaults(cfg FaultsConfig) (*Faults, error) {
	if cfg.DSN == "" {
		return nil, nil
	}
	f := &Faults{service: cfg.Service, way: newBreakable()}
	var err error
	f.client, err = sentry.NewClient(sentry.ClientOptions{
		Dsn: cfg.DSN, Release: "turbocat@" + cfg.Version, Environment: cfg.Environment, HTTPTransport: f.way,
		// What a line says is all that is told: no sources, modules, breadcrumbs or figures of the host.
		Integrations: func([]sentry.Integration) []sentry.Integration { return nil }, MaxBreadcrumbs: -1, DisableClientReports: true,
	})
	if err != nil {
		return nil, errors.New("SENTRY_DSN is not of the form https://key@host/project; take it from the settings of the project")
	}
	return f, nil
}

// Writer gives what writes log lines to logs, and tells of those that are errors.
func (f *Faults) Writer(logs io.Writer) io.Writer {
	if f == nil {
		return logs
	}
	return &tellingWriter{Writer: logs, faults: f}
}

type tellingWriter struct {
	io.Writer
	faults *Faults
}

// WriteLevel implements zerolog.LevelWriter.
func (w *tellingWriter) WriteLevel(level zerolog.Level, line []byte) (int, error) {
	n, err := w.Write(line)
	if level >= zerolog.ErrorLevel && level <= zerolog.PanicLevel {
		w.faults.line(line)
	}
	return n, err
}

// line tells of a log line.
func (f *Faults) line(line []byte) {
	var said struct {
		Message, Error, Method                   string
		RequestID, TraceID, ExecutionID, StepKey string
		Partition                                *int
	}
	if json.Unmarshal(line, &said) != nil {
		return
	}
	tags := map[string]string{"method": said.Method, "requestId": said.RequestID, "traceId": said.TraceID, "executionId": said.ExecutionID, "stepKey": said.StepKey}
	if said.Partition != nil {
		tags["partition"] = fmt.Sprint(*said.Partition)
	}
	f.tell(sentry.LevelError, said.Message, said.Error, tags)
}

// Panicked is to be deferred: it tells of a panic, waits until that is known, for two seconds at most, and goes on with it.
func (f *Faults) Panicked() {
	if f == nil {
		return
	}
	if p := recover(); p != nil {
		f.tell(sentry.LevelFatal, "panic", fmt.Sprintf("%v\n%s", p, debug.Stack()), nil)
		f.client.Flush(tellTimeout)
		panic(p)
	}
}

func (f *Faults) tell(level sentry.Level, message, fault string, tags map[string]string) {
	event := sentry.NewEvent()
	event.Level, event.Message = level, message
	event.Tags = map[string]string{"service": f.service}
	for name, value := range tags {
		if value != "" {
			event.Tags[name] = value
		}
	}
	if len(fault) > maxFault {
		fault = strings.ToValidUTF8(fault[:maxFault], "")
	}
	event.Exception = []sentry.Exception{{Type: message, Value: fault}}
	// One fault is one issue, whatever ids its error names.
	event.Fingerprint = []string{f.service, message, tags["method"]}
	f.client.CaptureEvent(event, nil, nil)
}

// Close tells what is not told yet, for two seconds at most. What is logged later is told to nobody.
func (f *Faults) Close() {
	if f == nil {
		return
	}
	f.client.Flush(tellTimeout)
	f.way.end() // Sentry's client waits for its requests, for half a minute
	f.client.Close()
	f.way.CloseIdleConnections()
}

// breakable is a transport whose requests can be broken off.
type breakable struct {
	*http.Transport
	ctx context.Context
	end context.CancelFunc
}

func newBreakable() *breakable {
	b := &breakable{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	b.ctx, b.end = context.WithCancel(context.Background())
	return b
}

// RoundTrip implements http.RoundTripper.
func (b *breakable) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	stop := context.AfterFunc(b.ctx, func() { cancel(http.ErrServerClosed) })
	defer stop() // an answer that has begun is short
	return b.Transport.RoundTrip(req.WithContext(ctx))
}
