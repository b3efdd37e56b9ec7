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

func newAgent(environ map[string]string) *cobra.Command {
	cmd := &cobra.Command{Use: "agent", Short: "Try agents", Args: cobra.NoArgs}
	cmd.AddCommand(newAgentTest(environ))
	return cmd
}

func newAgentTest(environ map[string]string) *cobra.Command {
	var inputs []string
	var address string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "test AGENT",
		Short: "Run an agent once on a running Turbocat",
		Long: `Run an agent once on a running Turbocat, outside of any workflow, with the sandbox, the limits, the secrets and the budgets that it
has in one. It may be a draft. AGENT is its id, or the name of one of your own.

What it logs and how long it takes goes to stderr, its output to stdout. It logs in as turbocat run does.

Exit codes: 0 completed, 1 failed, 130 interrupted, which cancels it.`,
		Example: `  turbocat agent test "Data Transformer" --input @data.json
  turbocat agent test 0193b7f0-0000-7000-8000-000000000000 --input n=20
  turbocat agent test sum --input n=20 --json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one agent, like: turbocat agent test sum")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			given, err := gatherInputs(inputs)
			if err != nil {
				return err
			}
			return against(cmd, environ, address, asJSON, func(ctx context.Context, api *client.Client, p *run.Progress) (orchestrator.Execution, error) {
				return run.Test(ctx, api, args[0], given, p)
			})
		},
	}
	flags(cmd, environ, &inputs, &address, &asJSON)
	return cmd
}
