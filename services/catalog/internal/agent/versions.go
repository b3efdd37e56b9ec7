package agent

import (
	"context"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
	"turbocat.io/services/catalog/internal/access"
)

// Versions reads a page of the versions of an agent that the caller may see, newest first.
func (s *Agents) Versions(ctx context.Context, caller rpc.Caller, req catalog.VersionsRequest) (rpc.List[catalog.AgentSnapshot], error) {
	if _, err := s.Get(ctx, caller, catalog.IDRequest{ID: req.ID}); err != nil {
		return rpc.List[catalog.AgentSnapshot]{}, err
	}
	list, err := s.store.Versions(ctx, req.ID, req.Page)
	snapshots := rpc.List[catalog.AgentSnapshot]{Pagination: list.Pagination}
	for _, a := range list.Items {
		snapshots.Items = append(snapshots.Items, snapshot(a))
	}
	return snapshots, err
}

// Version reads a version of an agent that the caller may see.
func (s *Agents) Version(ctx context.Context, caller rpc.Caller, req catalog.VersionRequest) (catalog.AgentSnapshot, error) {
	if _, err := s.Get(ctx, caller, catalog.IDRequest{ID: req.ID}); err != nil {
		return catalog.AgentSnapshot{}, err
	}
	a, err := s.store.Version(ctx, req.ID, req.Version)
	return snapshot(a), err
}

func snapshot(a catalog.Agent) catalog.AgentSnapshot {
	return catalog.AgentSnapshot{
		AgentID: a.ID, Version: a.Version, Type: a.Type, Config: a.Config,
		InputSchema: a.InputSchema, OutputSchema: a.OutputSchema, CreatedAt: a.CreatedAt,
	}
}

// Duplicate copies an agent that the caller may see, to be the caller's own: a private DRAFT at version 1.
func (s *Agents) Duplicate(ctx context.Context, caller rpc.Caller, req catalog.DuplicateRequest) (catalog.Agent, error) {
	id, err := access.NewID(caller, "")
	if err != nil {
		return catalog.Agent{}, err
	}
	a, err := s.Get(ctx, caller, catalog.IDRequest{ID: req.ID})
	if err != nil {
		return a, err
	}
	if a.Name, err = CopyName(a.Name, req.Body); err != nil {
		return a, err
	}
	a.ID, a.UserID, a.SourceID, a.Version, a.Status, a.IsPublic = id, caller.UserID, &req.ID, 1, catalog.StatusDraft, false
	a.CreatedAt = s.time()
	a.UpdatedAt = a.CreatedAt
	return a, s.store.Insert(ctx, a)
}

// CopyName reads the name of a copy from the body of a client, which may be empty: the name of the source says then that it is a copy.
func CopyName(source string, body []byte) (string, error) {
	const suffix = " (copy)"
	if cut := []rune(source); len(cut) > maxName-len(suffix) {
		source = string(cut[:maxName-len(suffix)])
	}
	name := source + suffix
	if len(body) == 0 {
		return name, nil
	}
	var faults form.Faults
	if o, ok := form.Read(body, &faults); ok {
		o.String("name", &name, name, 1, maxName)
		o.Only("name")
	}
	return name, faults.Err("request")
}
