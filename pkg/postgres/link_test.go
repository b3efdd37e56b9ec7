package postgres_test

import (
	"io/fs"
	"testing"
	"time"

	"go.uber.org/goleak"

	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/pgtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("database/sql.(*DB).connectionOpener"))
}

// A link that says nothing while a statement runs is given up, whatever its context allows,
// and the pool goes on over another.
func TestSilentLinkIsGivenUp(t *testing.T) {
	t.Parallel()
	db, err := postgres.OpenWithin(pgtest.URL(t, map[string]fs.FS{}), "public", 200*time.Millisecond, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	began := time.Now()
	_, err = db.ExecContext(t.Context(), "SELECT pg_sleep(8)")
	if !postgres.Unavailable(err) || time.Since(began) > 7*time.Second {
		t.Fatalf("after %s got %v, wanted an error that says the database is away", time.Since(began), err)
	}
	var one int
	if err := db.GetContext(t.Context(), &one, "SELECT 1"); err != nil || one != 1 {
		t.Fatalf("the pool does not go on: %d, %v", one, err)
	}
	// The server still sleeps for the link that was given up; it must not keep the database.
	if _, err := db.ExecContext(t.Context(), "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(8)' AND pid <> pg_backend_pid()"); err != nil {
		t.Fatal(err)
	}
}

// An idle connection is not a silent link.
func TestIdleLinkIsKept(t *testing.T) {
	t.Parallel()
	db, err := postgres.OpenWithin(pgtest.URL(t, map[string]fs.FS{}), "public", 200*time.Millisecond, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	pid := func() (n int) {
		t.Helper()
		if err := db.GetContext(t.Context(), &n, "SELECT pg_backend_pid()"); err != nil {
			t.Fatal(err)
		}
		return n
	}
	first := pid()
	<-time.After(600 * time.Millisecond)
	if second := pid(); second != first {
		t.Errorf("process %d answers instead of %d", second, first)
	}
}
