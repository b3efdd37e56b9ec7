package apikey_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/migrations"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/services/identity/internal/account"
	"turbocat.io/services/identity/internal/apikey"
	"turbocat.io/services/identity/internal/postgres"
)

// bundle is Keys on a real database, with a clock that tests move.
type bundle struct {
	*apikey.Keys
	t   *testing.T
	db  *sqlx.DB
	log *bytes.Buffer
	now time.Time
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{t: t, db: pgtest.New(t, "identity", migrations.Of("identity")), log: &bytes.Buffer{}, now: time.Now().UTC().Truncate(time.Microsecond)}
	b.Keys = apikey.New(postgres.NewKeys(b.db), func() time.Time { return b.now }, zerolog.New(zerolog.SyncWriter(b.log)))
	return b
}

// user makes an account and gives it as a caller that has logged in.
func (b *bundle) user(role string) rpc.Caller {
	b.t.Helper()
	id := uuid.Must(uuid.NewV7())
	u := account.User{ID: account.UserID{UUID: id}, Email: id.String() + "@example.com", Role: role, Active: true, Preferences: json.RawMessage("{}"), CreatedAt: b.now}
	if err := postgres.New(b.db).Create(b.t.Context(), u, nil); err != nil {
		b.t.Fatal(err)
	}
	return rpc.Caller{UserID: id.String(), Role: role, SessionID: uuid.NewString(), IP: "192.0.2.7", RequestID: "r-1"}
}

func (b *bundle) create(c rpc.Caller, body string) (apikey.Key, string) {
	b.t.Helper()
	k, text, err := b.Create(b.t.Context(), c, json.RawMessage(body))
	if err != nil {
		b.t.Fatal(err)
	}
	return k, text
}

func (b *bundle) verify(text string, want errs.Code) contract.VerifyAPIKeyResponse {
	b.t.Helper()
	who, err := b.Verify(context.Background(), text)
	wantCode(b.t, "verify", err, want)
	return who
}

func wantCode(t *testing.T, what string, err error, want errs.Code) {
	t.Helper()
	if got := errs.CodeOf(err); got != want {
		t.Errorf("%s: %q (%v), want %q", what, got, err, want)
	}
}

const plain = `{"name":"nightly","scopes":["agents:read"]}`

func TestAKeyFromItsMakingToItsEnd(t *testing.T) {
	b, ctx := setup(t), t.Context()
	ada := b.user(rpc.RoleUser)
	k, text := b.create(ada, `{"name":"ci","scopes":["agents:read"],"rateLimitPerMinute":30}`)
	who := b.verify(text, "")
	if who.UserID != ada.UserID || who.Role != rpc.RoleUser || who.APIKeyID != k.ID.String() || len(who.Scopes) != 1 || who.RateLimitPerMinute != 30 || who.ExpiresAt != nil {
		t.Errorf("%+v", who)
	}
	b.verify(text[:len(text)-1]+"x", errs.Unauthorized)

	var stored string
	if err := b.db.Get(&stored, `SELECT string_agg(api_keys::text, '') FROM api_keys`); err != nil || strings.Contains(stored, text[30:]) {
		t.Errorf("the table holds the secret: %s, %v", stored, err)
	}
	used := func() *time.Time {
		list, err := b.List(ctx, ada, contract.ListAPIKeysRequest{})
		if err != nil || len(list.Items) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
		return list.Items[0].LastUsedAt
	}
	first := b.now
	b.now = b.now.Add(59 * time.Second)
	b.verify(text, "")
	if at := used(); at == nil || !at.Equal(first) {
		t.Errorf("used at %v, want %v", at, first)
	}
	b.now = b.now.Add(time.Second)
	b.verify(text, "")
	if at := used(); !at.Equal(b.now) {
		t.Errorf("used at %v, want %v", at, b.now)
	}

	changed, err := b.Patch(ctx, ada, k.ID.String(), json.RawMessage(`{"scopes":["agents:write"],"rateLimitPerMinute":null}`))
	if err != nil || changed.Name != "ci" || !changed.UpdatedAt.Equal(b.now) {
		t.Errorf("%+v, %v", changed, err)
	}
	if who := b.verify(text, ""); len(who.Scopes) != 1 || who.Scopes[0] != "agents:write" || who.RateLimitPerMinute != 0 {
		t.Errorf("%+v", who)
	}

	_, next, err := b.Rotate(ctx, ada, k.ID.String(), 60_000)
	if err != nil {
		t.Fatal(err)
	}
	b.verify(next, "")
	if who := b.verify(text, ""); who.ExpiresAt == nil || !who.ExpiresAt.Equal(b.now.Add(time.Minute)) {
		t.Errorf("the old secret works until %v", who.ExpiresAt)
	}
	b.now = b.now.Add(time.Minute)
	b.verify(text, errs.Unauthorized)
	_, last, err := b.Rotate(ctx, ada, k.ID.String(), 0)
	if err != nil {
		t.Fatal(err)
	}
	b.verify(next, errs.Unauthorized)
	for _, overlap := range []int64{-1, 7*24*3600*1000 + 1, 1 << 62} {
		_, _, err = b.Rotate(ctx, ada, k.ID.String(), overlap)
		wantCode(t, "rotate", err, errs.Validation)
	}

	if err := b.Revoke(ctx, ada, k.ID.String()); err != nil {
		t.Fatal(err)
	}
	b.verify(last, errs.Unauthorized)
	wantCode(t, "revoke again", b.Revoke(ctx, ada, k.ID.String()), errs.NotFound)
	_, err = b.Patch(ctx, ada, k.ID.String(), json.RawMessage(`{"name":"x"}`))
	wantCode(t, "change a revoked one", err, errs.NotFound)
	_, _, err = b.Rotate(ctx, ada, k.ID.String(), 0)
	wantCode(t, "rotate a revoked one", err, errs.NotFound)
	if list, err := b.List(ctx, ada, contract.ListAPIKeysRequest{}); err != nil || len(list.Items) != 0 {
		t.Errorf("listed %+v, %v", list, err)
	}
	if list, err := b.List(ctx, ada, contract.ListAPIKeysRequest{Revoked: true}); err != nil || len(list.Items) != 1 || list.Items[0].RevokedAt == nil {
		t.Errorf("revoked are listed %+v, %v", list, err)
	}
	for _, event := range []string{"created", "changed", "rotated", "revoked"} {
		if !strings.Contains(b.log.String(), `"event":"api_key_`+event+`"`) {
			t.Errorf("%s is not told", event)
		}
	}
	for _, secret := range []string{text, next, last} {
		if strings.Contains(b.log.String(), secret[30:]) {
			t.Error("the log holds a key")
		}
	}
}

func TestExpiryAndDeactivation(t *testing.T) {
	b := setup(t)
	ada := b.user(rpc.RoleUser)
	_, text := b.create(ada, fmt.Sprintf(`{"name":"ci","scopes":["agents:read"],"expiresAt":%q}`, b.now.Add(time.Hour).Format(time.RFC3339Nano)))
	if who := b.verify(text, ""); who.ExpiresAt == nil || !who.ExpiresAt.Equal(b.now.Add(time.Hour)) {
		t.Errorf("%+v", who)
	}
	for _, active := range []bool{false, true} {
		if _, err := b.db.Exec(`UPDATE users SET active = $1, role = 'AGENT'`, active); err != nil {
			t.Fatal(err)
		}
		if active {
			if who := b.verify(text, ""); who.Role != rpc.RoleAgent {
				t.Errorf("a key acts as %s, which its user was", who.Role)
			}
		} else {
			b.verify(text, errs.Unauthorized)
		}
	}
	b.now = b.now.Add(time.Hour)
	b.verify(text, errs.Unauthorized)
}

func TestWhoseKeys(t *testing.T) {
	b, ctx := setup(t), t.Context()
	ada, bob, admin, robot := b.user(rpc.RoleUser), b.user(rpc.RoleUser), b.user(rpc.RoleAdmin), b.user(rpc.RoleAgent)
	of := func(c rpc.Caller) string {
		return fmt.Sprintf(`{"name":"ci","scopes":["agents:read"],"userId":%q}`, c.UserID)
	}
	adas, _ := b.create(ada, of(ada))
	robots, text := b.create(admin, of(robot))
	if who := b.verify(text, ""); who.UserID != robot.UserID || who.Role != rpc.RoleAgent {
		t.Errorf("%+v", who)
	}
	withKey := ada
	withKey.APIKeyID = uuid.NewString()
	for name, c := range map[string]struct {
		caller rpc.Caller
		body   string
		want   errs.Code
	}{
		"for another":                {bob, of(ada), errs.Forbidden},
		"for an agent, by a user":    {bob, of(robot), errs.Forbidden},
		"for a user, by an admin":    {admin, of(ada), errs.Forbidden},
		"for nobody, by a user":      {bob, of(rpc.Caller{UserID: uuid.NewString()}), errs.Forbidden},
		"for nobody, by an admin":    {admin, of(rpc.Caller{UserID: uuid.NewString()}), errs.Validation},
		"for what is no id":          {admin, strings.Replace(of(ada), ada.UserID, strings.Repeat("x", 36), 1), errs.Validation},
		"anonymous":                  {rpc.Caller{}, plain, errs.Unauthorized},
		"by an API key":              {withKey, plain, errs.Forbidden},
		"by who has no account more": {rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleUser}, plain, errs.Validation},
	} {
		_, _, err := b.Create(ctx, c.caller, json.RawMessage(c.body))
		wantCode(t, name, err, c.want)
	}
	try := func(name string, c rpc.Caller, k apikey.Key, patch, rotate, revoke errs.Code) {
		t.Helper()
		_, err := b.Patch(ctx, c, k.ID.String(), json.RawMessage(`{"name":"x"}`))
		wantCode(t, name+" patches", err, patch)
		_, _, err = b.Rotate(ctx, c, k.ID.String(), 0)
		wantCode(t, name+" rotates", err, rotate)
		if revoke != "" {
			wantCode(t, name+" revokes", b.Revoke(ctx, c, k.ID.String()), revoke)
		}
	}
	try("another", bob, adas, errs.NotFound, errs.NotFound, errs.NotFound)
	try("a key", withKey, adas, errs.Forbidden, errs.Forbidden, errs.Forbidden)
	try("the owner", ada, adas, "", "", "")
	try("an admin", admin, adas, "", errs.Forbidden, "") // who has the secret can act as its owner
	try("an admin", admin, robots, "", "", "")
	if err := b.Revoke(ctx, admin, adas.ID.String()); err != nil {
		t.Error(err)
	}
	wantCode(t, "what is no id", b.Revoke(ctx, admin, "x"), errs.NotFound)

	_, _ = b.create(bob, plain)
	for name, c := range map[string]struct {
		caller rpc.Caller
		of     string
		want   int // -1 for FORBIDDEN
	}{
		"one's own":     {bob, "", 1},
		"by one's id":   {bob, bob.UserID, 1},
		"another's":     {bob, ada.UserID, -1},
		"an admin all":  {admin, "", 2},
		"an admin some": {admin, robot.UserID, 1},
	} {
		list, err := b.List(ctx, c.caller, contract.ListAPIKeysRequest{UserID: c.of})
		if c.want < 0 {
			wantCode(t, name, err, errs.Forbidden)
		} else if err != nil || len(list.Items) != c.want || list.Pagination.Total != c.want {
			t.Errorf("%s: %+v, %v", name, list, err)
		}
	}
	_, err := b.List(ctx, admin, contract.ListAPIKeysRequest{UserID: "x", Page: rpc.Page{SortBy: "digest"}})
	wantCode(t, "list wrongly", err, errs.Validation)
	list, err := b.List(ctx, admin, contract.ListAPIKeysRequest{Page: rpc.Page{SortBy: "name", SortOrder: "asc", PageSize: 1}})
	if err != nil || len(list.Items) != 1 || list.Pagination.NextCursor == nil {
		t.Fatalf("%+v, %v", list, err)
	}
	if found, err := b.List(ctx, admin, contract.ListAPIKeysRequest{Page: rpc.Page{Search: "NIGHTLY"}}); err != nil || len(found.Items) != 1 || found.Items[0].UserID.String() != bob.UserID {
		t.Errorf("found %+v, %v", found, err)
	}
	rest, err := b.List(ctx, admin, contract.ListAPIKeysRequest{Page: rpc.Page{PageSize: 1, Cursor: *list.Pagination.NextCursor}})
	if err != nil || len(rest.Items) != 1 || rest.Items[0].ID == list.Items[0].ID {
		t.Errorf("%+v, %v", rest, err)
	}
}

// TestKeysOfAUserAreBounded makes the last ones at a time.
func TestKeysOfAUserAreBounded(t *testing.T) {
	b := setup(t)
	ada := b.user(rpc.RoleUser)
	for range apikey.MaxKeys - 2 {
		b.create(ada, plain)
	}
	results := make(chan error, 6)
	var making sync.WaitGroup
	for range cap(results) {
		making.Go(func() {
			_, _, err := b.Create(context.Background(), ada, json.RawMessage(plain))
			results <- err
		})
	}
	making.Wait()
	made := 0
	for range cap(results) {
		if err := <-results; err == nil {
			made++
		} else {
			wantCode(t, "beyond", err, errs.Conflict)
		}
	}
	if made != 2 {
		t.Errorf("%d were made, want 2", made)
	}
	list, err := b.List(t.Context(), ada, contract.ListAPIKeysRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Revoke(t.Context(), ada, list.Items[0].ID.String()); err != nil {
		t.Fatal(err)
	}
	b.create(ada, plain)
}
