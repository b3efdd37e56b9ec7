package vault

import (
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hpke"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
)

// FetchKey asks the orchestrator for the key that verifies its grants.
type FetchKey func(context.Context) ([]byte, error)

// fetchAgain is the pause between two questions for the key, lest what bears no signature has us ask all the time.
const fetchAgain = 5 * time.Second

// grantKey is the key of grants, as it was found last. It is safe for concurrent use.
type grantKey struct {
	fetch FetchKey
	now   func() time.Time

	mu    sync.Mutex
	key   ed25519.PublicKey
	asked time.Time
}

// get gives the key; afresh, when the one that is known does not fit and it was not asked for just now.
func (g *grantKey) get(ctx context.Context, afresh bool) (ed25519.PublicKey, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.key != nil && (!afresh || g.now().Sub(g.asked) < fetchAgain) {
		return g.key, nil
	}
	key, err := g.fetch(ctx)
	if err != nil {
		return nil, err
	}
	if len(key) != ed25519.PublicKeySize {
		return nil, errors.New("the key of grants is none")
	}
	g.key, g.asked = key, g.now()
	return g.key, nil
}

// claims of a grant.
type claims struct {
	jwt.RegisteredClaims
	Execution string   `json:"execution"`
	Names     []string `json:"names"`
}

// granted reads a grant; FORBIDDEN when it is none, or its time is over.
func (v *Vault) granted(ctx context.Context, grant string) (claims, error) {
	var c claims
	for _, afresh := range []bool{false, true} {
		key, err := v.grants.get(ctx, afresh)
		if err != nil {
			return c, errs.Wrap(err, errs.DependencyUnavailable, "the key of grants is not known yet; try again")
		}
		c = claims{}
		_, err = jwt.ParseWithClaims(grant, &c, func(*jwt.Token) (any, error) { return key, nil },
			jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithAudience(identity.GrantAudience),
			jwt.WithExpirationRequired(), jwt.WithTimeFunc(v.now))
		switch {
		case err == nil && c.Subject != "" && len(c.Names) > 0:
			return c, nil
		case !errors.Is(err, jwt.ErrTokenSignatureInvalid):
			return c, errs.New(errs.Forbidden, "the grant is not valid, or its time is over; ask for another")
		}
	}
	return c, errs.New(errs.Forbidden, "the grant is not signed by the orchestrator")
}

// Open gives the secrets of a grant, sealed to the X25519 key of who asks.
func (v *Vault) Open(ctx context.Context, grant string, publicKey []byte) (identity.OpenSecretsResponse, error) {
	var none identity.OpenSecretsResponse
	c, err := v.granted(ctx, grant)
	if err != nil {
		return none, err
	}
	recipient, err := recipientOf(publicKey)
	if err != nil {
		return none, errs.New(errs.Validation, "the public key is no X25519 key")
	}
	rows, err := v.store.Named(ctx, c.Subject, c.Names)
	if err != nil {
		return none, err
	}
	values := make(map[string]string, len(rows))
	for _, r := range rows {
		value, err := v.keys.Open(r.place(), r.Sealed)
		if err != nil {
			// Somebody has to give the key, or the row back; the attempt waits for that as long as it may.
			return none, errs.Wrap(err, errs.DependencyUnavailable, "the secret %s does not open; see the log of identity", r.Name)
		}
		values[r.Name] = value
	}
	var missing []string
	for _, name := range c.Names {
		if _, found := values[name]; !found && !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
	}
	text, err := json.Marshal(values)
	if err != nil {
		return none, err
	}
	sealed, err := hpke.Seal(recipient, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(identity.SealInfo), text)
	if err != nil {
		return none, err
	}
	return identity.OpenSecretsResponse{Sealed: sealed, Missing: missing}, nil
}

func recipientOf(publicKey []byte) (hpke.PublicKey, error) {
	key, err := ecdh.X25519().NewPublicKey(publicKey)
	if err != nil {
		return nil, err
	}
	return hpke.NewDHKEMPublicKey(key)
}
