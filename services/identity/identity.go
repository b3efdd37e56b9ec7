// Package identity is the identity service: accounts, sessions, and the check of an access
// token. PostgreSQL holds the truth about all of them; Redis only saves Verify a query.
package identity

import (
	"context"
	"time"

	contract "turbocat.io/contracts/identity"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/service"
	"turbocat.io/services/identity/internal/account"
	"turbocat.io/services/identity/internal/liveness"
	"turbocat.io/services/identity/internal/natsapi"
	"turbocat.io/services/identity/internal/password"
	"turbocat.io/services/identity/internal/postgres"
	"turbocat.io/services/identity/internal/token"
)

// Spec describes the service to pkg/service.
func Spec() service.Spec[Config] {
	return service.Spec[Config]{
		Name: contract.Service, Database: true, Redis: true,
		New: func(env service.Env, cfg Config) (service.Service, error) { return New(env, cfg) },
	}
}

// Service answers the methods of contracts/identity.
type Service struct {
	bus    *bus.Conn
	server *bus.Server
}

// New wires the service; the error names each setting that is wrong and what to set.
func New(env service.Env, cfg Config) (*Service, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	store := postgres.New(env.DB)
	accounts := account.New(account.Parts{
		Store:    store,
		Liveness: liveness.New(env.Redis, store, token.AccessLifetime, env.Log),
		Tokens:   token.New(cfg.AccessSecret, cfg.RefreshSecret, time.Now),
		Hasher:   password.NewHasher(cfg.BcryptCost),
		Now:      time.Now,
		Log:      env.Log,
	})
	server := bus.NewServer(contract.Service, env.Log)
	natsapi.Register(server, accounts)
	return &Service{bus: env.Bus, server: server}, nil
}

// Run answers requests until ctx ends and those in work are finished.
func (s *Service) Run(ctx context.Context) error { return s.server.Run(ctx, s.bus) }
