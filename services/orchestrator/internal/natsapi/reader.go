package natsapi

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
)

// readAhead is how many inputs of a partition wait in memory.
const readAhead = 1024

type reader struct {
	transport *Transport
	consumer  jetstream.Consumer
	consuming jetstream.ConsumeContext
	pending   uint64
	messages  chan partition.Message
	resets    chan struct{}
	delivered atomic.Uint64 // stream sequence of the last message handed over
	from      uint64
	name      string // of the server's consumer; used by the callback alone
	closing   chan struct{}
	closeOnce sync.Once
}

// Read implements partition.Transport.
func (t *Transport) Read(ctx context.Context, p int, from uint64) (partition.Reader, error) {
	consumer, err := t.js.OrderedConsumer(ctx, subject.ExecutionInputStream, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subject.ExecutionInputPartition(p)}, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from,
		InactiveThreshold: 30 * time.Second,
	})
	if err != nil {
		return nil, err
	}
	r := &reader{
		transport: t, consumer: consumer, from: from, messages: make(chan partition.Message, readAhead), resets: make(chan struct{}, 1), closing: make(chan struct{}),
	}
	if info := consumer.CachedInfo(); info != nil {
		r.pending = info.NumPending
	}
	r.consuming, err = consumer.Consume(r.receive, jetstream.PullMaxMessages(readAhead/2), jetstream.ConsumeErrHandler(func(jetstream.ConsumeContext, error) { r.reset() }))
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (r *reader) Pending() uint64                    { return r.pending }
func (r *reader) Messages() <-chan partition.Message { return r.messages }
func (r *reader) Resets() <-chan struct{}            { return r.resets }

func (r *reader) Close() {
	r.closeOnce.Do(func() {
		close(r.closing)
		r.consuming.Stop()
	})
}

func (r *reader) reset() {
	select {
	case r.resets <- struct{}{}:
	default:
	}
}

func (r *reader) receive(m jetstream.Msg) {
	meta, err := m.Metadata()
	if err != nil {
		return // not from JetStream
	}
	if r.name == "" {
		r.name = meta.Consumer
	} else if r.name != meta.Consumer {
		r.reset() // the consumer was made anew under us; the owner compares the log and reads again
		return
	}
	select {
	case r.messages <- decode(m, meta):
		r.delivered.Store(meta.Sequence.Stream)
	case <-r.closing:
	}
}

// Idle implements partition.Reader.
func (r *reader) Idle(ctx context.Context) (upTo uint64, at int64, delivered uint64, ok bool, err error) {
	stream, err := r.transport.js.Stream(ctx, subject.ExecutionInputStream)
	if err != nil {
		return 0, 0, 0, false, err
	}
	// Read before the consumer's state: what is not pending then lies before it.
	upTo = stream.CachedInfo().State.LastSeq
	info, err := r.consumer.Info(ctx)
	if err != nil {
		return 0, 0, 0, false, err
	}
	delivered = r.delivered.Load()
	if info.NumPending > 0 || info.Delivered.Stream > delivered && info.Delivered.Stream >= r.from {
		return 0, 0, 0, false, nil
	}
	at, found, err := r.transport.TimeAt(ctx, upTo)
	return upTo, at, delivered, found, err
}

// decode makes an input of a message. What is no input says why.
func decode(m jetstream.Msg, meta *jetstream.MsgMetadata) partition.Message {
	h := m.Headers()
	out := partition.Message{
		Seq: meta.Sequence.Stream, Time: meta.Timestamp.UnixNano(), Pending: meta.NumPending, ExecutionID: h.Get(event.HeaderSubject), Size: len(m.Data()),
		Subject: m.Subject(), Body: m.Data(),
	}
	out.Input = engine.Input{Time: engine.TimeOf(meta.Timestamp), Step: h.Get(runner.HeaderStepKey), Token: h.Get(event.HeaderID)}
	out.Input.Iteration, _ = strconv.Atoi(h.Get(runner.HeaderIteration)) // absent for the step itself
	fault := ""
	switch kind := h.Get(event.HeaderType); kind {
	case runner.TypeStepCompleted:
		out.Input.Kind, out.Input.Output = engine.StepCompleted, m.Data()
		switch {
		case len(m.Data()) > runner.MaxOutput:
			out.Input.Kind, out.Input.Output = engine.StepFailed, nil
			out.Input.Err = &runner.StepError{Code: runner.CodeOutputLimit, Message: fmt.Sprintf("the output has more than %d bytes", runner.MaxOutput)}
		case !json.Valid(m.Data()):
			// The step must not wait for another result: its runner has acked it.
			out.Input.Kind, out.Input.Output = engine.StepFailed, nil
			out.Input.Err = &runner.StepError{Code: runner.CodeInvalidOutput, Message: "the output is not valid JSON"}
		}
	case runner.TypeStepFailed:
		out.Input.Kind, out.Input.Err = engine.StepFailed, stepError(m.Data())
	case runner.TypeStepStarted:
		out.Input.Kind = engine.StepStarted
	case orchestrator.TypeStepLost:
		out.Input.Kind = engine.StepLost
		out.Input.Dispatch, _ = strconv.Atoi(h.Get(runner.HeaderDispatch))
	case orchestrator.TypeSubmitted:
		out.Input.Kind = engine.Submitted
	case orchestrator.TypeTimerDue:
		out.Input.Kind = engine.TimerDue
	case orchestrator.TypeCancel:
		out.Input.Kind, out.Input.Command = engine.Cancel, h.Get(event.HeaderID)
	case orchestrator.TypePause:
		out.Input.Kind, out.Input.Command = engine.Pause, h.Get(event.HeaderID)
	case orchestrator.TypeResume:
		out.Input.Kind, out.Input.Command = engine.Resume, h.Get(event.HeaderID)
	case orchestrator.TypeSignal:
		out.Input.Kind, out.Input.Command = engine.Signaled, h.Get(event.HeaderID)
		if err := json.Unmarshal(m.Data(), &out.Input.Signal); err != nil {
			fault = "the signal does not decode: " + err.Error()
		}
	case orchestrator.TypeStepGathered:
		out.Input.Kind, out.Input.Output = engine.Gathered, m.Data()
	case orchestrator.TypeStepGatherFailed:
		out.Input.Kind, out.Input.Err = engine.Gathered, stepError(m.Data())
	default:
		fault = fmt.Sprintf("no input has the type %q", kind)
	}
	if fault == "" && out.ExecutionID == "" {
		fault = "it names no execution"
	}
	if fault != "" {
		out.Fault, out.Headers = fault, headerBytes(h)
	}
	return out
}

func stepError(body []byte) *runner.StepError {
	var failure runner.StepError
	if err := json.Unmarshal(body, &failure); err != nil || failure.Code == "" {
		return &runner.StepError{Code: runner.CodeInternal, Message: "the error does not decode", Retryable: true}
	}
	return &failure
}

func headerBytes(h nats.Header) []byte {
	b, err := json.Marshal(h)
	if err != nil {
		return nil
	}
	return b
}
