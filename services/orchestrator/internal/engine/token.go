package engine

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"

	"github.com/google/uuid"
)

// Token names an attempt: who does not know the secret can not guess it, and the same
// attempt made ready again after a crash has the same.
func (k Keys) token(executionID, step string, attempt int) string {
	sum := keyed(k.Secret, "token", executionID, step, strconv.Itoa(attempt), strconv.FormatInt(k.Generation, 10))
	return hex.EncodeToString(sum[:16])
}

// IdempotencyKey is the same over all attempts of a step, and different for every step and execution.
func IdempotencyKey(secret []byte, executionID, step string) string {
	sum := keyed(secret, "idempotency", executionID, step)
	return hex.EncodeToString(sum[:16])
}

// EventID is the UUIDv7 of an event: the same however often the event is published.
func EventID(secret []byte, executionID string, seq uint64, t Time) string {
	sum := keyed(secret, "event", executionID, strconv.FormatUint(seq, 10))
	var id uuid.UUID
	copy(id[:], sum[:16])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(t/1000))
	copy(id[:6], ms[2:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}

// jitter spreads delayMs by up to 20 % either way, always the same for the same attempt.
func (k Keys) jitter(delayMs int64, executionID, step string, attempt int) int64 {
	sum := keyed(k.Secret, "jitter", executionID, step, strconv.Itoa(attempt))
	share := int64(binary.BigEndian.Uint32(sum[:4]) % 401) // 0..400 of 1000
	return delayMs * (800 + share) / 1000
}

func keyed(secret []byte, parts ...string) []byte {
	mac := hmac.New(sha256.New, secret)
	for _, p := range parts {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(p)))
		mac.Write(n[:])
		mac.Write([]byte(p))
	}
	return mac.Sum(nil)
}
