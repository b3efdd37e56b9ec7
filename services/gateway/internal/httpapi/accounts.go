package httpapi

import (
	"context"
	"net/http"
	"reflect"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
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
		repeated: "Sent twice it makes one account: an address is taken once, and the second answer is a conflict. Log in then.",
	},
		func(ctx context.Context, in *struct{ Body identity.RegisterRequest }) (*answer[identity.Session], error) {
			session, err := ask(ctx, a, identity.Register, in.Body)
			return answerWith(ctx, session, err)
		})
	register(a, route{
		method: http.MethodPost, path: "/auth/login", id: "login", tag: "auth", access: open,
		summary: "Log in", errors: []errs.Code{errs.Unauthorized},
		repeated: "Sent twice it opens two sessions.",
	},
		func(ctx context.Context, in *struct{ Body identity.LoginRequest }) (*answer[identity.Session], error) {
			session, err := ask(ctx, a, identity.Login, in.Body)
			return answerWith(ctx, session, err)
		})
	register(a, route{
		method: http.MethodPost, path: "/auth/refresh", id: "refresh", tag: "auth", access: open,
		summary: "Exchange a refresh token for a new session", errors: []errs.Code{errs.Unauthorized},
		repeated: "Not to be sent twice: a refresh token works once, and whoever sends it again ends the session. If the answer is lost, log in.",
	},
		func(ctx context.Context, in *struct{ Body identity.RefreshRequest }) (*answer[identity.Session], error) {
			session, err := ask(ctx, a, identity.Refresh, in.Body)
			return answerWith(ctx, session, err)
		})
	register(a, route{
		method: http.MethodPost, path: "/auth/logout", id: "logout", tag: "auth", access: open,
		summary: "End the session of a refresh token", status: http.StatusNoContent, errors: []errs.Code{errs.Unauthorized},
		repeated: "Sent twice it does what it does once.",
	},
		func(ctx context.Context, in *struct{ Body identity.RefreshRequest }) (*struct{}, error) {
			_, err := ask(ctx, a, identity.Logout, in.Body)
			return &struct{}{}, err
		})
	register(a, route{
		method: http.MethodPost, path: "/auth/forgot-password", id: "forgotPassword", tag: "auth", access: open,
		summary:  "Have a mail sent with which a new password can be set; the answer is the same whether the address has an account or not",
		repeated: "Sent twice it sends two mails, of which the last one counts.",
	},
		func(ctx context.Context, in *struct {
			Body identity.ForgotPasswordRequest
		},
		) (*answer[rpc.Empty], error) {
			done, err := ask(ctx, a, identity.ForgotPassword, in.Body)
			return answerWith(ctx, done, err)
		})
	register(a, route{
		method: http.MethodPost, path: "/auth/reset-password", id: "resetPassword", tag: "auth", access: open,
		summary:  "Set a new password by the token of a mail, and end all sessions",
		repeated: "Sent twice it sets one password: a token works once.",
	},
		func(ctx context.Context, in *struct{ Body identity.ResetPasswordRequest }) (*answer[rpc.Empty], error) {
			done, err := ask(ctx, a, identity.ResetPassword, in.Body)
			return answerWith(ctx, done, err)
		})
	register(a, route{
		method: http.MethodGet, path: "/dev/mail", id: "listDevMail", tag: "dev", scope: noKey,
		summary: "List the mails that were kept instead of sent, newest first; for an ADMIN, in development alone", errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *struct {
			Page     int `query:"page" minimum:"1" maximum:"1000000" doc:"from 1, which is the default" example:"2"`
			PageSize int `query:"pageSize" minimum:"1" maximum:"100" default:"20"`
		},
		) (*listed[identity.DevMail], error) {
			list, err := ask(ctx, a, identity.ListDevMail, identity.ListDevMailRequest{Page: rpc.Page{Page: in.Page, PageSize: in.PageSize}})
			return listedWith(ctx, list, err)
		})
	register(a, route{method: http.MethodGet, path: "/users/me", id: "getMe", tag: "users", summary: "Show one's own account"},
		func(ctx context.Context, _ *struct{}) (*answer[identity.User], error) {
			user, err := ask(ctx, a, identity.GetMe, struct{}{})
			return answerWith(ctx, user, err)
		})
	register(a, route{
		method: http.MethodPatch, path: "/users/me", id: "updateMe", tag: "users", scope: noKey, access: access{body: bodyLimit},
		summary: "Change one's own account", document: reflect.TypeFor[userPatch](),
	},
		func(ctx context.Context, in *RawJSON) (*answer[identity.User], error) {
			if err := object(in.RawBody); err != nil {
				return nil, err
			}
			user, err := ask(ctx, a, identity.UpdateMe, identity.UpdateUserRequest{Patch: in.RawBody})
			return answerWith(ctx, user, err)
		})
	a.routeUsers() // after users/me, which is no id
	a.routeAPIKeys()
}
