package observe

import (
	"context"
	"encoding/hex"

	"go.opentelemetry.io/otel/trace"
)

const (
	traceparentSize = 55 // 00-<trace id>-<span id>-<flags>
	traceAt         = 3
	spanAt          = 36
	flagsAt         = 53
)

// Continue makes ctx part of the trace that traceparent names; what is none changes nothing.
func Continue(ctx context.Context, traceparent string) context.Context {
	sc, ok := parse(traceparent)
	if !ok {
		return ctx
	}
	return trace.ContextWithRemoteSpanContext(ctx, sc)
}

// Traceparent names the span of ctx for another process; "" when ctx has none.
func Traceparent(ctx context.Context) string {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return ""
	}
	t, s := sc.TraceID(), sc.SpanID()
	var b [traceparentSize]byte
	copy(b[:], "00-")
	hex.Encode(b[traceAt:], t[:])
	b[spanAt-1] = '-'
	hex.Encode(b[spanAt:], s[:])
	b[flagsAt-1] = '-'
	hex.Encode(b[flagsAt:], []byte{byte(sc.TraceFlags() & trace.FlagsSampled)})
	return string(b[:])
}

// TraceID gives the trace that traceparent names; "" when it is none.
func TraceID(traceparent string) string {
	if _, ok := parse(traceparent); !ok {
		return ""
	}
	return traceparent[traceAt : spanAt-1]
}

// parse reads a W3C traceparent. Versions after 00 may say more behind a further dash.
func parse(s string) (trace.SpanContext, bool) {
	if len(s) < traceparentSize || s[2] != '-' || s[spanAt-1] != '-' || s[flagsAt-1] != '-' {
		return trace.SpanContext{}, false
	}
	version, okVersion := lowerHex(s[0], s[1])
	flags, okFlags := lowerHex(s[flagsAt], s[flagsAt+1])
	if !okVersion || !okFlags || version == 0xff || len(s) > traceparentSize && (version == 0 || s[traceparentSize] != '-') {
		return trace.SpanContext{}, false
	}
	t, terr := trace.TraceIDFromHex(s[traceAt : spanAt-1])
	span, serr := trace.SpanIDFromHex(s[spanAt : flagsAt-1])
	if terr != nil || serr != nil {
		return trace.SpanContext{}, false
	}
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: t, SpanID: span, TraceFlags: trace.TraceFlags(flags) & trace.FlagsSampled, Remote: true,
	}), true
}

func lowerHex(high, low byte) (byte, bool) {
	h, okHigh := nibble(high)
	l, okLow := nibble(low)
	return h<<4 | l, okHigh && okLow
}

func nibble(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}
