//go:build unix

package redisd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"turbocat.io/tools/internal/child"
)

const (
	readyTimeout = 30 * time.Second
	stopGrace    = 5 * time.Second
	portAttempts = 5
)

// installed is redis-server as a child process.
type installed struct {
	binary string
	dir    string
	as     *child.Account

	mu   sync.Mutex
	proc *child.Process
}

func prepare(dir string, as *child.Account) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o711); err != nil {
		return unusable(dir, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return unusable(dir, err)
	}
	if err := as.Chown(dir); err != nil {
		return unusable(dir, err)
	}
	barred, err := as.Reach(dir)
	if err != nil {
		return unusable(dir, err)
	}
	if barred != "" {
		return fmt.Errorf("the folder %s can not be entered by the user %s, who runs Redis because root must not; run: chmod a+x %s, or choose another data folder with TURBOCAT_DATA_DIR", barred, as.Name, barred)
	}
	return nil
}

func (r *installed) start(ctx context.Context, s *Server) error {
	if err := child.AwaitPredecessor(ctx, string(Installed), r.pidFile(), r.dir); err != nil {
		return err
	}
	choose := s.port == 0
	for attempt := 1; ; attempt++ {
		if choose {
			port, err := child.FreePort()
			if err != nil {
				return err
			}
			s.port = port
		}
		err := r.run(ctx, s)
		var ended *endedError
		if choose && errors.As(err, &ended) && ended.portTaken() && attempt < portAttempts {
			continue
		}
		return err
	}
}

func (r *installed) run(ctx context.Context, s *Server) error {
	log, err := os.OpenFile(r.log(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return unusable(r.dir, err)
	}
	defer func() { _ = log.Close() }()
	// The configuration goes through stdin: a command line would show the password to everybody.
	proc, err := child.Start(child.Command{
		Path: r.binary, Args: []string{"-"}, Stdin: configuration(r.dir, r.pidFile(), s.port, s.password),
		Dir: r.dir, Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"},
		Output: log, As: r.as, Orphan: syscall.SIGTERM,
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.proc = proc
	r.mu.Unlock()
	if err := r.awaitReady(ctx, s); err != nil {
		r.stop()
		return err
	}
	return nil
}

func (r *installed) process() *child.Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.proc
}

func (r *installed) done() <-chan struct{} { return r.process().Done() }

func (r *installed) stop() { r.process().Stop(stopGrace, syscall.SIGTERM) }

func (r *installed) pidFile() string { return filepath.Join(r.dir, "redis.pid") }

func (r *installed) log() string { return filepath.Join(r.dir, "server.log") }

func configuration(dir, pidFile string, port int, password string) string {
	return strings.Join([]string{
		"bind " + host,
		"port " + strconv.Itoa(port),
		"requirepass " + password,
		"dir " + strconv.Quote(dir),
		"pidfile " + strconv.Quote(pidFile),
		"daemonize no",
		"appendonly yes",
		"save \"\"",
		"maxmemory-policy noeviction",
		"loglevel warning",
		"",
	}, "\n")
}

func (r *installed) awaitReady(ctx context.Context, s *Server) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("Redis was not ready after %s; see %s", readyTimeout, r.log()))
	defer cancel()
	poll := time.NewTicker(15 * time.Millisecond)
	defer poll.Stop()
	for !s.answers() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-r.done():
			return &endedError{log: r.log(), lastLine: lastLine(r.log())}
		case <-poll.C:
		}
	}
	return nil
}

// answers tells whether our server, which alone knows the password, takes commands.
func (s *Server) answers() bool {
	conn, err := net.DialTimeout("tcp", s.address(), time.Second)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := fmt.Fprintf(conn, "AUTH %s\r\nPING\r\n", s.password); err != nil {
		return false
	}
	in := bufio.NewReader(conn)
	for _, want := range []string{"+OK\r\n", "+PONG\r\n"} {
		if line, err := in.ReadString('\n'); err != nil || line != want {
			return false
		}
	}
	return true
}

func lastLine(file string) string {
	raw, _ := os.ReadFile(file)
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// endedError is a server that ended by itself.
type endedError struct{ log, lastLine string }

func (e *endedError) Error() string {
	return fmt.Sprintf("redis-server ended: %s (its log is %s; its folder may be moved away without loss)", e.lastLine, e.log)
}

func (e *endedError) portTaken() bool {
	raw, _ := os.ReadFile(e.log)
	return strings.Contains(string(raw), "Address already in use")
}
