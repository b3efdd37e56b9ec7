package postgres

import (
	"context"
	"slices"

	"github.com/lib/pq"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/postgres"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
)

// chunkSize is what one row has of a payload.
const chunkSize = 1 << 20

// StorePayload implements partition.Ledger.
func (s *Store) StorePayload(ctx context.Context, executionID string, payload []byte) (runner.Reference, error) {
	ref := runner.ReferTo(payload)
	if len(validUUIDs([]string{executionID})) == 0 {
		return ref, errs.New(errs.NotFound, "execution not found")
	}
	return ref, postgres.Translate(s.db.InTx(ctx, func(tx *postgres.PreparedTx) error {
		var there bool
		if err := tx.GetContext(ctx, &there, `SELECT true FROM executions WHERE id = $1 FOR KEY SHARE`, executionID); err != nil {
			return notFound(err, "execution")
		}
		return insertPayload(ctx, tx, executionID, ref, payload)
	}))
}

// insertPayload writes a payload unless it is there.
func insertPayload(ctx context.Context, tx *postgres.PreparedTx, executionID string, ref runner.Reference, payload []byte) error {
	for n := 0; n*chunkSize < len(payload); n++ {
		result, err := tx.ExecContext(ctx, `INSERT INTO payloads (execution_id, hash, chunk, bytes) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
			executionID, ref.Hash[:], n, payload[n*chunkSize:min((n+1)*chunkSize, len(payload))])
		if err != nil {
			return err
		}
		if written, err := result.RowsAffected(); err == nil && written == 0 && n == 0 {
			return nil
		}
	}
	return nil
}

// Payload implements partition.Ledger.
func (s *Store) Payload(ctx context.Context, executionID string, ref runner.Reference) ([]byte, error) {
	payload := make([]byte, 0, ref.Size)
	for n := 0; len(payload) < ref.Size; n++ {
		var chunk []byte
		if err := s.db.GetContext(ctx, &chunk, `SELECT bytes FROM payloads WHERE execution_id = $1 AND hash = $2 AND chunk = $3`, executionID, ref.Hash[:], n); err != nil {
			return nil, notFound(err, "payload")
		}
		payload = append(payload, chunk...)
	}
	return payload, nil
}

// MissingPayloads implements partition.Ledger.
func (s *Store) MissingPayloads(ctx context.Context, wanted []partition.PayloadID) (map[partition.PayloadID]bool, error) {
	ids, hashes, numbers := make([]string, len(wanted)), make([][]byte, len(wanted)), make([]int64, len(wanted))
	for i, w := range wanted {
		ids[i], hashes[i], numbers[i] = w.ExecutionID, w.Reference.Hash[:], int64(i)
	}
	var missing []int
	if err := s.db.SelectContext(ctx, &missing, `SELECT v.n FROM unnest($1::uuid[], $2::bytea[], $3::int[]) v(id, hash, n)
		WHERE NOT EXISTS (SELECT 1 FROM payloads p WHERE p.execution_id = v.id AND p.hash = v.hash AND p.chunk = 0)`,
		pq.Array(ids), pq.ByteaArray(hashes), pq.Array(numbers)); err != nil {
		return nil, postgres.Translate(err)
	}
	out := map[partition.PayloadID]bool{}
	for _, n := range missing {
		out[wanted[n]] = true
	}
	return out, nil
}

// largePayload is what a row has a reference to instead.
type largePayload struct {
	executionID string
	ref         runner.Reference
	bytes       []byte
}

// referToLarge gives accepted executions as their rows are to have them, and what is too large for those.
func referToLarge(executions []execution.Accepted) (rows []execution.Accepted, large []largePayload) {
	rows = slices.Clone(executions)
	for i := range rows {
		x := &rows[i]
		keep := func(payload []byte) []byte {
			if len(payload) <= runner.MaxInline {
				return payload
			}
			ref := runner.ReferTo(payload)
			large = append(large, largePayload{x.ID, ref, payload})
			return ref.Payload()
		}
		x.Inputs = keep(x.Inputs)
		x.Reused = slices.Clone(x.Reused)
		for n := range x.Reused {
			x.Reused[n].Output = keep(x.Reused[n].Output)
		}
	}
	return rows, large
}

// insertPayloads stores what is too large for the rows of accepted executions, and gives those that run another again what their rows have
// taken over from it.
func insertPayloads(ctx context.Context, tx *postgres.PreparedTx, executions []execution.Accepted, large []largePayload) error {
	for _, p := range large {
		if err := insertPayload(ctx, tx, p.executionID, p.ref, p.bytes); err != nil {
			return err
		}
	}
	for _, x := range executions {
		if x.RetryOf == "" {
			continue
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO payloads (execution_id, hash, chunk, bytes)
			SELECT $1, p.hash, p.chunk, p.bytes FROM payloads p WHERE p.execution_id = $2 AND p.hash IN (
				SELECT decode(substr(convert_from(r.payload, 'UTF8'), 2, 64), 'hex') FROM (
					SELECT inputs AS payload FROM executions WHERE id = $1
					UNION ALL SELECT output FROM steps WHERE execution_id = $1
				) r WHERE substr(r.payload, 1, 1) = '@'::bytea)
			ON CONFLICT DO NOTHING`, x.ID, x.RetryOf); err != nil {
			return err
		}
	}
	return nil
}
