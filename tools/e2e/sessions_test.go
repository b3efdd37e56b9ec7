//go:build unix

package e2e

import (
	"testing"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
)

func TestSessionsAreListedAndEnded(t *testing.T) {
	t.Parallel()
	first := user(t)
	login := func() *client {
		other := *first
		other.session = data[identity.Session](t, first.do(t, "POST", "/auth/login", object{"email": first.session.User.Email, "password": password}), 200)
		return &other
	}
	second, third := login(), login()
	sessions, _ := page[identity.OpenSession](t, third.do(t, "GET", "/users/me/sessions", nil))
	if len(sessions) != 3 || !sessions[0].Current || sessions[1].Current || sessions[0].IP == "" || sessions[0].UserAgent == "" {
		t.Fatalf("%+v", sessions)
	}
	if a := third.do(t, "DELETE", "/users/me/sessions/"+sessions[1].ID, nil); a.status != 204 {
		t.Error(a)
	}
	awaitRefused(t, second)
	fault(t, third.do(t, "DELETE", "/users/me/sessions/"+sessions[1].ID, nil), errs.NotFound)
	fault(t, user(t).do(t, "DELETE", "/users/me/sessions/"+sessions[0].ID, nil), errs.NotFound)
	if a := third.do(t, "DELETE", "/users/me/sessions", nil); a.status != 204 {
		t.Error(a)
	}
	awaitRefused(t, first)
	fault(t, first.do(t, "POST", "/auth/refresh", object{"refreshToken": first.session.RefreshToken}), errs.Unauthorized)
	if sessions, _ := page[identity.OpenSession](t, third.do(t, "GET", "/users/me/sessions", nil)); len(sessions) != 1 {
		t.Errorf("%+v", sessions)
	}
	for _, path := range []string{"/users", "/users/" + first.session.User.ID} {
		fault(t, third.do(t, "GET", path, nil), errs.Forbidden)
	}
	fault(t, third.do(t, "PATCH", "/users/"+first.session.User.ID, object{"role": "ADMIN"}), errs.Forbidden)
}
