package postgres

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"github.com/lib/pq"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/postgres"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
)

// Accept implements execution.Store.
func (s *Store) Accept(ctx context.Context, executions []execution.Accepted) ([]execution.Outcome, []partition.Control, error) {
	outcomes := make([]execution.Outcome, len(executions))
	if s.plain(executions) {
		for i, x := range executions {
			outcomes[i].ID = x.ID
		}
		_, err := insertExecutions(ctx, s.db, executions)
		return outcomes, nil, postgres.Translate(err)
	}
	var kept [][]byte
	began := time.Now()
	var inputs []partition.Control
	err := s.db.InTx(ctx, func(tx *postgres.PreparedTx) error {
		fresh, err := claimKeys(ctx, tx, executions, outcomes)
		if err != nil {
			return err
		}
		if fresh, err = awaited(ctx, tx, fresh, outcomes); err != nil {
			return err
		}
		if fresh, err = moveSchedules(ctx, tx, fresh, outcomes); err != nil {
			return err
		}
		if fresh, err = claimDeliveries(ctx, tx, fresh, outcomes); err != nil {
			return err
		}
		if kept, err = s.keepDefinitions(ctx, tx, fresh); err != nil {
			return err
		}
		if err := freeOfAncestors(ctx, tx, fresh); err != nil {
			return err
		}
		fresh, large := referToLarge(fresh)
		limited, err := insertExecutions(ctx, tx, fresh)
		if err != nil {
			return err
		}
		if err := insertReused(ctx, tx, fresh); err != nil {
			return err
		}
		if err := insertPayloads(ctx, tx, fresh, large); err != nil {
			return err
		}
		if err := recordAgain(ctx, tx, fresh); err != nil {
			return err
		}
		inputs, err = takeSlots(ctx, tx, limited, outcomes)
		return err
	})
	if postgres.IsUnique(err, "executions_compensation_again") {
		err = execution.ErrCompensatedAgain
	}
	if err == nil {
		for _, hash := range kept {
			s.seen.Add([sha256.Size]byte(hash), began)
		}
	}
	return outcomes, inputs, err
}

// plain tells whether there is nothing to accept but rows of executions, which are one statement. What else executions bring, or depend on,
// goes with them in a transaction.
func (s *Store) plain(executions []execution.Accepted) bool {
	return !slices.ContainsFunc(executions, func(x execution.Accepted) bool {
		return x.Key != nil || x.Parent != nil || x.Scheduled != nil || x.Received != nil || x.RetryOf != "" || x.CompensationOf != "" || x.Limit != nil || len(x.Reused) > 0 || x.Definition.Recording != nil ||
			len(x.Inputs) > runner.MaxInline || !s.known(x.DefinitionHash)
	})
}

// claimKeys sorts out what was accepted before, and fills in the outcomes.
func claimKeys(ctx context.Context, tx *postgres.PreparedTx, executions []execution.Accepted, outcomes []execution.Outcome) ([]execution.Accepted, error) {
	var fresh []execution.Accepted
	for i, x := range executions {
		outcomes[i] = execution.Outcome{ID: x.ID}
		if x.Key == nil {
			fresh = append(fresh, x)
			continue
		}
		var claimed bool
		err := tx.GetContext(ctx, &claimed, `INSERT INTO idempotency_keys (user_id, route, key, body_hash, execution_id) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (user_id, route, key) DO UPDATE SET body_hash = excluded.body_hash, execution_id = excluded.execution_id, created_at = now()
			WHERE idempotency_keys.created_at < now() - interval '24 hours' RETURNING true`, x.Key.UserID, x.Key.Route, x.Key.Key, x.Key.BodyHash, x.ID)
		if err == nil {
			fresh = append(fresh, x)
			continue
		}
		if errs.CodeOf(notFound(err, "key")) != errs.NotFound {
			return nil, err
		}
		if outcomes[i], err = keyed(ctx, tx.GetContext, *x.Key); err != nil {
			return nil, err
		}
	}
	return fresh, nil
}

// Keyed implements execution.Store.
func (s *Store) Keyed(ctx context.Context, key execution.IdempotencyKey) (execution.Outcome, bool, error) {
	outcome, err := keyed(ctx, s.db.GetContext, key)
	if errs.CodeOf(notFound(err, "key")) == errs.NotFound {
		return outcome, false, nil
	}
	return outcome, err == nil, postgres.Translate(err)
}

// keyed gives the execution that a key stands for; sql.ErrNoRows for none.
func keyed(ctx context.Context, get func(ctx context.Context, dest any, query string, args ...any) error, key execution.IdempotencyKey) (execution.Outcome, error) {
	var before struct {
		BodyHash    []byte `db:"body_hash"`
		ExecutionID string `db:"execution_id"`
	}
	err := get(ctx, &before, `SELECT body_hash, execution_id FROM idempotency_keys WHERE user_id = $1 AND route = $2 AND key = $3 AND created_at >= now() - interval '24 hours'`,
		key.UserID, key.Route, key.Key)
	return execution.Outcome{ID: before.ExecutionID, Replayed: true, Conflict: string(before.BodyHash) != string(key.BodyHash)}, err
}

// awaited leaves out the children that nobody waits for any more, and keeps the tasks that wait for the others as they are until the
// children are there: who cancels such a task then finds its child.
func awaited(ctx context.Context, tx *postgres.PreparedTx, executions []execution.Accepted, outcomes []execution.Outcome) ([]execution.Accepted, error) {
	kept := executions[:0:0]
	for _, x := range executions {
		if x.Parent != nil {
			var waits bool
			err := tx.GetContext(ctx, &waits, `SELECT true FROM steps WHERE execution_id = $1 AND step_index = $2 AND iteration = $3 AND token = $4 AND status = 'RUNNING' FOR SHARE`,
				x.Parent.ExecutionID, x.Parent.Step, x.Parent.Iteration, x.Parent.Token)
			if errs.CodeOf(notFound(err, "step")) == errs.NotFound {
				i := slices.IndexFunc(outcomes, func(o execution.Outcome) bool { return o.ID == x.ID })
				outcomes[i].Obsolete = true
				continue
			}
			if err != nil {
				return nil, err
			}
		}
		kept = append(kept, x)
	}
	return kept, nil
}

// definitionSeen is for how long this process takes it that a definition it has accepted is kept. It is deleted a day after the last
// execution was accepted with it, at the earliest.
const definitionSeen = time.Hour

// known tells whether this process takes it that a definition is kept.
func (s *Store) known(hash []byte) bool {
	at, seen := s.seen.Get([sha256.Size]byte(hash))
	return seen && time.Since(at) <= definitionSeen
}

// keepDefinitions writes the definitions that are missing, and notes of the others that they are in use: of each once in a while.
// It gives the hashes of all of them that this process need not look at again once the transaction is committed. NOT_FOUND when a definition
// is gone together with the executions that had it.
func (s *Store) keepDefinitions(ctx context.Context, tx *postgres.PreparedTx, executions []execution.Accepted) ([][]byte, error) {
	bodies := map[string][]byte{}
	for _, x := range executions {
		if !s.known(x.DefinitionHash) {
			bodies[string(x.DefinitionHash)] = nonNil(x.DefinitionBody)
		}
	}
	if len(bodies) == 0 {
		return nil, nil
	}
	hashes, texts := make([][]byte, 0, len(bodies)), make([][]byte, 0, len(bodies))
	for hash, body := range bodies {
		hashes, texts = append(hashes, []byte(hash)), append(texts, body)
	}
	// In the order of the hashes, so that nobody waits for another in a circle. What is run again has no body.
	result, err := tx.ExecContext(ctx, `INSERT INTO definitions (hash, body) SELECT v.hash, coalesce(nullif(v.body, ''), d.body)
		FROM unnest($1::bytea[], $2::bytea[]) v(hash, body) LEFT JOIN definitions d ON v.body = '' AND d.hash = v.hash WHERE v.body <> '' OR d.hash IS NOT NULL
		ORDER BY v.hash ON CONFLICT (hash) DO UPDATE SET used_at = now()`, pq.ByteaArray(hashes), pq.ByteaArray(texts))
	if err != nil {
		return nil, err
	}
	if n, err := result.RowsAffected(); err != nil || n < int64(len(hashes)) {
		return nil, errs.Wrap(err, errs.NotFound, "the execution is not kept any more; execute the workflow again")
	}
	return hashes, nil
}

// insertExecutions gives those of them that have a limit and were not there before.
func insertExecutions(ctx context.Context, q querier, executions []execution.Accepted) (limited []execution.Accepted, err error) {
	n := len(executions)
	if n == 0 {
		return nil, nil
	}
	ids, workflows, owners, users := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	triggers, requests, parents := make([]string, n), make([]string, n), make([]string, n)
	hashes, inputs := make([][]byte, n), make([][]byte, n)
	ps, versions, priorities, created := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	undone := make([]string, n)
	retried, totals, reused, percents := make([]string, n), make([]int64, n), make([]int64, n), make([]int64, n)
	parentIDs, parentSteps, parentTokens := make([]string, n), make([]string, n), make([]string, n)
	parentIterations, depths := make([]int64, n), make([]int64, n)
	schedules, times := make([]string, n), make([]int64, n)
	limits, detached := make([]bool, n), make([]bool, n)
	for i, x := range executions {
		ids[i], workflows[i], owners[i], users[i] = x.ID, x.Definition.WorkflowID, x.Definition.WorkflowOwner, x.Caller.UserID
		triggers[i], requests[i], parents[i] = x.TriggerType, x.Caller.RequestID, x.Caller.Traceparent
		hashes[i], inputs[i] = x.DefinitionHash, x.Inputs
		ps[i], versions[i], priorities[i], created[i] = int64(subject.PartitionOf(x.ID)), int64(x.Definition.WorkflowVersion), int64(x.Priority), x.CreatedAt.UnixMicro()
		retried[i], totals[i], reused[i] = x.RetryOf, int64(len(x.Definition.Steps)), int64(len(x.Reused))
		percents[i] = reused[i] * 100 / max(totals[i], 1)
		depths[i], undone[i], limits[i], detached[i] = int64(x.Depth), x.CompensationOf, x.Limit != nil, x.Detached
		if p := x.Parent; p != nil {
			parentIDs[i], parentSteps[i], parentIterations[i], parentTokens[i] = p.ExecutionID, p.StepKey, int64(p.Iteration), p.Token
		}
		if at := x.Scheduled; at != nil {
			schedules[i], times[i] = at.TriggerID, at.For.UnixMicro()
		}
		if x.Received != nil {
			schedules[i] = x.Received.TriggerID
		}
	}
	var inserted []string
	err = q.SelectContext(ctx, &inserted, `INSERT INTO executions (id, p, workflow_id, workflow_version, workflow_owner, user_id, definition, engine_version, status,
			trigger_type, priority, inputs, request_id, traceparent, steps_total, created_at, retry_of, steps_completed, percent,
			parent_execution_id, parent_step, parent_iteration, parent_token, depth, compensation_of, trigger_id, scheduled_for, limited, detached)
		SELECT v.id, v.p, v.workflow, v.version, v.owner, v.usr, v.definition, $23, 'PENDING', v.trigger, v.priority, v.inputs, v.request, v.parent, v.total, moment(v.created),
			nullif(v.retried, '')::uuid, v.reused, v.percent,
			nullif(v.pid, '')::uuid, nullif(v.pstep, ''), CASE WHEN v.pid = '' THEN NULL ELSE v.piteration END, nullif(v.ptoken, ''), v.depth, nullif(v.undone, '')::uuid,
			nullif(v.tid, '')::uuid, moment(v.ttime), v.limited, v.detached
		FROM unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::int[], $5::uuid[], $6::uuid[], $7::bytea[], $8::text[], $9::smallint[], $10::bytea[],
			$11::text[], $12::text[], $13::int[], $14::bigint[], $15::text[], $16::int[], $17::smallint[],
			$18::text[], $19::text[], $20::int[], $21::text[], $22::smallint[], $24::text[], $25::text[], $26::bigint[], $27::boolean[], $28::boolean[])
			v(id, p, workflow, version, owner, usr, definition, trigger, priority, inputs, request, parent, total, created, retried, reused, percent,
				pid, pstep, piteration, ptoken, depth, undone, tid, ttime, limited, detached)
		ON CONFLICT (id) DO NOTHING RETURNING CASE WHEN limited THEN id::text ELSE '' END`,
		postgres.UUIDs(ids), postgres.Int2s(ps), postgres.UUIDs(workflows), postgres.Int4s(versions), postgres.UUIDs(owners), postgres.UUIDs(users), postgres.Bytes(hashes),
		postgres.Texts(triggers), postgres.Int2s(priorities), postgres.Bytes(inputs), postgres.Texts(requests), postgres.Texts(parents), postgres.Int4s(totals),
		postgres.Int8s(created), postgres.Texts(retried), postgres.Int4s(reused), postgres.Int2s(percents),
		postgres.Texts(parentIDs), postgres.Texts(parentSteps), postgres.Int4s(parentIterations), postgres.Texts(parentTokens), postgres.Int2s(depths), partition.EngineVersion,
		postgres.Texts(undone), postgres.Texts(schedules), postgres.Int8s(times), pq.Array(limits), pq.Array(detached))
	for _, x := range executions {
		if x.Limit != nil && slices.Contains(inserted, x.ID) {
			limited = append(limited, x)
		}
	}
	return limited, err
}

// acceptCompensations writes executions that undo what others have done.
func (s *Store) acceptCompensations(ctx context.Context, tx *postgres.PreparedTx, compensations []partition.Compensation) error {
	accepted := make([]execution.Accepted, len(compensations))
	for i, c := range compensations {
		var err error
		if accepted[i], err = execution.AcceptedCompensation(c); err != nil {
			return err
		}
	}
	if _, err := s.keepDefinitions(ctx, tx, accepted); err != nil {
		return err
	}
	_, err := insertExecutions(ctx, tx, accepted) // they have no limit: what is undone must not wait for what is done
	return err
}

// insertReused gives executions the results of the steps that they do not run again. They are copied within the database.
func insertReused(ctx context.Context, tx *postgres.PreparedTx, executions []execution.Accepted) error {
	var ids, from []string
	var ps, steps []int64
	var outputs [][]byte
	for _, x := range executions {
		for _, k := range x.Reused {
			ids, from = append(ids, x.ID), append(from, x.RetryOf)
			ps, steps, outputs = append(ps, int64(subject.PartitionOf(x.ID))), append(steps, int64(k.Index)), append(outputs, k.Output)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO steps (execution_id, step_index, iteration, p, status, attempt, token, dispatch, sent, output, started_at, completed_at, reused_from)
		SELECT v.id, v.step, 0, v.p, 'COMPLETED', coalesce(s.attempt, 0), '', coalesce(s.dispatch, 0), 0, coalesce(nullif(v.output, ''), s.output), s.started_at,
			coalesce(s.completed_at, now()), coalesce(s.reused_from, v.source)
		FROM unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::int[], $5::bytea[]) v(id, p, source, step, output)
		LEFT JOIN steps s ON s.execution_id = v.source AND s.step_index = v.step AND s.iteration = 0`,
		pq.Array(ids), pq.Array(ps), pq.Array(from), pq.Array(steps), pq.ByteaArray(outputs))
	return err
}

// Unfinished implements execution.Store.
func (s *Store) Unfinished(ctx context.Context, userID string, most int) (int, error) {
	var n int
	err := s.db.GetContext(ctx, &n, `SELECT count(*) FROM (SELECT 1 FROM executions WHERE user_id = $1 AND completed_at IS NULL AND parent_execution_id IS NULL AND compensation_of IS NULL LIMIT $2) x`, userID, most)
	return n, postgres.Translate(err)
}

// Ending implements execution.Store.
func (s *Store) Ending(ctx context.Context, id string) (execution.Ending, bool, error) {
	var ended bool
	err := s.db.GetContext(ctx, &ended, `SELECT completed_at IS NOT NULL FROM executions WHERE id = $1`, id)
	switch {
	case errs.CodeOf(notFound(err, "execution")) == errs.NotFound:
		return execution.Ending{}, false, nil
	case err != nil:
		return execution.Ending{}, false, postgres.Translate(err)
	case !ended:
		return execution.Ending{}, true, nil
	}
	record, err := s.Get(ctx, id)
	if err != nil {
		return execution.Ending{}, false, err
	}
	failed := partition.NewPayloads(s).Lend(ctx, record.Execution)
	output, failure := record.Execution.Ending()
	return execution.Ending{Ended: true, Output: output, Failure: failure}, true, failed()
}

// Get implements execution.Store.
func (s *Store) Get(ctx context.Context, id string) (execution.Record, error) {
	var found struct { // of one moment: its end takes the slot along
		executionRow
		Slot *string `db:"slot"`
	}
	if err := s.db.GetContext(ctx, &found, `SELECT `+executionColumns+`, CASE WHEN limited THEN (SELECT state FROM concurrency_slots WHERE execution_id = executions.id) END AS slot
		FROM executions WHERE id = $1`, id); err != nil {
		return execution.Record{}, notFound(err, "execution")
	}
	row, slot := found.executionRow, engine.SlotNone
	if found.Slot != nil {
		slot = slotStates[*found.Slot]
	}
	var steps []stepRow
	if row.hasSteps() {
		if err := s.db.SelectContext(ctx, &steps, `SELECT `+stepColumns+` FROM steps WHERE execution_id = $1 AND `+inMemory+` ORDER BY step_index, iteration`, id); err != nil {
			return execution.Record{}, postgres.Translate(err)
		}
	}
	defs, err := s.definitionsOf(ctx, [][]byte{row.Definition})
	if err != nil {
		return execution.Record{}, err
	}
	def := defs[string(row.Definition)]
	if def == nil {
		return execution.Record{}, errors.New("the definition of execution " + id + " is not there")
	}
	items, err := s.itemsOf(ctx, []executionRow{row}, defs)
	if err != nil {
		return execution.Record{}, err
	}
	loaded, err := restoreOne(row, steps, items[row.ID], nil, slot, def.Compiled)
	if err != nil {
		return execution.Record{}, err
	}
	reused := map[int]string{}
	for _, st := range steps {
		if st.ReusedFrom != nil {
			reused[st.Index] = *st.ReusedFrom
		}
	}
	if loaded.Execution.Slot == engine.SlotDropped { // it is shown as the log is going to make it
		engine.Apply(loaded.Execution, engine.Input{Kind: engine.Submitted, Time: loaded.Execution.CreatedAt}, engine.Keys{})
	}
	compensation, err := s.compensationOf(ctx, row)
	if err != nil {
		return execution.Record{}, err
	}
	var usage map[int]orchestrator.Usage
	var undecided map[int]int
	if slices.ContainsFunc(def.Source.Agents, func(a catalog.DefinitionAgent) bool { return a.Type == catalog.AgentLLM }) {
		if usage, err = s.usageOf(ctx, id); err != nil {
			return execution.Record{}, err
		}
		if undecided, err = s.undecidedOf(ctx, id); err != nil {
			return execution.Record{}, err
		}
	}
	return execution.Record{
		Execution: loaded.Execution, Definition: def.Source, DefinitionHash: row.Definition, WorkflowOwner: row.WorkflowOwner, WorkflowVersion: row.WorkflowVersion,
		ParentID: row.ParentID, RetryOf: row.RetryOf, TriggerID: row.TriggerID, ScheduledFor: utc(row.ScheduledFor.Time, row.ScheduledFor.Valid), Reused: reused,
		Compensation: compensation, Sent: loaded.Sent, Usage: usage, Undecided: undecided,
	}, nil
}

// compensation is the execution that undoes another: of those that were run again the last.
const compensation = `FROM executions c WHERE c.compensation_of = executions.id AND NOT EXISTS (SELECT 1 FROM executions r WHERE r.retry_of = c.id)`

func (s *Store) compensationOf(ctx context.Context, row executionRow) (*execution.Compensation, error) {
	if row.Status == orchestrator.ExecutionCompleted || !engine.Terminal(row.Status) {
		return nil, nil
	}
	var c execution.Compensation
	err := s.db.GetContext(ctx, &c, `SELECT c.id, c.status FROM executions, LATERAL (SELECT c.id, c.status `+compensation+`) c WHERE executions.id = $1`, row.ID)
	switch {
	case errs.CodeOf(notFound(err, "compensation")) == errs.NotFound:
		return nil, nil
	case err != nil:
		return nil, postgres.Translate(err)
	}
	return &c, nil
}

// Step implements execution.Store.
func (s *Store) Step(ctx context.Context, id, key string, iteration int) (engine.Task, bool, error) {
	if len(validUUIDs([]string{id})) == 0 {
		return engine.Task{}, false, errs.New(errs.NotFound, "execution not found")
	}
	var row struct {
		Definition []byte `db:"definition"`
		Ended      bool   `db:"ended"`
	}
	if err := s.db.GetContext(ctx, &row, `SELECT definition, completed_at IS NOT NULL AS ended FROM executions WHERE id = $1`, id); err != nil {
		return engine.Task{}, false, notFound(err, "execution")
	}
	defs, err := s.definitionsOf(ctx, [][]byte{row.Definition})
	if err != nil {
		return engine.Task{}, false, err
	}
	def := defs[string(row.Definition)]
	if def == nil {
		return engine.Task{}, false, errs.New(errs.NotFound, "definition not found")
	}
	index, ok := def.Compiled.StepIndex(key)
	if !ok {
		return engine.Task{}, false, errs.New(errs.NotFound, "step not found")
	}
	var step stepRow
	err = s.db.GetContext(ctx, &step, `SELECT `+stepColumns+` FROM steps WHERE execution_id = $1 AND step_index = $2 AND iteration = $3`, id, index, iteration)
	if errs.CodeOf(notFound(err, "step")) == errs.NotFound {
		return engine.Task{Status: orchestrator.StepPending}, row.Ended, nil
	}
	if err != nil {
		return engine.Task{}, false, postgres.Translate(err)
	}
	task, err := step.task()
	return task, true, err
}
