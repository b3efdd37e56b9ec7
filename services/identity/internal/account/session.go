package account

import (
	"bytes"
	"crypto/sha256"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/rpc"
	"turbocat.io/services/identity/internal/token"
)

// SessionID names a session, which is one family of refresh tokens.
type SessionID struct{ uuid.UUID }

// Session is one login. Only its newest refresh token is good for another; its access tokens
// are good while it is not revoked and its user is active in the same role.
type Session struct {
	ID             SessionID
	UserID         UserID
	Role           string
	CurrentToken   []byte // fingerprint
	PreviousToken  []byte // fingerprint; nil before the first rotation
	IP             string
	UserAgent      string
	CreatedAt      time.Time
	LastAccessedAt time.Time
	ExpiresAt      time.Time
	RevokedAt      *time.Time
	RevokeReason   string
}

// Reasons why a session was revoked.
const (
	revokedLogout  = "logout"
	revokedReuse   = "refresh_reuse"
	revokedAccount = "account_changed"
	revokedUser    = "ended_by_user"
	revokedReset   = "password_reset"
)

// Ended gives what the audit trail tells of the end of a session, and whether it is that of something refused.
func (s Session) Ended() (action audit.Action, refused bool) {
	switch s.RevokeReason {
	case revokedLogout:
		return audit.AuthLogout, false
	case revokedReuse, revokedAccount:
		return audit.AuthRefreshRefused, true
	}
	return audit.SessionRevoked, false
}

// fingerprint is what is stored of a refresh token: nobody who reads it can make the token.
func fingerprint(t token.Refresh) []byte {
	sum := sha256.Sum256(t.ID[:])
	return sum[:]
}

// rotation is what became of a refresh.
type rotation string

const (
	rotated        rotation = "rotated"
	refusedRevoked rotation = "session_revoked"
	refusedExpired rotation = "session_expired"
	refusedAccount rotation = "account_changed" // the session is revoked now
	refusedReuse   rotation = "refresh_reuse"   // the session is revoked now
)

// rotate puts next in the place of presented, or revokes the session when presented is not
// its newest token: then two parties hold the family, and one of them stole it.
func (s *Session) rotate(owner User, presented, next token.Refresh, now time.Time) rotation {
	switch {
	case s.RevokedAt != nil:
		return refusedRevoked
	case !bytes.Equal(s.CurrentToken, fingerprint(presented)):
		s.revoke(revokedReuse, now)
		return refusedReuse
	case !owner.Active || owner.Role != s.Role:
		s.revoke(revokedAccount, now)
		return refusedAccount
	case !now.Before(s.ExpiresAt):
		return refusedExpired
	}
	s.PreviousToken, s.CurrentToken = s.CurrentToken, fingerprint(next)
	s.LastAccessedAt, s.ExpiresAt = now, next.ExpiresAt
	return rotated
}

func (s *Session) isPrevious(t token.Refresh) bool {
	return bytes.Equal(s.PreviousToken, fingerprint(t))
}

// isOpen tells whether the session has not ended.
func (s *Session) isOpen(now time.Time) bool { return s.RevokedAt == nil && now.Before(s.ExpiresAt) }

// revoke ends the session; the first reason stays.
func (s *Session) revoke(reason string, now time.Time) {
	if s.RevokedAt == nil {
		s.RevokedAt, s.RevokeReason = &now, reason
	}
}

// Client is where a request came from, for the session's record and the log.
type Client struct {
	IP        string
	UserAgent string
	RequestID string
}

// ClientOf gives where the request of a caller came from.
func ClientOf(c rpc.Caller) Client {
	return Client{IP: c.IP, UserAgent: c.UserAgent, RequestID: c.RequestID}
}

const maxUserAgent = 512

// recorded gives the client as it can be stored: what does not fit is cut or left out, for
// nobody is refused over it.
func (c Client) recorded() Client {
	if _, err := netip.ParseAddr(c.IP); err != nil {
		c.IP = ""
	}
	agent := strings.ReplaceAll(strings.ToValidUTF8(c.UserAgent, ""), "\x00", "")
	if len(agent) > maxUserAgent {
		cut := maxUserAgent
		for !utf8.RuneStart(agent[cut]) {
			cut--
		}
		agent = agent[:cut]
	}
	c.UserAgent = agent
	return c
}
