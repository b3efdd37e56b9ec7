package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"

	"github.com/lib/pq"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/postgres"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
)

// Accept implements execution.Store.
func (s *Store) Accept(ctx context.Context, executions []execution.Accepted) ([]execution.Outcome, error) {
	outcomes := make([]execution.Outcome, len(executions))
	err := s.db.InTx(ctx, func(tx *postgres.PreparedTx) error {
		fresh, err := claimKeys(ctx, tx, executions, outcomes)
		if err != nil {
			return err
		}
		if fresh, err = awaited(ctx, tx, fresh, outcomes); err != nil {
			return err
		}
		if err := s.insertDefinitions(ctx, tx, fresh); err != nil {
			return err
		}
		if err := insertExecutions(ctx, tx, fresh); err != nil {
			return err
		}
		return insertReused(ctx, tx, fresh)
	})
	return outcomes, err
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
		var before struct {
			BodyHash    []byte `db:"body_hash"`
			ExecutionID string `db:"execution_id"`
		}
		if err := tx.GetContext(ctx, &before, `SELECT body_hash, execution_id FROM idempotency_keys WHERE user_id = $1 AND route = $2 AND key = $3`,
			x.Key.UserID, x.Key.Route, x.Key.Key); err != nil {
			return nil, err
		}
		outcomes[i] = execution.Outcome{ID: before.ExecutionID, Replayed: true, Conflict: string(before.BodyHash) != string(x.Key.BodyHash)}
	}
	return fresh, nil
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

// insertDefinitions writes those that this process has not read from the table before.
func (s *Store) insertDefinitions(ctx context.Context, tx *postgres.PreparedTx, executions []execution.Accepted) error {
	seen := map[string]bool{}
	var hashes, bodies [][]byte
	for _, x := range executions {
		if x.DefinitionBody != nil && !seen[string(x.DefinitionHash)] && !s.definitions.Contains([sha256.Size]byte(x.DefinitionHash)) {
			seen[string(x.DefinitionHash)] = true
			hashes, bodies = append(hashes, x.DefinitionHash), append(bodies, x.DefinitionBody)
		}
	}
	if len(hashes) == 0 {
		return nil
	}
	// Only what is missing: a conflict would still write and lock.
	_, err := tx.ExecContext(ctx, `INSERT INTO definitions (hash, body) SELECT v.hash, v.body FROM unnest($1::bytea[], $2::bytea[]) v(hash, body)
		WHERE NOT EXISTS (SELECT 1 FROM definitions d WHERE d.hash = v.hash) ORDER BY v.hash ON CONFLICT DO NOTHING`, pq.ByteaArray(hashes), pq.ByteaArray(bodies))
	return err
}

func insertExecutions(ctx context.Context, tx *postgres.PreparedTx, executions []execution.Accepted) error {
	n := len(executions)
	if n == 0 {
		return nil
	}
	ids, workflows, owners, users := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	triggers, requests, parents := make([]string, n), make([]string, n), make([]string, n)
	hashes, inputs := make([][]byte, n), make([][]byte, n)
	ps, versions, priorities, created := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	retried, totals, reused, percents := make([]string, n), make([]int64, n), make([]int64, n), make([]int64, n)
	parentIDs, parentSteps, parentTokens := make([]string, n), make([]string, n), make([]string, n)
	parentIterations, depths := make([]int64, n), make([]int64, n)
	for i, x := range executions {
		ids[i], workflows[i], owners[i], users[i] = x.ID, x.Definition.WorkflowID, x.Definition.WorkflowOwner, x.Caller.UserID
		triggers[i], requests[i], parents[i] = x.TriggerType, x.Caller.RequestID, x.Caller.Traceparent
		hashes[i], inputs[i] = x.DefinitionHash, x.Inputs
		ps[i], versions[i], priorities[i], created[i] = int64(subject.PartitionOf(x.ID)), int64(x.Definition.WorkflowVersion), int64(x.Priority), x.CreatedAt.UnixMicro()
		retried[i], totals[i], reused[i] = x.RetryOf, int64(len(x.Definition.Steps)), int64(len(x.Reused))
		percents[i] = reused[i] * 100 / max(totals[i], 1)
		depths[i] = int64(x.Depth)
		if p := x.Parent; p != nil {
			parentIDs[i], parentSteps[i], parentIterations[i], parentTokens[i] = p.ExecutionID, p.StepKey, int64(p.Iteration), p.Token
		}
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO executions (id, p, workflow_id, workflow_version, workflow_owner, user_id, definition, engine_version, status,
			trigger_type, priority, inputs, request_id, traceparent, steps_total, created_at, retry_of, steps_completed, percent,
			parent_execution_id, parent_step, parent_iteration, parent_token, depth)
		SELECT v.id, v.p, v.workflow, v.version, v.owner, v.usr, v.definition, $23, 'PENDING', v.trigger, v.priority, v.inputs, v.request, v.parent, v.total, moment(v.created),
			nullif(v.retried, '')::uuid, v.reused, v.percent,
			nullif(v.pid, '')::uuid, nullif(v.pstep, ''), CASE WHEN v.pid = '' THEN NULL ELSE v.piteration END, nullif(v.ptoken, ''), v.depth
		FROM unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::int[], $5::uuid[], $6::uuid[], $7::bytea[], $8::text[], $9::smallint[], $10::bytea[],
			$11::text[], $12::text[], $13::int[], $14::bigint[], $15::text[], $16::int[], $17::smallint[],
			$18::text[], $19::text[], $20::int[], $21::text[], $22::smallint[])
			v(id, p, workflow, version, owner, usr, definition, trigger, priority, inputs, request, parent, total, created, retried, reused, percent,
				pid, pstep, piteration, ptoken, depth)
		ON CONFLICT (id) DO NOTHING`,
		pq.Array(ids), pq.Array(ps), pq.Array(workflows), pq.Array(versions), pq.Array(owners), pq.Array(users), pq.ByteaArray(hashes), pq.Array(triggers),
		pq.Array(priorities), pq.ByteaArray(inputs), pq.Array(requests), pq.Array(parents), pq.Array(totals), pq.Array(created),
		pq.Array(retried), pq.Array(reused), pq.Array(percents),
		pq.Array(parentIDs), pq.Array(parentSteps), pq.Array(parentIterations), pq.Array(parentTokens), pq.Array(depths), partition.EngineVersion)
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
	output, failure := record.Execution.Ending()
	return execution.Ending{Ended: true, Output: output, Failure: failure}, true, nil
}

// Get implements execution.Store.
func (s *Store) Get(ctx context.Context, id string) (execution.Record, error) {
	var row executionRow
	if err := s.db.GetContext(ctx, &row, `SELECT `+executionColumns+` FROM executions WHERE id = $1`, id); err != nil {
		return execution.Record{}, notFound(err, "execution")
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
	loaded, err := restoreOne(row, steps, items[row.ID], nil, def.Compiled)
	if err != nil {
		return execution.Record{}, err
	}
	reused := map[int]string{}
	for _, st := range steps {
		if st.ReusedFrom != nil {
			reused[st.Index] = *st.ReusedFrom
		}
	}
	return execution.Record{
		Execution: loaded.Execution, Definition: def.Source, DefinitionHash: row.Definition, WorkflowOwner: row.WorkflowOwner, WorkflowVersion: row.WorkflowVersion,
		ParentID: row.ParentID, RetryOf: row.RetryOf, Reused: reused,
	}, nil
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
	return engine.Task{Status: step.Status, Attempt: step.Attempt, Token: step.Token}, true, nil
}

// History implements execution.Store.
func (s *Store) History(ctx context.Context, id string, after uint64, limit int) ([]orchestrator.StoredEvent, error) {
	var rows []struct {
		Seq  uint64 `db:"seq"`
		Type string `db:"type"`
		Body []byte `db:"body"`
	}
	if err := s.db.SelectContext(ctx, &rows, `SELECT seq, type, body FROM execution_events WHERE execution_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`, id, int64(min(after, 1<<62)), limit); err != nil {
		return nil, postgres.Translate(err)
	}
	events := make([]orchestrator.StoredEvent, len(rows))
	for i, r := range rows {
		events[i] = orchestrator.StoredEvent{Seq: r.Seq, Type: r.Type, Body: json.RawMessage(r.Body)}
	}
	return events, nil
}
