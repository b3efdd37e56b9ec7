package partition

import "turbocat.io/services/orchestrator/internal/engine"

// compensationOf is the execution that undoes the steps of another. It stands deeper than that one, so that workflows that
// undo themselves by failing come to an end.
func compensationOf(x *engine.Execution, c engine.Compensation) Compensation {
	return Compensation{
		Compensation: c, Of: x.ID, Priority: x.Priority, Depth: x.Depth + 1, EndedAt: x.CompletedAt,
		UserID: x.UserID, TriggerType: x.TriggerType, RequestID: x.RequestID, Traceparent: x.Traceparent,
	}
}
