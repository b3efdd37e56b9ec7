//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"turbocat.io/services/identity"
)

func newAudit(environ map[string]string) *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Check the audit trail", Args: cobra.NoArgs}
	cmd.AddCommand(newAuditVerify(environ))
	return cmd
}

func newAuditVerify(environ map[string]string) *cobra.Command {
	var anchor string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that nothing of the audit trail was changed, taken out or put in",
		Long: `Check that nothing of the audit trail was changed, taken out or put in, while the installation runs or when it is stopped.
It only reads, and ends with 1 at the first break in the chain, of which it says what it means.

Who can write all of the database can make the chain anew. Keep the anchor that a walk tells, elsewhere, and give it to the
next one: it begins behind it, and finds when the chain is not the one that the anchor is of.

  DATABASE_URL   the installation's database; a user that may read the schema identity is enough`,
		Example: `  turbocat audit verify
  turbocat audit verify --json
  turbocat audit verify --anchor 12841:5f1c0a...`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if environ["DATABASE_URL"] == "" {
				return errors.New("DATABASE_URL is not set; give the address of the installation's database")
			}
			told := time.Now()
			report, err := identity.VerifyAudit(cmd.Context(), environ["DATABASE_URL"], anchor, func(entries, of int64) {
				if time.Since(told) >= time.Second {
					told = time.Now()
					_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "entry %d of %d\n", entries, of)
				}
			})
			if err != nil {
				return err
			}
			if err := printAudit(cmd.OutOrStdout(), report, asJSON); err != nil {
				return err
			}
			if report.Break != nil {
				return exit(1)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&anchor, "anchor", "", "begin behind this entry, SEQ:HASH as an earlier walk told (default at the first)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as one JSON object")
	return cmd
}

func printAudit(out io.Writer, r identity.AuditReport, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(r)
	}
	if r.Trimmed > 0 && r.Break == nil {
		if _, err := fmt.Fprintf(out, "The chain begins with entry %d: entry %d tells that those before were trimmed.\n", r.Trimmed+1, r.Told); err != nil {
			return err
		}
	}
	if r.Break != nil {
		_, err := fmt.Fprintf(out, "%s at entry %d: %s.\n%d entries before it are in order.\n", r.Break.Kind, r.Break.Seq, r.Break.Meaning, r.Entries)
		return err
	}
	_, err := fmt.Fprintf(out, "%d entries, all in order. Anchor: %d:%s\n", r.Entries, r.Seq, r.Hash)
	return err
}
