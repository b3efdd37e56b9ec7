package runner

import (
	"sync/atomic"
	"testing"
	"time"

	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/proxytest"
)

// TestWhatWaitedForTheRunnerIsNotRun delivers a step into a connection whose other end is away, until another runner has
// answered it. The same happens to a runner that is paused.
func TestWhatWaitedForTheRunnerIsNotRun(t *testing.T) {
	t.Run("a step comes first", func(t *testing.T) { stepThatWaited(t, 0) })
	// The server says every second that it is there; such a word, read late, makes nothing fresh that is behind it.
	t.Run("a heartbeat comes first", func(t *testing.T) { stepThatWaited(t, 1500*time.Millisecond) })
}

func stepThatWaited(t *testing.T, after time.Duration) {
	t.Helper()
	w := newWorld(t, long)
	wire, through := proxytest.Before(t, w.url)
	w.url = through
	var calls atomic.Int64
	w.start(echo(&calls)).awaitReady(t)
	wire.BlackHole()
	<-time.After(after)
	w.send(step("t1"))
	eventually(t, "it is on its way", func() bool { return w.consumer().NumAckPending == 1 })
	second := w.take()
	if meta, err := second.Metadata(); err != nil || meta.NumDelivered != 2 {
		t.Errorf("the delivery to another runner is number %d, %v", meta.NumDelivered, err)
	}
	w.must(second.DoubleAck(w.ctx()))
	w.recorded.Store("t1", true)
	wire.Heal()
	w.send(step("t2"))
	w.expect(runner.TypeStepCompleted, "t2")
	w.awaitEmpty()
	w.noMore()
	if n := calls.Load(); n != 1 {
		t.Errorf("%d steps ran, want that of t2 alone", n)
	}
}
