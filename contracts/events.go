package contracts

import (
	"embed"
	"encoding/json"
	"slices"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/subject"
	"turbocat.io/contracts/telemetry"
)

// Events gives every public event.
func Events() []Message {
	return []Message{
		public(orchestrator.EventCreated, "an execution was accepted; always its first event"),
		public(orchestrator.EventStarted, "an execution began to run"),
		public(orchestrator.EventPaused, "an execution was paused: what runs goes on, and nothing more starts until it is resumed"),
		public(orchestrator.EventResumed, "an execution goes on; status is PENDING when it had not begun"),
		public(orchestrator.EventCompleted, "an execution ended: all steps are done and none failed it; its last event"),
		public(orchestrator.EventFailed, "an execution ended with an error; its last event"),
		public(orchestrator.EventCancelled, "an execution ended because it was cancelled; its last event"),
		public(orchestrator.EventTimedOut, "an execution ended because it ran longer than its workflow's timeoutMs; its last event"),
		public(orchestrator.EventStepStarted, "a step began, or another attempt of it: for a runner, or by the engine itself"),
		public(orchestrator.EventStepWaitStarted, "a WAIT waits, until that time at the latest, for the signal if it names one"),
		public(orchestrator.EventStepRetryScheduled, "an attempt failed and another will begin at until; of one item of the step when iteration is set"),
		public(orchestrator.EventStepCompleted, "a step ended with an output"),
		public(orchestrator.EventStepFailed, "a step ended with an error and is not tried again"),
		public(orchestrator.EventStepSkipped, "a step ended without an attempt: its trigger rule, or the execution's failure, kept it from running"),
		public(orchestrator.EventStepCancelled, "a step ended because its execution was cancelled, failed or timed out"),
	}
}

//go:embed schema/event
var eventSchemas embed.FS

// EventSchema gives the JSON Schema of a public event, by its type; nil for what is none.
func EventSchema(name string) json.RawMessage {
	raw, err := eventSchemas.ReadFile("schema/event/" + name + ".json")
	if err != nil {
		return nil
	}
	return raw
}

// EventAttributes gives what a public event has beside its data, in the order of the encoder.
func EventAttributes() []Field {
	return []Field{
		{Name: "specversion", Doc: "version of CloudEvents", Value: event.SpecVersion},
		{Name: "id", Doc: "UUIDv7 of the event; the same however often it is delivered", Format: "uuid"},
		{Name: "source", Doc: "the service that tells it", Value: orchestrator.Service},
		{Name: "type", Doc: "what happened"},
		{Name: "subject", Doc: "the execution", Format: "uuid"},
		{Name: "time", Doc: "when the input that caused it entered the log", Format: "date-time"},
		{Name: "datacontenttype", Doc: "of data", Value: "application/json"},
		{Name: "requestid", Doc: "the request that began the execution", Optional: true},
		{Name: "traceparent", Doc: "W3C trace context of that request", Optional: true},
		{Name: "p", Doc: "partition of the execution", Integer: true},
		{Name: "n", Doc: "gapless number in the partition, decimal in a string for it may outgrow 32 bits", Pattern: decimal},
	}
}

func public[T any](t event.Type[T], doc string) Message {
	d := t.Describe()
	return Message{
		Name: d.Type, Doc: doc, Senders: []string{orchestrator.Service}, Receivers: []string{gateway, telemetry.Service},
		Subject: "evt.{p}", Stream: subject.EventsStream, Mode: Batched, Data: d.Data,
		Headers: []Field{
			{Name: event.HeaderContentType, Doc: "says that the body is an array of whole events", Value: event.BatchContentType},
		},
	}
}

// CanHappen tells whether there can be events of a type or, when it ends in *, of types that begin so. Which types come from outside nobody knows.
func CanHappen(wanted string) bool {
	return !event.Ours(wanted) || slices.ContainsFunc(Events(), func(m Message) bool { return event.Matches(wanted, m.Name) })
}
