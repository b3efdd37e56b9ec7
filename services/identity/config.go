package identity

import (
	"errors"
	"fmt"
	"strings"
)

// Config is what the service reads from the environment.
type Config struct {
	AccessSecret  string `env:"JWT_ACCESS_SECRET"`
	RefreshSecret string `env:"JWT_REFRESH_SECRET"`
	BcryptCost    int    `env:"TURBOCAT_IDENTITY_BCRYPT_COST" envDefault:"12"`
}

// minSecret is the length of a signing key in bytes: that of the SHA-256 it feeds.
const minSecret = 32

const (
	minCost = 4
	maxCost = 16 // about five seconds a login
)

func (c Config) validate() error {
	var problems []error
	for _, s := range []struct{ name, value string }{
		{"JWT_ACCESS_SECRET", c.AccessSecret}, {"JWT_REFRESH_SECRET", c.RefreshSecret},
	} {
		switch n := len(strings.TrimSpace(s.value)); {
		case n == 0:
			problems = append(problems, fmt.Errorf("%s is not set; set it to a random text of at least %d bytes, like the output of `openssl rand -hex 32`", s.name, minSecret))
		case n < minSecret:
			problems = append(problems, fmt.Errorf("%s has %d bytes; set it to a random text of at least %d bytes, like the output of `openssl rand -hex 32`", s.name, n, minSecret))
		}
	}
	if c.AccessSecret != "" && c.AccessSecret == c.RefreshSecret {
		problems = append(problems, errors.New("JWT_ACCESS_SECRET and JWT_REFRESH_SECRET are the same; set each to a random text of its own"))
	}
	if c.BcryptCost < minCost || c.BcryptCost > maxCost {
		problems = append(problems, fmt.Errorf("TURBOCAT_IDENTITY_BCRYPT_COST is %d; set it to %d..%d (12 is the default)", c.BcryptCost, minCost, maxCost))
	}
	return errors.Join(problems...)
}
