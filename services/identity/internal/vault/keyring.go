package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ErrUnknownKey says that a value is sealed under a key that was not given.
var ErrUnknownKey = errors.New("the key it is sealed under is not given")

// Sealed is a value that only who has the key can read, and which key that is.
type Sealed struct {
	KeyID string
	Bytes []byte // nonce and ciphertext
}

// place is what a value is bound to: moved to another it does not open.
type place struct {
	owner   string
	name    string
	version int
}

// Keyring seals under one key and opens what was sealed under any of several. It is safe for concurrent use.
type Keyring struct {
	current string
	keys    map[string]cipher.AEAD // by their id
}

// NewKeyring makes a keyring of texts, each random and of at least 32 bytes: the current one, and those from before.
func NewKeyring(current string, old []string) (*Keyring, error) {
	k := &Keyring{keys: map[string]cipher.AEAD{}}
	for _, text := range append(old, current) {
		id, aead, err := derive(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		k.current, k.keys[id] = id, aead
	}
	return k, nil
}

// derive makes an AES-256 key of a text, and a name for it that tells nothing of it.
func derive(text string) (string, cipher.AEAD, error) {
	part := func(purpose string, length int) ([]byte, error) {
		return hkdf.Key(sha256.New, []byte(text), nil, "turbocat secrets "+purpose, length)
	}
	id, err := part("key id", 8)
	if err != nil {
		return "", nil, err
	}
	key, err := part("AES-256-GCM", 32)
	if err != nil {
		return "", nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return hex.EncodeToString(id), aead, err
}

// Current is the id of the key that is sealed under.
func (k *Keyring) Current() string { return k.current }

// seal seals a value for a place.
func (k *Keyring) seal(at place, value string) Sealed {
	return Sealed{k.current, k.keys[k.current].Seal(nil, nil, []byte(value), at.bound(k.current))}
}

// open gives the value of a place, or an error that tells nothing of it; ErrUnknownKey when its key is not here.
func (k *Keyring) open(at place, s Sealed) (string, error) {
	aead, known := k.keys[s.KeyID]
	if !known {
		return "", fmt.Errorf("%w: its id is %.40q", ErrUnknownKey, s.KeyID)
	}
	value, err := aead.Open(nil, nil, s.Bytes, at.bound(s.KeyID))
	if err != nil {
		return "", errors.New("it does not open: it was changed, or belongs to another owner, name or version")
	}
	return string(value), nil
}

// bound is the additional data of a place, in which no part runs into the next.
func (at place) bound(keyID string) []byte {
	b := []byte("turbocat secret 1")
	for _, part := range []string{keyID, at.owner, at.name} {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(part))), part...)
	}
	return binary.BigEndian.AppendUint64(b, uint64(at.version))
}
