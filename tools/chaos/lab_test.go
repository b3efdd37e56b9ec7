//go:build unix

package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"turbocat.io/migrations"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/proxytest"
	"turbocat.io/pkg/service"
	"turbocat.io/tools/internal/callbook"
	"turbocat.io/tools/internal/child"
	"turbocat.io/tools/internal/pginstall"
	"turbocat.io/tools/internal/postgresd"
	"turbocat.io/tools/internal/redisd"
)

const (
	readyWithin = 60 * time.Second
	natsUser    = "chaos"
)

// The services. Orchestrators and runners may be several.
const (
	identity     = "identity"
	catalog      = "catalog"
	orchestrator = "orchestrator"
	runner       = "runner"
	telemetry    = "telemetry"
	gateway      = "gateway"
)

// needs says what each service stands on besides NATS.
var needs = map[string]struct{ postgres, redis bool }{
	identity: {true, true}, catalog: {true, false}, orchestrator: {true, false}, runner: {}, telemetry: {true, false}, gateway: {false, true},
}

// laboratory is an installation of its own for one check.
type laboratory struct {
	t         testing.TB
	dir       string
	program   string
	binaries  postgresd.Binaries
	pg        *postgresd.Server
	redis     *redisd.Server
	nats      *process
	cluster   *cluster // instead of nats; nil when there is one server
	natsURL   string   // of the servers themselves
	storeLost bool
	strangers bool // have sent what is nothing
	services  []*process
	door      string // URL of the gateway
	book      *callbook.Book
	bookURL   string
}

// newLaboratory starts everything with so many orchestrators and runners, and waits until it works.
func newLaboratory(t testing.TB, orchestrators, runners int, clustered bool) *laboratory {
	t.Helper()
	l := &laboratory{t: t, binaries: binaries(t), book: callbook.New()}
	if clustered {
		l.cluster = &cluster{laboratory: l}
	}
	var err error
	if l.program, err = lab.program(); err != nil {
		t.Fatal(err)
	}
	if l.dir, err = os.MkdirTemp(lab.dir, "lab-"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(l.dir, 0o711); err != nil {
		t.Fatal(err)
	}
	book := httptest.NewServer(l.book)
	t.Cleanup(book.Close)
	l.bookURL = book.URL
	t.Cleanup(l.stop)

	l.startServers()
	for _, name := range []string{identity, catalog, telemetry} {
		l.add(name, 1)
	}
	for i := range orchestrators {
		l.add(orchestrator, i+1)
	}
	for i := range runners {
		l.add(runner, i+1)
	}
	l.add(gateway, 1)
	for _, p := range l.services {
		p.start()
	}
	l.awaitReady(readyWithin)
	return l
}

func binaries(t testing.TB) postgresd.Binaries {
	t.Helper()
	o, err := pginstall.FromEnviron(service.Environ())
	if err != nil {
		t.Fatal(err)
	}
	o.Route = pginstall.None
	found, err := pginstall.Ensure(t.Context(), o)
	switch {
	case err == nil:
	case os.Getenv("REQUIRE_INTEGRATION") != "":
		t.Fatal(err)
	default:
		t.Skipf("SKIPPED: no PostgreSQL of version %d or newer; run the tests with `make test`", postgresd.OldestMajor)
	}
	return found
}

func (l *laboratory) startServers() {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), readyWithin)
	defer cancel()
	var err error
	if l.pg, err = postgresd.Start(ctx, postgresd.Options{Dir: filepath.Join(l.dir, "postgres"), Binaries: l.binaries, Database: "turbocat"}); err != nil {
		l.t.Fatal(err)
	}
	for _, name := range migrations.Services() {
		if err := postgres.Migrate(ctx, l.pg.URL(), name, migrations.Of(name)); err != nil {
			l.t.Fatal(err)
		}
	}
	if l.redis, err = redisd.Start(ctx, filepath.Join(l.dir, "redis")); err != nil {
		l.t.Fatal(err)
	}
	if l.cluster != nil {
		l.cluster.begin()
		return
	}
	u := url.URL{Scheme: "nats", User: url.UserPassword(natsUser, natsUser), Host: "127.0.0.1:" + strconv.Itoa(freePort(l.t))}
	l.natsURL = u.String()
	l.nats = l.process("nats", []string{"serve", "nats", "--dir", l.store()}, "NATS_URL="+l.natsURL)
	l.nats.start()
	l.awaitNATS()
}

func (l *laboratory) store() string { return filepath.Join(l.dir, "nats") }

// awaitNATS waits until the server takes connections.
func (l *laboratory) awaitNATS() {
	l.t.Helper()
	u, err := url.Parse(l.natsURL)
	if err != nil {
		l.t.Fatal(err)
	}
	l.eventually(readyWithin, func() error {
		c, err := net.DialTimeout("tcp", u.Host, time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
}

func (l *laboratory) process(name string, args []string, environ ...string) *process {
	environ = append(environ, "PATH="+os.Getenv("PATH"), "HOME="+l.dir)
	return &process{t: l.t, name: name, program: l.program, args: args, environ: environ, output: filepath.Join(l.dir, name+".log")}
}

// add makes the n-th process of a service, which is not started yet, with links of its own.
func (l *laboratory) add(name string, n int) *process {
	l.t.Helper()
	ops := "127.0.0.1:" + strconv.Itoa(freePort(l.t))
	environ := []string{
		"TURBOCAT_" + strings.ToUpper(name) + "_OPS_ADDRESS=" + ops, "LOG_LEVEL=info",
		"JWT_ACCESS_SECRET=an access secret for the chaos checks alone", "JWT_REFRESH_SECRET=a refresh secret for the chaos checks alone",
		"ENCRYPTION_KEY=an encryption key for the chaos checks alone",
		"TURBOCAT_IDENTITY_BCRYPT_COST=4", "TURBOCAT_GATEWAY_AUTH_PER_MINUTE=100000", "TURBOCAT_GATEWAY_USER_PER_SECOND=100000",
		"TURBOCAT_RUNNER_ALLOW_ADDRESSES=127.0.0.0/8", "TURBOCAT_TELEMETRY_ALLOW_ADDRESSES=127.0.0.0/8",
	}
	var natsLink, pgLink, redisLink *proxytest.Proxy
	through := l.natsURL // of a cluster, whose servers tell clients of each other
	if l.cluster == nil {
		natsLink, through = proxytest.Before(l.t, l.natsURL)
	} else {
		environ = append(environ, "TURBOCAT_NATS_REPLICAS="+strconv.Itoa(clusterSize))
	}
	environ = append(environ, "NATS_URL="+through)
	if needs[name].postgres {
		pgLink, through = proxytest.Before(l.t, l.pg.URL())
		environ = append(environ, "DATABASE_URL="+through)
	}
	if needs[name].redis {
		redisLink, through = proxytest.Before(l.t, l.redis.URL())
		environ = append(environ, "REDIS_URL="+through)
	}
	if name == gateway {
		port := strconv.Itoa(freePort(l.t))
		environ = append(environ, "PORT="+port)
		l.door = "http://127.0.0.1:" + port
	}
	p := l.process(fmt.Sprintf("%s-%d", name, n), []string{"serve", name}, environ...)
	p.ops, p.nats, p.postgres, p.redis = "http://"+ops, natsLink, pgLink, redisLink
	l.services = append(l.services, p)
	return p
}

// of gives the processes of a service.
func (l *laboratory) of(name string) []*process {
	var found []*process
	for _, p := range l.services {
		if p.args[1] == name {
			found = append(found, p)
		}
	}
	return found
}

// awaitReady waits until every process says that it works, and the gateway that all do. It gives how long that took.
func (l *laboratory) awaitReady(within time.Duration) time.Duration {
	l.t.Helper()
	begin := time.Now()
	l.eventually(within, func() error { return l.ready(l.t.Context()) })
	return time.Since(begin)
}

func (l *laboratory) ready(ctx context.Context) error {
	for _, p := range l.services {
		if err := p.ready(ctx); err != nil {
			return err
		}
	}
	status, body, err := get(ctx, l.door+"/health/ready")
	if err == nil && status != 200 {
		err = fmt.Errorf("the gateway says %d %s", status, body)
	}
	return err
}

// loseStore deletes everything that NATS, which must not run, has stored.
func (l *laboratory) loseStore() {
	l.t.Helper()
	if err := os.RemoveAll(l.store()); err != nil {
		l.t.Fatal(err)
	}
	l.storeLost = true
}

// crashPostgres ends the server at once, without a checkpoint; its clients are cut off.
func (l *laboratory) crashPostgres() {
	l.t.Helper()
	if err := syscall.Kill(l.pg.PID(), syscall.SIGQUIT); err != nil {
		l.t.Fatal(err)
	}
	<-l.pg.Done()
}

func (l *laboratory) revivePostgres() {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), readyWithin)
	defer cancel()
	if err := l.pg.Revive(ctx); err != nil {
		l.t.Fatal(err)
	}
}

func (l *laboratory) stop() {
	for _, p := range l.services {
		p.kill()
		if l.t.Failed() {
			l.t.Logf("%s said at last:\n%s", p.name, p.printed())
		}
	}
	if l.nats != nil {
		l.nats.kill()
	}
	if l.cluster != nil {
		l.cluster.end()
	}
	if l.redis != nil {
		l.redis.Stop()
	}
	if l.pg != nil {
		l.pg.Stop()
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	port, err := child.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// eventually waits until done gives nil, and ends the check with its last error after the time.
func (l *laboratory) eventually(within time.Duration, done func() error) {
	l.t.Helper()
	if err := poll(l.t.Context(), within, done); err != nil {
		l.t.Fatal(err)
	}
}

func poll(ctx context.Context, within time.Duration, done func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := done()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("not within %s", within), err)
		case <-tick.C:
		}
	}
}

// wait lets time pass.
func (l *laboratory) wait(d time.Duration) {
	select {
	case <-l.t.Context().Done():
	case <-time.After(d):
	}
}
