//go:build unix

// Package chaos breaks Turbocat on purpose and checks that it keeps its promises: the built program, every service a
// process of its own, a real PostgreSQL, NATS and Redis, and a proxy with faults on every link between them.
//
// Each check prints its seed; TURBOCAT_CHAOS_SEED repeats its schedule. TURBOCAT_CHAOS=full runs all checks in full size
// and writes its table to the file that TURBOCAT_CHAOS_REPORT names; otherwise a selection runs, in small. PostgreSQL runs with
// fsync and synchronous_commit on, as in production: without the second a crash of the server loses commits that it has answered.
package chaos

import (
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"turbocat.io/tools/internal/built"
)

// full tells whether all is done, in full size.
var full = os.Getenv("TURBOCAT_CHAOS") == "full"

// lab is what the checks share.
var lab struct {
	dir     string // removed at the end; others may pass through it, for the database has a user of its own
	program func() (string, error)
	client  *http.Client // for the processes' operations listeners
	rows    rows
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "turbocat-chaos-")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
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
	lab.client = &http.Client{Timeout: 5 * time.Second}

	code := m.Run()
	lab.client.CloseIdleConnections()
	err = lab.rows.report()
	if code == 0 && err == nil {
		err = goleak.Find()
	}
	if code != 0 || err != nil {
		fmt.Fprintln(os.Stderr, "chaos: data and logs are kept in", dir)
	} else {
		err = os.RemoveAll(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		code = max(code, 1)
	}
	return code
}
