//go:build unix

package main

import (
	"fmt"
	"os"
	"strconv"
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

Workloads: single (one step), seq3 and chain10 (chains), fan100 (source, 100 parallel, join), loop100k (one
execution with a LOOP of 100,000 items). The raw loop is always measured, and first.`,
		Example: `  turbocat bench
  turbocat bench --workload chain10 --json
  turbocat bench --workload single,chain10 --seconds 10
  turbocat bench --workload chain10 --profiles /tmp/profiles`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Program, err = os.Executable(); err != nil {
				return err
			}
			o.Progress, o.Table = cmd.ErrOrStderr(), cmd.OutOrStdout()
			if asJSON {
				o.JSON, o.Table = cmd.OutOrStdout(), nil
			}
			return bench.Run(cmd.Context(), o)
		},
	}
	cmd.Flags().StringSliceVar(&o.Workloads, "workload", bench.Workloads(), "what to measure")
	cmd.Flags().IntVar(&o.InFlight, "in-flight", 64, "executions, and steps of the raw loop, at once")
	cmd.Flags().StringVar(&o.Profiles, "profiles", "", "folder for a CPU profile of each process and workload")
	seconds(cmd, &o.Duration)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per line and workload on stdout, instead of a table")
	cmd.AddCommand(newBenchHTTP(environ))
	return cmd
}

func newBenchHTTP(environ map[string]string) *cobra.Command {
	o := bench.HTTPOptions{Environ: environ}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "http",
		Short: "Measure the API under a load of requests",
		Long: `Measure the API of a whole installation: how much the gateway adds to the RPC behind it, and how long requests
take while others come: health, login to logout, making, reading, changing, listing and deleting, and executions.

It needs nothing running. The load is open: a request is sent when it is due, and its time counts from then.`,
		Example: `  turbocat bench http
  turbocat bench http --rate 20 --seconds 30 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Rate < 1 || o.Rate > 10_000 {
				return fmt.Errorf("--rate is %d; give 1 to 10000", o.Rate)
			}
			if o.Program, err = os.Executable(); err != nil {
				return err
			}
			o.Progress, o.Table = cmd.ErrOrStderr(), cmd.OutOrStdout()
			if asJSON {
				o.JSON, o.Table = cmd.OutOrStdout(), nil
			}
			return bench.RunHTTP(cmd.Context(), o)
		},
	}
	cmd.Flags().IntVar(&o.Rate, "rate", 10, "rounds of nine requests that begin each second")
	seconds(cmd, &o.Duration)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per line and kind of request on stdout, instead of a table")
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
