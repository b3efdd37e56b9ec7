package natsapi

import (
	"context"

	contract "turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/identity/internal/account"
)

func registerUsers(s *bus.Server, accounts *account.Accounts) {
	bus.Handle(s, contract.ListSessions, func(ctx context.Context, caller rpc.Caller, req contract.ListSessionsRequest) (rpc.List[contract.OpenSession], error) {
		list, err := accounts.Sessions(ctx, caller, req)
		items := make([]contract.OpenSession, len(list.Items))
		for i, s := range list.Items {
			items[i] = contract.OpenSession{
				ID: s.ID.String(), Current: s.ID.String() == caller.SessionID, IP: s.IP, UserAgent: s.UserAgent,
				CreatedAt: s.CreatedAt, LastAccessedAt: s.LastAccessedAt, ExpiresAt: s.ExpiresAt,
			}
		}
		return rpc.List[contract.OpenSession]{Items: items, Pagination: list.Pagination}, err
	})
	bus.Handle(s, contract.EndSession, func(ctx context.Context, caller rpc.Caller, req contract.SessionRequest) (rpc.Empty, error) {
		return rpc.Empty{}, accounts.EndSession(ctx, caller, req.ID)
	})
	bus.Handle(s, contract.EndOtherSessions, func(ctx context.Context, caller rpc.Caller, _ rpc.Empty) (rpc.Empty, error) {
		return rpc.Empty{}, accounts.EndOtherSessions(ctx, caller)
	})
	bus.Handle(s, contract.ListUsers, func(ctx context.Context, caller rpc.Caller, req contract.ListUsersRequest) (rpc.List[contract.User], error) {
		list, err := accounts.List(ctx, caller, req)
		items := make([]contract.User, len(list.Items))
		for i, u := range list.Items {
			items[i] = toUser(u)
		}
		return rpc.List[contract.User]{Items: items, Pagination: list.Pagination}, err
	})
	bus.Handle(s, contract.GetUser, func(ctx context.Context, caller rpc.Caller, req contract.UserRequest) (contract.User, error) {
		user, err := accounts.Get(ctx, caller, req.ID)
		return toUser(user), err
	})
	bus.Handle(s, contract.PatchUser, func(ctx context.Context, caller rpc.Caller, req contract.PatchUserRequest) (contract.User, error) {
		user, err := accounts.Patch(ctx, caller, req.ID, req.Patch)
		return toUser(user), err
	})
}
