// Package identity declares what the identity service offers: accounts, sessions and
// the check of an access token.
package identity

import (
	"encoding/json"
	"time"

	"turbocat.io/contracts/rpc"
)

// Service is the name of the service.
const Service = "identity"

// User is an account as its owner and an ADMIN see it.
type User struct {
	ID          string          `json:"id" format:"uuid"`
	Email       string          `json:"email" format:"email"`
	FullName    string          `json:"fullName"`
	Role        string          `json:"role" enum:"ADMIN,USER,AGENT"`
	Active      bool            `json:"active"`
	AvatarURL   *string         `json:"avatarUrl"`
	Preferences json.RawMessage `json:"preferences"` // a JSON object
	CreatedAt   time.Time       `json:"createdAt"`
	LastLoginAt *time.Time      `json:"lastLoginAt"`
}

// Session is what register, login and refresh answer.
type Session struct {
	User             User      `json:"user"`
	AccessToken      string    `json:"accessToken"`
	RefreshToken     string    `json:"refreshToken"`
	TokenType        string    `json:"tokenType" enum:"Bearer"`
	ExpiresAt        time.Time `json:"expiresAt"`
	RefreshExpiresAt time.Time `json:"refreshExpiresAt"`
}

// RegisterRequest makes an account with role USER.
type RegisterRequest struct {
	Email    string `json:"email"`
	Password string `json:"password"`
	FullName string `json:"fullName"`
}

// LoginRequest opens a session.
type LoginRequest struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

// RefreshRequest rotates (refresh) or ends (logout) the session of a refresh token.
type RefreshRequest struct {
	RefreshToken string `json:"refreshToken"`
}

// UpdateUserRequest changes the caller's own account. An absent field stays, null clears.
type UpdateUserRequest struct {
	Patch json.RawMessage `json:"patch"` // a JSON object of fullName, avatarUrl, preferences
}

// VerifyRequest asks who an access token belongs to.
type VerifyRequest struct {
	AccessToken string `json:"accessToken"`
}

// VerifyResponse is the identity behind a valid access token.
type VerifyResponse struct {
	UserID    string    `json:"userId"`
	Role      string    `json:"role"`
	SessionID string    `json:"sessionId"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// SeedUserRequest makes an account when its address is free, and changes nothing else. System callers only.
type SeedUserRequest struct {
	ID       string `json:"id"`
	Email    string `json:"email"`
	Password string `json:"password"`
	FullName string `json:"fullName"`
	Role     string `json:"role"`
}

// SeedUserResponse tells whether the account was made now.
type SeedUserResponse struct {
	User    User `json:"user"`
	Created bool `json:"created"`
}

// NotifyUserRequest has a user sent a mail of Turbocat's. System callers only.
type NotifyUserRequest struct {
	UserID  string `json:"userId"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
}

// The methods of the service.
var (
	Register = rpc.Method[RegisterRequest, Session]{Service: Service, Name: "register", Version: 1}
	Login    = rpc.Method[LoginRequest, Session]{Service: Service, Name: "login", Version: 1}
	Refresh  = rpc.Method[RefreshRequest, Session]{Service: Service, Name: "refresh", Version: 1}
	Logout   = rpc.Method[RefreshRequest, rpc.Empty]{Service: Service, Name: "logout", Version: 1}
	Verify   = rpc.Method[VerifyRequest, VerifyResponse]{Service: Service, Name: "verify", Version: 1}
	GetMe    = rpc.Method[rpc.Empty, User]{Service: Service, Name: "get_me", Version: 1}
	UpdateMe = rpc.Method[UpdateUserRequest, User]{Service: Service, Name: "update_me", Version: 1}
	// NotifyUser answers NOT_FOUND when there is nobody who would read the mail.
	NotifyUser = rpc.Method[NotifyUserRequest, rpc.Empty]{Service: Service, Name: "notify_user", Version: 1}

	SeedUser = rpc.Method[SeedUserRequest, SeedUserResponse]{Service: Service, Name: "seed_user", Version: 1}
)
