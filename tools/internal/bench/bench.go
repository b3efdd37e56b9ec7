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
	"slices"
	"time"
)

// Workloads by the name a user gives.
const (
	Raw     = "raw"     // the raw step loop
	Chain10 = "chain10" // chains of ten steps
	Single  = "single"  // one chain of ten after the other
	Fanout  = "fanout"  // source, 100 parallel steps, join
)

// Workloads that Run knows, Raw aside: it is measured beside every other.
func Workloads() []string { return []string{Chain10, Single, Fanout} }

// Options of Run.
type Options struct {
	Workload string
	Duration time.Duration // of each measurement
	InFlight int           // executions, and steps of the raw loop
	Program  string        // the turbocat binary
	Environ  map[string]string
	Out      io.Writer // one JSON object per line
	Progress io.Writer // for people
}

// Result is one measurement. Times are of one unit of the workload: a step of the raw loop,
// an execution otherwise.
type Result struct {
	Workload       string             `json:"workload"`
	InFlight       int                `json:"inFlight"`
	Seconds        float64            `json:"seconds"`
	Executions     int                `json:"executions,omitempty"`
	Steps          int                `json:"steps"`
	StepsPerSecond float64            `json:"stepsPerSecond"`
	P50Ms          float64            `json:"p50Ms"`
	P99Ms          float64            `json:"p99Ms"`
	CPUMsPer1000   map[string]float64 `json:"cpuMsPer1000Steps,omitempty"` // by process
	RatioToRaw     *float64           `json:"ratioToRaw,omitempty"`        // of stepsPerSecond, both in this run
	Postgres       string             `json:"postgres"`
	NATS           string             `json:"nats"`
}

// Run measures the raw loop and the workload back to back.
func Run(ctx context.Context, o Options) error {
	if !slices.Contains(Workloads(), o.Workload) {
		return fmt.Errorf("there is no workload %q; the workloads are %v", o.Workload, Workloads())
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
	w, err := start(ctx, dir, o)
	if err != nil {
		return err
	}
	defer w.stop()

	say("Raw JetStream step loop, %d in flight, %s ...", o.InFlight, o.Duration)
	raw, err := w.rawLoop(ctx)
	if err != nil {
		return err
	}
	say("  %.0f steps/s, p50 %.2f ms", raw.StepsPerSecond, raw.P50Ms)
	if err := write(o.Out, raw); err != nil {
		return err
	}
	say("Workload %s, %d in flight, %s ...", o.Workload, o.InFlight, o.Duration)
	result, err := w.engine(ctx)
	if err != nil {
		return err
	}
	ratio := result.StepsPerSecond / raw.StepsPerSecond
	result.RatioToRaw = &ratio
	say("  %.0f steps/s, p50 %.2f ms an execution; %.2f of the raw loop", result.StepsPerSecond, result.P50Ms, ratio)
	return write(o.Out, result)
}

func write(out io.Writer, r Result) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", b)
	return err
}

// summarize fills in what follows from the times of the units.
func summarize(r *Result, times []time.Duration, elapsed time.Duration) {
	r.Seconds = elapsed.Seconds()
	r.StepsPerSecond = float64(r.Steps) / r.Seconds
	slices.Sort(times)
	r.P50Ms, r.P99Ms = percentile(times, 50), percentile(times, 99)
	r.Postgres = "own process, fsync on, synchronous_commit on"
	r.NATS = "own process, file storage, sync_interval 2s"
}

func percentile(sorted []time.Duration, p int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[min(len(sorted)-1, len(sorted)*p/100)].Microseconds()) / 1000
}
