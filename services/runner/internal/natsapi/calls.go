package natsapi

import (
	"cmp"
	"context"
	"encoding/json"
	"time"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/runner/internal/executor"
	"turbocat.io/services/runner/internal/work"
)

// Calls asks the orchestrator's ledger of calls. It implements work.Calls.
type Calls struct{ conn *bus.Conn }

// NewCalls makes Calls over a connection.
func NewCalls(conn *bus.Conn) *Calls { return &Calls{conn} }

// defaultWithin is how long the end of a call is waited for when nothing else is said.
const defaultWithin = 10 * time.Minute

// Begin implements work.Calls.
func (c *Calls) Begin(ctx context.Context, s *work.Step, run string, call executor.BeginCall) (executor.BegunCall, error) {
	resp, err := ask(ctx, c.conn, orchestrator.BeginCall, s, bus.DefaultTimeout, orchestrator.BeginCallRequest{
		Attempt: attemptOf(s), Run: run, N: call.N, Kind: call.Kind, Name: call.Name, Provider: call.Provider, Input: call.Input,
		ReserveTokens: call.ReserveTokens, ReserveMicros: call.ReserveMicros, Budgets: call.Budgets, DeadlineMs: cmp.Or(call.Within, defaultWithin).Milliseconds(),
	})
	if err == nil && resp.Obsolete {
		err = executor.ErrObsolete
	}
	return executor.BegunCall{ID: resp.CallID, Denied: resp.Denied}, err
}

// End implements work.Calls.
func (c *Calls) End(ctx context.Context, s *work.Step, call executor.EndedCall) error {
	status := orchestrator.CallCompleted
	if call.Error != nil {
		status = orchestrator.CallFailed
	}
	_, err := ask(ctx, c.conn, orchestrator.EndCall, s, bus.DefaultTimeout, orchestrator.EndCallRequest{
		Attempt: attemptOf(s), CallID: call.ID, Status: status, Output: call.Output, Error: call.Error,
		InputTokens: call.InputTokens, OutputTokens: call.OutputTokens, CostMicros: call.CostMicros,
	})
	return err
}

// CallAgent implements work.Calls.
func (c *Calls) CallAgent(ctx context.Context, s *work.Step, callID, agentID string, input json.RawMessage) error {
	resp, err := ask(ctx, c.conn, orchestrator.CallAgent, s, bus.DefaultTimeout, orchestrator.CallAgentRequest{Attempt: attemptOf(s), CallID: callID, AgentID: agentID, Input: input})
	return endOf(err, resp.Obsolete, resp.Failure)
}

// AwaitAgent implements work.Calls.
func (c *Calls) AwaitAgent(ctx context.Context, s *work.Step, callID string) (json.RawMessage, error) {
	for {
		resp, err := ask(ctx, c.conn, orchestrator.AwaitAgent, s, largeTimeout, orchestrator.AwaitAgentRequest{Attempt: attemptOf(s), CallID: callID, WaitMs: orchestrator.MaxAwaitAgentMs})
		if err := endOf(err, resp.Obsolete, resp.Failure); err != nil || resp.Done {
			return resp.Output, err
		}
	}
}

func endOf(err error, obsolete bool, failure *runner.StepError) error {
	switch {
	case err != nil:
		return err
	case obsolete:
		return executor.ErrObsolete
	case failure != nil:
		return failure
	}
	return nil
}

// Recall implements work.Calls.
func (c *Calls) Recall(ctx context.Context, s *work.Step, key string, most int) ([]json.RawMessage, error) {
	resp, err := ask(ctx, c.conn, orchestrator.Recall, s, bus.DefaultTimeout, orchestrator.RecallRequest{Attempt: attemptOf(s), Key: key, Max: most})
	return resp.Messages, endOf(err, resp.Obsolete, nil)
}

// Remember implements work.Calls.
func (c *Calls) Remember(ctx context.Context, s *work.Step, key string, messages []json.RawMessage) error {
	_, err := ask(ctx, c.conn, orchestrator.Remember, s, bus.DefaultTimeout, orchestrator.RememberRequest{Attempt: attemptOf(s), Key: key, Messages: messages})
	return err
}
