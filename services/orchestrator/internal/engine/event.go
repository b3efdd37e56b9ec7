package engine

import (
	"strings"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
)

// Event is a state change of an execution that the world may know.
type Event struct {
	Type event.Type[orchestrator.ExecutionEvent]
	Time Time
	Data orchestrator.ExecutionEvent
}

// maxEventMessage bounds the error text that an event repeats; the whole stands in the execution.
const maxEventMessage = 1024

func eventError(e *runner.StepError) *orchestrator.EventError {
	if e == nil {
		return nil
	}
	message := e.Message
	if len(message) > maxEventMessage {
		message = strings.ToValidUTF8(message[:maxEventMessage], "") + "…" // no half of a character
	}
	return &orchestrator.EventError{Code: e.Code, Message: message}
}

// Encode gives the bytes of an event as it is stored and published. n is its number in the partition.
func (x *Execution) Encode(e Event, keys Keys, n uint64) ([]byte, error) {
	return e.Type.Encode(event.Meta{
		ID: keys.EventID(x.ID, e.Data.Seq, e.Time), Source: orchestrator.Service, Subject: x.ID, Time: e.Time.Std(),
		RequestID: x.RequestID, Traceparent: x.Traceparent, Partition: x.Partition, Number: n,
	}, e.Data)
}
