package httpapi

import (
	"context"
	"net/http"
	"reflect"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
)

// standingPatch documents what PATCH users/{id} takes.
type standingPatch struct {
	Role   string `json:"role,omitempty" enum:"ADMIN,USER,AGENT" doc:"AGENT is a service account: API keys, no login"`
	Active bool   `json:"active,omitempty" doc:"false ends its sessions and stops its API keys"`
}

func (a *API) routeUsers() {
	const tag = "users"
	register(a, route{method: http.MethodGet, path: "/users/me/sessions", id: "listSessions", sorts: []string{"createdAt", "lastAccessedAt"}, tag: tag, scope: noKey, summary: "List one's own sessions that have not ended"},
		func(ctx context.Context, in *struct {
			PageParams
			SortParams
		},
		) (*listed[identity.OpenSession], error) {
			list, err := ask(ctx, a, identity.ListSessions, identity.ListSessionsRequest{Page: page(in.PageParams, in.SortParams)})
			return listedWith(ctx, list, err)
		})
	register(a, route{
		method: http.MethodDelete, path: "/users/me/sessions/{id}", id: "endSession", tag: tag, scope: noKey, summary: "End one of one's own sessions",
		status: http.StatusNoContent, errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *IDParam) (*struct{}, error) {
			_, err := ask(ctx, a, identity.EndSession, identity.SessionRequest{ID: in.ID})
			return &struct{}{}, err
		})
	register(a, route{
		method: http.MethodDelete, path: "/users/me/sessions", id: "endOtherSessions", tag: tag, scope: noKey, summary: "End all of one's own sessions but the one that asks",
		status: http.StatusNoContent,
	},
		func(ctx context.Context, _ *struct{}) (*struct{}, error) {
			_, err := ask(ctx, a, identity.EndOtherSessions, struct{}{})
			return &struct{}{}, err
		})
	register(a, route{method: http.MethodGet, path: "/users", id: "listUsers", sorts: []string{"createdAt", "email", "fullName", "role"}, tag: tag, summary: "List all accounts; for an ADMIN"},
		func(ctx context.Context, in *struct {
			PageParams
			SortParams
			Role   string `query:"role" enum:"ADMIN,USER,AGENT"`
			Active string `query:"active" enum:"true,false"`
		},
		) (*listed[identity.User], error) {
			list, err := ask(ctx, a, identity.ListUsers, identity.ListUsersRequest{Page: page(in.PageParams, in.SortParams), Role: in.Role, Active: given(in.Active)})
			return listedWith(ctx, list, err)
		})
	register(a, route{method: http.MethodGet, path: "/users/{id}", id: "getUser", tag: tag, summary: "Show an account; for an ADMIN", errors: []errs.Code{errs.NotFound}},
		func(ctx context.Context, in *IDParam) (*answer[identity.User], error) {
			user, err := ask(ctx, a, identity.GetUser, identity.UserRequest{ID: in.ID})
			return answerWith(ctx, user, err)
		})
	register(a, route{
		method: http.MethodPatch, path: "/users/{id}", id: "updateUser", tag: tag, scope: noKey, summary: "Change the role of an account, or whether it is active, which ends its sessions; for an ADMIN",
		access: access{body: bodyLimit}, document: reflect.TypeFor[standingPatch](), errors: []errs.Code{errs.NotFound, errs.Conflict},
	},
		func(ctx context.Context, in *struct {
			IDParam
			RawJSON
		},
		) (*answer[identity.User], error) {
			if err := object(in.RawBody); err != nil {
				return nil, err
			}
			user, err := ask(ctx, a, identity.PatchUser, identity.PatchUserRequest{ID: in.ID, Patch: in.RawBody})
			return answerWith(ctx, user, err)
		})
}
