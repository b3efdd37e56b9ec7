package account_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/services/identity/internal/account"
)

// by gives the caller that an access token makes.
func (b *bundle) by(g account.Grant) rpc.Caller {
	b.t.Helper()
	access, err := b.Verify(context.Background(), g.AccessToken)
	if err != nil {
		b.t.Fatal(err)
	}
	return rpc.Caller{UserID: access.UserID.String(), Role: access.Role, SessionID: access.SessionID.String(), RequestID: "r-1"}
}

func (b *bundle) login(email string) account.Grant {
	b.t.Helper()
	g, err := b.Login(context.Background(), client, email, secret)
	if err != nil {
		b.t.Fatal(err)
	}
	return g
}

// admin makes an account with the role ADMIN that has logged in.
func (b *bundle) admin(email string) account.Grant {
	b.t.Helper()
	if _, _, err := b.Seed(context.Background(), uuid.NewString(), rpc.RoleAdmin, account.Registration{Email: email, Password: secret, FullName: "Admin"}); err != nil {
		b.t.Fatal(err)
	}
	return b.login(email)
}

func TestSessionsAreListedAndEnded(t *testing.T) {
	b, ctx := setup(t), t.Context()
	first := b.register("ada@example.com")
	b.advance(time.Minute)
	second, third := b.login("ada@example.com"), b.login("ada@example.com")
	bob := b.register("bob@example.com")
	me := b.by(third)
	list, err := b.Sessions(ctx, me, contract.ListSessionsRequest{})
	if err != nil || len(list.Items) != 3 || list.Items[2].ID.String() != b.by(first).SessionID || list.Items[0].IP != client.IP || list.Items[0].UserAgent != client.UserAgent {
		t.Fatalf("%+v, %v", list, err)
	}
	b.advance(time.Minute)
	if _, err := b.Refresh(ctx, client, first.RefreshToken); err != nil {
		t.Fatal(err)
	}
	list, err = b.Sessions(ctx, me, contract.ListSessionsRequest{Page: rpc.Page{SortBy: "lastAccessedAt", PageSize: 1}})
	if err != nil || len(list.Items) != 1 || list.Items[0].ID.String() != b.by(first).SessionID || !list.Items[0].LastAccessedAt.After(list.Items[0].CreatedAt) {
		t.Errorf("%+v, %v", list, err)
	}

	theirs := b.by(bob).SessionID
	for name, id := range map[string]string{"another's": theirs, "nobody's": uuid.NewString(), "what is no id": "x"} {
		wantCode(t, name, b.EndSession(ctx, me, id), errs.NotFound)
	}
	b.wantVerify(bob.AccessToken, "")
	id := b.by(second).SessionID
	if err := b.EndSession(ctx, me, id); err != nil {
		t.Fatal(err)
	}
	b.wantVerify(second.AccessToken, errs.Unauthorized)
	_, err = b.Refresh(ctx, client, second.RefreshToken)
	wantCode(t, "refresh of an ended one", err, errs.Unauthorized)
	wantCode(t, "end again", b.EndSession(ctx, me, id), errs.NotFound)

	for range 2 {
		if err := b.EndOtherSessions(ctx, me); err != nil {
			t.Fatal(err)
		}
	}
	b.wantVerify(first.AccessToken, errs.Unauthorized)
	b.wantVerify(third.AccessToken, "")
	b.wantVerify(bob.AccessToken, "")
	if list, err := b.Sessions(ctx, me, contract.ListSessionsRequest{}); err != nil || len(list.Items) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	if err := b.EndSession(ctx, me, me.SessionID); err != nil {
		t.Error(err)
	}
	b.wantVerify(third.AccessToken, errs.Unauthorized)

	key := b.by(bob)
	key.APIKeyID = uuid.NewString()
	_, err = b.Sessions(ctx, key, contract.ListSessionsRequest{})
	wantCode(t, "list by an API key", err, errs.Forbidden)
	wantCode(t, "end by an API key", b.EndSession(ctx, key, theirs), errs.Forbidden)
	wantCode(t, "end others by an API key", b.EndOtherSessions(ctx, key), errs.Forbidden)
	_, err = b.Sessions(ctx, rpc.Caller{}, contract.ListSessionsRequest{})
	wantCode(t, "list by nobody", err, errs.Unauthorized)
	for _, event := range []string{"session_revoked", "sessions_revoked"} {
		if !strings.Contains(b.log.String(), `"event":"`+event+`"`) {
			t.Errorf("%s is not told", event)
		}
	}
}

func TestStandingIsChanged(t *testing.T) {
	b, ctx := setup(t), t.Context()
	admin, ada := b.by(b.admin("admin@example.com")), b.register("ada@example.com")
	again := b.login("ada@example.com")
	id := ada.User.ID.String()
	patch := func(body string) account.User {
		t.Helper()
		u, err := b.Patch(ctx, admin, id, json.RawMessage(body))
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	patch(`{"role":"USER","active":true,"email":"x"}`) // as it is
	b.wantVerify(ada.AccessToken, "")
	if u := patch(`{"role":"ADMIN"}`); u.Role != rpc.RoleAdmin || !u.Active || u.Email != "ada@example.com" {
		t.Errorf("%+v", u)
	}
	for _, g := range []account.Grant{ada, again} {
		b.wantVerify(g.AccessToken, errs.Unauthorized)
		_, err := b.Refresh(ctx, client, g.RefreshToken)
		wantCode(t, "refresh after a change of the role", err, errs.Unauthorized)
	}
	ada = b.login("ada@example.com")
	if u := patch(`{"active":false}`); u.Active {
		t.Errorf("%+v", u)
	}
	b.wantVerify(ada.AccessToken, errs.Unauthorized)
	_, err := b.Login(ctx, client, "ada@example.com", secret)
	wantCode(t, "login of an inactive account", err, errs.Unauthorized)
	patch(`{"active":true}`)
	b.wantVerify(ada.AccessToken, errs.Unauthorized) // it is over
	b.login("ada@example.com")
	patch(`{"role":"AGENT"}`)
	_, err = b.Login(ctx, client, "ada@example.com", secret)
	wantCode(t, "login of an AGENT", err, errs.Unauthorized)
	if n := strings.Count(b.log.String(), "user_standing_changed"); n != 4 {
		t.Errorf("%d changes are told, want 4", n)
	}

	for body, want := range map[string]string{
		`{"role":"ROOT","active":"no","x":1}`: "active bad_type, role bad_enum, x unknown_field",
		`{"role":null,"active":null}`:         "active required, role required",
		`[]`:                                  " bad_type",
	} {
		_, err := b.Patch(ctx, admin, id, json.RawMessage(body))
		var e *errs.Error
		var faults []string
		if errors.As(err, &e) {
			for _, d := range e.Details {
				faults = append(faults, d.Field+" "+string(d.Code))
			}
		}
		slices.Sort(faults)
		if got := strings.Join(faults, ", "); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
	for _, unknown := range []string{uuid.NewString(), "x"} {
		_, err := b.Patch(ctx, admin, unknown, json.RawMessage(`{"active":false}`))
		wantCode(t, "patch of nobody", err, errs.NotFound)
		_, err = b.Get(ctx, admin, unknown)
		wantCode(t, "get of nobody", err, errs.NotFound)
	}
	key := admin
	key.APIKeyID = uuid.NewString()
	_, err = b.Patch(ctx, key, id, json.RawMessage(`{}`))
	wantCode(t, "patch by an API key", err, errs.Forbidden)
	bob := b.by(b.register("bob@example.com"))
	for who, c := range map[errs.Code]rpc.Caller{errs.Forbidden: bob, errs.Unauthorized: {}} {
		_, err := b.Patch(ctx, c, bob.UserID, json.RawMessage(`{"role":"ADMIN"}`))
		wantCode(t, "patch", err, who)
		_, err = b.Get(ctx, c, bob.UserID)
		wantCode(t, "get", err, who)
		_, err = b.List(ctx, c, contract.ListUsersRequest{})
		wantCode(t, "list", err, who)
	}
}

func TestAccountsAreListed(t *testing.T) {
	b, ctx := setup(t), t.Context()
	admin := b.by(b.admin("admin@example.com"))
	for _, name := range []string{"ada", "bob", "eve"} {
		b.register(name + "@example.com")
	}
	b.exec(`UPDATE users SET active = false WHERE email = 'eve@example.com'`)
	yes, no := true, false
	for want, q := range map[string]contract.ListUsersRequest{
		"eve bob ada admin": {},
		"eve bob ada":       {Role: rpc.RoleUser},
		"bob ada admin":     {Active: &yes},
		"eve":               {Active: &no},
		"bob":               {Page: rpc.Page{Search: "BOB@"}},
		"ada admin bob eve": {Page: rpc.Page{SortBy: "email", SortOrder: "asc"}},
		"":                  {Role: rpc.RoleAgent},
	} {
		b.advance(time.Second)
		list, err := b.List(ctx, admin, q)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, u := range list.Items {
			name, _, _ := strings.Cut(u.Email, "@")
			names = append(names, name)
		}
		if want != "eve bob ada admin" { // made within one moment of the clock that the test moves
			slices.Sort(names)
			expected := strings.Fields(want)
			slices.Sort(expected)
			if !slices.Equal(names, expected) {
				t.Errorf("%+v: %v, want %s", q, names, want)
			}
		} else if len(names) != 4 {
			t.Errorf("%v", names)
		}
	}
	_, err := b.List(ctx, admin, contract.ListUsersRequest{Role: "ROOT"})
	wantCode(t, "unknown role", err, errs.Validation)
	_, err = b.List(ctx, admin, contract.ListUsersRequest{Page: rpc.Page{SortBy: "password_hash"}})
	wantCode(t, "unknown order", err, errs.Validation)
	got, err := b.Get(ctx, admin, admin.UserID)
	if err != nil || got.Email != "admin@example.com" || got.Role != rpc.RoleAdmin {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestTheLastAdminStays has two ADMINs end each other at a time, and then the one that is left itself.
func TestTheLastAdminStays(t *testing.T) {
	b, ctx := setup(t), t.Context()
	for round := range 10 {
		b.exec(`DELETE FROM users`)
		callers := []rpc.Caller{b.by(b.admin("one@example.com")), b.by(b.admin("two@example.com"))}
		bodies := []string{`{"role":"USER"}`, `{"active":false}`}
		results := make([]error, 2)
		var ending sync.WaitGroup
		for i := range callers {
			ending.Go(func() {
				_, results[i] = b.Patch(ctx, callers[i], callers[1-i].UserID, json.RawMessage(bodies[(i+round)%2]))
			})
		}
		ending.Wait()
		if (results[0] == nil) == (results[1] == nil) {
			t.Fatalf("both ended alike: %v", results)
		}
		for i, err := range results {
			if err == nil {
				for _, body := range bodies {
					_, err := b.Patch(ctx, callers[i], callers[i].UserID, json.RawMessage(body))
					wantCode(t, "the last one ends itself", err, errs.Conflict)
				}
			} else {
				wantCode(t, "the second", err, errs.Conflict)
			}
		}
	}
}

// TestNoLoginBehindAChange opens a session with what was read of an account before a change that ends its sessions.
func TestNoLoginBehindAChange(t *testing.T) {
	b, ctx := setup(t), t.Context()
	ada := b.register("ada@example.com")
	for name, change := range map[string]string{
		"deactivated": `UPDATE users SET active = false`, "other role": `UPDATE users SET role = 'ADMIN'`, "other password": `UPDATE users SET password_hash = 'x'`,
	} {
		read, err := b.Store.ByEmail(ctx, "ada@example.com")
		if err != nil {
			t.Fatal(err)
		}
		b.exec(change)
		s := account.Session{ID: account.SessionID{UUID: uuid.New()}, UserID: ada.User.ID, Role: read.Role, CurrentToken: []byte("x"), CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)}
		if err := b.Store.Open(ctx, s, read); !errors.Is(err, account.ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
		b.exec(`UPDATE users SET active = true`)
	}
}
