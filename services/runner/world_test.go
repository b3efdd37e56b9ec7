package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
	"turbocat.io/pkg/service"
	"turbocat.io/services/runner/internal/executor"
)

// patience bounds every wait of the tests.
const patience = 60 * time.Second

// executorFunc is an executor made of a function.
type executorFunc func(ctx context.Context, task executor.Task) (json.RawMessage, error)

func (f executorFunc) Run(ctx context.Context, task executor.Task) (json.RawMessage, error) {
	return f(ctx, task)
}

// world is a NATS server with everything that the orchestrator and telemetry make.
type world struct {
	t       testing.TB
	url     string
	conn    *bus.Conn
	js      jetstream.JetStream
	ackWait time.Duration
	results chan jetstream.Msg

	recorded sync.Map // tokens whose results the ledger has
	bodies   sync.Map // by token: a runner.StepBody or runner.StepError that the ledger gives
	payloads sync.Map // by runner.Reference: what is stored
}

func newWorld(t testing.TB, ackWait time.Duration) *world {
	t.Helper()
	w := &world{t: t, url: bustest.Server(t), ackWait: ackWait, results: make(chan jetstream.Msg, 4096)}
	w.conn = bustest.Connect(t, w.url)
	w.js = w.conn.JetStream()
	w.stream(subject.ExecutionInputStream, subject.ExecutionInputAll, jetstream.LimitsPolicy)
	w.stream(subject.LogsStream, subject.LogsAll, jetstream.LimitsPolicy)
	w.stream(subject.ProbeStream, subject.ProbeAll, jetstream.LimitsPolicy)
	w.makeSteps()
	w.makeBucket()
	ledger := bus.NewServer(orchestrator.Service, zerolog.Nop())
	bus.Handle(ledger, orchestrator.AttemptAwaited, func(_ context.Context, _ rpc.Caller, req orchestrator.AttemptRequest) (orchestrator.AttemptResponse, error) {
		_, recorded := w.recorded.Load(req.Token)
		return orchestrator.AttemptResponse{Awaited: !recorded}, nil
	})
	bus.Handle(ledger, orchestrator.AttemptBody, func(_ context.Context, _ rpc.Caller, req orchestrator.AttemptRequest) (resp orchestrator.AttemptBodyResponse, err error) {
		switch known, _ := w.bodies.Load(req.Token); body := known.(type) {
		case runner.StepBody:
			resp.Body, err = json.Marshal(body)
		case runner.StepError:
			resp.Failure = &body
		}
		return resp, err
	})
	bus.Handle(ledger, orchestrator.StorePayload, func(_ context.Context, _ rpc.Caller, req orchestrator.StorePayloadRequest) (rpc.Empty, error) {
		w.payloads.Store(runner.ReferTo(req.Payload), req.Payload)
		return rpc.Empty{}, nil
	})
	bustest.Serve(t, w.conn, ledger)
	reader, err := w.js.OrderedConsumer(w.ctx(), subject.ExecutionInputStream, jetstream.OrderedConsumerConfig{})
	w.must(err)
	reading, err := reader.Consume(func(m jetstream.Msg) { w.results <- bustest.Event(m) })
	w.must(err)
	t.Cleanup(func() {
		reading.Stop()
		<-reading.Closed()
	})
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	w.t.Cleanup(cancel)
	return ctx
}

func (w *world) stream(name, subjects string, retention jetstream.RetentionPolicy) {
	w.t.Helper()
	_, err := w.js.CreateStream(w.ctx(), jetstream.StreamConfig{Name: name, Subjects: []string{subjects}, Retention: retention})
	w.must(err)
}

func (w *world) makeSteps() {
	w.t.Helper()
	w.stream(subject.StepsStream, subject.StepsAll, jetstream.WorkQueuePolicy)
	for _, agentType := range catalog.RunnerAgentTypes() {
		_, err := w.js.CreateConsumer(w.ctx(), subject.StepsStream, jetstream.ConsumerConfig{
			Durable: subject.StepConsumer(subject.DefaultPool, agentType), FilterSubject: subject.StepsOf(subject.DefaultPool, agentType),
			AckPolicy: jetstream.AckExplicitPolicy, AckWait: w.ackWait, MaxDeliver: -1, MaxAckPending: 8192,
		})
		w.must(err)
	}
}

// consumer gives how the consumer of DATA steps stands.
func (w *world) consumer() *jetstream.ConsumerInfo {
	w.t.Helper()
	c, err := w.js.Consumer(w.ctx(), subject.StepsStream, subject.StepConsumer(subject.DefaultPool, catalog.AgentData))
	w.must(err)
	return c.CachedInfo()
}

func (w *world) makeBucket() {
	w.t.Helper()
	_, err := w.js.CreateKeyValue(w.ctx(), jetstream.KeyValueConfig{Bucket: subject.CancelBucket, TTL: time.Hour})
	w.must(err)
}

func (w *world) cancel(token string) {
	w.t.Helper()
	bucket, err := w.js.KeyValue(w.ctx(), subject.CancelBucket)
	w.must(err)
	_, err = bucket.Put(w.ctx(), token, nil)
	w.must(err)
}

// running is a runner that has been started.
type running struct {
	health *service.Health
	conn   *bus.Conn
	stop   func() // returns when it has ended; may be called twice
}

// start runs a runner whose DATA steps run go to executor.
func (w *world) start(executor executor.Interface, change ...func(*Config)) *running {
	w.t.Helper()
	cfg := Config{Concurrency: 4, DrainMs: 200}
	for _, f := range change {
		f(&cfg)
	}
	cfg, err := cfg.complete()
	w.must(err)
	conn := bustest.Connect(w.t, w.url)
	env := service.Env{Log: zerolog.New(io.Discard), Bus: conn, Health: service.NewHealth(runner.Service)}
	s, err := wire(env, cfg, []kind{{catalog.AgentData, cfg.Concurrency, executor}})
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx); close(done) }()
	r := &running{health: env.Health, conn: conn, stop: func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				w.t.Errorf("run: %v", err)
			}
		case <-time.After(patience):
			w.t.Error("the runner does not stop")
		}
	}}
	w.t.Cleanup(r.stop)
	return r
}

func (r *running) awaitReady(t testing.TB) {
	t.Helper()
	eventually(t, "ready", func() bool { return r.health.Check(context.Background()).Ready })
}

// The trace that ready steps are of; nobody records it.
const (
	traceID     = "0af7651916cd43dd8448eb211c80319c"
	traceparent = "00-" + traceID + "-b7ad6b7169203331-00"
)

// step makes the message of a ready step.
func step(token string, change ...func(*nats.Msg)) *nats.Msg {
	m := nats.NewMsg(subject.Step(subject.DefaultPool, catalog.AgentData, 5))
	for k, v := range map[string]string{
		event.HeaderSpecVersion: event.SpecVersion, event.HeaderType: runner.TypeStepReady, event.HeaderSource: "orchestrator",
		event.HeaderID: token, event.HeaderSubject: "execution-of-" + token, runner.HeaderStepKey: "b", runner.HeaderDispatch: "1",
		runner.HeaderAttempt: "2", runner.HeaderTimeoutMs: "60000", runner.HeaderIdempotencyKey: "key-" + token,
		runner.HeaderUserID: "user", runner.HeaderWorkflowID: "workflow", runner.HeaderAgentID: "agent",
		event.HeaderRequestID: "request", event.HeaderTraceparent: traceparent,
	} {
		m.Header.Set(k, v)
	}
	m.Data = []byte(`{"config":{"c":1},"input":{"i":1}}`)
	for _, f := range change {
		f(m)
	}
	return m
}

func with(header, value string) func(*nats.Msg) {
	return func(m *nats.Msg) { m.Header.Set(header, value) }
}

func (w *world) send(m *nats.Msg) uint64 {
	w.t.Helper()
	ack, err := w.js.PublishMsg(w.ctx(), m)
	w.must(err)
	return ack.Sequence
}

// next gives the next report.
func (w *world) next() jetstream.Msg {
	w.t.Helper()
	select {
	case m := <-w.results:
		return m
	case <-time.After(patience):
		w.t.Fatal("no report")
		return nil
	}
}

// expect wants the next report to be of a type and a token.
func (w *world) expect(typ, token string) jetstream.Msg {
	w.t.Helper()
	m := w.next()
	for typ != runner.TypeStepStarted && m.Headers().Get(event.HeaderType) == runner.TypeStepStarted {
		m = w.next() // a busy machine makes any attempt long enough to be announced
	}
	if got, id := m.Headers().Get(event.HeaderType), m.Headers().Get(event.HeaderID); got != typ || id != token {
		w.t.Fatalf("the next report is %s of %q with %s; want %s of %q", got, id, m.Data(), typ, token)
	}
	return m
}

// expectFault wants the next report to be a failure with a code.
func (w *world) expectFault(token, code string) runner.StepError {
	w.t.Helper()
	m := w.expect(runner.TypeStepFailed, token)
	var fault runner.StepError
	w.must(json.Unmarshal(m.Data(), &fault))
	if fault.Code != code {
		w.t.Fatalf("the fault is %+v, want %s", fault, code)
	}
	return fault
}

// awaitEmpty waits until every ready step is acked.
func (w *world) awaitEmpty() {
	w.t.Helper()
	eventually(w.t, "STEPS is empty", func() bool {
		s, err := w.js.Stream(w.ctx(), subject.StepsStream)
		return err == nil && s.CachedInfo().State.Msgs == 0
	})
}

// awaitHeld waits until the runner extends its lease on the message with this sequence. That a message was sent to the runner
// does not mean that it has taken it in.
func (w *world) awaitHeld(sequence uint64) {
	w.t.Helper()
	acks, err := w.conn.NATS().SubscribeSync(fmt.Sprintf("$JS.ACK.%s.*.*.%d.>", subject.StepsStream, sequence))
	w.must(err)
	m, err := acks.NextMsg(patience)
	w.must(err)
	if string(m.Data) != "+WPI" {
		w.t.Fatalf("%d is answered with %q while it runs", sequence, m.Data)
	}
	w.must(acks.Unsubscribe())
}

// noMore wants no other report to be there.
func (w *world) noMore() {
	w.t.Helper()
	w.must(w.conn.NATS().Flush())
	select {
	case m := <-w.results:
		w.t.Fatalf("one more report: %v %s", m.Headers(), m.Data())
	default:
	}
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// take pulls one ready step like a runner that dies without a word.
func (w *world) take() jetstream.Msg {
	w.t.Helper()
	consumer, err := w.js.Consumer(w.ctx(), subject.StepsStream, subject.StepConsumer(subject.DefaultPool, catalog.AgentData))
	w.must(err)
	m, err := consumer.Next(jetstream.FetchMaxWait(patience))
	w.must(err)
	return m
}

// echo gives its input back and counts.
func echo(calls *atomic.Int64) executorFunc {
	return func(_ context.Context, task executor.Task) (json.RawMessage, error) {
		calls.Add(1)
		return task.Input, nil
	}
}

// gated is an executor that tells when an attempt begins and waits for the test or for its context.
type gated struct {
	began chan executor.Task
	open  chan json.RawMessage
	ended chan error // the cause of a context that ended first
}

func newGated() *gated {
	return &gated{began: make(chan executor.Task, 64), open: make(chan json.RawMessage, 64), ended: make(chan error, 64)}
}

func (g *gated) Run(ctx context.Context, task executor.Task) (json.RawMessage, error) {
	g.began <- task
	select {
	case output := <-g.open:
		return output, nil
	case <-ctx.Done():
		g.ended <- context.Cause(ctx)
		return nil, ctx.Err()
	}
}

func await[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("never: %s", what)
		panic("unreachable")
	}
}

func tokens(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("t%s", strconv.Itoa(i))
	}
	return list
}
