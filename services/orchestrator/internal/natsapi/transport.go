package natsapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/observe"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
)

const (
	// publishTimeout is how long a PubAck may take before the message counts as not taken.
	publishTimeout = 5 * time.Second
	maxPending     = 32 << 10
)

// Transport implements partition.Transport. It is safe for concurrent use.
type Transport struct {
	js     jetstream.JetStream // for everything that waits for its answer
	async  jetstream.JetStream // for publishes whose answer comes later
	limits Limits
	log    zerolog.Logger

	awaited sync.Map // *nats.Msg -> func(seq uint64, err error)

	mu        sync.Mutex
	created   map[string]time.Time
	cancelled jetstream.KeyValue
}

// NewTransport makes a transport over a connection.
func NewTransport(nc *nats.Conn, limits Limits, log zerolog.Logger) (*Transport, error) {
	t := &Transport{limits: limits, log: log, created: map[string]time.Time{}}
	var err error
	if t.js, err = jetstream.New(nc); err != nil {
		return nil, err
	}
	t.async, err = jetstream.New(nc,
		jetstream.WithPublishAsyncMaxPending(maxPending),
		jetstream.WithPublishAsyncTimeout(publishTimeout),
		jetstream.WithPublishAsyncAckHandler(func(_ jetstream.JetStream, m *nats.Msg, ack *jetstream.PubAck) { t.settle(m, ack.Sequence, nil) }),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, m *nats.Msg, err error) { t.settle(m, 0, err) }))
	return t, err
}

// publish sends m; done is called once, with its sequence or why there is none.
func (t *Transport) publish(m *nats.Msg, done func(seq uint64, err error)) {
	t.awaited.Store(m, done)
	if _, err := t.async.PublishMsgAsync(m, jetstream.WithStallWait(publishTimeout)); err != nil {
		t.settle(m, 0, err)
	}
}

func (t *Transport) settle(m *nats.Msg, seq uint64, err error) {
	if done, ok := t.awaited.LoadAndDelete(m); ok {
		done.(func(uint64, error))(seq, err)
	}
}

// Send implements partition.Transport.
func (t *Transport) Send(s partition.StepMessage, done func(seq uint64, err error)) {
	dispatch := strconv.Itoa(s.Dispatch)
	h := nats.Header{
		event.HeaderSpecVersion:     {event.SpecVersion},
		event.HeaderType:            {runner.TypeStepReady},
		event.HeaderSource:          {orchestrator.Service},
		event.HeaderID:              {s.Token},
		event.HeaderSubject:         {s.ExecutionID},
		event.HeaderContentType:     {"application/json"},
		runner.HeaderStepKey:        {s.StepKey},
		runner.HeaderDispatch:       {dispatch},
		runner.HeaderAttempt:        {strconv.Itoa(s.Attempt)},
		runner.HeaderTimeoutMs:      {strconv.FormatInt(s.TimeoutMs, 10)},
		runner.HeaderIdempotencyKey: {s.IdempotencyKey},
		runner.HeaderUserID:         {s.UserID},
		runner.HeaderWorkflowID:     {s.WorkflowID},
		runner.HeaderAgentID:        {s.AgentID},
		jetstream.MsgIDHeader:       {s.Token + "." + dispatch},
	}
	if s.Iteration > 0 {
		h[runner.HeaderIteration] = []string{strconv.Itoa(s.Iteration)}
	}
	if s.RequestID != "" {
		h[event.HeaderRequestID] = []string{s.RequestID}
	}
	if s.Traceparent != "" {
		h[event.HeaderTraceparent] = []string{s.Traceparent}
	}
	t.publish(&nats.Msg{Subject: subject.Step(subject.DefaultPool, s.AgentType, s.Priority), Header: h, Data: s.Body}, done)
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
	m := &nats.Msg{Subject: subject.ExecutionInputControl(c.P), Header: nats.Header{
		event.HeaderSpecVersion: {event.SpecVersion},
		event.HeaderSource:      {orchestrator.Service},
		event.HeaderSubject:     {c.ExecutionID},
		event.HeaderType:        {typesOf[c.Kind]},
		event.HeaderID:          {cmp.Or(c.CommandID, c.Token, c.ExecutionID)},
	}}
	var err error
	if c.Step != "" {
		m.Header[runner.HeaderStepKey] = []string{c.Step}
	}
	if c.Iteration > 0 {
		m.Header[runner.HeaderIteration] = []string{strconv.Itoa(c.Iteration)}
	}
	m.Data = c.Output
	switch {
	case c.Kind == engine.StepLost:
		m.Header[runner.HeaderDispatch] = []string{strconv.Itoa(c.Dispatch)}
	case c.Kind == engine.Signaled:
		m.Data, err = json.Marshal(c.Signal)
	case c.Kind == engine.Gathered && c.Err != nil:
		m.Header[event.HeaderType] = []string{orchestrator.TypeStepGatherFailed}
		m.Data, err = json.Marshal(c.Err)
	case c.Err != nil:
		m.Data, err = json.Marshal(c.Err)
	}
	if err != nil {
		done(err)
		return
	}
	if len(m.Data) > 0 {
		m.Header[event.HeaderContentType] = []string{"application/json"}
	}
	t.publish(m, func(_ uint64, err error) { done(err) })
}

// Publish implements partition.Transport.
func (t *Transport) Publish(e partition.EventRow, done func(err error)) {
	m := &nats.Msg{
		Subject: subject.Event(e.P, event.Path(e.Type)), Data: e.Body,
		Header: nats.Header{event.HeaderContentType: {event.ContentType}, event.HeaderSubject: {e.ExecutionID}},
	}
	t.publish(m, func(_ uint64, err error) { done(err) })
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
	return m.Header.Get(event.HeaderID), true, nil
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
	t.publish(&nats.Msg{Subject: subject.Logs(x.Partition), Data: body}, func(_ uint64, err error) {
		if err != nil {
			ids := observe.IDs{RequestID: x.RequestID, TraceID: observe.TraceID(x.Traceparent), ExecutionID: x.ID}
			t.log.Warn().EmbedObject(ids).Err(err).Msg("a line of an execution's log is lost")
		}
	})
}
