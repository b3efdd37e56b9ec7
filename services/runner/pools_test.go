package runner

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
)

// stepOf makes the message of a step of a pool.
func stepOf(pool, token string) *nats.Msg {
	return step(token, func(m *nats.Msg) { m.Subject = subject.Step(pool, catalog.AgentData, 5) })
}

func (w *world) makeConsumer(pool string) {
	w.t.Helper()
	_, err := w.js.CreateConsumer(w.ctx(), subject.StepsStream, jetstream.ConsumerConfig{
		Durable: subject.StepConsumer(pool, catalog.AgentData), FilterSubject: subject.StepsOf(pool, catalog.AgentData),
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: w.ackWait, MaxDeliver: -1,
	})
	w.must(err)
}

// completed gives the token of the next step that has run.
func (w *world) completed() string {
	w.t.Helper()
	for {
		if m := w.next(); m.Headers().Get(event.HeaderType) == runner.TypeStepCompleted {
			return m.Headers().Get(event.HeaderID)
		}
	}
}

// TestARunnerTakesWhatRequiresItsLabels starts a runner of some labels before there are consumers of their pools.
func TestARunnerTakesWhatRequiresItsLabels(t *testing.T) {
	w := newWorld(t, long)
	var there, here atomic.Int64
	w.start(echo(&there), func(c *Config) { c.Labels = []string{"gpu", "eu"} })
	for _, pool := range []string{"gpu", "eu", "eu+gpu", "eu+tpu"} {
		w.makeConsumer(pool)
		w.send(stepOf(pool, "of "+pool))
	}
	w.send(step("t0")) // of the default pool
	var taken []string
	for range 3 {
		taken = append(taken, w.completed())
	}
	if slices.Sort(taken); strings.Join(taken, ",") != "of eu,of eu+gpu,of gpu" {
		t.Errorf("the runner has run %v", taken)
	}
	if n := w.consumer().NumPending; n != 1 {
		t.Errorf("%d steps of the default pool wait, want 1", n)
	}
	w.start(echo(&here), func(c *Config) { c.Labels = []string{"tpu", subject.DefaultPool, "eu"} })
	taken = []string{w.completed(), w.completed()}
	if slices.Sort(taken); strings.Join(taken, ",") != "of eu+tpu,t0" {
		t.Errorf("the other one has run %v", taken)
	}
	w.awaitEmpty()
	if there.Load() != 3 || here.Load() != 2 {
		t.Errorf("the runners ran %d and %d steps", there.Load(), here.Load())
	}
}
