package identity

import "turbocat.io/contracts/rpc"

// RotateSecretsRequest asks for some secrets to be sealed under the current key.
type RotateSecretsRequest struct {
	After string `json:"after,omitempty"` // the Last of the answer before; absent to begin
	Limit int    `json:"limit"`           // of secrets, 1 to MaxRotation
}

// MaxRotation is how many secrets one request may have sealed anew.
const MaxRotation = 1000

// RotateSecretsResponse tells what was done; there is more to do unless Last is empty.
type RotateSecretsResponse struct {
	KeyID    string          `json:"keyId"`          // of the current key
	Resealed int             `json:"resealed"`       // under it now
	Refused  []RefusedSecret `json:"refused"`        // that no key opens
	Left     int             `json:"left"`           // behind these, under other keys
	Last     string          `json:"last,omitempty"` // of those that were looked at; empty when there were none
}

// RefusedSecret is one that does not open.
type RefusedSecret struct {
	UserID string `json:"userId"`
	Name   string `json:"name"`
	KeyID  string `json:"keyId"` // that it is sealed under
	Reason string `json:"reason"`
}

// RotateSecrets has what is sealed under other keys sealed under the current one. Safe to repeat, and while secrets are changed. System callers only.
var RotateSecrets = rpc.Method[RotateSecretsRequest, RotateSecretsResponse]{Service: Service, Name: "rotate_secrets", Version: 1}
