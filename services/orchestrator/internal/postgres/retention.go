package postgres

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/weekly"
)

const (
	// keyLife is how long an idempotency key holds; its row stays for a little longer, so that no request sees it go.
	keyLife  = 24 * time.Hour
	keySlack = time.Hour
	// sweepBatch is how many rows of a table one transaction deletes.
	sweepBatch = 1000
)

// weeklyTables have most of the rows of an execution, in the order in which transactions touch them.
var weeklyTables = []string{"steps", "execution_events", "payloads", "calls"}

// Weeks are the tables that are kept in weeks.
func (s *Store) Weeks() weekly.Tables { return weekly.Tables{DB: s.lists, Names: weeklyTables} }

// Retention says what of the schema is over when executions are kept for a period after their end.
func (s *Store) Retention(period time.Duration) weekly.Rules {
	return weekly.Rules{Period: period, Sweep: s.sweep, Over: weekOver}
}

// weekOver tells whether all executions of a week are gone and EVENTS has their events.
func weekOver(ctx context.Context, q sqlx.QueryerContext, w weekly.Week, _ time.Time) (bool, error) {
	var over bool
	err := sqlx.GetContext(ctx, q, &over, `SELECT NOT EXISTS (SELECT FROM executions WHERE id >= $1 AND id < $2)
		AND NOT EXISTS (SELECT FROM partitions t WHERE t.published_n < t.event_n
			AND EXISTS (SELECT FROM execution_events e WHERE e.p = t.p AND e.n > t.published_n AND e.execution_id >= $1 AND e.execution_id < $2))`,
		w.FromID(), w.ToID())
	return over, postgres.Translate(err)
}

// sweep deletes a bounded number of rows whose time is over: executions, then what nothing names any more, and what has a time of its own.
func (s *Store) sweep(ctx context.Context, before time.Time) (int64, error) {
	rows, err := s.sweepExecutions(ctx, before)
	if err != nil {
		return 0, err
	}
	for _, statement := range []struct {
		sql  string
		args []any
	}{
		// Steps, events, payloads and calls of no week do not go with one.
		{`DELETE FROM steps_default WHERE ctid = ANY(ARRAY(SELECT ctid FROM steps_default s
			WHERE NOT EXISTS (SELECT FROM executions x WHERE x.id = s.execution_id) LIMIT $1))`, []any{sweepBatch}},
		{`DELETE FROM execution_events_default WHERE ctid = ANY(ARRAY(SELECT e.ctid FROM execution_events_default e JOIN partitions t ON t.p = e.p AND e.n <= t.published_n
			WHERE NOT EXISTS (SELECT FROM executions x WHERE x.id = e.execution_id) LIMIT $1))`, []any{sweepBatch}},
		{`DELETE FROM payloads_default WHERE ctid = ANY(ARRAY(SELECT ctid FROM payloads_default d
			WHERE NOT EXISTS (SELECT FROM executions x WHERE x.id = d.execution_id) LIMIT $1))`, []any{sweepBatch}},
		{`DELETE FROM calls_default WHERE ctid = ANY(ARRAY(SELECT ctid FROM calls_default c
			WHERE NOT EXISTS (SELECT FROM executions x WHERE x.id = c.execution_id) LIMIT $1))`, []any{sweepBatch}},
		// The day too in which the time is over: some of its calls are gone by now.
		{`DELETE FROM spending WHERE ctid = ANY(ARRAY(SELECT ctid FROM spending WHERE day > '-infinity' AND day <= ($1::timestamptz AT TIME ZONE 'UTC')::date LIMIT $2))`, []any{before, sweepBatch}},
		{`DELETE FROM conversation_messages WHERE ctid = ANY(ARRAY(SELECT ctid FROM conversation_messages WHERE created_at < $1 LIMIT $2))`, []any{before, sweepBatch}},
		{`DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters WHERE created_at < $1 LIMIT $2)`, []any{before, sweepBatch}},
		// What is before a schedule's place is decided, whether or not anybody still knows how.
		{`DELETE FROM schedule_skips WHERE ctid = ANY(ARRAY(SELECT ctid FROM schedule_skips WHERE until < $1 AND created_at < $1 LIMIT $2))`, []any{before, sweepBatch}},
		{`DELETE FROM trigger_deliveries WHERE ctid = ANY(ARRAY(SELECT ctid FROM trigger_deliveries WHERE received_at < $1 LIMIT $2))`, []any{before, sweepBatch}},
		{
			`DELETE FROM idempotency_keys WHERE ctid = ANY(ARRAY(SELECT ctid FROM idempotency_keys WHERE created_at < now() - $1 * interval '1 microsecond' LIMIT $2))`,
			[]any{microseconds(keyLife + keySlack), sweepBatch},
		},
	} {
		result, err := s.lists.ExecContext(ctx, statement.sql, statement.args...)
		if err != nil {
			return 0, postgres.Translate(err)
		}
		n, _ := result.RowsAffected() // lib/pq always knows
		rows += n
	}
	n, err := s.sweepDefinitions(ctx, before)
	return rows + n, err
}

// sweepExecutions deletes executions that had ended before the given time, with their commands, budgets and what they have spent; their steps, events, payloads and calls, which nobody
// finds then any more, go with their week. One that another waits for stays until that has ended: it would be begun once more. So does
// one that is being undone, and what has undone it stays for as long: whether it is undone decides whether it may be run again.
func (s *Store) sweepExecutions(ctx context.Context, before time.Time) (deleted int64, err error) {
	err = postgres.InTx(ctx, s.lists, func(tx *sqlx.Tx) error {
		var ids []string
		// By the ids, which are in the order of time, so that the index leads to the oldest.
		if err := tx.SelectContext(ctx, &ids, `SELECT id FROM executions x WHERE id < $1 AND completed_at < $2
				AND NOT EXISTS (SELECT FROM executions w WHERE w.id = x.parent_execution_id AND w.completed_at IS NULL)
				AND NOT EXISTS (SELECT FROM executions c WHERE c.compensation_of = x.id AND c.completed_at IS NULL)
				AND NOT EXISTS (SELECT FROM executions o WHERE o.id = x.compensation_of)
			ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED`, weekly.IDAt(before), before, sweepBatch); err != nil || len(ids) == 0 {
			return err
		}
		for _, statement := range []string{
			`DELETE FROM executions WHERE id = ANY($1::uuid[])`, `DELETE FROM commands WHERE execution_id = ANY($1::uuid[])`,
			`DELETE FROM spending WHERE execution_id = ANY($1::uuid[])`, `DELETE FROM budget_approvals WHERE execution_id = ANY($1::uuid[])`,
		} {
			result, err := tx.ExecContext(ctx, statement, pq.Array(ids))
			if err != nil {
				return err
			}
			n, _ := result.RowsAffected() // lib/pq always knows
			deleted += n
		}
		return nil
	})
	return deleted, err
}

// sweepDefinitions deletes definitions that no execution names: whoever accepts one with them says so in their rows, at least each
// hour, so that those that were last used a day before the oldest execution that is left began are of none.
func (s *Store) sweepDefinitions(ctx context.Context, before time.Time) (int64, error) {
	var oldest string
	if err := s.lists.GetContext(ctx, &oldest, `SELECT coalesce((SELECT id FROM executions ORDER BY id LIMIT 1), $1)`, weekly.IDAt(before)); err != nil {
		return 0, postgres.Translate(err)
	}
	began, err := weekly.TimeOf(oldest)
	if err != nil {
		return 0, err
	}
	if began.After(before) {
		began = before
	}
	result, err := s.lists.ExecContext(ctx, `DELETE FROM definitions WHERE hash IN (SELECT hash FROM definitions WHERE used_at < $1 LIMIT $2) AND used_at < $1`,
		began.Add(-24*time.Hour), sweepBatch)
	if err != nil {
		return 0, postgres.Translate(err)
	}
	n, _ := result.RowsAffected() // lib/pq always knows
	return n, nil
}
