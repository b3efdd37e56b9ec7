package workflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/services/catalog/internal/access"
	"turbocat.io/services/catalog/internal/agent"
)

// Versions reads a page of the versions of a workflow that the caller may see, newest first, without steps.
func (s *Workflows) Versions(ctx context.Context, caller rpc.Caller, req catalog.VersionsRequest) (rpc.List[catalog.WorkflowSnapshot], error) {
	if _, err := s.Get(ctx, caller, catalog.IDRequest{ID: req.ID}); err != nil {
		return rpc.List[catalog.WorkflowSnapshot]{}, err
	}
	list, err := s.store.Versions(ctx, req.ID, req.Page)
	snapshots := rpc.List[catalog.WorkflowSnapshot]{Pagination: list.Pagination}
	for _, w := range list.Items {
		snapshots.Items = append(snapshots.Items, snapshot(w))
	}
	return snapshots, err
}

// Version reads a version of a workflow that the caller may see.
func (s *Workflows) Version(ctx context.Context, caller rpc.Caller, req catalog.VersionRequest) (catalog.WorkflowSnapshot, error) {
	if _, err := s.Get(ctx, caller, catalog.IDRequest{ID: req.ID}); err != nil {
		return catalog.WorkflowSnapshot{}, err
	}
	w, err := s.store.Version(ctx, req.ID, req.Version)
	return snapshot(w), err
}

// Diff tells what differs between two versions of a workflow that the caller may see.
func (s *Workflows) Diff(ctx context.Context, caller rpc.Caller, req catalog.DiffRequest) (catalog.WorkflowDiff, error) {
	w, err := s.Get(ctx, caller, catalog.IDRequest{ID: req.ID})
	if err != nil {
		return catalog.WorkflowDiff{}, err
	}
	if req.To == 0 {
		req.To = w.Version
	}
	if req.From == 0 {
		req.From = max(1, req.To-1)
	}
	from, err := s.store.Version(ctx, req.ID, req.From)
	if err != nil {
		return catalog.WorkflowDiff{}, err
	}
	to, err := s.store.Version(ctx, req.ID, req.To)
	if err != nil {
		return catalog.WorkflowDiff{}, err
	}
	return Diff(snapshot(from), snapshot(to))
}

func snapshot(w catalog.Workflow) catalog.WorkflowSnapshot {
	return catalog.WorkflowSnapshot{
		WorkflowID: w.ID, Version: w.Version, InputSchema: w.InputSchema, Outputs: w.Outputs, TimeoutMs: w.TimeoutMs, Concurrency: w.Concurrency,
		Priority: w.Priority, StrictTemplates: w.StrictTemplates, CreatedAt: w.CreatedAt, Steps: w.Steps,
	}
}

// Duplicate copies a workflow that the caller may see, to be the caller's own: a private DRAFT at version 1. Its agents are the same,
// so all of them must be ones that the caller may use.
func (s *Workflows) Duplicate(ctx context.Context, caller rpc.Caller, req catalog.DuplicateRequest) (catalog.Workflow, error) {
	id, err := access.NewID(caller, "")
	if err != nil {
		return catalog.Workflow{}, err
	}
	source, err := s.Get(ctx, caller, catalog.IDRequest{ID: req.ID})
	if err != nil {
		return source, err
	}
	name, err := agent.CopyName(source.Name, req.Body)
	if err != nil {
		return source, err
	}
	w, err := s.check(ctx, source, visibleTo(caller))
	if err != nil {
		return w, err
	}
	w.ID, w.UserID, w.SourceID, w.Name, w.Status, w.IsPublic = id, caller.UserID, &req.ID, name, catalog.StatusDraft, false
	w.CreatedAt = s.time()
	w.UpdatedAt = w.CreatedAt
	return w, s.store.Insert(ctx, w)
}

// check drafts a workflow anew of all that it has, by the rules of today. It stays whose it is.
func (s *Workflows) check(ctx context.Context, w catalog.Workflow, usable func(owner string, public bool) bool) (catalog.Workflow, error) {
	body, err := json.Marshal(w)
	if err != nil {
		return w, fmt.Errorf("encode workflow %s: %w", w.ID, err)
	}
	checked, err := s.finish(ctx, New(body), usable)
	checked.ID, checked.UserID = w.ID, w.UserID // which no body tells
	return checked, err
}

// Validate tells all that is wrong with a workflow that the caller may see or, when a body is given, with what that
// would make of one that the caller may change. Nothing is saved.
func (s *Workflows) Validate(ctx context.Context, caller rpc.Caller, req catalog.ValidateRequest) (catalog.Validation, error) {
	w, err := s.Get(ctx, caller, catalog.IDRequest{ID: req.ID})
	if err != nil {
		return catalog.Validation{}, err
	}
	if len(req.Body) > 0 {
		if err := access.Change(caller, "workflow", req.ID, w.UserID, w.Version, 0); err != nil {
			return catalog.Validation{}, err
		}
		w, err = s.finish(ctx, Patch(w, req.Body), visibleTo(caller))
	} else {
		w, err = s.check(ctx, w, func(owner string, public bool) bool { return usable(caller, owner, public, w.UserID) })
	}
	v := catalog.Validation{Valid: err == nil, Problems: []errs.Detail{}, Obstacles: []errs.Detail{}}
	var refused *errs.Error
	switch {
	case err == nil:
		_, err = s.define(ctx, caller, w)
		v.Executable = err == nil
		if errors.As(err, &refused) && refused.Code == errs.Conflict {
			v.Obstacles, err = refused.Details, nil
		}
	case errors.As(err, &refused) && refused.Code == errs.Validation:
		v.Problems, err = refused.Details, nil
	}
	return v, err
}
