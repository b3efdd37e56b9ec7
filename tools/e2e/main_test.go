//go:build unix

// Package e2e tests Turbocat from outside: the built program, started as a user starts it, over HTTP alone.
//
// Most tests share one installation, each with a user of its own. TURBOCAT_E2E_URL names one that runs
// already, TURBOCAT_E2E_SHAPE how it is started otherwise: process, or processes for `turbocat dev --processes`.
// One that runs already must be started with TURBOCAT_RUNNER_ALLOW_ADDRESSES and TURBOCAT_TELEMETRY_ALLOW_ADDRESSES of 127.0.0.0/8 and a high TURBOCAT_GATEWAY_AUTH_PER_MINUTE.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"turbocat.io/pkg/service"
	"turbocat.io/tools/internal/built"
	"turbocat.io/tools/internal/pginstall"
	"turbocat.io/tools/internal/postgresd"
)

// lab is what the tests share.
var lab struct {
	dir     string // removed at the end; others may pass through it, for the database has a user of its own
	program func() (string, error)
	home    func() (*installation, error)
	started *installation // what home has started
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "turbocat-e2e-")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	lab.dir = dir
	covered := os.Getenv(built.CoverVariable)
	if covered != "" {
		if err := os.Setenv("GOCOVERDIR", covered); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	lab.program = sync.OnceValues(func() (string, error) { return built.Turbocat(dir, covered != "") })
	lab.home = sync.OnceValues(startHome)

	code := m.Run()
	if lab.started != nil {
		err = lab.started.stop()
	}
	http.DefaultClient.CloseIdleConnections()
	if code == 0 && err == nil {
		err = goleak.Find()
	}
	if code != 0 || err != nil {
		fmt.Fprintln(os.Stderr, "e2e: data and logs are kept in", dir)
	} else {
		err = os.RemoveAll(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = max(code, 1)
	}
	return code
}

func startHome() (*installation, error) {
	if url := os.Getenv("TURBOCAT_E2E_URL"); url != "" {
		return &installation{url: url}, nil
	}
	i, err := prepare("home")
	if err != nil {
		return nil, err
	}
	i.environ = append(i.environ, "TURBOCAT_ADMIN_PASSWORD="+password)
	if err := i.start(); err != nil {
		return nil, err
	}
	lab.started = i
	return i, nil
}

// home gives the installation that the tests share.
func home(t *testing.T) *installation {
	t.Helper()
	if os.Getenv("TURBOCAT_E2E_URL") == "" {
		needPostgres(t)
	}
	i, err := lab.home()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// own gives an installation for this test alone, not yet started. It is killed when the test ends.
func own(t *testing.T, name string) *installation {
	t.Helper()
	needPostgres(t)
	i, err := prepare(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.kill)
	return i
}

func needPostgres(t *testing.T) {
	t.Helper()
	o, err := pginstall.FromEnviron(service.Environ())
	if err != nil {
		t.Fatal(err)
	}
	o.Route = pginstall.None
	switch _, err := pginstall.Ensure(t.Context(), o); {
	case err == nil:
	case os.Getenv("REQUIRE_INTEGRATION") != "":
		t.Fatal(err)
	default:
		t.Skipf("SKIPPED: no PostgreSQL of version %d or newer; run the tests with `make test`", postgresd.OldestMajor)
	}
}

// eventually waits until done gives nil, and fails with its last error after the time.
func eventually(t *testing.T, within time.Duration, done func() error) {
	t.Helper()
	if err := poll(t.Context(), within, done); err != nil {
		t.Fatal(err)
	}
}

func poll(ctx context.Context, within time.Duration, done func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
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
