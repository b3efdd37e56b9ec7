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

// readStep reads a ready step. What it can not be run without is its Fault;
// the error says that it can not even be answered.
func readStep(own nats.Header, body []byte) (*work.Step, error) {
	headers, data := event.Headers(own, body)
	step := &work.Step{Body: data}
	var kind, iteration, attempt, timeout string
	for name, value := range headers {
		switch name {
		case event.HeaderType:
			kind = value
		case event.HeaderID:
			step.Token = value
		case event.HeaderSubject:
			step.ExecutionID = value
		case event.HeaderRequestID:
			step.RequestID = value
		case event.HeaderTraceparent:
			step.Traceparent = value
		case runner.HeaderStepKey:
			step.StepKey = value
		case runner.HeaderDispatch:
			step.Dispatch = value
		case runner.HeaderIdempotencyKey:
			step.IdempotencyKey = value
		case runner.HeaderUserID:
			step.UserID = value
		case runner.HeaderWorkflowID:
			step.WorkflowID = value
		case runner.HeaderAgentID:
			step.AgentID = value
		case runner.HeaderIteration:
			iteration = value
		case runner.HeaderAttempt:
			attempt = value
		case runner.HeaderTimeoutMs:
			timeout = value
		}
	}
	if step.Token == "" || step.ExecutionID == "" || step.StepKey == "" {
		return nil, fmt.Errorf("a ready step without %s, %s or %s", event.HeaderID, event.HeaderSubject, runner.HeaderStepKey)
	}
	var faults []string
	if kind != runner.TypeStepReady {
		faults = append(faults, fmt.Sprintf("%s is %q, not %q", event.HeaderType, kind, runner.TypeStepReady))
	}
	number := func(name, value string, most int64) int64 {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 1 || n > most {
			faults = append(faults, fmt.Sprintf("%s is %q, not a number from 1 to %d", name, value, most))
		}
		return n
	}
	number(runner.HeaderDispatch, step.Dispatch, math.MaxInt64)
	if iteration != "" {
		step.Iteration = int(number(runner.HeaderIteration, iteration, math.MaxInt32))
	}
	step.Attempt = int(number(runner.HeaderAttempt, attempt, math.MaxInt32))
	step.Timeout = time.Duration(number(runner.HeaderTimeoutMs, timeout, maxTimeoutMs)) * time.Millisecond
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
