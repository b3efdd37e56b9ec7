package gateway

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Config of the gateway.
type Config struct {
	// Host and Port are where the API listens. Port 0 takes a free one.
	Host string `env:"TURBOCAT_GATEWAY_HOST" envDefault:"127.0.0.1"`
	Port int    `env:"PORT" envDefault:"3001"`

	// FrontendURL is where the web frontend stands; its origin may call from a browser, and so may Origins.
	FrontendURL string   `env:"FRONTEND_URL"`
	Origins     []string `env:"TURBOCAT_GATEWAY_ORIGINS"`

	// Environment production keeps clients to HTTPS.
	Environment string `env:"TURBOCAT_ENV" envDefault:"development"`
	// TrustedProxies are the networks of those whose X-Forwarded-For and X-Forwarded-Proto are believed.
	TrustedProxies []string `env:"TURBOCAT_GATEWAY_TRUSTED_PROXIES"`

	// AuthPerMinute bounds the calls of one address to the auth routes.
	AuthPerMinute int `env:"TURBOCAT_GATEWAY_AUTH_PER_MINUTE" envDefault:"60"`
	// UserPerSecond bounds the other calls of one user; twice as many may come in a burst.
	UserPerSecond int `env:"TURBOCAT_GATEWAY_USER_PER_SECOND" envDefault:"1000"`

	// RedisPrefix sets the keys of this installation apart from those of others on the same Redis.
	RedisPrefix string `env:"TURBOCAT_GATEWAY_REDIS_PREFIX" envDefault:"turbocat"`
	// PingInterval is how often an event stream shows that it is alive.
	PingInterval time.Duration `env:"TURBOCAT_GATEWAY_PING_INTERVAL" envDefault:"15s"`
	// DrainTimeout bounds how long requests in flight may take to finish at shutdown.
	DrainTimeout time.Duration `env:"TURBOCAT_GATEWAY_DRAIN_TIMEOUT" envDefault:"10s"`
}

func (c Config) validate() error {
	switch {
	case c.Port < 0 || c.Port > 65535:
		return fmt.Errorf("PORT is %d; use 1 to 65535, or 0 for a free one", c.Port)
	case c.AuthPerMinute < 1:
		return fmt.Errorf("TURBOCAT_GATEWAY_AUTH_PER_MINUTE is %d; use 1 or more", c.AuthPerMinute)
	case c.UserPerSecond < 1:
		return fmt.Errorf("TURBOCAT_GATEWAY_USER_PER_SECOND is %d; use 1 or more", c.UserPerSecond)
	case c.PingInterval <= 0:
		return fmt.Errorf("TURBOCAT_GATEWAY_PING_INTERVAL is %s; use a positive duration, like 15s", c.PingInterval)
	case c.DrainTimeout <= 0:
		return fmt.Errorf("TURBOCAT_GATEWAY_DRAIN_TIMEOUT is %s; use a positive duration, like 10s", c.DrainTimeout)
	}
	return nil
}

// origins are the web origins that may call from a browser.
func (c Config) origins() ([]string, error) {
	var origins []string
	for i, given := range append([]string{c.FrontendURL}, c.Origins...) {
		name := "TURBOCAT_GATEWAY_ORIGINS"
		if i == 0 {
			name = "FRONTEND_URL"
		}
		if given = strings.TrimSpace(given); given == "" {
			continue
		}
		u, err := url.Parse(given)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || strings.Contains(u.Host, "*") {
			return nil, fmt.Errorf("%s has %q, which is not an http or https address; give one like https://app.example.com", name, given)
		}
		if origin := u.Scheme + "://" + u.Host; !slices.Contains(origins, origin) {
			origins = append(origins, origin)
		}
	}
	return origins, nil
}

// production tells whether clients are kept to HTTPS.
func (c Config) production() (bool, error) {
	switch c.Environment {
	case "production":
		return true, nil
	case "development":
		return false, nil
	}
	return false, fmt.Errorf("TURBOCAT_ENV is %q; use production or development", c.Environment)
}

// proxies are the networks of TrustedProxies.
func (c Config) proxies() ([]netip.Prefix, error) {
	var proxies []netip.Prefix
	for _, given := range c.TrustedProxies {
		given = strings.TrimSpace(given)
		prefix, err := netip.ParsePrefix(given)
		if address, aerr := netip.ParseAddr(given); err != nil && aerr == nil {
			prefix, err = address.Prefix(address.BitLen())
		}
		if err != nil {
			return nil, fmt.Errorf("TURBOCAT_GATEWAY_TRUSTED_PROXIES has %q, which is no network; give some like 10.0.0.0/8,192.0.2.7", given)
		}
		proxies = append(proxies, prefix.Masked())
	}
	return proxies, nil
}
