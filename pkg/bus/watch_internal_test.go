package bus

import (
	"context"
	"testing"

	"turbocat.io/contracts/rpc"
)

// BenchmarkWatching is what a call and its answer cost more for being traced, measured and
// named in logs, when nothing is recorded.
func BenchmarkWatching(b *testing.B) {
	c := &Conn{metrics: newMetrics(nil, nil)}
	given := rpc.Caller{RequestID: "r", Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}
	b.ReportAllocs()
	for b.Loop() {
		caller := given
		_, called := c.calling(context.Background(), "test", "echo", &caller)
		_, answered := c.answering("echo", &caller)
		answered(nil)
		called(nil)
	}
}
