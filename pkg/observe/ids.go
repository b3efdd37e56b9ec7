package observe

import (
	"context"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"
)

// IDs say whose work a log line is about. Each hop puts them into its context once, and logs
// with log.Warn().EmbedObject(observe.IDsOf(ctx)).
type IDs struct {
	RequestID   string
	TraceID     string // "": that of the context's span
	ExecutionID string
	StepKey     string
}

type idsKey struct{}

// WithIDs puts ids into ctx; those that are empty stay as ctx has them.
func WithIDs(ctx context.Context, ids IDs) context.Context {
	if before, ok := ctx.Value(idsKey{}).(IDs); ok {
		ids = ids.or(before)
	}
	return context.WithValue(ctx, idsKey{}, ids)
}

func (i IDs) or(other IDs) IDs {
	fill := func(s *string, otherwise string) {
		if *s == "" {
			*s = otherwise
		}
	}
	fill(&i.RequestID, other.RequestID)
	fill(&i.TraceID, other.TraceID)
	fill(&i.ExecutionID, other.ExecutionID)
	fill(&i.StepKey, other.StepKey)
	return i
}

// IDsOf gives the ids of ctx, with the trace of its span.
func IDsOf(ctx context.Context) IDs {
	ids, _ := ctx.Value(idsKey{}).(IDs)
	if sc := trace.SpanContextFromContext(ctx); ids.TraceID == "" && sc.HasTraceID() {
		ids.TraceID = sc.TraceID().String()
	}
	return ids
}

// MarshalZerologObject implements zerolog.LogObjectMarshaler: ids that are empty are left out.
func (i IDs) MarshalZerologObject(e *zerolog.Event) {
	field := func(name, value string) {
		if value != "" {
			e.Str(name, value)
		}
	}
	field("requestId", i.RequestID)
	field("traceId", i.TraceID)
	field("executionId", i.ExecutionID)
	field("stepKey", i.StepKey)
}
