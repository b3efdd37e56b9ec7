package account

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"net/netip"
	"time"

	"turbocat.io/pkg/ratelimit"
)

// loginLimit bounds the failed logins to one account from one address: ten at once, and one more every 90 s. Who is elsewhere, like the
// account's owner, is not held up by them, and nobody is for long.
var loginLimit = ratelimit.Limit{Rate: 10, Burst: 10, Period: 15 * time.Minute}

// loginAttempts names what is counted for a login. The address stands in it as a digest, for Redis needs not know it.
func loginAttempts(email string, client Client) string {
	return "login:" + digestOf(email+"\x00"+network(client.IP))
}

// network gives the address, and of IPv6, where one client has that many, the first 64 bits.
func network(ip string) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return ""
	}
	if addr = addr.Unmap(); addr.Is6() {
		return netip.PrefixFrom(addr.WithZone(""), 64).Masked().String()
	}
	return addr.String()
}

func digestOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func wholeSeconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
