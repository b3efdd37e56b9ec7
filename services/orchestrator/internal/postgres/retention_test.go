package postgres

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/errs"
	"turbocat.io/migrations"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/pkg/postgres/weekly"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
)

const (
	day    = 24 * time.Hour
	period = 30 * day
)

// keep does a round of retention as it were a time from now.
func (l ledger) keep(in time.Duration) {
	l.t.Helper()
	keeper := weekly.NewKeeper(l.Weeks(), l.Retention(period), zerolog.Nop(), nil).
		WithClock(func(context.Context) (time.Time, error) { return time.Now().Add(in), nil })
	if err := keeper.Keep(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
}

// ended is an execution that has rows everywhere and ended a time from now.
func (l ledger) ended(in time.Duration) string {
	l.t.Helper()
	id := l.accept(l.acceptable("a", "b"))
	l.begin(id)
	l.end(id, in)
	return id
}

func (l ledger) begin(id string) {
	l.t.Helper()
	l.exec(`INSERT INTO steps (execution_id, step_index, p, status, attempt, token, dispatch, sent) SELECT $1, i, 3, 'COMPLETED', 1, '', 1, 0 FROM generate_series(0, 1) i`, id)
	l.exec(`WITH t AS (UPDATE partitions SET event_n = event_n + 1, published_n = event_n + 1 WHERE p = 3 RETURNING event_n)
		INSERT INTO execution_events (execution_id, seq, p, n, event_count, events) SELECT $1, 1, 3, event_n, 1, '[{}]' FROM t`, id)
	l.exec(`INSERT INTO payloads (execution_id, hash, chunk, bytes) VALUES ($1, sha256('x'), 0, 'x')`, id)
	l.exec(`INSERT INTO calls (execution_id, id, step_index, iteration, attempt, token, run, n, user_id, workflow_id, agent_id, kind, name, provider, status, input,
			reserved_tokens, reserved_micros, started_at, expires_at) SELECT $1, $2, 0, 0, 1, 't', 'r', 1, $2, $2, $2, 'MODEL', 'm', 'p', 'RUNNING', 'null', 1, 1, now(), now()`, id, uuid.NewString())
	l.exec(`INSERT INTO spending (scope, key, day, execution_id) VALUES ('execution', $1::text, '-infinity', $1::uuid), ('step', $1::text || '/a/0', '-infinity', $1::uuid)`, id)
	l.exec(`INSERT INTO spending (scope, key, day) VALUES ('user', $1, (now() AT TIME ZONE 'UTC')::date)`, id)
	l.exec(`INSERT INTO budget_approvals (execution_id, step_index, iteration, budget, status) VALUES ($1, 0, 0, 0, 'PENDING')`, id)
	l.exec(`INSERT INTO conversation_messages (user_id, agent_id, key, n, token, message) VALUES ($1, $1, 'k', 1, 't', '1')`, id)
	l.exec(`INSERT INTO commands (id, execution_id, p, kind, user_id) VALUES ($1, $2, 3, 'CANCEL', 'u')`, uuid.NewString(), id)
}

func (l ledger) end(id string, in time.Duration) {
	l.t.Helper()
	l.exec(`UPDATE executions SET status = 'COMPLETED', completed_at = $2 WHERE id = $1`, id, time.Now().Add(in))
}

// left gives how many rows a table has.
func (l ledger) left(table string) int {
	l.t.Helper()
	n, err := l.count(`SELECT count(*) FROM ` + table)
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}

func (l ledger) expect(what string, executions int) {
	l.t.Helper()
	l.expectRows(what, executions, map[string]int{"executions": 1, "steps": 2, "execution_events": 1, "payloads": 1, "calls": 1})
}

func (l ledger) expectRows(what string, executions int, of map[string]int) {
	l.t.Helper()
	for table, each := range of {
		if n := l.left(table); n != each*executions {
			l.t.Errorf("%s: %d rows of %s are left of %d executions", what, n, table, executions)
		}
	}
}

func TestFinishedWorkIsDropped(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	for range 3 {
		l.ended(0)
	}
	l.keep(0)
	l.expect("at once", 3)
	l.keep(period - day)
	l.expect("before its time", 3)
	l.expectRows("before its time", 3, map[string]int{"commands": 1, "spending": 3, "budget_approvals": 1, "conversation_messages": 1})
	l.keep(period + 7*day + time.Hour)
	l.expect("when its time is over", 0)
	l.expectRows("when its time is over", 0, map[string]int{"commands": 1, "spending": 3, "budget_approvals": 1, "conversation_messages": 1})
	if n := mustCount(l, `SELECT count(*) FROM pg_class WHERE relname LIKE '%\_before' AND relkind = 'r' AND relnamespace = 'orchestrator'::regnamespace`); n != 0 {
		t.Errorf("%d tables of the first week are left", n)
	}
	// What is begun now, by this clock, is older than any week; it works all the same, and its time comes too.
	id := l.ended(period)
	l.expect("of no week", 1)
	if _, err := l.Get(t.Context(), id); err != nil {
		t.Error(err)
	}
	l.keep(2*period - day)
	l.expect("of no week, before its time", 1)
	l.keep(2*period + day)
	l.expect("of no week, when its time is over", 0)
	if _, err := l.Get(t.Context(), id); errs.CodeOf(err) != errs.NotFound {
		t.Errorf("an execution that was dropped: %v", err)
	}
}

// Each of these holds a week.
func TestWhatIsNeededIsKept(t *testing.T) {
	t.Parallel()
	const later = period + 8*day
	for name, c := range map[string]struct {
		hold    func(l ledger, ended string)
		kept    int // executions
		release func(l ledger)
	}{
		"an execution that has not ended": {
			func(l ledger, _ string) { l.begin(l.accept(l.acceptable("a", "b"))) }, 1,
			func(l ledger) { l.exec(`UPDATE executions SET completed_at = now() WHERE completed_at IS NULL`) },
		},
		"one that ended late": {
			func(l ledger, _ string) { l.ended(10 * day) }, 1,
			func(l ledger) { l.exec(`UPDATE executions SET completed_at = now()`) },
		},
		"an event that is not published": {
			func(l ledger, _ string) {
				l.ended(0)
				l.exec(`UPDATE partitions SET published_n = event_n - 1 WHERE p = 3`)
			}, 0,
			func(l ledger) { l.exec(`UPDATE partitions SET published_n = event_n WHERE p = 3`) },
		},
		"one that another waits for": {
			func(l ledger, ended string) {
				id := l.accept(l.acceptable("a", "b"))
				l.begin(id)
				l.exec(`UPDATE executions SET parent_execution_id = $1 WHERE id = $2`, id, ended)
			}, 2,
			func(l ledger) { l.exec(`UPDATE executions SET completed_at = now() WHERE completed_at IS NULL`) },
		},
		"one that is being undone": {
			func(l ledger, ended string) {
				id := l.accept(l.acceptable("a", "b"))
				l.begin(id)
				l.exec(`UPDATE executions SET compensation_of = $1 WHERE id = $2`, ended, id)
			}, 2,
			func(l ledger) { l.exec(`UPDATE executions SET completed_at = now() WHERE completed_at IS NULL`) },
		},
		"what has undone one that is kept": {
			func(l ledger, ended string) {
				id := l.ended(10 * day)
				l.exec(`UPDATE executions SET compensation_of = $1 WHERE id = $2`, id, ended)
			}, 2,
			func(l ledger) { l.exec(`UPDATE executions SET completed_at = now()`) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLedger(t)
			l.keep(0) // makes this week
			c.hold(l, l.ended(0))
			l.keep(later)
			l.expectRows("held", 1, map[string]int{"executions": c.kept, "steps": 4, "execution_events": 2, "payloads": 2})
			c.release(l)
			l.keep(later)
			l.expect("released", 0)
			if n := mustCount(l, `SELECT count(*) FROM pg_class WHERE relname LIKE '%\_before' AND relkind = 'r' AND relnamespace = 'orchestrator'::regnamespace`); n != 0 {
				t.Errorf("the week is still there, with %d tables", n)
			}
		})
	}
}

func TestWhatHasItsOwnTimeIsDeleted(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	keyed := func(age time.Duration) execution.Accepted {
		x := l.acceptable("a")
		x.Key = &execution.IdempotencyKey{UserID: x.Caller.UserID, Route: "r", Key: "k", BodyHash: []byte{1}}
		l.accept(x)
		l.exec(`UPDATE idempotency_keys SET created_at = $2 WHERE execution_id = $1`, x.ID, time.Now().Add(-age))
		return x
	}
	keyed(26 * time.Hour)
	fresh := keyed(24*time.Hour + 30*time.Minute)
	for _, age := range []time.Duration{0, period + day} {
		l.exec(`INSERT INTO dead_letters (p, seq, subject, headers, body, reason, created_at) VALUES (1, 1, 's', '', '', 'r', $1)`, time.Now().Add(-age))
	}
	l.keep(0)
	if n := l.left("idempotency_keys"); n != 1 {
		t.Errorf("%d keys are left", n)
	}
	if n := l.left("dead_letters"); n != 1 {
		t.Errorf("%d dead letters are left", n)
	}
	fresh.ID = uuid.Must(uuid.NewV7()).String()
	if outcomes, _, err := l.Accept(t.Context(), []execution.Accepted{fresh}); err != nil || outcomes[0].Replayed {
		t.Errorf("a key that has run out: %+v, %v", outcomes, err)
	}
}

func TestDefinitionsThatAreUsedStay(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	old, again := l.acceptable("a"), l.acceptable("a", "b")
	for _, x := range []execution.Accepted{old, again} {
		l.accept(x)
		l.end(x.ID, 0)
	}
	l.keep(0)
	if n := l.left("definitions"); n != 2 {
		t.Fatalf("%d definitions are there", n)
	}
	// A month later somebody runs one of them again, who has not accepted it lately.
	l.exec(`UPDATE definitions SET used_at = now() - interval '60 days'`)
	retry := again
	retry.ID, retry.DefinitionBody, retry.RetryOf = uuid.Must(uuid.NewV7()).String(), nil, again.ID
	other := New(l.db, l.db)
	if _, _, err := other.Accept(t.Context(), []execution.Accepted{retry}); err != nil {
		t.Fatal(err)
	}
	l.end(retry.ID, 0)
	l.exec(`UPDATE definitions SET used_at = used_at + $1 * interval '1 second'`, (60 * day).Seconds()) // as if it were now
	l.exec(`UPDATE definitions SET used_at = now() WHERE hash = $1`, old.DefinitionHash)
	l.keep(period + 8*day)
	if n := l.left("definitions"); n != 1 {
		t.Errorf("%d definitions are left", n)
	}
	if n, err := l.count(fmt.Sprintf(`SELECT count(*) FROM definitions WHERE hash = '\x%x'`, again.DefinitionHash)); n != 1 || err != nil {
		t.Errorf("the one that was used is gone, %v", err)
	}
	// One that has seen it go says so; who brings the body brings it back.
	retry.ID, retry.DefinitionHash = uuid.Must(uuid.NewV7()).String(), old.DefinitionHash
	if _, _, err := New(l.db, l.db).Accept(t.Context(), []execution.Accepted{retry}); errs.CodeOf(err) != errs.NotFound {
		t.Errorf("a definition that is gone: %v", err)
	}
	old.ID = uuid.Must(uuid.NewV7()).String()
	if _, _, err := New(l.db, l.db).Accept(t.Context(), []execution.Accepted{old}); err != nil {
		t.Error(err)
	}
	if _, err := l.definitionsOf(t.Context(), [][]byte{old.DefinitionHash}); err != nil {
		t.Error(err)
	}
	if sum := sha256.Sum256(old.DefinitionBody); string(sum[:]) != string(old.DefinitionHash) {
		t.Error("the test's hash is none")
	}
}

// The statements of the hot path go to the one week that each row is of, whatever the server planned them with.
func TestHotStatementsLookIntoOneWeek(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	for i := range 8 {
		if _, err := l.Weeks().Make(t.Context(), time.Now().Add(time.Duration(i)*7*day)); err != nil {
			t.Fatal(err)
		}
	}
	id := l.ended(0)
	for name, statement := range map[string]string{
		"upsert of steps": `INSERT INTO steps (execution_id, step_index, iteration, p, status, attempt, token, dispatch, sent)
			SELECT v.id, 0, 0, 3, 'RUNNING', 1, '', 1, 0 FROM unnest(ARRAY['` + id + `']::uuid[]) v(id)
			ON CONFLICT (execution_id, step_index, iteration) DO UPDATE SET status = excluded.status`,
		"steps of executions":    `SELECT * FROM steps WHERE execution_id = ANY(ARRAY['` + id + `']::uuid[]) AND (iteration = 0 OR status = 'RUNNING') ORDER BY execution_id, step_index`,
		"one execution":          `SELECT * FROM executions WHERE id = '` + id + `'`,
		"events of an execution": strings.NewReplacer("$1", `'`+id+`'`, "$2", "0", "$3", "100").Replace(eventsOfExecution),
		"cleared steps": `UPDATE steps t SET sent = 0 FROM unnest(ARRAY['` + id + `']::uuid[], ARRAY[0]) v(id, idx)
			WHERE t.execution_id = v.id AND t.step_index = v.idx AND t.iteration = 0`,
	} {
		tx, err := l.db.BeginTxx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range ByKey {
			if _, err := tx.ExecContext(t.Context(), `SET LOCAL `+name+` = `+value); err != nil {
				t.Fatal(err)
			}
		}
		var plan []string
		if err := tx.SelectContext(t.Context(), &plan, `EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) `+statement); err != nil {
			t.Fatal(err)
		}
		weeks, sequential := map[string]bool{}, false
		for _, line := range plan {
			if strings.Contains(line, "Scan") && strings.Contains(line, " on ") && !strings.Contains(line, "never executed") && !strings.Contains(line, "Function Scan") && !strings.Contains(line, "Bitmap Index Scan") {
				_, table, _ := strings.Cut(line, " on ")
				weeks[strings.Fields(table)[0]] = true
				sequential = sequential || strings.Contains(line, "Seq Scan")
			}
		}
		if len(weeks) > 1 || sequential {
			t.Errorf("%s looks into %d weeks:\n%s", name, len(weeks), strings.Join(plan, "\n"))
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
	}
}

// Events are read by their index, however many there are, also with the plan for any values that a connection keeps.
func TestEventsAreReadByTheirIndex(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	if _, err := l.Weeks().Make(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	l.exec(`INSERT INTO execution_events (execution_id, seq, p, n, event_count, events)
		SELECT (lpad(to_hex((extract(epoch FROM now() + (i / 500 - 10) * interval '1 day') * 1000)::bigint), 12, '0') || '70008' || lpad(i::text, 15, '0'))::uuid,
			s * 11, i % 32, i / 32 * 2 + s, 11, convert_to('[' || repeat('{"n":1},', 100) || '{}]', 'UTF8') FROM generate_series(1, 20000) i, generate_series(1, 2) s`)
	l.exec(`ANALYZE execution_events`)
	id := ""
	if err := l.db.GetContext(t.Context(), &id, `SELECT execution_id FROM execution_events WHERE n = 700 LIMIT 1`); err != nil {
		t.Fatal(err)
	}
	for name, read := range map[string][3]string{
		"of a partition":  {eventsOfPartition, `(smallint, bigint, bigint)`, `(3, 700, 750)`},
		"of an execution": {eventsOfExecution, `(uuid, bigint, bigint)`, `('` + id + `', 11, 20)`},
	} {
		for _, mode := range []string{"force_generic_plan", "force_custom_plan"} {
			tx, err := l.db.BeginTxx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, statement := range []string{`SET LOCAL plan_cache_mode = ` + mode, `PREPARE events ` + read[1] + ` AS ` + read[0]} {
				if _, err := tx.ExecContext(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			var plan []string
			if err := tx.SelectContext(t.Context(), &plan, `EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE events`+read[2]); err != nil {
				t.Fatal(err)
			}
			if all := strings.Join(plan, "\n"); strings.Contains(all, "Seq Scan") || !strings.Contains(all, "Index") {
				t.Errorf("events %s, %s:\n%s", name, mode, all)
			}
			if _, err := tx.ExecContext(t.Context(), `DEALLOCATE events`); err != nil {
				t.Fatal(err)
			}
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// unmigrated gives a ledger without a table, and what applies a file of migrations to it.
func unmigrated(t *testing.T, files fs.FS) (l ledger, apply func(name string)) {
	t.Helper()
	db, err := postgres.Open(pgtest.URL(t, map[string]fs.FS{}), "public")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	l = ledger{t, New(db, db), db}
	return l, func(name string) {
		t.Helper()
		body, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		l.exec(string(body))
	}
}

// An installation that has rows keeps them over the migration to weeks and back.
func TestMigrationToWeeks(t *testing.T) {
	t.Parallel()
	files := migrations.Of("orchestrator")
	l, apply := unmigrated(t, files)
	names, err := fs.Glob(files, "*.up.sql")
	if err != nil {
		t.Fatal(err)
	}
	const weeks = "000008_weeks.up.sql"
	for _, name := range names {
		if name < weeks {
			apply(name)
		}
	}
	l.exec(`INSERT INTO executions (id, p, workflow_id, workflow_version, workflow_owner, user_id, definition, engine_version, status, trigger_type, priority, inputs, request_id, traceparent, steps_total, created_at)
		SELECT (lpad(to_hex((extract(epoch FROM now() + (i - 90) * interval '1 day') * 1000)::bigint), 12, '0') || '70008' || lpad(i::text, 15, '0'))::uuid,
			3, gen_random_uuid(), 1, gen_random_uuid(), gen_random_uuid(), '', 1, 'PENDING', 'API', 5, '{}', '', '', 1, now() FROM generate_series(1, 120) i`)
	l.exec(`INSERT INTO steps (execution_id, step_index, p, status, attempt, token, dispatch, sent) SELECT id, i, 3, 'RUNNING', 1, '', 1, 0 FROM executions, generate_series(0, 1) i`)
	l.exec(`INSERT INTO execution_events (execution_id, seq, p, n, type, body) SELECT id, 1, 3, row_number() OVER (ORDER BY id), 'x', '{}' FROM executions`)
	const sum = `SELECT hashtext(string_agg(x::text, ',' ORDER BY x::text)) FROM %s x`
	var before [2]int
	tables := [2]string{"steps", "execution_events"} // that there were then
	for i, table := range tables {
		before[i] = mustCount(l, fmt.Sprintf(sum, table))
	}
	indexes := `SELECT count(*) FROM pg_index WHERE indrelid = '%s'::regclass`
	check := func(what string) {
		t.Helper()
		l.expectRows(what, 120, map[string]int{"executions": 1, "steps": 2, "execution_events": 1})
		for i, table := range tables {
			if now := mustCount(l, fmt.Sprintf(sum, table)); now != before[i] {
				t.Errorf("%s: the rows of %s are others", what, table)
			}
		}
	}
	for range 2 {
		apply(weeks)
		check("up")
		if ahead := mustCount(l, `SELECT count(*) FROM execution_events_default`); ahead < 22 || ahead > 30 {
			t.Errorf("%d events of a clock that is ahead are in DEFAULT", ahead)
		}
		for table, want := range map[string]int{"steps": 2, "execution_events": 1, "execution_events_before": 2, "execution_events_default": 2} {
			if n := mustCount(l, fmt.Sprintf(indexes, table)); n != want {
				t.Errorf("%s has %d indexes, not %d", table, n, want)
			}
		}
		if _, err := (weekly.Tables{DB: l.Weeks().DB, Names: tables[:]}).Make(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		check("with weeks")
		apply("000008_weeks.down.sql")
		check("down")
		for table, want := range map[string]int{"steps": 2, "execution_events": 2} {
			if n := mustCount(l, fmt.Sprintf(indexes, table)); n != want {
				t.Errorf("%s has %d indexes after the way back, not %d", table, n, want)
			}
		}
		if n := mustCount(l, `SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND (relname LIKE '%before%' OR relname LIKE '%weeks%' OR relkind IN ('p', 'I'))`); n != 0 {
			t.Errorf("%d relations are left after the way back", n)
		}
		if n := mustCount(l, `SELECT count(*) FROM pg_class WHERE relname IN ('executions', 'steps') AND 'fillfactor=80' = ANY(reloptions)`); n != 2 {
			t.Errorf("%d tables have their options after the way back", n)
		}
	}
}

// Events of before the migration to rows of several are read as they were, and each has a row again on the way back.
func TestMigrationToEventRows(t *testing.T) {
	t.Parallel()
	files := migrations.Of("orchestrator")
	names, err := fs.Glob(files, "*.up.sql")
	if err != nil {
		t.Fatal(err)
	}
	const rows = "000012_event_rows"
	for name, before := range map[string]string{
		"beside the first week": ``,
		"once it is dropped":    `DROP TABLE execution_events_before`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, apply := unmigrated(t, files)
			for _, name := range names {
				if name < rows {
					apply(name)
				}
			}
			weeks := l.Weeks()
			weeks.Names = []string{"steps", "execution_events", "payloads"} // that there were then
			if _, err := weeks.Make(t.Context(), time.Now()); err != nil {
				t.Fatal(err)
			}
			l.exec(before)
			w := l.telling(3)
			insert := func(e partition.EventRow) {
				l.exec(`INSERT INTO execution_events (execution_id, seq, p, n, type, body) VALUES ($1, $2, $3, $4, $5, $6)`, e.ExecutionID, e.Seq, e.P, e.N, e.Type, e.Body)
			}
			var ids []string
			for i := range 12 { // in the first week, those that are made ahead, and DEFAULT
				at := time.Now().Add(time.Duration(i-2) * 4 * day)
				ids = append(ids, weekly.IDAt(at)[:14]+uuid.NewString()[14:])
			}
			for range 3 {
				for _, id := range ids {
					e := w.next(id)
					w.ends = append(w.ends, e.N)
					insert(e)
				}
			}
			l.exec(`UPDATE partitions SET event_n = $1, published_n = 7 WHERE p = 3`, len(w.all))
			check := func() {
				t.Helper()
				for _, limit := range []int{1, 5, 1000} {
					w.events(t, 0, limit)
					w.events(t, 7, limit)
					w.events(t, uint64(len(w.all)-1), limit)
					for _, id := range ids {
						w.history(t, id, 0, limit)
						w.history(t, id, 2, limit)
					}
				}
			}
			indexes := func() string {
				var all []string
				if err := l.db.SelectContext(t.Context(), &all, `SELECT tablename || ' ' || regexp_replace(indexdef, ' ON.*USING', '') FROM pg_indexes
					WHERE tablename LIKE 'execution_events%' ORDER BY 1`); err != nil {
					t.Fatal(err)
				}
				return strings.Join(all, "\n")
			}
			columns := func() string {
				var all []string
				if err := l.db.SelectContext(t.Context(), &all, `SELECT attrelid::regclass || ' ' || attname || ' ' || atttypid::regtype || ' ' || attnotnull || ' ' || attstorage::text || attcompression::text
					FROM pg_attribute WHERE attrelid::regclass::text LIKE 'execution_events%' AND attrelid IN (SELECT oid FROM pg_class WHERE relkind IN ('r', 'p')) AND attnum > 0 AND NOT attisdropped ORDER BY 1`); err != nil {
					t.Fatal(err)
				}
				return strings.Join(all, "\n")
			}
			indexed, shaped := indexes(), columns()
			for range 2 {
				apply(rows + ".up.sql")
				// A week is made like the others.
				l.exec(`CREATE TABLE week (LIKE execution_events_default INCLUDING ALL)`)
				if n := mustCount(l, `SELECT count(*) FROM pg_attribute a JOIN pg_attribute b USING (attname, attstorage, attcompression, attnotnull)
					WHERE a.attrelid = 'week'::regclass AND b.attrelid = 'execution_events_default'::regclass AND a.attnum > 0`); n != 6 {
					t.Errorf("a new week has %d columns", n)
				}
				l.exec(`DROP TABLE week`)
				check()
				w.commit(ids[0], ids[1], ids[0], ids[11], ids[0], ids[5])
				w.commit(ids[11], ids[11], ids[11])
				if n := mustCount(l, `SELECT count(*) FROM execution_events WHERE event_count > 1`); n != 2 {
					t.Errorf("%d rows have several events", n)
				}
				check()
				if n := mustCount(l, `SELECT count(*) FROM pg_index WHERE indrelid = ANY(SELECT relid FROM pg_partition_tree('execution_events') WHERE isleaf)`); n != 2*mustCount(l, `SELECT count(*) FROM pg_partition_tree('execution_events') WHERE isleaf`) {
					t.Errorf("the tables have %d indexes:\n%s", n, indexes())
				}
				apply(rows + ".down.sql")
				if n := mustCount(l, `SELECT count(*) FROM execution_events`); n != len(w.all) {
					t.Errorf("%d events have %d rows after the way back", len(w.all), n)
				}
				for _, e := range w.all {
					var n int
					if err := l.db.GetContext(t.Context(), &n, `SELECT count(*) FROM execution_events WHERE execution_id = $1 AND seq = $2 AND p = $3 AND n = $4 AND type = $5 AND body = $6`,
						e.ExecutionID, e.Seq, e.P, e.N, e.Type, e.Body); err != nil || n != 1 {
						t.Errorf("%d rows are the event %+v after the way back, %v", n, e, err)
					}
				}
				w.ends = w.ends[:0] // each is a commit of its own from now on
				for _, e := range w.all {
					w.ends = append(w.ends, e.N)
				}
			}
			if now := indexes(); now != indexed {
				t.Errorf("the indexes were\n%s\nand are\n%s", indexed, now)
			}
			if now := columns(); now != shaped {
				t.Errorf("the columns were\n%s\nand are\n%s", shaped, now)
			}
		})
	}
}

func mustCount(l ledger, query string) int {
	l.t.Helper()
	n, err := l.count(query)
	if err != nil {
		l.t.Fatalf("%s: %v", query, err)
	}
	return n
}
