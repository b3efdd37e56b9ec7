package partition

import (
	"context"
	"errors"
	"time"

	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

// gatherAgain is after how long the outputs of a step's items are gathered again when nothing came of it.
const gatherAgain = 5 * time.Second

// gather puts the outputs of a step's items together. Nothing of it is in memory but while it is read and on its way into the log,
// however many items there are.
func (r *run) gather(ctx context.Context, x *engine.Execution, p engine.Place) {
	def, begun := &x.Definition.Steps[p.Step], x.Steps[p.Step].Begun
	c := Control{P: r.position.P, Kind: engine.Gathered, ExecutionID: x.ID, Step: def.Key}
	log := r.log.With().EmbedObject(about(x)).Str("stepKey", def.Key).Logger()
	r.background.Go(func() {
		outputs, err := r.ledger.ItemOutputs(ctx, c.ExecutionID, p.Step, runner.MaxOutput)
		if err != nil && !errors.Is(err, ErrTooLarge) {
			log.Warn().Err(err).Msg("the outputs of a step's items can not be read; trying again")
			return
		}
		c.Output, c.Err = def.Gather(begun, outputs, err != nil)
		r.append(c)
	})
}
