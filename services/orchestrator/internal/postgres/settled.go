package postgres

import (
	"context"

	"github.com/jmoiron/sqlx"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/pkg/postgres"
)

// maxNumbered is how many calls get their number in one transaction.
const maxNumbered = 10_000

// SettledCalls implements calls.Store.
func (s *Store) SettledCalls(ctx context.Context, after uint64, limit int) ([]orchestrator.SettledCall, error) {
	var rows []struct {
		N            uint64 `db:"told"`
		ID           string `db:"id"`
		ExecutionID  string `db:"execution_id"`
		WorkflowID   string `db:"workflow_id"`
		UserID       string `db:"user_id"`
		AgentID      string `db:"agent_id"`
		Step         int    `db:"step_index"`
		InputTokens  int64  `db:"input_tokens"`
		OutputTokens int64  `db:"output_tokens"`
		Micros       int64  `db:"cost_micros"`
		Definition   []byte `db:"definition"`
	}
	err := postgres.InTx(ctx, s.lists, func(tx *sqlx.Tx) error {
		rows = nil
		// What others number at the same time would come below what is told here, and after it.
		if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtext('calls_told'))`); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE calls SET told = nextval('calls_told') FROM (SELECT execution_id, id FROM calls WHERE told IS NULL AND ended_at IS NOT NULL AND kind = 'MODEL' LIMIT $1) t
			WHERE calls.execution_id = t.execution_id AND calls.id = t.id AND told IS NULL`, maxNumbered); err != nil {
			return err
		}
		return tx.SelectContext(ctx, &rows, `SELECT c.told, c.id, c.execution_id, c.workflow_id, c.user_id, c.agent_id, c.step_index, c.input_tokens, c.output_tokens, c.cost_micros, x.definition
			FROM calls c JOIN executions x ON x.id = c.execution_id WHERE c.told > $1 ORDER BY c.told LIMIT $2`, int64(min(after, 1<<62)), limit)
	})
	if err != nil {
		return nil, err
	}
	hashes := make([][]byte, len(rows))
	for i, r := range rows {
		hashes[i] = r.Definition
	}
	defs, err := s.definitionsOf(ctx, hashes)
	if err != nil {
		return nil, err
	}
	calls := make([]orchestrator.SettledCall, len(rows))
	for i, r := range rows {
		calls[i] = orchestrator.SettledCall{
			N: r.N, ID: r.ID, ExecutionID: r.ExecutionID, WorkflowID: r.WorkflowID, UserID: r.UserID, AgentID: r.AgentID,
			InputTokens: r.InputTokens, OutputTokens: r.OutputTokens, CostMicros: r.Micros,
		}
		if def := defs[string(r.Definition)]; def != nil && r.Step < len(def.Source.Steps) {
			calls[i].StepKey = def.Source.Steps[r.Step].StepKey
		}
	}
	return calls, nil
}
