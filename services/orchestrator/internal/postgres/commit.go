package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/postgres"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
)

// Commit implements partition.Ledger.
func (s *Store) Commit(ctx context.Context, b partition.Batch) error {
	return commitError(s.db.InTx(ctx, func(tx *postgres.PreparedTx) error {
		there, err := fence(ctx, tx, b.Partitions)
		if err != nil || there {
			return err
		}
		return write(ctx, tx, b)
	}))
}

var errRehearsed = errors.New("rehearsed")

// Rehearse implements partition.Ledger.
func (s *Store) Rehearse(ctx context.Context, b partition.Batch) error {
	err := s.db.InTx(ctx, func(tx *postgres.PreparedTx) error {
		if err := write(ctx, tx, b); err != nil {
			return err
		}
		return errRehearsed
	})
	if errors.Is(err, errRehearsed) {
		return nil
	}
	return commitError(err)
}

func commitError(err error) error {
	if postgres.Refused(err) {
		return fmt.Errorf("%w: %w", partition.ErrRefused, err)
	}
	return err
}

// fence locks the partitions, in their order, and fails unless all still have the batch's
// epochs and stand where it goes on from. A batch whose earlier try was committed without an
// answer is there already: it has moved its partitions.
func fence(ctx context.Context, tx *postgres.PreparedTx, advances []partition.Advance) (there bool, err error) {
	ps := make([]int, len(advances))
	batch := map[int]partition.Advance{}
	for i, a := range advances {
		ps[i] = a.P
		batch[a.P] = a
	}
	var rows []struct {
		P        int    `db:"p"`
		Epoch    int64  `db:"epoch"`
		InputSeq uint64 `db:"input_seq"`
		EventN   uint64 `db:"event_n"`
	}
	if err := tx.SelectContext(ctx, &rows, `SELECT p, epoch, input_seq, event_n FROM partitions WHERE p = ANY($1::smallint[]) ORDER BY p FOR UPDATE`, pq.Array(ps)); err != nil {
		return false, err
	}
	var lost []int
	moving, moved := 0, 0
	for _, r := range rows {
		a := batch[r.P]
		stays, there := a.From == a.InputSeq, a.InputSeq == r.InputSeq && a.EventN == r.EventN
		if !stays {
			moving++
		}
		switch {
		case a.Epoch != r.Epoch || !there && (stays || a.From != r.InputSeq):
			lost = append(lost, r.P)
		case there && !stays:
			moved++
		}
	}
	if len(lost) > 0 {
		return false, &partition.FencedError{Partitions: lost}
	}
	return moving > 0 && moved == moving, nil
}

// byKey has the server go by the keys, whatever it believed of the tables' sizes when it
// planned a statement: it may have been on the first day, when they were empty.
const byKey = `SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off`

func write(ctx context.Context, tx *postgres.PreparedTx, b partition.Batch) error {
	if err := tx.Set(ctx, byKey); err != nil {
		return err
	}
	if err := advance(ctx, tx, b.Partitions); err != nil {
		return fmt.Errorf("advance partitions: %w", err)
	}
	if err := updateExecutions(ctx, tx, b.Executions); err != nil {
		return fmt.Errorf("update executions: %w", err)
	}
	if err := upsertSteps(ctx, tx, b.Steps); err != nil {
		return fmt.Errorf("write steps: %w", err)
	}
	if err := insertEvents(ctx, tx, b.Events); err != nil {
		return fmt.Errorf("write events: %w", err)
	}
	if err := markCommands(ctx, tx, b.Commands); err != nil {
		return fmt.Errorf("mark commands: %w", err)
	}
	for _, d := range b.DeadLetters {
		if _, err := tx.ExecContext(ctx, `INSERT INTO dead_letters (p, seq, subject, headers, body, reason) VALUES ($1, $2, $3, $4, $5, $6)`,
			d.P, d.Seq, plain(d.Subject), nonNil(d.Headers), nonNil(d.Body), plain(d.Reason)); err != nil {
			return fmt.Errorf("write a dead letter: %w", err)
		}
	}
	return nil
}

func advance(ctx context.Context, tx *postgres.PreparedTx, advances []partition.Advance) error {
	n := len(advances)
	ps, seqs, times, ns := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for i, a := range advances {
		ps[i], seqs[i], times[i], ns[i] = int64(a.P), int64(a.InputSeq), a.InputTime, int64(a.EventN)
	}
	_, err := tx.ExecContext(ctx, `UPDATE partitions t SET input_seq = v.seq, input_time = v.at, event_n = v.n
		FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::bigint[]) v(p, seq, at, n) WHERE t.p = v.p`,
		pq.Array(ps), pq.Array(seqs), pq.Array(times), pq.Array(ns))
	return err
}

func updateExecutions(ctx context.Context, tx *postgres.PreparedTx, rows []partition.ExecutionRow) error {
	n := len(rows)
	if n == 0 {
		return nil
	}
	ids, statuses := make([]string, n), make([]string, n)
	outputs, failures := make([][]byte, n), make([][]byte, n)
	seqs, inputs, dues, starts, ends := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	completed, failed, skipped, percent := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for i, r := range rows {
		failure, err := errorBytes(r.Error)
		if err != nil {
			return err
		}
		ids[i], statuses[i], outputs[i], failures[i] = r.ID, r.Status, nonNil(r.Outputs), failure
		seqs[i], inputs[i], dues[i], starts[i], ends[i] = int64(r.EventSeq), int64(r.LastInput), int64(r.NextDue), int64(r.StartedAt), int64(r.CompletedAt)
		completed[i], failed[i], skipped[i], percent[i] = int64(r.Completed), int64(r.Failed), int64(r.Skipped), int64(r.Percent)
	}
	_, err := tx.ExecContext(ctx, `UPDATE executions t SET status = v.status, outputs = nullif(v.outputs, ''), error = nullif(v.error, ''), event_seq = v.seq,
			last_input = moment(v.input), next_due = moment(v.due), started_at = moment(v.started), completed_at = moment(v.completed),
			steps_completed = v.ok, steps_failed = v.failed, steps_skipped = v.skipped, percent = v.percent
		FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
			$10::int[], $11::int[], $12::int[], $13::smallint[]) v(id, status, outputs, error, seq, input, due, started, completed, ok, failed, skipped, percent)
		WHERE t.id = v.id`,
		pq.Array(ids), pq.Array(statuses), pq.ByteaArray(outputs), pq.ByteaArray(failures), pq.Array(seqs), pq.Array(inputs), pq.Array(dues),
		pq.Array(starts), pq.Array(ends), pq.Array(completed), pq.Array(failed), pq.Array(skipped), pq.Array(percent))
	return err
}

func upsertSteps(ctx context.Context, tx *postgres.PreparedTx, rows []partition.StepRow) error {
	n := len(rows)
	if n == 0 {
		return nil
	}
	ids, statuses, tokens, children := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	outputs, failures := make([][]byte, n), make([][]byte, n)
	indexes, iterations, ps, attempts, dispatches, sents := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	retries, backstops, wakes, starts, ends := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for i, r := range rows {
		failure, err := errorBytes(r.Error)
		if err != nil {
			return err
		}
		ids[i], statuses[i], tokens[i], children[i], outputs[i], failures[i] = r.ExecutionID, r.Status, r.Token, r.Child, nonNil(r.Output), failure
		indexes[i], iterations[i], ps[i], attempts[i], dispatches[i], sents[i] = int64(r.Step), int64(r.Iteration), int64(r.P), int64(r.Attempt), int64(r.Dispatch), int64(r.Sent)
		retries[i], backstops[i], wakes[i], starts[i], ends[i] = int64(r.RetryAt), int64(r.Backstop), int64(r.WakeAt), int64(r.StartedAt), int64(r.CompletedAt)
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO steps (execution_id, step_index, iteration, p, status, attempt, token, dispatch, sent, retry_at, backstop, wake_at,
			output, error, started_at, completed_at, child_id)
		SELECT v.id, v.idx, v.iteration, v.p, v.status, v.attempt, v.token, v.dispatch, v.sent, moment(v.retry), moment(v.backstop), moment(v.wake),
			nullif(v.output, ''), nullif(v.error, ''), moment(v.started), moment(v.completed), nullif(v.child, '')::uuid
		FROM unnest($1::uuid[], $2::int[], $3::int[], $4::smallint[], $5::text[], $6::int[], $7::text[], $8::int[], $9::bigint[], $10::bigint[], $11::bigint[],
			$12::bigint[], $13::bytea[], $14::bytea[], $15::bigint[], $16::bigint[], $17::text[])
			v(id, idx, iteration, p, status, attempt, token, dispatch, sent, retry, backstop, wake, output, error, started, completed, child)
		ON CONFLICT (execution_id, step_index, iteration) DO UPDATE SET status = excluded.status, attempt = excluded.attempt, token = excluded.token,
			dispatch = excluded.dispatch, sent = excluded.sent, retry_at = excluded.retry_at, backstop = excluded.backstop, wake_at = excluded.wake_at,
			output = excluded.output, error = excluded.error, started_at = excluded.started_at, completed_at = excluded.completed_at,
			child_id = excluded.child_id`,
		pq.Array(ids), pq.Array(indexes), pq.Array(iterations), pq.Array(ps), pq.Array(statuses), pq.Array(attempts), pq.Array(tokens), pq.Array(dispatches),
		pq.Array(sents), pq.Array(retries), pq.Array(backstops), pq.Array(wakes), pq.ByteaArray(outputs), pq.ByteaArray(failures), pq.Array(starts), pq.Array(ends),
		pq.Array(children))
	return err
}

// markCommands notes which commands are applied, and whose signals are kept.
func markCommands(ctx context.Context, tx *postgres.PreparedTx, rows []partition.CommandRow) error {
	var ids []string
	var kept []int64
	for _, r := range rows {
		if len(validUUIDs([]string{r.ID})) > 0 {
			ids, kept = append(ids, r.ID), append(kept, int64(r.Kept))
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `UPDATE commands t SET applied_at = coalesce(applied_at, now()), kept = nullif(v.kept, 0)
		FROM unnest($1::uuid[], $2::bigint[]) v(id, kept) WHERE t.id = v.id`, pq.Array(ids), pq.Array(kept))
	return err
}

func insertEvents(ctx context.Context, tx *postgres.PreparedTx, rows []partition.EventRow) error {
	n := len(rows)
	if n == 0 {
		return nil
	}
	ids, types, bodies := make([]string, n), make([]string, n), make([][]byte, n)
	seqs, ps, ns := make([]int64, n), make([]int64, n), make([]int64, n)
	for i, r := range rows {
		ids[i], types[i], bodies[i] = r.ExecutionID, r.Type, r.Body
		seqs[i], ps[i], ns[i] = int64(r.Seq), int64(r.P), int64(r.N)
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO execution_events (execution_id, seq, p, n, type, body)
		SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::smallint[], $4::bigint[], $5::text[], $6::bytea[])`,
		pq.Array(ids), pq.Array(seqs), pq.Array(ps), pq.Array(ns), pq.Array(types), pq.ByteaArray(bodies))
	return err
}

func errorBytes(e *runner.StepError) ([]byte, error) {
	if e == nil {
		return []byte{}, nil
	}
	return json.Marshal(e)
}

// nonNil keeps an array of bytea free of NULLs; the statements turn empty ones back.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// plain makes text of what a stranger has sent: the column takes neither NUL nor bad UTF-8.
func plain(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// validUUIDs leaves out what is no UUID as the ledger writes it: another spelling of an id
// would be another execution to the owner of its partition.
func validUUIDs(ids []string) []string {
	var out []string
	for _, id := range ids {
		if parsed, err := uuid.Parse(id); err == nil && parsed.String() == id {
			out = append(out, id)
		}
	}
	return out
}

// Events implements partition.Ledger.
func (s *Store) Events(ctx context.Context, p int, after uint64, limit int) ([]partition.EventRow, error) {
	var rows []struct {
		ExecutionID string `db:"execution_id"`
		Seq         uint64 `db:"seq"`
		N           uint64 `db:"n"`
		Type        string `db:"type"`
		Body        []byte `db:"body"`
	}
	if err := s.db.SelectContext(ctx, &rows, `SELECT execution_id, seq, n, type, body FROM execution_events WHERE p = $1 AND n > $2 ORDER BY n LIMIT $3`, p, after, limit); err != nil {
		return nil, postgres.Translate(err)
	}
	out := make([]partition.EventRow, len(rows))
	for i, r := range rows {
		out[i] = partition.EventRow{ExecutionID: r.ExecutionID, P: p, Seq: r.Seq, N: r.N, Type: r.Type, Body: r.Body}
	}
	return out, nil
}

// Unseen implements partition.Ledger.
func (s *Store) Unseen(ctx context.Context, p int, age time.Duration) ([]partition.Control, error) {
	var out []partition.Control
	var pending []string
	// created_at is by the clock of who accepted it, which may be ahead of ours.
	if err := s.db.SelectContext(ctx, &pending, `SELECT id FROM executions WHERE p = $1 AND completed_at IS NULL AND status = 'PENDING'
		AND (created_at <= clock_timestamp() - $2 * interval '1 microsecond' OR created_at > clock_timestamp()) ORDER BY created_at LIMIT 10000`, p, microseconds(age)); err != nil {
		return nil, postgres.Translate(err)
	}
	for _, id := range pending {
		out = append(out, partition.Control{P: p, Kind: engine.Submitted, ExecutionID: id})
	}
	var commands []commandRow
	if err := s.db.SelectContext(ctx, &commands, `SELECT id, execution_id, p, kind, signal FROM commands WHERE p = $1 AND applied_at IS NULL
		AND created_at <= clock_timestamp() - $2 * interval '1 microsecond' ORDER BY created_at LIMIT 10000`, p, microseconds(age)); err != nil {
		return nil, postgres.Translate(err)
	}
	for _, c := range commands {
		control, err := c.control()
		if err != nil {
			return nil, err
		}
		out = append(out, control)
	}
	return out, nil
}

type commandRow struct {
	ID          string `db:"id"`
	ExecutionID string `db:"execution_id"`
	P           int    `db:"p"`
	Kind        string `db:"kind"`
	Signal      []byte `db:"signal"`
}

func (c commandRow) control() (partition.Control, error) {
	return execution.Command{ID: c.ID, ExecutionID: c.ExecutionID, Partition: c.P, Kind: c.Kind, Signal: c.Signal}.Control()
}

// ItemOutputs implements partition.Ledger.
func (s *Store) ItemOutputs(ctx context.Context, executionID string, step, limit int) ([]engine.ItemOutput, error) {
	var size int64
	if err := s.db.GetContext(ctx, &size, `SELECT coalesce(sum(length(output)), 0) FROM steps
		WHERE execution_id = $1 AND step_index = $2 AND iteration > 0 AND status = 'COMPLETED'`, executionID, step); err != nil {
		return nil, postgres.Translate(err)
	}
	if size > int64(limit) {
		return nil, partition.ErrTooLarge
	}
	var rows []struct {
		Iteration int    `db:"iteration"`
		Output    []byte `db:"output"`
	}
	if err := s.db.SelectContext(ctx, &rows, `SELECT iteration, output FROM steps
		WHERE execution_id = $1 AND step_index = $2 AND iteration > 0 AND status = 'COMPLETED' ORDER BY iteration`, executionID, step); err != nil {
		return nil, postgres.Translate(err)
	}
	outputs := make([]engine.ItemOutput, len(rows))
	for i, r := range rows {
		outputs[i] = engine.ItemOutput{Iteration: r.Iteration, Output: r.Output}
	}
	return outputs, nil
}

// Stopped implements partition.Ledger.
func (s *Store) Stopped(ctx context.Context, p int) ([]partition.StoppedAttempt, error) {
	var rows []struct {
		ExecutionID string `db:"execution_id"`
		Index       int    `db:"step_index"`
		Iteration   int    `db:"iteration"`
		Token       string `db:"token"`
		Sent        uint64 `db:"sent"`
		Child       string `db:"child"`
	}
	if err := s.db.SelectContext(ctx, &rows, `SELECT execution_id, step_index, iteration, token, sent, coalesce(child_id::text, '') AS child FROM steps WHERE p = $1 AND status = 'CANCELLED' AND sent > 0`, p); err != nil {
		return nil, postgres.Translate(err)
	}
	out := make([]partition.StoppedAttempt, len(rows))
	for i, r := range rows {
		out[i] = partition.StoppedAttempt{ExecutionID: r.ExecutionID, Place: engine.Place{Step: r.Index, Iteration: r.Iteration}, Token: r.Token, Sent: r.Sent, Child: r.Child}
	}
	return out, nil
}

// Cleared implements partition.Ledger.
func (s *Store) Cleared(ctx context.Context, attempts []partition.StoppedAttempt) error {
	n := len(attempts)
	ids, indexes, iterations, sents := make([]string, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for i, a := range attempts {
		ids[i], indexes[i], iterations[i], sents[i] = a.ExecutionID, int64(a.Step), int64(a.Iteration), int64(a.Sent)
	}
	_, err := s.db.ExecContext(ctx, `UPDATE steps t SET sent = 0 FROM unnest($1::uuid[], $2::int[], $3::int[], $4::bigint[]) v(id, idx, iteration, sent)
		WHERE t.execution_id = v.id AND t.step_index = v.idx AND t.iteration = v.iteration AND t.sent = v.sent`,
		pq.Array(ids), pq.Array(indexes), pq.Array(iterations), pq.Array(sents))
	return postgres.Translate(err)
}
