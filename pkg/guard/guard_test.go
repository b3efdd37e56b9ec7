package guard

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	neturl "net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"code.dny.dev/ssrf"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

func client(t *testing.T, cfg Config) *http.Client {
	t.Helper()
	c := NewClient(cfg)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// trap listens on all addresses of the machine and counts what reaches it.
func trap(t *testing.T) (port int, connections *atomic.Int64) {
	t.Helper()
	connections = &atomic.Int64{}
	var listeners []net.Listener
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	port = l.Addr().(*net.TCPAddr).Port
	listeners = append(listeners, l)
	if l6, err := net.Listen("tcp6", fmt.Sprintf("[::1]:%d", port)); err == nil {
		listeners = append(listeners, l6)
	}
	for _, l := range listeners {
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				connections.Add(1)
				_ = conn.Close()
			}
		}()
		t.Cleanup(func() { _ = l.Close(); <-done })
	}
	return port, connections
}

// resolver answers every name with the address, as a hostile name server may, and numbers
// as the libraries do that take 2130706433 for 127.0.0.1.
func resolver(t *testing.T, address netip.Addr) *net.Resolver {
	t.Helper()
	return resolving(t, func() netip.Addr { return address })
}

// resolving answers each question for an IPv4 address with another one, and that for an IPv6 address with none.
func resolving(t *testing.T, next func() netip.Addr) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(answer(b[:n], next), from)
		}
	}()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

func answer(question []byte, next func() netip.Addr) []byte {
	end := 12
	for question[end] != 0 {
		end += int(question[end]) + 1
	}
	end += 5
	kind := binary.BigEndian.Uint16(question[end-4:])
	out := append([]byte{}, question[:end]...)
	copy(out[2:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0})
	if kind == 1 {
		address := next()
		out[7] = 1
		out = append(out, 0xc0, 12, byte(kind>>8), byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(address.BitLen()/8))
		out = append(out, address.AsSlice()...)
	}
	return out
}

// forms are the ways to write an address that must not be reached; %d is the trap's port.
var forms = []string{
	"http://127.0.0.1:%d/", "http://127.1:%d/", "http://0:%d/", "http://0.0.0.0:%d/", "http://2130706433:%d/", "http://0x7f000001:%d/",
	"http://0177.0.0.1:%d/", "http://localhost:%d/", "http://localhost.:%d/", "http://LOCALHOST:%d/", "http://１２７.０.０.１:%d/",
	"http://[::1]:%d/", "http://[::]:%d/", "http://[::ffff:7f00:1]:%d/", "http://[::ffff:127.0.0.1]:%d/", "http://[64:ff9b::7f00:1]:%d/",
	"http://[2002:7f00:1::]:%d/", "http://[fe80::1%%25lo]:%d/", "http://[::127.0.0.1]:%d/", "http://[64:ff9b:1::7f00:1]:%d/",
	"http://169.254.169.254:%d/", "http://[fd00:ec2::254]:%d/", "http://100.64.0.1:%d/", "http://10.0.0.1:%d/", "http://172.16.0.1:%d/",
	"http://192.168.0.1:%d/", "http://198.18.0.1:%d/", "http://224.0.0.1:%d/", "http://240.0.0.1:%d/", "http://255.255.255.255:%d/",
	"http://ok@127.0.0.1:%d/", "https://127.0.0.1:%d/", "http://example.com%%00@127.0.0.1:%d/", "http://127.0.0.1%%00.example.com:%d/",
	`http://127.0.0.1\@example.com:%d/`, `http://example.com\@127.0.0.1:%d/`, "http://internal.example.com:%d/",
	"file:///etc/passwd?%d", "gopher://127.0.0.1:%d/_x", "unix:///var/run/x.sock?%d",
}

func TestRefusesForms(t *testing.T) {
	port, connections := trap(t)
	c := client(t, Config{Resolver: resolver(t, netip.MustParseAddr("127.0.0.1"))})
	for _, form := range forms {
		url := fmt.Sprintf(form, port)
		resp, err := c.Get(url)
		if err == nil {
			_ = resp.Body.Close()
			t.Errorf("%s was answered", url)
			continue
		}
		u, invalid := neturl.Parse(url)
		if invalid != nil {
			continue
		}
		var refused *RefusedError
		if _, literal := netip.ParseAddr(u.Hostname()); literal == nil && u.Scheme == "http" && !errors.As(err, &refused) {
			t.Errorf("%s: %v, want a RefusedError", url, err)
		}
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("the trap saw %d connections", n)
	}
}

func TestRefusesFormsByRedirect(t *testing.T) {
	port, connections := trap(t)
	for _, form := range forms {
		url := fmt.Sprintf(form, port)
		// The first hop is allowed and nothing else of its network is.
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Location"] = []string{url}
			w.WriteHeader(http.StatusFound)
		}))
		own := netip.MustParseAddrPort(server.Listener.Addr().String())
		c := NewClient(Config{Resolver: resolver(t, netip.MustParseAddr("127.0.0.1"))})
		transport := c.Transport.(*bounded).next
		guarded := transport.DialContext
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == own.String() {
				var d net.Dialer
				return d.DialContext(ctx, network, address)
			}
			return guarded(ctx, network, address)
		}
		if resp, err := c.Get(server.URL); err == nil {
			_ = resp.Body.Close()
			t.Errorf("%s was answered", url)
		}
		c.CloseIdleConnections()
		server.Close()
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("the trap saw %d connections", n)
	}
}

// TestRefusesRebinding has a name server that tells a permitted address first and then another one, as for a name that is checked before it is dialled.
func TestRefusesRebinding(t *testing.T) {
	at := func(address string) net.Listener {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	permitted, trapped := httptest.NewUnstartedServer(nil), httptest.NewUnstartedServer(nil)
	permitted.Listener = at("127.0.0.2:0")
	port := permitted.Listener.Addr().(*net.TCPAddr).Port
	trapped.Listener = at(fmt.Sprintf("127.0.0.1:%d", port))
	var connections atomic.Int32
	trapped.Config.ConnState = func(net.Conn, http.ConnState) { connections.Add(1) }
	permitted.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close") // the next request dials anew
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "/", http.StatusFound)
		}
	})
	for _, server := range []*httptest.Server{permitted, trapped} {
		server.Start()
		t.Cleanup(server.Close)
	}
	public, private := netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")
	for attempt, c := range map[string]struct {
		first int32 // questions that are answered with the permitted address
		paths []string
	}{
		"the second request": {1, []string{"/", "/"}},
		"after a redirect":   {1, []string{"/away"}},
		"the first request":  {0, []string{"/"}},
	} {
		var asked atomic.Int32
		client := client(t, Config{Allow: []netip.Prefix{netip.PrefixFrom(public, 32)}, Resolver: resolving(t, func() netip.Addr {
			if asked.Add(1) <= c.first {
				return public
			}
			return private
		})})
		var err error
		for _, path := range c.paths {
			var resp *http.Response
			if resp, err = client.Get(fmt.Sprintf("http://rebind.example.com:%d%s", port, path)); err == nil {
				_ = resp.Body.Close()
			}
		}
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Address != private {
			t.Errorf("%s: %v", attempt, err)
		}
		t.Logf("rebinding, %s -> %v", attempt, err)
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("the trap saw %d connections", n)
	}
}

func TestRefusalNamesHostAndRemedy(t *testing.T) {
	c := client(t, Config{Variable: "ALLOWED", Resolver: resolver(t, netip.MustParseAddr("10.1.2.3"))})
	_, err := c.Get("http://db.example.com/")
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Host != "db.example.com" {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"db.example.com", "10.1.2.3/32", "ALLOWED"} {
		if !strings.Contains(refused.Error(), want) {
			t.Errorf("%q does not name %s", refused, want)
		}
	}
}

func TestPermitted(t *testing.T) {
	tests := []struct {
		address, allow string
		want           bool
	}{
		{"93.184.216.34", "", true},
		{"2606:4700::1111", "", true},
		{"64:ff9b::5db8:d822", "", true},
		{"64:ff9b::a00:1", "", false},
		{"::ffff:93.184.216.34", "", true},
		{"::ffff:10.0.0.1", "", false},
		{"::ffff:10.0.0.1", "10.0.0.0/8", true},
		{"10.0.0.1", "10.0.0.0/8", true},
		{"11.0.0.1", "10.0.0.0/8", true},
		{"192.168.0.1", "10.0.0.0/8", false},
		{"fe80::1%eth0", "", false},
		{"fe80::1%eth0", "fe80::/10", true},
		{"fd00:ec2::254", "", false},
		{"192.0.0.192", "", false},
		{"ff02::1", "", false},
		{"2001::1", "", false},
	}
	for _, tt := range tests {
		allow, err := ParseAllow(tt.allow)
		if err != nil {
			t.Fatal(err)
		}
		if got := permitted(netip.MustParseAddr(tt.address), allow, ssrf.New(ssrf.WithAnyPort())); got != tt.want {
			t.Errorf("%s allowing %q: %v", tt.address, tt.allow, got)
		}
	}
}

func TestParseAllow(t *testing.T) {
	got, err := ParseAllow(" 10.0.0.0/8, ::1 ,127.0.0.1,")
	if err != nil || fmt.Sprint(got) != "[10.0.0.0/8 ::1/128 127.0.0.1/32]" {
		t.Errorf("%v %v", got, err)
	}
	for _, bad := range []string{"10.0.0.1/8", "10.0.0", "x", "fe80::1%lo", "10.0.0.0/33"} {
		if _, err := ParseAllow(bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzParseAllow(f *testing.F) {
	f.Add("10.0.0.0/8,::1")
	f.Fuzz(func(t *testing.T, text string) {
		allow, err := ParseAllow(text)
		if err != nil {
			return
		}
		for _, p := range allow {
			if !p.IsValid() || p != p.Masked() {
				t.Errorf("%q gave %v", text, p)
			}
		}
	})
}

func TestRedirectDropsCredentials(t *testing.T) {
	var seen http.Header
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r.Header.Clone() }))
	defer other.Close()
	var target string
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/end" {
			seen = r.Header.Clone()
			return
		}
		http.Redirect(w, r, target, http.StatusTemporaryRedirect)
	}))
	defer first.Close()
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, first.URL+"/end", http.StatusFound)
	}))
	defer back.Close()
	c := client(t, Config{Allow: loopback})
	secret := []string{"Authorization", "Cookie", "X-Api-Key", "X-Anything"}
	for _, tt := range []struct {
		name, target string
		kept         bool
	}{
		{"same host", "/end", true},
		{"other host", strings.Replace(other.URL, "127.0.0.1", "localhost", 1), false},
		{"other port", other.URL, false},
		{"there and back", back.URL, false},
	} {
		target, seen = tt.target, nil
		req, _ := http.NewRequest(http.MethodGet, first.URL+"/start?key=secret", nil)
		for _, name := range secret {
			req.Header.Set(name, "s")
		}
		req.Header.Set("Idempotency-Key", "k")
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		for _, name := range secret {
			if (seen.Get(name) != "") != tt.kept {
				t.Errorf("%s: %s is %q", tt.name, name, seen.Get(name))
			}
		}
		if seen.Get("Idempotency-Key") != "k" || seen.Get("Referer") != "" {
			t.Errorf("%s: %v", tt.name, seen)
		}
	}
}

func TestCaps(t *testing.T) {
	bomb := func() []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write(make([]byte, 1<<20))
		_ = z.Close()
		return b.Bytes()
	}()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb)
		case "/exact":
			_, _ = w.Write(make([]byte, 1000))
		case "/more":
			_, _ = w.Write(make([]byte, 1001))
		case "/header":
			w.Header().Set("X", strings.Repeat("x", 80<<10))
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		}
	}))
	defer server.Close()
	c := client(t, Config{Allow: loopback, MaxBody: 1000})
	read := func(path string) (int, error) {
		resp, err := c.Get(server.URL + path)
		if err != nil {
			return 0, err
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		return len(b), err
	}
	if n, err := read("/exact"); n != 1000 || err != nil {
		t.Errorf("exact: %d %v", n, err)
	}
	for _, path := range []string{"/more", "/bomb"} {
		if n, err := read(path); n != 1000 || !errors.Is(err, ErrBodyTooLarge) {
			t.Errorf("%s: %d %v", path, n, err)
		}
	}
	if _, err := read("/header"); err == nil {
		t.Error("a header of 80 KiB was taken")
	}
	if _, err := read("/loop"); !errors.Is(err, ErrRedirects) {
		t.Errorf("loop: %v", err)
	}
}

func TestIgnoresProxy(t *testing.T) {
	port, connections := trap(t)
	t.Setenv("HTTP_PROXY", fmt.Sprintf("http://127.0.0.1:%d", port))
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c := client(t, Config{Allow: loopback, Resolver: resolver(t, netip.MustParseAddr("10.0.0.1"))})
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://example.com/", nil)
	var refused *RefusedError
	if _, err := c.Do(req); !errors.As(err, &refused) || connections.Load() != 0 {
		t.Errorf("%v after %d connections", err, connections.Load())
	}
}
