//go:build unix

package allinone

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/service"
	"turbocat.io/tools/internal/child"
)

func TestMain(m *testing.M) {
	if behaviour := os.Getenv(behaviourVariable); behaviour != "" {
		serve(behaviour, os.Args[1:])
	}
	goleak.VerifyTestMain(m)
}

// diary is what units did, in order.
type diary struct {
	mu      sync.Mutex
	entries []string
}

func (d *diary) add(entry string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, entry)
}

func obedient(name string, d *diary) service.Unit {
	return service.Unit{Name: name, Run: func(ctx context.Context, environ map[string]string, _ io.Writer, ready func()) error {
		d.add("start " + name + " " + environ["K"])
		ready()
		<-ctx.Done()
		d.add("stop " + name)
		return nil
	}}
}

func TestTheDoorOpensLastAndStopsFirst(t *testing.T) {
	var d diary
	u := startUnits([]service.Unit{obedient("a", &d), obedient("door", &d), obedient("b", &d)}, "door", map[string]string{"K": "v"}, io.Discard)
	if err := u.awaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	u.open()
	if err := u.awaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	u.stop()
	if len(d.entries) != 6 || !strings.HasPrefix(d.entries[2], "start door") || d.entries[3] != "stop door" {
		t.Errorf("the units did %q", d.entries)
	}
	if !strings.HasSuffix(d.entries[0], " v") {
		t.Errorf("a unit was not given its environment: %q", d.entries)
	}
	for range 3 {
		if err := <-u.ended; err != nil {
			t.Errorf("an ordered stop is no fault: %v", err)
		}
	}
}

func TestAUnitThatFailsOrLeavesIsNoticed(t *testing.T) {
	fault := errors.New("no database")
	for name, tc := range map[string]struct {
		result error
		want   string
	}{"fails": {fault, "no database"}, "leaves": {nil, "bad: stopped by itself"}} {
		t.Run(name, func(t *testing.T) {
			var d diary
			bad := service.Unit{Name: "bad", Run: func(context.Context, map[string]string, io.Writer, func()) error { return tc.result }}
			u := startUnits([]service.Unit{obedient("a", &d), bad}, "a", nil, io.Discard)
			defer u.stop()
			if err := u.awaitReady(t.Context()); err == nil || err.Error() != tc.want {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestConfigFaults(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	taken := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	for want, environ := range map[string]map[string]string{
		`PORT is "abc"; set it to a number`:        {"PORT": "abc"},
		`PORT is "70000"; set it to a number`:      {"PORT": "70000"},
		"the port " + taken + " is taken":          {"PORT": taken},
		`TURBOCAT_SETUP is "yum"; use system, npm`: {"TURBOCAT_SETUP": "yum"},
		"not a directory":                          {"PORT": "0", "TURBOCAT_DATA_DIR": "/etc/passwd"},
	} {
		if environ["PORT"] == "0" {
			environ["PORT"] = strconv.Itoa(freePort(t))
		}
		if environ["TURBOCAT_DATA_DIR"] == "" {
			environ["TURBOCAT_DATA_DIR"] = t.TempDir()
		}
		var out bytes.Buffer
		err := Run(t.Context(), Options{Environ: environ, Out: &out})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
		if out.Len() != 0 {
			t.Errorf("%s: something was begun first: %s", want, out.String())
		}
	}
	if err := Migrate(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "DATABASE_URL is not set") {
		t.Errorf("got %v", err)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := child.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestURL(t *testing.T) {
	for host, want := range map[string]string{"127.0.0.1": "http://127.0.0.1:80", "0.0.0.0": "http://127.0.0.1:80", "": "http://127.0.0.1:80", "::1": "http://[::1]:80", "example.com": "http://example.com:80"} {
		if got := (config{Host: host, Port: 80}).url(); got != want {
			t.Errorf("%q: %s, want %s", host, got, want)
		}
	}
}

func TestAWeakAdministratorIsNamedByItsVariables(t *testing.T) {
	err := adminFault(errs.Invalid("account", []errs.Detail{{Field: "email", Message: "is none; give one"}, {Field: "password", Message: "has no digit; add one"}}))
	if want := "TURBOCAT_ADMIN_EMAIL: is none; give one\n  TURBOCAT_ADMIN_PASSWORD: has no digit; add one"; err.Error() != want {
		t.Errorf("got %v", err)
	}
	if down := errs.New(errs.DependencyUnavailable, "down"); !errors.Is(adminFault(down), down) {
		t.Error("another fault is changed")
	}
}
