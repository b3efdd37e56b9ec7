package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/lib/pq"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/pkg/postgres"
	"turbocat.io/services/orchestrator/internal/partition"
)

type positionRow struct {
	P             int            `db:"p"`
	Owner         sql.NullString `db:"owner"`
	Epoch         int64          `db:"epoch"`
	InputSeq      uint64         `db:"input_seq"`
	InputTime     int64          `db:"input_time"`
	Generation    int64          `db:"generation"`
	EventN        uint64         `db:"event_n"`
	PublishedN    uint64         `db:"published_n"`
	StreamCreated int64          `db:"stream_created"`
}

const positionColumns = `p, owner, epoch, input_seq, input_time, generation, event_n, published_n, stream_created`

func (r positionRow) position() partition.Position {
	return partition.Position{
		P: r.P, Owner: r.Owner.String, Epoch: r.Epoch, InputSeq: r.InputSeq, InputTime: r.InputTime, Generation: r.Generation,
		EventN: r.EventN, PublishedN: r.PublishedN, StreamCreated: r.StreamCreated,
	}
}

func positionsOf(rows []positionRow) []partition.Position {
	out := make([]partition.Position, len(rows))
	for i, r := range rows {
		out[i] = r.position()
	}
	return out
}

func microseconds(d time.Duration) int64 { return d.Microseconds() }

// Heartbeat implements partition.Ledger.
func (s *Store) Heartbeat(ctx context.Context, owner string, lease time.Duration, published map[int]uint64) (held []int, live []string, err error) {
	ps, ns := make([]int64, 0, len(published)), make([]int64, 0, len(published))
	for p, n := range published {
		ps, ns = append(ps, int64(p)), append(ns, int64(n))
	}
	err = s.db.InTx(ctx, func(tx *postgres.PreparedTx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO instances (id, seen_at, engine_version) VALUES ($1, clock_timestamp(), $2)
			ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at`, owner, partition.EngineVersion); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM instances WHERE seen_at < clock_timestamp() - interval '1 day'`); err != nil {
			return err
		}
		if err := tx.SelectContext(ctx, &live, `SELECT id FROM instances WHERE seen_at > clock_timestamp() - $1 * interval '1 microsecond'`, microseconds(lease)); err != nil {
			return err
		}
		// Rows are locked in the order of p, as every commit does.
		return tx.SelectContext(ctx, &held, `WITH mine AS (SELECT p FROM partitions WHERE owner = $1 AND p = ANY($3::bigint[]) ORDER BY p FOR UPDATE)
			UPDATE partitions t SET lease_until = clock_timestamp() + $2 * interval '1 microsecond',
				published_n = greatest(t.published_n, coalesce((SELECT v.n FROM unnest($3::bigint[], $4::bigint[]) v(p, n) WHERE v.p = t.p), 0))
			FROM mine WHERE t.p = mine.p RETURNING t.p`, owner, microseconds(lease), pq.Array(ps), pq.Array(ns))
	})
	return held, live, err
}

// Leave implements partition.Ledger.
func (s *Store) Leave(ctx context.Context, owner string) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM instances WHERE id = $1`, owner)
	return postgres.Translate(err)
}

// Acquire implements partition.Ledger. An epoch is never used twice, not even by a database
// that was restored from a backup: it is at least the database's clock.
func (s *Store) Acquire(ctx context.Context, owner string, lease time.Duration, n int) ([]partition.Position, error) {
	var rows []positionRow
	err := s.db.SelectContext(ctx, &rows, `WITH free AS (
			SELECT p FROM partitions WHERE lease_until < clock_timestamp() ORDER BY p LIMIT $3 FOR UPDATE SKIP LOCKED)
		UPDATE partitions t SET owner = $1, lease_until = clock_timestamp() + $2 * interval '1 microsecond',
			epoch = greatest(t.epoch + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
		FROM free WHERE t.p = free.p RETURNING t.p AS p, owner, epoch, input_seq, input_time, generation, event_n, published_n, stream_created`,
		owner, microseconds(lease), n)
	return positionsOf(rows), postgres.Translate(err)
}

// Release implements partition.Ledger.
func (s *Store) Release(ctx context.Context, owner string, ps []int) error {
	_, err := s.db.ExecContext(ctx, `UPDATE partitions SET owner = NULL, lease_until = '-infinity' WHERE owner = $1 AND p = ANY($2::smallint[])`, owner, pq.Array(ps))
	return postgres.Translate(err)
}

// Positions implements partition.Ledger.
func (s *Store) Positions(ctx context.Context, ps []int) ([]partition.Position, error) {
	var rows []positionRow
	err := s.db.SelectContext(ctx, &rows, `SELECT `+positionColumns+` FROM partitions WHERE p = ANY($1::smallint[]) ORDER BY p`, pq.Array(ps))
	return positionsOf(rows), postgres.Translate(err)
}

// Leases reads the lease table.
func (s *Store) Leases(ctx context.Context) ([]orchestrator.Lease, error) {
	var rows []struct {
		P     int       `db:"p"`
		Owner string    `db:"owner"`
		Until time.Time `db:"until"`
		Held  bool      `db:"held"`
	}
	if err := s.db.SelectContext(ctx, &rows, `SELECT p, coalesce(owner, '') AS owner, greatest(lease_until, 'epoch') AS until, owner IS NOT NULL AND lease_until > clock_timestamp() AS held
		FROM partitions ORDER BY p`); err != nil {
		return nil, postgres.Translate(err)
	}
	leases := make([]orchestrator.Lease, len(rows))
	for i, r := range rows {
		leases[i] = orchestrator.Lease{Partition: r.P, Owner: r.Owner, LeaseUntil: r.Until.UTC(), Held: r.Held}
	}
	return leases, nil
}

// Orphans counts the partitions that nobody holds.
func (s *Store) Orphans(ctx context.Context) (int, error) {
	var n int
	err := s.db.GetContext(ctx, &n, `SELECT count(*) FROM partitions WHERE lease_until < clock_timestamp()`)
	return n, postgres.Translate(err)
}

// Rebuild implements partition.Ledger.
func (s *Store) Rebuild(ctx context.Context, p int, epoch int64, before uint64, created int64) (partition.Position, error) {
	var row positionRow
	err := s.db.GetContext(ctx, &row, `UPDATE partitions SET
			epoch = greatest(epoch + 1, (extract(epoch FROM statement_timestamp()) * 1000)::bigint),
			generation = greatest(epoch + 1, (extract(epoch FROM statement_timestamp()) * 1000)::bigint),
			input_seq = $3, input_time = 0, stream_created = $4
		WHERE p = $1 AND epoch = $2 RETURNING `+positionColumns, p, epoch, before, created)
	if errors.Is(err, sql.ErrNoRows) {
		return partition.Position{}, &partition.FencedError{Partitions: []int{p}}
	}
	return row.position(), postgres.Translate(err)
}

// Adopt implements partition.Ledger.
func (s *Store) Adopt(ctx context.Context, p int, epoch int64, created int64) error {
	_, err := s.db.ExecContext(ctx, `UPDATE partitions SET stream_created = $3 WHERE p = $1 AND epoch = $2 AND stream_created = 0`, p, epoch, created)
	return postgres.Translate(err)
}
