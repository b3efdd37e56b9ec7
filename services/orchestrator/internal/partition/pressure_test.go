package partition

import (
	"testing"
	"time"

	"github.com/rs/zerolog"

	"turbocat.io/contracts/errs"
)

func TestPressed(t *testing.T) {
	at := func(log, steps float64) *Owner {
		o := NewOwner("o", nil, nil, zerolog.Nop())
		o.watchFill(Streams{LogFill: log, StepsFill: steps})
		return o
	}
	with := func(count, bytes int, oldest time.Duration) *Owner {
		o := at(0, 0)
		w := newWriter(nil, zerolog.Nop(), newMetrics(nil))
		w.count, w.bytes, w.oldest = count, bytes, time.Now().Add(-oldest)
		o.writer.Store(w)
		return o
	}
	for name, c := range map[string]struct {
		owner *Owner
		wait  int64 // ms; 0: it is not pressed
	}{
		"begins":                  {NewOwner("o", nil, nil, zerolog.Nop()), 0},
		"room in the streams":     {at(0.79, 0.79), 0},
		"the log is full":         {at(0.8, 0), 10_000},
		"STEPS is full":           {at(0, 0.8), 10_000},
		"little to commit":        {with(maxUncommitted-1, maxUncommittedBytes-1, maxUncommittedAge-time.Second), 0},
		"many inputs to commit":   {with(maxUncommitted, 0, 0), 2000},
		"large inputs to commit":  {with(1, maxUncommittedBytes, 0), 2000},
		"an old input to commit":  {with(1, 0, maxUncommittedAge), 2000},
		"nothing, and it was old": {with(0, 0, maxUncommittedAge), 0},
	} {
		err := c.owner.Pressed()
		if c.wait == 0 && err != nil || c.wait > 0 && (errs.CodeOf(err) != errs.DependencyUnavailable || errs.From(err).RetryAfterMs != c.wait) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
