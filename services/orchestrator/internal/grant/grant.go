// Package grant signs what lets a runner have the secrets of an attempt; see contracts/identity.
package grant

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"turbocat.io/contracts/identity"
)

// Lifetime is how long a grant is good for: longer than a step usually waits for a runner, even between clocks that differ by
// many minutes. A runner that comes later asks for another.
const Lifetime = time.Hour

// Signer signs grants. The key is derived from the engine's secret, so that all orchestrators of an installation sign alike, with
// nothing more to keep. It is safe for concurrent use.
type Signer struct{ key ed25519.PrivateKey }

// NewSigner makes a signer of the engine's secret.
func NewSigner(secret []byte) (*Signer, error) {
	seed, err := hkdf.Key(sha256.New, secret, nil, "turbocat secret grants", ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("derive the key of grants: %w", err)
	}
	return &Signer{ed25519.NewKeyFromSeed(seed)}, nil
}

// PublicKey verifies what the signer signs.
func (s *Signer) PublicKey() []byte { return s.key.Public().(ed25519.PublicKey) }

// Sign gives a grant of secrets of a user to the runner of an attempt of the execution.
func (s *Signer) Sign(userID, executionID string, names []string, now time.Time) (string, error) {
	token, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"aud": identity.GrantAudience, "sub": userID, "exp": now.Add(Lifetime).Unix(),
		identity.GrantClaimExecution: executionID, identity.GrantClaimNames: names,
	}).SignedString(s.key)
	if err != nil {
		return "", fmt.Errorf("sign a grant: %w", err)
	}
	return token, nil
}

// Within gives the body of a ready step, a runner.StepBody, with a grant in it.
func Within(body []byte, grant string) []byte {
	out := make([]byte, 0, len(body)+len(grant)+len(`,"grant":""`))
	out = append(out, body[:len(body)-1]...)
	out = append(out, `,"grant":`...)
	return append(strconv.AppendQuote(out, grant), '}')
}
