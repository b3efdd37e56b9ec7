package account

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
)

// Sessions reads a page of the caller's sessions that have not ended.
func (a *Accounts) Sessions(ctx context.Context, caller rpc.Caller, q contract.ListSessionsRequest) (rpc.List[Session], error) {
	user, err := loggedIn(caller)
	if err != nil {
		return rpc.List[Session]{}, err
	}
	return a.Store.ListSessions(ctx, user, a.now(), q)
}

// EndSession ends a session of the caller, be it the one that asks.
func (a *Accounts) EndSession(ctx context.Context, caller rpc.Caller, id string) error {
	user, err := loggedIn(caller)
	if err != nil {
		return err
	}
	parsed, err := uuid.Parse(id)
	if err != nil {
		return noSession()
	}
	ended := false
	err = a.Store.UpdateSession(ctx, SessionID{parsed}, func(s *Session, owner User) {
		now := a.now()
		if ended = owner.ID == user && s.isOpen(now); ended {
			s.revoke(revokedUser, now)
		}
	})
	switch {
	case errors.Is(err, ErrUnknown):
		return noSession()
	case err != nil:
		return err
	case !ended:
		return noSession()
	}
	a.Liveness.Revoked(ctx, SessionID{parsed})
	a.security(ClientOf(caller), "session_revoked").Info().Stringer("userId", user).Stringer("sessionId", parsed).Msg("security event")
	return nil
}

// EndOtherSessions ends all sessions of the caller but the one that asks. Safe to repeat.
func (a *Accounts) EndOtherSessions(ctx context.Context, caller rpc.Caller) error {
	user, err := loggedIn(caller)
	if err != nil {
		return err
	}
	current, err := uuid.Parse(caller.SessionID)
	if err != nil {
		return notLoggedIn()
	}
	ended, err := a.Store.EndSessions(ctx, user, SessionID{current}, revokedUser, a.now())
	if err != nil {
		return err
	}
	a.Liveness.Revoked(ctx, ended...)
	a.security(ClientOf(caller), "sessions_revoked").Info().Stringer("userId", user).Int("sessionsEnded", len(ended)).Msg("security event")
	return nil
}

// loggedIn gives who has logged in; one who came with an API key has not.
func loggedIn(caller rpc.Caller) (UserID, error) {
	if caller.APIKeyID != "" {
		return UserID{}, byKey()
	}
	id, err := uuid.Parse(caller.UserID)
	if err != nil {
		return UserID{}, notLoggedIn()
	}
	return UserID{id}, nil
}

func noSession() error { return errs.New(errs.NotFound, "there is no such session; check the id") }
