//go:build unix

// Package redisd provides a Redis on loopback: redis-server as a child process when it is
// installed, else an embedded server that keeps nothing over a restart. Turbocat keeps only caches
// and limits there, so either does.
package redisd

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"

	"turbocat.io/tools/internal/child"
)

const host = "127.0.0.1"

// Kind tells which Redis runs.
type Kind string

// The kinds.
const (
	Installed Kind = "redis-server"
	Embedded  Kind = "embedded"
)

// Server is a running Redis. It is safe for concurrent use, but for Revive, which one
// goroutine may call.
type Server struct {
	kind     Kind
	port     int
	password string
	runner   runner
}

// runner is what runs: a child process or the embedded server.
type runner interface {
	start(ctx context.Context, s *Server) error
	done() <-chan struct{}
	stop()
}

// Start starts the Redis that this machine has; dir, made when missing, keeps its data. It returns when the server answers.
// Its errors are sentences for the user.
func Start(ctx context.Context, dir string) (*Server, error) {
	s := &Server{password: newPassword()}
	if binary, err := exec.LookPath("redis-server"); err == nil {
		dir, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		as, err := child.Unprivileged(dir, "redis", "nobody")
		if err != nil {
			return nil, err
		}
		if err := prepare(dir, as); err != nil {
			return nil, err
		}
		s.kind, s.runner = Installed, &installed{binary: binary, dir: dir, as: as}
	} else {
		s.kind, s.runner = Embedded, &embedded{}
	}
	if err := s.runner.start(ctx, s); err != nil {
		return nil, err
	}
	return s, nil
}

// Revive starts a server that has ended by itself again, at the same address.
func (s *Server) Revive(ctx context.Context) error { return s.runner.start(ctx, s) }

// Kind tells which Redis this is.
func (s *Server) Kind() Kind { return s.kind }

// URL of the server, with its password.
func (s *Server) URL() string {
	u := url.URL{Scheme: "redis", User: url.UserPassword("", s.password), Host: s.address(), Path: "/0"}
	return u.String()
}

// Done is closed when the server has ended, stopped or not.
func (s *Server) Done() <-chan struct{} { return s.runner.done() }

// Stop ends the server and returns when it has ended.
func (s *Server) Stop() { s.runner.stop() }

func (s *Server) address() string { return net.JoinHostPort(host, strconv.Itoa(s.port)) }

func newPassword() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func unusable(dir string, err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return fmt.Errorf("the folder %s for Redis can not be used (%w); make it writable, or choose another data folder with TURBOCAT_DATA_DIR", dir, err)
}
