package httpapi_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/gateway/internal/httpapi"
)

func TestRateLimits(t *testing.T) {
	dead := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", DialTimeout: 100 * time.Millisecond, MaxRetries: -1})
	t.Cleanup(func() { _ = dead.Close() })
	for name, client := range map[string]*redis.Client{"redis": nil, "redis away": dead} {
		t.Run(name, func(t *testing.T) {
			w := start(t, setup{authPerMinute: 3, userPerSecond: 1, redis: client})
			login := request{method: "POST", path: "/api/v1/auth/login", body: `{"email":"a@x.io","password":"x"}`}
			for left := 2; left >= 0; left-- {
				got := w.do(login)
				if got.status != 200 || got.header.Get("X-RateLimit-Limit") != "3" || got.header.Get("X-RateLimit-Remaining") != strconv.Itoa(left) {
					t.Fatalf("status %d, limit %q, remaining %q, want %d", got.status, got.header.Get("X-RateLimit-Limit"), got.header.Get("X-RateLimit-Remaining"), left)
				}
			}
			got := w.do(login)
			if got.status != 429 || got.body.Error.Code != errs.RateLimited {
				t.Fatalf("status %d: %s", got.status, got.text)
			}
			if wait, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || wait < 1 || wait > 20 {
				t.Errorf("Retry-After %q", got.header.Get("Retry-After"))
			}
			if reset, err := strconv.Atoi(got.header.Get("X-RateLimit-Reset")); err != nil || reset < 1 || reset > 60 {
				t.Errorf("X-RateLimit-Reset %q", got.header.Get("X-RateLimit-Reset"))
			}
			// The burst of another limit is twice its rate, and it is each user's own.
			me := func(token string) int {
				return w.do(request{method: "GET", path: "/api/v1/users/me", token: token}).status
			}
			if a, b := me(aliceToken), me(aliceToken); a != 200 || b != 200 {
				t.Errorf("statuses %d, %d", a, b)
			}
			limited := false
			for range 3 {
				limited = limited || me(aliceToken) == 429
			}
			if !limited {
				t.Error("alice is not limited")
			}
			if s := me(bobToken); s != 200 {
				t.Errorf("bob: status %d", s)
			}
			for range 5 {
				for _, path := range []string{"/health/live", "/api/v1/openapi.json", "/api/v1/docs"} {
					if got := w.do(request{method: "GET", path: path}); got.status != 200 {
						t.Errorf("%s: status %d", path, got.status)
					}
				}
			}
		})
	}
}

// TestAddressesCanNotBeMadeUp has a client say that it is somebody else each time.
func TestAddressesCanNotBeMadeUp(t *testing.T) {
	w := start(t, setup{authPerMinute: 3})
	for i := range 5 {
		other := "198.51.100." + strconv.Itoa(i)
		got := w.do(request{method: "POST", path: "/api/v1/auth/login", body: `{"email":"a@x.io","password":"x"}`, header: map[string]string{
			"X-Forwarded-For": other, "X-Real-IP": other, "Forwarded": "for=" + other, "True-Client-IP": other, "CF-Connecting-IP": other,
		}})
		if want := 200; i < 3 && got.status != want || i >= 3 && got.status != 429 {
			t.Errorf("request %d: status %d", i, got.status)
		}
	}
	if _, c := w.called("identity.login"); c.IP != "127.0.0.1" {
		t.Errorf("identity is told that %q calls", c.IP)
	}
}

// TestRefusalsSayWhenToTryAgain has the orchestrator refuse an execution, and be away.
func TestRefusalsSayWhenToTryAgain(t *testing.T) {
	w := start(t, setup{})
	for _, s := range []struct {
		name   string
		err    error
		status int
		header string // Retry-After
	}{
		{"a user's bound", errs.New(errs.RateLimited, "too many").Again(5 * time.Second), 429, "5"},
		{"pressure", errs.New(errs.DependencyUnavailable, "full").Again(1500 * time.Millisecond), 503, "2"},
		{"nobody knows when", errs.New(errs.DependencyUnavailable, "away"), 503, "1"},
		{"for good", errs.New(errs.Conflict, "no").Again(time.Second), 409, ""},
	} {
		t.Run(s.name, func(t *testing.T) {
			w.mu.Lock()
			w.refuses = s.err
			w.mu.Unlock()
			got := w.do(request{method: "POST", path: "/api/v1/workflows/" + thingID + "/execute", token: aliceToken, body: `{}`})
			if got.status != s.status || got.header.Get("Retry-After") != s.header || got.body.Error.Code != errs.CodeOf(s.err) {
				t.Errorf("status %d, Retry-After %q: %s", got.status, got.header.Get("Retry-After"), got.text)
			}
		})
	}
}

// TestTooManyAtOnce bounds the requests that are worked on. Those that wait for an end, or for the client, do not count, nor do those of who watches.
func TestTooManyAtOnce(t *testing.T) {
	w := start(t, setup{})
	w.stream()
	me := request{method: "GET", path: "/api/v1/users/me", token: bobToken}
	httpapi.SetBusiest(w.api, 0)
	if got := w.do(me); got.status != 503 || got.body.Error.Code != errs.DependencyUnavailable || got.header.Get("Retry-After") != "1" {
		t.Errorf("status %d, Retry-After %q: %s", got.status, got.header.Get("Retry-After"), got.text)
	}
	for _, path := range []string{"/health/live", "/metrics"} {
		if got := w.do(request{method: "GET", path: path}); got.status != 200 {
			t.Errorf("%s: status %d", path, got.status)
		}
	}
	if n, _ := w.called("identity.get_me"); n > 0 {
		t.Error("a request that is refused was worked on")
	}

	httpapi.SetBusiest(w.api, 1)
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "POST /api/v1/agents HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 100000\r\n\r\n%s", bobToken, strings.Repeat(" ", 8<<10)); err != nil {
		t.Fatal(err)
	}
	w.await(func() bool { // it is being answered, beside this request
		return w.scrape()["turbocat_gateway_http_requests_in_flight"].Metric[0].GetGauge().GetValue() > 1
	})
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		execute := request{method: "POST", path: "/api/v1/workflows/" + thingID + "/execute?wait=10s", token: aliceToken, body: `{}`}
		for got := w.do(execute); got.status == 503; { // the other one is still on its way to its body
			got = w.do(execute)
		}
	}()
	w.await(func() bool { n, _ := w.called("orchestrator.submit"); return n > 0 })
	w.await(func() bool { return w.do(me).status == 200 })
	select {
	case <-waited:
		t.Error("the wait is over")
	default:
	}
	w.stop()
	<-waited
}

// filler is a JSON object of n bytes.
func filler(n int) string {
	const head, tail = `{"email":"a@x.io","password":"`, `"}`
	return head + strings.Repeat("x", n-len(head)-len(tail)) + tail
}

func TestBodyLimits(t *testing.T) {
	w := start(t, setup{})
	mib := 1 << 20
	execute := "/api/v1/workflows/" + thingID + "/execute"
	for _, s := range []struct {
		name, path, token string
		size              int
		chunked           bool
		status            int
	}{
		{"login at the limit", "/api/v1/auth/login", "", mib, false, 200},
		{"login over the limit", "/api/v1/auth/login", "", mib + 1, false, 413},
		{"login far over the limit", "/api/v1/auth/login", "", 3 * mib, false, 413},
		{"agent far over the limit", "/api/v1/agents", aliceToken, 5 * mib, false, 413},
		{"agent at the limit, chunked", "/api/v1/agents", aliceToken, mib, true, 201},
		{"agent over the limit, chunked", "/api/v1/agents", aliceToken, mib + 1, true, 413},
		{"agent far over the limit, chunked", "/api/v1/agents", aliceToken, 5 * mib, true, 413},
		{"agent unauthorized", "/api/v1/agents", "", 5 * mib, false, 401},
		{"execute takes more", execute, aliceToken, 2 * mib, false, 400}, // of unknown fields
		{"execute over its limit", execute, aliceToken, 64*mib + 1, false, 413},
		{"no such route", "/api/v1/nope", "", 5 * mib, true, 404},
	} {
		t.Run(s.name, func(t *testing.T) {
			var body io.Reader = strings.NewReader(filler(s.size))
			if s.chunked {
				body = struct{ io.Reader }{body}
			}
			req, err := http.NewRequest("POST", w.url+s.path, body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			if s.token != "" {
				req.Header.Set("Authorization", "Bearer "+s.token)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != s.status || !strings.Contains(string(text), `"requestId":`) {
				t.Errorf("status %d, want %d: %.200s (%v)", resp.StatusCode, s.status, text, err)
			}
			if s.status == 413 && !strings.Contains(string(text), string(errs.PayloadTooLarge)) {
				t.Errorf("answer %s", text)
			}
		})
	}
}

// A client that sends all of its request before it reads learns what is wrong with it.
func TestHeadersTooLargeAreAnswered(t *testing.T) {
	w := start(t, setup{})
	for _, size := range []int{16 << 10, 40_000, 900_000} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		sent := strings.NewReader("GET /health/live HTTP/1.1\r\nHost: x\r\nX-Large: " + strings.Repeat("x", size) + "\r\n\r\n")
		// In small pieces, so that a connection that is closed too early has no room left to hide it.
		if _, err := io.CopyBuffer(struct{ io.Writer }{conn}, struct{ io.Reader }{sent}, make([]byte, 100)); err != nil {
			t.Errorf("send %d bytes: %v", size, err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%d bytes: %v", size, err)
		} else if resp.Body.Close(); resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%d bytes: status %d", size, resp.StatusCode)
		}
		conn.Close()
	}
}

// A client that asks and does not read ends up without its connection, and the answers to it leave memory.
func TestAnswersThatAreNotReadAreCutOff(t *testing.T) {
	w := start(t, setup{prepare: func(a *httpapi.API) { httpapi.SetWriteTimeout(a, 300*time.Millisecond) }})
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	for range 100 { // more than both ends of a connection buffer
		fmt.Fprint(conn, "GET /api/v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	w.await(func() bool { return httpapi.OpenConnections(w.api) == 1 })
	w.await(func() bool { return httpapi.OpenConnections(w.api) == 0 })
}

// What a request leaves unread must not be taken for the next request on the connection.
func TestUnreadBodyIsNoRequest(t *testing.T) {
	w := start(t, setup{})
	hidden := "GET /api/v1/users/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + aliceToken + "\r\n\r\n"
	for name, framing := range map[string]string{
		"length":  fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(hidden), hidden),
		"chunked": fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(hidden), hidden),
	} {
		for _, line := range []string{"GET /health/live", "POST /api/v1/nope", "POST /api/v1/agents", "POST /api/v1/executions/" + thingID + "/cancel"} {
			t.Run(name+" "+line, func(t *testing.T) {
				conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
				fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\n%s", line, framing)
				fmt.Fprint(conn, "GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-ID: second\r\n\r\n")
				r := bufio.NewReader(conn)
				first, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, first.Body)
				second, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				if got := second.Header.Get("X-Request-ID"); got != "second" {
					t.Errorf("the second answer is to %q, status %d", got, second.StatusCode)
				}
			})
		}
	}
	if n, _ := w.called("identity.get_me"); n != 0 {
		t.Error("the hidden request was answered")
	}
}

func TestHealth(t *testing.T) {
	w := start(t, setup{})
	if got := w.do(request{method: "GET", path: "/health/ready"}); got.status != 200 || !got.body.Success {
		t.Fatalf("status %d: %s", got.status, got.text)
	}
	got := w.do(request{method: "GET", path: "/health"})
	for _, want := range []string{`"name":"gateway"`, `"name":"runner"`, `"name":"postgres","status":"HEALTHY","latencyMs":`, `"name":"nats"`} {
		if !strings.Contains(got.text, want) {
			t.Errorf("%s not in %s", want, got.text)
		}
	}
	w.mu.Lock()
	w.down[runner.Service] = true
	w.mu.Unlock()
	w.await(func() bool {
		got = w.do(request{method: "GET", path: "/health/ready"})
		return got.status == 503
	})
	if got.body.Error.Code != errs.DependencyUnavailable || !strings.Contains(got.body.Error.Message, "runner") || strings.Contains(got.text, "10.0.0.3") {
		t.Errorf("answer %s", got.text)
	}
	if got := w.do(request{method: "GET", path: "/health/live"}); got.status != 200 {
		t.Errorf("live: status %d", got.status)
	}
}

func TestBrowserHeaders(t *testing.T) {
	w := start(t, setup{origin: "https://www.example.com,https://app.example.com"})
	ask := func(method, origin string) response {
		return w.do(request{method: method, path: "/api/v1/agents", header: map[string]string{"Origin": origin, "Access-Control-Request-Method": "POST"}})
	}
	if got := ask("OPTIONS", "https://app.example.com"); got.status != 204 || got.header.Get("Access-Control-Allow-Origin") != "https://app.example.com" {
		t.Errorf("preflight: status %d, %v", got.status, got.header)
	}
	if got := ask("GET", "https://app.example.com"); got.header.Get("Access-Control-Allow-Origin") != "https://app.example.com" || !strings.Contains(got.header.Get("Access-Control-Expose-Headers"), "X-Request-ID") {
		t.Errorf("headers %v", got.header)
	}
	for _, method := range []string{"GET", "OPTIONS"} {
		if got := ask(method, "https://evil.example.com"); got.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: evil is allowed: %v", method, got.header)
		}
	}
	got := ask("GET", "")
	for k, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"} {
		if got.header.Get(k) != want {
			t.Errorf("%s: %q, want %q", k, got.header.Get(k), want)
		}
	}
}

func TestRequestInFlightFinishes(t *testing.T) {
	w := start(t, setup{})
	reader, writer := io.Pipe()
	req, err := http.NewRequestWithContext(context.Background(), "POST", w.url+"/api/v1/auth/login", reader)
	if err != nil {
		t.Fatal(err)
	}
	// The body is asked for with "100 Continue", so what is written of it has a server that is at this request: before, the
	// connection may still wait to be accepted.
	req.Header.Set("Expect", "100-continue")
	transport := &http.Transport{ExpectContinueTimeout: time.Minute}
	defer transport.CloseIdleConnections()
	answered := make(chan int, 1)
	go func() {
		resp, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			t.Error(err)
			answered <- 0
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}()
	body := `{"email":"a@x.io","password":"x"}`
	if _, err := io.WriteString(writer, body[:10]); err != nil {
		t.Fatal(err)
	}
	w.stop()
	w.await(func() bool { // until it no longer accepts
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	if _, err := io.WriteString(writer, body[10:]); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	if status := <-answered; status != 200 {
		t.Errorf("status %d", status)
	}
}
