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
	"turbocat.io/pkg/postgres/outbox"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
)

// Commit implements partition.Ledger.
func (s *Store) Commit(ctx context.Context, b partition.Batch) ([]partition.Control, error) {
	var inputs []partition.Control
	err := s.db.InTx(ctx, func(tx *postgres.PreparedTx) error {
		inputs = nil
		there, err := fence(ctx, tx, b)
		if err != nil || there {
			return err
		}
		inputs, err = s.write(ctx, tx, b)
		return err
	})
	return inputs, commitError(err)
}

var errRehearsed = errors.New("rehearsed")

// Rehearse implements partition.Ledger.
func (s *Store) Rehearse(ctx context.Context, b partition.Batch) error {
	err := s.db.InTx(ctx, func(tx *postgres.PreparedTx) error {
		if _, err := s.write(ctx, tx, b); err != nil {
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
func fence(ctx context.Context, tx *postgres.PreparedTx, b partition.Batch) (there bool, err error) {
	ps := make([]int64, len(b.Partitions))
	batch, numbers := map[int]partition.Advance{}, b.FirstEvents()
	for i, a := range b.Partitions {
		ps[i] = int64(a.P)
		batch[a.P] = a
	}
	var rows []struct {
		P        int    `db:"p"`
		Epoch    int64  `db:"epoch"`
		InputSeq uint64 `db:"input_seq"`
		EventN   uint64 `db:"event_n"`
	}
	if err := tx.SelectContext(ctx, &rows, `SELECT p, epoch, input_seq, event_n FROM partitions WHERE p = ANY($1::smallint[]) ORDER BY p FOR UPDATE`, postgres.Int2s(ps)); err != nil {
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
		case a.Epoch != r.Epoch || !there && (stays || a.From != r.InputSeq || numbers[a.P] > 0 && numbers[a.P] != r.EventN+1):
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
// planned a statement: it may have been on the first day, when they were empty. What can not go by a key then looks costly
// enough to be compiled, which takes seconds.
const byKey = `SET LOCAL jit = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off`

func (s *Store) write(ctx context.Context, tx *postgres.PreparedTx, b partition.Batch) ([]partition.Control, error) {
	if err := tx.Set(ctx, byKey); err != nil {
		return nil, err
	}
	if err := advance(ctx, tx, b.Partitions); err != nil {
		return nil, fmt.Errorf("advance partitions: %w", err)
	}
	if err := updateExecutions(ctx, tx, b.Executions); err != nil {
		return nil, fmt.Errorf("update executions: %w", err)
	}
	if err := upsertSteps(ctx, tx, b.Steps); err != nil {
		return nil, fmt.Errorf("write steps: %w", err)
	}
	if err := insertEvents(ctx, tx, b); err != nil {
		return nil, fmt.Errorf("write events: %w", err)
	}
	if err := markCommands(ctx, tx, b.Commands); err != nil {
		return nil, fmt.Errorf("mark commands: %w", err)
	}
	if err := s.acceptCompensations(ctx, tx, b.Compensations); err != nil {
		return nil, fmt.Errorf("accept compensations: %w", err)
	}
	for _, d := range b.DeadLetters {
		if _, err := tx.ExecContext(ctx, `INSERT INTO dead_letters (p, seq, subject, headers, body, reason) VALUES ($1, $2, $3, $4, $5, $6)`,
			d.P, d.Seq, plain(d.Subject), nonNil(d.Headers), nonNil(d.Body), plain(d.Reason)); err != nil {
			return nil, fmt.Errorf("write a dead letter: %w", err)
		}
	}
	cancels, err := cancelUnawaited(ctx, tx, b.Cancels)
	if err != nil {
		return nil, fmt.Errorf("cancel executions that nobody waits for: %w", err)
	}
	inputs, err := releaseSlots(ctx, tx, b.Executions)
	if err != nil {
		return nil, fmt.Errorf("release slots: %w", err)
	}
	return append(cancels, inputs...), nil
}

func advance(ctx context.Context, tx *postgres.PreparedTx, advances []partition.Advance) error {
	n := len(advances)
	ps, seqs, times, ns := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for i, a := range advances {
		ps[i], seqs[i], times[i], ns[i] = int64(a.P), int64(a.InputSeq), a.InputTime, int64(a.EventN)
	}
	_, err := tx.ExecContext(ctx, `UPDATE partitions t SET input_seq = v.seq, input_time = v.at, event_n = v.n
		FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::bigint[]) v(p, seq, at, n) WHERE t.p = v.p`,
		postgres.Int2s(ps), postgres.Int8s(seqs), postgres.Int8s(times), postgres.Int8s(ns))
	return err
}

func updateExecutions(ctx context.Context, tx *postgres.PreparedTx, rows []partition.ExecutionRow) error {
	n := len(rows)
	if n == 0 {
		return nil
	}
	ids, statuses := make([]string, n), make([]string, n)
	outputs, failures := make([][]byte, n), make([][]byte, n)
	seqs, inputs, sleeps, starts, ends := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	completed, failed, skipped, percent := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for i, r := range rows {
		failure, err := errorBytes(r.Error)
		if err != nil {
			return err
		}
		ids[i], statuses[i], outputs[i], failures[i] = r.ID, r.Status, nonNil(r.Outputs), failure
		seqs[i], inputs[i], sleeps[i], starts[i], ends[i] = int64(r.EventSeq), int64(r.LastInput), int64(r.SleepsUntil), int64(r.StartedAt), int64(r.CompletedAt)
		completed[i], failed[i], skipped[i], percent[i] = int64(r.Completed), int64(r.Failed), int64(r.Skipped), int64(r.Percent)
	}
	_, err := tx.ExecContext(ctx, `UPDATE executions t SET status = v.status, outputs = nullif(v.outputs, ''), error = nullif(v.error, ''), event_seq = v.seq,
			last_input = moment(v.input), sleeps_until = moment(v.sleeps), started_at = moment(v.started), completed_at = moment(v.completed),
			steps_completed = v.ok, steps_failed = v.failed, steps_skipped = v.skipped, percent = v.percent
		FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
			$10::int[], $11::int[], $12::int[], $13::smallint[]) v(id, status, outputs, error, seq, input, sleeps, started, completed, ok, failed, skipped, percent)
		WHERE t.id = v.id`,
		postgres.UUIDs(ids), postgres.Texts(statuses), postgres.Bytes(outputs), postgres.Bytes(failures), postgres.Int8s(seqs), postgres.Int8s(inputs), postgres.Int8s(sleeps),
		postgres.Int8s(starts), postgres.Int8s(ends), postgres.Int4s(completed), postgres.Int4s(failed), postgres.Int4s(skipped), postgres.Int2s(percent))
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
		postgres.UUIDs(ids), postgres.Int4s(indexes), postgres.Int4s(iterations), postgres.Int2s(ps), postgres.Texts(statuses), postgres.Int4s(attempts), postgres.Texts(tokens),
		postgres.Int4s(dispatches), postgres.Int8s(sents), postgres.Int8s(retries), postgres.Int8s(backstops), postgres.Int8s(wakes), postgres.Bytes(outputs),
		postgres.Bytes(failures), postgres.Int8s(starts), postgres.Int8s(ends), postgres.Texts(children))
	return err
}

// cancelUnawaited asks for the end of executions that no step waits for any more. It comes after the steps are written: an accept
// that has the lock of one has its execution by then, and one that comes later finds that nobody waits.
func cancelUnawaited(ctx context.Context, tx *postgres.PreparedTx, ids []string) ([]partition.Control, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var alive []string
	if err := tx.SelectContext(ctx, &alive, `SELECT id FROM executions WHERE id = ANY($1::uuid[]) AND completed_at IS NULL AND NOT detached ORDER BY id`, postgres.UUIDs(ids)); err != nil {
		return nil, err
	}
	return commandUnawaited(ctx, tx, alive)
}

// commandUnawaited commits the cancels of executions, and gives what becomes of them.
func commandUnawaited(ctx context.Context, tx outbox.Execer, ids []string) ([]partition.Control, error) {
	n := len(ids)
	out, commands, executions, ps, kinds := make([]partition.Control, n), make([]string, n), make([]string, n), make([]int64, n), make([]string, n)
	for i, id := range ids {
		c := execution.Unawaited(id)
		commands[i], executions[i], ps[i], kinds[i] = c.ID, c.ExecutionID, int64(c.Partition), c.Kind
		var err error
		if out[i], err = c.Control(); err != nil {
			return nil, err
		}
	}
	if n == 0 {
		return nil, nil
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO commands (id, execution_id, p, kind, user_id) SELECT id, execution, p, kind, ''
		FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::text[]) v(id, execution, p, kind) ON CONFLICT (id) DO NOTHING`,
		postgres.UUIDs(commands), postgres.UUIDs(executions), postgres.Int2s(ps), postgres.Texts(kinds))
	return out, err
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

// Unseen implements partition.Ledger.
func (s *Store) Unseen(ctx context.Context, p int, age time.Duration) ([]partition.Control, error) {
	var out []partition.Control
	var pending []string
	// created_at is by the clock of who accepted it, which may be ahead of ours.
	if err := s.db.SelectContext(ctx, &pending, `SELECT id FROM executions WHERE p = $1 AND completed_at IS NULL AND status = 'PENDING'
		AND NOT (limited AND EXISTS (SELECT 1 FROM concurrency_slots s WHERE s.execution_id = executions.id AND s.state = 'WAITING'))
		AND (created_at <= clock_timestamp() - $2 * interval '1 microsecond' OR created_at > clock_timestamp()) ORDER BY created_at LIMIT 10000`, p, microseconds(age)); err != nil {
		return nil, postgres.Translate(err)
	}
	for _, id := range pending {
		out = append(out, partition.Control{P: p, Kind: engine.Submitted, ExecutionID: id})
	}
	commands, err := s.Unapplied(ctx, []int{p}, age, everBefore)
	return append(out, commands...), err
}

// everBefore is longer than anything stays in the ledger.
const everBefore = 100 * 365 * 24 * time.Hour

// Unapplied implements partition.Ledger.
func (s *Store) Unapplied(ctx context.Context, ps []int, least, most time.Duration) ([]partition.Control, error) {
	var commands []commandRow
	if err := s.db.SelectContext(ctx, &commands, `SELECT id, execution_id, p, kind, signal FROM commands WHERE p = ANY($1::smallint[]) AND applied_at IS NULL
		AND created_at <= clock_timestamp() - $2 * interval '1 microsecond' AND created_at >= clock_timestamp() - $3 * interval '1 microsecond'
		ORDER BY created_at LIMIT 10000`, smallints(ps), microseconds(least), microseconds(most)); err != nil {
		return nil, postgres.Translate(err)
	}
	out := make([]partition.Control, len(commands))
	for i, c := range commands {
		var err error
		if out[i], err = c.control(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// smallints is what a query takes for partitions.
func smallints(ps []int) any {
	out := make([]int64, len(ps))
	for i, p := range ps {
		out[i] = int64(p)
	}
	return pq.Array(out)
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
func (s *Store) Stopped(ctx context.Context, ps []int, age time.Duration) ([]partition.StoppedAttempt, error) {
	var rows []struct {
		ExecutionID string `db:"execution_id"`
		Index       int    `db:"step_index"`
		Iteration   int    `db:"iteration"`
		Token       string `db:"token"`
		Sent        uint64 `db:"sent"`
	}
	if err := s.db.SelectContext(ctx, &rows, `SELECT execution_id, step_index, iteration, token, sent FROM steps WHERE p = ANY($1::smallint[]) AND status = 'CANCELLED' AND sent > 0
		AND ($2::bigint = 0 OR completed_at <= clock_timestamp() - $2::bigint * interval '1 microsecond')`, smallints(ps), microseconds(age)); err != nil {
		return nil, postgres.Translate(err)
	}
	out := make([]partition.StoppedAttempt, len(rows))
	for i, r := range rows {
		out[i] = partition.StoppedAttempt{ExecutionID: r.ExecutionID, Place: engine.Place{Step: r.Index, Iteration: r.Iteration}, Token: r.Token, Sent: r.Sent}
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
