//go:build unix

package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/tools/internal/client"
	"turbocat.io/tools/internal/run"
)

func newReplay(environ map[string]string) *cobra.Command {
	var address string
	var asJSON, offline bool
	cmd := &cobra.Command{
		Use:   "replay EXECUTION",
		Short: "Repeat an execution without calling a model",
		Long: `Repeat an execution that has ended, as a new one, by what is recorded of it.

No model, server or other workflow is asked: their steps have the results, or the errors, that they had, and a
WAIT is over at once. What is left to be done runs again: CODE without network, DATA, conditions, loops, templates.
Nothing of it is undone if it fails.

Progress, and which steps came to another result, go to stderr, the result to stdout. It logs in as turbocat run does.

Exit codes: 0 completed, 1 failed, 130 interrupted, which cancels it.`,
		Example: `  turbocat replay 0193b7f0-0000-7000-8000-000000000000 --offline
  turbocat replay 0193b7f0-0000-7000-8000-000000000000 --json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one execution by its id, like: turbocat replay 0193b7f0-0000-7000-8000-000000000000")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if !offline {
				return errors.New("a replay is offline; to ask models and servers again, run the workflow again: POST /api/v1/executions/:id/rerun does from any step")
			}
			return against(cmd, environ, address, asJSON, func(ctx context.Context, api *client.Client, p *run.Progress) (orchestrator.Execution, error) {
				return run.Replay(ctx, api, args[0], p)
			})
		},
	}
	connectionFlags(cmd, environ, &address, &asJSON)
	cmd.Flags().BoolVar(&offline, "offline", true, "take what is recorded; there is no other way to replay")
	return cmd
}
