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
	rawRunner  = "raw-runner" // its process
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
	if err := w.spawn(rawRunner, RawRunner); err != nil {
		return Result{}, err
	}
	defer func() {
		w.parts[rawRunner].Stop(stopGrace)
		delete(w.parts, rawRunner)
		w.order = w.order[:len(w.order)-1]
	}()
	results, err := js.Consumer(ctx, rawResults, "bench")
	if err != nil {
		return Result{}, err
	}
	r := Result{Workload: Raw, Settings: Settings{InFlight: w.o.InFlight, InputBytes: taskBytes, OutputBytes: resultBytes}}
	_, times, err := w.loop(ctx, results, 1, w.o.Duration/2)
	if err != nil {
		return Result{}, err
	}
	r.latencies(times)
	m := w.measure(Raw)
	steps, _, err := w.loop(ctx, results, w.o.InFlight, w.o.Duration)
	if err != nil {
		return Result{}, err
	}
	m.end(&r, steps)
	return r, nil
}

// loop keeps so many steps on their way for a while, and gives how many they were and how long each took.
func (w *world) loop(ctx context.Context, consumer jetstream.Consumer, inFlight int, d time.Duration) (steps int, times []time.Duration, err error) {
	js := w.conn.JetStream()
	slots := make(chan struct{}, inFlight)
	var mu sync.Mutex
	begun := map[string]time.Time{}
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
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
		return 0, nil, err
	}
	defer func() {
		consuming.Stop()
		<-consuming.Closed()
	}()
	start := time.Now()
	pad := strings.Repeat("x", taskBytes-17)
	take := func() error {
		select {
		case slots <- struct{}{}:
			return nil
		default:
		}
		timer := time.NewTimer(stallWait)
		defer timer.Stop()
		select {
		case slots <- struct{}{}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return fmt.Errorf("the raw loop stands still\n%s", w.tail(rawRunner))
		}
	}
	for ; time.Since(start) < d; steps++ {
		if err := take(); err != nil {
			return 0, nil, err
		}
		id := fmt.Sprintf("%016d", steps)
		mu.Lock()
		begun[id] = time.Now()
		mu.Unlock()
		if _, err := js.PublishAsync("bench.task", []byte(id+" "+pad), jetstream.WithStallWait(stallWait)); err != nil {
			return 0, nil, err
		}
	}
	for range inFlight {
		if err := take(); err != nil {
			return 0, nil, err
		}
	}
	mu.Lock()
	defer mu.Unlock()
	return steps, times, nil
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
