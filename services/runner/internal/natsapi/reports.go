package natsapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/runner/internal/work"
)

const (
	// maxUnstored bounds the bytes of results on their way, and with minWeight their number.
	maxUnstored = 64 << 20
	minWeight   = 8 << 10

	pubAckTimeout = 5 * time.Second
	retryWait     = 100 * time.Millisecond
	retryWaitMax  = 2 * time.Second
)

// Reports publishes what runners say about attempts, again and again until it is stored.
// It is safe for concurrent use.
type Reports struct {
	nc   *nats.Conn
	js   jetstream.JetStream
	log  zerolog.Logger
	room *semaphore.Weighted

	mu      sync.Mutex
	sent    map[*nats.Msg]*dispatch
	failed  []*dispatch
	retry   chan struct{}
	emptied chan struct{} // closed when nothing is on its way; nil when nobody waits for it
}

// dispatch is one report on its way.
type dispatch struct {
	msg    *nats.Msg
	weight int64
	stored func()
}

// NewReports makes a publisher; Run must run for reports that fail at first.
func NewReports(conn *bus.Conn, log zerolog.Logger) (*Reports, error) {
	r := &Reports{
		nc: conn.NATS(), log: log, room: semaphore.NewWeighted(maxUnstored),
		sent: map[*nats.Msg]*dispatch{}, retry: make(chan struct{}, 1),
	}
	js, err := jetstream.New(conn.NATS(),
		jetstream.WithPublishAsyncMaxPending(4*maxUnstored/minWeight), // never reached: room is less
		jetstream.WithPublishAsyncTimeout(pubAckTimeout),
		jetstream.WithPublishAsyncAckHandler(func(_ jetstream.JetStream, m *nats.Msg, _ *jetstream.PubAck) { r.stored(m) }),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, m *nats.Msg, err error) { r.refused(m, err) }),
	)
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	r.js = js
	return r, nil
}

// Report publishes a report; stored, if any, is called once the server has it. A result waits
// while too much is on its way, and is dropped when ctx ends before that; step.started never waits.
func (r *Reports) Report(ctx context.Context, report work.Report, stored func()) {
	d := &dispatch{msg: message(report), stored: stored}
	if report.Type != runner.TypeStepStarted {
		d.weight = max(int64(len(report.Body)), minWeight)
		if r.room.Acquire(ctx, d.weight) != nil {
			return
		}
	}
	r.mu.Lock()
	r.sent[d.msg] = d
	r.mu.Unlock()
	r.publish(d)
}

// Run sends what failed again, with growing pauses, until ctx ends.
func (r *Reports) Run(ctx context.Context) {
	defer r.js.CleanupPublisher()
	wait, last := retryWait, time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.retry:
		}
		if time.Since(last) > 2*retryWaitMax {
			wait = retryWait
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait, last = min(2*wait, retryWaitMax), time.Now()
		r.mu.Lock()
		again := r.failed
		r.failed = nil
		r.mu.Unlock()
		for _, d := range again {
			r.publish(d)
		}
	}
}

// Settle waits until nothing is on its way or ctx ends.
func (r *Reports) Settle(ctx context.Context) {
	r.mu.Lock()
	if len(r.sent) == 0 {
		r.mu.Unlock()
		return
	}
	emptied := make(chan struct{})
	r.emptied = emptied
	r.mu.Unlock()
	select {
	case <-emptied:
	case <-ctx.Done():
	}
}

func (r *Reports) publish(d *dispatch) {
	// The client would keep it for the next connection, and every retry with it.
	if !r.nc.IsConnected() {
		r.refused(d.msg, nats.ErrDisconnected)
		return
	}
	if _, err := r.js.PublishMsgAsync(d.msg); err != nil {
		r.refused(d.msg, err)
	}
}

// stored lets go of a report that the server has.
func (r *Reports) stored(m *nats.Msg) {
	r.mu.Lock()
	d := r.sent[m]
	delete(r.sent, m)
	if len(r.sent) == 0 && r.emptied != nil {
		close(r.emptied)
		r.emptied = nil
	}
	r.mu.Unlock()
	if d == nil {
		return
	}
	if d.weight > 0 {
		r.room.Release(d.weight)
	}
	if d.stored != nil {
		d.stored()
	}
}

// refused notes a report for another try. It may be called while the publisher is locked, so
// it publishes nothing itself.
func (r *Reports) refused(m *nats.Msg, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.sent[m]
	if d == nil {
		return
	}
	if errors.Is(err, nats.ErrMaxPayload) && m.Header.Get(event.HeaderType) == runner.TypeStepCompleted {
		// It would fail for ever, so the step fails instead.
		m.Header.Set(event.HeaderType, runner.TypeStepFailed)
		m.Data = tooLarge(len(m.Data))
	}
	if len(r.failed) == 0 {
		r.log.Warn().Err(err).Msg("report not stored; trying again")
	}
	r.failed = append(r.failed, d)
	select {
	case r.retry <- struct{}{}:
	default:
	}
}

func tooLarge(size int) []byte {
	body, err := json.Marshal(runner.StepError{
		Code: runner.CodeOutputLimit, Message: fmt.Sprintf("the output has %d bytes, more than the NATS server takes; return less", size),
	})
	if err != nil {
		return []byte("null") // strings always encode
	}
	return body
}

// message makes the CloudEvent of a report. Header values share one array, for there are
// thousands of reports a second.
func message(report work.Report) *nats.Msg {
	step := report.Step
	values := make([]string, 0, 12)
	header := make(nats.Header, 12)
	set := func(name, value string) {
		values = append(values, value)
		header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	set(event.HeaderSpecVersion, event.SpecVersion)
	set(event.HeaderType, report.Type)
	set(event.HeaderSource, runner.Service)
	set(event.HeaderID, step.Token)
	set(event.HeaderSubject, step.ExecutionID)
	set(runner.HeaderStepKey, step.StepKey)
	set(runner.HeaderDispatch, step.Dispatch)
	if step.Iteration > 0 {
		set(runner.HeaderIteration, strconv.Itoa(step.Iteration))
	}
	if report.Type != runner.TypeStepStarted {
		set(runner.HeaderDurationMs, strconv.FormatInt(report.Duration.Milliseconds(), 10))
		set(event.HeaderContentType, "application/json")
	}
	if step.RequestID != "" {
		set(event.HeaderRequestID, step.RequestID)
	}
	if step.Traceparent != "" {
		set(event.HeaderTraceparent, step.Traceparent)
	}
	return &nats.Msg{
		Subject: subject.ExecutionInputRun(subject.PartitionOf(step.ExecutionID)),
		Header:  header, Data: report.Body,
	}
}
