package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/guard"
	"turbocat.io/services/runner/internal/executor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newExecutor(t testing.TB, allow ...netip.Prefix) *Executor {
	client := guard.NewClient(guard.Config{Allow: allow, Variable: "ALLOWED", MaxBody: runner.MaxOutput})
	t.Cleanup(client.CloseIdleConnections)
	return New(client)
}

func local(t testing.TB) *Executor { return newExecutor(t, netip.MustParsePrefix("127.0.0.0/8")) }

// serve starts a server; @ in a config stands for its URL.
func serve(t testing.TB, h http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func task(s *httptest.Server, config, input string) executor.Task {
	if s != nil {
		config = strings.ReplaceAll(config, "@", s.URL)
	}
	return executor.Task{Config: json.RawMessage(config), Input: json.RawMessage(input), Attempt: 3, IdempotencyKey: "idem", Ours: func() bool { return true }}
}

func fails(t *testing.T, err error, code string, retryable bool, parts ...string) {
	t.Helper()
	var e *runner.StepError
	if !errors.As(err, &e) || e.Code != code || e.Retryable != retryable {
		t.Fatalf("got %#v, want %s, retryable %v", err, code, retryable)
	}
	for _, part := range parts {
		if !strings.Contains(e.Message, part) {
			t.Errorf("%q does not hold %q", e.Message, part)
		}
	}
}

func TestRequests(t *testing.T) {
	type seen struct {
		method, uri, body string
		header            http.Header
	}
	var got seen
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = seen{r.Method, r.RequestURI, string(b), r.Header}
	})
	const input = `{"id":"a/b?c","n":12345678901234567890,"o":{"x":[1,"é"]},"s":"say \"{{n}}\"\n","none":null,"base":"` + "BASE" + `","key":"k&1"}`
	tests := []struct{ name, config, method, uri, body, headers string }{
		{"plain", `{"url":"@/a"}`, "GET", "/a", "", "Idempotency-Key=idem X-Turbocat-Attempt=3 User-Agent=Turbocat"},
		{"values are escaped in path and query", `{"url":"@/x/{{id}}/y?q={{id}}&n={{n}}#{{id}}"}`, "GET", "/x/a%2Fb%3Fc/y?q=a%2Fb%3Fc&n=12345678901234567890", "", ""},
		{"a whole base", `{"url":"{{base}}/z?a b={{key}}"}`, "GET", "/z?a%20b=k%261", "", ""},
		{
			"query", `{"url":"@/a?x=1","query":{"q":"{{id}}","list":[1,"b"],"n":"{{n}}","no":null,"none":"{{none}}"}}`, "GET",
			"/a?x=1&q=a%2Fb%3Fc&list=1&list=b&n=12345678901234567890", "", "",
		},
		{
			"json body", `{"method":"post","url":"@/a","body":{"v":"{{o}}","t":"{{s}}","m":"n={{n}}"}}`, "POST", "/a",
			`{"v":{"x":[1,"é"]},"t":"say \"{{n}}\"\n","m":"n=12345678901234567890"}`, "Content-Type=application/json",
		},
		{"whole body", `{"method":"PUT","url":"@/a","body":"{{o}}"}`, "PUT", "/a", `{"x":[1,"é"]}`, "Content-Type=application/json"},
		{"text body", `{"method":"PUT","url":"@/a","body":"hello {{n}}"}`, "PUT", "/a", `hello 12345678901234567890`, "Content-Type=text/plain; charset=utf-8"},
		{
			"headers", `{"url":"@/a","headers":{"content-type":"x/y","X-N":"{{n}}","Idempotency-Key":"mine","x-turbocat-attempt":"9"},"body":"b"}`, "GET", "/a", "b",
			"Content-Type=x/y X-N=12345678901234567890 Idempotency-Key=mine X-Turbocat-Attempt=9",
		},
		{"unresolved stays", `{"url":"@/a","headers":{"X-A":"{{missing.one}}"}}`, "GET", "/a", "", "X-A={{missing.one}}"},
		{"bearer", `{"url":"@/a","auth":{"type":"bearer","token":"t-{{n}}"}}`, "GET", "/a", "", "Authorization=Bearer_t-12345678901234567890"},
		{"basic", `{"url":"@/a","auth":{"type":"basic","username":"u","password":"p:q"}}`, "GET", "/a", "", "Authorization=Basic_" + base64.StdEncoding.EncodeToString([]byte("u:p:q"))},
		{"api key", `{"url":"@/a","auth":{"type":"apiKey","value":"v"}}`, "GET", "/a", "", "X-API-Key=v"},
		{"named api key", `{"url":"@/a","auth":{"type":"apiKey","name":"X-Token","value":"v"}}`, "GET", "/a", "", "X-Token=v"},
		{"api key in the query", `{"url":"@/a","auth":{"type":"apiKey","in":"query","name":"key","value":"{{key}}"}}`, "GET", "/a?key=k%261", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got = seen{}
			if _, err := local(t).Run(context.Background(), task(s, tt.config, strings.Replace(input, "BASE", s.URL, 1))); err != nil {
				t.Fatal(err)
			}
			if got.method != tt.method || got.uri != tt.uri || got.body != tt.body {
				t.Errorf("got %s %s %s", got.method, got.uri, got.body)
			}
			for _, pair := range strings.Fields(strings.ReplaceAll(tt.headers, "; ", ";_")) {
				name, want, _ := strings.Cut(pair, "=")
				if v := strings.ReplaceAll(got.header.Get(name), " ", "_"); v != want {
					t.Errorf("%s is %q, want %q", name, v, want)
				}
			}
		})
	}
}

func TestResponses(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		w.Header()["Content-Type"] = nil
		if q.Has("type") {
			w.Header().Set("Content-Type", q.Get("type"))
		}
		w.Header().Add("X-Two", "a")
		w.Header().Add("X-Two", "b")
		_, _ = w.Write([]byte(q.Get("body")))
	})
	tests := []struct{ kind, contentType, body, want string }{
		{"auto", "application/json; charset=utf-8", ` {"n":12345678901234567890,"a":"<"} `, `{"n":12345678901234567890,"a":"<"}`},
		{"auto", "application/problem+json", "\ufeff[1]", `[1]`},
		{"auto", "application/json", "{oops", `"{oops"`},
		{"auto", "text/html", "<b>", `"<b>"`},
		{"auto", "text/plain", "a\xff", `"a\ufffd"`},
		{"auto", "image/png", "\xff\x00", `"/wA="`},
		{"auto", "", "x", `"x"`},
		{"auto", "application/json", "", `null`},
		{"json", "text/plain", "7", `7`},
		{"json", "text/plain", "\"a\xff\"", `"a` + "\ufffd" + `"`},
		{"text", "application/json", "{}", `"{}"`},
		{"text", "", "", `""`},
		{"binary", "application/json", "{}", `"e30="`},
	}
	for _, tt := range tests {
		config, _ := json.Marshal(map[string]any{"url": s.URL, "responseType": tt.kind, "query": map[string]string{"type": tt.contentType, "body": tt.body}})
		if strings.Contains(tt.body, "\xff") {
			// JSON can not carry these bytes, a URL can.
			config, _ = json.Marshal(map[string]any{"url": s.URL + "?type=" + tt.contentType + "&body=" + percent(tt.body), "responseType": tt.kind})
		}
		out, err := local(t).Run(context.Background(), task(nil, string(config), `{}`))
		var got struct {
			Status  int
			Headers map[string]string
			Body    json.RawMessage
			Timing  map[string]float64
		}
		if err != nil || json.Unmarshal(out, &got) != nil {
			t.Errorf("%v: %v %s", tt, err, out)
			continue
		}
		_, timed := got.Timing["totalMs"]
		if got.Status != 200 || string(got.Body) != tt.want || got.Headers["x-two"] != "a, b" || !timed {
			t.Errorf("%q: got %s", tt, out)
		}
	}
	_, err := local(t).Run(context.Background(), task(s, `{"url":"@?body=no","responseType":"json"}`, `{}`))
	fails(t, err, runner.CodeInvalidOutput, false, "not valid JSON")
}

func percent(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

func TestStatuses(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var code int
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &code)
		w.WriteHeader(code)
		_, _ = w.Write([]byte("why: " + strings.Repeat("é", 600)))
	})
	for _, tt := range []struct {
		code      int
		success   string
		fails     bool
		retryable bool
	}{
		{200, ``, false, false},
		{204, ``, false, false},
		{304, ``, true, false},
		{404, ``, true, false},
		{400, ``, true, false},
		{408, ``, true, true},
		{425, ``, true, true},
		{429, ``, true, true},
		{500, ``, true, true},
		{503, ``, true, true},
		{404, `,"successStatus":["2xx","404"]`, false, false},
		{503, `,"successStatus":["5XX"]`, false, false},
		{200, `,"successStatus":[404]`, true, false},
	} {
		_, err := local(t).Run(context.Background(), task(s, fmt.Sprintf(`{"url":"@/%d?secret=hush"%s,"query":{"k":"hush"}}`, tt.code, tt.success), `{}`))
		if !tt.fails {
			if err != nil {
				t.Errorf("%d%s: %v", tt.code, tt.success, err)
			}
			continue
		}
		parts := []string{"GET " + s.URL + fmt.Sprintf("/%d:", tt.code), fmt.Sprint(tt.code)}
		if tt.code != 304 {
			parts = append(parts, "why: "+strings.Repeat("é", 495))
		}
		fails(t, err, runner.CodeHTTPStatus, tt.retryable, parts...)
		if text := err.Error(); strings.Contains(text, "hush") || strings.Contains(text, strings.Repeat("é", 496)) {
			t.Errorf("%d tells too much: %s", tt.code, text)
		}
	}
}

func TestRetries(t *testing.T) {
	var calls atomic.Int64
	var keys sync.Map
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n := calls.Add(1)
		b, _ := io.ReadAll(r.Body)
		keys.Store(r.Header.Get("Idempotency-Key")+string(b), true)
		q := r.URL.Query()
		if n > 2 && !q.Has("always") {
			return
		}
		if q.Has("drop") {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_ = conn.Close()
			}
			return
		}
		w.Header().Set("Retry-After", q.Get("after"))
		w.WriteHeader(map[bool]int{true: 404, false: 503}[q.Has("notfound")])
	})
	tests := []struct {
		name, query, retry string
		calls              int64
		code               string
	}{
		{"until it works", "", `"count":3,"delayMs":1`, 3, ""},
		{"dropped connections", "drop", `"count":3,"delayMs":1`, 3, ""},
		{"until the count", "always", `"count":2,"delayMs":1`, 3, runner.CodeHTTPStatus},
		{"no retry by default", "", ``, 1, runner.CodeHTTPStatus},
		{"not of a 404", "notfound", `"count":3,"delayMs":1`, 1, runner.CodeHTTPStatus},
		{"of a listed 404", "notfound", `"count":3,"delayMs":1,"statusCodes":[404]`, 3, ""},
		{"not of an unlisted 503", "", `"count":3,"delayMs":1,"statusCodes":[404]`, 1, runner.CodeHTTPStatus},
		{"Retry-After before the delay", "after=0", `"count":3,"delayMs":60000`, 3, ""},
		{"Retry-After as a date", "after=Mon, 02 Jan 2006 15:04:05 GMT", `"count":3,"delayMs":60000`, 3, ""},
		{"Retry-After too long", "after=61", `"count":3,"delayMs":1`, 1, runner.CodeHTTPStatus},
		{"no time for the delay", "", `"count":3,"delayMs":60000`, 1, runner.CodeHTTPStatus},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			calls.Store(0)
			keys.Clear()
			_, err := local(t).Run(context.Background(), task(s, `{"method":"POST","url":"@/?`+tt.query+`","body":{"a":1},"retry":{`+tt.retry+`},"timeoutMs":10000}`, `{}`))
			if n := calls.Load(); n != tt.calls {
				t.Errorf("%d calls, want %d", n, tt.calls)
			}
			if _, same := keys.Load(`idem{"a":1}`); !same {
				t.Error("a call had another key or body")
			}
			var e *runner.StepError
			if tt.code == "" && err != nil || tt.code != "" && (!errors.As(err, &e) || e.Code != tt.code) {
				t.Errorf("got %v", err)
			}
			if e != nil && (e.RetryAfterMs == 61_000) != strings.Contains(tt.query, "after=61") {
				t.Errorf("the step is to be left alone for %d ms", e.RetryAfterMs)
			}
		})
	}
}

func TestBackoffDoubles(t *testing.T) {
	r := retry{delay: time.Second}
	for done, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
		if got, ok := r.wait(done, ""); got != want || !ok {
			t.Errorf("after %d: %v", done, got)
		}
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if d, ok := guard.RetryAfter("Thu, 01 Jan 2026 00:00:30 GMT", now); d != 30*time.Second || !ok {
		t.Errorf("a date: %v %v", d, ok)
	}
}

func TestNoAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + l.Addr().String()
	_ = l.Close()
	_, err = local(t).Run(context.Background(), task(nil, `{"url":"`+closed+`/p?key=hush","auth":{"type":"bearer","token":"hush"}}`, `{}`))
	fails(t, err, runner.CodeHTTPError, true, "GET "+closed+"/p: ", "refused")
	if strings.Contains(err.Error(), "hush") {
		t.Error(err)
	}

	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/big":
			_, _ = w.Write(bytes.Repeat([]byte("x"), runner.MaxOutput+1))
		case "/grows":
			_, _ = w.Write(bytes.Repeat([]byte{'"'}, runner.MaxOutput/2))
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		case "/cut":
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("half"))
		}
	})
	for path, want := range map[string]string{"/big": runner.CodeOutputLimit, "/grows": runner.CodeOutputLimit, "/loop": runner.CodeHTTPError, "/file": runner.CodeHTTPError} {
		_, err := local(t).Run(context.Background(), task(s, `{"url":"@`+path+`"}`, `{}`))
		fails(t, err, want, false, "GET "+s.URL+path)
	}
	_, err = local(t).Run(context.Background(), task(s, `{"url":"@/cut"}`, `{}`))
	fails(t, err, runner.CodeHTTPError, true, "read the body")
}

func TestEndsInTime(t *testing.T) {
	arrived := make(chan struct{}, 1)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slowbody" {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
		}
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	for _, path := range []string{"/hang", "/slowbody"} {
		_, err := local(t).Run(context.Background(), task(s, `{"url":"@`+path+`?hush","timeoutMs":50,"retry":{"count":3}}`, `{}`))
		fails(t, err, runner.CodeStepTimeout, true, "GET "+s.URL+path+":", "timeoutMs (50)")
		<-arrived

		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		e := local(t)
		go func() {
			_, err := e.Run(ctx, task(s, `{"url":"@`+path+`"}`, `{}`))
			done <- err
		}()
		<-arrived
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", path, err)
			}
		case <-time.After(time.Second):
			t.Fatalf("%s: still running a second after cancel", path)
		}
	}
	busy := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := local(t).Run(ctx, task(busy, `{"url":"@","retry":{"count":9,"delayMs":10000},"timeoutMs":60000}`, `{}`)); err == nil {
		t.Error("no error while waiting to try again")
	}
}

func TestRefusesAddresses(t *testing.T) {
	var reached atomic.Int64
	trap := serve(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	_, err := newExecutor(t).Run(context.Background(), task(trap, `{"url":"@/x?key=hush","retry":{"count":3,"delayMs":1}}`, `{}`))
	fails(t, err, runner.CodeAddress, false, "127.0.0.1/32", "ALLOWED")
	_, err = newExecutor(t).Run(context.Background(), task(nil, `{"url":"http://{{host}}/"}`, `{"host":"localhost:1"}`))
	fails(t, err, runner.CodeAddress, false, "localhost")
	// By redirect from an allowed address to one that is not.
	hop := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://169.254.169.254/meta", http.StatusFound)
	})
	_, err = local(t).Run(context.Background(), task(hop, `{"url":"@"}`, `{}`))
	fails(t, err, runner.CodeAddress, false, "169.254.169.254")
	if reached.Load() != 0 || strings.Contains(err.Error(), "hush") {
		t.Errorf("reached %d: %v", reached.Load(), err)
	}
}

func TestHostileValues(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the request was sent") })
	for name, tt := range map[string][2]string{
		"header":        {`{"url":"@","headers":{"X-A":"{{v}}"}}`, `"a\r\nX-Evil: 1"`},
		"token":         {`{"url":"@","auth":{"type":"bearer","token":"{{v}}"}}`, `"a\nb"`},
		"host":          {`{"url":"http://{{v}}.example.com/"}`, `"127.0.0.1/x?"`},
		"userinfo":      {`{"url":"http://api{{v}}/"}`, `"@127.0.0.1"`},
		"path":          {`{"url":"@/a/{{v}}/b"}`, `".."`},
		"scheme":        {`{"url":"{{v}}"}`, `"file:///etc/passwd"`},
		"no host":       {`{"url":"{{v}}"}`, `"http:///x"`},
		"control in it": {`{"url":"{{v}}"}`, `"http://a\u0000b/"`},
	} {
		_, err := local(t).Run(context.Background(), task(s, tt[0], `{"v":`+tt[1]+`}`))
		t.Run(name, func(t *testing.T) { fails(t, err, runner.CodeInvalidConfig, false) })
	}
}

func TestWarnsOfUnresolved(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request) {})
	tk := task(s, `{"url":"@/{{a.b}}?x={{a.b}}","headers":{"X":"{{c}}"}}`, `{}`)
	var lines []string
	tk.Log = func(level, source, message string) { lines = append(lines, level+" "+source+" "+message) }
	if _, err := local(t).Run(context.Background(), tk); err != nil {
		t.Fatal(err)
	}
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "WARN engine {{a.b}}") || !strings.Contains(lines[1], "{{c}}") {
		t.Errorf("%q", lines)
	}
}

// TestTiming calls a server, over TLS, which answers after a while; twice, over one connection.
func TestTiming(t *testing.T) {
	const wait = 30 * time.Millisecond
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-time.After(wait) }))
	s.StartTLS()
	t.Cleanup(s.Close)
	e := local(t)
	e.client.Transport = s.Client().Transport
	var took struct {
		Timing struct{ DNSMs, ConnectMs, TLSMs, FirstByteMs, TotalMs float64 }
	}
	for n := range 2 {
		out, err := e.Run(context.Background(), task(s, `{"url":"@/"}`, `{}`))
		if err != nil || json.Unmarshal(out, &took) != nil {
			t.Fatalf("%s, %v", out, err)
		}
		at := took.Timing
		if at.FirstByteMs < 30 || at.TotalMs < at.FirstByteMs || (at.ConnectMs > 0) != (n == 0) || (at.TLSMs > 0) != (n == 0) || at.DNSMs != 0 || at.ConnectMs+at.TLSMs > at.FirstByteMs {
			t.Errorf("call %d took %+v", n+1, at)
		}
	}
}

func TestParse(t *testing.T) {
	tests := []struct {
		config string
		want   []string
	}{
		{`{"method":"GET","url":"https://x/{{id}}","headers":{},"query":{},"body":null,"auth":{"type":"bearer","token":"{{t}}"},"retry":{"count":0,"delayMs":1000,"statusCodes":[]},"responseType":"auto","successStatus":["2xx"],"timeoutMs":30000}`, nil},
		{`{"url":"{{a}}/x","auth":{"type":"oauth2","tokenUrl":"{{t}}","clientId":"i","clientSecret":"{{s}}","scopes":["a"],"audience":"x"},"body":[1]}`, nil},
		{`{"url":"http://x","auth":{"type":"oauth2","scopes":[1],"token":"t"}}`, []string{"auth.tokenUrl", "auth.clientId", "auth.clientSecret", "auth.scopes[0]", "auth.token"}},
		{`{}`, []string{"url"}},
		{`7`, []string{""}},
		{`{"url":"ftp://x"}`, []string{"url"}},
		{`{"url":"/x"}`, []string{"url"}},
		{`{"url":"http://x/{{a b}}"}`, []string{"url"}},
		{`{"url":"http://x","body":{"a":["{{"]},"query":{"q":"{{1}}"}}`, []string{"query.q", "body.a[0]"}},
		{
			`{"method":"BREW","url":1,"headers":{"a b":"x","Host":"x","X":"a\nb","Y":[1]},"query":[],"auth":{"type":"digest"},"retry":{"count":-1,"statusCodes":[99],"x":1},"responseType":"xml","successStatus":["6xx","abc",true],"timeoutMs":1.5,"extra":1}`,
			[]string{
				"responseType", "timeoutMs", "method", "url", "headers.a b", "headers.Host", "headers.X", "headers.Y", "query", "auth.type",
				"retry.count", "retry.statusCodes[0]", "retry.x", "successStatus[0]", "successStatus[1]", "successStatus[2]", "extra",
			},
		},
		{`{"url":"http://x","auth":{"type":"bearer"}}`, []string{"auth.token"}},
		{`{"url":"http://x","auth":{"type":"basic"}}`, []string{"auth.username"}},
		{`{"url":"http://x","auth":{"type":"apiKey","in":"query","token":"x"}}`, []string{"auth.value", "auth.name", "auth.token"}},
		{`{"url":"http://x","auth":{}}`, []string{"auth.type"}},
	}
	for _, tt := range tests {
		var got []string
		_, faults := parse(json.RawMessage(tt.config))
		for _, fault := range faults.All() {
			got = append(got, fault.Path)
		}
		if strings.Join(got, "|") != strings.Join(tt.want, "|") || len(got) != len(tt.want) {
			t.Errorf("%s\n got %q\nwant %q: %v", tt.config, got, tt.want, faults.All())
		}
	}
	_, err := local(t).Run(context.Background(), task(nil, `{"method":"BREW"}`, `{}`))
	fails(t, err, runner.CodeInvalidConfig, false, "2 problems", "method", "url")
}

func FuzzParse(f *testing.F) {
	f.Add(`{"url":"https://x/{{a}}?q={{b}}","headers":{"X":"{{a}}"},"query":{"c":["{{b}}"]},"auth":{"type":"basic","username":"{{a}}"}}`, `{"a":"x","b":[1]}`)
	f.Add(`{"url":"{{a}}"}`, `{"a":"http://x/../?#"}`)
	f.Fuzz(func(t *testing.T, config, input string) {
		c, faults := parse(json.RawMessage(config))
		if len(faults.All()) > 0 {
			return
		}
		r, err := c.resolve(executor.Task{Config: json.RawMessage(config), Input: json.RawMessage(input), Log: func(_, _, _ string) {}})
		if err != nil {
			return
		}
		if _, err := http.NewRequest(r.method, r.url.String(), nil); err != nil {
			t.Errorf("%s with %s: %v", config, input, err)
		}
	})
}
