package telemetry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/subject"
	contract "turbocat.io/contracts/telemetry"
	"turbocat.io/migrations"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
	pkgpostgres "turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/pkg/postgres/weekly"
	"turbocat.io/pkg/seal"
	"turbocat.io/pkg/service"
	"turbocat.io/services/telemetry"
	"turbocat.io/services/telemetry/internal/postgres"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

var start = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)

// world is a telemetry service that runs for one test.
type world struct {
	t    testing.TB
	db   *sqlx.DB
	conn *bus.Conn
	stop func() // of the service; may be called again
}

func newWorld(t testing.TB) world {
	t.Helper()
	w := world{t: t, db: pgtest.New(t, contract.Service, migrations.Of(contract.Service)), conn: bustest.New(t)}
	w, _ = w.another()
	return w
}

// another runs one more telemetry service over the same database and bus.
func (w world) another() (world, func()) {
	t := w.t
	t.Helper()
	health := service.NewHealth(contract.Service)
	s, err := telemetry.New(service.Env{Log: zerolog.Nop(), Bus: w.conn, DB: w.db, Health: health}, telemetry.Config{
		LogRetention: 24 * time.Hour, AnalyticsRetention: 48 * time.Hour, Keys: seal.Keys{Current: strings.Repeat("k", 32)}, AllowAddresses: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(patience):
			t.Error("the service does not stop")
		}
	})
	t.Cleanup(w.stop)
	eventually(t, "ready", func() bool { return health.Check(ctx).Ready })
	return w, w.stop
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func (w world) publish(execution string, body []byte) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := w.conn.JetStream().Publish(ctx, subject.Logs(subject.PartitionOf(execution)), body); err != nil {
		w.t.Fatal(err)
	}
}

func (w world) send(lines ...contract.LogLine) {
	w.t.Helper()
	body, err := json.Marshal(contract.LogBatch{Lines: lines})
	if err != nil {
		w.t.Fatal(err)
	}
	w.publish(lines[0].ExecutionID, body)
}

func (w world) list(q contract.LogsRequest) (rpc.List[contract.LogLine], error) {
	return bus.Call(context.Background(), w.conn, contract.ListLogs, rpc.System("test"), q)
}

// awaitLines waits until an execution has n lines and gives their messages, oldest first.
func (w world) awaitLines(q contract.LogsRequest, n int) []contract.LogLine {
	w.t.Helper()
	var list rpc.List[contract.LogLine]
	eventually(w.t, fmt.Sprintf("%d lines", n), func() bool {
		var err error
		list, err = w.list(q)
		return err == nil && list.Pagination.Total == n
	})
	return list.Items
}

// awaitAcked waits until the consumer has nothing left to do.
func (w world) awaitAcked() {
	w.t.Helper()
	eventually(w.t, "everything is acked", func() bool {
		c, err := w.conn.JetStream().Consumer(context.Background(), subject.LogsStream, "telemetry-logs")
		return err == nil && c.CachedInfo().NumAckPending == 0 && c.CachedInfo().NumPending == 0
	})
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

func line(execution string, n int, change ...func(*contract.LogLine)) contract.LogLine {
	key := "b"
	l := contract.LogLine{
		ID: newID(), ExecutionID: execution, StepKey: &key, Attempt: 1, Seq: int64(n), Level: "INFO", Source: "console",
		Message: fmt.Sprintf("line %d", n), Fields: json.RawMessage(`{"n":1}`), CreatedAt: start.Add(time.Duration(n) * time.Second),
	}
	for _, f := range change {
		f(&l)
	}
	return l
}

func TestLinesComeBackAsTheyWere(t *testing.T) {
	w := newWorld(t)
	execution, seven := newID(), 7
	first := line(execution, 1, func(l *contract.LogLine) { l.Message, l.Iteration, l.Attempt = "a\x00b é", &seven, 3 })
	second := line(execution, 2, func(l *contract.LogLine) { l.StepKey, l.Level, l.Source = nil, "FATAL", "engine" })
	w.send(second, first)
	w.send(first) // a second time changes nothing
	w.awaitAcked()
	got := w.awaitLines(contract.LogsRequest{ExecutionID: execution}, 2)
	first.Message = "ab é"
	for i, want := range []contract.LogLine{first, second} {
		a, _ := json.Marshal(got[i])
		b, _ := json.Marshal(want)
		if string(a) != string(b) {
			t.Errorf("line %d is\n%s, not\n%s", i, a, b)
		}
	}
}

func TestFilters(t *testing.T) {
	w := newWorld(t)
	execution, other := newID(), newID()
	key := "c"
	w.send(
		line(execution, 1, func(l *contract.LogLine) { l.Level = "DEBUG" }),
		line(execution, 2, func(l *contract.LogLine) { l.Message = "50% done_" }),
		line(execution, 3, func(l *contract.LogLine) { l.StepKey, l.Level = &key, "WARN" }),
		line(execution, 4, func(l *contract.LogLine) { l.Level = "ERROR" }),
		line(other, 5),
	)
	w.awaitLines(contract.LogsRequest{ExecutionID: execution}, 4)
	since := start.Add(3 * time.Second)
	for name, c := range map[string]struct {
		q    contract.LogsRequest
		want []int64
	}{
		"level":       {contract.LogsRequest{Level: "WARN"}, []int64{3, 4}},
		"lowest":      {contract.LogsRequest{Level: "DEBUG"}, []int64{1, 2, 3, 4}},
		"step":        {contract.LogsRequest{StepKey: "c"}, []int64{3}},
		"since":       {contract.LogsRequest{Since: &since}, []int64{3, 4}},
		"search":      {contract.LogsRequest{Search: "% DONE_"}, []int64{2}},
		"search none": {contract.LogsRequest{Search: "0_"}, []int64{}},
		"all":         {contract.LogsRequest{Level: "INFO", StepKey: "b", Since: &since, Search: "line"}, []int64{4}},
		"page":        {contract.LogsRequest{Page: 2, PageSize: 3}, []int64{4}},
	} {
		c.q.ExecutionID = execution
		list, err := w.list(c.q)
		got := []int64{}
		for _, l := range list.Items {
			got = append(got, l.Seq)
		}
		if err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, c.want)
		}
	}
}

func TestCursorReadsEveryLineOnce(t *testing.T) {
	w := newWorld(t)
	execution := newID()
	lines := make([]contract.LogLine, 25)
	for i := range lines {
		lines[i] = line(execution, i, func(l *contract.LogLine) { l.CreatedAt = start }) // the id alone orders them
	}
	w.send(lines...)
	w.awaitLines(contract.LogsRequest{ExecutionID: execution}, 25)
	var got []int64
	cursor := ""
	for pages := 0; ; pages++ {
		list, err := w.list(contract.LogsRequest{ExecutionID: execution, PageSize: 10, Cursor: cursor})
		if err != nil || pages > 3 {
			t.Fatal(pages, err)
		}
		for _, l := range list.Items {
			got = append(got, l.Seq)
		}
		if list.Pagination.NextCursor == nil {
			break
		}
		cursor = *list.Pagination.NextCursor
	}
	for i, seq := range got {
		if seq != int64(i) {
			t.Fatalf("the lines are %v", got)
		}
	}
	if len(got) != 25 {
		t.Errorf("%d lines", len(got))
	}
}

func TestBadRequestsNameEveryFault(t *testing.T) {
	w := newWorld(t)
	_, err := w.list(contract.LogsRequest{ExecutionID: "x", Level: "LOUD", PageSize: 101, Cursor: "?", StepKey: "\x00"})
	if errs.CodeOf(err) != errs.Validation || len(errs.From(err).Details) != 5 {
		t.Errorf("%v %+v", err, errs.From(err).Details)
	}
}

func TestBadLinesCostNothingButThemselves(t *testing.T) {
	w := newWorld(t)
	execution := newID()
	w.publish(execution, []byte("{"))
	w.send(
		line(execution, 1),
		line(execution, 2, func(l *contract.LogLine) { l.ID = "none" }),
		line(execution, 3, func(l *contract.LogLine) { l.CreatedAt = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC) }), // no year of PostgreSQL's
		line(execution, 4, func(l *contract.LogLine) { l.Attempt = 1 << 40 }),
		line(execution, 5),
	)
	w.awaitAcked()
	got := w.awaitLines(contract.LogsRequest{ExecutionID: execution}, 2)
	if got[0].Seq != 1 || got[1].Seq != 5 {
		t.Errorf("%+v", got)
	}
}

func TestLinesWaitForTheDatabase(t *testing.T) {
	w := newWorld(t)
	execution := newID()
	if _, err := w.db.Exec("ALTER TABLE execution_logs RENAME TO elsewhere"); err != nil {
		t.Fatal(err)
	}
	w.send(line(execution, 1))
	eventually(t, "it was tried in vain", func() bool {
		c, err := w.conn.JetStream().Consumer(context.Background(), subject.LogsStream, "telemetry-logs")
		return err == nil && c.CachedInfo().NumRedelivered == 1
	})
	if _, err := w.db.Exec("ALTER TABLE elsewhere RENAME TO execution_logs"); err != nil {
		t.Fatal(err)
	}
	w.awaitLines(contract.LogsRequest{ExecutionID: execution}, 1)
	w.awaitAcked()
}

func TestStreamIsMadeAnew(t *testing.T) {
	w := newWorld(t)
	js := w.conn.JetStream()
	stream, err := js.Stream(context.Background(), subject.LogsStream)
	if err != nil {
		t.Fatal(err)
	}
	if cfg := stream.CachedInfo().Config; cfg.MaxAge != 24*time.Hour || cfg.MaxBytes != 1<<30 || cfg.Storage != jetstream.FileStorage {
		t.Errorf("the stream is %+v", cfg)
	}
	if err := js.DeleteStream(context.Background(), subject.LogsStream); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream is there again", func() bool {
		_, err := js.Stream(context.Background(), subject.LogsStream)
		return err == nil
	})
	execution := newID()
	w.send(line(execution, 1))
	w.awaitLines(contract.LogsRequest{ExecutionID: execution}, 1)
}

// Lines go with the week of their executions, once the last of them is old enough, and the disk comes back; the others stay.
func TestOldLinesAreDropped(t *testing.T) {
	w := newWorld(t)
	execution, recent := newID(), newID()
	var lines []contract.LogLine
	for i := range 2000 {
		lines = append(lines, line(execution, i, func(l *contract.LogLine) { l.CreatedAt, l.Message = time.Now(), strings.Repeat("x", 500) }))
		if len(lines) == 500 {
			w.send(lines...)
			lines = nil
		}
	}
	w.awaitLines(contract.LogsRequest{ExecutionID: execution}, 2000)
	const day = 24 * time.Hour
	logs := postgres.NewLogs(w.db)
	keep := func(in time.Duration) {
		t.Helper()
		keeper := weekly.NewKeeper(logs.Weeks(), logs.Retention(30*day), zerolog.Nop(), nil).
			WithClock(func(context.Context) (time.Time, error) { return time.Now().Add(in), nil })
		eventually(t, "a round of retention is done", func() bool { return keeper.Keep(t.Context()) == nil })
	}
	size := func() (n int64) {
		if err := w.db.Get(&n, `SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'execution_logs%'`); err != nil {
			t.Fatal(err)
		}
		return n
	}
	full := size()
	w.send(line(execution, 2001, func(l *contract.LogLine) { l.CreatedAt = time.Now().Add(20 * day) })) // of an execution that takes long
	w.awaitLines(contract.LogsRequest{ExecutionID: execution}, 2001)
	keep(0)
	keep(40 * day)
	w.awaitLines(contract.LogsRequest{ExecutionID: execution}, 2001)
	// A round drops nothing while the service's own first round is still making weeks; the next one does.
	eventually(t, "the week is dropped", func() bool {
		keep(51 * day)
		list, err := w.list(contract.LogsRequest{ExecutionID: execution})
		return err == nil && list.Pagination.Total == 0
	})
	if now := size(); now > full/2 {
		t.Errorf("%d bytes are left of %d", now, full)
	}
	// By that clock these are older than any week.
	w.send(line(recent, 1, func(l *contract.LogLine) { l.CreatedAt = time.Now() }))
	w.awaitLines(contract.LogsRequest{ExecutionID: recent}, 1)
	keep(29 * day)
	w.awaitLines(contract.LogsRequest{ExecutionID: recent}, 1)
	keep(31 * day)
	w.awaitLines(contract.LogsRequest{ExecutionID: recent}, 0)
}

// An installation that has lines keeps them over the migration to weeks and back.
func TestMigrationToWeeks(t *testing.T) {
	db, err := pkgpostgres.Open(pgtest.URL(t, map[string]fs.FS{}), "public")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	run := func(query string) {
		t.Helper()
		if _, err := db.Exec(query); err != nil {
			t.Fatal(err)
		}
	}
	apply := func(name string) {
		t.Helper()
		body, err := fs.ReadFile(migrations.Of(contract.Service), name)
		if err != nil {
			t.Fatal(err)
		}
		run(string(body))
	}
	apply("000001_execution_logs.up.sql")
	run(`INSERT INTO execution_logs (execution_id, id, attempt, seq, level, source, message, fields, created_at)
		SELECT (lpad(to_hex((extract(epoch FROM now() + (i - 90) * interval '1 day') * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid, gen_random_uuid(), 1, i, 1, 'engine', 'm', '{}', now()
		FROM generate_series(1, 120) i`)
	sum := func() (n int64) {
		if err := db.Get(&n, `SELECT hashtext(string_agg(x::text, ',' ORDER BY x::text)) FROM execution_logs x`); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := sum()
	for range 2 {
		for _, name := range []string{"000002_weeks.up.sql", "000002_weeks.down.sql"} {
			if apply(name); sum() != before {
				t.Fatalf("after %s the lines are others", name)
			}
		}
	}
}
