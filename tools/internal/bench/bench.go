//go:build unix

// Package bench measures the speed of the engine against the least that JetStream itself
// needs for a step: publish a task, take it, publish its result, take that. Everything runs
// in processes of its own in a temporary folder, with the settings of a real installation.
package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"time"
)

// Workloads by the name a user gives, Raw aside: it is measured before the others, whichever they are.
const (
	Raw      = "raw"      // the raw step loop
	Single   = "single"   // one step
	Seq3     = "seq3"     // a chain of three
	Chain10  = "chain10"  // a chain of ten
	Fan100   = "fan100"   // a source, 100 parallel steps, a join
	Loop100k = "loop100k" // one execution: a LOOP of 100,000 items
)

// Workloads that Run knows, in the order in which it measures them.
func Workloads() []string { return []string{Raw, Single, Seq3, Chain10, Fan100, Loop100k} }

// Options of Run.
type Options struct {
	Workloads []string
	Duration  time.Duration // of each measurement
	InFlight  int           // executions, and steps of the raw loop
	Program   string        // the turbocat binary
	Environ   map[string]string
	JSON      io.Writer // one object per line and workload; may be nil
	Table     io.Writer // the same for people, at the end; may be nil
	Progress  io.Writer
	Profiles  string // folder for CPU profiles, one for each process and workload; none when empty
}

// Result is what was measured of one workload. The times are of its unit alone, one after the other: of
// a step of the raw loop, of an execution from the submit to its published end otherwise. Throughput
// and CPU are those of as many at once as the settings say.
type Result struct {
	Workload                 string   `json:"workload"`
	ThroughputStepsPerSecond float64  `json:"throughputStepsPerSecond"`
	P50Ms                    float64  `json:"p50Ms"`
	P99Ms                    float64  `json:"p99Ms"`
	CPUSecondsPer1000Steps   *float64 `json:"cpuSecondsPer1000Steps,omitempty"` // of all processes; nil where the system does not tell
	MemoryMiB                *float64 `json:"memoryMiB,omitempty"`              // of all processes at the end; as above
	RatioToRaw               *float64 `json:"ratioToRaw,omitempty"`             // of the throughput; nil for the raw loop
	Settings                 Settings `json:"settings"`

	cpu    map[string]float64 // CPU seconds per 1,000 steps, by process
	memory map[string]float64 // MiB, by process
}

// Settings are what a figure depends on, beside the machine.
type Settings struct {
	InFlight    int     `json:"inFlight"` // for throughput and CPU
	Seconds     float64 `json:"seconds"`  // that it was measured for
	Steps       int     `json:"steps"`    // in that time
	Samples     int     `json:"samples"`  // that p50 and p99 are of
	Latency     string  `json:"latency"`
	InputBytes  int     `json:"inputBytes"` // of a step
	OutputBytes int     `json:"outputBytes"`
	CPUs        int     `json:"cpus"`
	Postgres    string  `json:"postgres"`
	NATS        string  `json:"nats"`
	Processes   string  `json:"processes"`
}

// Run measures the raw loop and then the workloads, back to back.
func Run(ctx context.Context, o Options) error {
	for _, name := range o.Workloads {
		if !slices.Contains(Workloads(), name) {
			return fmt.Errorf("there is no workload %q; the workloads are %v", name, Workloads())
		}
	}
	if o.Profiles != "" {
		if err := os.MkdirAll(o.Profiles, 0o755); err != nil {
			return fmt.Errorf("no folder for the profiles: %w", err)
		}
	}
	dir, err := os.MkdirTemp("", "turbocat-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o711); err != nil { // the database's user passes through
		return err
	}
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(o.Progress, format+"\n", args...) }
	say("Starting PostgreSQL, NATS, catalog, orchestrator and runner, each a process of its own, in %s", dir)
	w, err := start(ctx, dir, o, "catalog", "orchestrator", "runner")
	if err != nil {
		return err
	}
	defer w.stop()

	results := make([]Result, 0, len(o.Workloads)+1)
	for _, name := range Workloads() {
		if name != Raw && !slices.Contains(o.Workloads, name) {
			continue
		}
		say("%s ...", name)
		var r Result
		if name == Raw {
			r, err = w.rawLoop(ctx)
		} else {
			r, err = w.engine(ctx, name)
		}
		if err != nil {
			return fmt.Errorf("workload %s: %w", name, err)
		}
		w.settle(&r)
		if len(results) > 0 {
			ratio := r.ThroughputStepsPerSecond / results[0].ThroughputStepsPerSecond
			r.RatioToRaw = &ratio
		}
		results = append(results, r)
		if o.JSON != nil {
			if err := json.NewEncoder(o.JSON).Encode(r); err != nil {
				return err
			}
			say("  %s", summary(r))
		}
	}
	if o.Table == nil {
		return nil
	}
	return table(o.Table, results)
}

// settle fills in what follows from the measurement.
func (w *world) settle(r *Result) {
	s := &r.Settings
	s.CPUs = runtime.NumCPU()
	s.Postgres = "own process, fsync on, synchronous_commit on"
	s.NATS = "own process, file storage, sync_interval 2s"
	s.Processes = "client, nats, raw-runner"
	if r.Workload != Raw {
		s.Processes = "client, nats, postgres, catalog, orchestrator, runner"
	}
	s.Latency = "one after the other"
	r.CPUSecondsPer1000Steps, r.MemoryMiB = total(r.cpu), total(r.memory)
}

func total(parts map[string]float64) *float64 {
	if len(parts) == 0 {
		return nil
	}
	sum := 0.0
	for _, v := range parts {
		sum += v
	}
	return &sum
}

// latencies fills in p50 and p99.
func (r *Result) latencies(times []time.Duration) {
	slices.Sort(times)
	r.P50Ms, r.P99Ms = percentile(times, 50), percentile(times, 99)
	r.Settings.Samples = len(times)
}

func percentile(sorted []time.Duration, p int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[min(len(sorted)-1, len(sorted)*p/100)].Microseconds()) / 1000
}
