// Package guard makes the one HTTP client by which the runner reaches the outside: it
// dials no address that is private, loopback, link-local, shared, multicast or reserved
// unless the operator allows it.
//
// The check stands in the dialer, after name resolution, so it holds for every dial: for a
// name that resolves differently the second time and for every hop of a redirect.
package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// Config of a client. The zero value is a safe one.
type Config struct {
	Allow          []netip.Prefix // dialled although refused by default
	Variable       string         // the environment variable that Allow is set by, which a refusal names
	MaxBody        int64          // bytes of a response after decompression; 0 means 8 MiB
	MaxRedirects   int            // 0 means 5
	ConnectTimeout time.Duration  // of a connection, and as long again for TLS; 0 means 10 s
	Resolver       *net.Resolver  // nil means the system's
	Watch          *Watch         // nil watches nothing
}

// RefusedError says that a request would have gone to an address that is not allowed.
type RefusedError struct {
	Host     string // as the request names it
	Address  netip.Addr
	Variable string
}

func (e *RefusedError) Error() string {
	to := unmap(e.Address).WithZone("")
	return fmt.Sprintf("%s is at the address %s, which is private or reserved; "+
		"to allow it, an operator adds %s/%d to %s (CIDRs with commas between them)",
		e.Host, e.Address, to, to.BitLen(), e.Variable)
}

// ErrScheme says that a request or a redirect is neither http nor https.
var ErrScheme = errors.New("only http and https are allowed")

// ErrRedirects says that there were more redirects than allowed.
var ErrRedirects = errors.New("too many redirects")

// ErrBodyTooLarge is what reading a response ends with beyond Config.MaxBody.
var ErrBodyTooLarge = errors.New("the response is too large")

const (
	defaultMaxBody      = 8 << 20
	defaultMaxRedirects = 5
	defaultConnect      = 10 * time.Second
	maxHeaderBytes      = 64 << 10
)

// NewClient makes a client that is safe for concurrent use and has no timeout of its own
// for a whole request: bound that by the request's context.
func NewClient(cfg Config) *http.Client {
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = defaultMaxBody
	}
	if cfg.MaxRedirects <= 0 {
		cfg.MaxRedirects = defaultMaxRedirects
	}
	if cfg.ConnectTimeout <= 0 {
		cfg.ConnectTimeout = defaultConnect
	}
	safe := ssrf.New(ssrf.WithAnyPort())
	return &http.Client{
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > cfg.MaxRedirects {
				return fmt.Errorf("%w: more than %d", ErrRedirects, cfg.MaxRedirects)
			}
			keepSecrets(req, via)
			return nil
		},
		Transport: &bounded{
			maxBody: cfg.MaxBody,
			watch:   cfg.Watch,
			next: &http.Transport{
				Proxy:                  nil, // a proxy would dial in our place, unchecked
				DialContext:            dialer(cfg, safe),
				ForceAttemptHTTP2:      true,
				MaxIdleConns:           256,
				MaxIdleConnsPerHost:    16,
				IdleConnTimeout:        30 * time.Second,
				TLSHandshakeTimeout:    cfg.ConnectTimeout,
				ExpectContinueTimeout:  time.Second,
				MaxResponseHeaderBytes: maxHeaderBytes,
			},
		},
	}
}

func dialer(cfg Config, safe *ssrf.Guardian) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		d := net.Dialer{
			Timeout:  cfg.ConnectTimeout,
			Resolver: cfg.Resolver,
			Control: func(_, resolved string, _ syscall.RawConn) error {
				to, err := netip.ParseAddrPort(resolved)
				if err != nil {
					return fmt.Errorf("read the address %q: %w", resolved, err)
				}
				if !permitted(to.Addr(), cfg.Allow, safe) {
					return &RefusedError{Host: host, Address: to.Addr(), Variable: cfg.Variable}
				}
				return nil
			},
		}
		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &fenced{Conn: conn}, nil
	}
}

func permitted(a netip.Addr, allow []netip.Prefix, safe *ssrf.Guardian) bool {
	a = unmap(a)
	if slices.ContainsFunc(allow, func(p netip.Prefix) bool { return p.Contains(a.WithZone("")) }) {
		return true
	}
	return safe.SafeAddr(a) == nil
}

var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
)

// unmap gives the IPv4 address that an IPv6 address stands for, if it stands for one: what
// is dialled through a translator counts, not how it is written.
func unmap(a netip.Addr) netip.Addr {
	b := a.As16()
	switch {
	case a.Is4In6():
		return a.Unmap()
	case nat64.Contains(a.WithZone("")):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToFour.Contains(a.WithZone("")):
		return netip.AddrFrom4([4]byte(b[2:6]))
	default:
		return a
	}
}

// harmless are the headers that a redirect to another host may keep. Any other may be a
// credential, whatever its name.
var harmless = []string{
	"Accept", "Accept-Encoding", "Accept-Language", "Content-Encoding", "Content-Language", "Content-Type",
	"Idempotency-Key", "User-Agent", "X-Turbocat-Attempt",
}

// keepSecrets takes from a redirected request what the new host must not see. Once a
// redirect has left the first host, nothing comes back on a later hop: that hop was chosen
// by a stranger.
func keepSecrets(req *http.Request, via []*http.Request) {
	req.Header.Del("Referer") // holds the query of the hop before, and so perhaps its key
	first := via[0].URL
	stays := sameHost(first, req.URL)
	for _, hop := range via[1:] {
		stays = stays && sameHost(first, hop.URL)
	}
	if stays {
		return
	}
	for name := range req.Header {
		if !slices.Contains(harmless, name) {
			req.Header.Del(name)
		}
	}
}

// sameHost allows the step from http to https on their own ports.
func sameHost(from, to *url.URL) bool {
	if from.Hostname() != to.Hostname() {
		return false
	}
	if from.Scheme == to.Scheme {
		return port(from) == port(to)
	}
	return from.Scheme == "http" && port(from) == "80" && port(to) == "443"
}

func port(u *url.URL) string {
	switch p := u.Port(); {
	case p != "":
		return p
	case u.Scheme == "https":
		return "443"
	default:
		return "80"
	}
}

// bounded sends nothing but http and https, and cuts responses.
type bounded struct {
	maxBody int64
	watch   *Watch
	next    *http.Transport
}

func (b *bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	req, answered, ended := b.watch.calling(req)
	resp, err := b.send(req)
	answered(resp, err)
	if err != nil {
		return nil, err
	}
	resp.Body = &body{ReadCloser: resp.Body, left: b.maxBody, ended: ended}
	return resp, nil
}

func (b *bounded) send(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, fmt.Errorf("%w, not %q", ErrScheme, req.URL.Scheme)
	}
	return b.next.RoundTrip(req)
}

// CloseIdleConnections lets http.Client's reach the transport.
func (b *bounded) CloseIdleConnections() { b.next.CloseIdleConnections() }

// body stands outside of the transport's decompression, so it counts what a bomb unpacks to.
type body struct {
	io.ReadCloser
	left  int64
	ended func()
}

// Close implements io.Closer.
func (b *body) Close() error {
	defer b.ended()
	return b.ReadCloser.Close()
}

func (b *body) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, ErrBodyTooLarge
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n - 1, ErrBodyTooLarge
	}
	return n, err
}
