package contracts

import (
	"encoding/json"
	"reflect"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/contracts/telemetry"
)

// decimal is the pattern of a number in a header.
const decimal = "^[0-9]+$"

// Messages gives every internal message: what orchestrators and runners tell each other, logs, and
// probes.
func Messages() []Message {
	return []Message{
		{
			Name: runner.TypeStepReady, Doc: "an attempt of a step waits for a runner; runners share the work and ack once the result is stored",
			Senders: []string{orchestrator.Service}, Receivers: []string{runner.Service},
			Subject: "step.{pool}.{agentType}.{priority}", Stream: subject.StepsStream, Mode: Binary,
			Headers: cloudEvent(runner.TypeStepReady, orchestrator.Service, "token of the attempt",
				jsonBody, stepKey, iteration, dispatch, attempt,
				Field{Name: runner.HeaderTimeoutMs, Doc: "how long the attempt may take", Pattern: decimal},
				Field{Name: runner.HeaderIdempotencyKey, Doc: "the same over all attempts of the step, or of the item"},
				Field{Name: runner.HeaderUserID, Doc: "who started the execution", Format: "uuid"},
				Field{Name: runner.HeaderWorkflowID, Doc: "the workflow", Format: "uuid"},
				Field{Name: runner.HeaderAgentID, Doc: "the agent", Format: "uuid"},
				Field{Name: "Nats-Msg-Id", Doc: "token and dispatch with a point between, by which the stream drops a second copy"},
				requestID, traceparent),
			Data: reflect.TypeFor[runner.StepBody](),
		},
		report(runner.TypeStepStarted, "an attempt has worked for 200 ms, or was delivered once more", nil),
		report(runner.TypeStepCompleted, "an attempt succeeded; the body is its output. Orchestrators say so of the execution that a WORKFLOW agent's attempt was, on exec.in.{p}.ctl", reflect.TypeFor[json.RawMessage](), durationMs, jsonBody),
		report(runner.TypeStepFailed, "an attempt failed; the body says why. Orchestrators say so likewise", reflect.TypeFor[runner.StepError](), durationMs, jsonBody),

		control(orchestrator.TypeSubmitted, "an execution is committed and may begin", "the execution"),
		control(orchestrator.TypeCancel, "an execution is to be cancelled", "the command"),
		control(orchestrator.TypeTimerDue, "the next timer of an execution has run out", "the execution"),
		control(orchestrator.TypeStepLost, "a sent step has neither a message in STEPS nor a result", "token of the attempt", stepKey, iteration, dispatch),
		control(orchestrator.TypePause, "no more steps of an execution are to start", "the command"),
		control(orchestrator.TypeResume, "a paused execution is to go on", "the command"),
		carrying(control(orchestrator.TypeSignal, "somebody tells an execution what it waits for, or is going to", "the command", jsonBody), reflect.TypeFor[orchestrator.Signal]()),
		carrying(control(orchestrator.TypeStepGathered, "the results of a step's items are put together; the body is its output", "the execution", stepKey, jsonBody), reflect.TypeFor[json.RawMessage]()),
		carrying(control(orchestrator.TypeStepGatherFailed, "the results of a step's items can not be put together; the body says why", "the execution", stepKey, jsonBody), reflect.TypeFor[runner.StepError]()),

		{
			Name: "runner.heartbeat.v1", Doc: "a runner is alive, and says what it can run; every 2 s, at once when that changes, and when it stops",
			Senders: []string{runner.Service}, Receivers: []string{orchestrator.Service},
			Subject: subject.RunnerHeartbeat, Mode: Plain, Data: reflect.TypeFor[runner.Heartbeat](),
		},
		{
			Name: "feed.news.v1", Doc: "feeds of users have new events; whoever misses it looks again by itself",
			Senders: []string{telemetry.Service}, Receivers: []string{gateway, orchestrator.Service},
			Subject: subject.FeedNews, Mode: Plain, Data: reflect.TypeFor[telemetry.FeedNews](),
		},
		{
			Name: "logs.news.v1", Doc: "executions have new log lines; whoever misses it looks again by itself",
			Senders: []string{telemetry.Service}, Receivers: []string{gateway},
			Subject: subject.LogNews, Mode: Plain, Data: reflect.TypeFor[telemetry.LogNews](),
		},
		{
			Name: "log.batch.v1", Doc: "log lines of executions of one partition, in order",
			Senders: []string{runner.Service, orchestrator.Service}, Receivers: []string{telemetry.Service},
			Subject: "log.{p}", Stream: subject.LogsStream, Mode: Plain, Data: reflect.TypeFor[telemetry.LogBatch](),
		},
		{
			Name: "token.batch.v1", Doc: "what models write in executions of one partition, as they write it; of a call in order, and some may be missing",
			Senders: []string{runner.Service}, Receivers: []string{gateway},
			Subject: "tok.{p}", Stream: subject.TokensStream, Mode: Plain, Data: reflect.TypeFor[runner.TokenBatch](),
		},
		{
			Name: "step.open.v1", Doc: "nothing; it stands in STEPS for some seconds, so that the queue is not empty while steps come and go",
			Senders: []string{orchestrator.Service},
			Subject: subject.StepsOpen, Stream: subject.StepsStream, Mode: Plain,
		},
		{
			Name: audit.TypeRecorded, Doc: "something was changed, or a security event happened; sent again until identity has it committed",
			Senders: recorders, Receivers: []string{identity.Service},
			Subject: "audit.{service}", Stream: subject.AuditStream, Mode: Binary,
			Headers: []Field{
				{Name: event.HeaderSpecVersion, Doc: "version of CloudEvents", Value: event.SpecVersion},
				{Name: event.HeaderType, Doc: "what it says", Value: audit.TypeRecorded},
				{Name: event.HeaderSource, Doc: "the service that recorded it"},
				{Name: event.HeaderID, Doc: "the entry", Format: "uuid"},
				{Name: event.HeaderSubject, Doc: "what it was done to: type/id"},
				jsonBody,
				{Name: event.HeaderRequestID, Doc: "the request that did it", Optional: true},
				{Name: "Nats-Msg-Id", Doc: "the entry, by which the stream drops a second copy"},
			},
			Data: reflect.TypeFor[audit.TrailEntry](),
		},
		{
			Name: "probe.v1", Doc: "a service tries whether JetStream stores messages; of each service the last one stays",
			Senders: []string{orchestrator.Service, runner.Service, telemetry.Service},
			Subject: "probe.{service}", Stream: subject.ProbeStream, Mode: Plain,
		},
	}
}

// recorders are the services that change something.
var recorders = []string{identity.Service, catalog.Service, orchestrator.Service}

var (
	jsonBody    = Field{Name: event.HeaderContentType, Doc: "of the body", Value: "application/json"}
	stepKey     = Field{Name: runner.HeaderStepKey, Doc: "the step"}
	iteration   = Field{Name: runner.HeaderIteration, Doc: "the item of a LOOP, or branch of a PARALLEL, from 1; absent for the step itself", Pattern: decimal, Optional: true}
	dispatch    = Field{Name: runner.HeaderDispatch, Doc: "how often the token was sent to runners, from 1", Pattern: decimal}
	attempt     = Field{Name: runner.HeaderAttempt, Doc: "number of the attempt, from 1", Pattern: decimal}
	durationMs  = Field{Name: runner.HeaderDurationMs, Doc: "how long the attempt took", Pattern: decimal}
	requestID   = Field{Name: event.HeaderRequestID, Doc: "the request that began the execution", Optional: true}
	traceparent = Field{Name: event.HeaderTraceparent, Doc: "W3C trace context of that request", Optional: true}
)

// report is what a runner says about an attempt.
func report(name, doc string, data reflect.Type, more ...Field) Message {
	more = append([]Field{stepKey, iteration, dispatch}, append(more, requestID, traceparent)...)
	return Message{
		Name: name, Doc: doc, Senders: []string{runner.Service}, Receivers: []string{orchestrator.Service},
		Subject: "exec.in.{p}.run", Stream: subject.ExecutionInputStream, Mode: Binary,
		Headers: cloudEvent(name, runner.Service, "token of the attempt", more...), Data: data,
	}
}

// control is what orchestrators put into the input log themselves.
func control(name, doc, id string, more ...Field) Message {
	return Message{
		Name: name, Doc: doc, Senders: []string{orchestrator.Service}, Receivers: []string{orchestrator.Service},
		Subject: "exec.in.{p}.ctl", Stream: subject.ExecutionInputStream, Mode: Binary,
		Headers: cloudEvent(name, orchestrator.Service, id, more...),
	}
}

// carrying gives a message with a body.
func carrying(m Message, data reflect.Type) Message {
	m.Data = data
	return m
}

// cloudEvent gives the headers of a CloudEvent in binary mode. id says what ce-id names.
func cloudEvent(name, source, id string, more ...Field) []Field {
	return append([]Field{
		{Name: event.HeaderSpecVersion, Doc: "version of CloudEvents", Value: event.SpecVersion},
		{Name: event.HeaderType, Doc: "what it says", Value: name},
		{Name: event.HeaderSource, Doc: "who says it", Value: source},
		{Name: event.HeaderID, Doc: id},
		{Name: event.HeaderSubject, Doc: "the execution", Format: "uuid"},
	}, more...)
}
