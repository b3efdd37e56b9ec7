// Package postgres is the orchestrator's schema: the ledger of executions.
package postgres

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/postgres"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
)

// Store reads and writes the schema. It is safe for concurrent use.
type Store struct {
	db          *postgres.Prepared
	ledger      *postgres.Prepared                         // for what the writer commits; its connections go by key
	lists       *sqlx.DB                                   // for statements that are not constant
	definitions *lru.Cache[[sha256.Size]byte, *Definition] // by hash: what is stored under one can not change
	seen        *lru.Cache[[sha256.Size]byte, time.Time]   // when a definition was last noted to be in use
}

// New makes a store over an open schema. ledger are connections to it with the settings ByKey.
func New(db, ledger *sqlx.DB) *Store {
	definitions, _ := lru.New[[sha256.Size]byte, *Definition](maxDefinitions) // it refuses sizes below 1 alone
	seen, _ := lru.New[[sha256.Size]byte, time.Time](maxDefinitions)
	return &Store{db: postgres.Prepare(db), ledger: postgres.Prepare(ledger), lists: db, definitions: definitions, seen: seen}
}

// Definition is a stored definition with its compiled form.
type Definition struct {
	Source   catalog.Definition
	Compiled *engine.Definition
}

// maxDefinitions bounds the compiled definitions in memory; those longest unused go.
const maxDefinitions = 2000

// definitionsOf reads and compiles definitions by hash.
func (s *Store) definitionsOf(ctx context.Context, hashes [][]byte) (map[string]*Definition, error) {
	out := map[string]*Definition{}
	var missing [][]byte
	for _, h := range hashes {
		if len(h) != sha256.Size {
			return nil, fmt.Errorf("a definition's hash has %d bytes", len(h))
		}
		if _, ok := out[string(h)]; ok {
			continue
		}
		if def, known := s.definitions.Get([sha256.Size]byte(h)); known {
			out[string(h)] = def
			continue
		}
		missing = append(missing, h)
	}
	if len(missing) == 0 {
		return out, nil
	}
	var rows []struct {
		Hash []byte `db:"hash"`
		Body []byte `db:"body"`
	}
	if err := s.db.SelectContext(ctx, &rows, `SELECT hash, body FROM definitions WHERE hash = ANY($1)`, postgres.Bytes(missing)); err != nil {
		return nil, postgres.Translate(err)
	}
	for _, row := range rows {
		def, err := Compile(row.Body)
		if err != nil {
			return nil, err
		}
		s.definitions.Add([sha256.Size]byte(row.Hash), def)
		out[string(row.Hash)] = def
	}
	return out, nil
}

// Compile decodes and compiles a stored definition.
func Compile(body []byte) (*Definition, error) {
	var source catalog.Definition
	if err := json.Unmarshal(body, &source); err != nil {
		return nil, fmt.Errorf("decode a definition: %w", err)
	}
	compiled, err := engine.Compile(source)
	if err != nil {
		return nil, fmt.Errorf("compile a definition of workflow %s: %w", source.WorkflowID, err)
	}
	return &Definition{Source: source, Compiled: compiled}, nil
}

// Secret gives the installation's engine secret.
func (s *Store) Secret(ctx context.Context) ([]byte, error) {
	var secret []byte
	err := s.db.GetContext(ctx, &secret, `SELECT secret FROM engine_secret`)
	return secret, postgres.Translate(err)
}

// executionRow is an execution as the table has it.
type executionRow struct {
	ID              string       `db:"id"`
	P               int          `db:"p"`
	WorkflowID      string       `db:"workflow_id"`
	WorkflowVersion int          `db:"workflow_version"`
	WorkflowOwner   string       `db:"workflow_owner"`
	UserID          string       `db:"user_id"`
	Definition      []byte       `db:"definition"`
	Status          string       `db:"status"`
	TriggerType     string       `db:"trigger_type"`
	Priority        int          `db:"priority"`
	Inputs          []byte       `db:"inputs"`
	Outputs         []byte       `db:"outputs"`
	Error           []byte       `db:"error"`
	RequestID       string       `db:"request_id"`
	Traceparent     string       `db:"traceparent"`
	ParentID        *string      `db:"parent_execution_id"`
	ParentStep      *string      `db:"parent_step"`
	ParentIteration *int         `db:"parent_iteration"`
	ParentToken     *string      `db:"parent_token"`
	Depth           int          `db:"depth"`
	RetryOf         *string      `db:"retry_of"`
	TriggerID       *string      `db:"trigger_id"`
	ScheduledFor    sql.NullTime `db:"scheduled_for"`
	CompensationOf  *string      `db:"compensation_of"`
	CompensatedBy   *string      `db:"compensated_by"` // in lists
	Limited         bool         `db:"limited"`
	Detached        bool         `db:"detached"`
	Total           int          `db:"steps_total"`
	Completed       int          `db:"steps_completed"`
	Failed          int          `db:"steps_failed"`
	Skipped         int          `db:"steps_skipped"`
	Percent         int          `db:"percent"`
	EventSeq        uint64       `db:"event_seq"`
	LastInput       sql.NullTime `db:"last_input"`
	CreatedAt       time.Time    `db:"created_at"`
	StartedAt       sql.NullTime `db:"started_at"`
	CompletedAt     sql.NullTime `db:"completed_at"`
}

const executionColumns = `id, p, workflow_id, workflow_version, workflow_owner, user_id, definition, status, trigger_type, priority,
	inputs, outputs, error, request_id, traceparent, parent_execution_id, parent_step, parent_iteration, parent_token, depth, retry_of, trigger_id, scheduled_for, compensation_of, limited, detached, steps_total, steps_completed, steps_failed,
	steps_skipped, percent, event_seq, last_input, created_at, started_at, completed_at`

// hasSteps tells whether there may be rows of its steps: it has begun, or began with results of another.
func (r executionRow) hasSteps() bool {
	return r.Status != orchestrator.ExecutionPending || r.RetryOf != nil
}

// parent gives the task that waits for it; nil for none.
func (r executionRow) parent() *engine.Parent {
	if r.Detached || r.ParentID == nil || r.ParentStep == nil || r.ParentIteration == nil || r.ParentToken == nil {
		return nil
	}
	return &engine.Parent{ExecutionID: *r.ParentID, StepKey: *r.ParentStep, Place: engine.Place{Iteration: *r.ParentIteration}, Token: *r.ParentToken}
}

type stepRow struct {
	ExecutionID string       `db:"execution_id"`
	Index       int          `db:"step_index"`
	Iteration   int          `db:"iteration"`
	Status      string       `db:"status"`
	Attempt     int          `db:"attempt"`
	Token       string       `db:"token"`
	Dispatch    int          `db:"dispatch"`
	Sent        uint64       `db:"sent"`
	RetryAt     sql.NullTime `db:"retry_at"`
	Backstop    sql.NullTime `db:"backstop"`
	WakeAt      sql.NullTime `db:"wake_at"`
	ReusedFrom  *string      `db:"reused_from"`
	Child       *string      `db:"child_id"`
	Output      []byte       `db:"output"`
	Error       []byte       `db:"error"`
	StartedAt   sql.NullTime `db:"started_at"`
	CompletedAt sql.NullTime `db:"completed_at"`
}

const stepColumns = `execution_id, step_index, iteration, status, attempt, token, dispatch, sent, retry_at, backstop, wake_at, reused_from, child_id, output, error,
	started_at, completed_at`

// inMemory are the rows that an execution's state has: all of its steps, and the items that have not ended.
const inMemory = `(iteration = 0 OR status = 'RUNNING')`

func (r stepRow) task() (engine.Task, error) {
	t := engine.Task{
		Status: r.Status, Attempt: r.Attempt, Token: r.Token, Dispatch: r.Dispatch, RetryAt: timeOf(r.RetryAt), Backstop: timeOf(r.Backstop),
		Output: r.Output, StartedAt: timeOf(r.StartedAt), CompletedAt: timeOf(r.CompletedAt),
	}
	if r.Child != nil {
		t.Child = *r.Child
	}
	var err error
	t.Error, err = stepErrorOf(r.Error)
	return t, err
}

// restore makes engine states of rows.
func (s *Store) restore(ctx context.Context, executions []executionRow, steps []stepRow) ([]partition.Loaded, error) {
	hashes := make([][]byte, len(executions))
	for i, x := range executions {
		hashes[i] = x.Definition
	}
	defs, err := s.definitionsOf(ctx, hashes)
	if err != nil {
		return nil, err
	}
	byExecution := map[string][]stepRow{}
	for _, st := range steps {
		byExecution[st.ExecutionID] = append(byExecution[st.ExecutionID], st)
	}
	items, err := s.itemsOf(ctx, executions, defs)
	if err != nil {
		return nil, err
	}
	commands, err := s.appliedCommands(ctx, executions)
	if err != nil {
		return nil, err
	}
	slots, err := s.slotsOf(ctx, executions)
	if err != nil {
		return nil, err
	}
	loaded := make([]partition.Loaded, 0, len(executions))
	for _, row := range executions {
		def := defs[string(row.Definition)]
		if def == nil {
			return nil, fmt.Errorf("the definition of execution %s is not there", row.ID)
		}
		l, err := restoreOne(row, byExecution[row.ID], items[row.ID], commands[row.ID], slots[row.ID], def.Compiled)
		if err != nil {
			return nil, err
		}
		loaded = append(loaded, l)
	}
	return loaded, nil
}

// itemCounts are what the state has of the items of a step that have ended.
type itemCounts struct {
	ExecutionID string `db:"execution_id"`
	Index       int    `db:"step_index"`
	Begun       int    `db:"begun"`
	Completed   int    `db:"completed"`
	Failed      int    `db:"failed"`
	last        []byte // the output of the last one that completed, of a step that remembers it
}

// itemsOf counts the items of the executions whose steps have some.
func (s *Store) itemsOf(ctx context.Context, executions []executionRow, defs map[string]*Definition) (map[string][]itemCounts, error) {
	var ids []string
	fans := map[string]*engine.Definition{}
	for _, x := range executions {
		if def := defs[string(x.Definition)]; def != nil && x.LastInput.Valid && def.Compiled.FansOut() {
			ids = append(ids, x.ID)
			fans[x.ID] = def.Compiled
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	var counts []itemCounts
	if err := s.db.SelectContext(ctx, &counts, `SELECT execution_id, step_index, max(iteration) AS begun, count(*) FILTER (WHERE status = 'COMPLETED') AS completed,
			count(*) FILTER (WHERE status = 'FAILED') AS failed
		FROM steps WHERE execution_id = ANY($1::uuid[]) AND iteration > 0 GROUP BY execution_id, step_index`, pq.Array(ids)); err != nil {
		return nil, postgres.Translate(err)
	}
	out := map[string][]itemCounts{}
	for _, c := range counts {
		if c.Index < len(fans[c.ExecutionID].Steps) && fans[c.ExecutionID].Steps[c.Index].Remembers() && c.Completed > 0 {
			if err := s.db.GetContext(ctx, &c.last, `SELECT output FROM steps WHERE execution_id = $1 AND step_index = $2 AND iteration > 0 AND status = 'COMPLETED'
				ORDER BY iteration DESC LIMIT 1`, c.ExecutionID, c.Index); err != nil {
				return nil, postgres.Translate(err)
			}
		}
		out[c.ExecutionID] = append(out[c.ExecutionID], c)
	}
	return out, nil
}

type appliedCommand struct {
	commandRow
	Kept *int64 `db:"kept"`
}

// appliedCommands gives the commands that the executions know of, those with kept signals in the order in which they came: kept counts
// anew when the log is another.
func (s *Store) appliedCommands(ctx context.Context, executions []executionRow) (map[string][]appliedCommand, error) {
	var ids []string
	for _, x := range executions {
		if x.LastInput.Valid && !engine.Terminal(x.Status) {
			ids = append(ids, x.ID)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	var rows []appliedCommand
	if err := s.db.SelectContext(ctx, &rows, `SELECT id, execution_id, p, kind, signal, kept FROM commands
		WHERE execution_id = ANY($1::uuid[]) AND applied_at IS NOT NULL ORDER BY applied_at, kept`, pq.Array(ids)); err != nil {
		return nil, postgres.Translate(err)
	}
	out := map[string][]appliedCommand{}
	for _, r := range rows {
		out[r.ExecutionID] = append(out[r.ExecutionID], r)
	}
	return out, nil
}

func restoreOne(row executionRow, steps []stepRow, items []itemCounts, commands []appliedCommand, slot engine.Slot, def *engine.Definition) (partition.Loaded, error) {
	x := engine.New(engine.Execution{
		ID: row.ID, WorkflowID: row.WorkflowID, UserID: row.UserID, TriggerType: row.TriggerType, RequestID: row.RequestID, Traceparent: row.Traceparent,
		Partition: row.P, Priority: row.Priority, Depth: row.Depth, Slot: slot, Parent: row.parent(), Inputs: row.Inputs, CreatedAt: engine.TimeOf(row.CreatedAt),
	}, def)
	if row.CompensationOf != nil {
		x.CompensationOf = *row.CompensationOf
	}
	sent := map[engine.Place]uint64{}
	x.Status, x.EventSeq = row.Status, row.EventSeq
	x.Outputs = row.Outputs
	x.StartedAt, x.CompletedAt, x.LastInput = timeOf(row.StartedAt), timeOf(row.CompletedAt), timeOf(row.LastInput)
	var err error
	if x.Error, err = stepErrorOf(row.Error); err != nil {
		return partition.Loaded{}, err
	}
	for _, st := range steps { // in the order of their iterations
		if st.Index < 0 || st.Index >= len(x.Steps) {
			return partition.Loaded{}, fmt.Errorf("execution %s has a step %d that its definition has not", row.ID, st.Index)
		}
		task, err := st.task()
		if err != nil {
			return partition.Loaded{}, err
		}
		step := &x.Steps[st.Index]
		if st.Iteration == 0 {
			step.Task, step.WakeAt, step.Reused = task, timeOf(st.WakeAt), st.ReusedFrom != nil
		} else {
			step.Items = append(step.Items, engine.Item{Iteration: st.Iteration, Task: task})
		}
		if st.Sent > 0 {
			sent[engine.Place{Step: st.Index, Iteration: st.Iteration}] = st.Sent
		}
	}
	for _, c := range items {
		step := &x.Steps[c.Index]
		step.Begun, step.Completed, step.Failed, step.Last = c.Begun, c.Completed, c.Failed, c.last
	}
	for _, c := range commands {
		x.Commands[c.ID] = true
		if c.Kept == nil {
			continue
		}
		control, err := c.control()
		if err != nil || control.Signal == nil {
			return partition.Loaded{}, errors.Join(fmt.Errorf("the kept signal of the command %s is none", c.ID), err)
		}
		x.Signals = append(x.Signals, engine.KeptSignal{Command: c.ID, Signal: *control.Signal})
	}
	return partition.Loaded{Execution: engine.Restore(*x, def), Sent: sent}, nil
}

func timeOf(t sql.NullTime) engine.Time {
	if !t.Valid {
		return 0
	}
	return engine.TimeOf(t.Time)
}

func stepErrorOf(raw []byte) (*runner.StepError, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var e runner.StepError
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, fmt.Errorf("decode a step's error: %w", err)
	}
	return &e, nil
}

// LoadLive implements partition.Ledger.
func (s *Store) LoadLive(ctx context.Context, p int, until engine.Time) ([]partition.Loaded, error) {
	const awake = `p = $1 AND completed_at IS NULL AND (sleeps_until IS NULL OR sleeps_until <= moment($2))`
	var executions []executionRow
	if err := s.db.SelectContext(ctx, &executions, `SELECT `+executionColumns+` FROM executions WHERE `+awake+` AND status <> 'PENDING'`, p, int64(until)); err != nil {
		return nil, postgres.Translate(err)
	}
	var steps []stepRow
	if err := s.db.SelectContext(ctx, &steps, `SELECT `+stepColumns+` FROM steps WHERE `+inMemory+` AND execution_id IN
		(SELECT id FROM executions WHERE `+awake+`) ORDER BY execution_id, step_index, iteration`, p, int64(until)); err != nil {
		return nil, postgres.Translate(err)
	}
	return s.restore(ctx, executions, steps)
}

// Waking implements partition.Ledger.
func (s *Store) Waking(ctx context.Context, p int, until engine.Time) (map[string]engine.Time, error) {
	var rows []struct {
		ID    string    `db:"id"`
		Until time.Time `db:"sleeps_until"`
	}
	if err := s.db.SelectContext(ctx, &rows, `SELECT id, sleeps_until FROM executions WHERE p = $1 AND completed_at IS NULL AND sleeps_until <= moment($2)`,
		p, int64(until)); err != nil {
		return nil, postgres.Translate(err)
	}
	due := make(map[string]engine.Time, len(rows))
	for _, r := range rows {
		due[r.ID] = engine.TimeOf(r.Until)
	}
	return due, nil
}

// Load implements partition.Ledger.
func (s *Store) Load(ctx context.Context, ids []string) ([]partition.Loaded, error) {
	valid := validUUIDs(ids)
	if len(valid) == 0 {
		return nil, nil
	}
	var executions []executionRow
	if err := s.db.SelectContext(ctx, &executions, `SELECT `+executionColumns+` FROM executions WHERE id = ANY($1::uuid[])`, postgres.UUIDs(valid)); err != nil {
		return nil, postgres.Translate(err)
	}
	begun := make([]string, 0, len(executions))
	for _, x := range executions {
		if x.hasSteps() {
			begun = append(begun, x.ID)
		}
	}
	var steps []stepRow
	if len(begun) > 0 {
		if err := s.db.SelectContext(ctx, &steps, `SELECT `+stepColumns+` FROM steps WHERE execution_id = ANY($1::uuid[]) AND `+inMemory+`
			ORDER BY execution_id, step_index, iteration`, pq.Array(begun)); err != nil {
			return nil, postgres.Translate(err)
		}
	}
	return s.restore(ctx, executions, steps)
}

func notFound(err error, what string) error {
	if errors.Is(err, sql.ErrNoRows) {
		return errs.New(errs.NotFound, "%s not found", what)
	}
	return postgres.Translate(err)
}
