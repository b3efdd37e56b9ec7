//go:build unix

// Package postgresd runs a PostgreSQL server as a child process over installed binaries.
// Its data folder outlives it: made once, with a random password kept inside, and used by every
// later start, also after this process or the server was killed. As root the server runs as an
// unprivileged user. It listens on loopback alone.
package postgresd

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lib/pq"

	"turbocat.io/tools/internal/child"
)

const (
	logFile       = "server.log"
	readyTimeout  = 2 * time.Minute // recovery after a crash replays the log first
	busyTimeout   = 10 * time.Second
	stopGrace     = 10 * time.Second
	portAttempts  = 5
	maintenanceDB = "postgres"
)

// environment of the children: nothing of ours.
var environment = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}

// Options of Start.
type Options struct {
	Dir      string   // data folder of the cluster; made when missing
	Binaries Binaries // from Find
	Database string   // made when missing; "postgres" when empty
	NoFsync  bool     // for tests: fast, and a crash of the machine destroys the data
}

// Server is a running PostgreSQL. It is safe for concurrent use, but for Revive, which one
// goroutine may call.
type Server struct {
	dir      string
	bin      Binaries
	as       *child.Account
	noFsync  bool
	port     int
	password string
	database string

	mu   sync.Mutex
	proc *child.Process
}

// Start starts the server and returns when it answers. Its errors are sentences for the user,
// each with a remedy.
func Start(ctx context.Context, o Options) (*Server, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	if o.Database == "" {
		o.Database = maintenanceDB
	}
	as, err := child.Unprivileged(dir, "postgres", "nobody")
	if err != nil {
		return nil, err
	}
	password, err := cluster{dir: dir, bin: o.Binaries, as: as, fast: o.NoFsync}.open(ctx)
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, bin: o.Binaries, as: as, noFsync: o.NoFsync, password: password, database: o.Database}
	if err := s.launch(ctx); err != nil {
		return nil, err
	}
	if err := s.ensureDatabase(ctx); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// Revive starts a server that has ended by itself again, at the same address.
func (s *Server) Revive(ctx context.Context) error { return s.launch(ctx) }

// disown makes the server see a pid file as stale when its pid now belongs to another program,
// which PostgreSQL alone can not tell. The rest of the file stays: by it the server knows whether orphans
// of its predecessor still use the memory.
func disown(pidFile string) error {
	pid, rest := child.ReadPID(pidFile)
	if pid == 0 || !child.Alive(pid) {
		return nil
	}
	// A server never takes its own parent for a predecessor.
	return os.WriteFile(pidFile, []byte(strconv.Itoa(os.Getpid())+"\n"+rest), 0o600)
}

// launch starts the process, again when another one took the port or an orphan of a killed
// predecessor still has the memory.
func (s *Server) launch(ctx context.Context) error {
	pidFile := filepath.Join(s.dir, "postmaster.pid")
	if err := child.AwaitPredecessor(ctx, "postgres", pidFile, s.dir); err != nil {
		return err
	}
	if err := disown(pidFile); err != nil {
		return err
	}
	choose := s.port == 0
	busyUntil := time.Now().Add(busyTimeout)
	for attempt := 1; ; {
		if choose {
			port, err := child.FreePort()
			if err != nil {
				return err
			}
			s.port = port
		}
		err := s.run(ctx)
		var ended *endedError
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &ended):
			return err
		case choose && ended.portTaken() && attempt < portAttempts:
			attempt++
		case ended.inUse() && time.Now().Before(busyUntil):
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(200 * time.Millisecond):
			}
		default:
			return err
		}
	}
}

func (s *Server) run(ctx context.Context) error {
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("%s can not be written (%w); make it writable, %s", s.log(), reason(err), elsewhere)
	}
	defer func() { _ = log.Close() }()
	proc, err := child.Start(child.Command{
		Path: filepath.Join(s.bin.Dir, "postgres"), Args: arguments(s.dir, s.port, s.noFsync),
		Dir: "/", Env: environment, Output: log, As: s.as, Orphan: syscall.SIGINT, // SIGINT: fast shutdown
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.proc = proc
	s.mu.Unlock()
	if err := s.awaitReady(ctx); err != nil {
		s.Stop()
		return err
	}
	return nil
}

func (s *Server) process() *child.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc
}

func arguments(dir string, port int, noFsync bool) []string {
	durable := "on"
	if noFsync {
		durable = "off"
	}
	args := []string{"-D", dir, "-p", strconv.Itoa(port)}
	for _, setting := range []string{
		"listen_addresses=127.0.0.1",
		"unix_socket_directories=",
		"max_connections=200",
		"fsync=" + durable,
		"full_page_writes=" + durable,
		"synchronous_commit=" + durable,
		"idle_in_transaction_session_timeout=30s",
		"timezone=UTC",
		// Users' values stay out of the log.
		"log_error_verbosity=terse",
		"log_min_error_statement=panic",
		"log_checkpoints=off",
	} {
		args = append(args, "-c", setting)
	}
	return args
}

func (s *Server) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("PostgreSQL was not ready after %s; see %s", readyTimeout, s.log()))
	defer cancel()
	db, err := sql.Open("postgres", s.url(maintenanceDB))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	poll := time.NewTicker(15 * time.Millisecond)
	defer poll.Stop()
	for {
		if err := ping(ctx, db); err == nil {
			return nil
		} else if refused(err) {
			return s.refusal()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.process().Done():
			return s.Err()
		case <-poll.C:
		}
	}
}

// refusal tells a wrong password from a port that another server took while ours was starting.
func (s *Server) refusal() error {
	select {
	case <-s.process().Done():
		return s.Err()
	case <-time.After(2 * time.Second):
		return fmt.Errorf("PostgreSQL refuses the password kept in %s; restore the folder from a backup, %s", s.dir, elsewhere)
	}
}

func ping(ctx context.Context, db *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return db.PingContext(ctx)
}

func refused(err error) bool {
	var pqErr *pq.Error
	return errors.As(err, &pqErr) && pqErr.Code == "28P01"
}

func (s *Server) ensureDatabase(ctx context.Context) error {
	if s.database == maintenanceDB {
		return nil
	}
	db, err := sql.Open("postgres", s.url(maintenanceDB))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	var exists bool
	if err := db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)`, s.database).Scan(&exists); err != nil {
		return fmt.Errorf("the list of databases can not be read: %w", err)
	}
	if exists {
		return nil
	}
	if _, err := db.ExecContext(ctx, `CREATE DATABASE `+pq.QuoteIdentifier(s.database)); err != nil {
		return fmt.Errorf("the database %s can not be made: %w", s.database, err)
	}
	return nil
}

// URL of the database, with the superuser's password.
func (s *Server) URL() string { return s.url(s.database) }

func (s *Server) url(database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(superuser, s.password), Host: "127.0.0.1:" + strconv.Itoa(s.port), Path: database, RawQuery: "sslmode=disable"}
	return u.String()
}

// PID of the server.
func (s *Server) PID() int { return s.process().PID() }

// Done is closed when the server has ended, stopped or not.
func (s *Server) Done() <-chan struct{} { return s.process().Done() }

// Err says why a server that nobody stopped has ended.
func (s *Server) Err() error { return &endedError{complaint: complaint(s.log()), log: s.log()} }

// Stop ends the connections and the server in order, and returns when it has ended; a server
// that takes longer than some seconds is ended without a checkpoint, which loses nothing.
func (s *Server) Stop() { s.process().Stop(stopGrace, syscall.SIGINT, syscall.SIGQUIT) }

func (s *Server) log() string { return filepath.Join(s.dir, logFile) }

// endedError is a server that ended by itself.
type endedError struct{ complaint, log string }

func (e *endedError) Error() string {
	return fmt.Sprintf("PostgreSQL ended: %s (its log is %s)", e.complaint, e.log)
}

func (e *endedError) portTaken() bool { return strings.Contains(e.complaint, "TCP/IP socket") }

func (e *endedError) inUse() bool {
	return strings.Contains(e.complaint, "still in use") || strings.Contains(e.complaint, "already exists")
}
