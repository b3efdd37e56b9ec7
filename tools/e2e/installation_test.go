//go:build unix

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"turbocat.io/tools/internal/child"
)

const (
	readyWithin = 60 * time.Second
	endWithin   = 20 * time.Second
)

// accessSecret signs the access tokens of the installations, so that tests can make expired ones.
const accessSecret = "an access secret for the end-to-end tests alone"

// installation is a Turbocat with a data folder of its own. It is used by one goroutine at a time.
type installation struct {
	url     string
	data    string
	output  string // the file of what it printed, over all starts
	program string
	args    []string
	environ []string
	process *child.Process
}

// prepare makes an installation that is not started yet.
func prepare(name string) (*installation, error) {
	program, err := lab.program()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(lab.dir, name+"-")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err != nil {
		return nil, err
	}
	port, err := child.FreePort()
	if err != nil {
		return nil, err
	}
	args, err := command(os.Getenv("TURBOCAT_E2E_SHAPE"))
	if err != nil {
		return nil, err
	}
	i := &installation{
		url: "http://127.0.0.1:" + strconv.Itoa(port), program: program, args: args,
		data: filepath.Join(dir, "data"), output: filepath.Join(dir, "output"),
	}
	i.environ = append(cleanEnviron(),
		"PORT="+strconv.Itoa(port), "TURBOCAT_DATA_DIR="+i.data, "JWT_ACCESS_SECRET="+accessSecret,
		"TURBOCAT_RUNNER_ALLOW_ADDRESSES=127.0.0.0/8", "TURBOCAT_TELEMETRY_ALLOW_ADDRESSES=127.0.0.0/8", "TURBOCAT_GATEWAY_AUTH_PER_MINUTE=100000",
		// What the tests do thousands of times should not cost what guessing a password must.
		"TURBOCAT_IDENTITY_BCRYPT_COST=4",
	)
	return i, nil
}

// command gives the arguments that start an installation of a shape.
func command(shape string) ([]string, error) {
	switch shape {
	case "", "process":
		return []string{"dev"}, nil
	case "processes":
		return []string{"dev", "--processes"}, nil
	}
	return nil, fmt.Errorf("TURBOCAT_E2E_SHAPE is %q; use process or processes", shape)
}

// cleanEnviron is the environment without what would reach into the installation.
func cleanEnviron() []string {
	plain := []string{"DATABASE_URL", "DIRECT_URL", "REDIS_URL", "NATS_URL", "PORT", "LOG_LEVEL", "FRONTEND_URL", "JWT_ACCESS_SECRET", "JWT_REFRESH_SECRET", "ENCRYPTION_KEY", "SENTRY_DSN"}
	var kept []string
next:
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		for _, p := range plain {
			if name == p {
				continue next
			}
		}
		if !strings.HasPrefix(name, "TURBOCAT_") || name == "TURBOCAT_PG_BIN" || name == "TURBOCAT_SETUP" {
			kept = append(kept, pair)
		}
	}
	return kept
}

// launch starts `turbocat dev` and does not wait for it.
func (i *installation) launch() error {
	out, err := os.OpenFile(i.output, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	i.process, err = child.Start(child.Command{Path: i.program, Args: i.args, Env: i.environ, Output: out, Orphan: syscall.SIGKILL})
	return err
}

// start starts it and waits until a client may work.
func (i *installation) start() error {
	if err := i.launch(); err != nil {
		return err
	}
	err := poll(context.Background(), readyWithin, func() error {
		select {
		case <-i.process.Done():
			return nil
		default:
			return i.ready()
		}
	})
	select {
	case <-i.process.Done():
		return fmt.Errorf("turbocat dev ended at its start: %w\n%s", i.process.Err(), i.printed())
	default:
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, i.printed())
	}
	return nil
}

func (i *installation) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, i.url+"/health/ready", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET /health/ready: %d %s", resp.StatusCode, body)
	}
	return nil
}

// kill ends the process with SIGKILL, as a crash does; its children are left to themselves.
func (i *installation) kill() {
	if i.process == nil {
		return
	}
	select {
	case <-i.process.Done():
	default:
		_ = syscall.Kill(i.process.PID(), syscall.SIGKILL)
		<-i.process.Done()
	}
}

// stop ends it with SIGTERM; it must end in time, with exit code 0, and leave no process behind.
func (i *installation) stop() error {
	below := descendants(i.process.PID())
	if err := syscall.Kill(i.process.PID(), syscall.SIGTERM); err != nil {
		return fmt.Errorf("turbocat dev does not run any more: %w\n%s", err, i.printed())
	}
	select {
	case <-i.process.Done():
	case <-time.After(endWithin):
		i.kill()
		return fmt.Errorf("turbocat dev did not end within %s of SIGTERM\n%s", endWithin, i.printed())
	}
	if err := i.process.Err(); err != nil {
		return fmt.Errorf("turbocat dev ended with %w\n%s", err, i.printed())
	}
	for _, p := range below {
		if p.alive() {
			return fmt.Errorf("the process %d (%s) outlives turbocat dev", p.pid, p.name)
		}
	}
	return nil
}

// printed is what it has printed so far.
func (i *installation) printed() string {
	raw, err := os.ReadFile(i.output)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// process is one of the system, told apart from others that had or will have its pid.
type process struct {
	pid, parent int
	name        string
	state       string
	began       string
	cpu         time.Duration
}

// descendants gives the processes below pid; none where there is no /proc.
func descendants(pid int) []process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var all []process
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			if p, ok := look(n); ok {
				all = append(all, p)
			}
		}
	}
	below := map[int]bool{pid: true}
	var found []process
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if below[p.parent] && !below[p.pid] {
				below[p.pid], grown = true, true
				found = append(found, p)
			}
		}
	}
	return found
}

// look reads /proc/<pid>/stat.
func look(pid int) (process, bool) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, false
	}
	text := string(raw)
	open, shut := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	fields := strings.Fields(text[shut+1:])
	if open < 0 || len(fields) < 20 {
		return process{}, false
	}
	parent, _ := strconv.Atoi(fields[1])
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return process{
		pid: pid, parent: parent, name: text[open+1 : shut], state: fields[0], began: fields[19],
		cpu: time.Duration(user+system) * 10 * time.Millisecond, // the kernel counts in hundredths of a second
	}, true
}

// alive tells whether it still runs.
func (p process) alive() bool {
	now, ok := look(p.pid)
	return ok && now.began == p.began && now.state != "Z"
}
