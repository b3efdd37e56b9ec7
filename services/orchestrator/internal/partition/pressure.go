package partition

import (
	"time"

	"turbocat.io/contracts/errs"
)

// How full a stream is from which on it is an alarm, and from which on nothing more is accepted: what is accepted
// already needs the rest.
const (
	alarmedFrom = 0.7
	refusedFrom = 0.8
)

const (
	behindAgain = 2 * time.Second
	fullAgain   = 10 * time.Second
)

// fillOf is how full the streams are that must not drop anything.
type fillOf struct{ log, steps float64 }

// Pressed tells why this process takes no more executions in, as DEPENDENCY_UNAVAILABLE; nil while it does.
func (o *Owner) Pressed() error {
	full := o.full.Load()
	switch {
	case full != nil && full.log >= refusedFrom:
		return errs.New(errs.DependencyUnavailable, "the input log is nearly full; try again shortly").Again(fullAgain)
	case full != nil && full.steps >= refusedFrom:
		return errs.New(errs.DependencyUnavailable, "the queue of ready steps is nearly full; try again shortly").Again(fullAgain)
	}
	if w := o.writer.Load(); w != nil && w.behind() {
		return errs.New(errs.DependencyUnavailable, "the orchestrator is behind with committing; try again shortly").Again(behindAgain)
	}
	return nil
}

// watchFill notes how full the streams are, and says so when it is an alarm.
func (o *Owner) watchFill(now Streams) {
	before := o.full.Swap(&fillOf{now.LogFill, now.StepsFill})
	for _, s := range []struct {
		name        string
		before, now float64
	}{{"EXECUTION_INPUT", before.log, now.LogFill}, {"STEPS", before.steps, now.StepsFill}} {
		if s.now >= alarmedFrom && s.before < alarmedFrom {
			o.log.Warn().Str("stream", s.name).Float64("fill", s.now).Msg("the stream fills up; from 0.8 on no executions are accepted until there is room")
		}
	}
}
