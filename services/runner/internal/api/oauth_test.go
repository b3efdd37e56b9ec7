package api

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"turbocat.io/contracts/runner"
)

// issuer is a token endpoint, and an API that takes its tokens.
type issuer struct {
	*httptest.Server
	asked     atomic.Int64
	expiresIn string
	refuse    atomic.Pointer[string] // a token that the API takes no more
	endpoint  func(w http.ResponseWriter, r *http.Request) bool
	form      atomic.Pointer[string]
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{expiresIn: "3600"}
	i.Server = serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			_ = r.ParseForm()
			id, secret, _ := r.BasicAuth()
			form := id + ":" + secret + " " + r.PostForm.Encode()
			i.form.Store(&form)
			n := i.asked.Add(1)
			if i.endpoint == nil || !i.endpoint(w, r) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = fmt.Fprintf(w, `{"access_token":"t%d","token_type":"bearer","expires_in":%s}`, n, i.expiresIn)
			}
			return
		}
		if gone := i.refuse.Load(); gone != nil && r.Header.Get("Authorization") == "Bearer "+*gone {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(r.Header.Get("Authorization")))
	})
	return i
}

func (i *issuer) call(e *Executor, auth string) (string, error) {
	out, err := e.Run(context.Background(), task(i.Server, `{"url":"@/data","auth":{"type":"oauth2","tokenUrl":"@/token","clientId":"me",`+auth+`}}`, `{"s":"shh"}`))
	if err != nil {
		return "", err
	}
	_, body, _ := strings.Cut(string(out), `"body":"`)
	body, _, _ = strings.Cut(body, `"`)
	return body, nil
}

const secret = `"clientSecret":"{{s}}"`

func TestTokensAreAskedForOnce(t *testing.T) {
	i, e := newIssuer(t), local(t)
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			if got, err := i.call(e, secret); err != nil || got != "Bearer t1" {
				t.Errorf("%s, %v", got, err)
			}
		})
	}
	calls.Wait()
	if n := i.asked.Load(); n != 1 {
		t.Errorf("%d tokens were asked for", n)
	}
	if got := *i.form.Load(); got != "me:shh grant_type=client_credentials" {
		t.Errorf("asked with %s", got)
	}
	if got, err := i.call(e, secret+`,"scopes":["a","b c"],"audience":"{{s}}.example"`); err != nil || got != "Bearer t2" {
		t.Errorf("%s, %v", got, err)
	}
	if got := *i.form.Load(); got != "me:shh audience=shh.example&grant_type=client_credentials&scope=a+b+c" {
		t.Errorf("asked with %s", got)
	}
}

func TestTokensThatExpireAreReplaced(t *testing.T) {
	i, e := newIssuer(t), local(t)
	i.expiresIn = "5" // less than what a call may take
	for _, want := range []string{"Bearer t1", "Bearer t2"} {
		if got, err := i.call(e, secret); err != nil || got != want {
			t.Errorf("%s, %v, not %s", got, err, want)
		}
	}
}

func TestATokenThatIsRefusedIsReplacedOnce(t *testing.T) {
	i, e := newIssuer(t), local(t)
	if got, err := i.call(e, secret); err != nil || got != "Bearer t1" {
		t.Fatal(got, err)
	}
	gone := "t1"
	i.refuse.Store(&gone)
	if got, err := i.call(e, secret); err != nil || got != "Bearer t2" {
		t.Errorf("%s, %v", got, err)
	}
	next := "t2"
	i.refuse.Store(&next)
	i.endpoint = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"access_token":"t2","token_type":"Bearer"}`))
		return true
	}
	before := i.asked.Load()
	_, err := i.call(e, secret)
	fails(t, err, runner.CodeHTTPStatus, false, "GET "+i.URL+"/data", "401")
	if n := i.asked.Load() - before; n != 1 {
		t.Errorf("%d tokens were asked for", n)
	}
}

func TestEndpointsWithoutAToken(t *testing.T) {
	for name, c := range map[string]struct {
		endpoint  func(w http.ResponseWriter)
		code      string
		retryable bool
		parts     []string
	}{
		"an error": {
			func(w http.ResponseWriter) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusUnauthorized)
				_, _ = w.Write([]byte(`{"error":"invalid_client","error_description":"shh is wrong"}`))
			}, runner.CodeHTTPStatus, false, []string{"auth: POST", "/token: the status is 401 Unauthorized, invalid_client"},
		},
		"overload": {
			func(w http.ResponseWriter) {
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(http.StatusServiceUnavailable)
			}, runner.CodeHTTPStatus, true, []string{"503"},
		},
		"no token":  {func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{}`)) }, runner.CodeInvalidOutput, false, []string{"no token"}},
		"no JSON":   {func(w http.ResponseWriter) { _, _ = w.Write([]byte(`<html>`)) }, runner.CodeInvalidOutput, false, []string{"no token"}},
		"no answer": {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, runner.CodeHTTPError, true, []string{"EOF"}},
		"elsewhere": {
			func(w http.ResponseWriter) {
				w.Header().Set("Location", "/data") // even at home
				w.WriteHeader(http.StatusTemporaryRedirect)
			}, runner.CodeHTTPStatus, false, []string{"/token: the status is 307"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			i.endpoint = func(w http.ResponseWriter, _ *http.Request) bool { c.endpoint(w); return true }
			_, err := i.call(local(t), secret)
			fails(t, err, c.code, c.retryable, c.parts...)
			if strings.Contains(err.Error(), "shh") {
				t.Errorf("it tells the secret: %v", err)
			}
		})
	}
	for url, part := range map[string]string{"ftp://x": "auth.tokenUrl: must begin with http", "http://169.254.169.254/": "169.254.169.254"} {
		_, err := local(t).Run(context.Background(), task(nil, `{"url":"http://127.0.0.1/","auth":{"type":"oauth2","tokenUrl":"{{u}}","clientId":"me","clientSecret":"x"}}`, `{"u":"`+url+`"}`))
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// TestRetryCoversTheToken has an endpoint that is overloaded once.
func TestRetryCoversTheToken(t *testing.T) {
	i := newIssuer(t)
	i.endpoint = func(w http.ResponseWriter, _ *http.Request) bool {
		if i.asked.Load() <= 2 { // the client tries its credentials in both places
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	}
	out, err := local(t).Run(context.Background(), task(i.Server, `{"url":"@/data","auth":{"type":"oauth2","tokenUrl":"@/token","clientId":"me","clientSecret":"x"},"retry":{"count":2,"delayMs":1}}`, `{}`))
	if err != nil || !strings.Contains(string(out), `"body":"Bearer t`) {
		t.Errorf("%s, %v", out, err)
	}
}
