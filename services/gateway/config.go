package gateway

import (
	"fmt"
	"net/url"
	"time"
)

// Config of the gateway.
type Config struct {
	// Host and Port are where the API listens. Port 0 takes a free one.
	Host string `env:"TURBOCAT_GATEWAY_HOST" envDefault:"127.0.0.1"`
	Port int    `env:"PORT" envDefault:"3001"`

	// FrontendURL is the one web origin, besides the API's own, that may call from a browser.
	FrontendURL string `env:"FRONTEND_URL"`

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

// origin is the web origin of FrontendURL; "" when there is none.
func (c Config) origin() (string, error) {
	if c.FrontendURL == "" {
		return "", nil
	}
	u, err := url.Parse(c.FrontendURL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return "", fmt.Errorf("FRONTEND_URL is not an http or https address; give one like https://app.example.com")
	}
	return u.Scheme + "://" + u.Host, nil
}
