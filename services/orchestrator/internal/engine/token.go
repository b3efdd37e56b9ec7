package engine

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"

	"github.com/google/uuid"

	"turbocat.io/contracts/subject"
)

// Token names an attempt: who does not know the secret can not guess it, and the same
// attempt made ready again after a crash has the same.
func (k Keys) token(executionID, step string, iteration, attempt int) string {
	sum := k.sum("token", named(iteration, executionID, step, strconv.Itoa(attempt), strconv.FormatInt(k.Generation, 10))...)
	return hex.EncodeToString(sum[:16])
}

// IdempotencyKey is the same over all attempts of a step or of one of its items, and different for every other.
func (k Keys) IdempotencyKey(executionID, step string, iteration int) string {
	sum := k.sum("idempotency", named(iteration, executionID, step)...)
	return hex.EncodeToString(sum[:16])
}

// IdempotencyKey is that of a task of the execution. A compensation that is run again has those it had: who has undone
// something knows it.
func (x *Execution) IdempotencyKey(k Keys, p Place) string {
	key := x.Definition.Steps[p.Step].Key
	if x.CompensationOf == "" {
		return k.IdempotencyKey(x.ID, key, p.Iteration)
	}
	sum := k.sum("compensation step", x.CompensationOf, key)
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
func (k Keys) EventID(executionID string, seq uint64, t Time) string {
	return timed(k.sum("event", executionID, strconv.FormatUint(seq, 10)), t)
}

// childID names the execution that an attempt is.
func (k Keys) childID(token string, t Time) string {
	return timed(k.sum("child", token), t)
}

// compensationID names the execution that undoes the steps of another, which ended at t. It is one of the same partition: who
// commits the one then has the other.
func (k Keys) compensationID(executionID string, p int, t Time) string {
	for n := 0; ; n++ {
		id := timed(k.sum("compensation", executionID, strconv.Itoa(n)), t)
		if subject.PartitionOf(id) == p {
			return id
		}
	}
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
	sum := k.sum("jitter", named(iteration, executionID, step, strconv.Itoa(attempt))...)
	share := int64(binary.BigEndian.Uint32(sum[:4]) % 401) // 0..400 of 1000
	return delayMs * (800 + share) / 1000
}

// sum is the HMAC-SHA256 of parts, none of which runs into the next.
func (k Keys) sum(purpose string, parts ...string) []byte {
	mac := k.mac
	if mac == nil {
		mac = hmac.New(sha256.New, k.Secret)
	}
	mac.Reset()
	b := appendPart(make([]byte, 0, 128), purpose)
	for _, p := range parts {
		b = appendPart(b, p)
	}
	mac.Write(b)
	return mac.Sum(b[:0])
}

func appendPart(b []byte, part string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(part))), part...)
}
