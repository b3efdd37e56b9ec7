package identity

import (
	"context"
	"errors"
	"fmt"

	contract "turbocat.io/contracts/identity"
	pg "turbocat.io/pkg/postgres"
	"turbocat.io/services/identity/internal/audit"
	"turbocat.io/services/identity/internal/postgres"
)

// AuditReport is what VerifyAudit has found.
type AuditReport = audit.Report

// VerifyAudit walks the audit trail of an installation; it only reads. anchor is SEQ:HASH as an earlier walk told, behind which it begins; "" for
// the whole trail. progress is told how far it is every now and then.
func VerifyAudit(ctx context.Context, databaseURL, anchor string, progress func(entries, of int64)) (AuditReport, error) {
	var from audit.Head
	if anchor != "" {
		var err error
		if from, err = audit.ParseHead(anchor); err != nil {
			return AuditReport{}, fmt.Errorf("the anchor %w", err)
		}
	}
	db, err := pg.Open(databaseURL, contract.Service)
	if err != nil {
		return AuditReport{}, err
	}
	report, err := audit.Verify(ctx, postgres.NewAudit(db), from, progress)
	return report, errors.Join(err, db.Close())
}
