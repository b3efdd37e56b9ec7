// Package natsapi is the runner's only way to the world: ready steps in by pulling, reports
// and log lines out, and the bucket of cancelled attempts watched.
package natsapi

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/runner/internal/work"
)

const maxTimeoutMs = math.MaxInt64 / int64(time.Millisecond)

// readStep reads the headers of a ready step. What it can not be run without is its Fault;
// the error says that it can not even be answered.
func readStep(header nats.Header, body []byte) (*work.Step, error) {
	step := &work.Step{
		Token:          header.Get(event.HeaderID),
		ExecutionID:    header.Get(event.HeaderSubject),
		StepKey:        header.Get(runner.HeaderStepKey),
		Dispatch:       header.Get(runner.HeaderDispatch),
		IdempotencyKey: header.Get(runner.HeaderIdempotencyKey),
		UserID:         header.Get(runner.HeaderUserID),
		WorkflowID:     header.Get(runner.HeaderWorkflowID),
		RequestID:      header.Get(event.HeaderRequestID),
		Traceparent:    header.Get(event.HeaderTraceparent),
		Body:           body,
	}
	if step.Token == "" || step.ExecutionID == "" || step.StepKey == "" {
		return nil, fmt.Errorf("a ready step without %s, %s or %s", event.HeaderID, event.HeaderSubject, runner.HeaderStepKey)
	}
	var faults []string
	if t := header.Get(event.HeaderType); t != runner.TypeStepReady {
		faults = append(faults, fmt.Sprintf("%s is %q, not %q", event.HeaderType, t, runner.TypeStepReady))
	}
	number := func(name string, most int64) int64 {
		n, err := strconv.ParseInt(header.Get(name), 10, 64)
		if err != nil || n < 1 || n > most {
			faults = append(faults, fmt.Sprintf("%s is %q, not a number from 1 to %d", name, header.Get(name), most))
		}
		return n
	}
	number(runner.HeaderDispatch, math.MaxInt64)
	if header.Get(runner.HeaderIteration) != "" {
		step.Iteration = int(number(runner.HeaderIteration, math.MaxInt32))
	}
	step.Attempt = int(number(runner.HeaderAttempt, math.MaxInt32))
	step.Timeout = time.Duration(number(runner.HeaderTimeoutMs, maxTimeoutMs)) * time.Millisecond
	if faults != nil {
		step.Fault = &runner.StepError{Code: runner.CodeInternal, Message: "the ready step is malformed: " + strings.Join(faults, "; ")}
	}
	return step, nil
}

var (
	ackDone     = []byte("+ACK")
	ackNak      = []byte("-NAK")
	ackProgress = []byte("+WPI")
	ackTerm     = []byte("+TERM")
)

// lease is the hold on one delivered message. It keeps the reply subject alone, so that the
// message's body can go.
type lease struct {
	nc    *nats.Conn
	reply string
	free  func()
}

func (l *lease) Extend() bool {
	return l.nc.IsConnected() && l.nc.Publish(l.reply, ackProgress) == nil
}

// An ack that is lost means a redelivery, which work.Attempts knows how to take.

func (l *lease) Ack() { _ = l.nc.Publish(l.reply, ackDone) }

func (l *lease) Nak() { _ = l.nc.Publish(l.reply, ackNak) }

func (l *lease) Free() { l.free() }
