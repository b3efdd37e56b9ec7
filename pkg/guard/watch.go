package guard

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"

	"turbocat.io/pkg/observe"
)

// headerTraceparent is the W3C header, as net/http writes it.
const headerTraceparent = "Traceparent"

// Watch is what the requests of clients are watched by: a span and a duration each. Of the URL neither has more than the host.
// Nil, and the zero value, see nothing.
type Watch struct {
	tracing *observe.Tracing
	seconds *prometheus.HistogramVec
}

// NewWatch registers what requests are measured by; nil registers nothing, and a nil tracing records nothing.
func NewWatch(r prometheus.Registerer, tracing *observe.Tracing) *Watch {
	return &Watch{tracing: tracing, seconds: promauto.With(r).NewHistogramVec(prometheus.HistogramOpts{
		Name: "http_client_duration_seconds", Help: "How long requests to the outside took until their answer began, by its status, a class like 2xx; refused: an address that is not allowed; none: no answer.",
		Buckets: append(observe.Seconds(), 30, 60, 120),
	}, []string{"status"})}
}

type maskKey struct{}

// Masked makes a context whose spans name hosts as mask gives them: a name may have a secret in it.
func Masked(ctx context.Context, mask func(string) string) context.Context {
	return context.WithValue(ctx, maskKey{}, mask)
}

// calling begins a request. It gives the request to send, and what is to be told its outcome; the span ends with ended, once the body is closed.
func (w *Watch) calling(req *http.Request) (_ *http.Request, answered func(*http.Response, error), ended func()) {
	if w == nil || w.seconds == nil {
		return req, func(*http.Response, error) {}, func() {}
	}
	began := time.Now()
	ctx, span := w.tracing.Start(req.Context(), trace.SpanKindClient, nameOf(req.Method))
	if span.IsRecording() {
		describe(span, req)
		// Whoever is called in the name of the context's span is called by this one.
		own := req.Header.Get(headerTraceparent)
		if own != "" && own == observe.Traceparent(req.Context()) {
			req = req.WithContext(ctx)
			req.Header = req.Header.Clone()
			req.Header.Set(headerTraceparent, observe.Traceparent(ctx))
		}
	}
	return req, func(resp *http.Response, err error) {
		w.seconds.WithLabelValues(statusOf(resp, err)).Observe(time.Since(began).Seconds())
		if !span.IsRecording() {
			return
		}
		switch {
		case err != nil:
			span.SetAttributes(semconv.ErrorTypeKey.String(faultOf(err)))
			span.SetStatus(codes.Error, faultOf(err))
			span.End()
		default:
			span.SetAttributes(semconv.HTTPResponseStatusCode(resp.StatusCode))
			if resp.StatusCode >= http.StatusBadRequest {
				span.SetAttributes(semconv.ErrorTypeKey.String(strconv.Itoa(resp.StatusCode)))
				span.SetStatus(codes.Error, "")
			}
		}
	}, func() { span.End() }
}

func describe(span trace.Span, req *http.Request) {
	host := req.URL.Hostname()
	if mask, ok := req.Context().Value(maskKey{}).(func(string) string); ok {
		host = mask(host)
	}
	span.SetAttributes(semconv.HTTPRequestMethodKey.String(nameOf(req.Method)), semconv.ServerAddress(host), semconv.URLScheme(req.URL.Scheme))
	if p, err := strconv.Atoi(port(req.URL)); err == nil {
		span.SetAttributes(semconv.ServerPort(p))
	}
}

// nameOf gives a method, and for one that is none of HTTP's own what OpenTelemetry calls it: any may be sent.
func nameOf(method string) string {
	known := []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodHead, http.MethodOptions}
	if slices.Contains(known, method) {
		return method
	}
	return semconv.HTTPRequestMethodOther.Value.AsString()
}

// statusOf gives the label of an outcome.
func statusOf(resp *http.Response, err error) string {
	switch {
	case err == nil:
		return strconv.Itoa(resp.StatusCode/100) + "xx"
	case faultOf(err) == faultRefused:
		return faultRefused
	}
	return "none"
}

// Why a request had no answer.
const (
	faultRefused   = "refused"
	faultFenced    = "not_sent"
	faultTime      = "timeout"
	faultCancelled = "cancelled"
	faultOther     = "connection"
)

func faultOf(err error) string {
	var refused *RefusedError
	switch {
	case errors.As(err, &refused), errors.Is(err, ErrScheme):
		return faultRefused
	case errors.Is(err, ErrFenced):
		return faultFenced
	case errors.Is(err, context.DeadlineExceeded):
		return faultTime
	case errors.Is(err, context.Canceled):
		return faultCancelled
	}
	return faultOther
}
