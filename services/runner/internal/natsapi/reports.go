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

	// reportHeaders is how many bytes the headers of a report take, mostly.
	reportHeaders = 512

	pubAckTimeout = 5 * time.Second
	retryWait     = 100 * time.Millisecond
	retryWaitMax  = 2 * time.Second
)

// Reports publishes what runners say about attempts, again and again until it is stored.
// It is safe for concurrent use.
type Reports struct {
	nc        *nats.Conn
	publisher *bus.Publisher
	log       zerolog.Logger
	room      *semaphore.Weighted

	mu      sync.Mutex
	sent    int // on their way
	failed  []*dispatch
	retry   chan struct{}
	emptied chan struct{} // closed when nothing is on its way; nil when nobody waits for it
}

// dispatch is one report on its way.
type dispatch struct {
	report work.Report
	weight int64
	stored func()
}

// NewReports makes a publisher; Run must run for reports that fail at first.
func NewReports(conn *bus.Conn, log zerolog.Logger) (*Reports, error) {
	publisher, err := bus.NewPublisher(conn.NATS(), pubAckTimeout)
	if err != nil {
		return nil, err
	}
	return &Reports{nc: conn.NATS(), publisher: publisher, log: log, room: semaphore.NewWeighted(maxUnstored), retry: make(chan struct{}, 1)}, nil
}

// Unstored gives how many reports are on their way.
func (r *Reports) Unstored() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return float64(r.sent)
}

// Report publishes a report; stored, if any, is called once the server has it. A result waits
// while too much is on its way, and is dropped when ctx ends before that; step.started never waits.
func (r *Reports) Report(ctx context.Context, report work.Report, stored func()) {
	d := &dispatch{report: report, stored: stored}
	if report.Type != runner.TypeStepStarted {
		d.weight = max(int64(len(report.Body)), minWeight)
		if r.room.Acquire(ctx, d.weight) != nil {
			return
		}
	}
	r.mu.Lock()
	r.sent++
	r.mu.Unlock()
	r.publish(d)
}

// Run sends what failed again, with growing pauses, until ctx ends.
func (r *Reports) Run(ctx context.Context) {
	defer r.publisher.Close()
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
	if r.sent == 0 {
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
		r.refused(d, nats.ErrDisconnected)
		return
	}
	r.publisher.Publish(message(d.report), func(_ uint64, err error) {
		if err != nil {
			r.refused(d, err)
		} else {
			r.stored(d)
		}
	})
}

// stored lets go of a report that the server has.
func (r *Reports) stored(d *dispatch) {
	r.mu.Lock()
	r.sent--
	if r.sent == 0 && r.emptied != nil {
		close(r.emptied)
		r.emptied = nil
	}
	r.mu.Unlock()
	if d.weight > 0 {
		r.room.Release(d.weight)
	}
	if d.stored != nil {
		d.stored()
	}
}

// refused notes a report for another try.
func (r *Reports) refused(d *dispatch, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if errors.Is(err, nats.ErrMaxPayload) && d.report.Type == runner.TypeStepCompleted {
		// It would fail for ever, so the step fails instead.
		d.report.Type, d.report.Body = runner.TypeStepFailed, tooLarge(len(d.report.Body))
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

// message makes the CloudEvent of a report.
func message(report work.Report) *nats.Msg {
	step := report.Step
	b := make([]byte, 0, reportHeaders+len(report.Body))
	b = event.AppendHeader(b, event.HeaderType, report.Type)
	b = event.AppendHeader(b, event.HeaderSpecVersion, event.SpecVersion)
	b = event.AppendHeader(b, event.HeaderSource, runner.Service)
	b = event.AppendHeader(b, event.HeaderID, step.Token)
	b = event.AppendHeader(b, event.HeaderSubject, step.ExecutionID)
	b = event.AppendHeader(b, runner.HeaderStepKey, step.StepKey)
	b = event.AppendHeader(b, runner.HeaderDispatch, step.Dispatch)
	if step.Iteration > 0 {
		b = event.AppendHeader(b, runner.HeaderIteration, strconv.Itoa(step.Iteration))
	}
	if report.Type != runner.TypeStepStarted {
		b = event.AppendHeader(b, runner.HeaderDurationMs, strconv.FormatInt(report.Duration.Milliseconds(), 10))
		contentType := "application/json"
		if _, stored := runner.ReferenceOf(report.Body); stored {
			contentType = runner.TypeReference
		}
		b = event.AppendHeader(b, event.HeaderContentType, contentType)
	}
	if step.RequestID != "" {
		b = event.AppendHeader(b, event.HeaderRequestID, step.RequestID)
	}
	if step.Traceparent != "" {
		b = event.AppendHeader(b, event.HeaderTraceparent, step.Traceparent)
	}
	return &nats.Msg{
		Subject: subject.ExecutionInputRun(subject.PartitionOf(step.ExecutionID)),
		Data:    append(event.EndHeaders(b), report.Body...),
	}
}
