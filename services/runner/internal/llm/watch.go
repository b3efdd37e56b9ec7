package llm

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"

	"turbocat.io/pkg/observe"
)

// What becomes of a question to a model.
const (
	outcomeAnswered = "answered"
	outcomeFailed   = "failed"  // the provider, or the way to it
	outcomeStopped  = "stopped" // by the end of the attempt
)

// Watch is what questions to models are watched by. Texts are in none of it. Nil sees nothing.
type Watch struct {
	tracing *observe.Tracing
	seconds *prometheus.HistogramVec
	tokens  *prometheus.CounterVec
}

// NewWatch registers what questions are measured by; nil registers nothing, and a nil tracing records nothing.
func NewWatch(r prometheus.Registerer, tracing *observe.Tracing) *Watch {
	with := promauto.With(r)
	return &Watch{
		tracing: tracing,
		seconds: with.NewHistogramVec(prometheus.HistogramOpts{
			Name: "model_call_duration_seconds", Help: "How long models took for a whole answer, by the type of their provider and outcome: answered, failed or stopped.",
			Buckets: []float64{.1, .25, .5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320},
		}, []string{"provider", "outcome"}),
		tokens: with.NewCounterVec(prometheus.CounterOpts{
			Name: "model_tokens_total", Help: "Tokens that models have taken, by the type of their provider and direction: input or output.",
		}, []string{"provider", "direction"}),
	}
}

// asking begins a question to a provider; answered is to be told what came of it.
func (w *Watch) asking(ctx context.Context, providerType string, q question) (_ context.Context, answered func(answer, error)) {
	if w == nil {
		return ctx, func(answer, error) {}
	}
	began := time.Now()
	ctx, span := w.tracing.Start(ctx, trace.SpanKindClient, "chat "+q.model)
	if span.IsRecording() {
		span.SetAttributes(semconv.GenAIOperationNameChat, semconv.GenAIProviderNameKey.String(providerType),
			semconv.GenAIRequestModel(q.model), semconv.GenAIRequestMaxTokens(int(maxTokens(q.config))))
	}
	return ctx, func(said answer, err error) {
		outcome := outcomeAnswered
		var failed *failure
		switch {
		case errors.As(err, &failed):
			outcome = outcomeFailed
		case err != nil:
			outcome = outcomeStopped
		}
		w.seconds.WithLabelValues(providerType, outcome).Observe(time.Since(began).Seconds())
		w.tokens.WithLabelValues(providerType, "input").Add(float64(said.usage.input))
		w.tokens.WithLabelValues(providerType, "output").Add(float64(said.usage.output))
		if span.IsRecording() {
			if err != nil {
				span.SetAttributes(semconv.ErrorTypeKey.String(outcome))
				span.SetStatus(codes.Error, outcome)
			} else {
				span.SetAttributes(semconv.GenAIUsageInputTokens(int(said.usage.input)), semconv.GenAIUsageOutputTokens(int(said.usage.output)),
					semconv.GenAIResponseFinishReasons(said.stop))
			}
		}
		span.End()
	}
}
