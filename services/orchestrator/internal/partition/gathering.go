package partition

import (
	"context"
	"errors"
	"fmt"
	"time"

	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

const (
	// gatherAgain is after how long outputs are gathered again when nothing came of it.
	gatherAgain = 5 * time.Second
	// largeAtOnce is how many payloads a process puts together at once.
	largeAtOnce = 2
)

// gather puts the outputs of a step's items together. Nothing of it is in memory but while it is read and stored, however many items
// there are.
func (r *run) gather(ctx context.Context, x *engine.Execution, p engine.Place) {
	def, begun, id := &x.Definition.Steps[p.Step], x.Steps[p.Step].Begun, x.ID
	r.gatherInto(x, def.Key, func(c *Control) error {
		outputs, err := r.ledger.ItemOutputs(ctx, id, p.Step, runner.MaxOutput)
		tooLarge := errors.Is(err, ErrTooLarge)
		if err != nil && !tooLarge {
			return err
		}
		size, stored := 0, false
		for _, o := range outputs {
			_, refers := runner.ReferenceOf(o.Output)
			size, stored = size+engine.SizeOf(o.Output), stored || refers
		}
		if tooLarge = tooLarge || size > runner.MaxOutput; tooLarge || size <= r.inline && !stored {
			c.Output, c.Err = def.Gather(begun, outputs, tooLarge)
			c.Output, err = r.keep(ctx, id, c.Output)
			return err
		}
		return r.withRoom(ctx, func() error {
			for i, o := range outputs {
				if ref, stored := runner.ReferenceOf(o.Output); stored {
					if outputs[i].Output, err = r.ledger.Payload(ctx, id, ref); err != nil {
						return err
					}
				}
			}
			c.Output, c.Err = def.Gather(begun, outputs, false)
			c.Output, err = r.keep(ctx, id, c.Output)
			return err
		})
	})
}

// gatherOutputs makes the outputs of an execution whose steps have all ended.
func (r *run) gatherOutputs(ctx context.Context, x *engine.Execution, _ engine.Place) {
	id := x.ID
	r.gatherInto(x, "", func(c *Control) error {
		return r.withRoom(ctx, func() error {
			err := r.withState(ctx, id, func(x *engine.Execution) {
				if x.Gathers(engine.Outputs) {
					c.Output, c.Err = x.GatherOutputs()
				}
			})
			if err == nil {
				c.Output, err = r.keep(ctx, id, c.Output)
			}
			return err
		})
	})
}

// gatherInto puts what put makes, if anything, into the log as the output of a step.
func (r *run) gatherInto(x *engine.Execution, step string, put func(*Control) error) {
	c := Control{P: r.position.P, Kind: engine.Gathered, ExecutionID: x.ID, Step: step}
	log := r.log.With().EmbedObject(about(x)).Str("stepKey", step).Logger()
	r.background.Go(func() {
		if err := put(&c); err != nil {
			log.Warn().Err(err).Msg("outputs can not be gathered; trying again")
			return
		}
		if c.Output != nil || c.Err != nil {
			r.append(c)
		}
	})
}

// withRoom has do put a large payload together, once few others do.
func (r *run) withRoom(ctx context.Context, do func() error) error {
	select {
	case r.large <- struct{}{}:
		defer func() { <-r.large }()
		return do()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// withState has do look at an execution as it is committed, with all that is stored of it. What do makes is to be used when there is no error.
func (r *run) withState(ctx context.Context, id string, do func(x *engine.Execution)) error {
	loaded, err := r.ledger.Load(ctx, []string{id})
	if err != nil {
		return err
	}
	if len(loaded) != 1 {
		return fmt.Errorf("the execution %s is not in the ledger", id)
	}
	failed := r.payloads.Lend(ctx, loaded[0].Execution)
	do(loaded[0].Execution)
	return failed()
}
