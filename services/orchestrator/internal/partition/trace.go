package partition

import (
	"cmp"
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"turbocat.io/pkg/observe"
	"turbocat.io/services/orchestrator/internal/dealing"
	"turbocat.io/services/orchestrator/internal/engine"
)

// kinds are the names of inputs in spans.
var kinds = [...]string{
	engine.Submitted: "submitted", engine.StepStarted: "step_started", engine.StepCompleted: "step_completed", engine.StepFailed: "step_failed",
	engine.StepLost: "step_lost", engine.TimerDue: "timer_due", engine.Cancel: "cancel", engine.Pause: "pause", engine.Resume: "resume",
	engine.Signaled: "signal", engine.Gathered: "step_gathered",
}

// applying begins the span of an input, below that of who sent it or else of its execution, at the time when the log took it. It ends once
// what the input did is committed. Nil when nothing is recorded: then an input costs nothing for its trace.
func (s *shell) applying(m Message, x *engine.Execution) trace.Span {
	parent := cmp.Or(m.Traceparent, x.Traceparent)
	if !s.tracing.Records() || parent == "" {
		return nil
	}
	_, span := s.tracing.StartAt(observe.Continue(context.Background(), parent), trace.SpanKindConsumer, "apply "+kinds[m.Input.Kind], time.Unix(0, m.Time))
	if span.IsRecording() {
		span.SetAttributes(attribute.String("turbocat.execution_id", x.ID), attribute.Int("turbocat.partition", x.Partition))
		if m.Input.Step != "" {
			span.SetAttributes(attribute.String("turbocat.step_key", m.Input.Step))
		}
		span.AddEvent("applied")
	}
	return span
}

// dispatching begins the span of a ready step at the time when it became ready, so that its wait for its turn is in it, and gives what
// the step's message is to name. The span is nil when nothing is recorded.
func (s *shell) dispatching(x *engine.Execution, p engine.Place, dealt *dealing.Step) (traceparent string, span trace.Span) {
	if !s.tracing.Records() {
		return x.Traceparent, nil
	}
	ctx, span := s.tracing.StartAt(observe.Continue(context.Background(), x.Traceparent), trace.SpanKindProducer, "dispatch "+dealt.AgentType, dealt.Ready)
	if span.IsRecording() {
		t := x.Task(p)
		span.SetAttributes(attribute.String("turbocat.execution_id", x.ID), attribute.String("turbocat.step_key", x.Definition.Steps[p.Step].Key),
			attribute.Int("turbocat.attempt", t.Attempt), attribute.Int("turbocat.dispatch", t.Dispatch))
	}
	return observe.Traceparent(ctx), span
}

// dispatched ends the span of a step that STEPS has taken, or has not.
func dispatched(span trace.Span, err error) {
	if span == nil {
		return
	}
	if err != nil {
		span.SetStatus(codes.Error, "not sent")
	}
	span.End()
}
