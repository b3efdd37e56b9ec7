// Package apikey holds the rules of API keys: what their text is, who may make them, for whom and for what, and which are good.
package apikey

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/identity"
	"turbocat.io/pkg/form"
	"turbocat.io/services/identity/internal/account"
)

// ID names a key.
type ID struct{ uuid.UUID }

// Key is an API key. It acts as its owner, within its scopes.
type Key struct {
	ID                 ID
	UserID             account.UserID
	Name               string
	Prefix             string // unique
	Digest             []byte
	PreviousDigest     []byte     // of the secret before the last rotation
	PreviousUntil      *time.Time // when that ends to work
	Scopes             []string
	RateLimitPerMinute *int
	ExpiresAt          *time.Time
	LastUsedAt         *time.Time
	CreatedAt          time.Time
	UpdatedAt          time.Time
	RevokedAt          *time.Time
}

const (
	marker = "tc_live_"
	// maxText bounds what is looked at as a key.
	maxText     = 128
	prefixBytes = 10
	secretBytes = 32
)

var alphabet = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// newPrefix gives the public part of a new key: 80 random bits, so that none is made twice.
func newPrefix() string { return random(prefixBytes) }

// newText gives a key of a prefix, with a new secret.
func newText(prefix string) string { return marker + prefix + "_" + random(secretBytes) }

func random(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // it never fails
	return alphabet.EncodeToString(b)
}

// prefixOf gives the public part of a text that has the form of a key.
func prefixOf(text string) (string, bool) {
	rest, ok := strings.CutPrefix(text, marker)
	prefix, secret, both := strings.Cut(rest, "_")
	if !ok || !both || len(text) > maxText || len(prefix) != alphabet.EncodedLen(prefixBytes) || len(secret) != alphabet.EncodedLen(secretBytes) {
		return "", false
	}
	foreign := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '2' || r > '7') }
	return prefix, !strings.ContainsFunc(prefix+secret, foreign)
}

func digest(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

// Why a key does not open.
const (
	refusedSecret   = "wrong_secret"
	refusedRevoked  = "revoked"
	refusedExpired  = "expired"
	refusedInactive = "inactive_account"
)

// opens tells until when a text opens what the key does, nil for no end, or why it does not. The time it takes tells nothing about the secret.
func (k Key) opens(text string, now time.Time) (until *time.Time, refusal string) {
	given := digest(text)
	current := subtle.ConstantTimeCompare(given, k.Digest) == 1
	previous := subtle.ConstantTimeCompare(given, k.PreviousDigest) == 1 && k.PreviousUntil != nil && now.Before(*k.PreviousUntil)
	switch {
	case !current && !previous:
		return nil, refusedSecret
	case k.RevokedAt != nil:
		return nil, refusedRevoked
	case k.ExpiresAt != nil && !now.Before(*k.ExpiresAt):
		return nil, refusedExpired
	}
	until = k.ExpiresAt
	if !current && (until == nil || k.PreviousUntil.Before(*until)) {
		until = k.PreviousUntil
	}
	return until, ""
}

// rotate gives the key a new secret; the old one works until the overlap is over.
func (k *Key) rotate(text string, overlap time.Duration, now time.Time) {
	k.PreviousDigest, k.PreviousUntil = nil, nil
	if overlap > 0 {
		until := now.Add(overlap)
		k.PreviousDigest, k.PreviousUntil = k.Digest, &until
	}
	k.Digest, k.UpdatedAt = digest(text), now
}

const (
	maxName      = 100
	maxPerMinute = 600_000
	// MaxKeys is how many keys a user may have that are not revoked.
	MaxKeys = 100
	// maxOverlap is how long a rotated secret may work on.
	maxOverlap = 7 * 24 * time.Hour
)

// readOnly are the fields of a key that a client may send back but not change.
var readOnly = []string{"id", "prefix", "lastUsedAt", "createdAt", "updatedAt", "revokedAt"}

// parse reads the body that makes a key, or changes it, into k. owner is the userId of a new key; "" when none is given.
func (k *Key) parse(body json.RawMessage, create bool, now time.Time) (owner string, err error) {
	var faults form.Faults
	o, ok := form.Read(body, &faults)
	if !ok {
		return "", faults.Err("API key")
	}
	o.Require(create, "name", "scopes")
	o.String("name", &k.Name, "", 1, maxName)
	if strings.TrimSpace(k.Name) != k.Name {
		faults.Add("name", errs.BadValue, "begins or ends with space; remove it")
	}
	k.parseScopes(o, &faults)
	o.Time("expiresAt", &k.ExpiresAt)
	if o.Has("expiresAt") && k.ExpiresAt != nil && !k.ExpiresAt.After(now) {
		faults.Add("expiresAt", errs.OutOfRange, "is in the past; give a time to come, or null for no end")
	}
	perMinute := int64(0)
	o.Int("rateLimitPerMinute", &perMinute, 0, 1, maxPerMinute)
	if o.Has("rateLimitPerMinute") {
		k.RateLimitPerMinute = nil
		if perMinute != 0 {
			n := int(perMinute)
			k.RateLimitPerMinute = &n
		}
	}
	o.Only(append([]string{"name", "scopes", "expiresAt", "rateLimitPerMinute", "userId"}, readOnly...)...)
	if create { // the owner of a key never changes
		o.String("userId", &owner, "", 36, 36)
	}
	return owner, faults.Err("API key")
}

func (k *Key) parseScopes(o form.Object, faults *form.Faults) {
	const most = 100
	var scopes []string // nil when none that can be read are given
	if o.Strings("scopes", &scopes, most, 1, 64); scopes == nil || o.IsNull("scopes") {
		return
	}
	known := contract.ScopeNames()
	allowed := strings.Join(known, ", ")
	if len(scopes) == 0 {
		faults.Add("scopes", errs.Required, "is empty; give some of %s", allowed)
	}
	for _, scope := range scopes {
		if !slices.Contains(known, scope) {
			faults.Add("scopes", errs.BadEnum, "has %s, which is no scope; give some of %s", form.Quote(scope), allowed)
		}
	}
	slices.Sort(scopes)
	k.Scopes = slices.Compact(scopes)
}
