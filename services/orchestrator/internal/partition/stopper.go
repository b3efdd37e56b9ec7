package partition

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// stopper tells runners to stop attempts that no longer count, once that is committed, and
// drops their messages. It tries until it has succeeded; the ledger remembers what is left.
type stopper struct {
	ledger    Ledger
	transport Transport
	log       zerolog.Logger

	mu      sync.Mutex
	waiting []StoppedAttempt
	arrived chan struct{}
}

func newStopper(ledger Ledger, transport Transport, log zerolog.Logger) *stopper {
	return &stopper{ledger: ledger, transport: transport, log: log, arrived: make(chan struct{}, 1)}
}

func (s *stopper) push(attempts []StoppedAttempt) {
	if len(attempts) == 0 {
		return
	}
	s.mu.Lock()
	s.waiting = append(s.waiting, attempts...)
	s.mu.Unlock()
	select {
	case s.arrived <- struct{}{}:
	default:
	}
}

func (s *stopper) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.arrived:
		}
		s.mu.Lock()
		attempts := s.waiting
		s.waiting = nil
		s.mu.Unlock()
		var stopped, left []StoppedAttempt
		for _, a := range attempts {
			if err := s.transport.StopAttempt(ctx, a.Token, a.Sent); err != nil {
				s.log.Warn().Err(err).Str("executionId", a.ExecutionID).Msg("an attempt is not stopped yet; trying again")
				left = append(left, a)
				continue
			}
			if a.Sent > 0 {
				stopped = append(stopped, a)
			}
		}
		if len(stopped) > 0 {
			if err := s.ledger.Cleared(ctx, stopped); err != nil {
				left = append(left, stopped...)
			}
		}
		if len(left) > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
			s.push(left)
		}
	}
}
