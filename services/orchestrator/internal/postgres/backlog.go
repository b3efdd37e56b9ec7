package postgres

import (
	"context"
	"time"

	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/postgres"
	"turbocat.io/services/orchestrator/internal/backlog"
)

// Overdue tells what should have happened. It looks at the first entry of an index for each partition, however many executions there are.
func (s *Store) Overdue(ctx context.Context) (backlog.Overdue, error) {
	var row struct {
		Timers, Schedules, Commands float64 // seconds
		Orphans                     int
	}
	err := s.db.GetContext(ctx, &row, `SELECT
		coalesce((SELECT extract(epoch FROM clock_timestamp() - min(first.sleeps_until)) FROM generate_series(0, $1 - 1) of(p), LATERAL (
			SELECT sleeps_until FROM executions WHERE executions.p = of.p AND completed_at IS NULL AND sleeps_until IS NOT NULL ORDER BY sleeps_until LIMIT 1) first), 0)::float8 AS timers,
		coalesce((SELECT extract(epoch FROM clock_timestamp() - min(next_fire_at)) FROM schedules WHERE look_at IS NOT NULL), 0)::float8 AS schedules,
		coalesce((SELECT extract(epoch FROM clock_timestamp() - min(created_at)) FROM commands WHERE applied_at IS NULL), 0)::float8 AS commands,
		(SELECT count(*) FROM partitions WHERE lease_until < clock_timestamp()) AS orphans`, subject.Partitions)
	since := func(seconds float64) time.Duration { return time.Duration(max(0, seconds) * float64(time.Second)) } // what is still to come is negative
	return backlog.Overdue{Timers: since(row.Timers), Schedules: since(row.Schedules), Commands: since(row.Commands), Orphans: row.Orphans}, postgres.Translate(err)
}
