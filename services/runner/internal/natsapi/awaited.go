package natsapi

import (
	"context"
	"time"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/runner/internal/work"
)

// askAgain is the pause between two questions to an orchestrator that does not answer.
const askAgain = 500 * time.Millisecond

// Awaited gives the question whether an attempt still has no recorded result. It is asked until
// the orchestrator answers: only the ledger knows.
func Awaited(conn *bus.Conn) func(context.Context, *work.Step) (bool, error) {
	return func(ctx context.Context, s *work.Step) (bool, error) {
		caller := rpc.System(s.RequestID)
		caller.Traceparent = s.Traceparent
		for {
			resp, err := bus.Call(ctx, conn, orchestrator.AttemptAwaited, caller, orchestrator.AttemptRequest{
				ExecutionID: s.ExecutionID, StepKey: s.StepKey, Iteration: s.Iteration, Token: s.Token, Attempt: s.Attempt,
			})
			if err == nil {
				return resp.Awaited, nil
			}
			select {
			case <-ctx.Done():
				return false, ctx.Err()
			case <-time.After(askAgain):
			}
		}
	}
}
