// Package natsapi answers the methods of contracts/identity over the bus.
package natsapi

import (
	"context"

	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/postgres/once"
	"turbocat.io/services/identity/internal/account"
	"turbocat.io/services/identity/internal/apikey"
)

// Register lets the service answer the methods of contracts/identity.
func Register(s *bus.Server, accounts *account.Accounts, keys *apikey.Keys, answers *once.Answers) {
	registerKeys(s, keys, answers)
	registerUsers(s, accounts)
	bus.Handle(s, contract.Register, func(ctx context.Context, caller rpc.Caller, req contract.RegisterRequest) (contract.Session, error) {
		grant, err := accounts.Register(ctx, account.ClientOf(caller), account.Registration(req))
		return toSession(grant), err
	})
	bus.Handle(s, contract.Login, func(ctx context.Context, caller rpc.Caller, req contract.LoginRequest) (contract.Session, error) {
		grant, err := accounts.Login(ctx, account.ClientOf(caller), req.Email, req.Password)
		return toSession(grant), err
	})
	bus.Handle(s, contract.Refresh, func(ctx context.Context, caller rpc.Caller, req contract.RefreshRequest) (contract.Session, error) {
		grant, err := accounts.Refresh(ctx, account.ClientOf(caller), req.RefreshToken)
		return toSession(grant), err
	})
	bus.Handle(s, contract.Logout, func(ctx context.Context, caller rpc.Caller, req contract.RefreshRequest) (rpc.Empty, error) {
		return rpc.Empty{}, accounts.Logout(ctx, account.ClientOf(caller), req.RefreshToken)
	})
	bus.Handle(s, contract.Verify, func(ctx context.Context, _ rpc.Caller, req contract.VerifyRequest) (contract.VerifyResponse, error) {
		access, err := accounts.Verify(ctx, req.AccessToken)
		if err != nil {
			return contract.VerifyResponse{}, err
		}
		return contract.VerifyResponse{
			UserID: access.UserID.String(), Role: access.Role, SessionID: access.SessionID.String(), ExpiresAt: access.ExpiresAt,
		}, nil
	})
	bus.Handle(s, contract.GetMe, func(ctx context.Context, caller rpc.Caller, _ rpc.Empty) (contract.User, error) {
		user, err := accounts.Me(ctx, caller.UserID)
		return toUser(user), err
	})
	bus.Handle(s, contract.UpdateMe, func(ctx context.Context, caller rpc.Caller, req contract.UpdateUserRequest) (contract.User, error) {
		user, err := accounts.UpdateMe(ctx, caller.UserID, req.Patch)
		return toUser(user), err
	})
	bus.Handle(s, contract.NotifyUser, func(ctx context.Context, caller rpc.Caller, req contract.NotifyUserRequest) (rpc.Empty, error) {
		if caller.UserID != "" || !caller.IsAdmin() {
			return rpc.Empty{}, errs.New(errs.Forbidden, "only the system may send mail")
		}
		return rpc.Empty{}, accounts.Notify(ctx, req.UserID, req.Subject, req.Text)
	})
	bus.Handle(s, contract.SeedUser, func(ctx context.Context, caller rpc.Caller, req contract.SeedUserRequest) (contract.SeedUserResponse, error) {
		if caller.UserID != "" || !caller.IsAdmin() {
			return contract.SeedUserResponse{}, errs.New(errs.Forbidden, "only the system may seed accounts; register instead")
		}
		user, created, err := accounts.Seed(ctx, req.ID, req.Role, account.Registration{Email: req.Email, Password: req.Password, FullName: req.FullName})
		return contract.SeedUserResponse{User: toUser(user), Created: created}, err
	})
}

func toSession(g account.Grant) contract.Session {
	return contract.Session{
		User: toUser(g.User), AccessToken: g.AccessToken, RefreshToken: g.RefreshToken, TokenType: "Bearer",
		ExpiresAt: g.Access.ExpiresAt, RefreshExpiresAt: g.Refresh.ExpiresAt,
	}
}

func toUser(u account.User) contract.User {
	return contract.User{
		ID: u.ID.String(), Email: u.Email, FullName: u.FullName, Role: u.Role, Active: u.Active, AvatarURL: u.AvatarURL,
		Preferences: u.Preferences, CreatedAt: u.CreatedAt, LastLoginAt: u.LastLoginAt,
	}
}
