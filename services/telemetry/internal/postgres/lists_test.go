package postgres_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"turbocat.io/contracts/telemetry"
	"turbocat.io/migrations"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/services/telemetry/internal/postgres"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestListsReadLittle holds that a page of the log of an execution that has most of the lines is found by an index, also by level and step.
func TestListsReadLittle(t *testing.T) {
	db := pgtest.New(t, telemetry.Service, migrations.Of(telemetry.Service))
	id := uuid.Must(uuid.NewV7()).String()
	pgtest.Fill(t, db, []string{"execution_logs"}, `INSERT INTO execution_logs (execution_id, id, step_key, attempt, seq, level, source, message, fields, created_at)
		SELECT '`+id+`', gen_random_uuid(), CASE WHEN i % 6000 = 0 THEN 'rare' WHEN i % 10 > 0 THEN 'common' END, 1, i, CASE WHEN i % 10000 = 0 THEN 3 WHEN i % 1000 = 0 THEN 2 ELSE i % 2 END, 'console', 'line ' || i, '{}',
			now() - i * interval '1 ms' FROM generate_series(1, 60000) i`)
	db.SetMaxOpenConns(1)
	logs := postgres.NewLogs(db)
	for name, req := range map[string]telemetry.LogsRequest{
		"all": {}, "page 50": {Page: 50}, "INFO": {Level: "INFO"}, "WARN": {Level: "WARN"}, "ERROR": {Level: "ERROR"}, "a step": {StepKey: "common"}, "a rare step": {StepKey: "rare"}, "no step": {StepKey: "none"},
		"errors of a step": {Level: "ERROR", StepKey: "common"},
	} {
		t.Run(name, func(t *testing.T) {
			req.ExecutionID = id
			if n := pgtest.Reads(t, db, "execution_logs", func(ctx context.Context) {
				list, err := logs.List(ctx, req)
				if err != nil || (len(list.Items) == 0) != (name == "no step" || name == "errors of a step") {
					t.Errorf("%d lines, %v", len(list.Items), err)
				}
			}); n > 45_000 {
				t.Errorf("%d rows and entries are read", n)
			}
		})
	}
}
