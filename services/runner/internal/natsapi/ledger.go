package natsapi

import (
	"context"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/runner/internal/work"
)

const (
	// askAgain is the pause between two questions to an orchestrator that does not answer.
	askAgain = 500 * time.Millisecond
	// largeTimeout is how long an answer with a large payload, or to one, may take.
	largeTimeout = 60 * time.Second
	// largeAtOnce is how many of them are on their way at once.
	largeAtOnce = 2
)

// Ledger asks the orchestrator what only the ledger knows, and keeps there what is too large for a message. It asks until there is
// an answer. It implements work.Ledger.
type Ledger struct {
	conn  *bus.Conn
	large chan struct{} // has an entry for each payload that is on its way
}

// NewLedger makes a Ledger over a connection.
func NewLedger(conn *bus.Conn) *Ledger {
	return &Ledger{conn: conn, large: make(chan struct{}, largeAtOnce)}
}

// withRoom has do bring a payload here or there, once few others do: several times its bytes are in memory meanwhile.
func (l *Ledger) withRoom(ctx context.Context, do func() error) error {
	select {
	case l.large <- struct{}{}:
		defer func() { <-l.large }()
		return do()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Awaited implements work.Ledger.
func (l *Ledger) Awaited(ctx context.Context, s *work.Step) (bool, error) {
	resp, err := ask(ctx, l.conn, orchestrator.AttemptAwaited, s, bus.DefaultTimeout, attemptOf(s))
	return resp.Awaited, err
}

// Body implements work.Ledger.
func (l *Ledger) Body(ctx context.Context, s *work.Step) ([]byte, *runner.StepError, error) {
	var resp orchestrator.AttemptBodyResponse
	err := l.withRoom(ctx, func() (err error) {
		resp, err = ask(ctx, l.conn, orchestrator.AttemptBody, s, largeTimeout, attemptOf(s))
		return err
	})
	return resp.Body, resp.Failure, err
}

// Store implements work.Ledger.
func (l *Ledger) Store(ctx context.Context, s *work.Step, output []byte) error {
	return l.withRoom(ctx, func() error {
		_, err := ask(ctx, l.conn, orchestrator.StorePayload, s, largeTimeout, orchestrator.StorePayloadRequest{ExecutionID: s.ExecutionID, Payload: output})
		return err
	})
}

func attemptOf(s *work.Step) orchestrator.AttemptRequest {
	return orchestrator.AttemptRequest{ExecutionID: s.ExecutionID, StepKey: s.StepKey, Iteration: s.Iteration, Token: s.Token, Attempt: s.Attempt}
}

// ask repeats a question until it is answered or refused, or ctx ends.
func ask[Req, Resp any](ctx context.Context, conn *bus.Conn, m rpc.Method[Req, Resp], s *work.Step, timeout time.Duration, req Req) (Resp, error) {
	caller := rpc.System(s.RequestID)
	caller.Traceparent = s.Traceparent
	for {
		waiting, cancel := context.WithTimeout(ctx, timeout)
		resp, err := bus.Call(waiting, conn, m, caller, req)
		cancel()
		switch code := errs.CodeOf(err); {
		case err == nil || code == errs.NotFound || code == errs.Validation || code == errs.PayloadTooLarge || code == errs.Forbidden:
			return resp, err
		case ctx.Err() != nil:
			return resp, ctx.Err()
		}
		select {
		case <-ctx.Done():
			return resp, ctx.Err()
		case <-time.After(askAgain):
		}
	}
}
