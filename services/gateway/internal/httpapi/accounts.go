package httpapi

import (
	"context"
	"net/http"
	"reflect"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
)

// userPatch documents what PATCH users/me takes.
type userPatch struct {
	FullName    string         `json:"fullName,omitempty"`
	AvatarURL   *string        `json:"avatarUrl,omitempty" nullable:"true"`
	Preferences map[string]any `json:"preferences,omitempty"`
}

func (a *API) routeAccounts() {
	open := access{anonymous: true, auth: true, body: bodyLimit}
	register(a, route{
		method: http.MethodPost, path: "/auth/register", id: "register", tag: "auth", access: open,
		summary: "Make an account and log in", status: http.StatusCreated, errors: []errs.Code{errs.Conflict},
	},
		func(ctx context.Context, in *struct{ Body identity.RegisterRequest }) (*answer[identity.Session], error) {
			session, err := ask(ctx, a, identity.Register, in.Body)
			return answerWith(ctx, session, err)
		})
	register(a, route{
		method: http.MethodPost, path: "/auth/login", id: "login", tag: "auth", access: open,
		summary: "Log in", errors: []errs.Code{errs.Unauthorized},
	},
		func(ctx context.Context, in *struct{ Body identity.LoginRequest }) (*answer[identity.Session], error) {
			session, err := ask(ctx, a, identity.Login, in.Body)
			return answerWith(ctx, session, err)
		})
	register(a, route{
		method: http.MethodPost, path: "/auth/refresh", id: "refresh", tag: "auth", access: open,
		summary: "Exchange a refresh token for a new session", errors: []errs.Code{errs.Unauthorized},
	},
		func(ctx context.Context, in *struct{ Body identity.RefreshRequest }) (*answer[identity.Session], error) {
			session, err := ask(ctx, a, identity.Refresh, in.Body)
			return answerWith(ctx, session, err)
		})
	register(a, route{
		method: http.MethodPost, path: "/auth/logout", id: "logout", tag: "auth", access: open,
		summary: "End the session of a refresh token", status: http.StatusNoContent, errors: []errs.Code{errs.Unauthorized},
	},
		func(ctx context.Context, in *struct{ Body identity.RefreshRequest }) (*struct{}, error) {
			_, err := ask(ctx, a, identity.Logout, in.Body)
			return &struct{}{}, err
		})
	register(a, route{method: http.MethodGet, path: "/users/me", id: "getMe", tag: "users", summary: "Show one's own account"},
		func(ctx context.Context, _ *struct{}) (*answer[identity.User], error) {
			user, err := ask(ctx, a, identity.GetMe, struct{}{})
			return answerWith(ctx, user, err)
		})
	register(a, route{
		method: http.MethodPatch, path: "/users/me", id: "updateMe", tag: "users", access: access{body: bodyLimit},
		summary: "Change one's own account", document: reflect.TypeFor[userPatch](),
	},
		func(ctx context.Context, in *RawJSON) (*answer[identity.User], error) {
			if err := object(in.RawBody); err != nil {
				return nil, err
			}
			user, err := ask(ctx, a, identity.UpdateMe, identity.UpdateUserRequest{Patch: in.RawBody})
			return answerWith(ctx, user, err)
		})
}
