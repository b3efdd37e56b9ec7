package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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

// querier runs constant statements, in a transaction or each in one of its own.
type querier interface {
	GetContext(ctx context.Context, dest any, query string, args ...any) error
	SelectContext(ctx context.Context, dest any, query string, args ...any) error
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Commit implements partition.Ledger. Most batches are one statement, whose answer is the only one that the commit waits for.
func (s *Store) Commit(ctx context.Context, b partition.Batch) ([]partition.Control, error) {
	if !more(b) {
		_, err := move(ctx, s.ledger, b, false)
		return nil, commitError(postgres.Translate(err))
	}
	var inputs []partition.Control
	err := s.ledger.InTx(ctx, func(tx *postgres.PreparedTx) error {
		inputs = nil
		there, err := move(ctx, tx, b, false)
		if err != nil || there {
			return err
		}
		inputs, err = s.follow(ctx, tx, b)
		return err
	})
	return inputs, commitError(err)
}

var errRehearsed = errors.New("rehearsed")

// Rehearse implements partition.Ledger.
func (s *Store) Rehearse(ctx context.Context, b partition.Batch) error {
	err := s.ledger.InTx(ctx, func(tx *postgres.PreparedTx) error {
		if _, err := move(ctx, tx, b, true); err != nil {
			return err
		}
		if _, err := s.follow(ctx, tx, b); err != nil {
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

// moveStatement locks the partitions, in their order, and writes what a batch has of positions, executions, steps and events, unless one of the
// partitions does not have the batch's epoch or stand where it goes on from. A batch whose earlier try was committed without an answer is there
// already: it has moved its partitions. It gives the partitions, whether each is lost, and whether anything was written.
//
// What is locked is read as it is once it is locked, while the rest of the statement sees what was there when it began; all that it updates belongs
// to the owner alone, but for the partitions, whose leases are renewed meanwhile: of these the newest version is updated.
const moveStatement = `WITH given AS MATERIALIZED (
	SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) v(p, epoch, origin, seq, at, n, first)
), held AS MATERIALIZED (
	SELECT p, epoch, input_seq, event_n FROM partitions WHERE p = ANY($1::smallint[]) ORDER BY p FOR UPDATE
), judged AS MATERIALIZED (
	SELECT p, v.seq <> v.origin AS moves, h.input_seq = v.seq AND h.event_n = v.n AS there, h.epoch <> v.epoch OR
		(h.input_seq <> v.seq OR h.event_n <> v.n) AND (v.seq = v.origin OR h.input_seq <> v.origin OR v.first > 0 AND h.event_n <> v.first - 1) AS lost
	FROM held h JOIN given v USING (p)
), verdict AS MATERIALIZED (
	SELECT $8 OR NOT bool_or(lost) AND NOT coalesce(bool_and(there) FILTER (WHERE moves), false) AS writes FROM judged
), advanced AS (
	UPDATE partitions t SET input_seq = v.seq, input_time = v.at, event_n = v.n FROM given v WHERE t.p = v.p AND (SELECT writes FROM verdict)
), updated AS (
	UPDATE executions t SET status = v.status, outputs = nullif(v.outputs, ''), error = nullif(v.error, ''), event_seq = v.seq,
		last_input = moment(v.input), sleeps_until = moment(v.sleeps), started_at = moment(v.started), completed_at = moment(v.completed),
		steps_completed = v.ok, steps_failed = v.failed, steps_skipped = v.skipped, percent = v.percent
	FROM unnest($9::uuid[], $10::text[], $11::bytea[], $12::bytea[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[],
		$18::int[], $19::int[], $20::int[], $21::smallint[]) v(id, status, outputs, error, seq, input, sleeps, started, completed, ok, failed, skipped, percent)
	WHERE t.id = v.id AND (SELECT writes FROM verdict)
), stepped AS (
	INSERT INTO steps (execution_id, step_index, iteration, p, status, attempt, token, dispatch, sent, retry_at, backstop, wake_at,
		output, error, started_at, completed_at, child_id)
	SELECT v.id, v.idx, v.iteration, v.p, v.status, v.attempt, v.token, v.dispatch, v.sent, moment(v.retry), moment(v.backstop), moment(v.wake),
		nullif(v.output, ''), nullif(v.error, ''), moment(v.started), moment(v.completed), nullif(v.child, '')::uuid
	FROM unnest($22::uuid[], $23::int[], $24::int[], $25::smallint[], $26::text[], $27::int[], $28::text[], $29::int[], $30::bigint[], $31::bigint[], $32::bigint[],
		$33::bigint[], $34::bytea[], $35::bytea[], $36::bigint[], $37::bigint[], $38::text[])
		v(id, idx, iteration, p, status, attempt, token, dispatch, sent, retry, backstop, wake, output, error, started, completed, child)
	WHERE (SELECT writes FROM verdict)
	ON CONFLICT (execution_id, step_index, iteration) DO UPDATE SET status = excluded.status, attempt = excluded.attempt, token = excluded.token,
		dispatch = excluded.dispatch, sent = excluded.sent, retry_at = excluded.retry_at, backstop = excluded.backstop, wake_at = excluded.wake_at,
		output = excluded.output, error = excluded.error, started_at = excluded.started_at, completed_at = excluded.completed_at,
		child_id = excluded.child_id
), told AS (
	INSERT INTO execution_events (execution_id, seq, p, n, event_count, events)
	SELECT v.* FROM unnest($39::uuid[], $40::bigint[], $41::smallint[], $42::bigint[], $43::int[], $44::bytea[]) v
	WHERE (SELECT writes FROM verdict)
)
SELECT p, lost, (SELECT writes FROM verdict) AS written FROM judged`

// move writes what a batch has of positions, executions, steps and events, and tells whether it was there already. A rehearsal writes wherever
// the partitions stand.
func move(ctx context.Context, q querier, b partition.Batch, rehearsal bool) (there bool, err error) {
	events, err := eventArguments(b)
	if err != nil {
		return false, fmt.Errorf("write events: %w", err)
	}
	executions, err := executionArguments(b.Executions)
	if err != nil {
		return false, err
	}
	steps, err := stepArguments(b.Steps)
	if err != nil {
		return false, err
	}
	var rows []struct {
		P       int  `db:"p"`
		Lost    bool `db:"lost"`
		Written bool `db:"written"`
	}
	args := slices.Concat(positionArguments(b), []any{rehearsal}, executions, steps, events)
	if err := q.SelectContext(ctx, &rows, moveStatement, args...); err != nil || rehearsal {
		return false, err
	}
	var lost []int
	for _, r := range rows {
		if r.Lost {
			lost = append(lost, r.P)
		}
		there = there || !r.Written
	}
	if len(lost) > 0 {
		return false, &partition.FencedError{Partitions: lost}
	}
	return there, nil
}

// ByKey are settings of connections that have the server go by the keys, whatever it believed of the tables' sizes when it
// planned a statement: it may have been on the first day, when they were empty. What can not go by a key then looks costly
// enough to be compiled, which takes seconds.
var ByKey = map[string]string{"jit": "off", "enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}

// more tells whether a batch has anything beyond what moveStatement writes.
func more(b partition.Batch) bool {
	return len(b.Commands) > 0 || len(b.Compensations) > 0 || len(b.DeadLetters) > 0 || len(b.Cancels) > 0 || slices.ContainsFunc(b.Executions, releases)
}

// follow writes the rest of a batch, and gives the inputs that come of it.
func (s *Store) follow(ctx context.Context, tx *postgres.PreparedTx, b partition.Batch) ([]partition.Control, error) {
	if err := markCommands(ctx, tx, b.Commands); err != nil {
		return nil, fmt.Errorf("mark commands: %w", err)
	}
	if err := s.acceptCompensations(ctx, tx, b.Compensations); err != nil {
		return nil, fmt.Errorf("accept compensations: %w", err)
	}
	if err := insertDeadLetters(ctx, tx, b.DeadLetters); err != nil {
		return nil, fmt.Errorf("write dead letters: %w", err)
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

// positionArguments are the arguments of given.
func positionArguments(b partition.Batch) []any {
	n, numbers := len(b.Partitions), b.FirstEvents()
	ps, epochs, origins, seqs := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	times, ns, firsts := make([]int64, n), make([]int64, n), make([]int64, n)
	for i, a := range b.Partitions {
		ps[i], epochs[i], origins[i], seqs[i] = int64(a.P), a.Epoch, int64(a.From), int64(a.InputSeq)
		times[i], ns[i], firsts[i] = a.InputTime, int64(a.EventN), int64(numbers[a.P])
	}
	return []any{
		postgres.Int2s(ps), postgres.Int8s(epochs), postgres.Int8s(origins), postgres.Int8s(seqs), postgres.Int8s(times), postgres.Int8s(ns), postgres.Int8s(firsts),
	}
}

// executionArguments are the arguments of updated.
func executionArguments(rows []partition.ExecutionRow) ([]any, error) {
	n := len(rows)
	ids, statuses := make([]string, n), make([]string, n)
	outputs, failures := make([][]byte, n), make([][]byte, n)
	seqs, inputs, sleeps, starts, ends := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	completed, failed, skipped, percent := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for i, r := range rows {
		failure, err := errorBytes(r.Error)
		if err != nil {
			return nil, err
		}
		ids[i], statuses[i], outputs[i], failures[i] = r.ID, r.Status, nonNil(r.Outputs), failure
		seqs[i], inputs[i], sleeps[i], starts[i], ends[i] = int64(r.EventSeq), int64(r.LastInput), int64(r.SleepsUntil), int64(r.StartedAt), int64(r.CompletedAt)
		completed[i], failed[i], skipped[i], percent[i] = int64(r.Completed), int64(r.Failed), int64(r.Skipped), int64(r.Percent)
	}
	return []any{
		postgres.UUIDs(ids), postgres.Texts(statuses), postgres.Bytes(outputs), postgres.Bytes(failures), postgres.Int8s(seqs), postgres.Int8s(inputs), postgres.Int8s(sleeps),
		postgres.Int8s(starts), postgres.Int8s(ends), postgres.Int4s(completed), postgres.Int4s(failed), postgres.Int4s(skipped), postgres.Int2s(percent),
	}, nil
}

// stepArguments are the arguments of stepped.
func stepArguments(rows []partition.StepRow) ([]any, error) {
	n := len(rows)
	ids, statuses, tokens, children := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	outputs, failures := make([][]byte, n), make([][]byte, n)
	indexes, iterations, ps, attempts, dispatches, sents := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	retries, backstops, wakes, starts, ends := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for i, r := range rows {
		failure, err := errorBytes(r.Error)
		if err != nil {
			return nil, err
		}
		ids[i], statuses[i], tokens[i], children[i], outputs[i], failures[i] = r.ExecutionID, r.Status, r.Token, r.Child, nonNil(r.Output), failure
		indexes[i], iterations[i], ps[i], attempts[i], dispatches[i], sents[i] = int64(r.Step), int64(r.Iteration), int64(r.P), int64(r.Attempt), int64(r.Dispatch), int64(r.Sent)
		retries[i], backstops[i], wakes[i], starts[i], ends[i] = int64(r.RetryAt), int64(r.Backstop), int64(r.WakeAt), int64(r.StartedAt), int64(r.CompletedAt)
	}
	return []any{
		postgres.UUIDs(ids), postgres.Int4s(indexes), postgres.Int4s(iterations), postgres.Int2s(ps), postgres.Texts(statuses), postgres.Int4s(attempts), postgres.Texts(tokens),
		postgres.Int4s(dispatches), postgres.Int8s(sents), postgres.Int8s(retries), postgres.Int8s(backstops), postgres.Int8s(wakes), postgres.Bytes(outputs),
		postgres.Bytes(failures), postgres.Int8s(starts), postgres.Int8s(ends), postgres.Texts(children),
	}, nil
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
