package identity

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/audit"
	contract "turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
)

// TestSecurityEventsAreAudited does what there is to do with an account and wants an entry of each, and no secret in any.
func TestSecurityEventsAreAudited(t *testing.T) {
	c, ctx := start(t), context.Background()
	anonymous := rpc.Caller{IP: "192.0.2.7", UserAgent: "test", RequestID: "r-1"}
	admin := rpc.Caller{UserID: "01930000-0000-7000-8000-000000000001", Role: rpc.RoleAdmin, SessionID: "01930000-0000-7000-8000-000000000002"}
	const email, wrong, other = "canary-ada@example.com", "Canary-Wrong-7", "canary-unknown@example.com"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	registered, err := bus.Call(ctx, c, contract.Register, anonymous, contract.RegisterRequest{Email: email, Password: secret, FullName: "Ada"})
	must(err)
	user := registered.User.ID
	for _, address := range []string{email, other} {
		_, err = bus.Call(ctx, c, contract.Login, anonymous, contract.LoginRequest{Email: address, Password: wrong})
		wantCode(t, "wrong password", err, "UNAUTHORIZED")
	}
	session, err := bus.Call(ctx, c, contract.Login, anonymous, contract.LoginRequest{Email: email, Password: secret})
	must(err)
	who, err := bus.Call(ctx, c, contract.Verify, anonymous, contract.VerifyRequest{AccessToken: session.AccessToken})
	must(err)
	me := rpc.Caller{UserID: user, Role: rpc.RoleUser, SessionID: who.SessionID}
	_, err = bus.Call(ctx, c, contract.UpdateMe, me, contract.UpdateUserRequest{Patch: json.RawMessage(`{"fullName":"Ada L"}`)})
	must(err)
	next, err := bus.Call(ctx, c, contract.Refresh, anonymous, contract.RefreshRequest{RefreshToken: session.RefreshToken})
	must(err)
	for range 2 { // used again, which ends the session; and of an ended session
		_, err = bus.Call(ctx, c, contract.Refresh, anonymous, contract.RefreshRequest{RefreshToken: session.RefreshToken})
		wantCode(t, "refresh again", err, "UNAUTHORIZED")
	}
	_, err = bus.Call(ctx, c, contract.Logout, anonymous, contract.RefreshRequest{RefreshToken: registered.RefreshToken})
	must(err)

	want := map[audit.Action]int{
		audit.UserRegistered: 1, audit.AuthLoginFailed: 2, audit.AuthLogin: 1, audit.UserUpdated: 1, audit.AuthRefreshRefused: 2, audit.AuthLogout: 1,
	}
	var list rpc.List[audit.TrailEntry]
	for deadline := time.Now().Add(20 * time.Second); list.Pagination.Total < 8; {
		list, err = bus.Call(ctx, c, audit.List, admin, audit.ListRequest{})
		must(err)
		if time.Now().After(deadline) {
			t.Fatalf("only %+v are told", list.Items)
		}
	}
	got := map[audit.Action]int{}
	for _, e := range list.Items {
		got[e.Action]++
		raw, err := json.Marshal(e)
		must(err)
		for _, canary := range []string{secret, wrong, other, session.RefreshToken, next.AccessToken} {
			if strings.Contains(string(raw), canary) {
				t.Errorf("%s tells %s", raw, canary)
			}
		}
		if refused := slices.Contains([]audit.Action{audit.AuthLoginFailed, audit.AuthRefreshRefused}, e.Action); refused != (e.Outcome == audit.Failure) {
			t.Errorf("the outcome of %s is %s", e.Action, e.Outcome)
		}
		switch e.Action {
		case audit.AuthLogin, audit.UserRegistered, audit.AuthLogout:
			if e.Actor.UserID != user || e.Actor.SessionID == "" || e.ResourceID != user || e.ResourceType != "user" {
				t.Errorf("got %s", raw)
			}
		case audit.AuthLoginFailed:
			if e.Actor != (audit.TrailActor{Via: audit.ViaAnonymous}) || e.IP != "192.0.2.7" {
				t.Errorf("got %s", raw)
			}
		case audit.UserUpdated:
			if len(e.Changes) != 1 || e.Changes[0].Path != "fullName" || e.Actor.SessionID != me.SessionID {
				t.Errorf("got %s", raw)
			}
		}
	}
	for action, n := range want {
		if got[action] != n {
			t.Errorf("%d of %s, want %d", got[action], action, n)
		}
	}
	if report, err := bus.Call(ctx, c, audit.List, me, audit.ListRequest{Action: string(audit.AuthLoginFailed)}); err != nil || report.Pagination.Total != 1 {
		t.Errorf("a user sees %+v, %v", report, err)
	}
}
