package verify

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
)

// childEnds says how the execution has ended that a step waited for which failed with a code.
var childEnds = map[string]string{
	runner.CodeChildFailed: orchestrator.ExecutionFailed, runner.CodeChildTimeout: orchestrator.ExecutionTimeout, runner.CodeChildStopped: orchestrator.ExecutionCancelled,
}

// checkChildren checks that steps which were executions have ended as those have.
func (v *verifier) checkChildren(ctx context.Context, tx *sqlx.Tx, ids []string, pages map[string]*page) error {
	var rows []struct {
		Execution string  `db:"execution_id"`
		Index     int     `db:"step_index"`
		Iteration int     `db:"iteration"`
		Status    string  `db:"status"`
		Output    []byte  `db:"output"`
		Error     []byte  `db:"error"`
		Child     string  `db:"child_id"`
		Parent    *string `db:"parent"`
		End       *string `db:"child_status"` // nil: it is not there
		Outputs   []byte  `db:"outputs"`
		Detached  *bool   `db:"detached"`
	}
	if err := tx.SelectContext(ctx, &rows, `SELECT s.execution_id, s.step_index, s.iteration, s.status, s.output, s.error, s.child_id, c.parent_execution_id AS parent, c.status AS child_status, c.outputs, c.detached
		FROM steps s LEFT JOIN executions c ON c.id = s.child_id WHERE s.execution_id = ANY($1::uuid[]) AND s.child_id IS NOT NULL AND s.reused_from IS NULL`, pq.Array(ids)); err != nil {
		return err
	}
	for _, r := range rows {
		step := fmt.Sprintf("%s/%d/%d", r.Execution, r.Index, r.Iteration)
		if of := pages[r.Execution].definition.recording; of != "" {
			if r.Status == orchestrator.StepCompleted {
				if err := v.checkRecorded(ctx, tx, step, of, r.Index, r.Iteration, r.Output); err != nil {
					return err
				}
			}
			continue
		}
		if r.End == nil {
			// Retention may have deleted it; one that runs is waited for, and told of elsewhere.
			if r.Status == orchestrator.StepCompleted && r.Execution >= v.kept() {
				v.say("I2", "the step %s has the result of the execution %s, which is not there", step, r.Child)
			}
			continue
		}
		var failure runner.StepError
		if r.Error != nil {
			if err := json.Unmarshal(r.Error, &failure); err != nil {
				v.say("I2", "the error of the step %s is none: %v", step, err)
			}
		}
		means := childEnds[failure.Code]
		switch {
		case r.Parent == nil || *r.Parent != r.Execution:
			v.say("I2", "the step %s is the execution %s, which is of another", step, r.Child)
		case *r.Detached:
		case r.Status == orchestrator.StepCompleted && *r.End != orchestrator.ExecutionCompleted:
			v.say("I2", "the step %s is COMPLETED, and the execution %s, which it waited for, is %s", step, r.Child, *r.End)
		// What refers to a stored payload is no JSON, and may be written otherwise by who puts it together.
		case r.Status == orchestrator.StepCompleted && json.Valid(r.Outputs) && json.Valid(r.Output) && !bytes.Equal(r.Output, r.Outputs):
			v.say("I2", "the step %s has another output than the execution %s, which it waited for", step, r.Child)
		case r.Status == orchestrator.StepFailed && means != "" && *r.End != means:
			v.say("I2", "the step %s failed with %s, and the execution %s, which it waited for, is %s", step, failure.Code, r.Child, *r.End)
		}
	}
	return nil
}

// checkRecorded checks that a step of a replay has the output that is recorded of it.
func (v *verifier) checkRecorded(ctx context.Context, tx *sqlx.Tx, step, of string, index, iteration int, output []byte) error {
	var was struct {
		Status string `db:"status"`
		Output []byte `db:"output"`
	}
	err := tx.GetContext(ctx, &was, `SELECT status, output FROM steps WHERE execution_id = $1 AND step_index = $2 AND iteration = $3`, of, index, iteration)
	switch {
	case errors.Is(err, sql.ErrNoRows) && of < v.kept():
	case errors.Is(err, sql.ErrNoRows):
		v.say("I2", "the step %s has the result that the execution %s has recorded, which has none", step, of)
	case err != nil:
		return err
	case was.Status != orchestrator.StepCompleted:
		v.say("I2", "the step %s is COMPLETED, and in the execution %s, which is replayed, %s", step, of, was.Status)
	case json.Valid(was.Output) && json.Valid(output) && !bytes.Equal(was.Output, output):
		v.say("I2", "the step %s has another output than in the execution %s, which is replayed", step, of)
	}
	return nil
}

// checkCompensations checks that what an execution has done is undone by one other, when it has ended otherwise than COMPLETED.
func (v *verifier) checkCompensations(ctx context.Context, tx *sqlx.Tx, ids []string, pages map[string]*page) error {
	var rows []struct {
		Of    string `db:"compensation_of"`
		First int    `db:"first"` // that is no retry of one
		Steps int    `db:"steps"`
	}
	if err := tx.SelectContext(ctx, &rows, `SELECT compensation_of, count(*) FILTER (WHERE retry_of IS NULL) AS first, coalesce(max(steps_total) FILTER (WHERE retry_of IS NULL), 0) AS steps
		FROM executions WHERE compensation_of = ANY($1::uuid[]) GROUP BY 1`, pq.Array(ids)); err != nil {
		return err
	}
	first, steps := map[string]int{}, map[string]int{}
	for _, r := range rows {
		first[r.Of], steps[r.Of] = r.First, r.Steps
	}
	for _, id := range ids {
		want, x := 0, pages[id]
		for i, d := range x.definition.steps {
			if s := x.steps[i]; x.row.CompletedAt != nil && x.row.Status != orchestrator.ExecutionCompleted && s.Status == orchestrator.StepCompleted && s.ReusedFrom == nil && d.Compensate != nil {
				want++
			}
		}
		switch {
		case first[id] != min(want, 1):
			v.say("I2", "the execution %s is %s with %d steps that are to be undone, and %d executions undo it", id, x.row.Status, want, first[id])
		case steps[id] != want:
			v.say("I2", "the execution %s is %s with %d steps that are to be undone, and what undoes it has %d", id, x.row.Status, want, steps[id])
		}
	}
	return nil
}
