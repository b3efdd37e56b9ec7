// Package once makes requests that create something safe to repeat: what is created, and the answer under the client's
// Idempotency-Key, are committed together, so that there is neither one without the other whichever process dies.
//
// The table is idempotent_answers (user_id, route, key, body_hash, answer, created_at).
package once

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/postgres"
)

const (
	// maxKey bounds an Idempotency-Key, in bytes.
	maxKey = 255
	// keepEvery is how often answers that are over are deleted, and atOnce how many at a time.
	keepEvery = time.Hour
	atOnce    = 1000
)

// claim is what a request would have its answer kept under.
type claim struct {
	userID, route, key string
	hash               []byte
}

type claimKey struct{}

// errDone says that another request with the key was first.
var errDone = errors.New("the Idempotency-Key has its answer")

// Answers keeps the answers of a schema.
type Answers struct{ db *sqlx.DB }

// New makes Answers over a service's schema.
func New(db *sqlx.DB) *Answers { return &Answers{db} }

// Do gives the first answer to a request for 24 h, when its caller has an Idempotency-Key, and CONFLICT when the key came with another
// request of the route. fn creates, and keeps its answer by Keep in the transaction of that; what fails is not kept, and may be tried again.
// The answer is kept as it is: of one that has a secret, fn keeps what may stand in the table.
func Do[Req, Resp any](a *Answers, route string, fn func(ctx context.Context, caller rpc.Caller, req Req) (Resp, error)) func(context.Context, rpc.Caller, Req) (Resp, error) {
	return func(ctx context.Context, caller rpc.Caller, req Req) (Resp, error) {
		var none Resp
		if caller.IdempotencyKey == "" || caller.UserID == "" {
			return fn(ctx, caller, req)
		}
		if !printable(caller.IdempotencyKey) {
			return none, errs.Invalid("request", []errs.Detail{{
				Field: "Idempotency-Key", Message: "must be at most " + strconv.Itoa(maxKey) + " printable characters", Code: errs.BadValue,
			}})
		}
		body, err := json.Marshal(req)
		if err != nil {
			return none, err
		}
		sum := sha256.Sum256(body)
		c := claim{userID: caller.UserID, route: route, key: caller.IdempotencyKey, hash: sum[:]}
		var first Resp
		if found, err := a.answer(ctx, c, &first); found || err != nil {
			return first, err
		}
		answer, err := fn(context.WithValue(ctx, claimKey{}, c), caller, req)
		if err == nil {
			return answer, nil
		}
		// What fails may do so because another request with the key was first, and has taken the last place or the name.
		found, unread := a.answer(ctx, c, &first)
		switch {
		case found, errs.CodeOf(unread) == errs.Conflict:
			return first, unread
		case !errors.Is(err, errDone):
			return none, err
		case unread == nil: // it was deleted within the moment
			unread = errs.New(errs.Conflict, "the Idempotency-Key was used 24 hours ago; use a new key")
		}
		return none, unread
	}
}

// Shown is Do for answers with something that is shown once, like a secret: fn keeps its answer without that, and missing says of an answer
// that lacks it what to do instead; nil of one that has it.
func Shown[Req, Resp any](a *Answers, route string, fn func(context.Context, rpc.Caller, Req) (Resp, error), missing func(Resp) error) func(context.Context, rpc.Caller, Req) (Resp, error) {
	fn = Do(a, route, fn)
	return func(ctx context.Context, caller rpc.Caller, req Req) (Resp, error) {
		answer, err := fn(ctx, caller, req)
		if err == nil {
			err = missing(answer)
		}
		return answer, err
	}
}

func printable(key string) bool {
	for i := range len(key) {
		if key[i] < 0x20 || key[i] > 0x7e {
			return false
		}
	}
	return len(key) <= maxKey
}

// answer reads the answer that is kept; false when there is none.
func (a *Answers) answer(ctx context.Context, c claim, into any) (bool, error) {
	var row struct {
		Hash   []byte `db:"body_hash"`
		Answer string `db:"answer"`
	}
	err := a.db.GetContext(ctx, &row, `SELECT body_hash, answer FROM idempotent_answers
		WHERE user_id = $1 AND route = $2 AND key = $3 AND created_at >= now() - interval '24 hours'`, c.userID, c.route, c.key)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, postgres.Translate(err)
	case string(row.Hash) != string(c.hash):
		return false, errs.New(errs.Conflict, "the Idempotency-Key was used for another request within 24 hours; use a new key")
	}
	return true, json.Unmarshal([]byte(row.Answer), into)
}

// Keep keeps the answer of the request that ctx is of, in the transaction of what it creates. It does nothing for a request without a key;
// its error ends the transaction when another request was first, which is waited for.
func Keep(ctx context.Context, tx *sqlx.Tx, answer any) error {
	c, keyed := ctx.Value(claimKey{}).(claim)
	if !keyed {
		return nil
	}
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // what clients wrote comes back as they wrote it
	if err := encoder.Encode(answer); err != nil {
		return err
	}
	var claimed bool
	err := tx.GetContext(ctx, &claimed, `INSERT INTO idempotent_answers (user_id, route, key, body_hash, answer) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (user_id, route, key) DO UPDATE SET body_hash = excluded.body_hash, answer = excluded.answer, created_at = now()
		WHERE idempotent_answers.created_at < now() - interval '24 hours' RETURNING true`, c.userID, c.route, c.key, c.hash, body.String())
	if errors.Is(err, sql.ErrNoRows) {
		return errDone
	}
	return err
}

// Run deletes answers that are over until ctx ends.
func (a *Answers) Run(ctx context.Context, log zerolog.Logger) {
	for {
		wait := keepEvery
		n, err := a.Sweep(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			log.Warn().Err(err).Msg("old idempotency keys are not deleted; trying again in an hour")
		case n == atOnce:
			wait = 0
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// Sweep deletes a bounded number of answers that are over, an hour late so that no request sees one go, and tells how many.
func (a *Answers) Sweep(ctx context.Context) (int64, error) {
	result, err := a.db.ExecContext(ctx, `DELETE FROM idempotent_answers WHERE ctid = ANY(ARRAY(
		SELECT ctid FROM idempotent_answers WHERE created_at < now() - interval '25 hours' LIMIT $1))`, atOnce)
	if err != nil {
		return 0, postgres.Translate(err)
	}
	return result.RowsAffected()
}
