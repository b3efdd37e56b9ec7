package httpapi

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// hsts has browsers speak HTTPS alone for a year.
const hsts = "max-age=31536000; includeSubDomains"

// Proxies are those whose word about a client is taken.
type Proxies []netip.Prefix

func (p Proxies) has(address netip.Addr) bool {
	return slices.ContainsFunc(p, func(prefix netip.Prefix) bool { return prefix.Contains(address) })
}

// client gives the address that a request came from: the nearest one that is no proxy of ours, by what our proxies have written into
// X-Forwarded-For. What stands left of that was written by anybody, and so was all of it when the connection is not a proxy's.
func (p Proxies) client(remote netip.Addr, forwarded string) netip.Addr {
	client := remote.Unmap()
	hops := strings.Split(forwarded, ",")
	for i := len(hops) - 1; i >= 0 && p.has(client); i-- {
		hop := strings.TrimSpace(hops[i])
		address, err := netip.ParseAddr(hop)
		if err != nil {
			port, perr := netip.ParseAddrPort(hop)
			if perr != nil {
				break
			}
			address = port.Addr()
		}
		client = address.Unmap().WithZone("")
	}
	return client
}

// remote is the other end of the connection.
func remote(c *fiber.Ctx) netip.Addr {
	address, _ := netip.AddrFromSlice(c.Context().RemoteIP())
	return address.Unmap()
}

// clientIP gives the address that the request came from.
func (a *API) clientIP(c *fiber.Ctx) string {
	var forwarded []string // a header may come more than once, each time with more of the list
	for _, value := range c.Request().Header.PeekAll("X-Forwarded-For") {
		forwarded = append(forwarded, string(value))
	}
	return a.Proxies.client(remote(c), strings.Join(forwarded, ",")).String()
}

// scheme is how the client speaks to the proxy before us; "" when none of ours tells.
func (a *API) scheme(c *fiber.Ctx) string {
	if !a.Proxies.has(remote(c)) {
		return ""
	}
	return strings.ToLower(strings.TrimSpace(c.Get("X-Forwarded-Proto")))
}

// secure gives every answer the headers that keep browsers from doing more with it than asked. In production it sends who comes over
// plain HTTP to HTTPS, and tells browsers to stay there.
func (a *API) secure(c *fiber.Ctx) error {
	setPolicyHeaders(c)
	if a.Production {
		switch a.scheme(c) {
		case "https":
			c.Set("Strict-Transport-Security", hsts)
		case "http":
			if !ofMachines(c.Path()) {
				return c.Redirect("https://"+string(c.Request().Host())+string(c.Request().RequestURI()), http.StatusPermanentRedirect)
			}
		}
	}
	return c.Next()
}
