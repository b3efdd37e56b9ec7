// Package trigger keeps what starts executions of a workflow by itself. What a trigger is beyond what all have in common is its Kind's to say.
package trigger

import (
	"context"
	"encoding/json"
	"reflect"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
)

// MaxPerWorkflow is how many triggers a workflow has at most.
const MaxPerWorkflow = 100

// Base is what all triggers have.
type Base struct {
	ID, WorkflowID, WorkflowOwner string
	UserID                        string // as whom its executions run
	Type, Name                    string
	Enabled                       bool
	Inputs                        []byte
	Priority                      *int
	CreatedAt, UpdatedAt          time.Time
	Now                           time.Time // the database's clock when this was read
}

// Common gives what all triggers have.
func (b *Base) Common() *Base { return b }

// View is what all triggers show.
func (b *Base) View() orchestrator.Trigger {
	return orchestrator.Trigger{
		ID: b.ID, WorkflowID: b.WorkflowID, UserID: b.UserID, Type: b.Type, Name: b.Name, Enabled: b.Enabled,
		Inputs: b.Inputs, Priority: b.Priority, CreatedAt: b.CreatedAt, UpdatedAt: b.UpdatedAt,
	}
}

// CommonFields are the fields of a body that Read reads, and those that an answer has beside them, which may be sent back.
var CommonFields = []string{"type", "name", "enabled", "priority", "id", "workflowId", "userId", "createdAt", "updatedAt", "lastFiredAt"}

const maxName = 200

// Read reads the fields that all triggers have, but for the inputs.
func (b *Base) Read(o form.Object) {
	o.String("name", &b.Name, "", 1, maxName)
	o.Bool("enabled", &b.Enabled, true)
	o.Enum("type", new(string), "", b.Type)
	if o.IsNull("priority") && o.Has("priority") {
		b.Priority = nil
	}
	priority := int64(-1)
	if o.Int("priority", &priority, -1, 0, 9); priority >= 0 {
		p := int(priority)
		b.Priority = &p
	}
}

// Trigger is one of a type.
type Trigger interface {
	Common() *Base
	View() orchestrator.Trigger
}

// Kind is a type of triggers.
type Kind interface {
	// New makes of a body the rest of a trigger that is named and owned already, and its secret if it has one.
	New(ctx context.Context, b Base, body json.RawMessage) (t Trigger, secret string, err error)
	// Patched gives what a body makes of a trigger of the type, which stays as it is.
	Patched(ctx context.Context, was Trigger, body json.RawMessage) (Trigger, error)
}

// Store keeps triggers. An id that is not there or no UUID is NOT_FOUND.
type Store interface {
	// Clock gives the database's clock.
	Clock(ctx context.Context) (time.Time, error)
	// AddTrigger saves a new trigger; CONFLICT when its workflow has most already.
	AddTrigger(ctx context.Context, t Trigger, most int) error
	Trigger(ctx context.Context, id string) (Trigger, error)
	// Triggers reads a page of a workflow's triggers.
	Triggers(ctx context.Context, req orchestrator.ListTriggersRequest) ([]Trigger, rpc.Pagination, error)
	// ChangeTrigger saves what change makes of a trigger. While change runs nobody else changes it, or decides a time of it.
	ChangeTrigger(ctx context.Context, id string, change func(Trigger) (Trigger, error)) (Trigger, error)
	RemoveTrigger(ctx context.Context, id string) error
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
	kinds   map[string]Kind
}

// New makes Triggers of some types over a store.
func New(store Store, catalog Catalog, kinds map[string]Kind) *Triggers {
	return &Triggers{store, catalog, kinds}
}

// Workflow reads a workflow whose triggers the caller may change.
func (s *Triggers) Workflow(ctx context.Context, caller rpc.Caller, id string) (catalog.Workflow, error) {
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
func (s *Triggers) Create(ctx context.Context, caller rpc.Caller, req orchestrator.NewTriggerRequest) (orchestrator.IssuedTrigger, error) {
	var none orchestrator.IssuedTrigger
	w, err := s.Workflow(ctx, caller, req.WorkflowID)
	if err != nil {
		return none, err
	}
	if caller.UserID == "" {
		return none, errs.New(errs.Unauthorized, "sign in as the user as whom it is to run")
	}
	now, err := s.store.Clock(ctx)
	if err != nil {
		return none, err
	}
	b := Base{
		ID: uuid.Must(uuid.NewV7()).String(), WorkflowID: w.ID, WorkflowOwner: w.UserID, UserID: caller.UserID,
		Enabled: true, CreatedAt: now, UpdatedAt: now, Now: now,
	}
	kind, err := s.kindOf(req.Body, &b)
	if err != nil {
		return none, err
	}
	t, secret, err := kind.New(ctx, b, req.Body)
	if err != nil {
		return none, err
	}
	if caller.UserID != w.UserID && !w.IsPublic {
		return none, errs.New(errs.Forbidden, "a trigger runs as the user who makes it, who could not run this workflow without being ADMIN; have its owner make it, or make the workflow public")
	}
	if err := s.store.AddTrigger(ctx, t, MaxPerWorkflow); err != nil {
		return none, err
	}
	return orchestrator.IssuedTrigger{Trigger: t.View(), Secret: secret}, nil
}

// kindOf reads which type a body wants. Without a type the other faults of a SCHEDULE are told, too.
func (s *Triggers) kindOf(body json.RawMessage, b *Base) (Kind, error) {
	b.Type = orchestrator.TriggerTypeSchedule
	var ignored form.Faults
	if o, ok := form.Read(body, &ignored); ok {
		if given := o.Text("type"); s.kinds[given] != nil {
			b.Type = given
		} else if given != "" {
			var faults form.Faults
			faults.Add("type", errs.BadEnum, "is %s; give one of %s, %s, %s", form.Quote(given), orchestrator.TriggerTypeSchedule, orchestrator.TriggerTypeWebhook, orchestrator.TriggerTypeEvent)
			return nil, faults.Err("trigger")
		}
	}
	return s.kinds[b.Type], nil
}

// visible is nil when the caller may read and change a trigger.
func visible(caller rpc.Caller, b *Base, workflowID string) error {
	if !mayChange(caller, b.WorkflowOwner) || b.WorkflowID != workflowID {
		return errs.New(errs.NotFound, "trigger not found")
	}
	return nil
}

// Find reads a trigger that the caller may see.
func (s *Triggers) Find(ctx context.Context, caller rpc.Caller, workflowID, id string) (Trigger, error) {
	t, err := s.store.Trigger(ctx, id)
	if err != nil {
		return nil, err
	}
	return t, visible(caller, t.Common(), workflowID)
}

// Get reads one trigger.
func (s *Triggers) Get(ctx context.Context, caller rpc.Caller, req orchestrator.TriggerRequest) (orchestrator.Trigger, error) {
	t, err := s.Find(ctx, caller, req.WorkflowID, req.ID)
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
	if len(found) == 0 || !mayChange(caller, found[0].Common().WorkflowOwner) {
		if _, err := s.Workflow(ctx, caller, req.WorkflowID); err != nil {
			return rpc.List[orchestrator.Trigger]{}, err
		}
	}
	items := make([]orchestrator.Trigger, len(found))
	for i, t := range found {
		items[i] = t.View()
	}
	return rpc.List[orchestrator.Trigger]{Items: items, Pagination: pagination}, nil
}

// Patch changes a trigger.
func (s *Triggers) Patch(ctx context.Context, caller rpc.Caller, req orchestrator.PatchTriggerRequest) (orchestrator.Trigger, error) {
	t, err := s.Change(ctx, caller, req.WorkflowID, req.ID, func(was Trigger) (Trigger, error) {
		return s.kinds[was.Common().Type].Patched(ctx, was, req.Body)
	})
	if err != nil {
		return orchestrator.Trigger{}, err
	}
	return t.View(), nil
}

// Change saves what change makes of a trigger that the caller may change; it stays as it is when that is the same.
func (s *Triggers) Change(ctx context.Context, caller rpc.Caller, workflowID, id string, change func(was Trigger) (Trigger, error)) (Trigger, error) {
	return s.store.ChangeTrigger(ctx, id, func(was Trigger) (Trigger, error) {
		b := was.Common()
		if err := visible(caller, b, workflowID); err != nil {
			return was, err
		}
		t, err := change(was)
		if err != nil || reflect.DeepEqual(t, was) {
			return was, err
		}
		t.Common().UpdatedAt = b.Now
		return t, nil
	})
}

// Delete removes a trigger and what it has recorded; its executions stay.
func (s *Triggers) Delete(ctx context.Context, caller rpc.Caller, req orchestrator.TriggerRequest) (rpc.Empty, error) {
	if _, err := s.Find(ctx, caller, req.WorkflowID, req.ID); err != nil {
		return rpc.Empty{}, err
	}
	return rpc.Empty{}, s.store.RemoveTrigger(ctx, req.ID)
}
