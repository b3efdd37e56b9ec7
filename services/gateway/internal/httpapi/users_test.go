package httpapi_test

import (
	"encoding/json"
	"testing"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
)

// serveUsers plays identity as far as it knows sessions, and accounts other than the caller's.
func serveUsers(w *world, id *bus.Server) {
	account := func(id, name string) identity.User {
		return identity.User{ID: id, Email: "a@x.io", FullName: name, Role: rpc.RoleUser, Preferences: json.RawMessage("{}")}
	}
	answer(w, id, identity.ListSessions, func(c rpc.Caller, r identity.ListSessionsRequest) (rpc.List[identity.OpenSession], error) {
		agent, err := asked(r)
		return rpc.List[identity.OpenSession]{Items: []identity.OpenSession{{ID: c.SessionID, Current: true, UserAgent: agent, CreatedAt: time.Unix(0, 0).UTC()}}}, err
	})
	answer(w, id, identity.EndSession, func(_ rpc.Caller, r identity.SessionRequest) (rpc.Empty, error) {
		if r.ID != thingID {
			return rpc.Empty{}, errs.New(errs.NotFound, "there is no such session; check the id")
		}
		return rpc.Empty{}, nil
	})
	answer(w, id, identity.ForgotPassword, func(rpc.Caller, identity.ForgotPasswordRequest) (rpc.Empty, error) { return rpc.Empty{}, nil })
	answer(w, id, identity.ResetPassword, func(_ rpc.Caller, r identity.ResetPasswordRequest) (rpc.Empty, error) {
		if r.Token != "good" {
			return rpc.Empty{}, errs.Invalid("request", []errs.Detail{{Field: "token", Message: "the token is not good; ask for another mail", Code: errs.BadValue}})
		}
		return rpc.Empty{}, nil
	})
	answer(w, id, identity.ListDevMail, func(c rpc.Caller, r identity.ListDevMailRequest) (rpc.List[identity.DevMail], error) {
		if c.UserID == bob.UserID {
			return rpc.List[identity.DevMail]{}, errs.New(errs.Forbidden, "only an ADMIN may do this; ask one")
		}
		text, err := asked(r)
		return rpc.List[identity.DevMail]{Items: []identity.DevMail{{ID: thingID, To: "a@x.io", Text: text, SentAt: time.Unix(0, 0).UTC()}}}, err
	})
	answer(w, id, identity.EndOtherSessions, func(rpc.Caller, rpc.Empty) (rpc.Empty, error) { return rpc.Empty{}, nil })
	answer(w, id, identity.ListUsers, func(c rpc.Caller, r identity.ListUsersRequest) (rpc.List[identity.User], error) {
		if c.UserID == bob.UserID {
			return rpc.List[identity.User]{}, errs.New(errs.Forbidden, "only an ADMIN may do this; ask one")
		}
		name, err := asked(r)
		return rpc.List[identity.User]{Items: []identity.User{account(thingID, name)}}, err
	})
	answer(w, id, identity.GetUser, func(_ rpc.Caller, r identity.UserRequest) (identity.User, error) { return account(r.ID, ""), nil })
	answer(w, id, identity.PatchUser, func(_ rpc.Caller, r identity.PatchUserRequest) (identity.User, error) {
		return account(r.ID, string(r.Patch)), nil
	})
}

func TestUserRoutes(t *testing.T) {
	w := start(t, setup{})
	const all, sessions = "/api/v1/users", "/api/v1/users/me/sessions"
	for _, s := range []scenario{
		{name: "sessions", request: request{method: "GET", path: sessions + "?pageSize=3&sortBy=lastAccessedAt", token: aliceToken}, status: 200, holds: `{\"pageSize\":3,\"sortBy\":\"lastAccessedAt\"}`},
		{name: "end one", request: request{method: "DELETE", path: sessions + "/" + thingID, token: aliceToken}, status: 204},
		{name: "end another's", request: request{method: "DELETE", path: sessions + "/" + keyID, token: aliceToken}, status: 404, code: errs.NotFound},
		{name: "end the others", request: request{method: "DELETE", path: sessions, token: aliceToken}, status: 204},
		{name: "forgot", request: request{method: "POST", path: "/api/v1/auth/forgot-password", body: `{"email":"a@x.io"}`}, status: 200, holds: `"data":{}`},
		{name: "forgot wrongly", request: request{method: "POST", path: "/api/v1/auth/forgot-password", body: `{"mail":"a@x.io"}`}, status: 400, code: errs.Validation, faults: []string{"email required", "mail unknown_field"}},
		{name: "reset", request: request{method: "POST", path: "/api/v1/auth/reset-password", body: `{"token":"good","password":"Another-horse-9"}`}, status: 200, holds: `"data":{}`},
		{name: "reset again", request: request{method: "POST", path: "/api/v1/auth/reset-password", body: `{"token":"used","password":"Another-horse-9"}`}, status: 400, code: errs.Validation, faults: []string{"token bad_value"}},
		{name: "mailbox", request: request{method: "GET", path: "/api/v1/dev/mail?page=2&pageSize=5", token: aliceToken}, status: 200, holds: `{\"page\":2,\"pageSize\":5}`},
		{name: "mailbox for a user", request: request{method: "GET", path: "/api/v1/dev/mail", token: bobToken}, status: 403, code: errs.Forbidden},
		{name: "users", request: request{method: "GET", path: all + "?role=AGENT&active=false&search=a", token: aliceToken}, status: 200, holds: `{\"pageSize\":20,\"search\":\"a\",\"role\":\"AGENT\",\"active\":false}`},
		{name: "users wrongly", request: request{method: "GET", path: all + "?role=ROOT&active=no", token: aliceToken}, status: 400, code: errs.Validation, faults: []string{"active bad_enum", "role bad_enum"}},
		{name: "users for a user", request: request{method: "GET", path: all, token: bobToken}, status: 403, code: errs.Forbidden},
		{name: "a user", request: request{method: "GET", path: all + "/" + thingID, token: aliceToken}, status: 200, holds: thingID},
		{name: "no user", request: request{method: "GET", path: all + "/you", token: aliceToken}, status: 404, code: errs.NotFound},
		{name: "change a user", request: request{method: "PATCH", path: all + "/" + thingID, token: aliceToken, body: `{"active":false}`}, status: 200, holds: `{\"active\":false}`},
	} {
		t.Run(s.name, func(t *testing.T) { w.check(t, s) })
	}
}
