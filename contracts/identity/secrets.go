package identity

import (
	"encoding/json"
	"time"

	"turbocat.io/contracts/rpc"
)

// Bounds of secrets.
const (
	MaxSecretValue = 64 << 10 // bytes of UTF-8
	MaxSecrets     = 1000     // of a user
)

// SecretNamePattern is what the name of a secret is like.
const SecretNamePattern = `^[A-Za-z_][A-Za-z0-9_-]{0,127}$`

// Secret is a secret as its owner sees it. Nothing tells its value.
type Secret struct {
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
}

// ListSecretsRequest asks for a page of the caller's secrets.
type ListSecretsRequest struct {
	rpc.Page
}

// PutSecretRequest makes a secret of the caller, or gives it another value. The service checks the body itself, so
// that no fault of it shows the value.
type PutSecretRequest struct {
	Name string          `json:"name"`
	Body json.RawMessage `json:"body"` // {"value":"..."}
}

// PutSecretResponse tells whether the secret was made now.
type PutSecretResponse struct {
	Secret  Secret `json:"secret"`
	Created bool   `json:"created"`
}

// SecretRequest names a secret of the caller.
type SecretRequest struct {
	Name string `json:"name"`
}

// The methods about secrets.
var (
	ListSecrets  = rpc.Method[ListSecretsRequest, rpc.List[Secret]]{Service: Service, Name: "list_secrets", Version: 1}
	PutSecret    = rpc.Method[PutSecretRequest, PutSecretResponse]{Service: Service, Name: "put_secret", Version: 1}
	DeleteSecret = rpc.Method[SecretRequest, rpc.Empty]{Service: Service, Name: "delete_secret", Version: 1}
)
