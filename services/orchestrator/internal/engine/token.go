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
func (k Keys) token(executionID, step string, iteration, attempt int) string {
	sum := keyed(k.Secret, "token", named(iteration, executionID, step, strconv.Itoa(attempt), strconv.FormatInt(k.Generation, 10))...)
	return hex.EncodeToString(sum[:16])
}

// IdempotencyKey is the same over all attempts of a step or of one of its items, and different for every other.
func IdempotencyKey(secret []byte, executionID, step string, iteration int) string {
	sum := keyed(secret, "idempotency", named(iteration, executionID, step)...)
	return hex.EncodeToString(sum[:16])
}

// named gives the parts of a name, and the item's when it is of one.
func named(iteration int, parts ...string) []string {
	if iteration > 0 {
		parts = append(parts, "item", strconv.Itoa(iteration))
	}
	return parts
}

// EventID is the UUIDv7 of an event: the same however often the event is published.
func EventID(secret []byte, executionID string, seq uint64, t Time) string {
	return timed(keyed(secret, "event", executionID, strconv.FormatUint(seq, 10)), t)
}

// childID names the execution that an attempt is.
func (k Keys) childID(token string, t Time) string {
	return timed(keyed(k.Secret, "child", token), t)
}

// timed makes a UUIDv7 of a hash and a time.
func timed(sum []byte, t Time) string {
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
func (k Keys) jitter(delayMs int64, executionID, step string, iteration, attempt int) int64 {
	sum := keyed(k.Secret, "jitter", named(iteration, executionID, step, strconv.Itoa(attempt))...)
	share := int64(binary.BigEndian.Uint32(sum[:4]) % 401) // 0..400 of 1000
	return delayMs * (800 + share) / 1000
}

func keyed(secret []byte, purpose string, parts ...string) []byte {
	mac := hmac.New(sha256.New, secret)
	for _, p := range append([]string{purpose}, parts...) {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(p)))
		mac.Write(n[:])
		mac.Write([]byte(p))
	}
	return mac.Sum(nil)
}
