package execution

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/dealing"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
)

// Service answers what is asked about executions. An execution is visible to who started
// it, to the owner of its workflow, and to an ADMIN; for everybody else it does not exist.
type Service struct {
	acceptor *Acceptor
	store    Store
	inputLog InputLog
	dealer   *dealing.Dealer
	payloads *partition.Payloads
	bodies   chan struct{} // has an entry for each body that is put together
}

// NewService makes a service that accepts by an acceptor, and explains by a dealer what waits for runners.
func NewService(acceptor *Acceptor, store Store, inputLog InputLog, dealer *dealing.Dealer) *Service {
	return &Service{
		acceptor: acceptor, store: store, inputLog: inputLog, dealer: dealer, payloads: partition.NewPayloads(store), bodies: make(chan struct{}, bodiesAtOnce),
	}
}

// Submit accepts an execution and gives it as it is now.
func (s *Service) Submit(ctx context.Context, caller rpc.Caller, req orchestrator.SubmitRequest) (orchestrator.SubmitResponse, error) {
	accepted, outcome, err := s.acceptor.Submit(ctx, caller, req)
	if err != nil {
		return orchestrator.SubmitResponse{}, err
	}
	if !outcome.Replayed && outcome.Slot != engine.SlotDropped {
		return orchestrator.SubmitResponse{Execution: viewAccepted(accepted, outcome.Slot)}, nil
	}
	record, err := s.store.Get(ctx, outcome.ID)
	if err != nil {
		return orchestrator.SubmitResponse{}, err
	}
	view, err := s.view(ctx, record)
	return orchestrator.SubmitResponse{Execution: view, Replayed: outcome.Replayed}, err
}

// viewAccepted shows an execution that was committed just now and has seen no input.
func viewAccepted(a Accepted, slot engine.Slot) orchestrator.Execution {
	out := orchestrator.Execution{
		ID: a.ID, WorkflowID: a.Definition.WorkflowID, WorkflowVersion: a.Definition.WorkflowVersion, UserID: a.Caller.UserID,
		Status: orchestrator.ExecutionPending, TriggerType: a.TriggerType, Inputs: a.Inputs, Outputs: orNull(nil), Priority: a.Priority,
		Progress:  orchestrator.Progress{Total: len(a.Definition.Steps)},
		CreatedAt: a.CreatedAt.Truncate(time.Microsecond), Steps: make([]orchestrator.StepState, len(a.Definition.Steps)),
		AgentID: testedAgent(a.Definition.WorkflowID, a.Definition.WorkflowVersion),
	}
	for i, s := range a.Definition.Steps {
		out.Steps[i] = orchestrator.StepState{StepKey: s.StepKey, StepType: s.StepType, AgentID: s.AgentID, Status: orchestrator.StepPending, Input: orNull(nil), Output: orNull(nil)}
		if slot == engine.SlotWaiting && len(s.DependsOn) == 0 {
			out.Steps[i].WaitingFor = &orchestrator.WaitingFor{Reason: reasonLimit}
		}
	}
	return out
}

// Get gives an execution with its steps.
func (s *Service) Get(ctx context.Context, caller rpc.Caller, req orchestrator.IDRequest) (orchestrator.Execution, error) {
	record, err := s.Visible(ctx, caller, req.ID)
	if err != nil {
		return orchestrator.Execution{}, err
	}
	return s.view(ctx, record)
}

// Visible gives an execution that the caller may see; NOT_FOUND for any other.
func (s *Service) Visible(ctx context.Context, caller rpc.Caller, id string) (Record, error) {
	parsed, err := uuid.Parse(id)
	if err != nil {
		return Record{}, errs.New(errs.NotFound, "execution not found")
	}
	record, err := s.store.Get(ctx, parsed.String())
	if err != nil {
		return Record{}, err
	}
	if !caller.IsAdmin() && caller.UserID != record.Execution.UserID && caller.UserID != record.WorkflowOwner {
		return Record{}, errs.New(errs.NotFound, "execution not found")
	}
	return record, nil
}

// List gives a page of executions without their steps, inputs and outputs.
func (s *Service) List(ctx context.Context, caller rpc.Caller, req orchestrator.ListRequest) (rpc.List[orchestrator.Execution], error) {
	user := caller.UserID
	switch {
	case caller.IsAdmin():
		user = ""
	case user == "":
		return rpc.List[orchestrator.Execution]{}, errs.New(errs.Unauthorized, "only a user has executions; sign in")
	}
	summaries, pagination, err := s.store.List(ctx, user, req)
	if err != nil {
		return rpc.List[orchestrator.Execution]{}, err
	}
	items := make([]orchestrator.Execution, len(summaries))
	for i, summary := range summaries {
		items[i] = viewSummary(summary)
	}
	return rpc.List[orchestrator.Execution]{Items: items, Pagination: pagination}, nil
}

// How long it is waited between two looks whether a partition is applied far enough: first, and at most.
const lookAgainFirst, lookAgainMost = 20 * time.Millisecond, 500 * time.Millisecond

// AttemptAwaited tells a runner whether an attempt that it was given once more still counts. It answers once the ledger has
// all that was in the partition's log when it was asked: the result may stand there since before the runner died that sent it.
func (s *Service) AttemptAwaited(ctx context.Context, caller rpc.Caller, req orchestrator.AttemptRequest) (orchestrator.AttemptResponse, error) {
	if !System(caller) {
		return orchestrator.AttemptResponse{}, ErrServicesOnly
	}
	if err := s.Applied(ctx, subject.PartitionOf(req.ExecutionID)); err != nil {
		return orchestrator.AttemptResponse{}, err
	}
	task, recorded, err := s.store.Step(ctx, req.ExecutionID, req.StepKey, req.Iteration)
	switch {
	case errs.CodeOf(err) == errs.NotFound:
		return orchestrator.AttemptResponse{}, nil
	case err != nil:
		return orchestrator.AttemptResponse{}, err
	case !recorded || task.Attempt < req.Attempt && !task.Terminal(): // it began and its beginning is not committed yet
		return orchestrator.AttemptResponse{Awaited: true}, nil
	}
	return orchestrator.AttemptResponse{Awaited: task.AwaitsResult() && task.Token == req.Token}, nil
}

// Applied waits until the ledger has what the log of a partition has now. It fails with DEPENDENCY_UNAVAILABLE when the
// time is up before.
func (s *Service) Applied(ctx context.Context, p int) error {
	last, err := s.inputLog.LastInput(ctx, p)
	if err != nil {
		return errs.Wrap(err, errs.DependencyUnavailable, "the input log does not answer; ask again")
	}
	for pause := lookAgainFirst; ; pause = min(2*pause, lookAgainMost) {
		positions, err := s.store.Positions(ctx, []int{p})
		if err != nil {
			return err
		}
		if len(positions) == 1 && positions[0].InputSeq >= last {
			return nil
		}
		select {
		case <-ctx.Done():
			return errs.Wrap(ctx.Err(), errs.DependencyUnavailable, "partition %d is not applied up to input %d yet; ask again", p, last)
		case <-time.After(pause):
		}
	}
}

const maxEvents = 1000

// Events gives the history of an execution after a seq.
func (s *Service) Events(ctx context.Context, caller rpc.Caller, req orchestrator.EventsRequest) (orchestrator.EventsResponse, error) {
	record, err := s.Visible(ctx, caller, req.ID)
	if err != nil {
		return orchestrator.EventsResponse{}, err
	}
	limit := req.Limit
	if limit <= 0 || limit > maxEvents {
		limit = maxEvents
	}
	events, err := s.store.History(ctx, record.Execution.ID, req.After, limit)
	if err != nil {
		return orchestrator.EventsResponse{}, err
	}
	last := req.After
	if len(events) > 0 {
		last = events[len(events)-1].Seq
	}
	return orchestrator.EventsResponse{Events: events, Terminal: record.Execution.Terminal() && last >= record.Execution.EventSeq}, nil
}

// waitingFor tells what a step waits for; nil when it is nothing that is known here.
func waitingFor(r Record, i int) *orchestrator.WaitingFor {
	x := r.Execution
	s, def := &x.Steps[i], &x.Definition.Steps[i]
	switch {
	case x.Slot == engine.SlotWaiting && s.Status == orchestrator.StepPending && len(def.DependsOn) == 0:
		return &orchestrator.WaitingFor{Reason: reasonLimit}
	case s.Status != orchestrator.StepRunning:
		return nil
	case s.RetryAt != 0:
		return &orchestrator.WaitingFor{Reason: "RETRY", Until: moment(s.RetryAt)}
	case s.Child != "" && def.Work(0).Recorded:
		return nil // it is being read
	case s.Child != "":
		return &orchestrator.WaitingFor{Reason: "CHILD", Until: moment(s.Backstop)}
	case r.Undecided[i] > 0 && !def.FansOut():
		return &orchestrator.WaitingFor{Reason: reasonBudget, Until: moment(s.Backstop)}
	case ready(x, i) && !heldBack(r, i):
		return &orchestrator.WaitingFor{Reason: "RUNNER"}
	case def.Type != catalog.StepWait:
		return nil
	case x.Signal(i) != "":
		return &orchestrator.WaitingFor{Reason: "SIGNAL", Until: moment(x.WaitsUntil(i))}
	default:
		return &orchestrator.WaitingFor{Reason: "TIMER", Until: moment(x.WaitsUntil(i))}
	}
}

// moment gives a time of the engine; nil for none.
func moment(t engine.Time) *time.Time {
	if t == 0 {
		return nil
	}
	std := t.Std()
	return &std
}

func viewSummary(s Summary) orchestrator.Execution {
	out := orchestrator.Execution{
		ID: s.ID, WorkflowID: s.WorkflowID, WorkflowVersion: s.WorkflowVersion, UserID: s.UserID, Status: s.Status, TriggerType: s.TriggerType,
		Inputs: json.RawMessage("null"), Outputs: json.RawMessage("null"), Priority: s.Priority, ParentExecutionID: s.ParentID, RetryOf: s.RetryOf,
		TriggerID: s.TriggerID, ScheduledFor: s.ScheduledFor, CompensationOf: s.CompensationOf, CompensatedBy: s.CompensatedBy,
		Progress: s.Progress, CreatedAt: s.CreatedAt.UTC(), StartedAt: s.StartedAt, CompletedAt: s.CompletedAt,
		AgentID: testedAgent(s.WorkflowID, s.WorkflowVersion),
	}
	if len(s.Error) > 0 {
		var failure runner.StepError
		if json.Unmarshal(s.Error, &failure) == nil {
			out.Error = &failure
		}
	}
	if s.StartedAt != nil && s.CompletedAt != nil {
		ms := s.CompletedAt.Sub(*s.StartedAt).Milliseconds()
		out.DurationMs = &ms
	}
	return out
}

func span(from, to engine.Time) (start, end *time.Time, durationMs *int64) {
	if from != 0 && to != 0 {
		ms := to.Ms(from)
		durationMs = &ms
	}
	return moment(from), moment(to), durationMs
}

func orNull(raw json.RawMessage) json.RawMessage {
	if raw == nil {
		return json.RawMessage("null")
	}
	return raw
}
