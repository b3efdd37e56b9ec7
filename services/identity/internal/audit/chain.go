// Package audit keeps the audit trail: a chain of entries, each with the hash of itself and of the one before it, so that none
// can be changed, taken out, put in or moved without being found.
package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"turbocat.io/contracts/audit"
)

// Head is the end of a chain: its last entry's number and hash.
type Head struct {
	Seq  int64
	Hash Hash
}

// String gives the form in which an anchor is written.
func (h Head) String() string { return fmt.Sprintf("%d:%s", h.Seq, h.Hash) }

// ParseHead reads what String gives, of an entry.
func ParseHead(s string) (Head, error) {
	digits, hex, _ := strings.Cut(s, ":")
	seq, err := strconv.ParseInt(digits, 10, 64)
	hash, unread := ParseHash(hex)
	if err != nil || unread != nil || seq < 1 {
		return Head{}, fmt.Errorf("%q is not of the form 128:5f1c..., the number and the hash of an entry", s)
	}
	return Head{seq, hash}, nil
}

// Hash is the SHA-256 of the hash before it and of an entry. That before the first is all zeros.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// ParseHash reads what String gives.
func ParseHash(s string) (h Hash, err error) {
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != len(h) {
		return h, fmt.Errorf("%q is no hash of 64 hexadecimal digits", s)
	}
	return Hash(raw), nil
}

// After gives the entry's number and hash as the next one of a chain that ends with h.
func After(h Head, e audit.TrailEntry) (Head, error) {
	e.Seq, e.Hash = h.Seq+1, ""
	hash, err := hashOf(h.Hash, e)
	return Head{e.Seq, hash}, err
}

// hashOf gives the hash of an entry that has its number.
func hashOf(before Hash, e audit.TrailEntry) (Hash, error) {
	e.Hash = ""
	var b bytes.Buffer
	b.Write(before[:])
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(e); err != nil {
		return Hash{}, fmt.Errorf("encode entry %s: %w", e.ID, err)
	}
	return sha256.Sum256(bytes.TrimSuffix(b.Bytes(), []byte{'\n'})), nil
}

// maxText bounds each text of an entry, in bytes; who records keeps to less.
const maxText = 1024

// Clean gives an entry as the chain can have it, the same before it is stored and after it is read. The error says why there can be none.
func Clean(e audit.TrailEntry) (audit.TrailEntry, error) {
	id, err := uuid.Parse(e.ID)
	if err != nil {
		return e, fmt.Errorf("the id %q is no UUID", e.ID)
	}
	if e.Time.IsZero() || e.Time.Year() > 9999 {
		return e, fmt.Errorf("the time of entry %s is missing", id)
	}
	e.ID, e.Time, e.Seq, e.Hash = id.String(), e.Time.UTC().Truncate(1000), 0, ""
	for _, s := range []*string{
		&e.Actor.UserID, &e.Actor.Role, &e.Actor.Via, &e.Actor.SessionID, &e.Actor.APIKeyID, (*string)(&e.Action), &e.Outcome,
		&e.ResourceType, &e.ResourceID, &e.OwnerID, &e.IP, &e.UserAgent, &e.RequestID,
	} {
		*s = storable(*s)
	}
	changes, err := json.Marshal(e.Changes)
	if err != nil {
		return e, fmt.Errorf("the changes of entry %s do not encode: %w", id, err)
	}
	e.Changes = nil
	return e, json.Unmarshal([]byte(strings.ToValidUTF8(string(changes), "\uFFFD")), &e.Changes)
}

func storable(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return strings.ReplaceAll(s, "\x00", "")
}
