package runner

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
)

// Limits of payloads, in bytes.
const (
	// MaxInline is the largest payload that travels, and is held in memory, as it is. A larger one is stored in the ledger,
	// and a Reference stands for it.
	MaxInline = 128 << 10
	// MaxOutput is the largest output of a step, MaxInput the largest input. The inputs and the outputs of an execution have at most MaxOutput.
	MaxOutput = 64 << 20
	MaxInput  = 64 << 20
)

// TypeReference is the content type of a message whose body is a Reference instead of the payload.
const TypeReference = "application/vnd.turbocat.payload-reference"

// Reference names a payload of an execution by what it holds. It stands where else the payload's JSON does: "@", the hash in
// hex, "." and the size in decimal, which no JSON begins with.
type Reference struct {
	Hash [sha256.Size]byte // SHA-256
	Size int
}

const referenceMark = '@'

// ReferTo gives the reference to a payload.
func ReferTo(payload []byte) Reference { return Reference{sha256.Sum256(payload), len(payload)} }

// ReferenceOf tells whether payload is a reference instead of JSON, and gives it.
func ReferenceOf(payload []byte) (Reference, bool) {
	if len(payload) == 0 || payload[0] != referenceMark {
		return Reference{}, false
	}
	var r Reference
	hash, size, _ := bytes.Cut(payload[1:], []byte{'.'})
	n, err := hex.Decode(r.Hash[:], hash[:min(len(hash), 2*sha256.Size)])
	if err != nil || n != sha256.Size || len(hash) != 2*sha256.Size {
		return Reference{}, false
	}
	r.Size, err = strconv.Atoi(string(size))
	return r, err == nil && r.Size > 0 && r.Size <= MaxOutput
}

// Payload gives what stands for the payload.
func (r Reference) Payload() json.RawMessage {
	b := make([]byte, 0, 2*sha256.Size+12)
	b = append(b, referenceMark)
	b = hex.AppendEncode(b, r.Hash[:])
	b = append(b, '.')
	return strconv.AppendInt(b, int64(r.Size), 10)
}
