//go:build unix

// Package allinone runs a whole installation from one command: PostgreSQL, NATS and Redis as far as the environment
// does not name others, and every service over them, exactly as each runs alone. NATS and the services
// live in this process, or each in one of its own.
package allinone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/rs/zerolog"

	"turbocat.io/migrations"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/service"
	"turbocat.io/tools/internal/datadir"
	"turbocat.io/tools/internal/pginstall"
)

// Keys that are made once when the environment does not give them.
var keys = []string{"JWT_ACCESS_SECRET", "JWT_REFRESH_SECRET", "ENCRYPTION_KEY"}

// Options of Run.
type Options struct {
	Environ map[string]string
	Units   []service.Unit
	Door    string    // the name of the unit that clients talk to
	Out     io.Writer // for people; several goroutines write
	Live    bool      // Out is a terminal

	// Set by InProcesses.
	startNATS startNATS
	processes func(doorURL string) string // a table
}

// Run starts the installation, and stops it in order when ctx ends. Its errors are sentences for
// the user; nil after an ordinary stop.
func Run(ctx context.Context, o Options) error {
	begin := time.Now()
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(o.Out, format+"\n", args...) }
	c, err := parse(o.Environ)
	if err != nil {
		return err
	}
	install, err := pginstall.FromEnviron(o.Environ)
	if err != nil {
		return err
	}
	if err := c.checkPort(); err != nil {
		return err
	}
	dir, err := datadir.Open(c.dataDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	logs, err := dir.OpenLog("turbocat.log")
	if err != nil {
		return err
	}
	defer func() { _ = logs.Close() }()
	log := zerolog.New(logs).With().Timestamp().Logger()
	say("Turbocat %s keeps its data in %s and its log in %s", service.Version, dir.Path(), logs.Path())

	secrets, err := secrets(dir, o.Environ)
	if err != nil {
		return err
	}
	nats := o.startNATS
	if nats == nil {
		nats = embeddedNATS
	}
	servers, err := startServers(ctx, c, dir, install, nats, logs, say)
	if err != nil {
		return stopped(ctx, err)
	}
	defer servers.stop()
	if err := Migrate(ctx, servers.environ(o.Environ)); err != nil {
		return stopped(ctx, err)
	}
	environ := servers.environ(forDevelopment(o.Environ))
	maps.Copy(environ, secrets)

	units := startUnits(o.Units, o.Door, environ, logs)
	defer units.stop()
	if err := units.awaitReady(ctx); err != nil {
		return stopped(ctx, err)
	}
	accounts, err := populate(ctx, dir, o.Environ, servers.natsURL, log)
	if err != nil {
		return stopped(ctx, err)
	}
	units.open() // now, so that who finds it ready finds the accounts
	if err := units.awaitReady(ctx); err != nil {
		return stopped(ctx, err)
	}
	if err := rotate(ctx, o.Environ, servers.natsURL, log); err != nil {
		return stopped(ctx, err)
	}
	say("Ready in %.1f s\n", time.Since(begin).Seconds())
	say("  API            %s/api/v1", c.url())
	say("  documentation  %s/api/v1/docs", c.url())
	say("  health         %s/health\n", c.url())
	if o.processes != nil {
		say("%s", o.processes(c.url()))
	}
	accounts.tell(say)
	if accounts.first {
		if err := dir.Set(startedMark); err != nil {
			return err
		}
	}

	keeping, stopKeeping := context.WithCancel(ctx)
	kept, keepingEnded := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(keepingEnded)
		kept <- servers.keep(keeping, log)
	}()
	defer func() {
		stopKeeping()
		<-keepingEnded
	}()
	sampling, stopSampling := context.WithCancel(ctx)
	sampled := make(chan struct{})
	go func() {
		defer close(sampled)
		if accounts.first && accounts.demoWorks {
			sample(sampling, c, accounts.demo, o, say)
		}
		if sampling.Err() == nil {
			say("Running; Ctrl-C stops.")
		}
	}()
	defer func() {
		stopSampling()
		<-sampled
	}()
	select {
	case <-ctx.Done():
		<-sampled
		say("Stopping.")
		return nil
	case err := <-units.ended:
		return err
	case err := <-kept:
		return err
	}
}

// Migrate brings every service's schema to its newest version: over DIRECT_URL when the environment
// has one, because a pooler keeps no locks, else over DATABASE_URL.
func Migrate(ctx context.Context, environ map[string]string) error {
	url := environ["DIRECT_URL"]
	if url == "" {
		url = environ["DATABASE_URL"]
	}
	if url == "" {
		return errors.New("DATABASE_URL is not set; give the address of a PostgreSQL database, like postgres://user:password@127.0.0.1:5432/turbocat?sslmode=disable")
	}
	for _, name := range migrations.Services() {
		if err := postgres.Migrate(ctx, url, name, migrations.Of(name)); err != nil {
			return err
		}
	}
	return nil
}

func secrets(dir *datadir.Dir, environ map[string]string) (map[string]string, error) {
	m := map[string]string{}
	for _, name := range keys {
		if environ[name] != "" {
			continue
		}
		secret, err := dir.Secret(name)
		if err != nil {
			return nil, err
		}
		m[name] = secret
	}
	return m, nil
}

// forDevelopment lets Ctrl-C take seconds, and keeps mail instead of sending it, unless the environment wants it otherwise.
func forDevelopment(environ map[string]string) map[string]string {
	m := map[string]string{"TURBOCAT_RUNNER_DRAIN_MS": "3000", "TURBOCAT_GATEWAY_DRAIN_TIMEOUT": "3s"}
	if environ["TURBOCAT_IDENTITY_SMTP_URL"] == "" {
		m["TURBOCAT_IDENTITY_DEV_MAILBOX"] = "true"
	}
	maps.Copy(m, environ)
	return m
}

// stopped is nil when a start was broken off by the user.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
