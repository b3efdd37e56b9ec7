package schedule

import (
	"context"
	"time"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/services/orchestrator/internal/trigger"
)

// TypeNoted is the type of messages of the outbox that tell the catalog a catalog.ScheduleState.
const TypeNoted = "io.turbocat.schedule.noted.v1"

// Store keeps schedules beside trigger.Store. In the transaction of a change that has the catalog told whether a schedule of the workflow is on.
type Store interface {
	// Clock gives the database's clock.
	Clock(ctx context.Context) (time.Time, error)
	// Skips reads a page of a trigger's skips.
	Skips(ctx context.Context, req orchestrator.ListSkipsRequest) ([]Skip, rpc.Pagination, error)

	// ClaimDue gives schedules to look at now, at most n, which nobody else is given before the lease is over.
	ClaimDue(ctx context.Context, lease time.Duration, n int) ([]Due, error)
	// UntilNextLook tells after how long a schedule is to be looked at, at most the given time.
	UntilNextLook(ctx context.Context, most time.Duration) (time.Duration, error)
	// SkipTimes records a skip, and moves the schedule on behind it. One that is not as it was when it was claimed stays as it is.
	SkipTimes(ctx context.Context, t Trigger, skip Skip, next Place) error
	// Postpone has a schedule looked at again after a time. One that is not as it was when it was claimed stays as it is.
	Postpone(ctx context.Context, t Trigger, wait time.Duration) error
}

// Due is a schedule that is to be looked at.
type Due struct {
	Trigger
	Running string // an execution of it that has not ended; "" for none
}

// Schedules answers what callers ask about schedules beyond what they ask about all triggers. It is safe for concurrent use.
type Schedules struct {
	store    Store
	triggers *trigger.Triggers
}

// NewSchedules makes Schedules over a store.
func NewSchedules(store Store, triggers *trigger.Triggers) *Schedules {
	return &Schedules{store, triggers}
}

// Preview tells when a schedule that is not saved would be due next.
func (s *Schedules) Preview(ctx context.Context, caller rpc.Caller, req orchestrator.NewTriggerRequest) (orchestrator.SchedulePreview, error) {
	if _, err := s.triggers.Workflow(ctx, caller, req.WorkflowID); err != nil {
		return orchestrator.SchedulePreview{}, err
	}
	table, err := newPreview(req.Body)
	if err != nil {
		return orchestrator.SchedulePreview{}, err
	}
	now, err := s.store.Clock(ctx)
	if err != nil {
		return orchestrator.SchedulePreview{}, err
	}
	return orchestrator.SchedulePreview{NextFireTimes: table.Upcoming(now.Add(time.Nanosecond), orchestrator.NextFireTimes)}, nil
}

// Skips reads a page of the skips of a trigger, newest first.
func (s *Schedules) Skips(ctx context.Context, caller rpc.Caller, req orchestrator.ListSkipsRequest) (rpc.List[orchestrator.Skip], error) {
	if _, err := s.triggers.Find(ctx, caller, req.WorkflowID, req.ID); err != nil {
		return rpc.List[orchestrator.Skip]{}, err
	}
	found, pagination, err := s.store.Skips(ctx, req)
	if err != nil {
		return rpc.List[orchestrator.Skip]{}, err
	}
	items := make([]orchestrator.Skip, len(found))
	for i, skip := range found {
		items[i] = orchestrator.Skip{ScheduledFor: skip.Time, Until: skip.Until, Reason: skip.Reason, Message: skip.Message, CreatedAt: skip.CreatedAt}
	}
	return rpc.List[orchestrator.Skip]{Items: items, Pagination: pagination}, nil
}

// View implements trigger.Trigger.
func (t *Trigger) View() orchestrator.Trigger {
	out, jitter := t.Base.View(), t.Jitter.Milliseconds()
	out.Cron, out.TimeZone, out.Overlap, out.CatchUpWindowMs, out.JitterMs = t.Cron, t.TimeZone, t.Overlap, t.CatchUpWindow.Milliseconds(), &jitter
	out.NextFireTimes = t.upcoming(orchestrator.NextFireTimes)
	if !t.Last.IsZero() {
		out.LastFiredAt = &t.Last
	}
	return out
}
