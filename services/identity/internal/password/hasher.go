package password

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/crypto/bcrypt"

	"turbocat.io/contracts/errs"
)

// Hasher makes and compares bcrypt hashes. It is safe for concurrent use and never works on
// so many at once that nothing else gets a processor.
type Hasher struct {
	cost  int
	dummy []byte
	slots chan struct{}
}

// NewHasher makes a hasher with a bcrypt cost.
func NewHasher(cost int) *Hasher {
	return &Hasher{
		cost: cost,
		// Well-formed, so that comparing with it costs what a true comparison does.
		dummy: fmt.Appendf(nil, "$2a$%02d$%s", cost, strings.Repeat("a", 53)),
		slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-1)),
	}
}

// Hash gives the hash to store.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	if err := h.acquire(ctx); err != nil {
		return "", err
	}
	defer h.release()
	hash, err := bcrypt.GenerateFromPassword(digest(password), h.cost)
	if err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	return string(hash), nil
}

// Matches tells whether hash was made of password. An empty hash matches nothing and takes as long to tell.
func (h *Hasher) Matches(ctx context.Context, hash, password string) (bool, error) {
	if err := h.acquire(ctx); err != nil {
		return false, err
	}
	defer h.release()
	if hash == "" {
		_ = bcrypt.CompareHashAndPassword(h.dummy, digest(password))
		return false, nil
	}
	err := bcrypt.CompareHashAndPassword([]byte(hash), digest(password))
	if err != nil && !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		return false, fmt.Errorf("compare a password: %w", err)
	}
	return err == nil, nil
}

// digest fits every password, whatever its length, into bcrypt's 72 bytes. Hashing the short
// ones too keeps the digest of a long one from being a password itself, and the prefix keeps
// it from being looked up among SHA-256 digests that leaked elsewhere.
func digest(password string) []byte {
	sum := sha256.Sum256([]byte("turbocat password v1\x00" + password))
	return []byte(base64.RawStdEncoding.EncodeToString(sum[:]))
}

func (h *Hasher) acquire(ctx context.Context) error {
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errs.Wrap(ctx.Err(), errs.DependencyUnavailable, "too many people log in at this moment; try again shortly")
	}
}

func (h *Hasher) release() { <-h.slots }
