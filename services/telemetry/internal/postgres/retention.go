package postgres

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"

	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/weekly"
)

// sweepBatch is how many lines one transaction deletes.
const sweepBatch = 1000

// Weeks are the tables that are kept in weeks.
func (s *Logs) Weeks() weekly.Tables {
	return weekly.Tables{DB: s.db, Names: []string{"execution_logs", "feed", "webhook_deliveries"}}
}

// Retention says which lines are over when they are kept for a period.
func (s *Logs) Retention(period time.Duration) weekly.Rules {
	return weekly.Rules{Period: period, Over: weekOver, Sweep: s.sweep}
}

// weekOver tells whether all lines of the executions of a week were written before the given time. Events are of the time of their ids.
func weekOver(ctx context.Context, q sqlx.QueryerContext, w weekly.Week, before time.Time) (bool, error) {
	over := !w.To.After(before)
	if !over {
		return false, nil
	}
	err := sqlx.GetContext(ctx, q, &over, `SELECT NOT EXISTS (SELECT FROM execution_logs WHERE execution_id >= $1 AND execution_id < $2 AND created_at >= $3)`,
		w.FromID(), w.ToID(), before)
	return over, postgres.Translate(err)
}

// sweep deletes lines, events and deliveries whose ids are of no week: of a clock that was far off.
func (s *Logs) sweep(ctx context.Context, before time.Time) (rows int64, err error) {
	for _, statement := range []struct {
		text string
		arg  any
	}{
		{`DELETE FROM execution_logs_default WHERE ctid = ANY(ARRAY(SELECT ctid FROM execution_logs_default WHERE created_at < $1 LIMIT $2))`, before},
		{`DELETE FROM webhook_deliveries_default WHERE ctid = ANY(ARRAY(SELECT ctid FROM webhook_deliveries_default WHERE id < $1 LIMIT $2))`, weekly.IDAt(before)},
		{`DELETE FROM ingested_events WHERE ctid = ANY(ARRAY(SELECT ctid FROM ingested_events WHERE at < clock_timestamp() - $1 * interval '1 microsecond' LIMIT $2))`, telemetry.IngestedKept.Microseconds()},
		{`DELETE FROM feed_default WHERE ctid = ANY(ARRAY(SELECT ctid FROM feed_default WHERE id < $1 LIMIT $2))`, weekly.IDAt(before)},
	} {
		result, err := s.db.ExecContext(ctx, statement.text, statement.arg, sweepBatch)
		if err != nil {
			return rows, postgres.Translate(err)
		}
		n, err := result.RowsAffected()
		if err != nil {
			return rows, err
		}
		rows += n
	}
	return rows, nil
}
