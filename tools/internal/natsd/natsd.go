//go:build unix

// Package natsd runs a NATS server with JetStream inside the process that calls it, on loopback and behind a password,
// with its streams in files. Nothing that Turbocat promises rests on those files: a store that is
// lost or damaged is rebuilt from PostgreSQL.
package natsd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/subject"
	"turbocat.io/tools/internal/child"
)

// Host is where every server listens.
const Host = "127.0.0.1"

const (
	readyTimeout = 30 * time.Second // reading back large streams takes a while
	maxStore     = 16 << 30
	maxMemory    = 256 << 20
)

// FreeAddress is one with a port that the server chooses.
const FreeAddress = Host + ":0"

// Options of Start.
type Options struct {
	Dir      string // of the streams; made when missing
	Port     int    // 0: a free one
	User     string
	Password string
	Cluster  *Cluster       // nil: it is the only one
	Log      zerolog.Logger // gets the server's warnings and errors
}

// Cluster makes a server one of several that keep the streams together. All have the same clients' user and password.
type Cluster struct {
	Server   string   // name of this one; no other of the cluster has it, and it keeps it with its folder
	Name     string   // of the cluster
	Port     int      // where the others connect to
	User     string   // that servers ask each other for
	Password string   //
	Routes   []string // addresses of the others, like 127.0.0.1:6222; some are enough, they tell of the rest
}

// Server is a running NATS server. It is safe for concurrent use.
type Server struct {
	srv       *server.Server
	user, key string
	lock      *os.File // of the folder
}

// Start starts the server and returns when it accepts connections. Its errors are sentences for the user.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.User == "" || o.Password == "" {
		return nil, errors.New("a NATS server needs a user and a password; give both")
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, unusable(o.Dir, err)
	}
	lock, err := lock(o.Dir)
	if err != nil {
		return nil, err
	}
	srv, err := serve(ctx, o)
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	return &Server{srv: srv, user: o.User, key: o.Password, lock: lock}, nil
}

func serve(ctx context.Context, o Options) (*server.Server, error) {
	store, err := storeLimit(o.Dir)
	if err != nil {
		return nil, unusable(o.Dir, err)
	}
	port := o.Port
	if port == 0 {
		port = server.RANDOM_PORT
	} else if err := portFree(port); err != nil {
		return nil, err
	}
	options := &server.Options{
		ServerName: "turbocat", Host: Host, Port: port, Username: o.User, Password: o.Password,
		JetStream: true, StoreDir: o.Dir, JetStreamMaxStore: store, JetStreamMaxMemory: maxMemory,
		SyncInterval: 2 * time.Second,
		MaxPayload:   subject.MaxPayload,
		PingInterval: 10 * time.Second, MaxPingsOut: 2,
		NoSigs: true, DisableJetStreamBanner: true,
	}
	if o.Cluster != nil {
		if err := o.Cluster.join(options); err != nil {
			return nil, err
		}
	}
	srv, err := server.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("NATS can not start: %w", err)
	}
	log := &logger{log: o.Log.With().Str("service", "nats").Logger(), fatal: make(chan string, 1)}
	srv.SetLoggerV2(log, false, false, false)
	if err := start(ctx, srv, log.fatal); err != nil {
		stop(srv)
		return nil, fmt.Errorf("NATS can not start: %w; the folder %s may be moved away without loss", err, o.Dir)
	}
	return srv, nil
}

// join adds to the options of a server what makes it one of the cluster.
func (c *Cluster) join(o *server.Options) error {
	if c.Server == "" || c.Name == "" || c.User == "" || c.Password == "" {
		return errors.New("a NATS server of a cluster needs a name, that of the cluster, and a user and a password for the others; give all")
	}
	if err := portFree(c.Port); err != nil {
		return err
	}
	o.ServerName = c.Server
	o.Cluster = server.ClusterOpts{Name: c.Name, Host: Host, Port: c.Port, Username: c.User, Password: c.Password}
	for _, address := range c.Routes {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats", User: url.UserPassword(c.User, c.Password), Host: address})
	}
	return nil
}

func start(ctx context.Context, srv *server.Server, fatal <-chan string) error {
	srv.Start() // reads the streams back, and returns
	deadline := time.Now().Add(readyTimeout)
	for ready := false; !ready; {
		ready = srv.ReadyForConnections(100 * time.Millisecond)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case reason := <-fatal:
			return errors.New(reason)
		default:
		}
		if !ready && time.Now().After(deadline) {
			return fmt.Errorf("not ready after %s", readyTimeout)
		}
	}
	return nil
}

// Address of the server, like 127.0.0.1:4222.
func (s *Server) Address() string { return s.srv.Addr().String() }

// URL of the server, with user and password.
func (s *Server) URL() string { return URL(s.user, s.key, s.Address()) }

// URL is where a client finds the server at an address.
func URL(user, password, address string) string {
	u := url.URL{Scheme: "nats", User: url.UserPassword(user, password), Host: address}
	return u.String()
}

// Stop closes all connections, writes the streams out, and returns when the server has ended.
func (s *Server) Stop() {
	stop(s.srv)
	_ = s.lock.Close()
}

func stop(srv *server.Server) {
	srv.Shutdown()
	srv.WaitForShutdown()
}

// lock keeps two servers from writing into one folder, for a moment also when the other one was just killed.
func lock(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, unusable(dir, err)
	}
	err = child.AwaitRelease(syscall.EWOULDBLOCK, func() error { return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) })
	if err == nil {
		return file, nil
	}
	_ = file.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("another NATS server uses the folder %s; stop it, or choose another folder", dir)
	}
	return nil, unusable(dir, err)
}

// storeLimit is what all streams together may take: fixed for a disk, so that streams which
// reserve their share fit again at the next start.
func storeLimit(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return min(maxStore, int64(st.Blocks)*int64(st.Bsize)/2), nil //nolint:unconvert // elsewhere than on Linux a block size is no int64
}

func portFree(port int) error {
	l, err := net.Listen("tcp", net.JoinHostPort(Host, strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("the port %d for NATS is taken; stop what listens there or choose another one", port)
	}
	return l.Close()
}

func unusable(dir string, err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return fmt.Errorf("the folder %s for NATS can not be used (%w); make it writable, or choose another data folder with TURBOCAT_DATA_DIR", dir, err)
}

// logger passes the server's complaints on.
type logger struct {
	log   zerolog.Logger
	fatal chan string
}

func (l *logger) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.log.Error().Msg(text)
	select {
	case l.fatal <- strings.TrimSpace(text):
	default: // the first one is the reason
	}
}
func (l *logger) Errorf(format string, v ...any) { l.log.Error().Msgf(format, v...) }
func (l *logger) Warnf(format string, v ...any)  { l.log.Warn().Msgf(format, v...) }
func (l *logger) Noticef(string, ...any)         {}
func (l *logger) Debugf(string, ...any)          {}
func (l *logger) Tracef(string, ...any)          {}
