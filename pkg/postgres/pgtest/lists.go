package pgtest

import (
	"context"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
)

// Fill runs statements that fill tables without the tables' indexes and makes those afterwards, as a restore does, so that a million rows take seconds.
// What autovacuum would do before long is done then.
func Fill(t testing.TB, db *sqlx.DB, tables []string, statements ...string) {
	t.Helper()
	ctx := t.Context()
	var at struct{ Database, Schema string }
	if err := db.GetContext(ctx, &at, `SELECT current_database() AS database, current_schema() AS schema`); err != nil {
		t.Fatal(err)
	}
	server, err := url.Parse(os.Getenv(EnvURL))
	if err != nil {
		t.Fatal(err)
	}
	server.Path = "/" + at.Database
	conn, err := sqlx.ConnectContext(ctx, "postgres", server.String()) // a plain one, which waits for statements as long as they take
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetMaxOpenConns(1)
	run := func(statements ...string) {
		t.Helper()
		for _, s := range statements {
			if _, err := conn.ExecContext(ctx, s); err != nil {
				t.Fatalf("%v: %s", err, s)
			}
		}
	}
	run(`SET search_path = `+pq.QuoteIdentifier(at.Schema), `SET synchronous_commit = off`, `SET maintenance_work_mem = '256MB'`)
	var indexes []struct{ Name, Definition string }
	if err := conn.SelectContext(ctx, &indexes, `SELECT x.relname AS name, pg_get_indexdef(x.oid) AS definition FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
		WHERE i.indrelid = ANY ($1::text[]::regclass[]) AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = x.oid)`, pq.Array(tables)); err != nil {
		t.Fatal(err)
	}
	for _, i := range indexes {
		run(`DROP INDEX ` + pq.QuoteIdentifier(i.Name))
	}
	run(statements...)
	for _, i := range indexes {
		run(strings.Replace(i.Definition, " ON ONLY ", " ON ", 1)) // of a partitioned table with its partitions
	}
	for _, table := range tables {
		run(`VACUUM (ANALYZE) ` + table)
	}
	run(`SELECT pg_stat_force_next_flush()`) // else what was read here may be told while Reads looks
}

// Reads gives how many rows of a table, or of its partitions, and entries of its indexes f reads. The pool of db must have one connection, whose figures are asked for.
func Reads(t testing.TB, db *sqlx.DB, table string, f func(ctx context.Context)) int {
	t.Helper()
	read := func() (n int) {
		if _, err := db.ExecContext(t.Context(), `SELECT pg_stat_force_next_flush()`); err != nil {
			t.Fatal(err)
		}
		if err := db.GetContext(t.Context(), &n, `SELECT sum(pg_stat_get_tuples_returned(oid))
			FROM (WITH parts AS (SELECT $1::regclass AS oid UNION SELECT relid FROM pg_partition_tree($1::regclass))
				SELECT oid FROM parts UNION ALL SELECT indexrelid FROM pg_index JOIN parts ON indrelid = parts.oid) relations`, table); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := read()
	f(t.Context())
	return read() - before
}

// P95 reports the time below which 95 of 100 runs of f stay.
func P95(b *testing.B, f func(ctx context.Context)) {
	b.Helper()
	var times []time.Duration
	for b.Loop() {
		began := time.Now()
		f(b.Context())
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)*95/100].Microseconds())/1000, "p95-ms")
}
