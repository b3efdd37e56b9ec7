package account

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/google/uuid"

	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
)

// roles are those that an account can have.
var roles = []string{rpc.RoleAdmin, rpc.RoleUser, rpc.RoleAgent}

// List reads a page of all accounts, for an ADMIN.
func (a *Accounts) List(ctx context.Context, caller rpc.Caller, q contract.ListUsersRequest) (rpc.List[User], error) {
	if err := onlyAdmin(caller); err != nil {
		return rpc.List[User]{}, err
	}
	if q.Role != "" && !slices.Contains(roles, q.Role) {
		return rpc.List[User]{}, errs.Invalid("query", []errs.Detail{badRole()})
	}
	return a.Store.List(ctx, q)
}

// Get gives an account, for an ADMIN.
func (a *Accounts) Get(ctx context.Context, caller rpc.Caller, id string) (User, error) {
	if err := onlyAdmin(caller); err != nil {
		return User{}, err
	}
	parsed, err := uuid.Parse(id)
	if err != nil {
		return User{}, noAccount()
	}
	user, err := a.Store.ByID(ctx, UserID{parsed})
	if errors.Is(err, ErrUnknown) {
		return User{}, noAccount()
	}
	return user, err
}

// Patch changes the role of an account, or whether it is active, for an ADMIN who has logged in. The account's sessions end
// when it is another then. CONFLICT when no active ADMIN would be left.
func (a *Accounts) Patch(ctx context.Context, caller rpc.Caller, id string, body json.RawMessage) (User, error) {
	if err := onlyAdmin(caller); err != nil {
		return User{}, err
	}
	if caller.APIKeyID != "" {
		return User{}, byKey()
	}
	change, err := parseStanding(body)
	if err != nil {
		return User{}, err
	}
	parsed, err := uuid.Parse(id)
	if err != nil {
		return User{}, noAccount()
	}
	var before User
	user, ended, err := a.Store.ChangeStanding(ctx, UserID{parsed}, revokedAccount, a.now(), func(u *User, otherAdmins int) error {
		before = *u
		change(u)
		if otherAdmins == 0 && before.isActiveAdmin() && !u.isActiveAdmin() {
			return errs.New(errs.Conflict, "this is the last active ADMIN; make another account an ADMIN first")
		}
		return nil
	})
	if errors.Is(err, ErrUnknown) {
		return User{}, noAccount()
	}
	if err != nil {
		return User{}, err
	}
	a.Liveness.Revoked(ctx, ended...)
	if user.Role != before.Role || user.Active != before.Active {
		a.security(ClientOf(caller), "user_standing_changed").Info().Str("actorId", caller.UserID).Stringer("userId", user.ID).
			Str("roleBefore", before.Role).Str("role", user.Role).Bool("activeBefore", before.Active).Bool("active", user.Active).
			Int("sessionsEnded", len(ended)).Msg("security event")
	}
	return user, nil
}

func (u User) isActiveAdmin() bool { return u.Active && u.Role == rpc.RoleAdmin }

// parseStanding reads a JSON object of role and active.
func parseStanding(body json.RawMessage) (func(*User), error) {
	var faults form.Faults
	o, ok := form.Read(body, &faults)
	if !ok {
		return nil, faults.Err("account")
	}
	o.Require(false, "role", "active")
	var read User
	o.Enum("role", &read.Role, "", roles...)
	o.Bool("active", &read.Active, false)
	o.Only("role", "active", "id", "email", "fullName", "avatarUrl", "preferences", "createdAt", "lastLoginAt")
	return func(u *User) {
		if o.Has("role") {
			u.Role = read.Role
		}
		if o.Has("active") {
			u.Active = read.Active
		}
	}, faults.Err("account")
}

func onlyAdmin(caller rpc.Caller) error {
	if caller.UserID == "" {
		return notLoggedIn()
	}
	if !caller.IsAdmin() {
		return errs.New(errs.Forbidden, "only an ADMIN may do this; ask one")
	}
	return nil
}

func byKey() error {
	return errs.New(errs.Forbidden, "an API key can not do this; log in and send an access token")
}

func badRole() errs.Detail {
	return errs.Detail{Field: "role", Message: "the role is unknown; use ADMIN, USER or AGENT", Code: errs.BadEnum}
}

func noAccount() error { return errs.New(errs.NotFound, "there is no such account; check the id") }
