// Package observe is what every service is watched by: traces, the ids that log lines carry,
// and a registry of metrics. It keeps no state of a process; a service is given its own.
//
// Between processes a trace travels as one string, the W3C traceparent: an HTTP header, the
// RPC header of that name and the CloudEvents extension. Nothing reads or sends a tracestate.
package observe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const (
	// exportTimeout bounds how long a batch of spans may take to be sent, with all repetitions.
	exportTimeout = 10 * time.Second
	// closeTimeout bounds how long a stop waits for the last spans.
	closeTimeout = 2 * time.Second
)

// TracingConfig says where the spans of a service go.
type TracingConfig struct {
	Service  string
	Version  string
	Endpoint string  // of an OTLP collector over HTTP, like http://127.0.0.1:4318; "" sends nothing
	Ratio    float64 // the share of traces begun here that is recorded, 0 to 1; others are as their beginner chose
	Log      zerolog.Logger
}

// Tracing makes the spans of one service. Without an endpoint, and when it is nil, it records
// and sends nothing and gives every trace an id all the same. It is safe for concurrent use.
type Tracing struct {
	tracer   trace.Tracer // nil when nothing is sent
	provider *sdktrace.TracerProvider
	exporter sdktrace.SpanExporter
}

// NewTracing makes a Tracing; the error says what is wrong with cfg. It does not wait for the
// collector, nor does any span: while that is away spans are dropped.
func NewTracing(cfg TracingConfig) (*Tracing, error) {
	if cfg.Endpoint == "" {
		return &Tracing{}, nil
	}
	base, err := url.Parse(cfg.Endpoint)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, errors.New("OTEL_EXPORTER_OTLP_ENDPOINT is no http or https address; give one like http://127.0.0.1:4318")
	}
	client, err := otlptracehttp.New(context.Background(),
		otlptracehttp.WithEndpointURL(base.JoinPath("v1", "traces").String()),
		otlptracehttp.WithTimeout(exportTimeout/2),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: exportTimeout / 2, MaxElapsedTime: exportTimeout}),
	)
	if err != nil {
		return nil, fmt.Errorf("export spans: %w", err)
	}
	exporter := &telling{SpanExporter: client, log: cfg.Log}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter, sdktrace.WithExportTimeout(exportTimeout), sdktrace.WithBatchTimeout(time.Second)),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(cfg.Ratio))),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.namespace", "turbocat"),
			attribute.String("service.name", cfg.Service),
			attribute.String("service.version", cfg.Version),
		)),
	)
	return &Tracing{tracer: provider.Tracer("turbocat.io/pkg/observe"), provider: provider, exporter: client}, nil
}

// Records tells whether any span is recorded, for those who need none else.
func (t *Tracing) Records() bool { return t != nil && t.tracer != nil }

// Start begins a span below that of ctx, or a new trace when it has none. The span is ended by
// who began it; what only a recorded one needs is best made once IsRecording has said so.
func (t *Tracing) Start(ctx context.Context, kind trace.SpanKind, name string) (context.Context, trace.Span) {
	return t.StartAt(ctx, kind, name, time.Time{})
}

// StartAt is Start for a span that began at another time than now; the zero value is now.
func (t *Tracing) StartAt(ctx context.Context, kind trace.SpanKind, name string, at time.Time) (context.Context, trace.Span) {
	if t.Records() {
		options := []trace.SpanStartOption{trace.WithSpanKind(kind)}
		if !at.IsZero() {
			options = append(options, trace.WithTimestamp(at))
		}
		return t.tracer.Start(ctx, name, options...)
	}
	// Nothing is recorded here, so whoever records before and after us is not parted.
	span := trace.SpanFromContext(ctx)
	switch {
	case !span.SpanContext().IsValid():
		ctx = trace.ContextWithSpanContext(ctx, newTrace())
	case span.IsRecording(): // somebody else's, who ends it
		ctx = trace.ContextWithSpanContext(ctx, span.SpanContext())
	}
	return ctx, trace.SpanFromContext(ctx)
}

// newTrace gives the ids of a trace that is not recorded.
func newTrace() trace.SpanContext {
	var t trace.TraceID
	var s trace.SpanID
	binary.LittleEndian.PutUint64(t[:8], rand.Uint64()|1) // all zeros is no id
	binary.LittleEndian.PutUint64(t[8:], rand.Uint64())
	binary.LittleEndian.PutUint64(s[:], rand.Uint64()|1)
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: t, SpanID: s})
}

// Close sends what is recorded, for two seconds at most. Spans that end later are dropped.
func (t *Tracing) Close() {
	if t == nil || t.provider == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if t.provider.Shutdown(ctx) != nil {
		_ = t.exporter.Shutdown(ctx) // breaks off what is still being sent
	}
}

// telling logs when spans can no longer be sent and when they can again; left to itself the
// SDK tells a handler of the whole process.
type telling struct {
	sdktrace.SpanExporter
	log    zerolog.Logger
	failed atomic.Bool
}

func (e *telling) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	switch before := e.failed.Swap(err != nil); {
	case err != nil && !before:
		e.log.Warn().Err(err).Msg("spans are not sent, and dropped meanwhile; is OTEL_EXPORTER_OTLP_ENDPOINT right?")
	case err == nil && before:
		e.log.Info().Msg("spans are sent again")
	}
	return nil
}
