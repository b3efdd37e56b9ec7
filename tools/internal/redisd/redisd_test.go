//go:build unix

package redisd_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"turbocat.io/tools/internal/redisd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func client(t *testing.T, s *redisd.Server) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func start(t *testing.T, dir string) *redisd.Server {
	t.Helper()
	s, err := redisd.Start(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// folder is a data folder that Redis's user can reach.
func folder(t *testing.T) string {
	t.Helper()
	top, err := os.MkdirTemp("", "redisd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	if err := os.Chmod(top, 0o711); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(top, "redis")
}

func TestEmbedded(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	s := start(t, folder(t))
	if s.Kind() != redisd.Embedded {
		t.Fatalf("kind %s", s.Kind())
	}
	expires(t, s)
	refusesStrangers(t, s)
	stops(t, s)
}

func TestInstalled(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed; the embedded one stands in")
	}
	dir := folder(t)
	s := start(t, dir)
	if s.Kind() != redisd.Installed {
		t.Fatalf("kind %s", s.Kind())
	}
	expires(t, s)
	refusesStrangers(t, s)
	c := client(t, s)
	for setting, want := range map[string]string{"appendonly": "yes", "maxmemory-policy": "noeviction", "bind": "127.0.0.1"} {
		if got, err := c.ConfigGet(t.Context(), setting).Result(); err != nil || got[setting] != want {
			t.Errorf("%s is %v, %v", setting, got, err)
		}
	}
	if err := c.Set(t.Context(), "kept", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	stops(t, s)
	if got, err := client(t, start(t, dir)).Get(t.Context(), "kept").Result(); err != nil || got != "x" {
		t.Errorf("kept %q, %v", got, err)
	}
}

func expires(t *testing.T, s *redisd.Server) {
	t.Helper()
	c := client(t, s)
	if err := c.Set(t.Context(), "short", "x", 150*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for !errors.Is(c.Get(t.Context(), "short").Err(), redis.Nil) {
		if time.Now().After(deadline) {
			t.Fatal("a key outlived its time")
		}
		<-time.After(10 * time.Millisecond)
	}
}

func refusesStrangers(t *testing.T, s *redisd.Server) {
	t.Helper()
	o, err := redis.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	o.Password = ""
	c := redis.NewClient(o)
	defer func() { _ = c.Close() }()
	if err := c.Ping(t.Context()).Err(); err == nil {
		t.Error("no password was needed")
	}
}

func stops(t *testing.T, s *redisd.Server) {
	t.Helper()
	s.Stop()
	s.Stop() // again: nothing happens
	select {
	case <-s.Done():
	default:
		t.Error("not done after Stop")
	}
}
