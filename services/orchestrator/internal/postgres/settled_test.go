package postgres

import (
	"context"
	"sync"
	"testing"

	"github.com/google/uuid"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/services/orchestrator/internal/calls"
)

// TestSettledCallsAreTold has two readers go on from the last number that they know while calls are settled: both have all of them, once.
func TestSettledCallsAreTold(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	x := l.acceptable("a", "b")
	x.ID = uuid.Must(uuid.NewV7()).String()
	id := l.accept(x)
	a := l.attempt(id, 1, 2)
	settling, done := context.WithCancel(t.Context())
	var writers, readers sync.WaitGroup
	const each = 40
	for w := range 4 {
		writers.Go(func() {
			for n := range each {
				c := callOf(a, w*each+n+1, calls.Amount{Tokens: 10, Micros: 10})
				callID, _, err := l.BeginCall(t.Context(), c, func(calls.Standing) *orchestrator.DeniedCall { return nil })
				if err == nil && n > 0 { // the first is not settled
					_, err = l.EndCall(t.Context(), calls.Ending{ExecutionID: id, CallID: callID, Token: a.Token, Status: orchestrator.CallCompleted, InputTokens: 3, OutputTokens: 2, Micros: 7})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			told := map[string]bool{}
			for last, over := uint64(0), false; ; {
				found, err := l.SettledCalls(t.Context(), last, 7)
				if err != nil {
					t.Error(err)
					return
				}
				for _, c := range found {
					if c.N <= last || told[c.ID] || c.ExecutionID != id || c.UserID != x.Caller.UserID || c.AgentID != a.AgentID || c.StepKey != "b" || c.InputTokens != 3 || c.OutputTokens != 2 || c.CostMicros != 7 {
						t.Errorf("behind %d it tells of %+v", last, c)
					}
					last, told[c.ID] = c.N, true
				}
				if over && len(found) == 0 {
					break
				}
				over = settling.Err() != nil
			}
			if len(told) != 4*(each-1) {
				t.Errorf("%d are told, of %d", len(told), 4*(each-1))
			}
		})
	}
	writers.Wait()
	done()
	readers.Wait()
}
