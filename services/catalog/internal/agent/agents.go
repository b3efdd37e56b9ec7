package agent

import (
	"context"
	"reflect"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/rpc"
	"turbocat.io/services/catalog/internal/access"
)

// Store keeps agents and their versions. An id that is not there, deleted or no UUID is NOT_FOUND.
type Store interface {
	// Insert saves a new agent; CONFLICT when the id is taken, also by a deleted one.
	Insert(ctx context.Context, a catalog.Agent) error
	Find(ctx context.Context, id string) (catalog.Agent, error)
	// Update saves what change makes of the agent's newest state, and its version when that is
	// new. change may run several times.
	Update(ctx context.Context, id string, change func(catalog.Agent) (catalog.Agent, error)) (catalog.Agent, error)
	// Delete hides the agent for ever. An owner other than "" must be its own.
	Delete(ctx context.Context, id, owner string, at time.Time) error
	// List reads a page of the agents of owner, of all users when it is "".
	List(ctx context.Context, owner string, q catalog.ListRequest) (rpc.List[catalog.Agent], error)
	// Versions reads a page of the versions of an agent that is there, newest first; Version one of them. What no version
	// has is empty.
	Versions(ctx context.Context, id string, page rpc.Page) (rpc.List[catalog.Agent], error)
	Version(ctx context.Context, id string, version int) (catalog.Agent, error)
}

// Agents answers what callers ask about agents. It is safe for concurrent use.
type Agents struct {
	store   Store
	schemas Schemas
	now     func() time.Time
}

// NewAgents makes Agents over a store.
func NewAgents(store Store, schemas Schemas, now func() time.Time) *Agents {
	return &Agents{store: store, schemas: schemas, now: now}
}

// Create saves a new agent of the caller.
func (s *Agents) Create(ctx context.Context, caller rpc.Caller, req catalog.CreateRequest) (catalog.Agent, error) {
	id, err := access.NewID(caller, req.ID)
	if err != nil {
		return catalog.Agent{}, err
	}
	a, err := s.schemas.New(req.Body)
	if err != nil {
		return catalog.Agent{}, err
	}
	a.ID, a.UserID, a.CreatedAt = id, caller.UserID, s.time()
	a.UpdatedAt = a.CreatedAt
	return a, s.store.Insert(ctx, a)
}

// Get reads one agent that the caller may see.
func (s *Agents) Get(ctx context.Context, caller rpc.Caller, req catalog.IDRequest) (catalog.Agent, error) {
	a, err := s.store.Find(ctx, req.ID)
	if err != nil {
		return catalog.Agent{}, err
	}
	if !access.CanSee(caller, a.UserID, a.IsPublic) {
		return catalog.Agent{}, access.NotFound("agent", req.ID)
	}
	return a, nil
}

// List reads a page of the caller's agents; of everybody's public ones when those are asked for.
func (s *Agents) List(ctx context.Context, caller rpc.Caller, req catalog.ListRequest) (rpc.List[catalog.Agent], error) {
	owner, err := access.ListOwner(caller, req.IsPublic)
	if err != nil {
		return rpc.List[catalog.Agent]{}, err
	}
	return s.store.List(ctx, owner, req)
}

// Patch changes an agent of the caller; see Schemas.Patch.
func (s *Agents) Patch(ctx context.Context, caller rpc.Caller, req catalog.PatchRequest) (catalog.Agent, error) {
	return s.store.Update(ctx, req.ID, func(current catalog.Agent) (catalog.Agent, error) {
		if err := access.Change(caller, "agent", req.ID, current.UserID, current.Version, req.IfMatch); err != nil {
			return current, err
		}
		next, err := s.schemas.Patch(current, req.Body)
		if err != nil {
			return current, err
		}
		if !reflect.DeepEqual(next, current) {
			next.UpdatedAt = s.time()
		}
		return next, nil
	})
}

// Delete hides an agent of the caller for ever; workflows that name it can no longer be executed.
func (s *Agents) Delete(ctx context.Context, caller rpc.Caller, req catalog.IDRequest) (rpc.Empty, error) {
	owner, err := access.ChangeOwner(caller, "agent", req.ID)
	if err != nil {
		return rpc.Empty{}, err
	}
	return rpc.Empty{}, s.store.Delete(ctx, req.ID, owner, s.time())
}

// time is now as the database keeps it.
func (s *Agents) time() time.Time { return s.now().UTC().Truncate(time.Microsecond) }
