package calls

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/rawjson"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
)

const (
	// atOnce is how many transactions of calls are under way at once. They wait for one another's counters, and must not have all
	// connections while they do.
	atOnce = 3
	// maxName bounds the names of models, tools and providers, and the keys of conversations, in bytes.
	maxName = 256
	// maxReserved bounds a reservation, so that no sum of them overflows.
	maxReserved = int64(1e15)
	maxComment  = 1000
)

// Service answers what is asked about calls.
type Service struct {
	store       Store
	executions  *execution.Service
	children    partition.Children
	endings     Endings
	inputLog    execution.InputLog
	userMicros  int64
	transacting chan struct{}
	log         zerolog.Logger
}

// Endings tells how executions have ended; execution.Store does.
type Endings interface {
	Ending(ctx context.Context, id string) (e execution.Ending, found bool, err error)
}

// NewService makes a service. userDailyUSD is what the calls of a user may cost in a day; 0 bounds nothing.
func NewService(store Store, endings Endings, executions *execution.Service, children partition.Children, inputLog execution.InputLog, userDailyUSD float64, log zerolog.Logger) *Service {
	return &Service{
		store: store, endings: endings, executions: executions, children: children, inputLog: inputLog, userMicros: orchestrator.Micros(userDailyUSD),
		transacting: make(chan struct{}, atOnce), log: log,
	}
}

// alone lets do have one of the few connections.
func (s *Service) alone(ctx context.Context, do func() error) error {
	select {
	case s.transacting <- struct{}{}:
		defer func() { <-s.transacting }()
		return do()
	case <-ctx.Done():
		return errs.Wrap(ctx.Err(), errs.DependencyUnavailable, "too many calls begin or end at once; ask again")
	}
}

// attempt reads an attempt that a runner names; false when its result would not count, whoever asks. A step is sent before its beginning
// is committed, so that is waited for.
func (s *Service) attempt(ctx context.Context, caller rpc.Caller, req orchestrator.AttemptRequest) (Attempt, bool, error) {
	if !execution.System(caller) {
		return Attempt{}, false, execution.ErrServicesOnly
	}
	a, found, err := s.store.Attempt(ctx, req)
	if err != nil || !found || a.Awaited {
		return a, found && err == nil, err
	}
	if err := s.executions.Applied(ctx, subject.PartitionOf(req.ExecutionID)); err != nil {
		return Attempt{}, false, err
	}
	a, found, err = s.store.Attempt(ctx, req)
	return a, found && a.Awaited && err == nil, err
}

// Begin records a call before it is made.
func (s *Service) Begin(ctx context.Context, caller rpc.Caller, req orchestrator.BeginCallRequest) (orchestrator.BeginCallResponse, error) {
	var out orchestrator.BeginCallResponse
	if err := checkBegin(req); err != nil {
		return out, err
	}
	a, counts, err := s.attempt(ctx, caller, req.Attempt)
	if err != nil || !counts {
		out.Obsolete = !counts
		return out, err
	}
	c := Call{
		Attempt: a, ID: uuid.Must(uuid.NewV7()).String(), Run: req.Run, N: req.N, Kind: req.Kind, Name: req.Name, Provider: req.Provider, Input: kept(req.Input),
		Reserve: Amount{req.ReserveTokens, req.ReserveMicros}, Within: time.Duration(req.DeadlineMs) * time.Millisecond,
	}
	bounds := Bounds{Budgets: req.Budgets, UserDailyMicros: s.userMicros}
	err = s.alone(ctx, func() (err error) {
		out.CallID, out.Denied, err = s.store.BeginCall(ctx, c, func(now Standing) *orchestrator.DeniedCall { return Deny(bounds, c.Name, c.Reserve, now) })
		return err
	})
	return out, err
}

func checkBegin(req orchestrator.BeginCallRequest) error {
	var faults []errs.Detail
	check := func(ok bool, field, message string) {
		if !ok {
			faults = append(faults, errs.Detail{Field: field, Message: message, Code: errs.BadValue})
		}
	}
	check(req.Kind == orchestrator.CallOfModel || req.Kind == orchestrator.CallOfAgent || req.Kind == orchestrator.CallOfMCP, "kind", "is none that there is")
	check(req.N > 0 && req.N <= math.MaxInt32, "n", "must be from 1")
	check(req.Run != "" && len(req.Run) <= maxName, "run", "must be 1 to "+strconv.Itoa(maxName)+" bytes")
	check(len(req.Name) <= maxName && len(req.Provider) <= maxName, "name", "must be at most "+strconv.Itoa(maxName)+" bytes, as the provider")
	check(storable(req.Run) && storable(req.Name) && storable(req.Provider), "name", "is no text")
	check(req.ReserveTokens >= 0 && req.ReserveTokens <= maxReserved && req.ReserveMicros >= 0 && req.ReserveMicros <= maxReserved, "reserveTokens", "is out of range, or reserveMicros is")
	check(req.DeadlineMs > 0 && req.DeadlineMs <= time.Hour.Milliseconds()*24*7, "deadlineMs", "must be from 1 to a week")
	check(len(req.Budgets) <= catalog.MaxBudgets, "budgets", "are too many")
	check(len(req.Input) == 0 || rawjson.Fault(req.Input) == "", "input", "is no JSON")
	if len(faults) > 0 {
		return errs.Invalid("call", faults)
	}
	return nil
}

// storable tells whether PostgreSQL takes a text.
func storable(s string) bool {
	for _, r := range s {
		if r == 0 || r == utf8.RuneError {
			return false
		}
	}
	return true
}

// End settles a call, also of an attempt whose result would no longer count: what it has used is used.
func (s *Service) End(ctx context.Context, caller rpc.Caller, req orchestrator.EndCallRequest) (rpc.Empty, error) {
	switch {
	case !execution.System(caller):
		return rpc.Empty{}, execution.ErrServicesOnly
	case req.Status != orchestrator.CallCompleted && req.Status != orchestrator.CallFailed,
		min(req.InputTokens, req.OutputTokens, req.CostMicros) < 0, max(req.InputTokens, req.OutputTokens, req.CostMicros) > maxReserved:
		return rpc.Empty{}, errs.New(errs.Validation, "a call ends COMPLETED or FAILED, and uses from 0 to %d of anything", maxReserved)
	}
	e := Ending{
		ExecutionID: req.Attempt.ExecutionID, CallID: req.CallID, Token: req.Attempt.Token, Status: req.Status,
		InputTokens: req.InputTokens, OutputTokens: req.OutputTokens, Micros: req.CostMicros,
	}
	if len(req.Output) > 0 {
		if fault := rawjson.Fault(req.Output); fault != "" {
			return rpc.Empty{}, errs.New(errs.Validation, "the output %s", fault)
		}
		e.Output = kept(req.Output)
	}
	if req.Error != nil {
		var err error
		if e.Error, err = json.Marshal(req.Error); err != nil {
			return rpc.Empty{}, fmt.Errorf("encode the error of a call: %w", err)
		}
	}
	var inputs []partition.Control
	err := s.alone(ctx, func() (err error) {
		inputs, err = s.store.EndCall(ctx, e)
		return err
	})
	s.append(inputs)
	return rpc.Empty{}, err
}

// append puts what is committed into the input log; what is lost of it, the reconciler repeats.
func (s *Service) append(inputs []partition.Control) {
	for _, c := range inputs {
		s.inputLog.Append(c, func(error) {})
	}
}

// child reads an attempt as attempt does, and gives the id of the execution that a call of it is.
func (s *Service) child(ctx context.Context, caller rpc.Caller, req orchestrator.AttemptRequest, callID string) (a Attempt, id string, counts bool, err error) {
	if a, counts, err = s.attempt(ctx, caller, req); err != nil || !counts {
		return a, "", counts, err
	}
	if id, err = ChildOf(callID, a.Token); err != nil {
		return a, "", counts, errs.New(errs.NotFound, "call not found")
	}
	return a, id, counts, nil
}

// CallAgent begins the execution of an agent that a call is.
func (s *Service) CallAgent(ctx context.Context, caller rpc.Caller, req orchestrator.CallAgentRequest) (orchestrator.CallAgentResponse, error) {
	var out orchestrator.CallAgentResponse
	a, id, counts, err := s.child(ctx, caller, req.Attempt, req.CallID)
	if err != nil || !counts {
		out.Obsolete = !counts
		return out, err
	}
	inputs, failure := objectOf(req.Input)
	if failure != nil {
		out.Failure = failure
		return out, nil
	}
	// The call names it before it is there: who looks for those that nobody waits for finds it.
	if err := s.store.NameChild(ctx, a.ExecutionID, req.CallID, a.Token, id); err != nil {
		return out, err
	}
	_, _, out.Failure, err = s.children.Begin(ctx, partition.Child{
		ID: id, Depth: a.Depth + 1, Detached: true, AgentID: req.AgentID, Priority: a.Priority, UserID: a.UserID, TriggerType: a.TriggerType,
		Parent:    engine.Parent{ExecutionID: a.ExecutionID, StepKey: a.StepKey, Place: engine.Place{Step: a.Step, Iteration: a.Iteration}, Token: a.Token},
		RequestID: a.RequestID, Traceparent: a.Traceparent,
		Inputs: func(context.Context) ([]byte, *runner.StepError, error) { return inputs, nil, nil },
	})
	if err == nil && out.Failure == nil {
		out.ExecutionID = id
	}
	return out, err
}

// objectOf gives the inputs of an agent that is called as a tool.
func objectOf(input json.RawMessage) ([]byte, *runner.StepError) {
	if len(input) == 0 || string(input) == "null" {
		return []byte("{}"), nil
	}
	var object map[string]json.RawMessage
	if len(input) > runner.MaxInput || rawjson.Fault(input) != "" || json.Unmarshal(input, &object) != nil {
		return nil, &runner.StepError{Code: runner.CodeInvalidInput, Message: "the input of an agent is a JSON object"}
	}
	return input, nil
}

// How long it is waited between two looks whether an execution has ended: first, and at most.
const lookAgainFirst, lookAgainMost = 20 * time.Millisecond, 250 * time.Millisecond

// AwaitAgent waits for the end of the execution that a call is, for a while.
func (s *Service) AwaitAgent(ctx context.Context, caller rpc.Caller, req orchestrator.AwaitAgentRequest) (orchestrator.AwaitAgentResponse, error) {
	var out orchestrator.AwaitAgentResponse
	_, id, counts, err := s.child(ctx, caller, req.Attempt, req.CallID)
	if err != nil || !counts {
		out.Obsolete = !counts
		return out, err
	}
	over := time.After(time.Duration(min(max(req.WaitMs, 0), orchestrator.MaxAwaitAgentMs)) * time.Millisecond)
	for pause := lookAgainFirst; ; pause = min(2*pause, lookAgainMost) {
		ending, found, err := s.endings.Ending(ctx, id)
		switch {
		case err != nil:
			return out, err
		case ending.Ended:
			return orchestrator.AwaitAgentResponse{Done: true, Output: ending.Output, Failure: ending.Failure}, nil
		}
		select {
		case <-over:
			// One that is not there was not accepted, because nobody waited for it.
			a, counts, err := s.store.Attempt(ctx, req.Attempt)
			out.Obsolete = !found || !counts || !a.Awaited
			return out, err
		case <-ctx.Done():
			return out, nil
		case <-time.After(pause):
		}
	}
}

// Recall gives the newest messages of a conversation.
func (s *Service) Recall(ctx context.Context, caller rpc.Caller, req orchestrator.RecallRequest) (orchestrator.RecallResponse, error) {
	out := orchestrator.RecallResponse{Messages: []json.RawMessage{}}
	a, counts, err := s.attempt(ctx, caller, req.Attempt)
	if err != nil || !counts {
		out.Obsolete = !counts
		return out, err
	}
	if err := checkKey(req.Key); err != nil {
		return out, err
	}
	found, err := s.store.Recall(ctx, a, req.Key, min(max(req.Max, 0), orchestrator.MaxConversation))
	out.Messages = append(out.Messages, found...)
	return out, err
}

// Remember adds messages to a conversation, unless the attempt's result would no longer count.
func (s *Service) Remember(ctx context.Context, caller rpc.Caller, req orchestrator.RememberRequest) (rpc.Empty, error) {
	a, counts, err := s.attempt(ctx, caller, req.Attempt)
	if err != nil || !counts {
		return rpc.Empty{}, err
	}
	if err := checkKey(req.Key); err != nil {
		return rpc.Empty{}, err
	}
	messages := req.Messages[max(0, len(req.Messages)-orchestrator.MaxConversation):]
	for _, m := range messages {
		if fault := rawjson.Fault(m); fault != "" {
			return rpc.Empty{}, errs.New(errs.Validation, "a message %s", fault)
		}
	}
	return rpc.Empty{}, s.alone(ctx, func() error { return s.store.Remember(ctx, a, req.Key, messages) })
}

func checkKey(key string) error {
	if key == "" || len(key) > maxName || !storable(key) {
		return errs.New(errs.Validation, "the key of a conversation must be 1 to %d bytes of text", maxName)
	}
	return nil
}

// List gives a page of the calls of a step to who may see the execution.
func (s *Service) List(ctx context.Context, caller rpc.Caller, req orchestrator.ListCallsRequest) (rpc.List[orchestrator.Call], error) {
	record, step, err := s.step(ctx, caller, req.ExecutionID, req.StepKey)
	if err != nil {
		return rpc.List[orchestrator.Call]{}, err
	}
	items, pagination, err := s.store.ListCalls(ctx, record.Execution.ID, step, req.Page)
	return rpc.List[orchestrator.Call]{Items: items, Pagination: pagination}, err
}

// maxSettled is how many settled calls one answer has at most.
const maxSettled = 1000

// Settled gives telemetry what calls of models have used.
func (s *Service) Settled(ctx context.Context, caller rpc.Caller, req orchestrator.SettledCallsRequest) (orchestrator.SettledCallsResponse, error) {
	if !execution.System(caller) {
		return orchestrator.SettledCallsResponse{}, execution.ErrServicesOnly
	}
	calls, err := s.store.SettledCalls(ctx, req.After, min(max(req.Limit, 1), maxSettled))
	return orchestrator.SettledCallsResponse{Calls: calls}, err
}

func (s *Service) step(ctx context.Context, caller rpc.Caller, executionID, key string) (execution.Record, int, error) {
	record, err := s.executions.Visible(ctx, caller, executionID)
	if err != nil {
		return record, 0, err
	}
	i, there := record.Execution.Definition.StepIndex(key)
	if !there {
		return record, 0, errs.New(errs.NotFound, "step not found")
	}
	return record, i, nil
}

// Decide lets a step that waits for approval go on beyond its budget, or not.
func (s *Service) Decide(ctx context.Context, caller rpc.Caller, req orchestrator.DecideBudgetRequest) (orchestrator.DecideBudgetResponse, error) {
	var out orchestrator.DecideBudgetResponse
	record, step, err := s.step(ctx, caller, req.ID, req.StepKey)
	if err != nil {
		return out, err
	}
	approval, err := approvalOf(req)
	if err != nil {
		return out, err
	}
	if x := record.Execution; x.Terminal() {
		return out, errs.New(errs.Conflict, "the execution is %s; only of one that has not ended can a budget be decided", x.Status)
	}
	out.Decided, err = s.store.DecideBudget(ctx, Decision{
		ExecutionID: record.Execution.ID, OwnerID: record.Execution.UserID, StepKey: req.StepKey, Step: step, Approval: approval, By: caller.UserID,
	})
	if err == nil && out.Decided == 0 {
		return out, errs.New(errs.Conflict, "the step waits for no approval of a budget")
	}
	return out, err
}

func approvalOf(req orchestrator.DecideBudgetRequest) (Approval, error) {
	var faults []errs.Detail
	out := Approval{Status: Rejected, Comment: req.Comment}
	if req.Approved == nil {
		faults = append(faults, errs.Detail{Field: "approved", Message: "is missing; give true to let the step go on or false to have it fail", Code: errs.Required})
	} else if *req.Approved {
		out.Status = Approved
	}
	if utf8.RuneCountInString(req.Comment) > maxComment || !storable(req.Comment) {
		faults = append(faults, errs.Detail{Field: "comment", Message: "must be a text of at most " + strconv.Itoa(maxComment) + " characters", Code: errs.OutOfRange})
	}
	if usd := req.MaxCostUSD; usd != nil {
		if out.Most.Micros = orchestrator.Micros(*usd); out.Most.Micros < 1 || out.Most.Micros > maxReserved {
			faults = append(faults, errs.Detail{Field: "maxCostUsd", Message: "must be more than 0, and at most 1,000,000,000; leave it out to bound nothing", Code: errs.OutOfRange})
		}
	}
	if tokens := req.MaxTokens; tokens != nil {
		if out.Most.Tokens = *tokens; *tokens < 1 || *tokens > maxReserved {
			faults = append(faults, errs.Detail{Field: "maxTokens", Message: "must be more than 0; leave it out to bound nothing", Code: errs.OutOfRange})
		}
	}
	if len(faults) > 0 {
		return out, errs.Invalid("decision", faults)
	}
	return out, nil
}

// lookForUnawaited is how often it is looked for executions that no call waits for any more.
const lookForUnawaited = 2 * time.Second

// Run ends the executions of calls that nobody waits for any more, because their attempt is over or their runner gone, until ctx ends.
func (s *Service) Run(ctx context.Context) {
	ticker := time.NewTicker(lookForUnawaited)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		inputs, err := s.store.EndUnawaited(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Warn().Err(err).Msg("executions that agents have begun, and that nobody waits for any more, are not looked for; trying again")
		}
		s.append(inputs)
	}
}
