package partition

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"turbocat.io/services/orchestrator/internal/engine"
)

// followUp names a task for which more is to be done than to send a message, once its cause is committed: a step whose items
// have ended, whose outputs are to be put together, or an execution whose own are; or an attempt that is another execution, which is to begin, and whose end is to be looked for.
type followUp struct {
	execution string
	engine.Place
}

type followUpState struct {
	seq uint64    // of the cause
	at  time.Time // when it was tried last
}

// toFollowUp notes a task of an execution.
func (r *run) toFollowUp(x *engine.Execution, p engine.Place, seq uint64) {
	r.followUps[followUp{x.ID, p}] = &followUpState{seq: seq}
}

// followUpAll does what is due, and forgets what has become needless.
func (r *run) followUpAll(ctx context.Context) {
	if r.catchingUp || len(r.followUps) == 0 {
		return
	}
	committed := r.committedSeq.Load()
	byTask := func(a, b followUp) int {
		return cmp.Or(cmp.Compare(a.execution, b.execution), cmp.Compare(a.Step, b.Step), cmp.Compare(a.Iteration, b.Iteration))
	}
	for _, f := range slices.SortedFunc(maps.Keys(r.followUps), byTask) {
		l, state := r.live[f.execution], r.followUps[f]
		again, do := time.Duration(0), (func(context.Context, *engine.Execution, engine.Place))(nil)
		switch {
		case l == nil:
		case f.Step == engine.Outputs:
			if l.x.Gathers(f.Step) {
				again, do = gatherAgain, r.gatherOutputs
			}
		case f.Iteration == 0 && l.x.Gathers(f.Step):
			again, do = gatherAgain, r.gather
		case awaitsChild(l.x.Task(f.Place)):
			again, do = lookAtChild, r.watchChild
		}
		if do == nil {
			delete(r.followUps, f)
		} else if state.seq <= committed && time.Since(state.at) > again {
			state.at = time.Now()
			do(ctx, l.x, f.Place)
		}
	}
}
