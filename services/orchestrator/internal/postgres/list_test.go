package postgres

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
)

// TestListsReadLittle holds that a page of a user who has most of the executions is found by an index in its order, not by looking at all.
func TestListsReadLittle(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	user, other := uuid.NewString(), uuid.NewString()
	workflow := uuid.NewString()
	l.populate(60_000, user, other, workflow)
	l.db.SetMaxOpenConns(1) // one session, whose figures are asked for
	before := time.Now().Add(-2 * time.Hour)
	next := ""
	for _, c := range []struct {
		name string
		req  orchestrator.ListRequest
	}{
		{"all", orchestrator.ListRequest{}},
		{"the next page", orchestrator.ListRequest{}},
		{"page 20", orchestrator.ListRequest{Page: rpc.Page{Page: 20}}},
		{"the oldest", orchestrator.ListRequest{Page: rpc.Page{SortOrder: "asc"}}},
		{"PENDING", orchestrator.ListRequest{Status: orchestrator.ExecutionPending}},
		{"RUNNING", orchestrator.ListRequest{Status: orchestrator.ExecutionRunning}},
		{"PAUSED", orchestrator.ListRequest{Status: orchestrator.ExecutionPaused}},
		{"COMPLETED", orchestrator.ListRequest{Status: orchestrator.ExecutionCompleted}},
		{"FAILED", orchestrator.ListRequest{Status: orchestrator.ExecutionFailed}},
		{"CANCELLED", orchestrator.ListRequest{Status: orchestrator.ExecutionCancelled}},
		{"TIMEOUT", orchestrator.ListRequest{Status: orchestrator.ExecutionTimeout}},
		{"of a workflow", orchestrator.ListRequest{WorkflowID: workflow}},
		{"of a rare trigger type", orchestrator.ListRequest{TriggerType: orchestrator.TriggerEvent}},
		{"of API", orchestrator.ListRequest{TriggerType: orchestrator.TriggerAPI}},
		{"of a trigger", orchestrator.ListRequest{TriggerID: uuid.NewString()}},
		{"by the beginning of an id", orchestrator.ListRequest{Page: rpc.Page{Search: uuid.Must(uuid.NewV7()).String()[:9]}}},
		{"by what is no id", orchestrator.ListRequest{Page: rpc.Page{Search: "order"}}},
		{"of a time", orchestrator.ListRequest{From: &before, To: ptr(before.Add(time.Hour))}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "the next page" {
				c.req.Page.Cursor = next
			}
			before := l.read()
			rows, pagination, err := l.List(t.Context(), user, c.req)
			// Beside the page, up to 10,001 rows are counted in each half of the list.
			if read := l.read() - before; err != nil || read > 25_000 {
				t.Errorf("%d rows are read, %v", read, err)
			}
			if next == "" && pagination.NextCursor != nil {
				next = *pagination.NextCursor
			}
			if c.name == "all" && (len(rows) != 20 || pagination.Total != 10_000 || !pagination.TotalIsAtLeast) {
				t.Errorf("%d of %d", len(rows), pagination.Total)
			}
			for i, r := range rows {
				if r.UserID != user && r.WorkflowOwner != user || i > 0 && c.req.Page.SortOrder == "" && r.CreatedAt.After(rows[i-1].CreatedAt) {
					t.Errorf("row %d is of %s and %s, %v", i, r.UserID, r.WorkflowOwner, r.CreatedAt)
				}
			}
		})
	}
}

// read gives how many rows and entries of indexes of the table have been read so far.
func (l ledger) read() (n int) {
	l.t.Helper()
	l.exec(`SELECT pg_stat_force_next_flush()`)
	if err := l.db.GetContext(l.t.Context(), &n, `SELECT (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'executions')
		+ (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'executions')`); err != nil {
		l.t.Fatal(err)
	}
	return n
}

// populate makes n executions, of which a user has started seven tenths and another tenth is of his workflows, and which ended as most do: some in other ways, few of all
// by EVENT, TIMEOUT or another's.
func (l ledger) populate(n int, user, other, workflow string) {
	l.t.Helper()
	const atOnce = 5_000 // within the time of a statement
	for from := 1; from <= n; from += atOnce {
		l.exec(`INSERT INTO executions (id, p, workflow_id, workflow_version, workflow_owner, user_id, definition, engine_version, status, trigger_type, priority, inputs,
				request_id, traceparent, steps_total, created_at, completed_at, error)
			SELECT gen_random_uuid(), i % 32, CASE WHEN i % 50 = 0 THEN $3::uuid ELSE gen_random_uuid() END, 1,
				CASE WHEN i % 10 < 8 THEN $1::uuid ELSE $2::uuid END, CASE WHEN i % 10 < 7 THEN $1::uuid ELSE $2::uuid END, '', 1,
				s, CASE WHEN i % 9973 = 0 THEN 'EVENT' ELSE 'API' END, 5, convert_to(repeat(md5(i::text), 8), 'UTF8'), '', '', 1, now() - i * interval '1 s',
				CASE WHEN s <> 'RUNNING' AND s <> 'PENDING' THEN now() END, CASE WHEN s = 'FAILED' OR s = 'TIMEOUT' THEN '{}'::bytea END
			FROM (SELECT i, CASE WHEN i <= 50 THEN 'RUNNING' WHEN i <= 100 THEN 'PENDING' WHEN i % 9967 = 0 THEN 'TIMEOUT' WHEN i % 17 = 0 THEN 'FAILED'
				WHEN i % 19 = 0 THEN 'CANCELLED' ELSE 'COMPLETED' END AS s FROM generate_series($4::int, $5::int) i) v`, user, other, workflow, from, min(from+atOnce, n+1)-1)
	}
	l.exec(`VACUUM (ANALYZE) executions`) // as it is before long
}

// BenchmarkLists reads the first page of 20 of 1,000,000 executions by each filter, as the user who has most of them, as an ADMIN, and as who has none.
// The time is to be below 20 ms at p95.
func BenchmarkLists(b *testing.B) {
	l := newLedger(b)
	user, other, workflow := uuid.NewString(), uuid.NewString(), uuid.NewString()
	l.populate(1_000_000, user, other, workflow)
	day := time.Now().Add(-24 * time.Hour)
	filters := map[string]orchestrator.ListRequest{
		"all": {}, "page50": {Page: rpc.Page{Page: 50}}, "oldest": {Page: rpc.Page{SortOrder: "asc"}}, "workflow": {WorkflowID: workflow}, "trigger": {TriggerID: uuid.NewString()},
		"day": {From: &day, To: ptr(day.Add(time.Hour))}, "search": {Page: rpc.Page{Search: "01a2043f"}}, "API": {TriggerType: orchestrator.TriggerAPI}, "EVENT": {TriggerType: orchestrator.TriggerEvent},
	}
	for _, status := range statuses {
		filters[status] = orchestrator.ListRequest{Status: status}
	}
	for who, id := range map[string]string{"user": user, "admin": "", "nobody": uuid.NewString()} {
		for _, name := range slices.Sorted(maps.Keys(filters)) {
			b.Run(who+"/"+name, func(b *testing.B) {
				var times []time.Duration
				for b.Loop() {
					began := time.Now()
					if _, _, err := l.List(b.Context(), id, filters[name]); err != nil {
						b.Fatal(err)
					}
					times = append(times, time.Since(began))
				}
				slices.Sort(times)
				b.ReportMetric(float64(times[len(times)*95/100].Microseconds())/1000, "p95-ms")
			})
		}
	}
}

func ptr[T any](v T) *T { return &v }
