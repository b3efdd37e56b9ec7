//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"turbocat.io/pkg/bus"
	"turbocat.io/tools/internal/rotation"
)

func newSecrets(environ map[string]string) *cobra.Command {
	cmd := &cobra.Command{Use: "secrets", Short: "Operate the keys that users' secrets are sealed under"}
	var asJSON bool
	rotate := &cobra.Command{
		Use:   "rotate",
		Short: "Seal all secrets under the current key",
		Long: `Have identity seal under ENCRYPTION_KEY what is sealed under one of TURBOCAT_OLD_ENCRYPTION_KEYS, while everything runs.
It may be broken off and repeated. Progress is on stderr; it ends with 1 when secrets are left that no key opens.

  NATS_URL   where identity is reached`,
		Example: `  turbocat secrets rotate
  turbocat secrets rotate --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if environ["NATS_URL"] == "" {
				return errors.New("NATS_URL is not set; give the address of the installation's NATS server")
			}
			conn, err := bus.Connect(cmd.Context(), environ["NATS_URL"], "turbocat-secrets", zerolog.Nop())
			if err != nil {
				return err
			}
			defer conn.Close()
			report, err := rotation.Run(cmd.Context(), conn, func(r rotation.Report) {
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%d secrets sealed under the key %s, %d left\n", r.Resealed, r.KeyID, r.Left)
			})
			if err != nil {
				return fmt.Errorf("%d secrets are sealed under the current key, and then: %w; repeat it", report.Resealed, err)
			}
			if asJSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(report)
			} else {
				for _, r := range report.Refused {
					_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%s of the user %s, sealed under the key %s: %s\n", r.Name, r.UserID, r.KeyID, r.Reason)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d secrets sealed under the key %s in %.1f s, %d refused.\n", report.Resealed, report.KeyID, float64(report.TookMs)/1000, len(report.Refused))
			}
			if err == nil && len(report.Refused) > 0 {
				return exit(1)
			}
			return err
		},
	}
	rotate.Flags().BoolVar(&asJSON, "json", false, "print the report as one JSON object")
	cmd.AddCommand(rotate)
	return cmd
}
