package postgres

import (
	"context"
	"database/sql"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/pkg/postgres"
	"turbocat.io/services/telemetry/internal/feed"
)

// turn names the tables by which one process at a time takes events in: the lease it has, and the numbers up to which they were taken.
type turn struct{ lease, numbers string }

var (
	turnOfFeed    = turn{"feed_lease", "feed_numbers"}
	turnOfRollups = turn{"rollup_lease", "rollup_numbers"}
)

// hold takes the lease for an owner, or renews it, and gives the numbers; false while another holds it.
func (t turn) hold(ctx context.Context, db *sqlx.DB, owner string) (numbers feed.Numbers, held bool, err error) {
	err = postgres.InTx(ctx, db, func(tx *sqlx.Tx) error {
		result, err := tx.ExecContext(ctx, `UPDATE `+t.lease+` SET owner = $1, until = clock_timestamp() + $2 * interval '1 microsecond' WHERE owner = $1 OR until < clock_timestamp()`,
			owner, feed.Lease.Microseconds())
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if held = n > 0; err != nil || !held {
			return err
		}
		var rows []struct {
			P int    `db:"p"`
			N uint64 `db:"n"`
		}
		if err := tx.SelectContext(ctx, &rows, `SELECT p, n FROM `+t.numbers); err != nil {
			return err
		}
		for _, r := range rows {
			numbers[r.P] = r.N
		}
		return nil
	})
	return numbers, held, err
}

// advance brings the numbers to those of events, with which a transaction begins that takes them in. ErrLost when the owner does not hold the
// lease, or the numbers are others.
func (t turn) advance(ctx context.Context, tx *sqlx.Tx, owner string, from feed.Numbers, events []feed.Event) error {
	to := map[int]uint64{}
	for _, e := range events {
		to[e.Partition] = e.N
	}
	var ps, before, after []int64
	for p, n := range to {
		ps, before, after = append(ps, int64(p)), append(before, int64(from[p])), append(after, int64(n))
	}
	// Who holds the row of the lease is the one that takes events in until the commit; and who takes some in lives.
	result, err := tx.ExecContext(ctx, `UPDATE `+t.lease+` SET until = clock_timestamp() + $2 * interval '1 microsecond' WHERE owner = $1 AND until > clock_timestamp()`,
		owner, feed.Lease.Microseconds())
	if err := lostUnless(1, result, err); err != nil {
		return err
	}
	result, err = tx.ExecContext(ctx, `UPDATE `+t.numbers+` t SET n = v.after FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) v(p, before, after) WHERE t.p = v.p AND t.n = v.before`,
		pq.Array(ps), pq.Array(before), pq.Array(after))
	return lostUnless(len(ps), result, err)
}

// lostUnless gives feed.ErrLost when a statement that did not fail has changed another number of rows.
func lostUnless(rows int, result sql.Result, err error) error {
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == int64(rows) {
		return err
	}
	return feed.ErrLost
}
