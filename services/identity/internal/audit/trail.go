package audit

import (
	"context"
	"strings"
	"time"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/ratelimit"
)

// Store keeps the chain.
type Store interface {
	Reader
	// Append adds those of the entries that are not there yet, all or none. Safe to repeat.
	Append(ctx context.Context, entries []audit.TrailEntry) error
	// Deny records that the caller of ctx was denied something.
	Deny(ctx context.Context, d audit.Denial) error
	// Stored gives the ids of those that are there.
	Stored(ctx context.Context, ids []string) ([]string, error)
	// List reads a page: of everybody's when userID is "", else of what that user did and of what was done to what is theirs.
	// VALIDATION_ERROR with every fault of the request.
	List(ctx context.Context, userID string, req audit.ListRequest) (rpc.List[audit.TrailEntry], error)
}

// Trail answers what callers ask about the audit trail. It is safe for concurrent use.
type Trail struct {
	store  Store
	limits *ratelimit.Limiter
}

// NewTrail makes a Trail over a store; limits bounds what callers can fill it with by asking for what they may not do.
func NewTrail(store Store, limits *ratelimit.Limiter) *Trail { return &Trail{store, limits} }

// denials bounds the entries that one caller makes by asking for one operation.
var denials = ratelimit.Limit{Rate: 1, Burst: 1, Period: time.Minute}

// Deny records that the caller was denied an operation, the first time in a minute.
func (t *Trail) Deny(ctx context.Context, caller rpc.Caller, d audit.Denial) (rpc.Empty, error) {
	if caller.UserID == "" {
		return rpc.Empty{}, errs.New(errs.Unauthorized, "only what somebody was denied who is signed in is recorded")
	}
	who := strings.Join([]string{"denied", caller.UserID, caller.APIKeyID, d.Operation}, ":")
	if !t.limits.Take(ctx, who, denials).Allowed {
		return rpc.Empty{}, nil
	}
	err := t.store.Deny(ctx, d)
	if err != nil {
		t.limits.Forget(ctx, who)
	}
	return rpc.Empty{}, err
}

// List reads a page of what the caller may see. Of what others have done to the caller's things it does not tell from where.
func (t *Trail) List(ctx context.Context, caller rpc.Caller, req audit.ListRequest) (rpc.List[audit.TrailEntry], error) {
	if caller.IsAdmin() {
		return t.store.List(ctx, "", req)
	}
	if caller.UserID == "" {
		return rpc.List[audit.TrailEntry]{}, errs.New(errs.Unauthorized, "sign in to see what you have done")
	}
	list, err := t.store.List(ctx, caller.UserID, req)
	for i, e := range list.Items {
		if e.Actor.UserID != "" && e.Actor.UserID != caller.UserID {
			e.IP, e.UserAgent, e.RequestID, e.Actor.SessionID, e.Actor.APIKeyID = "", "", "", "", ""
			list.Items[i] = e
		}
	}
	return list, err
}

// Stored tells which entries are committed. System callers only.
func (t *Trail) Stored(ctx context.Context, caller rpc.Caller, req audit.IDs) (audit.IDs, error) {
	if caller.UserID != "" || !caller.IsAdmin() {
		return audit.IDs{}, errs.New(errs.Forbidden, "only the services ask this; list the audit trail instead")
	}
	if len(req.IDs) > audit.MaxIDs {
		return audit.IDs{}, errs.New(errs.Validation, "%d ids are too many; ask after %d at once", len(req.IDs), audit.MaxIDs)
	}
	ids, err := t.store.Stored(ctx, req.IDs)
	return audit.IDs{IDs: ids}, err
}

// Keep adds entries that are Clean to the chain; safe to repeat.
func (t *Trail) Keep(ctx context.Context, entries []audit.TrailEntry) error {
	return t.store.Append(ctx, entries)
}
