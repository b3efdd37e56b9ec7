//go:build unix

package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"turbocat.io/tools/internal/bench"
	"turbocat.io/tools/internal/natsd"
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

// newServeNATS runs the embedded NATS server as a process of its own, at the address and with
// the credentials of NATS_URL.
func newServeNATS(environ map[string]string) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:     "nats",
		Short:   "Run the NATS server that dev embeds, at the address of NATS_URL",
		Example: `  NATS_URL=nats://turbocat:secret@127.0.0.1:4222 turbocat serve nats --dir /var/lib/turbocat/nats`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			const form = "NATS_URL must be of the form nats://user:password@127.0.0.1:4222; correct it"
			u, err := url.Parse(environ["NATS_URL"])
			if err != nil || u.User == nil || u.Port() == "" {
				return errors.New(form)
			}
			port, err := strconv.Atoi(u.Port())
			if err != nil {
				return errors.New(form)
			}
			password, _ := u.User.Password()
			server, err := natsd.Start(cmd.Context(), natsd.Options{
				Dir: dir, Port: port, User: u.User.Username(), Password: password, Log: zerolog.New(os.Stderr).With().Timestamp().Str("service", "nats").Logger(),
			})
			if err != nil {
				return err
			}
			defer server.Stop()
			<-cmd.Context().Done()
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "nats", "folder of the streams")
	return cmd
}
