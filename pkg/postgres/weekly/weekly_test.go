package weekly_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/pkg/postgres/weekly"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("database/sql.(*DB).connectionOpener"))
}

var schema fs.FS = fstest.MapFS{
	"000001_things.up.sql": {Data: []byte(`
		CREATE TABLE things (id uuid PRIMARY KEY, body text NOT NULL) PARTITION BY RANGE (id);
		CREATE TABLE things_default PARTITION OF things DEFAULT WITH (fillfactor = 80);
		CREATE UNIQUE INDEX ON things_default (body);
		CREATE TABLE parts (thing uuid, n integer, PRIMARY KEY (thing, n)) PARTITION BY RANGE (thing);
		CREATE TABLE parts_default PARTITION OF parts DEFAULT;`)},
	"000001_things.down.sql": {Data: []byte(`DROP TABLE things; DROP TABLE parts;`)},
}

const day = 24 * time.Hour

// monday begins a week.
var monday = time.Date(2031, 5, 5, 0, 0, 0, 0, time.UTC)

type world struct {
	t  *testing.T
	db *sqlx.DB
	weekly.Tables
}

func newWorld(t *testing.T) world {
	t.Helper()
	db := pgtest.New(t, "weekly", schema)
	return world{t, db, weekly.Tables{DB: db, Names: []string{"things", "parts"}}}
}

func (w world) exec(query string, args ...any) {
	w.t.Helper()
	if _, err := w.db.ExecContext(w.t.Context(), query, args...); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
}

func (w world) count(query string, args ...any) (n int64) {
	w.t.Helper()
	if err := w.db.GetContext(w.t.Context(), &n, query, args...); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
	return n
}

// id gives a UUIDv7 of a time.
func id(at time.Time) string {
	u := uuid.Must(uuid.NewV7())
	for i := range 6 {
		u[i] = byte(at.UnixMilli() >> (40 - 8*i))
	}
	return u.String()
}

func (w world) add(at time.Time, body string) string {
	w.t.Helper()
	key := id(at)
	w.exec(`INSERT INTO things VALUES ($1, $2)`, key, body)
	w.exec(`INSERT INTO parts SELECT $1, generate_series(1, 3)`, key)
	return key
}

func (w world) make(now time.Time, want int) {
	w.t.Helper()
	if made, err := w.Make(w.t.Context(), now); err != nil || made != want {
		w.t.Fatalf("%d partitions made, %v; not %d", made, err, want)
	}
}

func (w world) weeks(want ...time.Time) []weekly.Week {
	w.t.Helper()
	weeks, err := w.Weeks(w.t.Context())
	if err != nil || len(weeks) != len(want) {
		w.t.Fatalf("weeks %v, %v; not %v", weeks, err, want)
	}
	for i, from := range want {
		if !weeks[i].From.Equal(from) || !weeks[i].To.Equal(from.Add(7*day)) {
			w.t.Fatalf("week %d is %s to %s", i, weeks[i].From, weeks[i].To)
		}
	}
	return weeks
}

func always(context.Context, sqlx.QueryerContext, weekly.Week) (bool, error) { return true, nil }

// Weeks are there before they begin, like the DEFAULT partition in all; rows are in theirs to the millisecond.
func TestWeeksAreMadeAhead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.make(monday.Add(3*day), 6)
	w.make(monday.Add(3*day), 0)
	w.weeks(monday, monday.Add(7*day), monday.Add(14*day))
	w.make(monday.Add(8*day), 2)
	w.weeks(monday, monday.Add(7*day), monday.Add(14*day), monday.Add(21*day))
	w.add(monday.Add(-time.Millisecond), "before")
	w.add(monday, "first")
	w.add(monday.Add(7*day-time.Millisecond), "last")
	w.add(monday.Add(7*day), "after")
	for table, want := range map[string]int64{"things_default": 1, "things_20310505": 2, "parts_20310505": 6, "things_20310512": 1} {
		if n := w.count(`SELECT count(*) FROM ` + table); n != want {
			t.Errorf("%s has %d rows, not %d", table, n, want)
		}
	}
	if n := w.count(`SELECT count(*) FROM pg_class WHERE relname LIKE 'things\_2%' AND relkind = 'r' AND reloptions = '{fillfactor=80}'`); n != 4 {
		t.Errorf("%d of 4 weeks have the options of DEFAULT", n)
	}
	if _, err := w.db.Exec(`INSERT INTO things VALUES ($1, 'first')`, id(monday.Add(time.Hour))); err == nil {
		t.Error("what is unique in DEFAULT is not unique in a week")
	}
}

// What came before its week was made is in it afterwards; what would hold others up for too long stays.
func TestStraysAreMovedIntoTheirWeek(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(monday.Add(day), "ours")
	w.add(monday.Add(400*day), "of a clock that is ahead")
	w.exec(`INSERT INTO parts SELECT ('` + id(monday.Add(8 * day))[:8] + `' || substr(gen_random_uuid()::text, 9))::uuid, 1 FROM generate_series(1, 10001)`)
	made, err := w.Make(t.Context(), monday)
	if made != 5 || err == nil {
		t.Errorf("%d partitions made, %v; parts has too many rows of one", made, err)
	}
	for table, want := range map[string]int64{"things_default": 1, "things_20310505": 1, "parts_20310505": 3, "parts_default": 10004, "things": 2, "parts": 10007} {
		if n := w.count(`SELECT count(*) FROM ` + table); n != want {
			t.Errorf("%s has %d rows, not %d", table, n, want)
		}
	}
}

// A dropped week gives the disk back, and only it; its keys are then of no week.
func TestDropGivesTheDiskBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.make(monday, 6)
	for i := range 1000 {
		w.add(monday.Add(time.Duration(i)*time.Minute), strings.Repeat(uuid.NewString(), 10))
	}
	kept := w.add(monday.Add(8*day), "kept")
	size := func() int64 {
		return w.count(`SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE relnamespace = 'weekly'::regnamespace AND relkind = 'r'`)
	}
	first := w.weeks(monday, monday.Add(7*day), monday.Add(14*day))[0]
	for name, over := range map[string]func(context.Context, sqlx.QueryerContext, weekly.Week) (bool, error){
		"not over":  func(context.Context, sqlx.QueryerContext, weekly.Week) (bool, error) { return false, nil },
		"not known": func(context.Context, sqlx.QueryerContext, weekly.Week) (bool, error) { return true, errors.New("away") },
	} {
		if dropped, _, err := w.Drop(t.Context(), first, over); dropped || (err != nil) != (name == "not known") {
			t.Errorf("%s: dropped: %t, %v", name, dropped, err)
		}
	}
	asked := 0
	dropped, _, err := w.Drop(t.Context(), first, func(context.Context, sqlx.QueryerContext, weekly.Week) (bool, error) {
		asked++
		return asked == 1, nil // by the second time somebody has begun something in it
	})
	if dropped || err != nil || w.count(`SELECT count(*) FROM things`) != 1001 {
		t.Fatalf("dropped under the lock, %v", err)
	}
	before := size()
	dropped, bytes, err := w.Drop(t.Context(), first, always)
	if !dropped || err != nil || bytes < 300_000 || before-size() != bytes {
		t.Errorf("dropped: %t, %v; %d bytes of %d, now there are %d", dropped, err, bytes, before, size())
	}
	if n := w.count(`SELECT count(*) FROM things WHERE id = $1`, kept); n != 1 || w.count(`SELECT count(*) FROM things`) != 1 || w.count(`SELECT count(*) FROM parts`) != 3 {
		t.Error("another week is gone, too")
	}
	w.add(monday, "late") // into DEFAULT
	if dropped, bytes, err := w.Drop(t.Context(), first, always); err != nil || bytes != 0 {
		t.Errorf("a second time: %t, %d, %v", dropped, bytes, err)
	}
}

// Somebody with a long transaction holds up the making and dropping, which holds up nobody else for long.
func TestNobodyWaitsForLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.make(monday, 6)
	first := w.weeks(monday, monday.Add(7*day), monday.Add(14*day))[0]
	tx, err := w.db.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(t.Context(), `INSERT INTO things VALUES ($1, 'x')`, id(monday)); err != nil {
		t.Fatal(err)
	}
	done, busy := make(chan struct{}), sync.WaitGroup{}
	longest := time.Duration(0)
	busy.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			begin := time.Now()
			if _, err := w.db.ExecContext(t.Context(), `INSERT INTO things VALUES ($1, gen_random_uuid()::text)`, id(monday)); err != nil {
				t.Error(err)
			}
			longest = max(longest, time.Since(begin))
		}
	})
	if made, err := w.Make(t.Context(), monday.Add(21*day)); err == nil || made != 3 { // nobody is in parts
		t.Errorf("made %d of 6 over a lock on things, %v", made, err)
	}
	if dropped, _, err := w.Drop(t.Context(), first, always); dropped || err == nil {
		t.Errorf("dropped over a lock: %t, %v", dropped, err)
	}
	close(done)
	busy.Wait()
	if longest > 2500*time.Millisecond { // below the lock_timeout of who is held up; 200 ms on a machine that is not busy
		t.Errorf("somebody waited for %s", longest)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	w.make(monday.Add(21*day), 3)
}

// Several keepers at once, while rows come, all of which are there in the end.
func TestKeepersDoNoHarmToOneAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var keepers sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		at := monday
		keeper := weekly.NewKeeper(w.Tables, weekly.Rules{
			Period: day,
			Over: func(ctx context.Context, q sqlx.QueryerContext, week weekly.Week, _ time.Time) (over bool, err error) {
				err = sqlx.GetContext(ctx, q, &over, `SELECT NOT EXISTS (SELECT FROM things WHERE id >= $1 AND id < $2)`, week.FromID(), week.ToID())
				return over, err
			},
			Sweep: func(context.Context, time.Time) (int64, error) { return 0, nil },
		}, zerolog.Nop(), nil).WithClock(func(context.Context) (time.Time, error) {
			at = at.Add(7 * day)
			return at, nil
		})
		keepers.Go(func() {
			for range 20 {
				_ = keeper.Keep(t.Context()) // a lock that it does not get is tried again
			}
		})
	}
	go func() { keepers.Wait(); close(done) }()
	n := int64(0)
	for at := monday; ; at = at.Add(day) {
		select {
		case <-done:
		default:
			w.add(at, uuid.NewString())
			n++
			continue
		}
		break
	}
	if got, parts := w.count(`SELECT count(*) FROM things`), w.count(`SELECT count(*) FROM parts`); got != n || parts != 3*n {
		t.Errorf("%d of %d things, %d parts", got, n, parts)
	}
}
