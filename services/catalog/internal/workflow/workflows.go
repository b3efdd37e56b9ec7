package workflow

import (
	"context"
	"reflect"
	"time"

	"turbocat.io/contracts/catalog"
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
	w, err := s.finish(ctx, caller, New(req.Body))
	if err != nil {
		return catalog.Workflow{}, err
	}
	w.ID, w.UserID, w.CreatedAt = id, caller.UserID, s.time()
	w.UpdatedAt = w.CreatedAt
	return w, s.store.Insert(ctx, w)
}

// finish completes a draft with the agents that the caller may use.
func (s *Workflows) finish(ctx context.Context, caller rpc.Caller, d *Draft) (catalog.Workflow, error) {
	agents, err := s.agents.FindAll(ctx, d.AgentIDs())
	if err != nil {
		return catalog.Workflow{}, err
	}
	usable := map[string]bool{}
	for _, a := range agents {
		usable[a.ID] = access.CanSee(caller, a.UserID, a.IsPublic)
	}
	return d.Finish(func(id string) bool { return usable[id] })
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

// Patch changes a workflow of the caller; see Patch.
func (s *Workflows) Patch(ctx context.Context, caller rpc.Caller, req catalog.PatchRequest) (catalog.Workflow, error) {
	return s.store.Update(ctx, req.ID, func(current catalog.Workflow) (catalog.Workflow, error) {
		if err := access.Change(caller, "workflow", req.ID, current.UserID, current.Version, req.IfMatch); err != nil {
			return current, err
		}
		next, err := s.finish(ctx, caller, Patch(current, req.Body))
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
func (s *Workflows) Resolve(ctx context.Context, caller rpc.Caller, req catalog.IDRequest) (catalog.Definition, error) {
	w, err := s.Get(ctx, caller, req)
	if err != nil {
		return catalog.Definition{}, err
	}
	found, err := s.agents.FindAll(ctx, agentIDs(w.Steps))
	if err != nil {
		return catalog.Definition{}, err
	}
	agents := map[string]catalog.Agent{}
	for _, a := range found {
		if caller.IsAdmin() || a.IsPublic || a.UserID == w.UserID {
			agents[a.ID] = a
		}
	}
	return Define(w, agents)
}

// time is now as the database keeps it.
func (s *Workflows) time() time.Time { return s.now().UTC().Truncate(time.Microsecond) }
