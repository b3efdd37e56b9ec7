package httpapi_test

import (
	"net/http"
	"net/netip"
	"testing"
	"time"

	"turbocat.io/services/gateway/internal/httpapi"
)

// TestProduction wants HTTPS to be kept to when a trusted proxy tells how the client came, and nobody else to be believed.
func TestProduction(t *testing.T) {
	loopback := httpapi.Proxies{netip.MustParsePrefix("127.0.0.0/8")}
	for _, tt := range []struct {
		name       string
		production bool
		proxies    httpapi.Proxies
		proto      string
		path       string
		status     int
		hsts       bool
		ip         string
	}{
		{"development", false, loopback, "http", "/api/v1/users/me", 200, false, "203.0.113.9"},
		{"plain", true, loopback, "http", "/api/v1/users/me?a=b", 308, false, ""},
		{"plain, a probe", true, loopback, "http", "/health/live", 200, false, ""},
		{"secure", true, loopback, "https", "/api/v1/users/me", 200, true, "203.0.113.9"},
		{"nobody tells", true, loopback, "", "/api/v1/users/me", 200, false, "203.0.113.9"},
		{"not trusted", true, nil, "http", "/api/v1/users/me", 200, false, "127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := start(t, setup{production: tt.production, proxies: tt.proxies})
			req, err := http.NewRequest(http.MethodGet, w.url+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+aliceToken)
			req.Header.Set("X-Forwarded-Proto", tt.proto)
			req.Header.Add("X-Forwarded-For", "1.1.1.1")
			req.Header.Add("X-Forwarded-For", "203.0.113.9")
			client := http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			got, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = got.Body.Close()
			client.CloseIdleConnections()
			if got.StatusCode != tt.status || (got.Header.Get("Strict-Transport-Security") != "") != tt.hsts || got.Header.Get("Content-Security-Policy") == "" {
				t.Errorf("%d %v", got.StatusCode, got.Header)
			}
			if want := "https://" + req.Host + tt.path; tt.status == 308 && got.Header.Get("Location") != want {
				t.Errorf("sent to %s, want %s", got.Header.Get("Location"), want)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if ip := w.callers["identity.get_me"].IP; ip != tt.ip {
				t.Errorf("the client is %q, want %q", ip, tt.ip)
			}
		})
	}
}
