package schedule

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/services/orchestrator/internal/due"
	"turbocat.io/services/orchestrator/internal/execution"
)

const (
	// lease is how long a schedule is one orchestrator's to decide; who dies with it delays it by that.
	lease = 5 * time.Second
	// decideWithin ends an attempt to decide a time while its lease lasts.
	decideWithin = lease - time.Second
	// together is how many schedules a firer decides at once.
	together = 64
	// lookAgain is after how long a firer looks at the latest, and a schedule is looked at that waits: for the end of an execution, or for
	// what an accept needs.
	lookAgain = time.Second
)

// Firer fires what is due. Any number of them may run: each scheduled time is decided once.
type Firer struct {
	store    Store
	acceptor *execution.Acceptor
	log      zerolog.Logger
	times    *prometheus.CounterVec
}

// NewFirer makes a firer; it works while Run does.
func NewFirer(store Store, acceptor *execution.Acceptor, log zerolog.Logger, metrics prometheus.Registerer) *Firer {
	return &Firer{store: store, acceptor: acceptor, log: log, times: promauto.With(metrics).NewCounterVec(prometheus.CounterOpts{
		Name: "schedule_decisions_total", Help: "Scheduled times that this process fired, skipped (those in a row at once are one), or put off.",
	}, []string{"outcome"})}
}

// Run fires until ctx ends; what it has begun to decide then it does decide.
func (f *Firer) Run(ctx context.Context) error {
	due.Queue[Due]{
		Together: together, Every: lookAgain, Until: f.store.UntilNextLook, Work: f.decide,
		Claim:  func(ctx context.Context, n int) ([]Due, error) { return f.store.ClaimDue(ctx, lease, n) },
		Failed: func(err error) { f.log.Warn().Err(err).Msg("it is not known which schedules are due; looking again") },
	}.Run(ctx)
	return nil
}

// decide decides the next time of a schedule, if that can be now, and tells whether another is due already. Whatever happens here, the
// schedule is looked at again.
func (f *Firer) decide(ctx context.Context, d Due) (more bool) {
	ctx, cancel := context.WithTimeout(ctx, decideWithin)
	defer cancel()
	next, outcome, err := f.step(ctx, d)
	if err != nil {
		f.log.Warn().Err(err).Str("triggerId", d.ID).Time("scheduledFor", d.Place.Time).Msg("a scheduled time can not fire yet; trying again")
	}
	f.times.WithLabelValues(outcome).Inc()
	return outcome != outcomePostponed && !next.FireAt.IsZero() && !next.FireAt.After(d.Now)
}

const (
	outcomeFired     = "fired"
	outcomeSkipped   = "skipped"
	outcomePostponed = "postponed"
)

func (f *Firer) step(ctx context.Context, d Due) (next Place, outcome string, err error) {
	table, err := d.timetable()
	if err != nil { // after an update that knows its zone no more
		return d.Place, outcomePostponed, f.postpone(ctx, d, time.Minute, err)
	}
	if late := d.tooLate(table); late != nil {
		next = d.after(table, late.Until.Add(-time.Nanosecond))
		return next, outcomeSkipped, f.store.SkipTimes(ctx, d.Trigger, *late, next)
	}
	if early := d.Place.FireAt.Sub(d.Now); early > 0 { // the database's clock went back
		return d.Place, outcomePostponed, f.postpone(ctx, d, early, nil)
	}
	next = d.after(table, d.Place.Time)
	skip := Skip{Time: d.Place.Time, Until: until(table, d.Place.Time)}
	if d.Running != "" && d.Overlap != orchestrator.OverlapAllow {
		if d.Overlap == orchestrator.OverlapQueue {
			return d.Place, outcomePostponed, f.postpone(ctx, d, lookAgain, nil)
		}
		skip.Reason, skip.Message = orchestrator.SkipOverlap, fmt.Sprintf("the execution %s of this schedule had not ended", d.Running)
		return next, outcomeSkipped, f.store.SkipTimes(ctx, d.Trigger, skip, next)
	}
	caller := rpc.Caller{UserID: d.UserID, Role: rpc.RoleUser, RequestID: uuid.Must(uuid.NewV7()).String()}
	accepted, err := f.acceptor.Fire(ctx, caller, d.WorkflowID, d.Inputs, d.Priority, execution.Scheduled{
		TriggerID: d.ID, Revision: d.Revision, For: d.Place.Time, Next: next.Time, NextFireAt: next.FireAt,
	})
	switch {
	case err == nil && accepted.Obsolete: // somebody else has decided it, or it was changed
		return next, outcomePostponed, nil
	case err == nil:
		return next, outcomeFired, nil
	case execution.Refused(err):
		skip.Reason, skip.Message = orchestrator.SkipRefused, execution.ReasonOf(err)
		return next, outcomeSkipped, f.store.SkipTimes(ctx, d.Trigger, skip, next)
	}
	return d.Place, outcomePostponed, f.postpone(ctx, d, lookAgain, err)
}

// postpone has the schedule looked at again, and gives why.
func (f *Firer) postpone(ctx context.Context, d Due, wait time.Duration, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookAgain) // the time may be up
	defer cancel()
	if err := f.store.Postpone(ctx, d.Trigger, wait); err != nil && why == nil {
		return err // its lease ends by itself
	}
	return why
}
