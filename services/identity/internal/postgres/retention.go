package postgres

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"

	contract "turbocat.io/contracts/audit"
	pg "turbocat.io/pkg/postgres"
	"turbocat.io/services/identity/internal/audit"
)

const (
	// lookBatch is of how many entries one statement looks how old they are, sweepBatch how many one deletes.
	lookBatch, sweepBatch = 10_000, 1000
	// trimEvery is the least time between two trims, each of which leaves an entry.
	trimEvery = 24 * time.Hour
)

// Start implements audit.Reader.
func (s *Audit) Start(ctx context.Context) (audit.Start, error) {
	var row struct {
		headRow
		Told int64 `db:"told"`
	}
	if err := s.db.GetContext(ctx, &row, `SELECT seq, hash, told FROM audit_start`); err != nil {
		return audit.Start{}, pg.Translate(err)
	}
	head, err := row.head()
	return audit.Start{Head: head, Told: row.Told}, err
}

// Due implements audit.Trimmer. It goes from the beginning up to the first entry that is not over, by the earlier one of the database's clock
// and ours: a clock that is or was wrong must have nothing go too early.
func (s *Audit) Due(ctx context.Context, period time.Duration) (due audit.Due, found bool, err error) {
	if due.Start, err = s.Start(ctx); err != nil {
		return due, false, err
	}
	var resting bool
	if err := s.db.QueryRowContext(ctx, `SELECT least(clock_timestamp(), $1) - $2 * interval '1 microsecond', moved_at > clock_timestamp() - $3 * interval '1 microsecond' FROM audit_start`,
		time.Now(), period.Microseconds(), trimEvery.Microseconds()).Scan(&due.Before, &resting); err != nil || resting {
		return due, false, pg.Translate(err)
	}
	due.Last = due.Start.Seq
	for more := true; more; {
		if err := s.db.QueryRowContext(ctx, `WITH page AS (SELECT seq, stored_at FROM audit_log WHERE seq > $1 ORDER BY seq LIMIT $3)
			SELECT coalesce(max(seq), $1), count(*) = $3 FROM page WHERE seq < coalesce((SELECT min(seq) FROM page WHERE stored_at >= $2), 9223372036854775807)`,
			due.Last, due.Before, lookBatch).Scan(&due.Last, &more); err != nil {
			return due, false, pg.Translate(err)
		}
	}
	return due, due.Last > due.Start.Seq, nil
}

// Trim implements audit.Trimmer. The lock on the head makes one trimmer at a time of all replicas.
func (s *Audit) Trim(ctx context.Context, was audit.Start, now audit.Head, told contract.TrailEntry) (moved bool, err error) {
	err = pg.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		head, err := lockHead(ctx, tx)
		if err != nil {
			return err
		}
		var begins int64
		if err := tx.GetContext(ctx, &begins, `SELECT seq FROM audit_start`); err != nil || begins != was.Seq {
			return err
		}
		if head, err = appendEntry(ctx, tx, head, told); err != nil {
			return err
		}
		if err := moveHead(ctx, tx, head); err != nil {
			return err
		}
		moved = true
		_, err = tx.ExecContext(ctx, `UPDATE audit_start SET seq = $1, hash = $2, told = $3, moved_at = clock_timestamp()`, now.Seq, now.Hash[:], head.Seq)
		return err
	})
	return moved && err == nil, err
}

// Sweep implements audit.Trimmer. What another replica deletes is left to it.
func (s *Audit) Sweep(ctx context.Context) (int64, error) {
	result, err := s.db.ExecContext(ctx, `DELETE FROM audit_log WHERE seq = ANY(ARRAY(
		SELECT seq FROM audit_log WHERE seq <= (SELECT seq FROM audit_start) ORDER BY seq LIMIT $1 FOR UPDATE SKIP LOCKED))`, sweepBatch)
	if err != nil {
		return 0, pg.Translate(err)
	}
	return result.RowsAffected()
}
