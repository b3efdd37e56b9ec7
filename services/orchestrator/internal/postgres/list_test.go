package postgres

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/postgres/pgtest"
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
		{"of API and a workflow", orchestrator.ListRequest{TriggerType: orchestrator.TriggerAPI, WorkflowID: workflow}},
		{"of a trigger", orchestrator.ListRequest{TriggerID: uuid.NewString()}},
		{"by the beginning of an id", orchestrator.ListRequest{Page: rpc.Page{Search: uuid.Must(uuid.NewV7()).String()[:9]}}},
		{"by what is no id", orchestrator.ListRequest{Page: rpc.Page{Search: "order"}}},
		{"of a time", orchestrator.ListRequest{From: &before, To: ptr(before.Add(time.Hour))}},
		{"the other's", orchestrator.ListRequest{}},
		{"the other's PENDING", orchestrator.ListRequest{Status: orchestrator.ExecutionPending}},
		{"the other's FAILED", orchestrator.ListRequest{Status: orchestrator.ExecutionFailed}},
		{"the other's CANCELLED", orchestrator.ListRequest{Status: orchestrator.ExecutionCancelled}},
		{"the other's by EVENT", orchestrator.ListRequest{TriggerType: orchestrator.TriggerEvent}},
		{"the other's of a workflow that is not his", orchestrator.ListRequest{WorkflowID: workflow}},
		{"the other's of API", orchestrator.ListRequest{TriggerType: orchestrator.TriggerAPI}},
	} {
		t.Run(c.name, func(t *testing.T) {
			user := user
			if strings.HasPrefix(c.name, "the other's") {
				user = other // whose workflows nobody else has started
			}
			if c.name == "the next page" {
				c.req.Page.Cursor = next
			}
			before := l.read()
			rows, pagination, err := l.List(t.Context(), user, c.req)
			// Beside the page, up to 10,001 rows are counted in each half of the list; those that did not complete are few.
			most := 25_000
			if c.req.Status == orchestrator.ExecutionFailed || c.req.Status == orchestrator.ExecutionCancelled {
				most = 5_000
			}
			if c.name == "the other's of a workflow that is not his" {
				most = 10
			}
			if read := l.read() - before; err != nil || read > most {
				t.Errorf("%d rows are read, more than %d, %v", read, most, err)
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

// TestAListOfAPIGoesOn has a user with almost only scheduled executions: those that a call has started are looked for in a part of them for each page.
func TestAListOfAPIGoesOn(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	scheduled := uuid.NewString()
	l.populate(30_000, uuid.NewString(), scheduled, uuid.NewString())
	const first = `(SELECT id FROM executions WHERE user_id = $1 ORDER BY created_at LIMIT 1)`
	l.db.SetMaxOpenConns(1)
	l.exec(`UPDATE executions SET trigger_type = 'API' WHERE id = `+first, scheduled)
	req, pages, found := orchestrator.ListRequest{TriggerType: orchestrator.TriggerAPI}, 0, 0
	for {
		before := l.read()
		rows, pagination, err := l.List(t.Context(), scheduled, req)
		if read := l.read() - before; err != nil || read > 14_000 { // 4,000 with their entries, and the entry of the last
			t.Fatalf("%d rows are read for page %d, %v", read, pages+1, err)
		}
		pages, found = pages+1, found+len(rows)
		if pagination.NextCursor == nil {
			if pagination.Total != 1 || pagination.TotalIsAtLeast {
				t.Errorf("%d in all, or more: %t", pagination.Total, pagination.TotalIsAtLeast)
			}
			break
		}
		if !pagination.TotalIsAtLeast {
			t.Error("more pages follow, and there are no more executions")
		}
		req.Page.Cursor = *pagination.NextCursor
	}
	if found != 1 || pages != 3 {
		t.Errorf("%d executions in %d pages", found, pages)
	}
	for action, want := range map[string]int{orchestrator.BulkRetry: 1, orchestrator.BulkCancel: 1} {
		ids, matched, err := l.Named(t.Context(), scheduled, orchestrator.ListRequest{TriggerType: orchestrator.TriggerAPI}, action, statuses, 10)
		if err != nil || len(ids) != want || matched != want {
			t.Errorf("%s is for %v of %d, %v", action, ids, matched, err)
		}
	}
}

// populate makes n executions, of which a user has started seven tenths and another tenth is of his workflows, and which ended as most do: some in other ways, few of all
// by EVENT, TIMEOUT or another's. The other's are scheduled.
func (l ledger) populate(n int, user, other, workflow string) {
	l.t.Helper()
	rows := strings.NewReplacer("{n}", strconv.Itoa(n), "{user}", user, "{other}", other, "{workflow}", workflow).Replace(`
		INSERT INTO executions (id, p, workflow_id, workflow_version, workflow_owner, user_id, definition, engine_version, status, trigger_type, priority, inputs,
			request_id, traceparent, steps_total, created_at, completed_at, error)
		SELECT gen_random_uuid(), i % 32, CASE WHEN i % 50 = 0 THEN '{workflow}'::uuid ELSE gen_random_uuid() END, 1,
			CASE WHEN i % 10 < 8 THEN '{user}'::uuid ELSE '{other}'::uuid END, CASE WHEN i % 10 < 7 THEN '{user}'::uuid ELSE '{other}'::uuid END, '', 1,
			s, CASE WHEN i % 9973 = 0 THEN 'EVENT' WHEN i % 10 >= 7 THEN 'SCHEDULED' ELSE 'API' END, 5, convert_to(repeat(md5(i::text), 8), 'UTF8'), '', '', 1, now() - i * interval '1 s',
			CASE WHEN s <> 'RUNNING' AND s <> 'PENDING' THEN now() END, CASE WHEN s = 'FAILED' OR s = 'TIMEOUT' THEN '{}'::bytea END
		FROM (SELECT i, CASE WHEN i <= 50 THEN 'RUNNING' WHEN i <= 100 THEN 'PENDING' WHEN i % 9967 = 0 THEN 'TIMEOUT' WHEN i % 17 = 0 THEN 'FAILED'
			WHEN i % 19 = 0 THEN 'CANCELLED' ELSE 'COMPLETED' END AS s FROM generate_series(1, {n}) i) v`)
	pgtest.Fill(l.t, l.db, []string{"executions"}, rows)
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
	for who, id := range map[string]string{"user": user, "scheduled": other, "admin": "", "nobody": uuid.NewString()} {
		for _, name := range slices.Sorted(maps.Keys(filters)) {
			b.Run(who+"/"+name, func(b *testing.B) {
				pgtest.P95(b, func(ctx context.Context) {
					if _, _, err := l.List(ctx, id, filters[name]); err != nil {
						b.Fatal(err)
					}
				})
			})
		}
	}
}

func ptr[T any](v T) *T { return &v }
