package work

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"turbocat.io/pkg/observe"
)

// trace begins the span of an attempt, below the one that its execution was accepted in, and
// makes the step name it. The context it gives says in logs whose the attempt is.
func (p *Pool) trace(ctx context.Context, step *Step) (context.Context, trace.Span) {
	ctx, span := p.Tracing.Start(observe.Continue(ctx, step.Traceparent), trace.SpanKindConsumer, p.spanName)
	step.Traceparent = observe.Traceparent(ctx)
	if span.IsRecording() {
		span.SetAttributes(
			attribute.String("turbocat.execution_id", step.ExecutionID), attribute.String("turbocat.step_key", step.StepKey),
			attribute.Int("turbocat.attempt", step.Attempt), attribute.String("turbocat.request_id", step.RequestID),
		)
	}
	return observe.WithIDs(ctx, observe.IDs{RequestID: step.RequestID, ExecutionID: step.ExecutionID, StepKey: step.StepKey}), span
}

// mark says what became of the attempt.
func mark(span trace.Span, outcome string) {
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(attribute.String("turbocat.outcome", outcome))
	switch outcome {
	case outcomeFailed, outcomeInternal, outcomeTimedOut:
		span.SetStatus(codes.Error, outcome)
	}
}
