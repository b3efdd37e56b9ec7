package once_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/once"
	"turbocat.io/pkg/postgres/pgtest"
)

type asked struct{ Name string }

type made struct{ ID, Name string }

// maker makes rows of a table.
type maker struct {
	t       *testing.T
	db      *sqlx.DB
	answers *once.Answers
	tries   atomic.Int32
	fail    error // after everything is done, before the commit
}

func newMaker(t *testing.T) *maker {
	t.Parallel()
	db := pgtest.New(t, "catalog", os.DirFS("../../../migrations/catalog"))
	if _, err := db.Exec(`CREATE TABLE made (id text PRIMARY KEY, name text NOT NULL)`); err != nil {
		t.Fatal(err)
	}
	return &maker{t: t, db: db, answers: once.New(db)}
}

func (m *maker) make(route string, caller rpc.Caller, name string) (made, error) {
	return once.Do(m.answers, route, func(ctx context.Context, _ rpc.Caller, req asked) (made, error) {
		m.tries.Add(1)
		out := made{uuid.NewString(), req.Name}
		return out, postgres.InTx(ctx, m.db, func(tx *sqlx.Tx) error {
			if _, err := tx.ExecContext(ctx, `INSERT INTO made VALUES ($1, $2)`, out.ID, out.Name); err != nil {
				return err
			}
			if err := once.Keep(ctx, tx, out); err != nil {
				return err
			}
			return m.fail
		})
	})(m.t.Context(), caller, asked{name})
}

func (m *maker) rows() (n int) {
	m.t.Helper()
	if err := m.db.Get(&n, `SELECT count(*) FROM made`); err != nil {
		m.t.Fatal(err)
	}
	return n
}

func keyed(user, key string) rpc.Caller { return rpc.Caller{UserID: user, IdempotencyKey: key} }

func TestTheFirstAnswerIsGivenAgain(t *testing.T) {
	m := newMaker(t)
	first, err := m.make("r", keyed("u", "k"), "a")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := m.make("r", keyed("u", "k"), "a"); err != nil || again != first || m.tries.Load() != 1 {
		t.Errorf("%+v, %v after %d tries", again, err, m.tries.Load())
	}
	if _, err := m.make("r", keyed("u", "k"), "b"); errs.CodeOf(err) != errs.Conflict {
		t.Errorf("another request with the key: %v", err)
	}
	for _, other := range []struct{ route, user, key string }{{"s", "u", "k"}, {"r", "v", "k"}, {"r", "u", "l"}, {"r", "u", ""}, {"r", "u", ""}, {"r", "", "k"}} {
		if got, err := m.make(other.route, keyed(other.user, other.key), "a"); err != nil || got == first {
			t.Errorf("%+v: %+v, %v", other, got, err)
		}
	}
	for _, key := range []string{"a\x00", "é", strings.Repeat("k", 256)} {
		if _, err := m.make("r", keyed("u", key), "a"); errs.CodeOf(err) != errs.Validation {
			t.Errorf("%q: %v", key, err)
		}
	}
	if _, err := m.make("r", keyed("u", strings.Repeat("k", 255)), "a"); err != nil {
		t.Error(err)
	}
	// A day later the key is free, and an hour after that its row is gone.
	if _, err := m.db.Exec(`UPDATE idempotent_answers SET created_at = now() - interval '24 hours 1 second'`); err != nil {
		t.Fatal(err)
	}
	if n, err := m.answers.Sweep(t.Context()); n != 0 || err != nil {
		t.Errorf("%d swept, %v", n, err)
	}
	if got, err := m.make("r", keyed("u", "k"), "b"); err != nil || got == first {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := m.db.Exec(`UPDATE idempotent_answers SET created_at = now() - interval '25 hours 1 second'`); err != nil {
		t.Fatal(err)
	}
	if n, err := m.answers.Sweep(t.Context()); n != 5 || err != nil {
		t.Errorf("%d swept, %v", n, err)
	}
}

// TestWhatFailsIsNotKept lets a process die between everything and the commit.
func TestWhatFailsIsNotKept(t *testing.T) {
	m := newMaker(t)
	m.fail = errors.New("died")
	if _, err := m.make("r", keyed("u", "k"), "a"); !errors.Is(err, m.fail) || m.rows() != 0 {
		t.Fatalf("%v, %d rows", err, m.rows())
	}
	m.fail = nil
	if _, err := m.make("r", keyed("u", "k"), "a"); err != nil || m.rows() != 1 {
		t.Errorf("%v, %d rows", err, m.rows())
	}
}

func TestOneOfManyAtATime(t *testing.T) {
	m := newMaker(t)
	var working sync.WaitGroup
	answers := make([]made, 40)
	for i := range answers {
		working.Go(func() {
			var err error
			if answers[i], err = m.make("r", keyed("u", "k"), "a"); err != nil {
				t.Error(err)
			}
		})
	}
	working.Wait()
	for _, got := range answers {
		if got != answers[0] || got.ID == "" {
			t.Errorf("got %+v and %+v", got, answers[0])
		}
	}
	if m.rows() != 1 {
		t.Errorf("%d rows", m.rows())
	}
}

// TestWhoComesSecondGetsTheAnswer lets the others fail by what the first has done, before they know that it has.
func TestWhoComesSecondGetsTheAnswer(t *testing.T) {
	m := newMaker(t)
	var both sync.WaitGroup
	both.Add(2)
	create := once.Do(m.answers, "r", func(ctx context.Context, _ rpc.Caller, req asked) (made, error) {
		both.Done()
		both.Wait() // neither has an answer yet
		out := made{"the one id", req.Name}
		return out, postgres.InTx(ctx, m.db, func(tx *sqlx.Tx) error {
			if _, err := tx.ExecContext(ctx, `INSERT INTO made VALUES ($1, $2)`, out.ID, out.Name); err != nil {
				return err
			}
			return once.Keep(ctx, tx, out)
		})
	})
	var working sync.WaitGroup
	for range 2 {
		working.Go(func() {
			if got, err := create(t.Context(), keyed("u", "k"), asked{"a"}); err != nil || got.ID != "the one id" {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	working.Wait()
}
