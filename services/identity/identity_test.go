package identity

import (
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"go.uber.org/goleak"

	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/migrations"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/pkg/redistest"
	"turbocat.io/pkg/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "Correct-Horse-7"

// start runs the service as its own process would and gives a connection to call it over.
func start(t *testing.T) *bus.Conn {
	t.Helper()
	c, _ := startWithDatabase(t)
	return c
}

// startWithDatabase is start for tests that look at what is stored.
func startWithDatabase(t *testing.T) (*bus.Conn, *sqlx.DB) {
	t.Helper()
	environ, db := installation(t)
	runIdentity(t, environ)
	return bustest.Connect(t, environ["NATS_URL"]), db
}

// installation gives what the service needs to run, and its database.
func installation(t *testing.T) (environ map[string]string, db *sqlx.DB) {
	t.Helper()
	database := pgtest.URL(t, map[string]fs.FS{"identity": migrations.Of("identity")})
	db, err := postgres.Open(database, contract.Service)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return map[string]string{
		"NATS_URL": bustest.Server(t), "REDIS_URL": redistest.URL(t), "LOG_LEVEL": "error",
		"DATABASE_URL":       database,
		"JWT_ACCESS_SECRET":  strings.Repeat("a", seal.MinKey),
		"JWT_REFRESH_SECRET": strings.Repeat("r", seal.MinKey), "ENCRYPTION_KEY": strings.Repeat("e", seal.MinKey), "TURBOCAT_IDENTITY_BCRYPT_COST": "4",
	}, db
}

// runIdentity runs the service until the test ends; it works when this returns.
func runIdentity(t *testing.T, environ map[string]string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- Spec().Unit().Run(ctx, environ, io.Discard, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the service ended with %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		done <- err
		t.Fatal("the service ended early")
	case <-time.After(20 * time.Second):
		t.Fatal("the service does not become ready")
	}
}

func wantCode(t *testing.T, what string, err error, want errs.Code) {
	t.Helper()
	if got := errs.CodeOf(err); got != want {
		t.Errorf("%s: %q (%v), want %q", what, got, err, want)
	}
}

func TestService(t *testing.T) {
	c, ctx := start(t), context.Background()
	anonymous := rpc.Caller{IP: "192.0.2.7", UserAgent: "te\x00st", RequestID: "r-1"}

	registered, err := bus.Call(ctx, c, contract.Register, anonymous, contract.RegisterRequest{Email: "Ada@example.com", Password: secret, FullName: "Ada"})
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(registered)
	if err != nil || strings.Contains(strings.ToLower(string(body)), "hash") || registered.TokenType != "Bearer" || string(registered.User.Preferences) != "{}" {
		t.Errorf("registered: %s, %v", body, err)
	}
	_, err = bus.Call(ctx, c, contract.Register, anonymous, contract.RegisterRequest{Email: "ada@example.com", Password: secret, FullName: "Ada"})
	wantCode(t, "register again", err, errs.Conflict)

	session, err := bus.Call(ctx, c, contract.Login, anonymous, contract.LoginRequest{Email: "ada@example.com", Password: secret})
	if err != nil {
		t.Fatal(err)
	}
	_, err = bus.Call(ctx, c, contract.Login, anonymous, contract.LoginRequest{Email: "ada@example.com", Password: "Wrong-Horse-7"})
	wantCode(t, "wrong password", err, errs.Unauthorized)

	who, err := bus.Call(ctx, c, contract.Verify, anonymous, contract.VerifyRequest{AccessToken: session.AccessToken})
	if err != nil || who.UserID != session.User.ID || who.Role != rpc.RoleUser || !who.ExpiresAt.Equal(session.ExpiresAt) {
		t.Errorf("verify: %+v, %v", who, err)
	}
	me := rpc.Caller{UserID: who.UserID, Role: who.Role, SessionID: who.SessionID, RequestID: "r-2"}
	changed, err := bus.Call(ctx, c, contract.UpdateMe, me, contract.UpdateUserRequest{Patch: json.RawMessage(`{"fullName":"Ada L","preferences":{"a":1}}`)})
	if err != nil || changed.FullName != "Ada L" || string(changed.Preferences) != `{"a":1}` {
		t.Errorf("update: %+v, %v", changed, err)
	}
	user, err := bus.Call(ctx, c, contract.GetMe, me, rpc.Empty{})
	if err != nil || user.FullName != "Ada L" || user.Email != "ada@example.com" {
		t.Errorf("get: %+v, %v", user, err)
	}
	_, err = bus.Call(ctx, c, contract.GetMe, anonymous, rpc.Empty{})
	wantCode(t, "get of nobody", err, errs.Unauthorized)

	next, err := bus.Call(ctx, c, contract.Refresh, anonymous, contract.RefreshRequest{RefreshToken: session.RefreshToken})
	if err != nil || next.User.FullName != "Ada L" {
		t.Fatalf("refresh: %+v, %v", next, err)
	}
	if _, err := bus.Call(ctx, c, contract.Logout, me, contract.RefreshRequest{RefreshToken: next.RefreshToken}); err != nil {
		t.Errorf("logout: %v", err)
	}
	_, err = bus.Call(ctx, c, contract.Verify, anonymous, contract.VerifyRequest{AccessToken: next.AccessToken})
	wantCode(t, "verify after logout", err, errs.Unauthorized)
	if _, err := bus.Call(ctx, c, contract.Verify, anonymous, contract.VerifyRequest{AccessToken: registered.AccessToken}); err != nil {
		t.Errorf("another session: %v", err)
	}

	seed := contract.SeedUserRequest{ID: uuid.NewString(), Email: "admin@turbocat.dev", Password: secret, FullName: "Admin", Role: rpc.RoleAdmin}
	for name, caller := range map[string]rpc.Caller{"anonymous": anonymous, "user": me, "admin with a login": {UserID: who.UserID, Role: rpc.RoleAdmin}} {
		_, err := bus.Call(ctx, c, contract.SeedUser, caller, seed)
		wantCode(t, "seed by "+name, err, errs.Forbidden)
	}
	for _, created := range []bool{true, false} {
		seeded, err := bus.Call(ctx, c, contract.SeedUser, rpc.System("r-3"), seed)
		if err != nil || seeded.Created != created || seeded.User.ID != seed.ID || seeded.User.Role != rpc.RoleAdmin {
			t.Errorf("seed: %+v, %v", seeded, err)
		}
	}
}

func TestHostileText(t *testing.T) {
	c, ctx := start(t), context.Background()
	me, err := bus.Call(ctx, c, contract.Register, rpc.Caller{}, contract.RegisterRequest{Email: "ada@example.com", Password: secret, FullName: "Ada"})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"\x00", "a\x00b", "\xff\xfe", strings.Repeat("x", 1<<20), "'; DROP TABLE users; --\x00", "\u2028\x1b[31m"} {
		for name, call := range map[string]func() error{
			"register": func() error {
				_, err := bus.Call(ctx, c, contract.Register, rpc.Caller{}, contract.RegisterRequest{Email: text, Password: text, FullName: text})
				return err
			},
			"login": func() error {
				_, err := bus.Call(ctx, c, contract.Login, rpc.Caller{}, contract.LoginRequest{Email: text, Password: text})
				return err
			},
			"update": func() error {
				quoted, err := json.Marshal(text)
				if err != nil {
					return err
				}
				_, err = bus.Call(ctx, c, contract.UpdateMe, rpc.Caller{UserID: me.User.ID}, contract.UpdateUserRequest{Patch: json.RawMessage(`{"avatarUrl":` + string(quoted) + `}`)})
				return err
			},
			"seed": func() error {
				_, err := bus.Call(ctx, c, contract.SeedUser, rpc.System(""), contract.SeedUserRequest{ID: text, Email: text, Password: text, FullName: text, Role: text})
				return err
			},
		} {
			if got := errs.CodeOf(call()); got != errs.Validation {
				t.Errorf("%s with %.20q: %s", name, text, got)
			}
		}
		for name, call := range map[string]func() error{
			"refresh": func() error {
				_, err := bus.Call(ctx, c, contract.Refresh, rpc.Caller{}, contract.RefreshRequest{RefreshToken: text})
				return err
			},
			"logout": func() error {
				_, err := bus.Call(ctx, c, contract.Logout, rpc.Caller{}, contract.RefreshRequest{RefreshToken: text})
				return err
			},
			"verify": func() error {
				_, err := bus.Call(ctx, c, contract.Verify, rpc.Caller{}, contract.VerifyRequest{AccessToken: text})
				return err
			},
		} {
			if got := errs.CodeOf(call()); got != errs.Unauthorized {
				t.Errorf("%s with %.20q: %s", name, text, got)
			}
		}
	}
}

func TestConfig(t *testing.T) {
	good := Config{AccessSecret: strings.Repeat("a", 32), RefreshSecret: strings.Repeat("r", 32), BcryptCost: 12, Keys: seal.Keys{Current: strings.Repeat("e", 32)}}
	tests := []struct {
		name   string
		change func(*Config)
		want   []string
	}{
		{"good", func(*Config) {}, nil},
		{"no secrets", func(c *Config) { c.AccessSecret, c.RefreshSecret = "", "" }, []string{"JWT_ACCESS_SECRET is not set; set it", "JWT_REFRESH_SECRET is not set; set it"}},
		{"blank secret", func(c *Config) { c.AccessSecret = strings.Repeat(" ", 40) }, []string{"JWT_ACCESS_SECRET is not set"}},
		{"no encryption key", func(c *Config) { c.Keys.Current = "" }, []string{"ENCRYPTION_KEY is not set; set it"}},
		{"a short old key", func(c *Config) { c.Keys.Old = []string{strings.Repeat("o", 32), "rrrr"} }, []string{"a key of TURBOCAT_OLD_ENCRYPTION_KEYS has 4 bytes"}},
		{"31 bytes", func(c *Config) { c.RefreshSecret = strings.Repeat("r", 31) }, []string{"JWT_REFRESH_SECRET has 31 bytes"}},
		{"one secret for both", func(c *Config) { c.RefreshSecret = c.AccessSecret }, []string{"are the same"}},
		{"SMTP alone", func(c *Config) { c.SMTPURL = "smtp://u:hunter2@mail.example.com" }, []string{"FRONTEND_URL is not set", "TURBOCAT_IDENTITY_MAIL_FROM; set it"}},
		{"SMTP", func(c *Config) {
			c.SMTPURL, c.MailFrom, c.FrontendURL = "smtps://u:p@mail.example.com", "no-reply@example.com", "https://app.example.com/x/"
		}, nil},
		{"SMTP and a mailbox", func(c *Config) {
			c.SMTPURL, c.MailFrom, c.FrontendURL, c.DevMailbox = "smtps://mail.example.com", "no-reply@example.com", "https://app.example.com", true
		}, []string{"are both set"}},
		{"no server", func(c *Config) {
			c.SMTPURL, c.MailFrom, c.FrontendURL = "mail.example.com", "no-reply@example.com", "https://app.example.com"
		}, []string{"TURBOCAT_IDENTITY_SMTP_URL is no address"}},
		{"no web address", func(c *Config) { c.FrontendURL = "app.example.com" }, []string{"FRONTEND_URL is not an http or https address"}},
		{"cost too low", func(c *Config) { c.BcryptCost = 3 }, []string{"TURBOCAT_IDENTITY_BCRYPT_COST is 3"}},
		{"an audit trail of an hour", func(c *Config) { c.AuditRetention = time.Hour }, []string{"TURBOCAT_IDENTITY_AUDIT_RETENTION is 1h0m0s; set it to 24h0m0s or more, or to 0"}},
		{"an audit trail of less than nothing", func(c *Config) { c.AuditRetention = -time.Hour }, []string{"TURBOCAT_IDENTITY_AUDIT_RETENTION is -1h0m0s"}},
		{"an audit trail of ten years", func(c *Config) { c.AuditRetention = 10 * 365 * 24 * time.Hour }, nil},
		{"cost too high", func(c *Config) { c.BcryptCost = 31 }, []string{"TURBOCAT_IDENTITY_BCRYPT_COST is 31"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := good
			tt.change(&c)
			err := c.validate()
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("got %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
			if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), good.AccessSecret) || strings.Contains(err.Error(), "rrrr")) {
				t.Errorf("%q shows a secret", err)
			}
		})
	}
}
