package workflow

import (
	"context"
	"encoding/json"
	"reflect"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/services/catalog/internal/access"
)

// Store keeps workflows and their versions. An id that is not there, deleted or no UUID is NOT_FOUND.
type Store interface {
	// Insert saves a new workflow; CONFLICT when the id is taken, also by a deleted one.
	Insert(ctx context.Context, w catalog.Workflow) error
	Find(ctx context.Context, id string) (catalog.Workflow, error)
	// Update saves what change makes of the workflow's newest state, and its version when that
	// is new. change may run several times; no connection is held while it runs.
	Update(ctx context.Context, id string, change func(catalog.Workflow) (catalog.Workflow, error)) (catalog.Workflow, error)
	// Delete hides the workflow for ever. An owner other than "" must be its own.
	Delete(ctx context.Context, id, owner string, at time.Time) error
	// List reads a page of the workflows of owner, of all users when it is "", without their steps.
	List(ctx context.Context, owner string, q catalog.ListRequest) (rpc.List[catalog.Workflow], error)
	// Versions reads a page of the versions of a workflow that is there, newest first, without their steps; Version one of them. What no version
	// has is empty.
	Versions(ctx context.Context, id string, page rpc.Page) (rpc.List[catalog.Workflow], error)
	Version(ctx context.Context, id string, version int) (catalog.Workflow, error)
	// NoteSchedules keeps states of workflows that are newer than what is known of theirs.
	NoteSchedules(ctx context.Context, states []catalog.ScheduleState) error
	// Standing reads, at one moment, how a workflow and agents stand. Those that are not there are left out.
	Standing(ctx context.Context, id string, agentIDs []string) (w *Standing, agents map[string]Standing, err error)
}

// Standing is what of a workflow or an agent may change from one of its versions to the next.
type Standing struct {
	UserID   string
	IsPublic bool
	Status   string
	Version  int
}

// AgentFinder finds agents by id. Those that are not there are left out.
type AgentFinder interface {
	FindAll(ctx context.Context, ids []string) ([]catalog.Agent, error)
}

// Workflows answers what callers ask about workflows. It is safe for concurrent use.
type Workflows struct {
	store  Store
	agents AgentFinder
	now    func() time.Time
}

// NewWorkflows makes Workflows over a store.
func NewWorkflows(store Store, agents AgentFinder, now func() time.Time) *Workflows {
	return &Workflows{store: store, agents: agents, now: now}
}

// Create saves a new workflow of the caller with its steps.
func (s *Workflows) Create(ctx context.Context, caller rpc.Caller, req catalog.CreateRequest) (catalog.Workflow, error) {
	id, err := access.NewID(caller, req.ID)
	if err != nil {
		return catalog.Workflow{}, err
	}
	w, err := s.finish(ctx, New(req.Body), visibleTo(caller))
	if err != nil {
		return catalog.Workflow{}, err
	}
	w.ID, w.UserID, w.CreatedAt = id, caller.UserID, s.time()
	w.UpdatedAt = w.CreatedAt
	return w, s.store.Insert(ctx, w)
}

// finish completes a draft with the agents that are usable by whose they are and whether they are public.
func (s *Workflows) finish(ctx context.Context, d *Draft, usable func(owner string, public bool) bool) (catalog.Workflow, error) {
	agents, err := s.agents.FindAll(ctx, d.AgentIDs())
	if err != nil {
		return catalog.Workflow{}, err
	}
	exists, workflows := map[string]bool{}, map[string]bool{}
	for _, a := range agents {
		exists[a.ID], workflows[a.ID] = usable(a.UserID, a.IsPublic), a.Type == catalog.AgentWorkflow
	}
	d.KeepSecrets(func(id string) bool { return workflows[id] })
	return d.Finish(func(id string) bool { return exists[id] })
}

// Get reads one workflow that the caller may see, with its steps.
func (s *Workflows) Get(ctx context.Context, caller rpc.Caller, req catalog.IDRequest) (catalog.Workflow, error) {
	w, err := s.store.Find(ctx, req.ID)
	if err != nil {
		return catalog.Workflow{}, err
	}
	if !access.CanSee(caller, w.UserID, w.IsPublic) {
		return catalog.Workflow{}, access.NotFound("workflow", req.ID)
	}
	return w, nil
}

// List reads a page of the caller's workflows; of everybody's public ones when those are asked for.
func (s *Workflows) List(ctx context.Context, caller rpc.Caller, req catalog.ListRequest) (rpc.List[catalog.Workflow], error) {
	owner, err := access.ListOwner(caller, req.IsPublic)
	if err != nil {
		return rpc.List[catalog.Workflow]{}, err
	}
	return s.store.List(ctx, owner, req)
}

// NoteSchedules keeps what the orchestrator tells of schedules. System callers only.
func (s *Workflows) NoteSchedules(ctx context.Context, caller rpc.Caller, req catalog.ScheduleStates) (rpc.Empty, error) {
	if caller.UserID != "" || !caller.IsAdmin() {
		return rpc.Empty{}, errs.New(errs.Forbidden, "only the orchestrator tells this; make, change or delete a trigger of the workflow instead")
	}
	return rpc.Empty{}, s.store.NoteSchedules(ctx, req.States)
}

// Patch changes a workflow of the caller; see Patch.
func (s *Workflows) Patch(ctx context.Context, caller rpc.Caller, req catalog.PatchRequest) (catalog.Workflow, error) {
	return s.store.Update(ctx, req.ID, func(current catalog.Workflow) (catalog.Workflow, error) {
		if err := access.Change(caller, "workflow", req.ID, current.UserID, current.Version, req.IfMatch); err != nil {
			return current, err
		}
		next, err := s.finish(ctx, Patch(current, req.Body), visibleTo(caller))
		if err != nil {
			return current, err
		}
		if !reflect.DeepEqual(next, current) {
			next.UpdatedAt = s.time()
		}
		return next, nil
	})
}

// Delete hides a workflow of the caller for ever; its running executions are not touched.
func (s *Workflows) Delete(ctx context.Context, caller rpc.Caller, req catalog.IDRequest) (rpc.Empty, error) {
	owner, err := access.ChangeOwner(caller, "workflow", req.ID)
	if err != nil {
		return rpc.Empty{}, err
	}
	return rpc.Empty{}, s.store.Delete(ctx, req.ID, owner, s.time())
}

// Resolve freezes a workflow that the caller may see into what an execution runs.
func (s *Workflows) Resolve(ctx context.Context, caller rpc.Caller, req catalog.ResolveRequest) (catalog.Resolution, error) {
	if req.Agent {
		d, err := s.resolveAgent(ctx, caller, req.ID)
		return catalog.Resolution{Definition: d}, err
	}
	if req.Known != nil {
		unchanged, err := s.unchanged(ctx, caller, req.ID, *req.Known)
		if err != nil || unchanged {
			return catalog.Resolution{Unchanged: unchanged}, err
		}
	}
	w, err := s.Get(ctx, caller, catalog.IDRequest{ID: req.ID})
	if err != nil {
		return catalog.Resolution{}, err
	}
	d, err := s.define(ctx, caller, w)
	return catalog.Resolution{Definition: d}, err
}

// define freezes a workflow with those of its agents that may stand in it.
func (s *Workflows) define(ctx context.Context, caller rpc.Caller, w catalog.Workflow) (catalog.Definition, error) {
	found, err := s.agents.FindAll(ctx, AgentIDs(w.Steps))
	if err != nil {
		return catalog.Definition{}, err
	}
	agents := map[string]catalog.Agent{}
	for _, a := range found {
		if usable(caller, a.UserID, a.IsPublic, w.UserID) {
			agents[a.ID] = a
		}
	}
	return Define(w, agents)
}

// visibleTo tells of agents whether the caller may see them.
func visibleTo(caller rpc.Caller) func(owner string, public bool) bool {
	return func(owner string, public bool) bool { return access.CanSee(caller, owner, public) }
}

// resolveAgent makes the definition of one step that runs an agent which the caller may see. It is the caller's own.
func (s *Workflows) resolveAgent(ctx context.Context, caller rpc.Caller, id string) (catalog.Definition, error) {
	if !canonicalUUID(id) {
		return catalog.Definition{}, access.NotFound("agent", id)
	}
	found, err := s.agents.FindAll(ctx, []string{id})
	if err != nil {
		return catalog.Definition{}, err
	}
	if len(found) == 0 || !access.CanSee(caller, found[0].UserID, found[0].IsPublic) {
		return catalog.Definition{}, access.NotFound("agent", id)
	}
	a := found[0]
	a.Status = catalog.StatusActive // a draft is what is tested most
	step := newStep(0)
	step.StepKey, step.StepType, step.AgentID = catalog.TestStep, catalog.StepAgent, &a.ID
	step.Inputs, step.TimeoutMs = json.RawMessage(`"{{inputs}}"`), max(step.TimeoutMs, timeoutMs(a.Config))
	return Define(catalog.Workflow{
		ID: a.ID, UserID: caller.UserID, Name: a.Name, Status: catalog.StatusActive, Outputs: json.RawMessage(`"{{` + catalog.TestStep + `.output}}"`),
		TimeoutMs: maxTimeoutMs, Priority: defaultPriority, Steps: []catalog.Step{step},
	}, map[string]catalog.Agent{a.ID: a})
}

// usable tells whether an agent may stand in the workflow of owner that the caller executes.
func usable(caller rpc.Caller, agentOwner string, public bool, owner string) bool {
	return caller.IsAdmin() || public || agentOwner == owner
}

// unchanged tells whether resolving a workflow would give the definition that is known: the versions in it are
// the newest, which never change themselves, and nothing else is in the way.
func (s *Workflows) unchanged(ctx context.Context, caller rpc.Caller, id string, known catalog.Versions) (bool, error) {
	ids := make([]string, len(known.Agents))
	for i, a := range known.Agents {
		ids[i] = a.ID
	}
	w, agents, err := s.store.Standing(ctx, id, ids)
	if err != nil || w == nil || !access.CanSee(caller, w.UserID, w.IsPublic) || w.Status != catalog.StatusActive || w.Version != known.Workflow {
		return false, err
	}
	for _, k := range known.Agents {
		a, found := agents[k.ID]
		if !found || !usable(caller, a.UserID, a.IsPublic, w.UserID) || a.Status != catalog.StatusActive || a.Version != k.Version {
			return false, nil
		}
	}
	return true, nil
}

// time is now as the database keeps it.
func (s *Workflows) time() time.Time { return s.now().UTC().Truncate(time.Microsecond) }
