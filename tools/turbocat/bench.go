//go:build unix

package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"turbocat.io/tools/internal/bench"
)

func newBench(environ map[string]string) *cobra.Command {
	o := bench.Options{Environ: environ}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the engine against the raw JetStream step loop",
		Long: `Measure the engine against the raw JetStream step loop, back to back in one run.

It needs nothing running: PostgreSQL (fsync on), NATS, catalog, orchestrator and runner are processes of
their own in a temporary folder. Compare ratios of one run; figures of different runs depend on the machine.

Workloads: chain10 (chains of ten steps), single (one chain after the other), fanout (source, 100 parallel, join).`,
		Example: `  turbocat bench
  turbocat bench --workload chain10 --json
  turbocat bench --workload single --seconds 10`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Program, err = os.Executable(); err != nil {
				return err
			}
			o.Progress, o.Out = cmd.ErrOrStderr(), io.Discard
			if asJSON {
				o.Out = cmd.OutOrStdout()
			}
			return bench.Run(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.Workload, "workload", bench.Chain10, "what to measure: "+strings.Join(bench.Workloads(), ", "))
	cmd.Flags().IntVar(&o.InFlight, "in-flight", 64, "executions, and steps of the raw loop, at once")
	seconds(cmd, &o.Duration)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per line and measurement on stdout")
	return cmd
}

func seconds(cmd *cobra.Command, d *time.Duration) {
	*d = 5 * time.Second
	cmd.Flags().Func("seconds", "length of each measurement (default 5)", func(s string) error {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || n < 0.5 || n > 3600 {
			return fmt.Errorf("%q is no length; give 0.5 to 3600 seconds", s)
		}
		*d = time.Duration(n * float64(time.Second))
		return nil
	})
}

// newRawRunner is the other process of the raw loop.
func newRawRunner(environ map[string]string) *cobra.Command {
	return &cobra.Command{
		Use: bench.RawRunner, Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return bench.AnswerRaw(cmd.Context(), environ["NATS_URL"]) },
	}
}
