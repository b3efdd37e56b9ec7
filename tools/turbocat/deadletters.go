//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/tools/internal/client"
	"turbocat.io/tools/internal/run"
)

func newDeadLetters(environ map[string]string) *cobra.Command {
	cmd := &cobra.Command{
		Use: "dead-letters", Short: "Look at inputs that could not be applied, and send them once more", Args: cobra.NoArgs,
		Long: `Look at inputs of executions that could not be applied, and send them once more when what was wrong is mended.

They log in as TURBOCAT_EMAIL with TURBOCAT_PASSWORD, who has to be an ADMIN.`,
	}
	cmd.AddCommand(newDeadLettersList(environ), newDeadLettersShow(environ), newDeadLettersReplay(environ))
	return cmd
}

func reasonFlag(cmd *cobra.Command, reason *string) {
	cmd.Flags().StringVar(reason, "reason", "", "only those of a reason: "+strings.Join(orchestrator.DeadReasons(), " or "))
}

func newDeadLettersList(environ map[string]string) *cobra.Command {
	var address, reason string
	var fresh, asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List them, oldest first", Args: cobra.NoArgs,
		Example: `  turbocat dead-letters list
  turbocat dead-letters list --fresh --reason NO_INPUT
  turbocat dead-letters list --json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return loggedIn(cmd, environ, address, func(api *client.Client) error {
				lines, shown := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0), 0
				err := api.DeadLetters(cmd.Context(), reason, fresh, func(d orchestrator.DeadLetter) error {
					if asJSON {
						return json.NewEncoder(cmd.OutOrStdout()).Encode(d)
					}
					if shown++; shown == 1 {
						_, _ = fmt.Fprintln(lines, "ID\tWHEN\tREASON\tREPLAYS\tSUBJECT\tMESSAGE")
					}
					_, err := fmt.Fprintf(lines, "%s\t%s\t%s\t%d\t%s\t%s\n", d.ID, d.CreatedAt.Format(time.RFC3339), d.Reason, d.Replays, onLine(d.Subject), onLine(d.Message))
					return err
				})
				if err == nil && !asJSON && shown == 0 {
					_, err = fmt.Fprintln(cmd.OutOrStdout(), "There are none.")
				}
				return errors.Join(err, lines.Flush())
			})
		},
	}
	addressFlag(cmd, environ, &address)
	reasonFlag(cmd, &reason)
	cmd.Flags().BoolVar(&fresh, "fresh", false, "leave out those that were sent once more")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each as a JSON object on a line")
	return cmd
}

func newDeadLettersShow(environ map[string]string) *cobra.Command {
	var address string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show one with its body",
		Example: "  turbocat dead-letters show 4b51c1d3-4a5f-4a51-9a3c-0d6a5b8f8f55",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one dead letter by its id; turbocat dead-letters list has them")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return loggedIn(cmd, environ, address, func(api *client.Client) error {
				d, err := api.DeadLetter(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if asJSON {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(d)
				}
				return printDeadLetter(cmd.OutOrStdout(), d)
			})
		},
	}
	addressFlag(cmd, environ, &address)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as a JSON object")
	return cmd
}

func printDeadLetter(out io.Writer, d orchestrator.DeadLetter) error {
	var text strings.Builder
	_, _ = fmt.Fprintf(&text, "%s: %s\nto %s, input %d of the stream, on %s; sent once more %d times\n", d.Reason, onLine(d.Message), onLine(d.Subject), d.Sequence, d.CreatedAt.Format(time.RFC3339), d.Replays)
	for _, name := range slices.Sorted(maps.Keys(d.Headers)) {
		_, _ = fmt.Fprintf(&text, "  %s: %s\n", onLine(name), onLine(strings.Join(d.Headers[name], ", ")))
	}
	_, _ = fmt.Fprintf(&text, "%d bytes", d.Size)
	if d.Body != "" {
		_, _ = fmt.Fprintf(&text, ":\n%s", run.Plain(d.Body))
	}
	_, err := fmt.Fprintln(out, text.String())
	return err
}

// onLine makes what somebody sent harmless to a terminal, and one line.
func onLine(s string) string { return strings.Join(strings.Fields(run.Plain(s)), " ") }

func newDeadLettersReplay(environ map[string]string) *cobra.Command {
	var address, reason string
	var all bool
	cmd := &cobra.Command{
		Use: "replay [ID...]", Short: "Send some once more, as they came",
		Long: `Send some once more, as they came. What can still not be applied is another dead letter then. What has an effect has it once, so it is
safe to repeat. With --all those are sent that were not sent once more before.`,
		Example: `  turbocat dead-letters replay 4b51c1d3-4a5f-4a51-9a3c-0d6a5b8f8f55
  turbocat dead-letters replay --all --reason NO_INPUT`,
		Args: func(_ *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return errors.New("name dead letters by their ids, or give --all; turbocat dead-letters list has them")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return loggedIn(cmd, environ, address, func(api *client.Client) error {
				if all { // before any is sent: those that become dead letters again are not among them
					err := api.DeadLetters(cmd.Context(), reason, true, func(d orchestrator.DeadLetter) error {
						args = append(args, d.ID)
						return nil
					})
					if err != nil {
						return err
					}
				}
				for i, id := range args {
					if _, err := api.ReplayDeadLetter(cmd.Context(), id); err != nil {
						return fmt.Errorf("%d of %d are sent, then %s: %w", i, len(args), id, err)
					}
					if (i+1)%100 == 0 {
						_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d\n", i+1, len(args))
					}
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d sent once more.\n", len(args))
				return err
			})
		},
	}
	addressFlag(cmd, environ, &address)
	reasonFlag(cmd, &reason)
	cmd.Flags().BoolVar(&all, "all", false, "all that were not sent once more before")
	return cmd
}
