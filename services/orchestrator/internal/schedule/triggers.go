package schedule

import (
	"context"
	"reflect"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
)

// MaxTriggers is how many triggers a workflow has at most.
const MaxTriggers = 100

// TypeNoted is the type of messages of the outbox that tell the catalog a catalog.ScheduleState.
const TypeNoted = "io.turbocat.schedule.noted.v1"

// Store keeps triggers. In the transaction of a change it has the catalog told whether a schedule of the workflow is on. An id that is not there or no UUID is NOT_FOUND.
type Store interface {
	// Clock gives the database's clock.
	Clock(ctx context.Context) (time.Time, error)
	// AddTrigger saves a new trigger; CONFLICT when its workflow has most already.
	AddTrigger(ctx context.Context, t Trigger, most int) error
	Trigger(ctx context.Context, id string) (Trigger, error)
	// Triggers reads a page of a workflow's triggers.
	Triggers(ctx context.Context, req orchestrator.ListTriggersRequest) ([]Trigger, rpc.Pagination, error)
	// ChangeTrigger saves what change makes of a trigger, as a new revision, and a skip that follows from that. While change runs
	// nobody else decides a time of it.
	ChangeTrigger(ctx context.Context, id string, change func(Trigger) (Trigger, *Skip, error)) (Trigger, error)
	RemoveTrigger(ctx context.Context, id string) error
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

// Catalog knows workflows.
type Catalog interface {
	// Workflow reads a workflow that the caller may see; see catalog.GetWorkflow.
	Workflow(ctx context.Context, caller rpc.Caller, id string) (catalog.Workflow, error)
}

// Triggers answers what callers ask about triggers. Who owns a workflow, and ADMIN, may do everything with its triggers; for
// everybody else there are none. It is safe for concurrent use.
type Triggers struct {
	store   Store
	catalog Catalog
}

// NewTriggers makes Triggers over a store.
func NewTriggers(store Store, catalog Catalog) *Triggers { return &Triggers{store, catalog} }

// workflow reads a workflow whose triggers the caller may change.
func (s *Triggers) workflow(ctx context.Context, caller rpc.Caller, id string) (catalog.Workflow, error) {
	w, err := s.catalog.Workflow(ctx, caller, id)
	if err == nil && !mayChange(caller, w.UserID) {
		err = errs.New(errs.NotFound, "there is no workflow %q of yours", id)
	}
	return w, err
}

func mayChange(caller rpc.Caller, owner string) bool {
	return caller.IsAdmin() || caller.UserID != "" && caller.UserID == owner
}

// Create saves a new trigger. Its executions run as the caller.
func (s *Triggers) Create(ctx context.Context, caller rpc.Caller, req orchestrator.NewTriggerRequest) (orchestrator.Trigger, error) {
	w, err := s.workflow(ctx, caller, req.WorkflowID)
	if err != nil {
		return orchestrator.Trigger{}, err
	}
	if caller.UserID == "" {
		return orchestrator.Trigger{}, errs.New(errs.Unauthorized, "sign in as the user as whom it is to run")
	}
	t, err := newTrigger(req.Body)
	if err != nil {
		return orchestrator.Trigger{}, err
	}
	if caller.UserID != w.UserID && !w.IsPublic {
		return orchestrator.Trigger{}, errs.New(errs.Forbidden, "a trigger runs as the user who makes it, who could not run this workflow without being ADMIN; have its owner make it, or make the workflow public")
	}
	now, err := s.store.Clock(ctx)
	if err != nil {
		return orchestrator.Trigger{}, err
	}
	table, err := t.timetable()
	if err != nil {
		return orchestrator.Trigger{}, err
	}
	t.ID, t.WorkflowID, t.WorkflowOwner, t.UserID = uuid.Must(uuid.NewV7()).String(), w.ID, w.UserID, caller.UserID
	t = t.begun(table, now)
	t.Now = now
	if err := s.store.AddTrigger(ctx, t, MaxTriggers); err != nil {
		return orchestrator.Trigger{}, err
	}
	return t.View(), nil
}

// visible is nil when the caller may read and change a trigger.
func visible(caller rpc.Caller, t Trigger, workflowID string) error {
	if !mayChange(caller, t.WorkflowOwner) || t.WorkflowID != workflowID {
		return errs.New(errs.NotFound, "trigger not found")
	}
	return nil
}

func (s *Triggers) find(ctx context.Context, caller rpc.Caller, workflowID, id string) (Trigger, error) {
	t, err := s.store.Trigger(ctx, id)
	if err != nil {
		return t, err
	}
	return t, visible(caller, t, workflowID)
}

// Get reads one trigger.
func (s *Triggers) Get(ctx context.Context, caller rpc.Caller, req orchestrator.TriggerRequest) (orchestrator.Trigger, error) {
	t, err := s.find(ctx, caller, req.WorkflowID, req.ID)
	if err != nil {
		return orchestrator.Trigger{}, err
	}
	return t.View(), nil
}

// List reads a page of the triggers of a workflow, also of one that is deleted by now.
func (s *Triggers) List(ctx context.Context, caller rpc.Caller, req orchestrator.ListTriggersRequest) (rpc.List[orchestrator.Trigger], error) {
	found, pagination, err := s.store.Triggers(ctx, req)
	if err != nil {
		return rpc.List[orchestrator.Trigger]{}, err
	}
	if len(found) == 0 || !mayChange(caller, found[0].WorkflowOwner) {
		if _, err := s.workflow(ctx, caller, req.WorkflowID); err != nil {
			return rpc.List[orchestrator.Trigger]{}, err
		}
	}
	items := make([]orchestrator.Trigger, len(found))
	for i, t := range found {
		items[i] = t.View()
	}
	return rpc.List[orchestrator.Trigger]{Items: items, Pagination: pagination}, nil
}

// Patch changes a trigger. It fires no time at or before its last fired one after that.
func (s *Triggers) Patch(ctx context.Context, caller rpc.Caller, req orchestrator.PatchTriggerRequest) (orchestrator.Trigger, error) {
	t, err := s.store.ChangeTrigger(ctx, req.ID, func(was Trigger) (Trigger, *Skip, error) {
		if err := visible(caller, was, req.WorkflowID); err != nil {
			return was, nil, err
		}
		t, err := was.patched(req.Body)
		if err != nil || reflect.DeepEqual(t, was) {
			return was, nil, err
		}
		t.UpdatedAt = was.Now
		return t.changed(was)
	})
	if err != nil {
		return orchestrator.Trigger{}, err
	}
	return t.View(), nil
}

// Delete removes a trigger and its skips; its executions stay.
func (s *Triggers) Delete(ctx context.Context, caller rpc.Caller, req orchestrator.TriggerRequest) (rpc.Empty, error) {
	if _, err := s.find(ctx, caller, req.WorkflowID, req.ID); err != nil {
		return rpc.Empty{}, err
	}
	return rpc.Empty{}, s.store.RemoveTrigger(ctx, req.ID)
}

// Preview tells when a schedule that is not saved would be due next.
func (s *Triggers) Preview(ctx context.Context, caller rpc.Caller, req orchestrator.NewTriggerRequest) (orchestrator.SchedulePreview, error) {
	if _, err := s.workflow(ctx, caller, req.WorkflowID); err != nil {
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
func (s *Triggers) Skips(ctx context.Context, caller rpc.Caller, req orchestrator.ListSkipsRequest) (rpc.List[orchestrator.Skip], error) {
	if _, err := s.find(ctx, caller, req.WorkflowID, req.ID); err != nil {
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

// View is the trigger as it is answered.
func (t Trigger) View() orchestrator.Trigger {
	out := orchestrator.Trigger{
		ID: t.ID, WorkflowID: t.WorkflowID, UserID: t.UserID, Type: orchestrator.TriggerTypeSchedule, Name: t.Name, Enabled: t.Enabled,
		Inputs: t.Inputs, Priority: t.Priority, CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt, Cron: t.Cron, TimeZone: t.TimeZone, Overlap: t.Overlap,
		CatchUpWindowMs: t.CatchUpWindow.Milliseconds(), JitterMs: t.Jitter.Milliseconds(), NextFireTimes: t.upcoming(orchestrator.NextFireTimes),
	}
	if !t.Last.IsZero() {
		out.LastFiredAt = &t.Last
	}
	return out
}
