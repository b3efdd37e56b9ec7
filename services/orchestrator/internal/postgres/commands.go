package postgres

import (
	"context"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/postgres"
	"turbocat.io/services/orchestrator/internal/execution"
)

// AddCommands implements execution.Store.
func (s *Store) AddCommands(ctx context.Context, commands []execution.Command) error {
	n := len(commands)
	ids, executions, kinds, users, ps := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]int64, n)
	for i, c := range commands {
		ids[i], executions[i], kinds[i], users[i], ps[i] = c.ID, c.ExecutionID, c.Kind, c.UserID, int64(c.Partition)
	}
	return postgres.InTx(ctx, s.lists, func(tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO commands (id, execution_id, p, kind, user_id)
			SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::text[], $5::text[])`,
			pq.Array(ids), pq.Array(executions), pq.Array(ps), pq.Array(kinds), pq.Array(users)); err != nil {
			return err
		}
		return recordCommands(ctx, tx, commands)
	})
}

// AddSignal implements execution.Store.
func (s *Store) AddSignal(ctx context.Context, c execution.Command, key *execution.IdempotencyKey, admit func(execution.Standing) error) (execution.Outcome, error) {
	outcome := execution.Outcome{ID: c.ID}
	// Not prepared: preparing takes a connection of the pool, and those who wait for the lock may have them all.
	err := postgres.InTx(ctx, s.lists, func(tx *sqlx.Tx) error {
		var now execution.Standing
		// The lock keeps the execution from ending, and other signals of it out, until this one is decided.
		if err := tx.GetContext(ctx, &now.Status, `SELECT `+shownStatus+` FROM executions WHERE id = $1 FOR NO KEY UPDATE`, c.ExecutionID); err != nil {
			return notFound(err, "execution")
		}
		if key != nil {
			var err error
			if outcome, err = claimCommandKey(ctx, tx, c, key); err != nil || outcome.Replayed {
				return err
			}
		}
		var counts struct {
			Kept  int `db:"kept"`
			Named int `db:"named"`
		}
		if err := tx.GetContext(ctx, &counts, `SELECT count(*) FILTER (WHERE applied_at IS NULL OR kept IS NOT NULL) AS kept, count(*) FILTER (WHERE name = $2) AS named
			FROM commands WHERE execution_id = $1 AND kind = $3`, c.ExecutionID, c.Name, execution.CommandSignal); err != nil {
			return err
		}
		now.Kept, now.Named = counts.Kept, counts.Named
		if err := admit(now); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO commands (id, execution_id, p, kind, user_id, name, signal) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			c.ID, c.ExecutionID, c.Partition, c.Kind, c.UserID, c.Name, c.Signal)
		if err != nil {
			return err
		}
		return recordCommands(ctx, tx, []execution.Command{c})
	})
	return outcome, err
}

// claimCommandKey lets a key stand for a command, unless it stands for one already.
func claimCommandKey(ctx context.Context, tx *sqlx.Tx, c execution.Command, key *execution.IdempotencyKey) (execution.Outcome, error) {
	var claimed bool
	err := tx.GetContext(ctx, &claimed, `INSERT INTO idempotency_keys (user_id, route, key, body_hash, execution_id, command_id) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (user_id, route, key) DO UPDATE SET body_hash = excluded.body_hash, command_id = excluded.command_id, created_at = now()
		WHERE idempotency_keys.created_at < now() - interval '24 hours' RETURNING true`, key.UserID, key.Route, key.Key, key.BodyHash, c.ExecutionID, c.ID)
	if err == nil {
		return execution.Outcome{ID: c.ID}, nil
	}
	if errs.CodeOf(notFound(err, "key")) != errs.NotFound {
		return execution.Outcome{}, err
	}
	var before struct {
		BodyHash  []byte `db:"body_hash"`
		CommandID string `db:"command_id"`
	}
	err = tx.GetContext(ctx, &before, `SELECT body_hash, command_id FROM idempotency_keys WHERE user_id = $1 AND route = $2 AND key = $3`, key.UserID, key.Route, key.Key)
	return execution.Outcome{ID: before.CommandID, Replayed: true, Conflict: string(before.BodyHash) != string(key.BodyHash)}, err
}
