package postgres_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/rs/zerolog"

	contract "turbocat.io/contracts/audit"
	"turbocat.io/services/identity/internal/audit"
	"turbocat.io/services/identity/internal/postgres"
)

const month = 30 * 24 * time.Hour

// age makes the entries up to a number so old, and lets the chain be trimmed again at once. No trigger holds who may do that.
func age(t *testing.T, db *sqlx.DB, upTo int, by time.Duration) {
	t.Helper()
	byHand(t, db, fmt.Sprintf(`UPDATE audit_log SET stored_at = clock_timestamp() - interval '%d seconds' WHERE seq <= %d; UPDATE audit_start SET moved_at = '-infinity'`, int(by.Seconds()), upTo))
}

// byHand does what only somebody can who owns the database.
func byHand(t *testing.T, db *sqlx.DB, statements string) {
	t.Helper()
	tx := db.MustBegin()
	defer func() { _ = tx.Rollback() }()
	for _, s := range []string{`DISABLE`, statements, `ENABLE`} {
		if s == `DISABLE` || s == `ENABLE` {
			s = `ALTER TABLE audit_log ` + s + ` TRIGGER USER; ALTER TABLE audit_start ` + s + ` TRIGGER USER`
		}
		if _, err := tx.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

func retention(chain audit.Trimmer, period time.Duration) *audit.Retention {
	return audit.NewRetention(chain, period, zerolog.New(io.Discard), nil)
}

func keep(t *testing.T, chain audit.Trimmer, period time.Duration) {
	t.Helper()
	if err := retention(chain, period).Keep(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// first gives the number of the oldest entry that there is, and how many there are.
func first(t *testing.T, db *sqlx.DB) (oldest, entries int) {
	t.Helper()
	if err := db.QueryRow(`SELECT coalesce(min(seq), 0), count(*) FROM audit_log`).Scan(&oldest, &entries); err != nil {
		t.Fatal(err)
	}
	return oldest, entries
}

func TestTheTrailIsTrimmed(t *testing.T) {
	t.Parallel()
	db, s := chain(t, 10)
	eighth, err := s.Entries(t.Context(), 8, 1)
	if err != nil {
		t.Fatal(err)
	}
	age(t, db, 6, 2*month)
	keep(t, s, 0)
	if oldest, entries := first(t, db); oldest != 1 || entries != 10 {
		t.Errorf("without a retention there are %d from %d on", entries, oldest)
	}
	keep(t, s, month)
	if oldest, entries := first(t, db); oldest != 7 || entries != 5 {
		t.Errorf("there are %d from %d on", entries, oldest)
	}
	r := verify(t, s, audit.Head{})
	if r.Break != nil || r.Entries != 5 || r.Trimmed != 6 || r.Told != 11 || r.From != 7 || r.Seq != 11 {
		t.Errorf("got %+v %+v", r, r.Break)
	}
	start, err := s.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.List(t.Context(), "", contract.ListRequest{Action: string(contract.AuditTrimmed)})
	if err != nil || len(list.Items) != 1 || list.Pagination.Total != 1 {
		t.Fatalf("told %+v, %v", list, err)
	}
	told := list.Items[0]
	changes := map[string]string{}
	for _, c := range told.Changes {
		changes[c.Path] = string(c.After)
	}
	if told.ResourceID != start.Head.String() || told.ResourceType != "audit" || told.Actor.Via != contract.ViaSystem || changes["entries"] != "6" || changes[audit.RetentionSetting] != `"720h0m0s"` || changes["storedBefore"] == "" {
		t.Errorf("told %+v", told)
	}
	for _, tt := range []struct {
		anchor audit.Head
		kind   string
		walked int64
	}{
		{start.Head, "", 5},
		{audit.Head{Seq: 6}, audit.Anchor, 0},
		{audit.Head{Seq: 5, Hash: start.Hash}, audit.Trimmed, 0},
		{audit.Head{Seq: 8, Hash: must(audit.ParseHash(eighth[0].Hash))}, "", 3},
		{audit.Head{Seq: 8}, audit.Anchor, 0},
	} {
		r := verify(t, s, tt.anchor)
		if kind := kindOf(r); kind != tt.kind || r.Entries != tt.walked {
			t.Errorf("from %s: %+v %+v", tt.anchor, r, r.Break)
		}
	}

	// Not again within a day, and then what is over by then, the entry of the first trim with it.
	byHand(t, db, `UPDATE audit_log SET stored_at = clock_timestamp() - interval '60 days'`)
	keep(t, s, month)
	if oldest, _ := first(t, db); oldest != 7 {
		t.Errorf("within a day the oldest is %d", oldest)
	}
	age(t, db, 0, 0)
	keep(t, s, month)
	if r := verify(t, s, audit.Head{}); r.Break != nil || r.Entries != 1 || r.Trimmed != 11 || r.Told != 12 {
		t.Errorf("got %+v %+v", r, r.Break)
	}
	if err := s.Append(t.Context(), []contract.TrailEntry{entry(t, contract.AgentDeleted, nil)}); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, s, audit.Head{}); r.Break != nil || r.Entries != 2 || r.Seq != 13 {
		t.Errorf("it does not go on: %+v %+v", r, r.Break)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func kindOf(r audit.Report) string {
	if r.Break == nil {
		return ""
	}
	return r.Break.Kind
}

// TestNothingGoesTooEarly keeps what is not over although what stands behind it is, such as after a clock that was wrong, and what a wrong
// clock of ours calls over.
func TestNothingGoesTooEarly(t *testing.T) {
	t.Parallel()
	db, s := chain(t, 9)
	age(t, db, 9, 2*month)
	byHand(t, db, `UPDATE audit_log SET stored_at = clock_timestamp() - interval '29 days 23 hours' WHERE seq = 4`)
	keep(t, s, month)
	if oldest, entries := first(t, db); oldest != 4 || entries != 7 {
		t.Errorf("there are %d from %d on", entries, oldest)
	}
}

// TestTrimIsOnceOfSeveral has several replicas trim at a time, beside who appends.
func TestTrimIsOnceOfSeveral(t *testing.T) {
	t.Parallel()
	db, s := chain(t, 40)
	age(t, db, 30, 2*month)
	var working sync.WaitGroup
	for range 6 {
		working.Go(func() {
			if err := retention(s, month).Keep(context.Background()); err != nil {
				t.Error(err)
			}
		})
		working.Go(func() {
			if err := s.Append(context.Background(), []contract.TrailEntry{entry(t, contract.AgentCreated, nil)}); err != nil {
				t.Error(err)
			}
		})
	}
	working.Wait()
	if oldest, entries := first(t, db); oldest != 31 || entries != 10+6+1 {
		t.Errorf("there are %d from %d on", entries, oldest)
	}
	if r := verify(t, s, audit.Head{}); r.Break != nil || r.Entries != 17 || r.Trimmed != 30 {
		t.Errorf("got %+v %+v", r, r.Break)
	}
}

// dying is a chain whose process dies in the midst of a sweep.
type dying struct{ *postgres.Audit }

func (d dying) Sweep(context.Context) (int64, error) { return 0, context.Canceled }

// TestATrimThatDiesIsFinished is in order wherever it died, and finished by the next round, of whatever setting.
func TestATrimThatDiesIsFinished(t *testing.T) {
	t.Parallel()
	db, s := chain(t, 10)
	age(t, db, 6, 2*month)
	if err := retention(dying{s}, month).Keep(t.Context()); err == nil {
		t.Fatal("it has not died")
	}
	if oldest, entries := first(t, db); oldest != 1 || entries != 11 {
		t.Errorf("there are %d from %d on", entries, oldest)
	}
	if r := verify(t, s, audit.Head{}); r.Break != nil || r.Entries != 5 || r.Trimmed != 6 {
		t.Errorf("got %+v %+v", r, r.Break)
	}
	byHand(t, db, `DELETE FROM audit_log WHERE seq IN (2, 3)`) // some of it was deleted
	if r := verify(t, s, audit.Head{}); r.Break != nil {
		t.Errorf("got %+v", r.Break)
	}
	keep(t, s, 0)
	if oldest, entries := first(t, db); oldest != 7 || entries != 5 {
		t.Errorf("there are %d from %d on", entries, oldest)
	}
}

// TestWhatIsBrokenIsNotTrimmed: what somebody tampered with does not vanish by its age.
func TestWhatIsBrokenIsNotTrimmed(t *testing.T) {
	t.Parallel()
	db, s := chain(t, 10)
	age(t, db, 6, 2*month)
	byHand(t, db, `UPDATE audit_log SET action = 'agent.deleted' WHERE seq = 3`)
	if err := retention(s, month).Keep(t.Context()); err == nil || !strings.Contains(err.Error(), "broken at entry 3 is kept as it is (CHANGED") {
		t.Errorf("said %v", err)
	}
	if oldest, entries := first(t, db); oldest != 1 || entries != 10 {
		t.Errorf("there are %d from %d on", entries, oldest)
	}
}

// TestTrimmedIsGuarded: what the database lets nobody do by an ordinary statement, trimmed or not.
func TestTrimmedIsGuarded(t *testing.T) {
	t.Parallel()
	db, s := chain(t, 10)
	age(t, db, 6, 2*month)
	keep(t, s, month)
	for _, statement := range []string{
		`DELETE FROM audit_log WHERE seq = 7`, `DELETE FROM audit_log`, `TRUNCATE audit_log`, `UPDATE audit_log SET ip = ''`,
		`UPDATE audit_start SET seq = 5`, `UPDATE audit_start SET moved_at = now()`, `DELETE FROM audit_start`,
		`UPDATE audit_start SET seq = 8, hash = (SELECT hash FROM audit_log WHERE seq = 8)`,
		`UPDATE audit_start SET seq = 11, hash = (SELECT hash FROM audit_log WHERE seq = 11)`,
	} {
		if _, err := db.Exec(statement); err == nil || !strings.Contains(err.Error(), "the audit trail is never changed") {
			t.Errorf("%s: %v", statement, err)
		}
	}
	if r := verify(t, s, audit.Head{}); r.Break != nil || r.Entries != 5 {
		t.Errorf("got %+v %+v", r, r.Break)
	}
}

// TestTamperingBehindATrim finds what somebody does who owns the database to a trail that was trimmed up to 6 of 10, as entry 11 tells.
func TestTamperingBehindATrim(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, do, kind string
		seq            int64
	}{
		{"the first removed", `DELETE FROM audit_log WHERE seq = 7`, audit.Missing, 7},
		{"one removed", `DELETE FROM audit_log WHERE seq = 9`, audit.Missing, 9},
		{"changed", `UPDATE audit_log SET actor_id = 'v' WHERE seq = 7`, audit.Changed, 7},
		{"inserted", `UPDATE audit_log SET seq = -seq WHERE seq > 8; UPDATE audit_log SET seq = 1 - seq WHERE seq < 0; UPDATE audit_head SET seq = 12; UPDATE audit_start SET told = 12;
			INSERT INTO audit_log SELECT 9, gen_random_uuid(), "time", actor_id, actor_role, via, session_id, api_key_id, action, outcome, resource_type, resource_id, owner_id, changes, ip, user_agent, request_id, hash FROM audit_log WHERE seq = 8`, audit.Changed, 9},
		{"truncated with the telling entry", `DELETE FROM audit_log WHERE seq > 9`, audit.Beheaded, 7},
		{"the telling entry changed", `UPDATE audit_log SET resource_id = '6:00' WHERE seq = 11`, audit.Beheaded, 7},
		{"the telling entry tells less", `UPDATE audit_log SET changes = 'null' WHERE seq = 11`, audit.Changed, 11},
		{"the beginning moved on", `DELETE FROM audit_log WHERE seq <= 8; UPDATE audit_start SET seq = 8, hash = decode(repeat('ab', 32), 'hex')`, audit.Beheaded, 9},
		{"the beginning moved on, and the telling entry with it", `UPDATE audit_start SET seq = 8, hash = (SELECT hash FROM audit_log WHERE seq = 8);
			UPDATE audit_log SET resource_id = (SELECT '8:' || encode(hash, 'hex') FROM audit_log WHERE seq = 8) WHERE seq = 11; DELETE FROM audit_log WHERE seq <= 8`, audit.Changed, 11},
		{"the beginning moved back", `UPDATE audit_start SET seq = 0, told = 0, hash = decode(repeat('00', 32), 'hex')`, audit.Missing, 1},
		{"another hash of the beginning", `UPDATE audit_start SET hash = decode(repeat('ab', 32), 'hex')`, audit.Beheaded, 7},
		{"another hash of the beginning, told", `UPDATE audit_start SET hash = decode(repeat('ab', 32), 'hex'); UPDATE audit_log SET resource_id = '6:' || repeat('ab', 32) WHERE seq = 11`, audit.Changed, 7},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db, s := chain(t, 10)
			age(t, db, 6, 2*month)
			keep(t, s, month)
			byHand(t, db, tt.do)
			if r := verify(t, s, audit.Head{}); r.Break == nil || r.Break.Kind != tt.kind || r.Break.Seq != tt.seq || r.Break.Meaning == "" {
				t.Errorf("got %+v %+v", r, r.Break)
			}
		})
	}
}

// trimming has its chain trimmed when the walk is at an entry.
type trimming struct {
	*postgres.Audit
	once *sync.Once
	trim func()
}

func (c trimming) Entries(ctx context.Context, from int64, most int) ([]contract.TrailEntry, error) {
	c.once.Do(c.trim)
	return c.Audit.Entries(ctx, from, most)
}

// TestATrimOfAnotherIsNoBreak has another replica trim and delete what one is about to trim.
func TestATrimOfAnotherIsNoBreak(t *testing.T) {
	t.Parallel()
	db, s := chain(t, 10)
	age(t, db, 6, 2*month)
	keep(t, trimming{s, new(sync.Once), func() { keep(t, s, month) }}, month)
	if oldest, entries := first(t, db); oldest != 7 || entries != 5 {
		t.Errorf("there are %d from %d on", entries, oldest)
	}
}

// TestVerifyWhileItIsTrimmed does not take for a theft what goes while it walks.
func TestVerifyWhileItIsTrimmed(t *testing.T) {
	t.Parallel()
	db, s := chain(t, 10)
	age(t, db, 6, 2*month)
	r, err := audit.Verify(t.Context(), trimming{s, new(sync.Once), func() { keep(t, s, month) }}, audit.Head{}, nil)
	if err != nil || r.Break != nil || r.Trimmed != 6 || r.Entries != 5 {
		t.Errorf("got %+v %+v, %v", r, r.Break, err)
	}
}
