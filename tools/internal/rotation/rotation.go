// Package rotation has users' secrets sealed under the current key. Identity does it, which alone has the keys.
package rotation

import (
	"context"
	"time"

	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
)

// batch is how many secrets are sealed in one request; progress is told after each.
const batch = 200

// Report is what was done.
type Report struct {
	KeyID    string                   `json:"keyId"`
	Resealed int                      `json:"resealed"`
	Left     int                      `json:"left"`
	Refused  []identity.RefusedSecret `json:"refused"`
	TookMs   int64                    `json:"tookMs"`
}

// Run seals all that is sealed under other keys, and tells its progress. It may be broken off and repeated, and run while secrets are
// used and changed. Its error leaves what was done.
func Run(ctx context.Context, conn *bus.Conn, progress func(Report)) (Report, error) {
	began := time.Now()
	report := Report{Refused: []identity.RefusedSecret{}}
	for after := ""; ; {
		did, err := bus.Call(ctx, conn, identity.RotateSecrets, rpc.System(""), identity.RotateSecretsRequest{After: after, Limit: batch})
		if err != nil {
			return report, err
		}
		report.KeyID, report.Left = did.KeyID, did.Left
		report.Resealed += did.Resealed
		report.Refused = append(report.Refused, did.Refused...)
		report.TookMs = time.Since(began).Milliseconds()
		if did.Last == "" {
			return report, nil
		}
		after = did.Last
		progress(report)
	}
}
