package httpapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
			who, err := v.verify(context.Background(), credential{text: token}, rpc.Caller{})
			if errs.CodeOf(err) == errs.DependencyUnavailable && time.Now().Before(deadline) {
				continue // the server is not there yet
			}
			if token != "bad" && (err != nil || who.userID != token) {
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

// TestAQuestionIsShared has many requests come with one token at a time. One of them gives up; what it asked is for the others too.
func TestAQuestionIsShared(t *testing.T) {
	conn := bustest.New(t)
	server := bus.NewServer(identity.Service, zerolog.Nop())
	asked, begun, answer := atomic.Int64{}, make(chan struct{}, 100), make(chan struct{})
	bus.Handle(server, identity.Verify, func(_ context.Context, _ rpc.Caller, r identity.VerifyRequest) (identity.VerifyResponse, error) {
		asked.Add(1)
		begun <- struct{}{}
		<-answer
		return identity.VerifyResponse{UserID: r.AccessToken, ExpiresAt: time.Now().Add(time.Hour)}, nil
	})
	bustest.Serve(t, conn, server)
	v := newVerifier(conn)
	clock := time.Now()
	v.now = func() time.Time { return clock }
	hasty, giveUp := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	go func() {
		for {
			_, err := v.verify(hasty, credential{text: "a"}, rpc.Caller{})
			if hasty.Err() != nil {
				gaveUp <- err
				return
			}
		} // the server is not there yet
	}()
	<-begun
	giveUp()
	if err := <-gaveUp; errs.CodeOf(err) != errs.DependencyUnavailable {
		t.Errorf("who gives up is told %v", err)
	}
	var asking, come sync.WaitGroup
	for range 50 {
		come.Add(1)
		asking.Go(func() {
			come.Done()
			if who, err := v.verify(t.Context(), credential{text: "a"}, rpc.Caller{}); err != nil || who.userID != "a" {
				t.Errorf("%+v, %v", who, err)
			}
		})
	}
	come.Wait()
	close(answer)
	asking.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("identity was asked %d times", n)
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
		submit, err := parseExecute(body, "inputs", "triggerType")
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
