package work

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"turbocat.io/services/runner/internal/executor"
	"turbocat.io/services/runner/internal/redact"
)

const (
	// approvedAgain is how often it is asked whether somebody has approved of more than a budget.
	approvedAgain = 2 * time.Second
	// settleWithin is how long it is tried to settle a call whose attempt has ended. What is not settled counts as it was reserved.
	settleWithin = 5 * time.Second
)

// Calls is the orchestrator's ledger of calls as an attempt needs it. Each asks until it is answered, or gives ctx's error; what would
// no longer count gives executor.ErrObsolete. run is another each time that an attempt begins.
type Calls interface {
	Begin(ctx context.Context, s *Step, run string, c executor.BeginCall) (executor.BegunCall, error)
	End(ctx context.Context, s *Step, c executor.EndedCall) error
	// CallAgent begins the execution of an agent that a call is; an error may be a *runner.StepError.
	CallAgent(ctx context.Context, s *Step, callID, agentID string, input json.RawMessage) error
	// AwaitAgent gives the output of such an execution once it has ended, or a *runner.StepError.
	AwaitAgent(ctx context.Context, s *Step, callID string) (json.RawMessage, error)
	Recall(ctx context.Context, s *Step, key string, most int) ([]json.RawMessage, error)
	Remember(ctx context.Context, s *Step, key string, messages []json.RawMessage) error
}

// callsOf is the executor.Calls of one attempt.
type callsOf struct {
	pool *Pool
	a    *attempt
	run  string
	mask *redact.Redactor
}

// Begin implements executor.Calls.
func (c *callsOf) Begin(ctx context.Context, call executor.BeginCall) (executor.BegunCall, error) {
	call.Input, call.Name = c.mask.JSON(call.Input), c.mask.Text(call.Name)
	begun, err := c.pool.Calls.Begin(ctx, c.a.step, c.run, call)
	if err != nil || begun.Denied == nil || !begun.Denied.Pending {
		return begun, err
	}
	if call.Waiting != nil {
		call.Waiting(*begun.Denied)
	}
	err = c.pool.aside(ctx, c.a, func() error {
		for begun.Denied != nil && begun.Denied.Pending {
			select {
			case <-ctx.Done():
				return nil // who waits is told what for
			case <-time.After(approvedAgain):
			}
			again, err := c.pool.Calls.Begin(ctx, c.a.step, c.run, call)
			if err != nil && ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			begun = again
		}
		return nil
	})
	return begun, err
}

// End implements executor.Calls.
func (c *callsOf) End(ctx context.Context, call executor.EndedCall) error {
	call.Output = c.mask.JSON(call.Output)
	if call.Error != nil {
		masked := *call.Error
		masked.Message = c.mask.Text(masked.Message)
		call.Error = &masked
	}
	if ctx.Err() == nil {
		if err := c.pool.Calls.End(ctx, c.a.step, call); err == nil || ctx.Err() == nil {
			return err
		}
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	c.pool.settling.Go(func() {
		defer cancel()
		if err := c.pool.Calls.End(late, c.a.step, call); err != nil && !errors.Is(err, executor.ErrObsolete) {
			c.pool.Log.Warn().Str("executionId", c.a.step.ExecutionID).Str("stepKey", c.a.step.StepKey).Err(err).Msg("a call is not settled; what it had reserved counts")
		}
	})
	return nil
}

// RunAgent implements executor.Calls.
func (c *callsOf) RunAgent(ctx context.Context, callID, agentID string, input json.RawMessage) (output json.RawMessage, err error) {
	if err := c.pool.Calls.CallAgent(ctx, c.a.step, callID, agentID, c.mask.JSON(input)); err != nil {
		return nil, err
	}
	err = c.pool.aside(ctx, c.a, func() error {
		output, err = c.pool.Calls.AwaitAgent(ctx, c.a.step, callID)
		return err
	})
	return output, err
}

// Recall implements executor.Calls.
func (c *callsOf) Recall(ctx context.Context, key string, most int) ([]json.RawMessage, error) {
	return c.pool.Calls.Recall(ctx, c.a.step, c.mask.Text(key), most)
}

// Remember implements executor.Calls.
func (c *callsOf) Remember(ctx context.Context, key string, messages []json.RawMessage) error {
	masked := make([]json.RawMessage, len(messages))
	for i, m := range messages {
		masked[i] = c.mask.JSON(m)
	}
	return c.pool.Calls.Remember(ctx, c.a.step, c.mask.Text(key), masked)
}

// place is that of an attempt which runs. Several calls of it may stand aside at once: it is given back with the first, and taken again
// after the last.
type place struct {
	mu    sync.Mutex
	aside int
	taken bool
}

// aside lets others have the place of an attempt while it waits for somebody else, who may need it. It has one again afterwards, unless ctx ends first.
func (p *Pool) aside(ctx context.Context, a *attempt, wait func() error) error {
	a.place.mu.Lock()
	if a.place.aside++; a.place.aside == 1 {
		a.free() // what waits at its side takes none of the places for what is delivered either
		p.asides.Add(1)
		p.leave(&a.place)
	}
	a.place.mu.Unlock()
	defer func() {
		a.place.mu.Lock()
		defer a.place.mu.Unlock()
		if a.place.aside--; a.place.aside == 0 {
			p.asides.Add(-1)
			p.enter(ctx, &a.place)
		}
	}()
	return wait()
}

// leave gives a place to another attempt. The worker that waits with this one is replaced.
func (p *Pool) leave(place *place) {
	if place.taken { // else it ran out of time before there was one again
		place.taken = false
		<-p.places
	}
	if p.surplus.Add(-1) < 0 {
		p.surplus.Add(1)
		p.workers.Go(p.work)
	}
}

// enter takes a place once there is one, unless ctx ends before. The worker that comes back is one too many.
func (p *Pool) enter(ctx context.Context, place *place) {
	p.surplus.Add(1)
	select {
	case p.places <- struct{}{}:
		place.taken = true
	case <-ctx.Done():
	}
}

// dismissed tells whether there are more workers than attempts may run.
func (p *Pool) dismissed() bool {
	if p.surplus.Add(-1) >= 0 {
		return true
	}
	p.surplus.Add(1)
	return false
}
