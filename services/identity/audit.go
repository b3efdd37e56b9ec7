package identity

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

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
		seq, hash, _ := strings.Cut(anchor, ":")
		n, err := strconv.ParseInt(seq, 10, 64)
		h, herr := audit.ParseHash(hash)
		if err != nil || herr != nil || n < 1 {
			return AuditReport{}, fmt.Errorf("the anchor %q is not of the form 128:5f1c..., the number and the hash of an entry", anchor)
		}
		from = audit.Head{Seq: n, Hash: h}
	}
	db, err := pg.Open(databaseURL, contract.Service)
	if err != nil {
		return AuditReport{}, err
	}
	report, err := audit.Verify(ctx, postgres.NewAudit(db), from, progress)
	return report, errors.Join(err, db.Close())
}
