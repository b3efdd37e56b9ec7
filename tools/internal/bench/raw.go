//go:build unix

package bench

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"turbocat.io/pkg/bus"
)

const (
	rawTasks   = "BENCH_TASKS"
	rawResults = "BENCH_RESULTS"
	// RawRunner is the hidden command that answers the raw loop's tasks.
	RawRunner = "bench-raw-runner"

	taskBytes   = 1024
	resultBytes = 256
	stallWait   = 20 * time.Second
)

// rawLoop drives the raw step loop: this process publishes tasks and takes results, another
// takes tasks and publishes results.
func (w *world) rawLoop(ctx context.Context) (Result, error) {
	js := w.conn.JetStream()
	for _, s := range []struct{ name, subject string }{{rawTasks, "bench.task"}, {rawResults, "bench.result"}} {
		if _, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: s.name, Subjects: []string{s.subject}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage}); err != nil {
			return Result{}, err
		}
		defer func() { _ = js.DeleteStream(context.WithoutCancel(ctx), s.name) }()
		if _, err := js.CreateOrUpdateConsumer(ctx, s.name, jetstream.ConsumerConfig{Durable: "bench", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 8192}); err != nil {
			return Result{}, err
		}
	}
	if err := w.spawn("raw-runner", RawRunner); err != nil {
		return Result{}, err
	}
	defer func() {
		w.parts["raw-runner"].Stop(stopGrace)
		delete(w.parts, "raw-runner")
		w.order = w.order[:len(w.order)-1]
	}()
	results, err := js.Consumer(ctx, rawResults, "bench")
	if err != nil {
		return Result{}, err
	}
	r := Result{Workload: Raw, InFlight: w.o.InFlight}
	slots := make(chan struct{}, w.o.InFlight)
	var mu sync.Mutex
	begun := map[string]time.Time{}
	var times []time.Duration
	consuming, err := results.Consume(func(m jetstream.Msg) {
		id, _, _ := strings.Cut(string(m.Data()), " ")
		mu.Lock()
		if at, ok := begun[id]; ok {
			times = append(times, time.Since(at))
			delete(begun, id)
		}
		mu.Unlock()
		_ = m.Ack()
		<-slots
	}, jetstream.PullMaxMessages(1000))
	if err != nil {
		return Result{}, err
	}
	defer consuming.Stop()
	before, start := w.cpu(), time.Now()
	pad := strings.Repeat("x", taskBytes-17)
	for i := 0; time.Since(start) < w.o.Duration; i++ {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return Result{}, ctx.Err()
		case <-time.After(stallWait):
			return Result{}, fmt.Errorf("the raw loop stands still\n%s", w.tail("raw-runner"))
		}
		id := fmt.Sprintf("%016d", i)
		mu.Lock()
		begun[id] = time.Now()
		mu.Unlock()
		if _, err := js.PublishAsync("bench.task", []byte(id+" "+pad), jetstream.WithStallWait(stallWait)); err != nil {
			return Result{}, err
		}
		r.Steps++
	}
	for range w.o.InFlight {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return Result{}, ctx.Err()
		}
	}
	elapsed := time.Since(start)
	r.CPUMsPer1000 = perThousand(before, w.cpu(), r.Steps)
	mu.Lock()
	defer mu.Unlock()
	summarize(&r, times, elapsed)
	return r, nil
}

// AnswerRaw takes the raw loop's tasks and publishes results until ctx ends: a task is acked
// once its result is persisted, as a runner does.
func AnswerRaw(ctx context.Context, natsURL string) error {
	conn, err := bus.Connect(ctx, natsURL, RawRunner, zerolog.Nop())
	if err != nil {
		return err
	}
	defer conn.Close()
	var tasks sync.Map
	js, err := jetstream.New(conn.NATS(), jetstream.WithPublishAsyncMaxPending(8192),
		jetstream.WithPublishAsyncAckHandler(func(_ jetstream.JetStream, m *nats.Msg, _ *jetstream.PubAck) {
			if task, ok := tasks.LoadAndDelete(m); ok {
				_ = task.(jetstream.Msg).Ack()
			}
		}))
	if err != nil {
		return err
	}
	consumer, err := js.Consumer(ctx, rawTasks, "bench")
	if err != nil {
		return err
	}
	pad := strings.Repeat("y", resultBytes-17)
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		id, _, _ := strings.Cut(string(m.Data()), " ")
		result := &nats.Msg{Subject: "bench.result", Data: []byte(id + " " + pad)}
		tasks.Store(result, m)
		_, _ = js.PublishMsgAsync(result, jetstream.WithStallWait(stallWait))
	}, jetstream.PullMaxMessages(1000))
	if err != nil {
		return err
	}
	defer consuming.Stop()
	<-ctx.Done()
	return nil
}
