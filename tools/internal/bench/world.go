//go:build unix

package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"turbocat.io/contracts/rpc"
	"turbocat.io/migrations"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/postgres"
	"turbocat.io/tools/internal/child"
	"turbocat.io/tools/internal/pginstall"
	"turbocat.io/tools/internal/postgresd"
	"turbocat.io/tools/internal/redisd"
)

// world is the installation under measurement.
type world struct {
	o       Options
	dir     string
	environ []string
	conn    *bus.Conn
	pg      *postgresd.Server
	parts   map[string]*child.Process
	order   []string

	redis *redisd.Server // nil without a gateway, as is url
	url   string
}

const stopGrace = 5 * time.Second

// start starts an installation of some services, each a process of its own.
func start(ctx context.Context, dir string, o Options, services ...string) (_ *world, err error) {
	w := &world{o: o, dir: dir, parts: map[string]*child.Process{}}
	defer func() {
		if err != nil {
			w.stop()
		}
	}()
	install, err := pginstall.FromEnviron(o.Environ)
	if err != nil {
		return nil, err
	}
	install.Say = func(format string, args ...any) { _, _ = fmt.Fprintf(o.Progress, format+"\n", args...) }
	binaries, err := pginstall.Ensure(ctx, install)
	if err != nil {
		return nil, err
	}
	if w.pg, err = postgresd.Start(ctx, postgresd.Options{Dir: filepath.Join(dir, "postgres"), Binaries: binaries, Database: "turbocat"}); err != nil {
		return nil, err
	}
	for _, name := range migrations.Services() {
		if err := postgres.Migrate(ctx, w.pg.URL(), name, migrations.Of(name)); err != nil {
			return nil, err
		}
	}
	port, err := child.FreePort()
	if err != nil {
		return nil, err
	}
	natsURL := url.URL{Scheme: "nats", User: url.UserPassword("bench", "bench"), Host: "127.0.0.1:" + strconv.Itoa(port)}
	w.environ = []string{"PATH=" + o.Environ["PATH"], "HOME=" + dir, "NATS_URL=" + natsURL.String(), "DATABASE_URL=" + w.pg.URL(), "LOG_LEVEL=warn"}
	for _, name := range []string{"JWT_ACCESS_SECRET", "JWT_REFRESH_SECRET", "ENCRYPTION_KEY"} {
		key := make([]byte, 32)
		_, _ = rand.Read(key) // it never fails
		w.environ = append(w.environ, name+"="+hex.EncodeToString(key))
	}
	if err := w.spawn("nats", "serve", "nats", "--dir", filepath.Join(dir, "nats")); err != nil {
		return nil, err
	}
	begin, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if w.conn, err = bus.Connect(begin, natsURL.String(), "turbocat-bench", zerolog.Nop()); err != nil {
		return nil, err
	}
	if slices.Contains(services, "gateway") {
		if err := w.prepareGateway(ctx); err != nil {
			return nil, err
		}
	}
	for _, name := range services {
		if err := w.spawn(name, "serve", name); err != nil {
			return nil, err
		}
	}
	for _, name := range services {
		if err := w.awaitReady(begin, name); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// prepareGateway gives the services that serve HTTP what they need: a Redis and a port. Limits of requests are lifted, for
// the load comes from one address.
func (w *world) prepareGateway(ctx context.Context) (err error) {
	if w.redis, err = redisd.Start(ctx, filepath.Join(w.dir, "redis")); err != nil {
		return err
	}
	port, err := child.FreePort()
	if err != nil {
		return err
	}
	w.url = "http://127.0.0.1:" + strconv.Itoa(port)
	w.environ = append(w.environ, "REDIS_URL="+w.redis.URL(), "PORT="+strconv.Itoa(port), "TURBOCAT_GATEWAY_AUTH_PER_MINUTE=1000000", "TURBOCAT_GATEWAY_USER_PER_SECOND=1000000")
	return nil
}

func (w *world) spawn(name string, args ...string) error {
	log, err := os.Create(filepath.Join(w.dir, name+".log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	environ := w.environ
	if w.o.Profiles != "" {
		environ = append(slices.Clone(environ), ProfileVariable+"="+w.profile(name))
	}
	p, err := child.Start(child.Command{Path: w.o.Program, Args: args, Dir: w.dir, Env: environ, Output: log, Orphan: syscall.SIGKILL})
	if err != nil {
		return err
	}
	w.parts[name] = p
	w.order = append(w.order, name)
	return nil
}

func (w *world) awaitReady(ctx context.Context, name string) error {
	for {
		h, err := bus.Call(ctx, w.conn, rpc.HealthOf(name), rpc.System("bench"), rpc.Empty{})
		if err == nil && h.Ready {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the %s does not become ready: %w\n%s", name, ctx.Err(), w.tail(name))
		case <-w.parts[name].Done():
			return fmt.Errorf("the %s has ended\n%s", name, w.tail(name))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (w *world) tail(name string) string {
	b, err := os.ReadFile(filepath.Join(w.dir, name+".log"))
	if err != nil {
		return ""
	}
	return string(b[max(0, len(b)-2000):])
}

func (w *world) stop() {
	if w.conn != nil {
		w.conn.Close()
	}
	slices.Reverse(w.order)
	for _, name := range w.order {
		w.parts[name].Stop(stopGrace, syscall.SIGTERM, syscall.SIGKILL)
	}
	if w.redis != nil {
		w.redis.Stop()
	}
	if w.pg != nil {
		w.pg.Stop()
	}
}
