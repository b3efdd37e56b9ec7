package bus

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/observe"
)

// codeOK is the code of a call that succeeded.
const codeOK = "OK"

// metrics are what calls are measured by. They count even when they are registered nowhere.
type metrics struct {
	asked    *prometheus.HistogramVec
	answered *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer, nc *nats.Conn) metrics {
	with := promauto.With(r)
	with.NewCounterFunc(prometheus.CounterOpts{
		Name: "nats_reconnects_total", Help: "How often the connection to NATS was made anew.",
	}, func() float64 { return float64(nc.Stats().Reconnects) })
	with.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "nats_connected", Help: "1 while the connection to NATS stands.",
	}, func() float64 {
		if nc.IsConnected() {
			return 1
		}
		return 0
	})
	return metrics{
		asked: with.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rpc_client_duration_seconds", Help: "How long calls of other services took, by method and code of the answer.", Buckets: observe.Seconds(),
		}, []string{"method", "code"}),
		answered: with.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rpc_server_duration_seconds", Help: "How long answering took, by method and code of the answer.", Buckets: observe.Seconds(),
		}, []string{"method", "code"}),
	}
}

// calling begins a call: caller is made to name its span, and done is to be told the outcome.
func (c *Conn) calling(ctx context.Context, service, name string, caller *rpc.Caller) (_ context.Context, done func(error)) {
	began, method := time.Now(), service+"."+name
	if !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = observe.Continue(ctx, caller.Traceparent)
	}
	ctx, span := c.tracing.Start(ctx, trace.SpanKindClient, method)
	caller.Traceparent = observe.Traceparent(ctx)
	return ctx, func(err error) {
		code := finish(span, err)
		c.metrics.asked.WithLabelValues(method, code).Observe(time.Since(began).Seconds())
	}
}

// answering begins the answer to a call: the context and caller that it gives name its span,
// and done is to be told the outcome.
func (c *Conn) answering(method string, caller *rpc.Caller) (_ context.Context, done func(error)) {
	began := time.Now()
	ctx, span := c.tracing.Start(observe.Continue(context.Background(), caller.Traceparent), trace.SpanKindServer, method)
	caller.Traceparent = observe.Traceparent(ctx)
	if span.IsRecording() && caller.RequestID != "" {
		span.SetAttributes(attribute.String("turbocat.request_id", caller.RequestID))
	}
	return observe.WithIDs(ctx, observe.IDs{RequestID: caller.RequestID}), func(err error) {
		code := finish(span, err)
		c.metrics.answered.WithLabelValues(method, code).Observe(time.Since(began).Seconds())
	}
}

// finish ends the span of a call and gives the code of its outcome.
func finish(span trace.Span, err error) string {
	code := codeOK
	if err != nil {
		code = string(errs.CodeOf(err))
	}
	if span.IsRecording() {
		span.SetAttributes(attribute.String("rpc.system", "nats"), attribute.String("turbocat.code", code))
		switch errs.Code(code) {
		case errs.Internal, errs.DependencyUnavailable:
			span.SetStatus(codes.Error, code)
		}
	}
	span.End()
	return code
}
