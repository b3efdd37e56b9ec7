//go:build unix

package bench

import (
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ProfileVariable names the file into which a process of Turbocat writes a CPU profile of what
// happens between one SIGUSR1 and the next.
const ProfileVariable = "TURBOCAT_BENCH_PROFILE"

// profileWait bounds how long a process may take to write its profile.
const profileWait = 5 * time.Second

func (w *world) profile(name string) string { return filepath.Join(w.dir, name+".pprof") }

// measurement is of everything that the processes do until it ends.
type measurement struct {
	w        *world
	workload string
	own      *os.File // our profile
	before   map[string]time.Duration
	start    time.Time
}

func (w *world) measure(workload string) *measurement {
	m := &measurement{w: w, workload: workload}
	if w.o.Profiles != "" {
		w.signalAll(syscall.SIGUSR1)
		if own, err := os.Create(filepath.Join(w.o.Profiles, workload+"-client.pprof")); err == nil && pprof.StartCPUProfile(own) == nil {
			m.own = own
		}
	}
	m.before, m.start = w.cpu(workload), time.Now()
	return m
}

// end fills in what so many steps took.
func (m *measurement) end(r *Result, steps int) {
	elapsed, after := time.Since(m.start).Seconds(), m.w.cpu(m.workload)
	r.Settings.Seconds, r.Settings.Steps = elapsed, steps
	r.ThroughputStepsPerSecond = float64(steps) / elapsed
	if steps > 0 {
		r.cpu = map[string]float64{}
		for name, d := range after {
			r.cpu[name] = (d - m.before[name]).Seconds() * 1000 / float64(steps)
		}
	}
	r.memory = map[string]float64{}
	for name, pids := range m.w.pids(m.workload) {
		for _, pid := range pids {
			if bytes, ok := memoryOf(pid); ok {
				r.memory[name] += float64(bytes) / (1 << 20)
			}
		}
	}
	if m.w.o.Profiles == "" {
		return
	}
	m.w.signalAll(syscall.SIGUSR1)
	if m.own != nil {
		pprof.StopCPUProfile()
		_ = m.own.Close()
	}
	for name := range m.w.parts {
		to := filepath.Join(m.w.o.Profiles, m.workload+"-"+name+".pprof")
		for until := time.Now().Add(profileWait); time.Now().Before(until); <-time.After(20 * time.Millisecond) {
			if b, err := os.ReadFile(m.w.profile(name)); err == nil {
				_ = os.Remove(m.w.profile(name))
				_ = os.WriteFile(to, b, 0o600)
				break
			}
		}
	}
}

func (w *world) signalAll(s syscall.Signal) {
	for _, p := range w.parts {
		_ = syscall.Kill(p.PID(), s)
	}
}

// pids gives the processes of a workload by what they are. The raw loop needs few of them.
func (w *world) pids(workload string) map[string][]int {
	out := map[string][]int{"client": {os.Getpid()}}
	for name, p := range w.parts {
		if workload != Raw || name == "nats" || name == rawRunner {
			out[name] = []int{p.PID()}
		}
	}
	if workload != Raw {
		out["postgres"] = tree(w.pg.PID())
	}
	return out
}

// cpu gives the CPU time of each of a workload's processes so far; none where the system does not tell.
// That of PostgreSQL has also what its ended children took.
func (w *world) cpu(workload string) map[string]time.Duration {
	out := map[string]time.Duration{}
	for name, pids := range w.pids(workload) {
		for _, pid := range pids {
			if d, _, ok := stat(pid); ok {
				out[name] += d
			}
		}
	}
	return out
}

// tree gives a process and its living children.
func tree(pid int) []int {
	pids := []int{pid}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return pids
	}
	for _, e := range entries {
		if c, err := strconv.Atoi(e.Name()); err == nil {
			if _, parent, ok := stat(c); ok && parent == pid {
				pids = append(pids, c)
			}
		}
	}
	return pids
}

// memoryOf is what a process has in memory that is not a file's, and of what it shares its part, where the
// system tells that; else all that it has in memory.
func memoryOf(pid int) (bytes int64, ok bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	for _, source := range []struct{ file, line string }{{"smaps_rollup", "Pss:"}, {"status", "VmRSS:"}} {
		b, err := os.ReadFile(filepath.Join(dir, source.file))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == source.line {
				kib, err := strconv.ParseInt(f[1], 10, 64)
				return kib << 10, err == nil
			}
		}
	}
	return 0, false
}

// clockTick is the unit of /proc's CPU times on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

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
