package natsapi

import (
	"context"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"encoding/json"
	"fmt"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/runner/internal/work"
)

// Vault asks identity for secrets, sealed to a key that nobody else has and that is made for each question. It implements work.Vault.
type Vault struct{ conn *bus.Conn }

// NewVault makes a Vault over a connection.
func NewVault(conn *bus.Conn) *Vault { return &Vault{conn} }

// Open implements work.Vault.
func (v *Vault) Open(ctx context.Context, s *work.Step, grant string) (map[string]string, []string, error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key for secrets: %w", err)
	}
	resp, err := ask(ctx, v.conn, identity.OpenSecrets, s, bus.DefaultTimeout, identity.OpenSecretsRequest{Grant: grant, PublicKey: key.PublicKey().Bytes()})
	switch {
	case errs.CodeOf(err) == errs.Forbidden:
		return nil, nil, work.ErrGrantOver
	case err != nil:
		return nil, nil, err
	}
	private, err := hpke.NewDHKEMPrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("use the key for secrets: %w", err)
	}
	text, err := hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(identity.SealInfo), resp.Sealed)
	if err != nil {
		return nil, nil, fmt.Errorf("open sealed secrets: %w", err)
	}
	var values map[string]string
	if err := json.Unmarshal(text, &values); err != nil {
		return nil, nil, fmt.Errorf("read opened secrets: they are no JSON object of %d bytes", len(text)) // its text is not for any log
	}
	return values, resp.Missing, nil
}
