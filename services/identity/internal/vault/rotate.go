package vault

import (
	"context"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
)

// Rotate seals some of what is sealed under other keys under the current one; after is the id of the secret before them. What is put
// or deleted meanwhile stays as it is then: a value that is put is sealed under the current key.
func (v *Vault) Rotate(ctx context.Context, after string, limit int) (identity.RotateSecretsResponse, error) {
	out := identity.RotateSecretsResponse{KeyID: v.keys.Current(), Refused: []identity.RefusedSecret{}}
	if limit < 1 || limit > identity.MaxRotation {
		return out, errs.New(errs.Validation, "limit is %d; give 1 to %d", limit, identity.MaxRotation)
	}
	rows, left, err := v.store.Outdated(ctx, out.KeyID, after, limit)
	if err != nil {
		return out, err
	}
	out.Left = left
	for _, r := range rows {
		out.Last = r.ID
		value, err := v.keys.Open(r.place(), r.Sealed)
		if err != nil {
			out.Refused = append(out.Refused, identity.RefusedSecret{UserID: r.Owner, Name: r.Name, KeyID: r.Sealed.KeyID, Reason: err.Error()})
			continue
		}
		changed, err := v.store.Reseal(ctx, r, v.keys.Seal(r.place(), value))
		if err != nil {
			return out, err
		}
		if changed {
			out.Resealed++
		}
	}
	return out, nil
}
