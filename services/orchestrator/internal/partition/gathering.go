package partition

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

// gatherAgain is after how long the outputs of a step's items are gathered again when nothing came of it.
const gatherAgain = 5 * time.Second

// gathering names a step whose items have ended, and whose outputs are to be put together.
type gathering struct {
	execution string
	step      int
}

type gatherState struct {
	seq uint64    // of the input that ended the last item: what is committed up to there has all outputs
	at  time.Time // when it was tried last
}

// gatherAll has the outputs put together of all steps whose items are committed. Nothing of it is in memory but while it
// is read and on its way into the log, however many items there are.
func (r *run) gatherAll(ctx context.Context) {
	if r.catchingUp || len(r.gathers) == 0 {
		return
	}
	committed := r.committedSeq.Load()
	var due []gathering
	for g, state := range r.gathers {
		l := r.live[g.execution]
		switch {
		case l == nil || !l.x.Gathers(g.step):
			delete(r.gathers, g)
		case state.seq <= committed && time.Since(state.at) > gatherAgain:
			state.at = time.Now()
			due = append(due, g)
		}
	}
	slices.SortFunc(due, func(a, b gathering) int { return strings.Compare(a.execution, b.execution) })
	for _, g := range due {
		r.gather(ctx, r.live[g.execution].x, g.step)
	}
}

func (r *run) gather(ctx context.Context, x *engine.Execution, step int) {
	def, begun := &x.Definition.Steps[step], x.Steps[step].Begun
	c := Control{P: r.position.P, Kind: engine.Gathered, ExecutionID: x.ID, Step: def.Key}
	log := r.log.With().EmbedObject(about(x)).Str("stepKey", def.Key).Logger()
	r.background.Go(func() {
		outputs, err := r.ledger.ItemOutputs(ctx, c.ExecutionID, step, runner.MaxOutput)
		if err != nil && !errors.Is(err, ErrTooLarge) {
			log.Warn().Err(err).Msg("the outputs of a step's items can not be read; trying again")
			return
		}
		c.Output, c.Err = def.Gather(begun, outputs, err != nil)
		r.append(c)
	})
}
