//go:build unix

package chaos

import (
	"flag"
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
	skewed  func() (string, error) // the program with another clock
	client  *http.Client           // for the processes' operations listeners
	rows    rows
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

// atOnce is how many checks run side by side in small: they wait more than they compute.
const atOnce = "3"

func run(m *testing.M) int {
	if !full {
		if err := flag.Set("test.parallel", atOnce); err != nil { // what the command line says counts more
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
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
	lab.skewed = sync.OnceValues(func() (string, error) { return built.SkewedTurbocat(dir) })
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
