package httpapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/gofiber/fiber/v2"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
)

func TestEveryCodeHasAStatus(t *testing.T) {
	for code, status := range map[errs.Code]int{
		errs.Validation: 400, errs.Unauthorized: 401, errs.TokenExpired: 401, errs.Forbidden: 403, errs.NotFound: 404, errs.MethodNotAllowed: 405,
		errs.Conflict: 409, errs.PreconditionFailed: 412, errs.PayloadTooLarge: 413, errs.UnsupportedMediaType: 415, errs.RateLimited: 429,
		errs.Internal: 500, errs.DependencyUnavailable: 503, "MADE_UP": 500,
	} {
		public, got := publicFault(errs.Wrap(context.Canceled, code, "hello"))
		if got != status {
			t.Errorf("%s: status %d, want %d", code, got, status)
		}
		if (public.Message == "hello") != (got != 500) || strings.Contains(public.Message, "canceled") {
			t.Errorf("%s: message %q", code, public.Message)
		}
	}
}

func TestPanicIsAnInternalError(t *testing.T) {
	var log strings.Builder
	a := New(Options{Log: zerolog.New(&log), AuthPerMinute: 1, UserPerSecond: 1})
	a.app.Get("/panic", func(*fiber.Ctx) error { panic("secret reason") })
	resp, err := a.app.Test(httptest.NewRequest("GET", "/panic", nil))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != 500 || !strings.Contains(string(body), `"code":"INTERNAL"`) || strings.Contains(string(body), "secret") {
		t.Errorf("status %d: %s (%v)", resp.StatusCode, body, err)
	}
	if !strings.Contains(log.String(), "secret reason") || !strings.Contains(log.String(), "parts_test.go") {
		t.Errorf("log %s", log.String())
	}
}

func TestVerifiedForAMoment(t *testing.T) {
	conn := bustest.New(t)
	server := bus.NewServer(identity.Service, zerolog.Nop())
	clock := time.Now()
	asked, expires := 0, clock.Add(time.Hour)
	bus.Handle(server, identity.Verify, func(_ context.Context, _ rpc.Caller, r identity.VerifyRequest) (identity.VerifyResponse, error) {
		asked++
		if r.AccessToken == "bad" {
			return identity.VerifyResponse{}, errs.New(errs.Unauthorized, "the access token is not valid; log in again")
		}
		return identity.VerifyResponse{UserID: r.AccessToken, ExpiresAt: expires}, nil
	})
	bustest.Serve(t, conn, server)
	v := newVerifier(conn)
	v.now = func() time.Time { return clock }
	verify := func(token string, wantAsked int) {
		t.Helper()
		deadline := time.Now().Add(5 * time.Second)
		for {
			who, err := v.verify(context.Background(), token, rpc.Caller{})
			if errs.CodeOf(err) == errs.DependencyUnavailable && time.Now().Before(deadline) {
				continue // the server is not there yet
			}
			if token != "bad" && (err != nil || who.UserID != token) {
				t.Fatalf("%q: %+v, %v", token, who, err)
			}
			break
		}
		if asked != wantAsked {
			t.Fatalf("identity was asked %d times, want %d", asked, wantAsked)
		}
	}
	verify("a", 1)
	verify("a", 1)
	verify("b", 2)
	clock = clock.Add(verifiedFor)
	verify("a", 3) // no longer believed
	verify("bad", 4)
	verify("bad", 5) // a refusal is not remembered
	expires = clock.Add(time.Second)
	verify("c", 6)
	clock = expires
	verify("c", 7) // believed no longer than it is valid
}

func TestLocalLimitRefills(t *testing.T) {
	l := newLocalLimits()
	bound := redis_rate.Limit{Rate: 60, Burst: 2, Period: time.Minute}
	now := time.Now()
	for i, step := range []struct {
		after   time.Duration
		allowed int
	}{{0, 1}, {0, 1}, {0, 0}, {500 * time.Millisecond, 0}, {600 * time.Millisecond, 1}, {0, 0}} {
		now = now.Add(step.after)
		got := l.take("k", bound, now)
		if got.Allowed != step.allowed {
			t.Fatalf("step %d: %+v", i, got)
		}
		if got.Allowed == 0 && (got.RetryAfter <= 0 || got.RetryAfter > time.Second || got.ResetAfter > 2*time.Second) {
			t.Errorf("step %d: retry after %s, reset after %s", i, got.RetryAfter, got.ResetAfter)
		}
	}
}

func FuzzIfMatch(f *testing.F) {
	for _, s := range []string{"", "*", `"3"`, "3", `W/"3"`, `"03"`, `"-1"`, `"1", "2"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, given string) {
		version, err := MatchParam{IfMatch: given}.version()
		trimmed := strings.TrimSpace(given)
		switch {
		case err != nil && errs.CodeOf(err) != errs.PreconditionFailed:
			t.Errorf("%q: %v", given, err)
		case err == nil && version == 0 && trimmed != "" && trimmed != "*":
			t.Errorf("%q matches every version", given)
		case err == nil && version != 0 && (trimmed[0] != '"' || version < 0):
			t.Errorf("%q is version %d", given, version)
		}
	})
}

func FuzzParseExecute(f *testing.F) {
	for _, s := range []string{"", "{}", `{"inputs":{"a":1},"priority":3}`, `{"inputs":null,"priority":null}`, `{"inputs":[]}`, `{"priority":1.5}`, "[]", "{", `{"x":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		submit, err := parseExecute(body)
		if err != nil {
			if errs.CodeOf(err) != errs.Validation {
				t.Errorf("%s: %v", body, err)
			}
			return
		}
		var inputs map[string]json.RawMessage
		if submit.Inputs != nil && (json.Unmarshal(submit.Inputs, &inputs) != nil || inputs == nil) {
			t.Errorf("%s: inputs %s", body, submit.Inputs)
		}
	})
}
