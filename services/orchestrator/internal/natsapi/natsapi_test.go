package natsapi

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newTransport(t *testing.T) *Transport {
	t.Helper()
	limits := Limits{ExecutionInputBytes: 1 << 30, StepsBytes: 1 << 30, EventsBytes: 1 << 30, EventsAge: time.Hour}
	tr, err := NewTransport(bustest.New(t).NATS(), limits, bus.NewCopies(1, nil, zerolog.Nop()), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	return tr
}

func (t *Transport) put(tb testing.TB, p int, header map[string]string, body string) uint64 {
	tb.Helper()
	h := nats.Header{}
	for k, v := range header {
		h[k] = []string{v}
	}
	ack, err := t.js.PublishMsg(tb.Context(), &nats.Msg{Subject: subject.ExecutionInputRun(p), Header: h, Data: []byte(body)})
	if err != nil {
		tb.Fatal(err)
	}
	return ack.Sequence
}

func next(t *testing.T, r partition.Reader) partition.Message {
	t.Helper()
	select {
	case m := <-r.Messages():
		return m
	case <-time.After(10 * time.Second):
		t.Fatal("no message comes")
		return partition.Message{}
	}
}

func TestEnsureMakesWhatIsMissing(t *testing.T) {
	t.Parallel()
	tr := newTransport(t)
	again, err := tr.Ensure(t.Context())
	if err != nil || again.Remade {
		t.Errorf("made again: %+v, %v", again, err)
	}
	if skew := time.Since(time.Unix(0, again.Now)); skew < -time.Minute || skew > time.Minute {
		t.Errorf("the server's clock is off by %v", skew)
	}
	for _, name := range []string{subject.ExecutionInputStream, subject.StepsStream, subject.EventsStream} {
		if err := tr.js.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if now, err := tr.Ensure(t.Context()); err != nil || !now.Remade {
			t.Errorf("%s is not made again: %+v, %v", name, now, err)
		}
	}
	for _, agentType := range []string{catalog.AgentCode, catalog.AgentAPI, catalog.AgentLLM, catalog.AgentData} {
		if _, err := tr.js.Consumer(t.Context(), subject.StepsStream, subject.StepConsumer(subject.DefaultPool, agentType)); err != nil {
			t.Errorf("the consumer of %s: %v", agentType, err)
		}
	}
}

// TestNothingRestsOnLiveText deletes its stream, and then has another in its place.
func TestNothingRestsOnLiveText(t *testing.T) {
	t.Parallel()
	tr := newTransport(t)
	stream, err := tr.js.Stream(t.Context(), subject.TokensStream)
	if err != nil {
		t.Fatal(err)
	}
	if cfg := stream.CachedInfo().Config; cfg.Storage != jetstream.MemoryStorage || cfg.MaxAge != runner.TokensKept || cfg.MaxBytes <= 0 || cfg.MaxMsgsPerSubject <= 0 {
		t.Errorf("the stream is %+v", cfg)
	}
	if err := tr.js.DeleteStream(t.Context(), subject.TokensStream); err != nil {
		t.Fatal(err)
	}
	if now, err := tr.Ensure(t.Context()); err != nil || now.Remade {
		t.Errorf("without the stream: %+v, %v", now, err)
	}
	if _, err := tr.js.Stream(t.Context(), subject.TokensStream); err != nil {
		t.Errorf("it is not made again: %v", err)
	}
	if err := tr.js.DeleteStream(t.Context(), subject.TokensStream); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{subject.TokensAll}}); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Ensure(t.Context()); err != nil {
		t.Errorf("when it can not be made: %v", err)
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	tr := newTransport(t)
	r, err := tr.Read(t.Context(), 4, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	step := func(kind string) map[string]string {
		return map[string]string{event.HeaderType: kind, event.HeaderSubject: "x", event.HeaderID: "token", runner.HeaderStepKey: "a"}
	}
	for _, c := range []struct {
		name   string
		header map[string]string
		body   string
		kind   engine.Kind
		code   string
		fault  string
	}{
		{"completed", step(runner.TypeStepCompleted), `{"a":1}`, engine.StepCompleted, "", ""},
		{"completed without JSON", step(runner.TypeStepCompleted), `{"a":`, engine.StepFailed, runner.CodeInvalidOutput, ""},
		{"completed without body", step(runner.TypeStepCompleted), ``, engine.StepFailed, runner.CodeInvalidOutput, ""},
		{"completed with too much", step(runner.TypeStepCompleted), `"` + strings.Repeat("x", maxReported) + `"`, engine.StepFailed, runner.CodeOutputLimit, ""},
		{"failed", step(runner.TypeStepFailed), `{"code":"CODE_ERROR","message":"m"}`, engine.StepFailed, runner.CodeError, ""},
		{"failed without reason", step(runner.TypeStepFailed), `{}`, engine.StepFailed, runner.CodeInternal, ""},
		{"failed without JSON", step(runner.TypeStepFailed), `x`, engine.StepFailed, runner.CodeInternal, ""},
		{"started", step(runner.TypeStepStarted), ``, engine.StepStarted, "", ""},
		{"lost", step(orchestrator.TypeStepLost), ``, engine.StepLost, "", ""},
		{"submitted", step(orchestrator.TypeSubmitted), ``, engine.Submitted, "", ""},
		{"timer", step(orchestrator.TypeTimerDue), ``, engine.TimerDue, "", ""},
		{"cancel", step(orchestrator.TypeCancel), ``, engine.Cancel, "", ""},
		{"unknown", step("io.turbocat.x.v1"), `body`, 0, "", "no input has the type"},
		{"without headers", nil, `body`, 0, "", "no input has the type"},
		{"of no execution", map[string]string{event.HeaderType: runner.TypeStepCompleted}, `1`, engine.StepCompleted, "", "it names no execution"},
	} {
		seq := tr.put(t, 4, c.header, c.body)
		m := next(t, r)
		if m.Seq != seq || m.Input.Kind != c.kind || m.Time == 0 || m.Input.Time == 0 {
			t.Errorf("%s: %+v", c.name, m)
		}
		if c.code != "" && (m.Input.Err == nil || m.Input.Err.Code != c.code || m.Input.Output != nil) {
			t.Errorf("%s: error %v", c.name, m.Input.Err)
		}
		if c.fault != "" && (!strings.Contains(m.Fault, c.fault) || m.Subject == "" || string(m.Body) != c.body) || c.fault == "" && m.Fault != "" {
			t.Errorf("%s: fault %q", c.name, m.Fault)
		}
	}
}

func TestReadBeginsWhereItIsTold(t *testing.T) {
	t.Parallel()
	tr := newTransport(t)
	for i := range 20 {
		tr.put(t, i%2, map[string]string{event.HeaderType: "x"}, "")
	}
	r, err := tr.Read(t.Context(), 1, 11)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if !r.Pending() {
		t.Error("nothing is pending")
	}
	for want := uint64(12); want <= 20; want += 2 {
		if m := next(t, r); m.Seq != want {
			t.Errorf("message %d, want %d", m.Seq, want)
		}
	}
	last := tr.put(t, 0, map[string]string{event.HeaderType: "x"}, "") // of another partition
	deadline := time.Now().Add(5 * time.Second)
	for {
		upTo, at, delivered, ok, err := r.Idle(t.Context())
		if err == nil && ok {
			if upTo != last || delivered != 20 || at == 0 {
				t.Errorf("idle up to %d of %d, delivered %d, at %d", upTo, last, delivered, at)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("never idle: %v", err)
		}
	}
}

// TestConsumerThatDeliversNothing pauses the server's consumer, which goes on to say that it is alive.
func TestConsumerThatDeliversNothing(t *testing.T) {
	t.Parallel()
	tr := newTransport(t)
	r, err := tr.Read(t.Context(), 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	tr.put(t, 1, map[string]string{event.HeaderType: "x"}, "")
	next(t, r)
	stream, err := tr.js.Stream(t.Context(), subject.ExecutionInputStream)
	if err != nil {
		t.Fatal(err)
	}
	for name := range stream.ConsumerNames(t.Context()).Name() {
		if _, err := tr.js.PauseConsumer(t.Context(), subject.ExecutionInputStream, name, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	for look := range 3 {
		last := tr.put(t, 1, map[string]string{event.HeaderType: "x"}, "")
		if upTo, _, _, ok, err := r.Idle(t.Context()); err != nil || ok {
			t.Fatalf("idle up to %d, and input %d is not delivered: %v", upTo, last, err)
		}
		select {
		case <-r.Resets():
			if look == 0 {
				t.Error("the reader is to begin anew although the input was on its way")
			}
			return
		default:
		}
	}
	t.Error("nobody notices")
}

func TestStopAttemptDropsItsMessageAlone(t *testing.T) {
	t.Parallel()
	tr := newTransport(t)
	sent := make(chan uint64, 2)
	for _, token := range []string{"a", "b"} {
		tr.Send(partition.StepMessage{ExecutionID: "x", StepKey: "s", AgentType: catalog.AgentData, Token: token, Dispatch: 1, Body: []byte("{}")}, func(seq uint64, err error) {
			if err != nil {
				t.Errorf("send: %v", err)
			}
			sent <- seq
		})
	}
	first, second := <-sent, <-sent
	if err := tr.StopAttempt(t.Context(), "another", first); err != nil {
		t.Fatal(err)
	}
	if _, found, err := tr.StepAt(t.Context(), first); err != nil || !found {
		t.Errorf("the message of another attempt was dropped: %v", err)
	}
	for range 2 { // safe to repeat
		if err := tr.StopAttempt(t.Context(), "a", first); err != nil {
			t.Fatal(err)
		}
	}
	if _, found, err := tr.StepAt(t.Context(), first); err != nil || found {
		t.Errorf("the message is still there: %v", err)
	}
	if token, found, err := tr.StepAt(t.Context(), second); err != nil || !found || token != "b" {
		t.Errorf("the other message: %q, %t, %v", token, found, err)
	}
	bucket, err := tr.js.KeyValue(t.Context(), subject.CancelBucket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bucket.Get(t.Context(), "a"); err != nil {
		t.Errorf("the runners are not told: %v", err)
	}
}

// A step whose PubAck was lost is sent again; STEPS must not have it twice.
func TestSameDispatchIsTakenOnce(t *testing.T) {
	t.Parallel()
	tr := newTransport(t)
	send := func(dispatch int) uint64 {
		sent := make(chan uint64, 1)
		tr.Send(partition.StepMessage{ExecutionID: "x", StepKey: "s", AgentType: catalog.AgentData, Token: "t", Dispatch: dispatch, Body: []byte("{}")}, func(seq uint64, _ error) { sent <- seq })
		return <-sent
	}
	first, again, next := send(1), send(1), send(2)
	if first != again || next == first {
		t.Errorf("sequences %d, %d, %d", first, again, next)
	}
	if n := waiting(t, tr); n != 2 {
		t.Errorf("STEPS has %d steps", n)
	}
}

// waiting counts the ready steps in STEPS.
func waiting(t *testing.T, tr *Transport) (n uint64) {
	t.Helper()
	stream, err := tr.js.Stream(t.Context(), subject.StepsStream)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(subject.StepsWaiting))
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range info.State.Subjects {
		n += of
	}
	return n
}

// TestStepsAreKeptOpen takes a step from STEPS, which then is not empty, but after a while.
func TestStepsAreKeptOpen(t *testing.T) {
	t.Parallel()
	tr := newTransport(t)
	sent := make(chan error, 1)
	for range 3 {
		tr.Send(partition.StepMessage{ExecutionID: "x", StepKey: "s", AgentType: catalog.AgentData, Token: uuid.NewString(), Dispatch: 1, Body: []byte("{}")}, func(_ uint64, err error) { sent <- err })
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	consumer, err := tr.js.Consumer(t.Context(), subject.StepsStream, subject.StepConsumer(subject.DefaultPool, catalog.AgentData))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		m, err := consumer.Next()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	messages := func() uint64 {
		stream, err := tr.js.Stream(t.Context(), subject.StepsStream)
		if err != nil {
			t.Fatal(err)
		}
		return stream.CachedInfo().State.Msgs
	}
	if n := messages(); n != 1 || waiting(t, tr) != 0 {
		t.Errorf("STEPS has %d messages", n)
	}
	for deadline := time.Now().Add(20 * time.Second); messages() > 0; {
		if time.Now().After(deadline) {
			t.Fatal("the message stays for ever")
		}
		<-time.After(50 * time.Millisecond)
	}
}
