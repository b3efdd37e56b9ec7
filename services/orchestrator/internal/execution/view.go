package execution

import (
	"context"
	"encoding/json"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/services/orchestrator/internal/engine"
)

// maxShown bounds the payloads of one answer.
const maxShown = 130 << 20

// view shows an execution with its payloads, as far as they fit into an answer: first what went in and what came out of it.
func (s *Service) view(ctx context.Context, r Record) (orchestrator.Execution, error) {
	x := r.Execution
	failed := s.payloads.Lend(ctx, x)
	out := orchestrator.Execution{
		ID: x.ID, WorkflowID: x.WorkflowID, WorkflowVersion: r.WorkflowVersion, UserID: x.UserID, Status: x.Status, TriggerType: x.TriggerType,
		Error: x.Error, Priority: x.Priority, ParentExecutionID: r.ParentID, RetryOf: r.RetryOf,
		TriggerID: r.TriggerID, ScheduledFor: r.ScheduledFor, Progress: x.Progress(), CreatedAt: x.CreatedAt.Std(), Steps: make([]orchestrator.StepState, len(x.Steps)),
	}
	out.AgentID = testedAgent(x.WorkflowID, r.WorkflowVersion)
	if recording := x.Definition.Recording; recording != nil {
		out.ReplayOf = &recording.ExecutionID
	}
	if x.CompensationOf != "" {
		out.CompensationOf = &x.CompensationOf
	}
	if r.Compensation != nil {
		out.CompensatedBy = &r.Compensation.ID
	}
	left := maxShown
	show := func(field string, size int, payload func() json.RawMessage) json.RawMessage {
		if size > left {
			out.Omitted = append(out.Omitted, orchestrator.Omitted{Field: field, Bytes: size})
			return orNull(nil)
		}
		left -= size
		return orNull(payload())
	}
	whole := func(field string, payload json.RawMessage) json.RawMessage {
		return show(field, engine.SizeOf(payload), func() json.RawMessage { return x.Whole(payload) })
	}
	out.Outputs = show("outputs", x.OutputsSize(), x.OutputsByKey)
	out.Inputs = whole("inputs", x.Inputs)
	for i := range x.Steps {
		out.Steps[i] = viewStep(r, i)
		out.Steps[i].Output = whole("steps."+out.Steps[i].StepKey+".output", x.Steps[i].Output)
	}
	for i := range x.Steps {
		if x.Steps[i].Attempt > 0 {
			if input, _, failure := x.Input(engine.Place{Step: i}); failure == nil {
				out.Steps[i].Input = show("steps."+out.Steps[i].StepKey+".input", len(input), func() json.RawMessage { return input })
			}
		}
	}
	out.StartedAt, out.CompletedAt, out.DurationMs = span(x.StartedAt, x.CompletedAt)
	out.Usage = together(r.Usage)
	return out, failed()
}

// together adds up what the steps of an execution have used; nil when no model was called.
func together(usage map[int]orchestrator.Usage) *orchestrator.Usage {
	if len(usage) == 0 {
		return nil
	}
	var all orchestrator.Usage
	var micros, reserved int64 // dollars are rounded
	for _, u := range usage {
		all.Calls += u.Calls
		all.InputTokens += u.InputTokens
		all.OutputTokens += u.OutputTokens
		all.ReservedTokens += u.ReservedTokens
		micros += orchestrator.Micros(u.CostUSD)
		reserved += orchestrator.Micros(u.ReservedCostUSD)
	}
	all.CostUSD, all.ReservedCostUSD = orchestrator.USD(micros), orchestrator.USD(reserved)
	return &all
}

// testedAgent gives the agent that stands for the workflow of a test; nil for what is none.
func testedAgent(workflowID string, version int) *string {
	if version > 0 {
		return nil
	}
	return &workflowID
}

// viewStep shows a step without its payloads.
func viewStep(r Record, i int) orchestrator.StepState {
	x := r.Execution
	s, def := &x.Steps[i], &x.Definition.Steps[i]
	out := orchestrator.StepState{
		StepKey: def.Key, StepType: def.Type, AgentID: r.Definition.Steps[i].AgentID, Status: s.Status, Attempts: s.Attempt,
		Input: orNull(nil), Error: s.Error, WaitingFor: waitingFor(r, i),
	}
	if reused, ok := r.Reused[i]; ok {
		out.ReusedFrom = &reused
	} else if s.Attempt > 0 && def.FansOut() {
		out.Items = &orchestrator.ItemCounts{Begun: s.Begun, Completed: s.Completed, Failed: s.Failed}
	}
	if used, ok := r.Usage[i]; ok {
		out.Usage = &used
	}
	switch recorded := x.Definition.Recording; {
	case s.Child == "":
	case def.Work(0).Recorded:
		out.ReusedFrom = &recorded.ExecutionID
	default:
		out.ChildExecutionID = &s.Child
	}
	out.StartedAt, out.CompletedAt, out.DurationMs = span(s.StartedAt, s.CompletedAt)
	return out
}
