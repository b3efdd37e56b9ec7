package runner

import (
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
)

// TestARunnerTakesWhatIsOfItsPool starts a runner of a pool before there is a consumer of it.
func TestARunnerTakesWhatIsOfItsPool(t *testing.T) {
	w := newWorld(t, long)
	var there, here atomic.Int64
	w.start(echo(&there), func(c *Config) { c.Pool = "gpu" })
	_, err := w.js.CreateConsumer(w.ctx(), subject.StepsStream, jetstream.ConsumerConfig{
		Durable: subject.StepConsumer("gpu", catalog.AgentData), FilterSubject: subject.StepsOf("gpu", catalog.AgentData),
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: w.ackWait, MaxDeliver: -1,
	})
	w.must(err)
	w.send(step("t0")) // of the default pool
	w.send(step("t1", func(m *nats.Msg) { m.Subject = subject.Step("gpu", catalog.AgentData, 5) }))
	w.expect(runner.TypeStepCompleted, "t1")
	if n := w.consumer().NumPending; n != 1 {
		t.Errorf("%d steps of the default pool wait, want 1", n)
	}
	w.start(echo(&here))
	w.expect(runner.TypeStepCompleted, "t0")
	w.awaitEmpty()
	if there.Load() != 1 || here.Load() != 1 {
		t.Errorf("the runners ran %d and %d steps", there.Load(), here.Load())
	}
}
