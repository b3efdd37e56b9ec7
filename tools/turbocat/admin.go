//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/bus"
	"turbocat.io/tools/internal/seed"
)

// adminPatience is how long `admin create` waits for identity.
const adminPatience = time.Minute

func newAdmin(environ map[string]string) *cobra.Command {
	cmd := &cobra.Command{Use: "admin", Short: "Make the first administrator", Args: cobra.NoArgs}
	cmd.AddCommand(&cobra.Command{
		Use:   "create",
		Short: "Make the first administrator, unless there is one",
		Long: `Make the account of the first administrator of an installation, unless it is there, whatever its password is by now. It waits a minute for identity.

  NATS_URL                  where identity is reached
  TURBOCAT_ADMIN_EMAIL      the account's address
  TURBOCAT_ADMIN_PASSWORD   its password; 8 characters at least, with upper and lower case, a digit and another sign`,
		Example: `  NATS_URL=nats://turbocat:secret@nats:4222 TURBOCAT_ADMIN_EMAIL=admin@example.com TURBOCAT_ADMIN_PASSWORD=... turbocat admin create`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var missing []error
			for _, name := range []string{"NATS_URL", "TURBOCAT_ADMIN_EMAIL", "TURBOCAT_ADMIN_PASSWORD"} {
				if environ[name] == "" {
					missing = append(missing, fmt.Errorf("%s is not set; see turbocat admin create --help", name))
				}
			}
			if err := errors.Join(missing...); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), adminPatience)
			defer cancel()
			conn, err := bus.Connect(ctx, environ["NATS_URL"], "turbocat-admin", zerolog.Nop())
			if err != nil {
				return err
			}
			defer conn.Close()
			for {
				made, err := seed.Admin(ctx, conn, environ["TURBOCAT_ADMIN_EMAIL"], environ["TURBOCAT_ADMIN_PASSWORD"])
				if err != nil && errs.CodeOf(err) == errs.DependencyUnavailable && ctx.Err() == nil {
					select { // it starts still
					case <-ctx.Done():
					case <-time.After(time.Second):
					}
					continue
				}
				if err != nil {
					return err
				}
				said := "The administrator %s is there already.\n"
				if made.Created {
					said = "The administrator %s is made.\n"
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), said, made.Email)
				return err
			}
		},
	})
	return cmd
}
