//go:build unix

package chaos

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"turbocat.io/pkg/proxytest"
	"turbocat.io/tools/internal/child"
	"turbocat.io/tools/internal/promises"
)

// process is one of the installation. It is used by one goroutine at a time.
type process struct {
	t       testing.TB
	name    string
	program string
	args    []string
	environ []string
	output  string // the file of what it printed, over all starts
	ops     string // URL of its operations listener; "" when it has none
	running *child.Process

	// The links to what it stands on; nil where there is none.
	nats, postgres, redis *proxytest.Proxy
}

func (p *process) start() {
	p.t.Helper()
	out, err := os.OpenFile(p.output, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	p.running, err = child.Start(child.Command{
		Path: p.program, Args: p.args, Dir: filepath.Dir(p.output), Env: p.environ, Output: out, Orphan: syscall.SIGKILL,
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// kill ends it as a crash does. A paused one too.
func (p *process) kill() {
	if p.running != nil {
		_ = syscall.Kill(p.running.PID(), syscall.SIGKILL)
		<-p.running.Done()
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := syscall.Kill(p.running.PID(), s); err != nil {
		p.t.Fatalf("%s: %v: %v", p.name, s, err)
	}
}

// ready tells what it lacks to work, as it says itself.
func (p *process) ready(ctx context.Context) error {
	select {
	case <-p.running.Done():
		return fmt.Errorf("%s has ended: %w\n%s", p.name, p.running.Err(), p.printed())
	default:
	}
	status, body, err := get(ctx, p.ops+"/health/ready")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%d %s", status, body)
	}
	if err != nil {
		return fmt.Errorf("%s is not ready: %w", p.name, err)
	}
	return nil
}

func get(ctx context.Context, url string) (status int, body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := lab.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw), err
}

// printed is the end of what it has printed.
func (p *process) printed() string {
	raw, err := os.ReadFile(p.output)
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-1500):])
}

var goroutines = regexp.MustCompile(`(?m)^go_goroutines (\d+)`)

// figures are what it holds now.
func (p *process) figures(ctx context.Context) promises.Figures {
	f := promises.Figures{Goroutines: -1, Resident: -1, Descriptors: -1, NATS: -1, Postgres: -1, Redis: -1}
	if _, body, err := get(ctx, p.ops+"/metrics"); err == nil {
		if m := goroutines.FindStringSubmatch(body); m != nil {
			f.Goroutines, _ = strconv.Atoi(m[1])
		}
	}
	proc := "/proc/" + strconv.Itoa(p.running.PID())
	if raw, err := os.ReadFile(proc + "/statm"); err == nil {
		if fields := strings.Fields(string(raw)); len(fields) > 1 {
			pages, _ := strconv.Atoi(fields[1])
			f.Resident = pages * os.Getpagesize()
		}
	}
	if entries, err := os.ReadDir(proc + "/fd"); err == nil {
		f.Descriptors = len(entries)
	}
	for _, link := range []struct {
		proxy *proxytest.Proxy
		open  *int
	}{{p.nats, &f.NATS}, {p.postgres, &f.Postgres}, {p.redis, &f.Redis}} {
		if link.proxy != nil {
			*link.open = link.proxy.Open()
			f.Descriptors = max(-1, f.Descriptors-*link.open)
		}
	}
	return f
}

// talking tells whether the process believes in a connection through one of its links, as the kernel knows it: one that it has
// given up is closed, whether or not the other side has heard of that.
func talking(link *proxytest.Proxy) (bool, error) {
	_, text, _ := strings.Cut(link.Addr(), ":")
	port, err := strconv.Atoi(text)
	if err != nil {
		return false, err
	}
	raw, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return false, err
	}
	const established = "01"
	for _, line := range strings.Split(string(raw), "\n") {
		if f := strings.Fields(line); len(f) > 3 && f[3] == established && strings.HasSuffix(f[2], fmt.Sprintf(":%04X", port)) {
			return true, nil
		}
	}
	return false, nil
}
