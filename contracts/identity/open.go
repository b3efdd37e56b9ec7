package identity

import "turbocat.io/contracts/rpc"

// A grant lets who shows it have secrets of one user. The orchestrator makes one for each attempt that needs any: a JSON Web
// Token, signed with Ed25519 by the key of orchestrator.GrantKey, with these claims beside the user (sub) and the end of its time (exp).
const (
	GrantAudience       = "secrets"
	GrantClaimNames     = "names"     // an array: of the secrets
	GrantClaimExecution = "execution" // whose attempt it is
)

// SealInfo is the info of the HPKE (RFC 9180) that secrets are sealed to who asks by: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, base mode.
const SealInfo = "turbocat secrets 1"

// OpenSecretsRequest asks for the secrets of a grant.
type OpenSecretsRequest struct {
	Grant     string `json:"grant"`
	PublicKey []byte `json:"publicKey"` // X25519, made for this request alone
}

// OpenSecretsResponse has the secrets that there are, sealed to the key of the request.
type OpenSecretsResponse struct {
	Sealed  []byte   `json:"sealed"`            // of a JSON object: the values by name
	Missing []string `json:"missing,omitempty"` // names that the user has no secret of
}

// OpenSecrets gives secrets to a runner. FORBIDDEN for a grant that is none, or whose time is over: another is to be asked for.
var OpenSecrets = rpc.Method[OpenSecretsRequest, OpenSecretsResponse]{Service: Service, Name: "open_secrets", Version: 1}
