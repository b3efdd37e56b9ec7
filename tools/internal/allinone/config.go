//go:build unix

package allinone

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"github.com/caarlos0/env/v11"

	"turbocat.io/tools/internal/child"
	"turbocat.io/tools/internal/datadir"
)

// defaultPort is where the API listens unless PORT says otherwise.
const defaultPort = 3001

// config is what the all-in-one itself reads; the services read the rest.
type config struct {
	Host        string `env:"TURBOCAT_GATEWAY_HOST" envDefault:"127.0.0.1"`
	Port        int    `env:"PORT" envDefault:"3001"`
	DatabaseURL string `env:"DATABASE_URL"`
	DirectURL   string `env:"DIRECT_URL"`
	NatsURL     string `env:"NATS_URL"`
	RedisURL    string `env:"REDIS_URL"`

	dataDir string
}

func parse(environ map[string]string) (config, error) {
	var c config
	if err := env.ParseWithOptions(&c, env.Options{Environment: environ}); err != nil {
		var parse env.ParseError
		if errors.As(err, &parse) && parse.Name == "Port" {
			return c, portFault(environ["PORT"])
		}
		return c, err
	}
	if c.Port < 1 || c.Port > 65535 {
		return c, portFault(strconv.Itoa(c.Port))
	}
	var err error
	c.dataDir, err = datadir.Path(environ)
	return c, err
}

func portFault(port string) error {
	return fmt.Errorf("PORT is %q; set it to a number from 1 to 65535", port)
}

// checkPort fails when the gateway could not listen. It looks before anything slow begins.
func (c config) checkPort() error {
	address := net.JoinHostPort(c.Host, strconv.Itoa(c.Port))
	err := child.AwaitRelease(syscall.EADDRINUSE, func() error {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		return l.Close()
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("the port %d is taken by another program; stop it, or choose a free port, like: PORT=%d", c.Port, c.Port%65535+1)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("the port %d needs more rights than we have; choose one above 1023 with PORT", c.Port)
	default:
		return fmt.Errorf("nothing can listen on %s (%w); correct TURBOCAT_GATEWAY_HOST or PORT", address, err)
	}
}

// url is where a client on this machine finds the gateway.
func (c config) url() string {
	host := c.Host
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(c.Port))
}
