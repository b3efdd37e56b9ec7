// Package identity is the identity service: accounts, sessions, API keys, the check of an access token or
// a key, and users' secrets. PostgreSQL holds the truth about all of them; Redis only saves Verify a query.
package identity

import (
	"context"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	contract "turbocat.io/contracts/identity"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/postgres/once"
	"turbocat.io/pkg/postgres/outbox"
	"turbocat.io/pkg/postgres/trail"
	"turbocat.io/pkg/ratelimit"
	"turbocat.io/pkg/seal"
	"turbocat.io/pkg/service"
	"turbocat.io/services/identity/internal/account"
	"turbocat.io/services/identity/internal/apikey"
	"turbocat.io/services/identity/internal/audit"
	"turbocat.io/services/identity/internal/liveness"
	"turbocat.io/services/identity/internal/mail"
	"turbocat.io/services/identity/internal/natsapi"
	"turbocat.io/services/identity/internal/password"
	"turbocat.io/services/identity/internal/postgres"
	"turbocat.io/services/identity/internal/token"
	"turbocat.io/services/identity/internal/vault"
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
	bus       *bus.Conn
	server    *bus.Server
	accounts  *account.Accounts
	intake    *natsapi.AuditIntake
	retention *audit.Retention
	relay     *outbox.Relay
	answers   *once.Answers
	log       zerolog.Logger
}

// New wires the service; the error names each setting that is wrong and what to set.
func New(env service.Env, cfg Config) (*Service, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	mailer, mailbox, err := cfg.mailer(env.Log)
	if err != nil {
		return nil, err
	}
	store := postgres.New(env.DB)
	limits := ratelimit.New(env.Redis, "turbocat:identity:", env.Log)
	accounts := account.New(account.Parts{
		Store:    store,
		Liveness: liveness.New(env.Redis, store, token.AccessLifetime, env.Log),
		Tokens:   token.New(cfg.AccessSecret, cfg.RefreshSecret, time.Now),
		Hasher:   password.NewHasher(cfg.BcryptCost),
		Attempts: limits,
		Mailer:   mailer,
		Frontend: strings.TrimRight(cfg.FrontendURL, "/"),
		Now:      time.Now,
		Log:      env.Log,
	})
	keys, err := seal.NewKeyring("secrets", cfg.Keys)
	if err != nil {
		return nil, err
	}
	server := bus.NewServer(contract.Service, env.Log)
	answers := once.New(env.DB)
	natsapi.Register(server, accounts, apikey.New(postgres.NewKeys(env.DB), time.Now, env.Log), answers)
	natsapi.RegisterMail(server, accounts, mailbox)
	natsapi.RegisterSecrets(server, vault.New(postgres.NewSecrets(env.DB), keys, natsapi.GrantKey(env.Bus), time.Now))
	kept := postgres.NewAudit(env.DB)
	chain := audit.NewTrail(kept, limits)
	natsapi.RegisterAudit(server, chain)
	return &Service{
		bus: env.Bus, server: server, accounts: accounts, answers: answers, log: env.Log,
		intake:    natsapi.NewAuditIntake(env.Bus, chain, bus.NewCopies(env.Replicas, env.Metrics, env.Log), env.Log),
		retention: audit.NewRetention(kept, cfg.AuditRetention, env.Log, env.Metrics),
		relay:     outbox.NewRelay(env.DB, env.Bus, contract.Service, env.Log, env.Metrics, trail.Route(env.Bus, contract.Service)),
	}, nil
}

// mailer gives what sends mail, and the mailbox when that is one.
func (c Config) mailer(log zerolog.Logger) (account.Mailer, *mail.Mailbox, error) {
	switch {
	case c.SMTPURL != "":
		server, err := mail.NewSMTP(c.SMTPURL, c.MailFrom, nil)
		return server, nil, err
	case c.DevMailbox:
		mailbox := mail.NewMailbox(log)
		return mailbox, mailbox, nil
	}
	log.Warn().Msg("no mail can be sent, so nobody who has forgotten a password can set another; set TURBOCAT_IDENTITY_SMTP_URL")
	return mail.None{}, nil, nil
}

// Run sends mail, answers requests and keeps the audit trail until ctx ends and what is in work is finished.
func (s *Service) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.server.Run(ctx, s.bus) })
	group.Go(func() error {
		s.accounts.RunMail(ctx)
		return nil
	})
	group.Go(func() error {
		s.intake.Run(ctx)
		return nil
	})
	group.Go(func() error {
		s.retention.Run(ctx)
		return nil
	})
	group.Go(func() error {
		s.relay.Run(ctx)
		return nil
	})
	group.Go(func() error {
		s.answers.Run(ctx, s.log)
		return nil
	})
	return group.Wait()
}
