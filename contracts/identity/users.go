package identity

import (
	"encoding/json"
	"time"

	"turbocat.io/contracts/rpc"
)

// OpenSession is a login that has not ended, as its user sees it.
type OpenSession struct {
	ID             string    `json:"id" format:"uuid"`
	Current        bool      `json:"current" doc:"the one that asks"`
	IP             string    `json:"ip" doc:"of the client that logged in"`
	UserAgent      string    `json:"userAgent"`
	CreatedAt      time.Time `json:"createdAt"`
	LastAccessedAt time.Time `json:"lastAccessedAt" doc:"when it was opened, or its tokens were last renewed"`
	ExpiresAt      time.Time `json:"expiresAt"`
}

// ListSessionsRequest asks for a page of the caller's sessions.
type ListSessionsRequest struct {
	rpc.Page
}

// SessionRequest names a session of the caller.
type SessionRequest struct {
	ID string `json:"id"`
}

// ListUsersRequest asks for a page of all accounts.
type ListUsersRequest struct {
	rpc.Page
	Role   string `json:"role,omitempty"`
	Active *bool  `json:"active,omitempty"`
}

// UserRequest names an account.
type UserRequest struct {
	ID string `json:"id"`
}

// PatchUserRequest changes the role of an account, or whether it is active.
type PatchUserRequest struct {
	ID    string          `json:"id"`
	Patch json.RawMessage `json:"patch"` // a JSON object of role, active
}

// The methods about sessions, and those of an ADMIN about accounts: FORBIDDEN to others.
var (
	ListSessions     = rpc.Method[ListSessionsRequest, rpc.List[OpenSession]]{Service: Service, Name: "list_sessions", Version: 1}
	EndSession       = rpc.Method[SessionRequest, rpc.Empty]{Service: Service, Name: "end_session", Version: 1}
	EndOtherSessions = rpc.Method[rpc.Empty, rpc.Empty]{Service: Service, Name: "end_other_sessions", Version: 1}
	ListUsers        = rpc.Method[ListUsersRequest, rpc.List[User]]{Service: Service, Name: "list_users", Version: 1}
	GetUser          = rpc.Method[UserRequest, User]{Service: Service, Name: "get_user", Version: 1}
	PatchUser        = rpc.Method[PatchUserRequest, User]{Service: Service, Name: "patch_user", Version: 1}
)
