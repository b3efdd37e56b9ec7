package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/listing"
	"turbocat.io/pkg/postgres/trail"
	"turbocat.io/services/orchestrator/internal/calls"
	"turbocat.io/services/orchestrator/internal/partition"
)

// Transactions of calls lock rows of calls before rows of spending, and those in the order of their key. They are not prepared: preparing
// takes a connection of the pool, and those who wait for a counter may have them all.

// Attempt implements calls.Store.
func (s *Store) Attempt(ctx context.Context, req orchestrator.AttemptRequest) (calls.Attempt, bool, error) {
	a := calls.Attempt{ExecutionID: req.ExecutionID, StepKey: req.StepKey, Iteration: req.Iteration, Number: req.Attempt, Token: req.Token}
	if len(validUUIDs([]string{req.ExecutionID})) == 0 {
		return a, false, nil
	}
	var x struct {
		UserID      string `db:"user_id"`
		WorkflowID  string `db:"workflow_id"`
		Definition  []byte `db:"definition"`
		Depth       int    `db:"depth"`
		Priority    int    `db:"priority"`
		TriggerType string `db:"trigger_type"`
		RequestID   string `db:"request_id"`
		Traceparent string `db:"traceparent"`
	}
	err := s.db.GetContext(ctx, &x, `SELECT user_id, workflow_id, definition, depth, priority, trigger_type, request_id, traceparent FROM executions WHERE id = $1`, req.ExecutionID)
	if errors.Is(err, sql.ErrNoRows) {
		return a, false, nil
	}
	if err != nil {
		return a, false, postgres.Translate(err)
	}
	defs, err := s.definitionsOf(ctx, [][]byte{x.Definition})
	if err != nil {
		return a, false, err
	}
	def := defs[string(x.Definition)]
	if def == nil {
		return a, false, nil
	}
	i, there := def.Compiled.StepIndex(req.StepKey)
	if !there {
		return a, false, nil
	}
	a.Step, a.UserID, a.WorkflowID = i, x.UserID, x.WorkflowID
	a.Depth, a.Priority, a.TriggerType, a.RequestID, a.Traceparent = x.Depth, x.Priority, x.TriggerType, x.RequestID, x.Traceparent
	err = s.db.GetContext(ctx, &a.Awaited, `SELECT status = 'RUNNING' AND token = $4 AND token <> '' FROM steps WHERE execution_id = $1 AND step_index = $2 AND iteration = $3`,
		req.ExecutionID, i, req.Iteration, req.Token)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return a, true, nil
	case err != nil:
		return a, false, postgres.Translate(err)
	}
	if a.Awaited { // else there may be no such iteration
		a.AgentID = def.Compiled.Steps[i].Work(req.Iteration).AgentID
		a.Awaited = a.AgentID != ""
	}
	return a, true, nil
}

// counter is a row of spending.
type counter struct {
	Scope string `db:"scope"`
	Key   string `db:"key"`
	Day   string `db:"day"` // as PostgreSQL writes it
	calls.Amount
}

// countersOf gives the counters that a call belongs to, which began on a day.
func countersOf(executionID, stepKey string, iteration int, agentID, workflowID, userID, day string) []counter {
	const ever = "-infinity"
	return []counter{
		{Scope: catalog.BudgetAgent, Key: agentID, Day: day},
		{Scope: catalog.BudgetExecution, Key: executionID, Day: ever},
		{Scope: catalog.BudgetStep, Key: executionID + "/" + stepKey + "/" + strconv.Itoa(iteration), Day: ever},
		{Scope: catalog.BudgetUser, Key: userID, Day: day},
		{Scope: catalog.BudgetWorkflow, Key: workflowID, Day: day},
	}
}

func keysOf(counters []counter) (scopes, keys, days any) {
	s, k, d := make([]string, len(counters)), make([]string, len(counters)), make([]string, len(counters))
	for i, c := range counters {
		s[i], k[i], d[i] = c.Scope, c.Key, c.Day
	}
	return pq.Array(s), pq.Array(k), pq.Array(d)
}

// makeCounters makes those that are not there.
func makeCounters(ctx context.Context, tx *sqlx.Tx, executionID string, counters []counter) error {
	scopes, keys, days := keysOf(counters)
	_, err := tx.ExecContext(ctx, `INSERT INTO spending (scope, key, day, execution_id)
		SELECT scope, key, day::date, CASE WHEN day = '-infinity' THEN $4::uuid END FROM unnest($1::text[], $2::text[], $3::text[]) v(scope, key, day)
		ORDER BY 1, v.key COLLATE "C", 3 ON CONFLICT DO NOTHING`, scopes, keys, days, executionID)
	return err
}

// lockCounters gives what is used, settled and reserved, by scope. It does not change before the transaction has ended.
func lockCounters(ctx context.Context, tx *sqlx.Tx, counters []counter) (map[string]calls.Amount, error) {
	scopes, keys, days := keysOf(counters)
	var rows []struct {
		Scope  string `db:"scope"`
		Tokens int64  `db:"tokens"`
		Micros int64  `db:"micros"`
	}
	if err := tx.SelectContext(ctx, &rows, `SELECT t.scope, t.reserved_tokens + t.spent_tokens AS tokens, t.reserved_micros + t.spent_micros AS micros FROM spending t
		JOIN unnest($1::text[], $2::text[], $3::text[]) v(scope, key, day) ON t.scope = v.scope AND t.key = v.key AND t.day = v.day::date
		ORDER BY t.scope, t.key, t.day FOR UPDATE OF t`, scopes, keys, days); err != nil {
		return nil, err
	}
	used := map[string]calls.Amount{}
	for _, r := range rows {
		used[r.Scope] = calls.Amount{Tokens: r.Tokens, Micros: r.Micros}
	}
	return used, nil
}

// count changes counters that are locked.
func count(ctx context.Context, tx *sqlx.Tx, counters []counter, reserved, spent calls.Amount) error {
	scopes, keys, days := keysOf(counters)
	_, err := tx.ExecContext(ctx, `UPDATE spending t SET reserved_tokens = t.reserved_tokens + $4, reserved_micros = t.reserved_micros + $5,
			spent_tokens = t.spent_tokens + $6, spent_micros = t.spent_micros + $7
		FROM unnest($1::text[], $2::text[], $3::text[]) v(scope, key, day) WHERE t.scope = v.scope AND t.key = v.key AND t.day = v.day::date`,
		scopes, keys, days, reserved.Tokens, reserved.Micros, spent.Tokens, spent.Micros)
	return err
}

// BeginCall implements calls.Store.
func (s *Store) BeginCall(ctx context.Context, c calls.Call, deny func(calls.Standing) *orchestrator.DeniedCall) (id string, denied *orchestrator.DeniedCall, err error) {
	err = postgres.InTx(ctx, s.lists, func(tx *sqlx.Tx) error {
		id, denied = "", nil
		// Nobody can tell of the end of what another run has begun but the one that did: should it, it counts.
		if _, err := tx.ExecContext(ctx, `UPDATE calls SET expires_at = now() WHERE execution_id = $1 AND step_index = $2 AND iteration = $3 AND run <> $4
			AND ended_at IS NULL AND expires_at > now()`, c.ExecutionID, c.Step, c.Iteration, c.Run); err != nil {
			return err
		}
		bounded := c.Reserve != calls.Amount{}
		var counters []counter
		standing := calls.Standing{}
		if bounded {
			// now() is that of the transaction, so the row of the call is of the same day.
			var day string
			if err := tx.GetContext(ctx, &day, `SELECT (now() AT TIME ZONE 'UTC')::date::text`); err != nil {
				return err
			}
			counters = countersOf(c.ExecutionID, c.StepKey, c.Iteration, c.AgentID, c.WorkflowID, c.UserID, day)
			if err := makeCounters(ctx, tx, c.ExecutionID, counters); err != nil {
				return err
			}
			var err error
			if standing.Used, err = lockCounters(ctx, tx, counters); err != nil {
				return err
			}
		}
		err := tx.GetContext(ctx, &id, `SELECT id FROM calls WHERE execution_id = $1 AND token = $2 AND run = $3 AND n = $4`, c.ExecutionID, c.Token, c.Run, c.N)
		if err == nil || !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if bounded {
			if standing.Approvals, err = approvalsOf(ctx, tx, c); err != nil {
				return err
			}
			if denied = deny(standing); denied != nil {
				return askForApproval(ctx, tx, c, *denied)
			}
			if err := count(ctx, tx, counters, c.Reserve, calls.Amount{}); err != nil {
				return err
			}
		}
		// Two at once that reserve nothing have no counter to wait for each other at: who comes second changes nothing, and gets the first.
		return tx.GetContext(ctx, &id, `INSERT INTO calls (execution_id, id, step_index, iteration, attempt, token, run, n, user_id, workflow_id, agent_id, kind, name, provider,
				status, input, reserved_tokens, reserved_micros, started_at, expires_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 'RUNNING', $15, $16, $17, now(), now() + $18 * interval '1 microsecond')
			ON CONFLICT (execution_id, token, run, n) DO UPDATE SET n = excluded.n RETURNING id`,
			c.ExecutionID, c.ID, c.Step, c.Iteration, c.Number, c.Token, c.Run, c.N, c.UserID, c.WorkflowID, c.AgentID, c.Kind, c.Name, c.Provider, c.Input,
			c.Reserve.Tokens, c.Reserve.Micros, microseconds(c.Within))
	})
	return id, denied, err
}

// approvalsOf gives what was decided about the budgets of a call's step. Nobody decides before the transaction has ended: what was asked
// once more after a decision would undo it.
func approvalsOf(ctx context.Context, tx *sqlx.Tx, c calls.Call) (map[int]calls.Approval, error) {
	var rows []struct {
		Budget  int    `db:"budget"`
		Status  string `db:"status"`
		Tokens  int64  `db:"max_tokens"`
		Micros  int64  `db:"max_micros"`
		Comment string `db:"comment"`
	}
	if err := tx.SelectContext(ctx, &rows, `SELECT budget, status, max_tokens, max_micros, comment FROM budget_approvals WHERE execution_id = $1 AND step_index = $2 AND iteration = $3
		ORDER BY budget FOR UPDATE`, c.ExecutionID, c.Step, c.Iteration); err != nil {
		return nil, err
	}
	out := make(map[int]calls.Approval, len(rows))
	for _, r := range rows {
		out[r.Budget] = calls.Approval{Status: r.Status, Most: calls.Amount{Tokens: r.Tokens, Micros: r.Micros}, Comment: r.Comment}
	}
	return out, nil
}

// askForApproval has somebody decide about a budget; once more when what was approved is used up too.
func askForApproval(ctx context.Context, tx *sqlx.Tx, c calls.Call, denied orchestrator.DeniedCall) error {
	if !denied.Pending {
		return nil
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO budget_approvals (execution_id, step_index, iteration, budget, status) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (execution_id, step_index, iteration, budget) DO UPDATE SET status = excluded.status, created_at = now() WHERE budget_approvals.status = $6`,
		c.ExecutionID, c.Step, c.Iteration, denied.Budget, calls.Pending, calls.Approved)
	return err
}

// EndCall implements calls.Store.
func (s *Store) EndCall(ctx context.Context, e calls.Ending) (inputs []partition.Control, err error) {
	if len(validUUIDs([]string{e.ExecutionID, e.CallID})) < 2 {
		return nil, errs.New(errs.NotFound, "call not found")
	}
	err = postgres.InTx(ctx, s.lists, func(tx *sqlx.Tx) error {
		var c struct {
			Definition []byte  `db:"definition"`
			Step       int     `db:"step_index"`
			Iteration  int     `db:"iteration"`
			AgentID    string  `db:"agent_id"`
			WorkflowID string  `db:"workflow_id"`
			UserID     string  `db:"user_id"`
			Day        string  `db:"day"`
			Tokens     int64   `db:"reserved_tokens"`
			Micros     int64   `db:"reserved_micros"`
			Child      *string `db:"child_id"`
			Ended      bool    `db:"ended"`
		}
		if err := tx.GetContext(ctx, &c, `SELECT x.definition, c.step_index, c.iteration, c.agent_id, c.workflow_id, c.user_id, (c.started_at AT TIME ZONE 'UTC')::date::text AS day,
				c.reserved_tokens, c.reserved_micros, c.child_id, c.ended_at IS NOT NULL AS ended
			FROM calls c JOIN executions x ON x.id = c.execution_id WHERE c.execution_id = $1 AND c.id = $2 AND c.token = $3 FOR UPDATE OF c`,
			e.ExecutionID, e.CallID, e.Token); err != nil {
			return notFound(err, "call")
		}
		if c.Ended {
			return nil
		}
		if _, err := tx.ExecContext(ctx, `UPDATE calls SET status = $3, output = $4, error = $5, input_tokens = $6, output_tokens = $7, cost_micros = $8, ended_at = greatest(now(), started_at)
			WHERE execution_id = $1 AND id = $2`, e.ExecutionID, e.CallID, e.Status, nullBytes(e.Output), nullBytes(e.Error), e.InputTokens, e.OutputTokens, e.Micros); err != nil {
			return err
		}
		reserved, spent := calls.Amount{Tokens: c.Tokens, Micros: c.Micros}, calls.Amount{Tokens: e.InputTokens + e.OutputTokens, Micros: e.Micros}
		if none := (calls.Amount{}); reserved != none || spent != none {
			defs, err := s.definitionsOf(ctx, [][]byte{c.Definition})
			if err != nil {
				return err
			}
			def := defs[string(c.Definition)]
			if def == nil || c.Step >= len(def.Source.Steps) {
				return fmt.Errorf("the definition of execution %s is not there, or has no step %d", e.ExecutionID, c.Step)
			}
			counters := countersOf(e.ExecutionID, def.Source.Steps[c.Step].StepKey, c.Iteration, c.AgentID, c.WorkflowID, c.UserID, c.Day)
			if reserved == none { // else they were made with the call; one that is gone by now is of a day that is over
				if err := makeCounters(ctx, tx, e.ExecutionID, counters); err != nil {
					return err
				}
			}
			if _, err := lockCounters(ctx, tx, counters); err != nil {
				return err
			}
			if err := count(ctx, tx, counters, calls.Amount{Tokens: -reserved.Tokens, Micros: -reserved.Micros}, spent); err != nil {
				return err
			}
		}
		if c.Child == nil {
			return nil
		}
		var err error
		inputs, err = endUnawaited(ctx, tx, []string{*c.Child})
		return err
	})
	return inputs, err
}

func nullBytes(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	return b
}

// NameChild implements calls.Store.
func (s *Store) NameChild(ctx context.Context, executionID, callID, token, childID string) error {
	if len(validUUIDs([]string{executionID, callID})) < 2 {
		return errs.New(errs.NotFound, "call not found")
	}
	result, err := s.lists.ExecContext(ctx, `UPDATE calls SET child_id = $4 WHERE execution_id = $1 AND id = $2 AND token = $3 AND kind = $5 AND ended_at IS NULL`,
		executionID, callID, token, childID, orchestrator.CallOfAgent)
	if err != nil {
		return postgres.Translate(err)
	}
	if n, _ := result.RowsAffected(); n == 0 { // lib/pq always knows
		return errs.New(errs.NotFound, "call not found")
	}
	return nil
}

// EndUnawaited implements calls.Store.
func (s *Store) EndUnawaited(ctx context.Context) (inputs []partition.Control, err error) {
	var ids []string
	if err := s.db.SelectContext(ctx, &ids, `SELECT c.child_id FROM calls c JOIN executions x ON x.id = c.child_id AND x.completed_at IS NULL
		WHERE c.child_id IS NOT NULL AND c.ended_at IS NULL AND NOT EXISTS (SELECT FROM commands k WHERE k.id = c.child_id) AND (c.expires_at < now()
			OR NOT EXISTS (SELECT FROM steps s WHERE s.execution_id = c.execution_id AND s.step_index = c.step_index AND s.iteration = c.iteration AND s.token = c.token AND s.status = 'RUNNING'))
		LIMIT $1`, sweepBatch); err != nil || len(ids) == 0 {
		return nil, postgres.Translate(err)
	}
	err = postgres.InTx(ctx, s.lists, func(tx *sqlx.Tx) error {
		var err error
		inputs, err = endUnawaited(ctx, tx, ids)
		return err
	})
	return inputs, err
}

// endUnawaited asks for the end of executions that no call waits for, as far as they have not ended.
func endUnawaited(ctx context.Context, tx *sqlx.Tx, ids []string) ([]partition.Control, error) {
	var alive []string
	if err := tx.SelectContext(ctx, &alive, `SELECT id FROM executions WHERE id = ANY($1::uuid[]) AND completed_at IS NULL ORDER BY id`, pq.Array(ids)); err != nil {
		return nil, err
	}
	return commandUnawaited(ctx, tx, alive)
}

var callTable = listing.Table{
	From: "calls", ID: "id",
	Columns: map[string]listing.Column{"createdAt": {SQL: "started_at", Kind: listing.Time}},
}

type callRow struct {
	ID           string       `db:"id"`
	Iteration    int          `db:"iteration"`
	Attempt      int          `db:"attempt"`
	N            int          `db:"n"`
	Kind         string       `db:"kind"`
	Name         string       `db:"name"`
	Provider     string       `db:"provider"`
	Status       string       `db:"shown_status"`
	Input        []byte       `db:"input"`
	Output       []byte       `db:"output"`
	Error        []byte       `db:"error"`
	Child        *string      `db:"child_id"`
	InputTokens  int64        `db:"input_tokens"`
	OutputTokens int64        `db:"output_tokens"`
	Micros       int64        `db:"cost_micros"`
	Tokens       int64        `db:"reserved_tokens"`
	Reserved     int64        `db:"reserved_micros"`
	StartedAt    time.Time    `db:"started_at"`
	EndedAt      sql.NullTime `db:"ended_at"`
	listing.Key
}

func (r callRow) call() (orchestrator.Call, error) {
	c := orchestrator.Call{
		ID: r.ID, Iteration: r.Iteration, Attempt: r.Attempt, N: r.N, Kind: r.Kind, Name: r.Name, Provider: r.Provider, Status: r.Status,
		Input: r.Input, Output: json.RawMessage("null"), ChildExecutionID: r.Child, InputTokens: r.InputTokens, OutputTokens: r.OutputTokens,
		CostUSD: orchestrator.USD(r.Micros), StartedAt: r.StartedAt.UTC(),
	}
	if len(r.Output) > 0 {
		c.Output = r.Output
	}
	if len(r.Error) > 0 {
		if err := json.Unmarshal(r.Error, &c.Error); err != nil {
			return c, fmt.Errorf("decode the error of the call %s: %w", r.ID, err)
		}
	}
	if c.EndedAt = utc(r.EndedAt.Time, r.EndedAt.Valid); c.EndedAt != nil {
		ms := c.EndedAt.Sub(c.StartedAt).Milliseconds()
		c.DurationMs = &ms
	} else {
		c.ReservedTokens, c.ReservedCostUSD = r.Tokens, orchestrator.USD(r.Reserved)
	}
	return c, nil
}

// ListCalls implements calls.Store.
func (s *Store) ListCalls(ctx context.Context, executionID string, step int, req rpc.Page) ([]orchestrator.Call, rpc.Pagination, error) {
	var faults form.Faults
	req.SortBy, req.SortOrder = "createdAt", "asc"
	page := callTable.Parse(req, &faults)
	if err := faults.Err("query"); err != nil {
		return nil, rpc.Pagination{}, err
	}
	var where listing.Where
	where.And("execution_id = ?::uuid", executionID)
	where.And("step_index = ?", step)
	rows, pagination, err := listing.Select[callRow](ctx, s.lists, page, `id, iteration, attempt, n, kind, name, provider,
		CASE WHEN status = 'RUNNING' AND expires_at < now() THEN 'UNKNOWN' ELSE status END AS shown_status, input, output, error, child_id,
		input_tokens, output_tokens, cost_micros, reserved_tokens, reserved_micros, started_at, ended_at`, where)
	if err != nil {
		return nil, rpc.Pagination{}, err
	}
	out := make([]orchestrator.Call, len(rows))
	for i, r := range rows {
		if out[i], err = r.call(); err != nil {
			return nil, rpc.Pagination{}, err
		}
	}
	return out, pagination, nil
}

// usageOf adds up the calls of models of an execution, by step.
func (s *Store) usageOf(ctx context.Context, executionID string) (map[int]orchestrator.Usage, error) {
	var rows []struct {
		Step         int   `db:"step_index"`
		Calls        int   `db:"calls"`
		InputTokens  int64 `db:"input_tokens"`
		OutputTokens int64 `db:"output_tokens"`
		Micros       int64 `db:"cost_micros"`
		Tokens       int64 `db:"reserved_tokens"`
		Reserved     int64 `db:"reserved_micros"`
	}
	if err := s.db.SelectContext(ctx, &rows, `SELECT step_index, count(*) AS calls, sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
			sum(cost_micros)::bigint AS cost_micros, coalesce(sum(reserved_tokens) FILTER (WHERE ended_at IS NULL), 0)::bigint AS reserved_tokens,
			coalesce(sum(reserved_micros) FILTER (WHERE ended_at IS NULL), 0)::bigint AS reserved_micros
		FROM calls WHERE execution_id = $1 AND kind = 'MODEL' GROUP BY step_index`, executionID); err != nil {
		return nil, postgres.Translate(err)
	}
	out := make(map[int]orchestrator.Usage, len(rows))
	for _, r := range rows {
		out[r.Step] = orchestrator.Usage{
			Calls: r.Calls, InputTokens: r.InputTokens, OutputTokens: r.OutputTokens, CostUSD: orchestrator.USD(r.Micros),
			ReservedTokens: r.Tokens, ReservedCostUSD: orchestrator.USD(r.Reserved),
		}
	}
	return out, nil
}

// undecidedOf tells of each step of how many of its items, or of itself, somebody is asked to approve.
func (s *Store) undecidedOf(ctx context.Context, executionID string) (map[int]int, error) {
	var rows []struct {
		Step  int `db:"step_index"`
		Items int `db:"items"`
	}
	if err := s.db.SelectContext(ctx, &rows, `SELECT step_index, count(DISTINCT iteration) AS items FROM budget_approvals WHERE execution_id = $1 AND status = 'PENDING' GROUP BY step_index`, executionID); err != nil {
		return nil, postgres.Translate(err)
	}
	out := make(map[int]int, len(rows))
	for _, r := range rows {
		out[r.Step] = r.Items
	}
	return out, nil
}

// DecideBudget implements calls.Store.
func (s *Store) DecideBudget(ctx context.Context, d calls.Decision) (items int, err error) {
	err = postgres.InTx(ctx, s.lists, func(tx *sqlx.Tx) error {
		var decided []int
		if err := tx.SelectContext(ctx, &decided, `UPDATE budget_approvals SET status = $3, max_tokens = $4, max_micros = $5, decided_by = $6, comment = $7, decided_at = now()
			WHERE execution_id = $1 AND step_index = $2 AND status = $8 RETURNING iteration`,
			d.ExecutionID, d.Step, d.Approval.Status, d.Approval.Most.Tokens, d.Approval.Most.Micros, d.By, d.Approval.Comment, calls.Pending); err != nil || len(decided) == 0 {
			return err
		}
		distinct := map[int]bool{}
		for _, iteration := range decided {
			distinct[iteration] = true
		}
		items = len(distinct)
		return trail.Record(ctx, tx, trail.Deed{Action: audit.BudgetDecided, ResourceID: d.ExecutionID, OwnerID: d.OwnerID, After: struct {
			StepKey   string `json:"stepKey"`
			Status    string `json:"status"`
			MaxTokens int64  `json:"maxTokens,omitempty"`
			MaxMicros int64  `json:"maxMicros,omitempty"`
			Comment   string `json:"comment"`
		}{d.StepKey, d.Approval.Status, d.Approval.Most.Tokens, d.Approval.Most.Micros, d.Approval.Comment}})
	})
	return items, err
}

// Recall implements calls.Store.
func (s *Store) Recall(ctx context.Context, a calls.Attempt, key string, most int) ([]calls.Message, error) {
	var rows [][]byte
	if err := s.db.SelectContext(ctx, &rows, `SELECT message FROM (SELECT n, message FROM conversation_messages WHERE user_id = $1 AND agent_id = $2 AND key = $3 ORDER BY n DESC LIMIT $4) m ORDER BY n`,
		a.UserID, a.AgentID, key, most); err != nil {
		return nil, postgres.Translate(err)
	}
	out := make([]calls.Message, len(rows))
	for i, r := range rows {
		out[i] = r
	}
	return out, nil
}

// Remember implements calls.Store.
func (s *Store) Remember(ctx context.Context, a calls.Attempt, key string, messages []calls.Message) error {
	bodies := make([][]byte, len(messages))
	for i, m := range messages {
		bodies[i] = m
	}
	return postgres.InTx(ctx, s.lists, func(tx *sqlx.Tx) error {
		// One after the other: the messages of an attempt stand together.
		if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('conversation ' || $1 || ' ' || $2 || ' ' || $3, 0))`, a.UserID, a.AgentID, key); err != nil {
			return err
		}
		var last struct {
			N    int64 `db:"n"`
			Mine bool  `db:"mine"`
		}
		if err := tx.GetContext(ctx, &last, `SELECT coalesce(max(n), 0) AS n, coalesce(bool_or(token = $4), false) AS mine FROM conversation_messages WHERE user_id = $1 AND agent_id = $2 AND key = $3`,
			a.UserID, a.AgentID, key, a.Token); err != nil || last.Mine {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO conversation_messages (user_id, agent_id, key, n, token, message)
			SELECT $1, $2, $3, $4 + v.i, $5, v.message FROM unnest($6::bytea[]) WITH ORDINALITY v(message, i)`, a.UserID, a.AgentID, key, last.N, a.Token, pq.ByteaArray(bodies)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM conversation_messages WHERE user_id = $1 AND agent_id = $2 AND key = $3 AND n <= $4`,
			a.UserID, a.AgentID, key, last.N+int64(len(bodies))-orchestrator.MaxConversation)
		return err
	})
}
