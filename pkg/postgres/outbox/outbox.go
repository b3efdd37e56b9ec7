// Package outbox carries messages out of a service's schema that were written in the transaction of what they tell: they are sent
// if and only if that is committed. A message stays in its row until its receiver says that it has committed what came of it,
// because the transport may lose everything that it has taken.
//
// The table is outbox (id, type, subject, request_id, body, created_at, tries, look_at) with an index on look_at.
package outbox

import (
	"context"
	"database/sql"

	"github.com/lib/pq"
)

// Message is a CloudEvent that waits to be sent.
type Message struct {
	ID        string // a UUID
	Type      string
	Subject   string
	RequestID string // "" for none
	Body      []byte // JSON
}

// Execer is a transaction.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Enqueue writes messages in the transaction of what they tell. None is sent unless that is committed.
func Enqueue(ctx context.Context, tx Execer, messages ...Message) error {
	if len(messages) == 0 {
		return nil
	}
	n := len(messages)
	ids, types, subjects, requests, bodies := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	for i, m := range messages {
		ids[i], types[i], subjects[i], requests[i], bodies[i] = m.ID, m.Type, m.Subject, m.RequestID, string(m.Body)
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO outbox (id, type, subject, request_id, body)
		SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])`,
		pq.Array(ids), pq.Array(types), pq.Array(subjects), pq.Array(requests), pq.Array(bodies))
	return err
}
