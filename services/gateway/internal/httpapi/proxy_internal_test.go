package httpapi

import (
	"net/netip"
	"testing"
)

func TestClientBehindProxies(t *testing.T) {
	proxies := Proxies{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	for _, tt := range []struct{ name, remote, forwarded, want string }{
		{"no proxy", "192.0.2.1", "", "192.0.2.1"},
		{"spoofed without a proxy", "192.0.2.1", "203.0.113.9", "192.0.2.1"},
		{"a proxy that says nothing", "10.1.1.1", "", "10.1.1.1"},
		{"one proxy", "10.1.1.1", "203.0.113.9", "203.0.113.9"},
		{"spoofed through a proxy", "10.1.1.1", "1.1.1.1, 203.0.113.9", "203.0.113.9"},
		{"two proxies", "10.1.1.1", "1.1.1.1, 203.0.113.9 ,10.2.2.2", "203.0.113.9"},
		{"a proxy is not believed about another network", "10.1.1.1", "10.9.9.9, 203.0.113.9, 192.0.2.7", "192.0.2.7"},
		{"nonsense ends it", "10.1.1.1", "203.0.113.9, unknown", "10.1.1.1"},
		{"with a port", "10.1.1.1", "203.0.113.9:4711", "203.0.113.9"},
		{"IPv6", "2001:db8::1", "2a00::1", "2a00::1"},
		{"IPv6 with a port", "2001:db8::1", "[2a00::1]:80", "2a00::1"},
		{"IPv4 in IPv6", "::ffff:10.1.1.1", "::ffff:203.0.113.9", "203.0.113.9"},
		{"a zone", "10.1.1.1", "fe80::1%lo", "fe80::1"},
	} {
		if got := proxies.client(netip.MustParseAddr(tt.remote), tt.forwarded).String(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
