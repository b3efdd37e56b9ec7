// Package seal keeps texts in a database so that only who has the installation's key can read them: each under AES-256-GCM, by a key
// for its purpose that is made of the installation's, and bound to its place, so that it does not open anywhere else.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrUnknownKey says that a value is sealed under a key that was not given.
var ErrUnknownKey = errors.New("the key it is sealed under is not given")

// Sealed is a value that only who has the key can read, and which key that is.
type Sealed struct {
	KeyID string
	Bytes []byte // nonce and ciphertext
}

// Place is what a value is bound to: moved to another it does not open.
type Place struct {
	Owner   string
	Name    string
	Version int
}

// Keys are the keys of an installation, as services read them from the environment.
type Keys struct {
	Current string   `env:"ENCRYPTION_KEY"`
	Old     []string `env:"TURBOCAT_OLD_ENCRYPTION_KEYS"` // what is still sealed under one of them is read
}

// MinKey is the length of a key in bytes: that of the SHA-256 it feeds.
const MinKey = 32

// Check tells everything that is wrong with the keys, by the names of their variables; nil when nothing is.
func (k Keys) Check() error {
	problems := []error{CheckKey("ENCRYPTION_KEY", k.Current)}
	for _, old := range k.Old {
		problems = append(problems, CheckKey("a key of TURBOCAT_OLD_ENCRYPTION_KEYS", old))
	}
	return errors.Join(problems...)
}

// CheckKey tells what is wrong with a key that a variable of a name has.
func CheckKey(name, value string) error {
	switch n := len(strings.TrimSpace(value)); {
	case n == 0:
		return fmt.Errorf("%s is not set; set it to a random text of at least %d bytes, like the output of `openssl rand -hex 32`", name, MinKey)
	case n < MinKey:
		return fmt.Errorf("%s has %d bytes; set it to a random text of at least %d bytes, like the output of `openssl rand -hex 32`", name, n, MinKey)
	}
	return nil
}

// Keyring seals under one key and opens what was sealed under any of several. It is safe for concurrent use.
type Keyring struct {
	current string
	keys    map[string]cipher.AEAD // by their id
}

// NewKeyring makes the keyring for a purpose, like "secrets", of keys that Check finds nothing wrong with.
func NewKeyring(purpose string, keys Keys) (*Keyring, error) {
	k := &Keyring{keys: map[string]cipher.AEAD{}}
	for _, text := range append(slices.Clone(keys.Old), keys.Current) {
		id, aead, err := derive(purpose, strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		k.current, k.keys[id] = id, aead
	}
	return k, nil
}

// derive makes an AES-256 key for a purpose of a text, and a name for it that tells nothing of it.
func derive(purpose, text string) (string, cipher.AEAD, error) {
	part := func(use string, length int) ([]byte, error) {
		return hkdf.Key(sha256.New, []byte(text), nil, "turbocat "+purpose+" "+use, length)
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

// Seal seals a value for a place.
func (k *Keyring) Seal(at Place, value string) Sealed {
	return Sealed{k.current, k.keys[k.current].Seal(nil, nil, []byte(value), at.bound(k.current))}
}

// Open gives the value of a place, or an error that tells nothing of it; ErrUnknownKey when its key is not here.
func (k *Keyring) Open(at Place, s Sealed) (string, error) {
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
func (at Place) bound(keyID string) []byte {
	b := []byte("turbocat secret 1")
	for _, part := range []string{keyID, at.Owner, at.Name} {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(part))), part...)
	}
	return binary.BigEndian.AppendUint64(b, uint64(at.Version))
}
