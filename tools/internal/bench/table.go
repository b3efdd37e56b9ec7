//go:build unix

package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// table prints the results, each figure beside its ratio to the raw loop's, the first of them.
func table(out io.Writer, results []Result) error {
	raw := results[0]
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	line := func(cells ...string) { _, _ = fmt.Fprintln(t, strings.Join(cells, "\t")) }
	line("workload", "steps/s", "ratio", "p50 ms", "ratio", "p99 ms", "ratio", "CPU s/1,000 steps", "ratio", "memory MiB", "ratio", "in flight", "seconds", "samples")
	for _, r := range results {
		line(
			r.Workload,
			fmt.Sprintf("%.0f", r.ThroughputStepsPerSecond), ratio(&r.ThroughputStepsPerSecond, &raw.ThroughputStepsPerSecond),
			fmt.Sprintf("%.2f", r.P50Ms), ratio(&r.P50Ms, &raw.P50Ms), fmt.Sprintf("%.2f", r.P99Ms), ratio(&r.P99Ms, &raw.P99Ms),
			figure("%.3f", r.CPUSecondsPer1000Steps), ratio(r.CPUSecondsPer1000Steps, raw.CPUSecondsPer1000Steps),
			figure("%.0f", r.MemoryMiB), ratio(r.MemoryMiB, raw.MemoryMiB),
			fmt.Sprint(r.Settings.InFlight), fmt.Sprintf("%.1f", r.Settings.Seconds), fmt.Sprint(r.Settings.Samples),
		)
	}
	_ = t.Flush() // to memory

	b.WriteString("\nCPU s/1,000 steps by process; memory MiB at the end\n")
	t = tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range results {
		cells := []string{r.Workload}
		for _, name := range slices.Sorted(maps.Keys(r.cpu)) {
			cells = append(cells, fmt.Sprintf("%s %.3f; %.0f", name, r.cpu[name], r.memory[name]))
		}
		line(cells...)
	}
	_ = t.Flush()

	s := raw.Settings
	fmt.Fprintf(&b, `
%d processors, shared by everything. PostgreSQL: %s. NATS: %s.
Steps take about %d bytes and give about %d. p50 and p99 are of one after the other, of an execution from the submit to its committed and
published end (raw: of a step); the other figures are of as many in flight as stand there.
`, s.CPUs, s.Postgres, s.NATS, taskBytes, resultBytes)
	_, err := io.WriteString(out, b.String())
	return err
}

// summary is a result in one line.
func summary(r Result) string {
	s := fmt.Sprintf("%.0f steps/s, p50 %.2f ms, p99 %.2f ms, CPU s/1,000 steps %s", r.ThroughputStepsPerSecond, r.P50Ms, r.P99Ms, figure("%.3f", r.CPUSecondsPer1000Steps))
	for _, name := range slices.Sorted(maps.Keys(r.cpu)) {
		s += fmt.Sprintf(" %s %.3f", name, r.cpu[name])
	}
	if r.RatioToRaw != nil {
		s += fmt.Sprintf("; %.2f of the raw loop", *r.RatioToRaw)
	}
	return s
}

func figure(format string, v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf(format, *v)
}

func ratio(v, to *float64) string {
	if v == nil || to == nil || *to == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", *v / *to)
}
