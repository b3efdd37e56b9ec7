//go:build unix

package allinone

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"turbocat.io/tools/internal/datadir"
	"turbocat.io/tools/internal/natsd"
	"turbocat.io/tools/internal/pginstall"
	"turbocat.io/tools/internal/postgresd"
	"turbocat.io/tools/internal/redisd"
)

const natsUser = "turbocat"

// reviveDelay keeps a server that ends at once from being started in a tight loop.
const reviveDelay = time.Second

// server is one that is started again when it ends by itself.
type server interface {
	Done() <-chan struct{}
	Revive(ctx context.Context) error
	Stop()
}

// natsServer is one that keeps running until it is stopped.
type natsServer interface {
	URL() string
	Stop()
}

// startNATS starts a NATS server over the streams in dir, and returns when it accepts connections.
type startNATS func(ctx context.Context, dir string, logs io.Writer) (natsServer, error)

// embeddedNATS starts it inside this process.
func embeddedNATS(ctx context.Context, dir string, logs io.Writer) (natsServer, error) {
	return natsd.Start(ctx, natsd.Options{Dir: dir, User: natsUser, Password: newPassword(), Log: zerolog.New(logs).With().Timestamp().Logger()})
}

// servers are what the services stand on, as far as the environment does not name others.
type servers struct {
	nats  natsServer
	redis *redisd.Server
	pg    *postgresd.Server

	// What the environment, or these servers, say.
	databaseURL, natsURL, redisURL string
}

// startServers starts what the environment does not name; on failure nothing is left running.
func startServers(ctx context.Context, c config, dir *datadir.Dir, install pginstall.Options, nats startNATS, logs io.Writer, say func(string, ...any)) (*servers, error) {
	s := &servers{databaseURL: c.DatabaseURL, natsURL: c.NatsURL, redisURL: c.RedisURL}
	group, ctx := errgroup.WithContext(ctx)
	if s.databaseURL == "" {
		group.Go(func() (err error) {
			s.pg, err = startPostgres(ctx, dir, install, say)
			return err
		})
	}
	if s.natsURL == "" {
		group.Go(func() error {
			started, err := nats(ctx, dir.Path("nats"), logs)
			if err == nil {
				s.nats = started
			}
			return err
		})
	}
	if s.redisURL == "" {
		group.Go(func() (err error) {
			s.redis, err = redisd.Start(ctx, dir.Path("redis"))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		s.stop()
		return nil, err
	}
	if s.pg != nil {
		s.databaseURL = s.pg.URL()
	}
	if s.nats != nil {
		s.natsURL = s.nats.URL()
	}
	if s.redis != nil {
		s.redisURL = s.redis.URL()
		say("Redis is %s", map[redisd.Kind]string{redisd.Installed: "the installed redis-server", redisd.Embedded: "embedded (redis-server is not installed)"}[s.redis.Kind()])
	}
	return s, nil
}

func startPostgres(ctx context.Context, dir *datadir.Dir, install pginstall.Options, say func(string, ...any)) (*postgresd.Server, error) {
	data := dir.Path("postgres")
	var err error
	if install.Major, err = postgresd.MajorOf(data); err != nil {
		return nil, err
	}
	install.Say = say
	binaries, err := pginstall.Ensure(ctx, install)
	if err != nil {
		return nil, err
	}
	if install.Major == 0 {
		say("PostgreSQL %s makes a new database", binaries.Version)
	} else {
		say("PostgreSQL %s opens the database", binaries.Version)
	}
	return postgresd.Start(ctx, postgresd.Options{Dir: data, Binaries: binaries, Database: "turbocat"})
}

// environ gives the environment the servers' addresses.
func (s *servers) environ(base map[string]string) map[string]string {
	m := maps.Clone(base)
	m["DATABASE_URL"], m["NATS_URL"], m["REDIS_URL"] = s.databaseURL, s.natsURL, s.redisURL
	return m
}

// keep starts child servers again when they end by themselves, until ctx ends; the services
// reconnect. It fails when one does not come back.
func (s *servers) keep(ctx context.Context, log zerolog.Logger) error {
	group, ctx := errgroup.WithContext(ctx)
	if s.pg != nil {
		group.Go(func() error { return revive(ctx, "PostgreSQL", s.pg, log) })
	}
	if s.redis != nil {
		group.Go(func() error { return revive(ctx, "Redis", s.redis, log) })
	}
	return group.Wait()
}

func revive(ctx context.Context, name string, s server, log zerolog.Logger) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.Done():
		}
		log.Error().Msgf("%s ended by itself; it is started again", name)
		if err := s.Revive(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("%s ended and did not start again: %w", name, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(reviveDelay):
		}
	}
}

// stop ends the servers and returns when they have ended.
func (s *servers) stop() {
	if s.nats != nil {
		s.nats.Stop()
	}
	var both sync.WaitGroup
	if s.redis != nil {
		both.Go(s.redis.Stop)
	}
	if s.pg != nil {
		both.Go(s.pg.Stop)
	}
	both.Wait()
}

func newPassword() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
