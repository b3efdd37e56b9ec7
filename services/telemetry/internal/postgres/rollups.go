package postgres

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/pkg/postgres"
	"turbocat.io/services/telemetry/internal/analytics"
	"turbocat.io/services/telemetry/internal/feed"
)

// Rollups keep what analytics are read from. It is safe for concurrent use.
type Rollups struct{ db *sqlx.DB }

// NewRollups makes a store over telemetry's schema.
func NewRollups(db *sqlx.DB) *Rollups { return &Rollups{db: db} }

// Hold implements feed.Store.
func (s *Rollups) Hold(ctx context.Context, owner string) (feed.Numbers, bool, error) {
	return turnOfRollups.hold(ctx, s.db, owner)
}

// Append implements feed.Store: it counts events.
func (s *Rollups) Append(ctx context.Context, owner string, from feed.Numbers, events []feed.Event) (map[string]uint64, error) {
	changes := analytics.Of(events)
	return nil, postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		if err := turnOfRollups.advance(ctx, tx, owner, from, events); err != nil {
			return err
		}
		return change(ctx, tx, changes)
	})
}

// Calls gives the number of the last call of a model that is counted.
func (s *Rollups) Calls(ctx context.Context) (n uint64, err error) {
	return n, postgres.Translate(s.db.GetContext(ctx, &n, `SELECT calls FROM rollup_lease`))
}

// CountCalls counts calls of models, which go on from a number. feed.ErrLost when others are counted up to there.
func (s *Rollups) CountCalls(ctx context.Context, from uint64, calls []orchestrator.SettledCall) error {
	return postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		result, err := tx.ExecContext(ctx, `UPDATE rollup_lease SET calls = $2 WHERE calls = $1`, int64(from), int64(calls[len(calls)-1].N))
		if err := lostUnless(1, result, err); err != nil {
			return err
		}
		return change(ctx, tx, analytics.OfCalls(calls))
	})
}

// maxChanged is how many rows one statement changes.
const maxChanged = 2000

// change adds changes to their rows. Whoever does so holds the row of the lease, so nobody else changes what is read here.
func change(ctx context.Context, tx *sqlx.Tx, changes analytics.Changes) error {
	keys := make([]analytics.Key, 0, len(changes))
	for key := range changes {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b analytics.Key) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.UserID, b.UserID), cmp.Compare(a.Grain, b.Grain), cmp.Compare(a.At, b.At), cmp.Compare(a.StepKey, b.StepKey))
	})
	for chunk := range slices.Chunk(keys, maxChanged) {
		if err := changeSome(ctx, tx, changes, chunk); err != nil {
			return err
		}
	}
	return nil
}

// keyed are keys as arrays.
type keyed struct {
	kinds, grains   postgres.Int2s
	subjects, users postgres.UUIDs
	times           postgres.Int8s
	steps           postgres.Texts
}

func keysAs(keys []analytics.Key) keyed {
	var k keyed
	for _, key := range keys {
		k.kinds, k.grains = append(k.kinds, int64(key.Kind)), append(k.grains, int64(key.Grain))
		k.subjects, k.users = append(k.subjects, key.Subject), append(k.users, key.UserID)
		k.times, k.steps = append(k.times, key.At), append(k.steps, key.StepKey)
	}
	return k
}

func changeSome(ctx context.Context, tx *sqlx.Tx, changes analytics.Changes, keys []analytics.Key) error {
	sketches, err := sketchesOf(ctx, tx, changes, keys)
	if err != nil {
		return err
	}
	k := keysAs(keys)
	counts := make([]postgres.Int8s, 14)
	encoded := make([][]byte, len(keys))
	for i, key := range keys {
		c := changes[key]
		least, most := int64(-1), int64(-1)
		if len(c.Durations) > 0 {
			least, most = slices.Min(c.Durations), slices.Max(c.Durations)
			encoded[i] = sketches[key]
		}
		for j, n := range []int64{
			c.Total, c.Completed, c.Failed, c.Cancelled, c.TimedOut, c.Skipped, c.Retries, c.DurationMs, least, most, c.Calls, c.InputTokens, c.OutputTokens, c.CostMicros,
		} {
			counts[j] = append(counts[j], n)
		}
	}
	args := []any{k.kinds, k.subjects, k.users, k.grains, k.times, k.steps}
	for _, c := range counts {
		args = append(args, c)
	}
	args = append(args, pq.ByteaArray(encoded))
	_, err = tx.ExecContext(ctx, `INSERT INTO rollups AS t (kind, subject, user_id, grain, at, step_key, total, completed, failed, cancelled, timed_out, skipped, retries, duration_ms,
			min_ms, max_ms, calls, input_tokens, output_tokens, cost_micros, sketch)
		SELECT kind, subject, user_id, grain, to_timestamp(at), step_key, total, completed, failed, cancelled, timed_out, skipped, retries, duration_ms,
			nullif(min_ms, -1), nullif(max_ms, -1), calls, input_tokens, output_tokens, cost_micros, nullif(sketch, '')
		FROM unnest($1::smallint[], $2::uuid[], $3::uuid[], $4::smallint[], $5::bigint[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[],
			$14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bytea[])
			AS v (kind, subject, user_id, grain, at, step_key, total, completed, failed, cancelled, timed_out, skipped, retries, duration_ms, min_ms, max_ms, calls, input_tokens, output_tokens, cost_micros, sketch)
		ON CONFLICT (kind, subject, user_id, grain, at, step_key) DO UPDATE SET total = t.total + excluded.total, completed = t.completed + excluded.completed, failed = t.failed + excluded.failed,
			cancelled = t.cancelled + excluded.cancelled, timed_out = t.timed_out + excluded.timed_out, skipped = t.skipped + excluded.skipped, retries = t.retries + excluded.retries,
			duration_ms = t.duration_ms + excluded.duration_ms, min_ms = least(t.min_ms, excluded.min_ms), max_ms = greatest(t.max_ms, excluded.max_ms),
			calls = t.calls + excluded.calls, input_tokens = t.input_tokens + excluded.input_tokens, output_tokens = t.output_tokens + excluded.output_tokens,
			cost_micros = t.cost_micros + excluded.cost_micros, sketch = coalesce(excluded.sketch, t.sketch)`, args...)
	return err
}

// sketchesOf gives what the sketches of rows become.
func sketchesOf(ctx context.Context, tx *sqlx.Tx, changes analytics.Changes, keys []analytics.Key) (map[analytics.Key][]byte, error) {
	var timed []analytics.Key
	for _, key := range keys {
		if len(changes[key].Durations) > 0 {
			timed = append(timed, key)
		}
	}
	if len(timed) == 0 {
		return nil, nil
	}
	k := keysAs(timed)
	var stored []struct {
		I      int    `db:"i"`
		Sketch []byte `db:"sketch"`
	}
	if err := tx.SelectContext(ctx, &stored, `SELECT v.i, t.sketch FROM unnest($1::smallint[], $2::uuid[], $3::uuid[], $4::smallint[], $5::bigint[], $6::text[]) WITH ORDINALITY
			AS v (kind, subject, user_id, grain, at, step_key, i)
		JOIN rollups t ON t.kind = v.kind AND t.subject = v.subject AND t.user_id = v.user_id AND t.grain = v.grain AND t.at = to_timestamp(v.at) AND t.step_key = v.step_key
		WHERE t.sketch IS NOT NULL`, k.kinds, k.subjects, k.users, k.grains, k.times, k.steps); err != nil {
		return nil, err
	}
	before := map[int][]byte{}
	for _, s := range stored {
		before[s.I-1] = s.Sketch
	}
	sketches := make(map[analytics.Key][]byte, len(timed))
	for i, key := range timed {
		s := analytics.NewSketch()
		if err := s.Merge(before[i]); err != nil {
			return nil, err
		}
		if err := s.Add(changes[key].Durations...); err != nil {
			return nil, err
		}
		sketches[key] = s.Encode()
	}
	return sketches, nil
}

// Rows implements analytics.Store.
func (s *Rollups) Rows(ctx context.Context, of analytics.Series, parts []analytics.Part, add func(bucket int, stepKey string, r analytics.Row) error) error {
	var buckets postgres.Int4s
	var grains postgres.Int2s
	var from, to postgres.Int8s
	for _, p := range parts {
		buckets, grains, from, to = append(buckets, int64(p.Bucket)), append(grains, int64(p.Grain)), append(from, p.From), append(to, p.To)
	}
	// OFFSET 0 has each part looked up by the key, one after another.
	rows, err := s.db.QueryxContext(ctx, `SELECT v.bucket, r.* FROM unnest($1::int[], $2::smallint[], $3::bigint[], $4::bigint[]) v (bucket, grain, f, t), LATERAL (
			SELECT step_key, total, completed, failed, cancelled, timed_out, skipped, retries, duration_ms, min_ms, max_ms, calls, input_tokens, output_tokens, cost_micros, sketch
			FROM rollups WHERE kind = $5 AND subject = $6 AND user_id = $7 AND grain = v.grain AND at >= to_timestamp(v.f) AND at < to_timestamp(v.t) OFFSET 0) r`,
		buckets, grains, from, to, of.Kind, of.Subject, of.UserID)
	if err != nil {
		return postgres.Translate(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var r struct {
			Bucket  int    `db:"bucket"`
			StepKey string `db:"step_key"`
			analytics.Row
		}
		if err := rows.StructScan(&r); err != nil {
			return postgres.Translate(err)
		}
		if err := add(r.Bucket, r.StepKey, r.Row); err != nil {
			return err
		}
	}
	return postgres.Translate(rows.Err())
}

// Sweep deletes rows of before a time, some at once, and tells how many.
func (s *Rollups) Sweep(ctx context.Context, before time.Time) (int64, error) {
	result, err := s.db.ExecContext(ctx, `DELETE FROM rollups WHERE ctid = ANY(ARRAY(SELECT ctid FROM rollups WHERE at < $1 LIMIT $2))`, before, sweepBatch)
	if err != nil {
		return 0, postgres.Translate(err)
	}
	return result.RowsAffected()
}
