package postgres

import (
	"context"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/postgres"
	"turbocat.io/services/telemetry/internal/feed"
)

// Ingest implements feed.IntakeStore.
func (s *Feed) Ingest(ctx context.Context, userID string, events []feed.Incoming) (fresh int, end uint64, err error) {
	err = postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		keys := make([][]byte, len(events))
		for i, e := range events {
			keys[i] = e.Key[:]
		}
		var taken pq.ByteaArray
		// In one order, so that two requests with the same events do not wait for each other.
		if err := tx.GetContext(ctx, &taken, `WITH fresh AS (
				INSERT INTO ingested_events AS i (user_id, key) SELECT $1, k FROM unnest($2::bytea[]) k ORDER BY k
				ON CONFLICT (user_id, key) DO UPDATE SET at = excluded.at WHERE i.at < clock_timestamp() - $3 * interval '1 microsecond' RETURNING key)
			SELECT coalesce(array_agg(key), '{}') FROM fresh`, userID, pq.ByteaArray(keys), telemetry.IngestedKept.Microseconds()); err != nil {
			return err
		}
		known := make(map[string]bool, len(taken))
		for _, key := range taken {
			known[string(key)] = true
		}
		var kept []feed.Incoming
		for _, e := range events {
			if known[string(e.Key[:])] {
				kept = append(kept, e)
			}
		}
		fresh = len(kept)
		if fresh == 0 {
			return nil
		}
		rows, ends := feed.RowsOf(userID, kept), map[string]uint64{}
		if err := grow(ctx, tx, rows, ends); err != nil {
			return err
		}
		end = ends[userID]
		return insertFeed(ctx, tx, rows, ends)
	})
	return fresh, end, err
}
