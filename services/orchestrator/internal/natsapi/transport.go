package natsapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/observe"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
)

const (
	// keepOpenEvery is how often a message that stays is put into STEPS while steps are sent, sooner after keepOpenBytes, and
	// keepOpenFor how long it stays.
	keepOpenEvery = time.Second
	keepOpenBytes = 1 << 20
	keepOpenFor   = 3 * time.Second
)

// lineBytes is what the headers of a message take, mostly.
const lineBytes = 768

// publishTimeout is how long a PubAck may take before the message counts as not taken.
const publishTimeout = 5 * time.Second

// Transport implements partition.Transport. It is safe for concurrent use.
type Transport struct {
	js        jetstream.JetStream // for everything that waits for its answer
	publisher *bus.Publisher      // for what is answered later
	limits    Limits
	copies    *bus.Copies
	log       zerolog.Logger
	feed      *feed
	kept      atomic.Int64 // when STEPS was last given a message that stays; ns
	sent      atomic.Int64 // bytes that it was given since

	mu        sync.Mutex
	created   map[string]time.Time
	cancelled jetstream.KeyValue

	tokensMissing bool
	pools         map[string]bool // of runners that were heard, and whether their consumers are there
}

// NewTransport makes a transport over a connection.
func NewTransport(nc *nats.Conn, limits Limits, copies *bus.Copies, log zerolog.Logger) (*Transport, error) {
	t := &Transport{limits: limits, copies: copies, log: log, created: map[string]time.Time{}, pools: map[string]bool{subject.DefaultPool: false}}
	t.feed = &feed{transport: t, readers: map[int][]*reader{}}
	var err error
	if t.js, err = jetstream.New(nc); err != nil {
		return nil, err
	}
	t.publisher, err = bus.NewPublisher(nc, publishTimeout)
	return t, err
}

// Send implements partition.Transport.
func (t *Transport) Send(s partition.StepMessage, done func(seq uint64, err error)) {
	dispatch := strconv.Itoa(s.Dispatch)
	b := make([]byte, 0, lineBytes+len(s.Body))
	b = event.AppendHeader(b, event.HeaderType, runner.TypeStepReady)
	b = event.AppendHeader(b, event.HeaderSpecVersion, event.SpecVersion)
	b = event.AppendHeader(b, event.HeaderSource, orchestrator.Service)
	b = event.AppendHeader(b, event.HeaderID, s.Token)
	b = event.AppendHeader(b, event.HeaderSubject, s.ExecutionID)
	b = event.AppendHeader(b, runner.HeaderStepKey, s.StepKey)
	b = event.AppendHeader(b, runner.HeaderDispatch, dispatch)
	b = event.AppendHeader(b, runner.HeaderAttempt, strconv.Itoa(s.Attempt))
	b = event.AppendHeader(b, runner.HeaderTimeoutMs, strconv.FormatInt(s.TimeoutMs, 10))
	b = event.AppendHeader(b, runner.HeaderIdempotencyKey, s.IdempotencyKey)
	b = event.AppendHeader(b, runner.HeaderUserID, s.UserID)
	b = event.AppendHeader(b, runner.HeaderWorkflowID, s.WorkflowID)
	b = event.AppendHeader(b, runner.HeaderAgentID, s.AgentID)
	if len(s.Body) > 0 {
		b = event.AppendHeader(b, event.HeaderContentType, "application/json")
	}
	if s.Iteration > 0 {
		b = event.AppendHeader(b, runner.HeaderIteration, strconv.Itoa(s.Iteration))
	}
	if s.RequestID != "" {
		b = event.AppendHeader(b, event.HeaderRequestID, s.RequestID)
	}
	if s.Traceparent != "" {
		b = event.AppendHeader(b, event.HeaderTraceparent, s.Traceparent)
	}
	t.keepOpen(len(b) + len(s.Body))
	t.publisher.Publish(&nats.Msg{
		Subject: subject.Step(cmp.Or(s.Pool, subject.DefaultPool), s.AgentType, s.Priority),
		Header:  nats.Header{jetstream.MsgIDHeader: {s.Token + "." + dispatch}}, // the server reads it
		Data:    append(event.EndHeaders(b), s.Body...),
	}, done)
}

// keepOpen has STEPS keep its file while steps are sent. A queue that is empty has the server make a new file and delete the old one,
// before it takes or gives the next message: mostly at each step of an execution that runs alone. A file is full after some megabytes,
// so each is given a message that stays.
func (t *Transport) keepOpen(size int) {
	now, last := time.Now().UnixNano(), t.kept.Load()
	if t.sent.Add(int64(size)) < keepOpenBytes && now-last < int64(keepOpenEvery) || !t.kept.CompareAndSwap(last, now) {
		return
	}
	t.sent.Store(0)
	header := nats.Header{jetstream.MsgTTLHeader: {strconv.Itoa(int(keepOpenFor.Seconds()))}}
	t.publisher.Publish(&nats.Msg{Subject: subject.StepsOpen, Header: header}, func(uint64, error) {}) // without it all works as well
}

// typesOf are the CloudEvents types of what an orchestrator puts into the log.
var typesOf = map[engine.Kind]string{
	engine.Submitted: orchestrator.TypeSubmitted, engine.TimerDue: orchestrator.TypeTimerDue, engine.StepLost: orchestrator.TypeStepLost,
	engine.Cancel: orchestrator.TypeCancel, engine.Pause: orchestrator.TypePause, engine.Resume: orchestrator.TypeResume,
	engine.Signaled: orchestrator.TypeSignal, engine.Gathered: orchestrator.TypeStepGathered,
	engine.StepCompleted: runner.TypeStepCompleted, engine.StepFailed: runner.TypeStepFailed, // of children
}

// Append implements partition.Transport.
func (t *Transport) Append(c partition.Control, done func(err error)) {
	var err error
	kind, data := typesOf[c.Kind], c.Output
	switch {
	case c.Kind == engine.Signaled:
		data, err = json.Marshal(c.Signal)
	case c.Kind == engine.Gathered && c.Err != nil:
		kind = orchestrator.TypeStepGatherFailed
		data, err = json.Marshal(c.Err)
	case c.Err != nil:
		data, err = json.Marshal(c.Err)
	}
	if err != nil {
		done(err)
		return
	}
	b := make([]byte, 0, lineBytes+len(data))
	b = event.AppendHeader(b, event.HeaderType, kind)
	b = event.AppendHeader(b, event.HeaderSpecVersion, event.SpecVersion)
	b = event.AppendHeader(b, event.HeaderSource, orchestrator.Service)
	b = event.AppendHeader(b, event.HeaderID, cmp.Or(c.CommandID, c.Token, c.ExecutionID))
	b = event.AppendHeader(b, event.HeaderSubject, c.ExecutionID)
	if c.Step != "" {
		b = event.AppendHeader(b, runner.HeaderStepKey, c.Step)
	}
	if c.Iteration > 0 {
		b = event.AppendHeader(b, runner.HeaderIteration, strconv.Itoa(c.Iteration))
	}
	if c.Kind == engine.StepLost {
		b = event.AppendHeader(b, runner.HeaderDispatch, strconv.Itoa(c.Dispatch))
	}
	if len(data) > 0 {
		contentType := "application/json"
		if _, stored := runner.ReferenceOf(data); stored {
			contentType = runner.TypeReference
		}
		b = event.AppendHeader(b, event.HeaderContentType, contentType)
	}
	m := &nats.Msg{Subject: subject.ExecutionInputControl(c.P), Data: append(event.EndHeaders(b), data...)}
	t.publisher.Publish(m, func(_ uint64, err error) { done(err) })
}

// Resend implements deadletter.Log.
func (t *Transport) Resend(ctx context.Context, to string, headers map[string][]string, body []byte) error {
	_, err := t.js.PublishMsg(ctx, &nats.Msg{Subject: to, Header: headers, Data: body}, jetstream.WithExpectStream(subject.ExecutionInputStream))
	if err != nil {
		return errs.Wrap(err, errs.DependencyUnavailable, "the log of inputs does not take the dead letter; try again")
	}
	return nil
}

// Publish implements partition.Transport.
func (t *Transport) Publish(events []partition.EventRow, done func(err error)) {
	size, bodies := 1, make([][]byte, len(events))
	for i, e := range events {
		bodies[i], size = e.Body, size+len(e.Body)+1
	}
	m := &nats.Msg{
		Subject: subject.Events(events[0].P), Data: event.AppendBatch(make([]byte, 0, size), bodies...),
		Header: nats.Header{event.HeaderContentType: {event.BatchContentType}},
	}
	t.publisher.Publish(m, func(_ uint64, err error) { done(err) })
}

// TimeAt implements partition.Transport.
func (t *Transport) TimeAt(ctx context.Context, seq uint64) (int64, bool, error) {
	m, err := t.messageAt(ctx, subject.ExecutionInputStream, seq)
	if m == nil || err != nil {
		return 0, false, err
	}
	return m.Time.UnixNano(), true, nil
}

// LastInput implements partition.Transport.
func (t *Transport) LastInput(ctx context.Context, p int) (uint64, error) {
	stream, err := t.js.Stream(ctx, subject.ExecutionInputStream)
	if err != nil {
		return 0, err
	}
	m, err := stream.GetLastMsgForSubject(ctx, subject.ExecutionInputPartition(p))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return m.Sequence, nil
}

// StepAt implements partition.Transport.
func (t *Transport) StepAt(ctx context.Context, seq uint64) (token string, found bool, err error) {
	m, err := t.messageAt(ctx, subject.StepsStream, seq)
	if m == nil || err != nil {
		return "", false, err
	}
	headers, _ := event.HeaderMap(m.Header, m.Data)
	return nats.Header(headers).Get(event.HeaderID), true, nil
}

func (t *Transport) messageAt(ctx context.Context, name string, seq uint64) (*jetstream.RawStreamMsg, error) {
	if seq == 0 {
		return nil, nil
	}
	stream, err := t.js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := stream.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	return m, err
}

// Purge implements partition.Transport.
func (t *Transport) Purge(ctx context.Context, seq uint64) error {
	stream, err := t.js.Stream(ctx, subject.ExecutionInputStream)
	if err != nil {
		return err
	}
	return stream.Purge(ctx, jetstream.WithPurgeSequence(seq))
}

// StopAttempt implements partition.Transport.
func (t *Transport) StopAttempt(ctx context.Context, token string, seq uint64) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	t.mu.Lock()
	bucket := t.cancelled
	t.mu.Unlock()
	if bucket == nil {
		return errors.New("the bucket of cancelled attempts is not there yet")
	}
	if token != "" {
		if _, err := bucket.Put(ctx, token, nil); err != nil {
			return err
		}
	}
	if seq == 0 {
		return nil
	}
	// Only the message of this attempt: the sequence may be another's in a remade stream.
	found, ok, err := t.StepAt(ctx, seq)
	if err != nil || !ok || found != token {
		return err
	}
	stream, err := t.js.Stream(ctx, subject.StepsStream)
	if err != nil {
		return err
	}
	if err := stream.DeleteMsg(ctx, seq); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		if _, still, lerr := t.StepAt(ctx, seq); lerr != nil || still {
			return err
		}
	}
	return nil
}

// Warn implements partition.Transport.
func (t *Transport) Warn(x *engine.Execution, w engine.Warning) {
	line := telemetry.LogLine{
		ID: uuid.Must(uuid.NewV7()).String(), ExecutionID: x.ID, Attempt: w.Attempt, Level: "WARN", Source: "engine",
		Message: w.Message, Fields: json.RawMessage("{}"), CreatedAt: x.LastInput.Std(),
	}
	if w.Step >= 0 {
		line.StepKey = &x.Definition.Steps[w.Step].Key
		if w.Iteration > 0 {
			line.Iteration = &w.Iteration
		}
	}
	body, err := json.Marshal(telemetry.LogBatch{Lines: []telemetry.LogLine{line}})
	if err != nil {
		return // a log line always encodes
	}
	t.publisher.Publish(&nats.Msg{Subject: subject.Logs(x.Partition), Data: body}, func(_ uint64, err error) {
		if err != nil {
			ids := observe.IDs{RequestID: x.RequestID, TraceID: observe.TraceID(x.Traceparent), ExecutionID: x.ID}
			t.log.Warn().EmbedObject(ids).Err(err).Msg("a line of an execution's log is lost")
		}
	})
}
