// Package token signs and reads access and refresh tokens: JWTs with HS256 and a key per
// kind. A token of one kind never passes for the other.
package token

import (
	"errors"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"turbocat.io/contracts/rpc"
)

// Lifetimes of the two kinds.
const (
	AccessLifetime  = 15 * time.Minute
	RefreshLifetime = 7 * 24 * time.Hour
)

// MaxLength of a token in bytes; a longer one is refused unread.
const MaxLength = 8 << 10

// Reasons to refuse a token.
var (
	ErrInvalid = errors.New("invalid token")
	ErrExpired = errors.New("expired token")
)

const (
	issuer      = "turbocat"
	audience    = "turbocat-api"
	kindAccess  = "access"
	kindRefresh = "refresh"
)

// Access is what an access token says.
type Access struct {
	UserID    uuid.UUID
	SessionID uuid.UUID
	Role      string
	ExpiresAt time.Time
}

// Refresh is what a refresh token says. ID is new with every rotation.
type Refresh struct {
	ID        uuid.UUID
	SessionID uuid.UUID
	ExpiresAt time.Time
}

// Signer makes and reads tokens. It is safe for concurrent use.
type Signer struct {
	access, refresh []byte
	now             func() time.Time
}

// New makes a signer of two different secrets.
func New(accessSecret, refreshSecret string, now func() time.Time) *Signer {
	return &Signer{access: []byte(accessSecret), refresh: []byte(refreshSecret), now: now}
}

type claims struct {
	jwt.RegisteredClaims
	Kind      string `json:"typ"`
	SessionID string `json:"sid"`
	Role      string `json:"role,omitempty"`
}

// Access signs an access token for a session.
func (s *Signer) Access(userID, sessionID uuid.UUID, role string) (string, Access, error) {
	c := s.claims(kindAccess, sessionID, AccessLifetime)
	c.Subject, c.Role = userID.String(), role
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(s.access)
	return signed, Access{UserID: userID, SessionID: sessionID, Role: role, ExpiresAt: c.ExpiresAt.UTC()}, err
}

// Refresh signs a refresh token with a new id for a session.
func (s *Signer) Refresh(sessionID uuid.UUID) (string, Refresh, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return "", Refresh{}, err
	}
	c := s.claims(kindRefresh, sessionID, RefreshLifetime)
	c.ID = id.String()
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(s.refresh)
	return signed, Refresh{ID: id, SessionID: sessionID, ExpiresAt: c.ExpiresAt.UTC()}, err
}

// claims have no nbf: a token is good from its issue, also for a replica whose clock is behind that of the one that issued it.
func (s *Signer) claims(kind string, sessionID uuid.UUID, lifetime time.Duration) claims {
	now := s.now().Truncate(time.Second)
	return claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: issuer, Audience: jwt.ClaimStrings{audience},
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(lifetime)),
		},
		Kind: kind, SessionID: sessionID.String(),
	}
}

// ParseAccess reads an access token; ErrExpired when time is all that is wrong with it, else ErrInvalid.
func (s *Signer) ParseAccess(token string) (Access, error) {
	c, err := s.parse(token, kindAccess, s.access)
	if err != nil {
		return Access{}, err
	}
	a := Access{Role: c.Role, ExpiresAt: c.ExpiresAt.UTC()}
	var subjectErr, sessionErr error
	a.UserID, subjectErr = uuid.Parse(c.Subject)
	a.SessionID, sessionErr = uuid.Parse(c.SessionID)
	if subjectErr != nil || sessionErr != nil || !slices.Contains([]string{rpc.RoleAdmin, rpc.RoleUser, rpc.RoleAgent}, c.Role) {
		return Access{}, ErrInvalid
	}
	return a, s.inTime(c)
}

// ParseRefresh reads a refresh token; ErrExpired when time is all that is wrong with it, else ErrInvalid.
func (s *Signer) ParseRefresh(token string) (Refresh, error) {
	c, err := s.parse(token, kindRefresh, s.refresh)
	if err != nil {
		return Refresh{}, err
	}
	r := Refresh{ExpiresAt: c.ExpiresAt.UTC()}
	var idErr, sessionErr error
	r.ID, idErr = uuid.Parse(c.ID)
	r.SessionID, sessionErr = uuid.Parse(c.SessionID)
	if idErr != nil || sessionErr != nil {
		return Refresh{}, ErrInvalid
	}
	return r, s.inTime(c)
}

func (s *Signer) parse(token, kind string, key []byte) (claims, error) {
	var c claims
	if len(token) > MaxLength {
		return c, ErrInvalid
	}
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithStrictDecoding(),
		// The claims are checked below, expiry last: it alone has an answer of its own.
		jwt.WithoutClaimsValidation(),
	)
	_, err := parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return key, nil })
	if err != nil || c.Issuer != issuer || !slices.Contains(c.Audience, audience) || c.Kind != kind ||
		c.ExpiresAt == nil || c.NotBefore != nil && s.now().Before(c.NotBefore.Time) {
		return c, ErrInvalid
	}
	return c, nil
}

func (s *Signer) inTime(c claims) error {
	if !s.now().Before(c.ExpiresAt.Time) {
		return ErrExpired
	}
	return nil
}
