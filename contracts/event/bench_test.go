package event_test

import (
	"testing"
	"time"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
)

// BenchmarkEncode encodes the event that a step has ended.
func BenchmarkEncode(b *testing.B) {
	took := int64(12)
	meta := event.Meta{
		ID: "0193b7f0-0000-7000-8000-000000000001", Source: orchestrator.Service, Subject: "0193b7f0-0000-7000-8000-000000000002", Time: time.Unix(1_700_000_000, 123_456_000),
		RequestID: "0193b7f0-0000-7000-8000-000000000003", Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Partition: 7, Number: 123_456,
	}
	data := orchestrator.ExecutionEvent{
		ExecutionID: meta.Subject, WorkflowID: meta.ID, UserID: meta.ID, Seq: 12, Status: orchestrator.StepCompleted, StepKey: "s4", Attempt: 1, DurationMs: &took,
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := orchestrator.EventStepCompleted.Encode(meta, data); err != nil {
			b.Fatal(err)
		}
	}
}
