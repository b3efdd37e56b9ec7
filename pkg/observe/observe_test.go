package observe_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"turbocat.io/pkg/observe"
	"turbocat.io/pkg/observe/observetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	parent   = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	traceID  = "0af7651916cd43dd8448eb211c80319c"
	unwanted = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
)

func TestTraceparent(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		parent: parent, unwanted: unwanted, "": "",
		// What comes behind is for versions that we do not know yet, and the other flags are too.
		"01" + parent[2:] + "-x": parent, "01" + parent[2:]: parent, parent[:53] + "ff": parent, parent[:53] + "02": unwanted,
		parent + "-x": "", "01" + parent[2:] + "x": "", strings.ToUpper(parent): "", "ff" + parent[2:]: "", parent[:54]: "", "0x" + parent[2:]: "",
		"00-00000000000000000000000000000000-b7ad6b7169203331-01": "", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01": "",
		"00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01": "", "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01": "",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331_01": "", parent[:53] + "0G": "",
	} {
		ctx := observe.Continue(context.Background(), given)
		if got := observe.Traceparent(ctx); got != want {
			t.Errorf("%q: %q, want %q", given, got, want)
		}
		id := observe.TraceID(given)
		if (id == traceID) != (want != "") || id != "" && id != traceID {
			t.Errorf("%q: trace %q", given, id)
		}
	}
}

func FuzzTraceparent(f *testing.F) {
	f.Add(parent)
	f.Add("01" + parent[2:] + "-x")
	f.Fuzz(func(t *testing.T, given string) {
		once := observe.Traceparent(observe.Continue(context.Background(), given))
		if twice := observe.Traceparent(observe.Continue(context.Background(), once)); once != twice {
			t.Errorf("%q becomes %q and then %q", given, once, twice)
		}
	})
}

func TestWithoutEndpoint(t *testing.T) {
	t.Parallel()
	off, err := observe.NewTracing(observe.TracingConfig{Service: "test", Ratio: 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, tracing := range map[string]*observe.Tracing{"off": off, "nil": nil} {
		defer tracing.Close()
		ctx, span := tracing.Start(context.Background(), trace.SpanKindServer, "a")
		first := observe.Traceparent(ctx)
		if observe.TraceID(first) == "" || span.IsRecording() || !strings.HasSuffix(first, "-00") {
			t.Errorf("%s: a new trace is %q", name, first)
		}
		inner, _ := tracing.Start(ctx, trace.SpanKindClient, "b")
		if got := observe.Traceparent(inner); got != first {
			t.Errorf("%s: below it is %q, not %q", name, got, first)
		}
		other, _ := tracing.Start(context.Background(), trace.SpanKindServer, "c")
		if observe.Traceparent(other) == first {
			t.Errorf("%s: two traces have one id", name)
		}
		// Who records before and after us is not parted.
		passed, _ := tracing.Start(observe.Continue(context.Background(), parent), trace.SpanKindServer, "d")
		if got := observe.Traceparent(passed); got != parent {
			t.Errorf("%s: a trace passes as %q", name, got)
		}
	}
}

func TestSpansAreSent(t *testing.T) {
	t.Parallel()
	collector := observetest.New(t)
	tracing, err := observe.NewTracing(observe.TracingConfig{Service: "test", Version: "v1", Endpoint: collector.URL, Ratio: 1, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, outer := tracing.Start(observe.Continue(context.Background(), parent), trace.SpanKindServer, "outer")
	named := observe.Traceparent(ctx)
	_, inner := tracing.Start(ctx, trace.SpanKindClient, "inner")
	inner.SetAttributes(attribute.String("k", "v"))
	inner.End()
	outer.End()
	_, below := (*observe.Tracing)(nil).Start(ctx, trace.SpanKindClient, "not recorded")
	if below.IsRecording() {
		t.Error("who records nothing was given somebody else's span")
	}
	_, left := tracing.Start(observe.Continue(context.Background(), unwanted), trace.SpanKindServer, "left out")
	left.End()
	tracing.Close()

	o, i := collector.Await(t, "test", "outer"), collector.Await(t, "test", "inner")
	if o.TraceID != traceID || o.ParentID != "b7ad6b7169203331" || named != "00-"+traceID+"-"+o.SpanID+"-01" {
		t.Errorf("outer is %+v and names itself %s", o, named)
	}
	if i.TraceID != traceID || i.ParentID != o.SpanID || i.Kind != "SPAN_KIND_CLIENT" || i.Attributes["k"] != "v" {
		t.Errorf("inner is %+v", i)
	}
	if n := len(collector.Spans()); n != 2 {
		t.Errorf("%d spans; one was not to be recorded", n)
	}
}

func TestRatio(t *testing.T) {
	t.Parallel()
	collector := observetest.New(t)
	tracing, err := observe.NewTracing(observe.TracingConfig{Service: "test", Endpoint: collector.URL, Ratio: 0.25})
	if err != nil {
		t.Fatal(err)
	}
	defer tracing.Close()
	recorded := 0
	for range 2000 {
		_, span := tracing.Start(context.Background(), trace.SpanKindServer, "a")
		if span.IsRecording() {
			recorded++
		}
	}
	if recorded < 350 || recorded > 650 {
		t.Errorf("%d of 2000 traces are recorded", recorded)
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

func TestACollectorThatIsAwayHoldsUpNobody(t *testing.T) {
	t.Parallel()
	collector := observetest.New(t)
	collector.Refuse(true)
	var log lockedBuffer
	tracing, err := observe.NewTracing(observe.TracingConfig{Service: "test", Endpoint: collector.URL, Ratio: 1, Log: zerolog.New(&log)})
	if err != nil {
		t.Fatal(err)
	}
	defer tracing.Close()
	told := func(what string) {
		t.Helper()
		deadline := time.Now().Add(20 * time.Second)
		for !strings.Contains(log.String(), what) {
			if time.Now().After(deadline) {
				t.Fatalf("the log never says %q: %s", what, log.String())
			}
			_, span := tracing.Start(context.Background(), trace.SpanKindServer, "a")
			span.End()
			<-time.After(10 * time.Millisecond)
		}
	}
	told("spans are not sent")
	collector.Refuse(false)
	told("spans are sent again")
	if n := strings.Count(log.String(), "spans are not sent"); n != 1 {
		t.Errorf("it is told %d times", n)
	}
}

func TestEndpointIsChecked(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []string{"127.0.0.1:4318", "grpc://127.0.0.1:4317", "http://", "%zz"} {
		if _, err := observe.NewTracing(observe.TracingConfig{Endpoint: endpoint}); err == nil || !strings.Contains(err.Error(), "OTEL_EXPORTER_OTLP_ENDPOINT") {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	ctx := observe.WithIDs(observe.Continue(context.Background(), parent), observe.IDs{RequestID: "r"})
	ctx = observe.WithIDs(ctx, observe.IDs{ExecutionID: "x", StepKey: "s"})
	var b bytes.Buffer
	log := zerolog.New(&b)
	log.Info().EmbedObject(observe.IDsOf(ctx)).Msg("m")
	var got map[string]string
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"level": "info", "requestId": "r", "traceId": traceID, "executionId": "x", "stepKey": "s", "message": "m"}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %q, not %q", k, got[k], v)
		}
	}
	b.Reset()
	log.Info().EmbedObject(observe.IDsOf(context.Background())).Msg("m")
	if b.String() != "{\"level\":\"info\",\"message\":\"m\"}\n" {
		t.Errorf("without ids: %s", b.String())
	}
}

// BenchmarkHop is what a hop costs more for its trace when nothing is recorded: a remote
// parent is read, a span begun below it, and named for the next process.
func BenchmarkHop(b *testing.B) {
	tracing, err := observe.NewTracing(observe.TracingConfig{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		ctx, span := tracing.Start(observe.Continue(context.Background(), parent), trace.SpanKindServer, "a")
		if observe.Traceparent(ctx) != parent {
			b.Fatal("lost")
		}
		span.End()
	}
}
