//go:build unix

package bench

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"turbocat.io/contracts/rpc"
	"turbocat.io/migrations"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/postgres"
	"turbocat.io/tools/internal/child"
	"turbocat.io/tools/internal/pginstall"
	"turbocat.io/tools/internal/postgresd"
)

// world is the installation under measurement.
type world struct {
	o       Options
	dir     string
	environ []string
	conn    *bus.Conn
	pg      *postgresd.Server
	parts   map[string]*child.Process
	order   []string
}

const stopGrace = 5 * time.Second

func start(ctx context.Context, dir string, o Options) (w *world, err error) {
	w = &world{o: o, dir: dir, parts: map[string]*child.Process{}}
	defer func() {
		if err != nil {
			w.stop()
		}
	}()
	install, err := pginstall.FromEnviron(o.Environ)
	if err != nil {
		return nil, err
	}
	install.Say = func(format string, args ...any) { _, _ = fmt.Fprintf(o.Progress, format+"\n", args...) }
	binaries, err := pginstall.Ensure(ctx, install)
	if err != nil {
		return nil, err
	}
	if w.pg, err = postgresd.Start(ctx, postgresd.Options{Dir: filepath.Join(dir, "postgres"), Binaries: binaries, Database: "turbocat"}); err != nil {
		return nil, err
	}
	for _, name := range migrations.Services() {
		if err := postgres.Migrate(ctx, w.pg.URL(), name, migrations.Of(name)); err != nil {
			return nil, err
		}
	}
	port, err := child.FreePort()
	if err != nil {
		return nil, err
	}
	natsURL := url.URL{Scheme: "nats", User: url.UserPassword("bench", "bench"), Host: "127.0.0.1:" + strconv.Itoa(port)}
	w.environ = []string{"PATH=" + o.Environ["PATH"], "HOME=" + dir, "NATS_URL=" + natsURL.String(), "DATABASE_URL=" + w.pg.URL(), "LOG_LEVEL=warn"}
	if err := w.spawn("nats", "serve", "nats", "--dir", filepath.Join(dir, "nats")); err != nil {
		return nil, err
	}
	begin, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if w.conn, err = bus.Connect(begin, natsURL.String(), "turbocat-bench", zerolog.Nop()); err != nil {
		return nil, err
	}
	for _, name := range []string{"catalog", "orchestrator", "runner"} {
		if err := w.spawn(name, "serve", name); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"catalog", "orchestrator", "runner"} {
		if err := w.awaitReady(begin, name); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *world) spawn(name string, args ...string) error {
	log, err := os.Create(filepath.Join(w.dir, name+".log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	p, err := child.Start(child.Command{Path: w.o.Program, Args: args, Dir: w.dir, Env: w.environ, Output: log, Orphan: syscall.SIGKILL})
	if err != nil {
		return err
	}
	w.parts[name] = p
	w.order = append(w.order, name)
	return nil
}

func (w *world) awaitReady(ctx context.Context, name string) error {
	for {
		h, err := bus.Call(ctx, w.conn, rpc.HealthOf(name), rpc.System("bench"), rpc.Empty{})
		if err == nil && h.Ready {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the %s does not become ready: %w\n%s", name, ctx.Err(), w.tail(name))
		case <-w.parts[name].Done():
			return fmt.Errorf("the %s has ended\n%s", name, w.tail(name))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (w *world) tail(name string) string {
	b, err := os.ReadFile(filepath.Join(w.dir, name+".log"))
	if err != nil {
		return ""
	}
	return string(b[max(0, len(b)-2000):])
}

func (w *world) stop() {
	if w.conn != nil {
		w.conn.Close()
	}
	slices.Reverse(w.order)
	for _, name := range w.order {
		w.parts[name].Stop(stopGrace, syscall.SIGTERM, syscall.SIGKILL)
	}
	if w.pg != nil {
		w.pg.Stop()
	}
}

// cpu gives the CPU time of each process so far; none where the system does not tell.
func (w *world) cpu() map[string]time.Duration {
	pids := map[string]int{"client": os.Getpid()}
	for name, p := range w.parts {
		pids[name] = p.PID()
	}
	out := map[string]time.Duration{}
	for name, pid := range pids {
		if d, ok := cpuOf(pid); ok {
			out[name] = d
		}
	}
	if d, ok := cpuOfTree(w.pg.PID()); ok {
		out["postgres"] = d
	}
	return out
}

// perThousand gives the CPU milliseconds that 1,000 steps took between two readings.
func perThousand(before, after map[string]time.Duration, steps int) map[string]float64 {
	if len(after) == 0 || steps == 0 {
		return nil
	}
	out := map[string]float64{}
	for name := range maps.Keys(after) {
		out[name] = float64((after[name] - before[name]).Microseconds()) / float64(steps)
	}
	return out
}

// clockTick is the unit of /proc's CPU times on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

func cpuOf(pid int) (time.Duration, bool) {
	d, _, ok := stat(pid)
	return d, ok
}

// cpuOfTree adds up a process and its living children, and what its ended ones took.
func cpuOfTree(pid int) (time.Duration, bool) {
	total, ok := cpuOf(pid)
	if !ok {
		return 0, false
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, false
	}
	for _, e := range entries {
		if c, err := strconv.Atoi(e.Name()); err == nil {
			if d, parent, ok := stat(c); ok && parent == pid {
				total += d
			}
		}
	}
	return total, true
}

func stat(pid int) (cpu time.Duration, parent int, ok bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, false
	}
	_, rest, found := strings.Cut(string(b), ") ") // the name may hold spaces
	f := strings.Fields(rest)
	if !found || len(f) < 15 {
		return 0, 0, false
	}
	parent, _ = strconv.Atoi(f[1])
	var ticks int64
	for _, field := range f[11:15] { // utime stime cutime cstime
		n, _ := strconv.ParseInt(field, 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * clockTick, parent, true
}
