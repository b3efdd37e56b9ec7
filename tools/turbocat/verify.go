//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"turbocat.io/tools/internal/verify"
)

func newVerify(environ map[string]string) *cobra.Command {
	o := verify.Options{DatabaseURL: environ["DATABASE_URL"], NATSURL: environ["NATS_URL"]}
	var since string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check the ledger of an installation against the state of its executions",
		Long: `Check that the ledger of an installation agrees with itself and with NATS, while it runs or when it is
stopped. It only reads, needs little memory, and ends with 1 when something is found.

For each execution: its events are gapless and a legal story, its state and steps are what they tell, its counters are
those of a recount, nothing runs in an ended one, its items and its output agree, none is stuck. For all: each partition
has a living owner that has applied no more than the log has, public events are numbered without a gap and published,
nothing belongs to an execution that is not there, and no execution, command, stop, ready step, child or kept signal waits
for longer than the patience. Dead letters are told and no fault.

  DATABASE_URL   the ledger; a user that may read the schema orchestrator is enough
  NATS_URL       the streams; without it they are not looked at`,
		Example: `  turbocat verify
  turbocat verify --since 24h --json
  turbocat verify --since 2027-01-31T00:00:00Z
  turbocat verify --quiet              # nothing may be under way`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.DatabaseURL == "" {
				return errors.New("DATABASE_URL is not set; give the address of the installation's database")
			}
			var err error
			if o.Since, err = moment(since, time.Now()); err != nil {
				return err
			}
			o.Progress = func(r verify.Report) {
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%d executions, %d steps, %d events read; %d faults\n", r.Executions, r.Steps, r.Events, r.Found)
			}
			report, err := verify.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			if err := printReport(cmd.OutOrStdout(), report, asJSON); err != nil {
				return err
			}
			if report.Found > 0 {
				return exit(1)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "executions accepted since then, like 24h or 2027-01-31T00:00:00Z, and those that have not ended (default all)")
	cmd.Flags().DurationVar(&o.Patience, "patience", verify.DefaultPatience, "how long what mends itself may take")
	cmd.Flags().BoolVar(&o.Quiet, "quiet", false, "no execution is under way: whatever has not ended, and whatever waits, is a fault")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as one JSON object")
	return cmd
}

// moment reads a time, or how long ago it was; zero for "".
func moment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago > 0 {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("--since %q is neither a time like 2027-01-31T00:00:00Z nor a length like 24h", text)
	}
	return at, nil
}

func printReport(out io.Writer, r verify.Report, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(r)
	}
	for _, one := range r.Violations {
		if _, err := fmt.Fprintln(out, one); err != nil {
			return err
		}
	}
	if more := r.Found - int64(len(r.Violations)); more > 0 {
		if _, err := fmt.Fprintf(out, "and %d more\n", more); err != nil {
			return err
		}
	}
	for _, d := range r.DeadLetters {
		if _, err := fmt.Fprintf(out, "dead letter of the partition %d, %s: %s: %s\n", d.Partition, d.At.UTC().Format(time.RFC3339), d.Subject, d.Reason); err != nil {
			return err
		}
	}
	verdict := "Everything agrees."
	if r.Found > 0 {
		verdict = fmt.Sprintf("%d faults.", r.Found)
	}
	_, err := fmt.Fprintf(out, "%d executions (%d not ended), %d steps, %d events in %.1f s. %s\n", r.Executions, r.Unfinished, r.Steps, r.Events, float64(r.TookMs)/1000, verdict)
	return err
}
