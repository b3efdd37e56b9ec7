package identity

import (
	"encoding/json"
	"time"

	"turbocat.io/contracts/rpc"
)

// APIKey is a key as its owner and an ADMIN see it.
type APIKey struct {
	ID                 string     `json:"id" format:"uuid"`
	UserID             string     `json:"userId" format:"uuid" doc:"whose it is: it acts as this user, in the role the user has at the moment"`
	Name               string     `json:"name"`
	Prefix             string     `json:"prefix" doc:"the part of the key that is no secret; a rotation keeps it"`
	Scopes             []string   `json:"scopes" doc:"what it may be used for"`
	RateLimitPerMinute *int       `json:"rateLimitPerMinute" doc:"its own limit, within that of the user; null for the latter alone"`
	ExpiresAt          *time.Time `json:"expiresAt" doc:"null for never"`
	LastUsedAt         *time.Time `json:"lastUsedAt" doc:"to the minute"`
	CreatedAt          time.Time  `json:"createdAt"`
	UpdatedAt          time.Time  `json:"updatedAt"`
	RevokedAt          *time.Time `json:"revokedAt"`
}

// IssuedAPIKey is a key with its text, which is shown here and never again.
type IssuedAPIKey struct {
	APIKey
	Key string `json:"key" doc:"to be sent as X-API-Key; shown once"`
}

// CreateAPIKeyRequest makes a key from the JSON body of the client: name, scopes, and optionally
// expiresAt, rateLimitPerMinute and, for an ADMIN, userId of an AGENT.
type CreateAPIKeyRequest struct {
	Body json.RawMessage `json:"body"`
}

// PatchAPIKeyRequest changes the name, scopes, expiresAt or rateLimitPerMinute of a key. An absent field stays, null clears.
type PatchAPIKeyRequest struct {
	ID   string          `json:"id"`
	Body json.RawMessage `json:"body"`
}

// RotateAPIKeyRequest gives a key a new secret. The old one works for OverlapMs more.
type RotateAPIKeyRequest struct {
	ID        string `json:"id"`
	OverlapMs int64  `json:"overlapMs,omitempty"`
}

// APIKeyRequest names a key.
type APIKeyRequest struct {
	ID string `json:"id"`
}

// ListAPIKeysRequest asks for a page of the caller's keys, of everybody's for an ADMIN.
type ListAPIKeysRequest struct {
	rpc.Page
	UserID  string `json:"userId,omitempty"`
	Revoked bool   `json:"revoked,omitempty"` // those that are revoked, and no others
}

// VerifyAPIKeyRequest asks who a key belongs to.
type VerifyAPIKeyRequest struct {
	Key string `json:"key"`
}

// VerifyAPIKeyResponse is the identity behind a valid key.
type VerifyAPIKeyResponse struct {
	APIKeyID           string     `json:"apiKeyId"`
	UserID             string     `json:"userId"`
	Role               string     `json:"role"`
	Scopes             []string   `json:"scopes"`
	RateLimitPerMinute int        `json:"rateLimitPerMinute,omitempty"` // 0 for none of its own
	ExpiresAt          *time.Time `json:"expiresAt,omitempty"`          // nil for never
}

// The methods about API keys. What is revoked, or not the caller's to change, is NOT_FOUND.
var (
	CreateAPIKey = rpc.Method[CreateAPIKeyRequest, IssuedAPIKey]{Service: Service, Name: "create_api_key", Version: 1}
	ListAPIKeys  = rpc.Method[ListAPIKeysRequest, rpc.List[APIKey]]{Service: Service, Name: "list_api_keys", Version: 1}
	PatchAPIKey  = rpc.Method[PatchAPIKeyRequest, APIKey]{Service: Service, Name: "patch_api_key", Version: 1}
	RotateAPIKey = rpc.Method[RotateAPIKeyRequest, IssuedAPIKey]{Service: Service, Name: "rotate_api_key", Version: 1}
	RevokeAPIKey = rpc.Method[APIKeyRequest, rpc.Empty]{Service: Service, Name: "revoke_api_key", Version: 1}
	VerifyAPIKey = rpc.Method[VerifyAPIKeyRequest, VerifyAPIKeyResponse]{Service: Service, Name: "verify_api_key", Version: 1}
)
