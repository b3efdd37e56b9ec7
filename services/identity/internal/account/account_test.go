package account_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/migrations"
	pg "turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/pkg/ratelimit"
	"turbocat.io/services/identity/internal/account"
	"turbocat.io/services/identity/internal/liveness"
	"turbocat.io/services/identity/internal/password"
	"turbocat.io/services/identity/internal/postgres"
	"turbocat.io/services/identity/internal/token"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "Correct-Horse-7"

var client = account.Client{IP: "192.0.2.7", UserAgent: "test", RequestID: "r-1"}

// bundle is Accounts on a real database and cache, with a clock that tests move.
type bundle struct {
	*account.Accounts
	t     *testing.T
	db    *sqlx.DB
	redis *miniredis.Miniredis
	log   *lines
	mail  *post

	mu  sync.Mutex
	now time.Time
}

// lines is a log that may be written by many at once.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{t: t, db: pgtest.New(t, "identity", migrations.Of("identity")), redis: miniredis.RunT(t), log: &lines{}, mail: &post{}, now: time.Now()}
	b.Accounts = b.on(b.db)
	return b
}

func (b *bundle) on(db *sqlx.DB) *account.Accounts {
	cache := redis.NewClient(&redis.Options{Addr: b.redis.Addr(), MaxRetries: -1})
	b.t.Cleanup(func() { _ = cache.Close() })
	clock := func() time.Time {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.now
	}
	store, log := postgres.New(db), zerolog.New(b.log)
	return account.New(account.Parts{
		Store: store, Liveness: liveness.New(cache, store, token.AccessLifetime, log),
		Tokens: token.New(strings.Repeat("a", 32), strings.Repeat("r", 32), clock),
		Hasher: password.NewHasher(4), Attempts: ratelimit.New(cache, "test:", log), Mailer: b.mail, Frontend: "https://app.example.com", Now: clock, Log: log,
	})
}

func (b *bundle) advance(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
	b.redis.FastForward(d)
}

func (b *bundle) exec(query string, args ...any) {
	b.t.Helper()
	if _, err := b.db.Exec(query, args...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bundle) register(email string) account.Grant {
	b.t.Helper()
	g, err := b.Register(context.Background(), client, account.Registration{Email: email, Password: secret, FullName: "Ada"})
	if err != nil {
		b.t.Fatal(err)
	}
	return g
}

func wantCode(t *testing.T, what string, err error, want errs.Code) {
	t.Helper()
	if got := errs.CodeOf(err); got != want {
		t.Errorf("%s: %q (%v), want %q", what, got, err, want)
	}
}

func (b *bundle) wantVerify(accessToken string, want errs.Code) {
	b.t.Helper()
	_, err := b.Verify(context.Background(), accessToken)
	wantCode(b.t, "verify", err, want)
}

func TestRegister(t *testing.T) {
	b, ctx := setup(t), context.Background()
	g, err := b.Register(ctx, client, account.Registration{Email: "  Ada@Example.com ", Password: secret, FullName: " Ada L "})
	if err != nil {
		t.Fatal(err)
	}
	if g.User.Email != "ada@example.com" || g.User.FullName != "Ada L" || g.User.Role != rpc.RoleUser || !g.User.Active || g.User.LastLoginAt == nil {
		t.Errorf("user %+v", g.User)
	}
	access, err := b.Verify(ctx, g.AccessToken)
	if err != nil || access.UserID != g.User.ID.UUID || access.Role != rpc.RoleUser {
		t.Errorf("verify: %+v, %v", access, err)
	}
	me, err := b.Me(ctx, g.User.ID.String())
	if err != nil || !me.CreatedAt.Equal(g.User.CreatedAt) || !me.LastLoginAt.Equal(*g.User.LastLoginAt) || string(me.Preferences) != "{}" {
		t.Errorf("me: %+v, %v; want %+v", me, err, g.User)
	}
	var ip, agent string
	if err := b.db.QueryRow(`SELECT ip, user_agent FROM sessions WHERE id = $1`, access.SessionID).Scan(&ip, &agent); err != nil || ip != client.IP || agent != client.UserAgent {
		t.Errorf("session of %q, %q, %v", ip, agent, err)
	}
	_, err = b.Register(ctx, client, account.Registration{Email: "ADA@example.com", Password: secret, FullName: "B"})
	wantCode(t, "taken address", err, errs.Conflict)

	_, err = b.Register(ctx, client, account.Registration{Email: "x", Password: "short", FullName: "\x00"})
	var e *errs.Error
	if !errors.As(err, &e) || e.Code != errs.Validation || e.Message != "6 problems in the registration" || len(e.Details) != 6 {
		t.Errorf("all faults at once: %v %+v", err, e)
	}
}

func TestRegisterRace(t *testing.T) {
	b := setup(t)
	results := make(chan error, 8)
	for range cap(results) {
		go func() {
			_, err := b.Register(context.Background(), client, account.Registration{Email: "ada@example.com", Password: secret, FullName: "Ada"})
			results <- err
		}()
	}
	made := 0
	for range cap(results) {
		if err := <-results; err == nil {
			made++
		} else {
			wantCode(t, "loser", err, errs.Conflict)
		}
	}
	if made != 1 {
		t.Errorf("%d accounts were made", made)
	}
}

func TestLogin(t *testing.T) {
	b, ctx := setup(t), context.Background()
	first := b.register("ada@example.com")
	b.register("gone@example.com")
	b.exec(`UPDATE users SET active = false WHERE email = 'gone@example.com'`)
	if _, _, err := b.Seed(ctx, uuid.NewString(), rpc.RoleAgent, account.Registration{Email: "robot@example.com", Password: secret, FullName: "Robot"}); err != nil {
		t.Fatal(err)
	}

	b.advance(time.Hour)
	g, err := b.Login(ctx, client, " ADA@example.com", secret)
	if err != nil {
		t.Fatal(err)
	}
	if g.Access.SessionID == first.Access.SessionID || !g.User.LastLoginAt.After(*first.User.LastLoginAt) {
		t.Errorf("no new session: %+v", g)
	}
	if me, err := b.Me(ctx, g.User.ID.String()); err != nil || !me.LastLoginAt.Equal(*g.User.LastLoginAt) {
		t.Errorf("last login not recorded: %+v, %v", me, err)
	}

	var answers []string
	for _, c := range []struct{ email, password string }{
		{"nobody@example.com", secret}, {"ada@example.com", secret + "x"}, {"gone@example.com", secret}, {"robot@example.com", secret},
	} {
		_, err := b.Login(ctx, client, c.email, c.password)
		wantCode(t, c.email, err, errs.Unauthorized)
		answers = append(answers, errs.From(err).Message)
	}
	for _, a := range answers[1:] {
		if a != answers[0] {
			t.Errorf("answers differ: %q", answers)
		}
	}
	for _, c := range []struct{ email, password string }{
		{"", secret},
		{"ada@example.com", ""},
		{"ada@example.com", "a\x00b"},
		{"ada@example.com", "\xff"},
		{"a\x00@b.c", secret},
		{"ada@example.com", strings.Repeat("a", 257)},
		{strings.Repeat("a", 1<<16) + "@b.c", secret},
	} {
		_, err := b.Login(ctx, client, c.email, c.password)
		wantCode(t, "unfit input", err, errs.Validation)
	}

	log := b.log.String()
	for _, reason := range []string{"unknown_address", "wrong_password", "inactive_account", "service_account"} {
		if !strings.Contains(log, reason) {
			t.Errorf("no log line of a login refused for %s", reason)
		}
	}
	for _, leak := range []string{secret, "nobody@", g.AccessToken, g.RefreshToken} {
		if strings.Contains(log, leak) {
			t.Errorf("the log holds %q", leak)
		}
	}
}

func TestLoginDropsExpiredSessions(t *testing.T) {
	b, ctx := setup(t), context.Background()
	b.register("ada@example.com")
	b.advance(token.RefreshLifetime + time.Minute)
	if _, err := b.Login(ctx, client, "ada@example.com", secret); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := b.db.QueryRow(`SELECT count(*) FROM sessions`).Scan(&n); err != nil || n != 1 {
		t.Errorf("%d sessions, %v", n, err)
	}
}

func TestRefreshRotatesAndReuseEndsTheFamily(t *testing.T) {
	b, ctx := setup(t), context.Background()
	other := b.register("ada@example.com")
	first, err := b.Login(ctx, client, "ada@example.com", secret)
	if err != nil {
		t.Fatal(err)
	}
	b.advance(10 * time.Minute)
	second, err := b.Refresh(ctx, client, first.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if second.Access.SessionID != first.Access.SessionID || second.RefreshToken == first.RefreshToken || !second.Refresh.ExpiresAt.After(first.Refresh.ExpiresAt) || second.User.Email != "ada@example.com" {
		t.Errorf("not rotated: %+v", second)
	}
	third, err := b.Refresh(ctx, client, second.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	b.wantVerify(third.AccessToken, "")

	_, err = b.Refresh(ctx, client, first.RefreshToken)
	wantCode(t, "reuse", err, errs.Unauthorized)
	for _, g := range []account.Grant{first, second, third} {
		b.wantVerify(g.AccessToken, errs.Unauthorized)
		_, err := b.Refresh(ctx, client, g.RefreshToken)
		wantCode(t, "refresh of an ended family", err, errs.Unauthorized)
	}
	b.wantVerify(other.AccessToken, "")
	if !strings.Contains(b.log.String(), "refresh_reuse") {
		t.Error("the reuse is not logged")
	}
	var reason string
	if err := b.db.QueryRow(`SELECT revoke_reason FROM sessions WHERE id = $1`, first.Access.SessionID).Scan(&reason); err != nil || reason != "refresh_reuse" {
		t.Errorf("recorded reason %q, %v", reason, err)
	}
}

func TestConcurrentRefreshHasOneWinnerAndEndsTheFamily(t *testing.T) {
	b, ctx := setup(t), context.Background()
	g := b.register("ada@example.com")
	type result struct {
		grant account.Grant
		err   error
	}
	results := make(chan result, 8)
	b.crowd(g.Access.SessionID, cap(results), func() {
		grant, err := b.Refresh(ctx, client, g.RefreshToken)
		results <- result{grant, err}
	})
	var won []account.Grant
	for range cap(results) {
		if r := <-results; r.err == nil {
			won = append(won, r.grant)
		} else {
			wantCode(t, "loser", r.err, errs.Unauthorized)
		}
	}
	if len(won) != 1 {
		t.Fatalf("%d refreshes won", len(won))
	}
	b.wantVerify(won[0].AccessToken, errs.Unauthorized)
	_, err := b.Refresh(ctx, client, won[0].RefreshToken)
	wantCode(t, "the winner's token", err, errs.Unauthorized)
}

// crowd runs fn n times at once and holds all back at a session's row until the last has come.
func (b *bundle) crowd(session uuid.UUID, n int, fn func()) {
	b.t.Helper() // n at most 8: the gate and the count take two more of the pool's connections
	gate, err := b.db.Beginx()
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = gate.Rollback() }()
	if _, err := gate.Exec(`SELECT 1 FROM sessions WHERE id = $1 FOR UPDATE`, session); err != nil {
		b.t.Fatal(err)
	}
	for range n {
		go fn()
	}
	deadline := time.After(2 * time.Second) // below the lock timeout
	for waiting := 0; waiting < n; {
		if err := b.db.Get(&waiting, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`); err != nil {
			b.t.Fatal(err)
		}
		select {
		case <-deadline:
			b.t.Fatalf("%d of %d wait at the session", waiting, n)
		default:
		}
	}
}

func TestExpiry(t *testing.T) {
	b, ctx := setup(t), context.Background()
	g := b.register("ada@example.com")
	b.advance(token.AccessLifetime - 2*time.Second)
	b.wantVerify(g.AccessToken, "")
	b.advance(2 * time.Second)
	b.wantVerify(g.AccessToken, errs.TokenExpired)
	b.wantVerify(g.RefreshToken, errs.Unauthorized)
	b.wantVerify("garbage", errs.Unauthorized)
	b.advance(token.RefreshLifetime)
	_, err := b.Refresh(ctx, client, g.RefreshToken)
	wantCode(t, "an expired refresh token", err, errs.Unauthorized)
	wantCode(t, "logout with it", b.Logout(ctx, client, g.RefreshToken), errs.Unauthorized)
}

func TestLogout(t *testing.T) {
	b, ctx := setup(t), context.Background()
	g := b.register("ada@example.com")
	b.wantVerify(g.AccessToken, "") // and remembers it
	if err := b.Logout(ctx, client, g.RefreshToken); err != nil {
		t.Fatal(err)
	}
	b.wantVerify(g.AccessToken, errs.Unauthorized)
	_, err := b.Refresh(ctx, client, g.RefreshToken)
	wantCode(t, "refresh after logout", err, errs.Unauthorized)
	if err := b.Logout(ctx, client, g.RefreshToken); err != nil {
		t.Errorf("a second logout: %v", err)
	}
	wantCode(t, "access token", b.Logout(ctx, client, g.AccessToken), errs.Unauthorized)
	wantCode(t, "garbage", b.Logout(ctx, client, "\x00"), errs.Unauthorized)
	b.redis.FlushAll()
	b.wantVerify(g.AccessToken, errs.Unauthorized)
}

func TestAccountChangesEndSessions(t *testing.T) {
	for name, change := range map[string]string{"deactivated": `UPDATE users SET active = false`, "another role": `UPDATE users SET role = 'ADMIN'`} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			g := b.register("ada@example.com")
			b.wantVerify(g.AccessToken, "")
			b.exec(change)
			b.advance(5 * time.Second)
			b.wantVerify(g.AccessToken, errs.Unauthorized)
			_, err := b.Refresh(context.Background(), client, g.RefreshToken)
			wantCode(t, "refresh", err, errs.Unauthorized)
		})
	}
}

func TestLostRedis(t *testing.T) {
	b, ctx := setup(t), context.Background()
	g, ended := b.register("ada@example.com"), b.register("eve@example.com")
	if err := b.Logout(ctx, client, ended.RefreshToken); err != nil {
		t.Fatal(err)
	}
	b.redis.Close()
	b.wantVerify(g.AccessToken, "")
	b.wantVerify(ended.AccessToken, errs.Unauthorized)
	next, err := b.Refresh(ctx, client, g.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Logout(ctx, client, next.RefreshToken); err != nil {
		t.Fatal(err)
	}
	b.wantVerify(next.AccessToken, errs.Unauthorized)
	if err := b.redis.Restart(); err != nil {
		t.Fatal(err)
	}
	b.wantVerify(next.AccessToken, errs.Unauthorized)
	b.wantVerify(ended.AccessToken, errs.Unauthorized)
}

func TestLostDatabase(t *testing.T) {
	b, ctx := setup(t), context.Background()
	g := b.register("ada@example.com")
	away, err := pg.Open("postgres://turbocat@127.0.0.1:1/none?sslmode=disable", "identity")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = away.Close() })
	lost := b.on(away)
	id := g.User.ID.String()
	for name, call := range map[string]func() error{
		"register": func() error {
			_, err := lost.Register(ctx, client, account.Registration{Email: "b@b.c", Password: secret, FullName: "B"})
			return err
		},
		"login":     func() error { _, err := lost.Login(ctx, client, "ada@example.com", secret); return err },
		"refresh":   func() error { _, err := lost.Refresh(ctx, client, g.RefreshToken); return err },
		"logout":    func() error { return lost.Logout(ctx, client, g.RefreshToken) },
		"verify":    func() error { _, err := lost.Verify(ctx, g.AccessToken); return err },
		"get me":    func() error { _, err := lost.Me(ctx, id); return err },
		"update me": func() error { _, err := lost.UpdateMe(ctx, id, json.RawMessage(`{}`)); return err },
		"seed": func() error {
			_, _, err := lost.Seed(ctx, id, rpc.RoleUser, account.Registration{Email: "b@b.c", Password: secret, FullName: "B"})
			return err
		},
	} {
		wantCode(t, name, call(), errs.DependencyUnavailable)
	}
}

func TestUpdateMe(t *testing.T) {
	b, ctx := setup(t), context.Background()
	g := b.register("ada@example.com")
	id := g.User.ID.String()
	body := `{"fullName":"Ada Lovelace","avatarUrl":"https://x.example/a.png","preferences":{"n":1e400,"s":"\ud800","a":[1,{"b":null}]},"role":"ADMIN"}`
	changed, err := b.UpdateMe(ctx, id, json.RawMessage(body))
	if err != nil {
		t.Fatal(err)
	}
	me, err := b.Me(ctx, id)
	if err != nil || me.FullName != "Ada Lovelace" || *me.AvatarURL != "https://x.example/a.png" || me.Role != rpc.RoleUser ||
		string(me.Preferences) != `{"n":1e400,"s":"\ud800","a":[1,{"b":null}]}` || string(me.Preferences) != string(changed.Preferences) {
		t.Errorf("got %+v, %v", me, err)
	}
	_, err = b.UpdateMe(ctx, id, json.RawMessage(`{"fullName":""}`))
	wantCode(t, "no name", err, errs.Validation)
	for _, who := range []string{"", "x", uuid.NewString()} {
		_, err = b.UpdateMe(ctx, who, json.RawMessage(`{}`))
		wantCode(t, "update of nobody", err, errs.Unauthorized)
		_, err = b.Me(ctx, who)
		wantCode(t, "nobody", err, errs.Unauthorized)
	}
}

func TestSeed(t *testing.T) {
	b, ctx := setup(t), context.Background()
	id := uuid.NewString()
	r := account.Registration{Email: "Admin@turbocat.dev", Password: secret, FullName: "Admin"}
	u, created, err := b.Seed(ctx, id, rpc.RoleAdmin, r)
	if err != nil || !created || u.ID.String() != id || u.Role != rpc.RoleAdmin || u.LastLoginAt != nil {
		t.Fatalf("%+v, %v, %v", u, created, err)
	}
	for name, again := range map[string]struct{ id, email string }{
		"same": {id, r.Email}, "address taken": {uuid.NewString(), r.Email}, "id taken": {id, "other@turbocat.dev"},
	} {
		got, created, err := b.Seed(ctx, again.id, rpc.RoleUser, account.Registration{Email: again.email, Password: "Another-Pass-8", FullName: "Other"})
		if err != nil || created || got.ID.String() != id || got.Role != rpc.RoleAdmin || got.FullName != "Admin" {
			t.Errorf("%s: %+v, %v, %v", name, got, created, err)
		}
	}
	if _, err := b.Login(ctx, client, "admin@turbocat.dev", secret); err != nil {
		t.Errorf("the first password: %v", err)
	}
	_, _, err = b.Seed(ctx, "1", "ROOT", account.Registration{})
	var e *errs.Error
	if !errors.As(err, &e) || e.Code != errs.Validation || len(e.Details) != 5 {
		t.Errorf("all faults at once: %+v", e)
	}
}

func TestSeedRace(t *testing.T) {
	b := setup(t)
	made := make(chan bool, 4)
	for range cap(made) {
		go func() {
			u, created, err := b.Seed(context.Background(), uuid.NewString(), rpc.RoleAdmin, account.Registration{Email: "admin@turbocat.dev", Password: secret, FullName: "Admin"})
			if err != nil || u.Email != "admin@turbocat.dev" {
				t.Errorf("%+v, %v", u, err)
			}
			made <- created
		}()
	}
	n := 0
	for range cap(made) {
		if <-made {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d accounts were made", n)
	}
}
