package natsapi

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/rawjson"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
)

// readAhead is how many inputs of a partition wait in memory.
const readAhead = 1024

type reader struct {
	feed      *feed
	p         int
	from      uint64
	last      uint64 // the last input when it was opened, as the stream's leader has it: a consumer may lag and not know of it
	messages  chan partition.Message
	resets    chan struct{}
	delivered atomic.Uint64 // stream sequence of the last message handed over
	owed      uint64        // the last input when Idle last found one that was not delivered
	stood     uint64        // what was delivered then
	closing   chan struct{}
	closeOnce sync.Once

	next uint64 // inputs before this one are not handed over; guarded by the feed's turn
	fed  int    // serial of the consumer whose inputs it gets; guarded by the feed's turn
}

// Read implements partition.Transport.
func (t *Transport) Read(ctx context.Context, p int, from uint64) (partition.Reader, error) {
	last, err := t.LastInput(ctx, p)
	if err != nil {
		return nil, err
	}
	r := &reader{
		feed: t.feed, p: p, from: from, last: last, next: from, messages: make(chan partition.Message, readAhead), resets: make(chan struct{}, 1), closing: make(chan struct{}),
	}
	if err := t.feed.join(ctx, r); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Pending implements partition.Reader.
func (r *reader) Pending() bool { return r.last >= r.from }

func (r *reader) Messages() <-chan partition.Message { return r.messages }
func (r *reader) Resets() <-chan struct{}            { return r.resets }

// Close implements partition.Reader.
func (r *reader) Close() {
	r.closeOnce.Do(func() {
		close(r.closing)
		r.feed.leave(r)
	})
}

func (r *reader) reset() {
	select {
	case r.resets <- struct{}{}:
	default:
	}
}

// receive hands an input over, unless it was before, and waits until there is room.
func (r *reader) receive(m jetstream.Msg, meta *jetstream.MsgMetadata) {
	seq := meta.Sequence.Stream
	if seq < r.next {
		return
	}
	input := decode(m, meta)
	input.Pending = seq < r.last
	select {
	case r.messages <- input:
		r.next = seq + 1
		r.delivered.Store(seq)
	case <-r.closing:
	}
}

// Idle implements partition.Reader. It asks the stream's leader alone: the consumer may stand on a server of a cluster that has not
// all yet, and then says that nothing is pending.
func (r *reader) Idle(ctx context.Context) (upTo uint64, at int64, delivered uint64, ok bool, err error) {
	stream, err := r.feed.transport.js.Stream(ctx, subject.ExecutionInputStream)
	if err != nil {
		return 0, 0, 0, false, err
	}
	upTo = stream.CachedInfo().State.LastSeq // read before the partition's last: what is after that does not lie before it
	last, err := r.feed.transport.LastInput(ctx, r.p)
	if err != nil {
		return 0, 0, 0, false, err
	}
	delivered = r.delivered.Load()
	if last >= r.from && last > delivered {
		if r.owed > delivered && r.stood == delivered && len(r.messages) == 0 {
			r.feed.transport.log.Warn().Int("partition", r.p).Uint64("input", r.owed).Msg("the consumer does not deliver what the log has; it is made anew")
			r.reset()
		}
		r.owed, r.stood = last, delivered
		return 0, 0, 0, false, nil
	}
	at, found, err := r.feed.transport.TimeAt(ctx, upTo)
	return upTo, at, delivered, found, err
}

// decode makes an input of a message. What is no input says why.
func decode(m jetstream.Msg, meta *jetstream.MsgMetadata) partition.Message {
	headers, data := event.Headers(m.Headers(), m.Data())
	out := partition.Message{
		Seq: meta.Sequence.Stream, Time: meta.Timestamp.UnixNano(), Size: len(m.Data()), Subject: m.Subject(), Headers: m.Headers(), Body: m.Data(),
	}
	out.Input.Time = engine.TimeOf(meta.Timestamp)
	var kind, contentType string
	var dispatch int
	for name, value := range headers {
		switch name {
		case event.HeaderType:
			kind = value
		case event.HeaderID:
			out.Input.Token = value
		case event.HeaderSubject:
			out.ExecutionID = value
		case event.HeaderTraceparent:
			out.Traceparent = value
		case event.HeaderContentType:
			contentType = value
		case runner.HeaderStepKey:
			out.Input.Step = value
		case runner.HeaderIteration: // absent for the step itself
			out.Input.Iteration, _ = strconv.Atoi(value)
		case runner.HeaderDispatch:
			dispatch, _ = strconv.Atoi(value)
		}
	}
	fault := ""
	switch kind {
	case runner.TypeStepCompleted:
		out.Input.Kind, out.Input.Output = engine.StepCompleted, data
		if contentType == runner.TypeReference {
			out.Input.Dispatch = dispatch
		}
		if failure := wrongOutput(contentType, data); failure != nil {
			// The step must not wait for another result: its runner has acked it.
			out.Input.Kind, out.Input.Output, out.Input.Err = engine.StepFailed, nil, failure
		}
	case runner.TypeStepFailed:
		out.Input.Kind, out.Input.Err = engine.StepFailed, stepError(data)
	case runner.TypeStepStarted:
		out.Input.Kind = engine.StepStarted
	case orchestrator.TypeStepLost:
		out.Input.Kind, out.Input.Dispatch = engine.StepLost, dispatch
	case orchestrator.TypeSubmitted:
		out.Input.Kind = engine.Submitted
	case orchestrator.TypeTimerDue:
		out.Input.Kind = engine.TimerDue
	case orchestrator.TypeCancel:
		out.Input.Kind, out.Input.Command = engine.Cancel, out.Input.Token
	case orchestrator.TypePause:
		out.Input.Kind, out.Input.Command = engine.Pause, out.Input.Token
	case orchestrator.TypeResume:
		out.Input.Kind, out.Input.Command = engine.Resume, out.Input.Token
	case orchestrator.TypeSignal:
		out.Input.Kind, out.Input.Command = engine.Signaled, out.Input.Token
		if err := json.Unmarshal(data, &out.Input.Signal); err != nil {
			fault = "the signal does not decode: " + err.Error()
		}
	case orchestrator.TypeStepGathered:
		out.Input.Kind, out.Input.Output = engine.Gathered, data
	case orchestrator.TypeStepGatherFailed:
		out.Input.Kind, out.Input.Err = engine.Gathered, stepError(data)
	default:
		fault = fmt.Sprintf("no input has the type %q", kind)
	}
	if fault == "" && out.ExecutionID == "" {
		fault = "it names no execution"
	}
	out.Fault = fault
	return out
}

// maxReported is the largest output that is taken in as it is: runners of earlier versions send no references.
const maxReported = 1 << 20

// wrongOutput tells why the body of a result can not be an output; nil when it can.
func wrongOutput(contentType string, body []byte) *runner.StepError {
	switch _, stored := runner.ReferenceOf(body); {
	case contentType == runner.TypeReference && stored:
		return nil
	case contentType == runner.TypeReference:
		return &runner.StepError{Code: runner.CodeInvalidOutput, Message: "the reference to the output is malformed"}
	case len(body) > maxReported:
		return &runner.StepError{Code: runner.CodeOutputLimit, Message: fmt.Sprintf("the output has more than %d bytes and was not stored before it was reported", maxReported)}
	}
	if fault := rawjson.Fault(body); fault != "" {
		return &runner.StepError{Code: runner.CodeInvalidOutput, Message: "the output " + fault}
	}
	return nil
}

func stepError(body []byte) *runner.StepError {
	var failure runner.StepError
	if err := json.Unmarshal(body, &failure); err != nil || failure.Code == "" {
		return &runner.StepError{Code: runner.CodeInternal, Message: "the error does not decode", Retryable: true}
	}
	return &failure
}
