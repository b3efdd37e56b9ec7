package postgres_test

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"go.uber.org/goleak"

	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/migrations"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/services/telemetry/internal/postgres"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// populate makes n lines of an execution, oldest last. One in 6,000 is of a rare step, in 10,000 an error and in 9,000 has a rare word.
func populate(t testing.TB, db *sqlx.DB, n int, id string) {
	t.Helper()
	pgtest.Fill(t, db, []string{"execution_logs"}, `INSERT INTO execution_logs (execution_id, id, step_key, attempt, seq, level, source, message, fields, created_at)
		SELECT '`+id+`', gen_random_uuid(), CASE WHEN i % 6000 = 0 THEN 'rare' WHEN i % 10 > 0 THEN 'common' END, 1, i, CASE WHEN i % 10000 = 0 THEN 3 WHEN i % 1000 = 0 THEN 2 ELSE i % 2 END, 'console',
			CASE WHEN i % 9000 = 0 THEN 'needle' ELSE 'line ' END || i, '{}', now() - i * interval '1 ms' FROM generate_series(1, `+strconv.Itoa(n)+`) i`)
}

// lists gives requests for a log by each thing that it can be narrowed by.
func lists(id string) map[string]telemetry.LogsRequest {
	all := map[string]telemetry.LogsRequest{
		"all": {}, "page 50": {Page: 50}, "INFO": {Level: "INFO"}, "WARN": {Level: "WARN"}, "ERROR": {Level: "ERROR"}, "a step": {StepKey: "common"}, "a rare step": {StepKey: "rare"}, "no step": {StepKey: "none"},
		"no errors of a step": {Level: "ERROR", StepKey: "common"}, "common text": {Search: "INE"}, "rare text": {Search: "needle"}, "no text": {Search: "haystack"}, "no text, of a step": {StepKey: "common", Search: "haystack"},
	}
	for name, req := range all {
		req.ExecutionID = id
		all[name] = req
	}
	return all
}

// TestListsReadLittle holds that a page of the log of an execution that has most of the lines is found by an index, also by level and step.
func TestListsReadLittle(t *testing.T) {
	db := pgtest.New(t, telemetry.Service, migrations.Of(telemetry.Service))
	id := uuid.Must(uuid.NewV7()).String()
	populate(t, db, 60_000, id)
	db.SetMaxOpenConns(1)
	logs := postgres.NewLogs(db)
	for name, req := range lists(id) {
		t.Run(name, func(t *testing.T) {
			// Beside the page, up to 10,001 rows are counted; of those that have a text, 4,000 are looked through.
			most := 45_000
			if req.Search != "" {
				most = 18_000
			}
			if n := pgtest.Reads(t, db, "execution_logs", func(ctx context.Context) {
				list, err := logs.List(ctx, req)
				none := strings.HasPrefix(name, "no ") || name == "rare text" // that is none of the first
				if err != nil || none != (len(list.Items) == 0) || req.Search != "" && none != (list.Pagination.NextCursor != nil && len(list.Items) == 0) {
					t.Errorf("lists %d of %+v, %v", len(list.Items), list.Pagination, err)
				}
			}); n > most {
				t.Errorf("%d rows and entries are read, more than %d", n, most)
			}
		})
	}
}

// TestDeliveriesReadLittle holds that a page of what was sent to a webhook that has most of the deliveries is found by an index, also by status.
func TestDeliveriesReadLittle(t *testing.T) {
	db := pgtest.New(t, telemetry.Service, migrations.Of(telemetry.Service))
	db.SetMaxOpenConns(1)
	id := uuid.NewString()
	pgtest.Fill(t, db, []string{"webhook_deliveries"}, `INSERT INTO webhook_deliveries (id, webhook_id, event_id, event_type, subject, event, status, created_at)
		SELECT gen_random_uuid(), '`+id+`', gen_random_uuid(), 'io.turbocat.execution.started.v1', 'x' || i, '{}', CASE WHEN i % 6000 = 0 THEN 'FAILED' ELSE 'DELIVERED' END, now() - i * interval '1 ms'
		FROM generate_series(1, 60000) i`)
	hooks := postgres.NewWebhooks(db, postgres.NewFeed(db))
	for name, c := range map[string]struct {
		req  telemetry.ListDeliveriesRequest
		want int
	}{
		"all":       {telemetry.ListDeliveriesRequest{}, 20},
		"page 50":   {telemetry.ListDeliveriesRequest{Page: rpc.Page{Page: 50}}, 20},
		"oldest":    {telemetry.ListDeliveriesRequest{Page: rpc.Page{SortOrder: "asc"}}, 20},
		"failed":    {telemetry.ListDeliveriesRequest{Status: telemetry.DeliveryFailed}, 10},
		"none":      {telemetry.ListDeliveriesRequest{Status: telemetry.DeliveryPending}, 0},
		"by a text": {telemetry.ListDeliveriesRequest{Page: rpc.Page{Search: "started"}}, 20},
	} {
		t.Run(name, func(t *testing.T) {
			c.req.WebhookID = id
			if n := pgtest.Reads(t, db, "webhook_deliveries", func(ctx context.Context) {
				list, err := hooks.Deliveries(ctx, c.req)
				if err != nil || len(list.Items) != c.want {
					t.Errorf("lists %d of %+v, %v", len(list.Items), list.Pagination, err)
				}
			}); n > 45_000 { // up to 10,001 are counted
				t.Errorf("%d rows and entries are read", n)
			}
		})
	}
}

// TestASearchGoesOn has lines that are far apart: a page ends with the lines that are looked through for it, and the next goes on behind them.
func TestASearchGoesOn(t *testing.T) {
	db := pgtest.New(t, telemetry.Service, migrations.Of(telemetry.Service))
	id := uuid.Must(uuid.NewV7()).String()
	populate(t, db, 20_000, id)
	logs := postgres.NewLogs(db)
	var found []string
	req := telemetry.LogsRequest{ExecutionID: id, Search: "needle"}
	for page := 1; ; page++ {
		list, err := logs.List(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range list.Items {
			found = append(found, line.Message)
		}
		p := list.Pagination
		if p.Page != page || p.Total != len(found) || p.TotalIsAtLeast != (p.NextCursor != nil) {
			t.Errorf("page %d with %d so far is %+v", page, len(found), p)
		}
		if p.NextCursor == nil {
			if want := []string{"needle18000", "needle9000"}; !slices.Equal(found, want) || page != 6 { // 4,000 lines each, and behind the last
				t.Errorf("%d pages have %v, want %v", page, found, want)
			}
			break
		}
		req.Cursor = *p.NextCursor
	}
	for number, want := range map[int]int{1: 1, 2: 0, 400: 0} { // by its number, a page is looked for from the beginning
		list, err := logs.List(t.Context(), telemetry.LogsRequest{ExecutionID: id, Search: "needle", Page: number})
		if err != nil || len(list.Items) != want || list.Pagination.Total > 2 {
			t.Errorf("page %d has %d lines of %+v, %v", number, len(list.Items), list.Pagination, err)
		}
	}
}

// BenchmarkLists reads the first page of 20 of 1,000,000 lines of an execution by each filter. The time is to be below 20 ms at p95.
func BenchmarkLists(b *testing.B) {
	db := pgtest.New(b, telemetry.Service, migrations.Of(telemetry.Service))
	id := uuid.Must(uuid.NewV7()).String()
	populate(b, db, 1_000_000, id)
	logs, all := postgres.NewLogs(db), lists(id)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		b.Run(name, func(b *testing.B) {
			pgtest.P95(b, func(ctx context.Context) {
				if _, err := logs.List(ctx, all[name]); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}
