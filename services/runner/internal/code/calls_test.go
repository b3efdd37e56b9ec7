package code

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/guard"
	"turbocat.io/services/runner/internal/code/frame"
	"turbocat.io/services/runner/internal/code/script"
	"turbocat.io/services/runner/internal/executor"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// fetcher gives an executor whose code fetches with a client of the guard.
func fetcher(t testing.TB, cfg guard.Config) *Executor {
	t.Helper()
	client := guard.NewClient(cfg)
	t.Cleanup(client.CloseIdleConnections)
	e, err := New(Config{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func serving(t testing.TB, handle http.HandlerFunc) *httptest.Server {
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return server
}

// granted gives a task whose code, with URL and OTHER for the addresses of servers, may reach the first of them.
func granted(source string, servers ...*httptest.Server) executor.Task {
	for i, name := range []string{"URL", "OTHER"}[:len(servers)] {
		source = fmt.Sprintf("const %s = %q;\n", name, servers[i].URL) + source
	}
	return task(source, func(c map[string]any) { c["allowHosts"] = []string{servers[0].Listener.Addr().String()} })
}

func TestFetch(t *testing.T) {
	t.Parallel()
	server := serving(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/echo":
			body, _ := io.ReadAll(r.Body)
			w.Header().Add("Set-Cookie", "a=1")
			w.Header().Add("Set-Cookie", "b=2")
			w.Header().Set("X-Latin", "caf\xe9")
			w.WriteHeader(http.StatusCreated)
			fmt.Fprintf(w, `{"method":%q,"query":%q,"type":%q,"own":%q,"agent":%q,"host":%t,"body":%q}`,
				r.Method, r.URL.RawQuery, r.Header.Get("Content-Type"), r.Header.Get("X-Own"), r.Header.Get("User-Agent"), r.Host == "forged", body)
		case "/bytes":
			_, _ = w.Write([]byte{0, 255, 128})
		case "/redirect":
			http.Redirect(w, r, "/echo?from=redirect", http.StatusTemporaryRedirect)
		case "/missing":
			http.NotFound(w, r)
		}
	})
	e := fetcher(t, guard.Config{Allow: loopback})
	for name, tc := range map[string]struct{ source, want string }{
		"get": {
			`const r = await fetch(URL + "/echo?q=1#fragment"); const b = await r.json(); return [r.status, r.ok, r.statusText, r.url === URL + "/echo?q=1", r.redirected, r.headers.getSetCookie(), r.headers.get("x-latin"), b.method, b.query, b.agent]`,
			`[201,true,"Created",true,false,["a=1","b=2"],"café","GET","q=1","Turbocat"]`,
		},
		"post": {
			`const r = await fetch(new globalThis.URL(URL + "/echo"), {method: "post", headers: {"X-Own": "mine", Host: "forged", "User-Agent": "me"}, body: JSON.stringify({a: "é"})}); const b = await r.json(); return [b.method, b.own, b.type, b.agent, b.host, b.body]`,
			`["POST","mine","text/plain;charset=UTF-8","me",false,"{\"a\":\"é\"}"]`,
		},
		"form":      {`return (await (await fetch(URL + "/echo", {method: "PUT", body: new URLSearchParams({a: "b c"})})).json()).body`, `"a=b+c"`},
		"bytes":     {`return [...await (await fetch(URL + "/bytes")).bytes()]`, `[0,255,128]`},
		"redirect":  {`const r = await fetch(URL + "/redirect", {method: "POST", body: "kept"}); const b = await r.json(); return [r.redirected, r.url === URL + "/echo?from=redirect", b.method, b.body]`, `[true,true,"POST","kept"]`},
		"manual":    {`const r = await fetch(URL + "/redirect", {redirect: "manual"}); return [r.status, r.headers.get("location"), r.redirected]`, `[307,"/echo?from=redirect",false]`},
		"not found": {`const r = await fetch(URL + "/missing"); return [r.ok, r.status, await r.text()]`, `[false,404,"404 page not found\n"]`},
		"100 at once": {
			`const all = await Promise.all(Array.from({length: 100}, async (_, i) => (await (await fetch(URL + "/echo?" + i)).json()).query)); return all.every((q, i) => q === String(i)) && all.length`,
			`100`,
		},
		"beside timers": {`let ticks = 0; const i = setInterval(() => ticks++, 1); await fetch(URL + "/echo"); await new Promise(r => setTimeout(r, 5)); clearInterval(i); return ticks > 0`, `true`},
		"at the top":    {`return early.status`, `201`},
		"not awaited":   {`fetch(URL + "/echo"); return 1`, `1`},
	} {
		t.Run(name, func(t *testing.T) {
			output, err := e.Run(t.Context(), granted("export async function handler() { "+tc.source+" }\n"+map[bool]string{true: `const early = await fetch(URL + "/echo");`}[name == "at the top"], server))
			if err != nil || string(output) != tc.want {
				t.Fatalf("got  %s, %v\nwant %s", output, err, tc.want)
			}
		})
	}
}

func TestFetchFails(t *testing.T) {
	t.Parallel()
	var reached atomic.Int64
	other := serving(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	server := serving(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, other.URL+"/", http.StatusFound)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/large":
			_, _ = w.Write(make([]byte, script.MaxFetchBody+1))
		case "/cut":
			w.Header().Set("Content-Length", "100")
		}
	})
	e := fetcher(t, guard.Config{Allow: loopback})
	host := strings.TrimPrefix(other.URL, "http://")
	for name, tc := range map[string]struct{ source, want string }{
		"not granted":       {`fetch(OTHER + "/x?key=secret")`, `fetch ` + other.URL + `/x: the agent may not reach ` + host + `; add "` + host + `" to config.allowHosts`},
		"usual port":        {`fetch("https://api.example/")`, `fetch https://api.example/: the agent may not reach api.example; add "api.example" to config.allowHosts`},
		"redirect away":     {`fetch(URL + "/away")`, `/away: redirected to ` + host + `: the agent may not reach ` + host},
		"redirect forbid":   {`fetch(URL + "/away", {redirect: "error"})`, "the answer is a redirect"},
		"endless redirects": {`fetch(URL + "/round")`, "too many redirects: more than 5"},
		"large answer":      {`fetch(URL + "/large")`, "the body of the answer is larger than 8 MiB"},
		"large request":     {`fetch(URL, {method: "POST", body: new Uint8Array(8 * 1024 * 1024 + 1)})`, "may have 8388608 bytes, not 8388609"},
		"cut answer":        {`fetch(URL + "/cut")`, "unexpected EOF"},
		"an object":         {`fetch(URL, {method: "POST", body: {a: 1}})`, "send JSON.stringify(...) of it"},
		"too often":         {`(async () => { for (let i = 0; i <= 1000; i++) await fetch(OTHER).catch(e => { if (!e.message.includes("may not reach")) throw e }) })()`, "an attempt may fetch 1000 times"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := e.Run(t.Context(), granted(`async function handler() { await `+tc.source+` }`, server, other))
			if got := fault(t, err); got.Code != runner.CodeError || got.Type != "TypeError" || !strings.Contains(got.Message, tc.want) || strings.Contains(got.Message, "secret") {
				t.Fatalf("got %+v\nwant %s", got, tc.want)
			}
		})
	}
	_, err := e.Run(t.Context(), task(`async function handler() { await fetch("https://api.example/") }`, nil))
	if got := fault(t, err); !strings.Contains(got.Message, `add "api.example" to config.allowHosts`) {
		t.Errorf("without allowHosts: %+v", got)
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("a host that is not granted was reached %d times", n)
	}
}

// TestFetchReachesNoPrivateAddress grants the host: that it is private is for the operator to allow.
func TestFetchReachesNoPrivateAddress(t *testing.T) {
	t.Parallel()
	var reached atomic.Int64
	server := serving(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	_, err := fetcher(t, guard.Config{Variable: "ALLOWED"}).Run(t.Context(), granted(`async function handler() { await fetch(URL) }`, server))
	if got := fault(t, err); got.Type != "TypeError" || !strings.Contains(got.Message, "is at the address 127.0.0.1, which is private or reserved") || !strings.Contains(got.Message, "ALLOWED") {
		t.Errorf("got %+v", got)
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("it was reached %d times", n)
	}
}

func TestFetchIsBoundedByTheBytesOfTheAttempt(t *testing.T) {
	t.Parallel()
	server := serving(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, script.MaxFetchBody)) })
	job := granted(`let n = 0; async function handler() { try { for (;;) { await fetch(URL); n++ } } catch (e) { return [n, e.message] } }`, server)
	output, err := fetcher(t, guard.Config{Allow: loopback}).Run(t.Context(), job)
	if err != nil || !strings.HasPrefix(string(output), "[16,") || !strings.Contains(string(output), "may send and fetch 128 MiB") {
		t.Fatalf("got %s, %v", output, err)
	}
}

func TestFetchEndsWithTheAttempt(t *testing.T) {
	t.Parallel()
	begun, ended := make(chan struct{}), make(chan struct{})
	server := serving(t, func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		close(ended)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-begun
		cancel()
	}()
	_, err := fetcher(t, guard.Config{Allow: loopback}).Run(ctx, granted(`async function handler() { await fetch(URL) }`, server))
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	<-ended
}

func TestFetchIsAborted(t *testing.T) {
	t.Parallel()
	var begun atomic.Int64
	ended := make(chan struct{}, script.MaxFetchesAtOnce)
	server := serving(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/quick" {
			return
		}
		begun.Add(1)
		<-r.Context().Done()
		ended <- struct{}{}
	})
	output, err := fetcher(t, guard.Config{Allow: loopback}).Run(t.Context(), granted(`async function handler() {
		const c = new AbortController();
		const slow = Array.from({length: 20}, () => fetch(URL + "/slow", {signal: c.signal}).catch(e => e.name));
		const timed = await fetch(URL, {signal: AbortSignal.timeout(20)}).catch(e => e.name);
		c.abort();
		return [...new Set(await Promise.all(slow)), timed, (await fetch(URL + "/quick")).status];
	}`, server))
	if err != nil || string(output) != `["AbortError","TimeoutError",200]` {
		t.Fatalf("got %s, %v", output, err)
	}
	for range begun.Load() { // some may have been aborted before they were sent
		<-ended
	}
}

func TestFetchBeginsNoEffectThatIsNotOurs(t *testing.T) {
	t.Parallel()
	var reached atomic.Int64
	server := serving(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	job := granted(`async function handler() { try { await fetch(URL) } catch {} return 1 }`, server)
	job.Ours = func() bool { return false }
	if output, err := fetcher(t, guard.Config{Allow: loopback}).Run(t.Context(), job); !errors.Is(err, executor.ErrNotOurs) {
		t.Errorf("got %s, %v", output, err)
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("it was reached %d times", n)
	}
}

func TestHosts(t *testing.T) {
	for _, tc := range []struct {
		hosts, url, want string // want: the entry that is missing
	}{
		{"api.example", "https://api.example/x", ""},
		{"api.example", "https://API.example:443/x", ""},
		{"api.example", "https://api.example:8443/", "api.example:8443"},
		{"api.example", "http://api.example/", "api.example:80"},
		{"api.example", "https://api.example.evil/", "api.example.evil"},
		{"api.example", "https://evilapi.example/", "evilapi.example"},
		{"api.example", "https://api.example@evil.example/", "evil.example"},
		{"api.example", "https://api.example./", "api.example."},
		{"api.example:8443", "https://api.example:8443/", ""},
		{"api.example:8443", "http://api.example:8443/", ""},
		{"api.example:8443", "https://api.example/", "api.example"},
		{"api.example:443", "https://api.example/", ""},
		{"api.example:443", "http://api.example:443/", ""},
		{"api.example:80", "http://api.example/", ""},
		{"*.example", "https://api.example/", ""},
		{"*.example", "https://a.b.example/", ""},
		{"*.example", "https://example/", "example"},
		{"*.example", "https://aexample/", "aexample"},
		{"*.example", "https://api.example:8443/", "api.example:8443"},
		{"*.example:8443", "https://api.example:8443/", ""},
		{"a.example b.example", "https://b.example/", ""},
		{"127.0.0.1:80", "http://2130706433/", "2130706433:80"},
		{"", "https://[::1]/", "::1"},
	} {
		u, err := url.Parse(tc.url)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := hosts(strings.Fields(tc.hosts)).refusal(u); err != nil {
			_, got, _ = strings.Cut(err.Error(), `add "`)
			got, _, _ = strings.Cut(got, `"`)
		}
		if got != tc.want {
			t.Errorf("%s of %q: wants %q, not %q", tc.url, tc.hosts, got, tc.want)
		}
	}
}

// request gives the frame of a fetch.
func request(t testing.TB, id uint32, method, url string) []byte {
	t.Helper()
	body, err := pack(script.Request{ID: id, Method: method, URL: url, Headers: [][2]string{{"a", "b"}}, Redirect: "follow"}, []byte("body"))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// sink keeps what is sent to a sandbox.
type sink struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Write(p)
}

// TestHostileFetches has a sandbox that breaks the rules of fetching, in which case nothing is fetched, or only what it may.
func TestHostileFetches(t *testing.T) {
	held := make(chan struct{})
	server := serving(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-held:
		case <-r.Context().Done():
		}
	})
	defer close(held)
	abort := func(id uint32) string { return "X" + string(binary.BigEndian.AppendUint32(nil, id)) }
	fetch := func(id uint32, method, url string) string { return "Q" + string(request(t, id, method, url)) }
	many := func(n int, one func(i uint32) string) (all []string) {
		for i := range n {
			all = append(all, one(uint32(i)))
		}
		return all
	}
	for name, sent := range map[string][]string{
		"no head":        {"Q"},
		"half a head":    {"Q\x00\x00\x00\x09{}"},
		"largest head":   {"Q\xff\xff\xff\xff{}"},
		"head no JSON":   {"Q\x00\x00\x00\x02[}"},
		"head no object": {"Q\x00\x00\x00\x02[]"},
		"large number":   {"Q\x00\x00\x00\x11{\"id\":4294967296}"},
		"number twice":   {fetch(1, "GET", server.URL), fetch(1, "GET", server.URL)},
		"9 at once":      many(9, func(i uint32) string { return fetch(i, "GET", server.URL) }),
		"abort of what?": {"X"},
		"long abort":     {"X12345"},
		"only aborts":    {abort(7)},
		"more aborts":    {fetch(1, "GET", server.URL), abort(1), abort(1)},
		"large body":     {"Q" + strings.Repeat("x", headSize+maxRequestHead+script.MaxFetchBody+1)},
	} {
		t.Run(name, func(t *testing.T) {
			client := guard.NewClient(guard.Config{Allow: loopback})
			defer client.CloseIdleConnections()
			ctx, cancel := context.WithCancel(t.Context())
			made := newCalls(ctx, client, hosts{server.Listener.Addr().String()}, func() bool { return true }, func() {}, &sink{})
			defer made.wait()
			defer cancel()
			_, err := converse(frame.NewReader(bytes.NewReader(frames(t, sent...)), answers), (&lines{}).log, made)
			if !errors.Is(err, frame.ErrBroken) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// TestRequestsThatCanNotBeMadeAreAnswered has a sandbox that asks for what fetch itself would not.
func TestRequestsThatCanNotBeMadeAreAnswered(t *testing.T) {
	for _, r := range []script.Request{
		{Method: "GET", URL: "://"},
		{Method: "GET", URL: "/path"},
		{Method: "GET", URL: "file:///etc/passwd"},
		{Method: "GET", URL: "https://user:password@api.example/"},
		{Method: "CONNECT", URL: "https://api.example/"},
		{Method: "trace", URL: "https://api.example/"},
		{Method: "A B", URL: "https://api.example/"},
		{Method: "GET", URL: "https://api.example/", Headers: [][2]string{{"a", "1\r\nb: 2"}}},
		{Method: "GET", URL: "https://api.example/", Headers: [][2]string{{"a b", "1"}}},
		{Method: "GET", URL: "https://api.example/", Headers: [][2]string{{"a", "\u0100"}}},
	} {
		client := guard.NewClient(guard.Config{})
		made := newCalls(t.Context(), client, hosts{"api.example"}, func() bool { return true }, func() {}, io.Discard)
		if got := made.fetch(t.Context(), r); got.Error == "" {
			t.Errorf("%+v: got %+v", r, got)
		}
		client.CloseIdleConnections()
	}
}

func FuzzFetches(f *testing.F) {
	f.Add(request(f, 1, "GET", "https://api.example/"))
	f.Add(request(f, 4294967295, "POST", "http://api.example:80/?a#b"))
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // nothing is to be dialled
		client := guard.NewClient(guard.Config{})
		defer client.CloseIdleConnections()
		out := &sink{}
		made := newCalls(ctx, client, hosts{"api.example", "*.example:80"}, func() bool { return true }, func() {}, out)
		err := made.begin(body)
		made.wait()
		if err != nil {
			if !errors.Is(err, frame.ErrBroken) || out.all.Len() > 0 {
				t.Fatalf("got %v, and %q", err, out.all.Bytes())
			}
			return
		}
		sent, err := await(frame.NewReader(&out.all, questions), frame.Response)
		if err != nil {
			t.Fatal(err)
		}
		var r script.Response
		if _, err := unpack(sent, &r); err != nil || r.Error == "" {
			t.Fatalf("got %+v, %v", r, err)
		}
	})
}
