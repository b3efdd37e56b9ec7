// Package postgres keeps log lines in telemetry's own schema.
package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/listing"
	"turbocat.io/services/telemetry/internal/logline"
)

// Logs keeps log lines. It is safe for concurrent use.
type Logs struct{ db *sqlx.DB }

// NewLogs makes a store over telemetry's schema.
func NewLogs(db *sqlx.DB) *Logs { return &Logs{db: db} }

// A line without a step or an iteration travels as an empty text or as -1: arrays of nulls
// would need an encoder of their own.
const insertLines = `INSERT INTO execution_logs
	(execution_id, id, step_key, attempt, iteration, seq, level, source, message, fields, created_at)
	SELECT execution_id, id, nullif(step_key, ''), attempt, nullif(iteration, -1), seq, level, source, message, fields, timestamptz 'epoch' + created_at * interval '1 microsecond'
	FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::int[], $5::int[], $6::bigint[], $7::smallint[], $8::text[], $9::text[], $10::text[], $11::bigint[])
	AS l (execution_id, id, step_key, attempt, iteration, seq, level, source, message, fields, created_at)
	ON CONFLICT (execution_id, id) DO NOTHING`

// Insert implements logline.Store.
func (s *Logs) Insert(ctx context.Context, lines []telemetry.LogLine) error {
	n := len(lines)
	executions, ids, steps, sources, messages, fields := make(postgres.UUIDs, n), make(postgres.UUIDs, n), make(postgres.Texts, n),
		make(postgres.Texts, n), make(postgres.Texts, n), make(postgres.Texts, n)
	attempts, iterations, seqs, levels, times := make(postgres.Int4s, n), make(postgres.Int4s, n), make(postgres.Int8s, n), make(postgres.Int2s, n), make(postgres.Int8s, n)
	for i, l := range lines {
		executions[i], ids[i], sources[i], messages[i], fields[i] = l.ExecutionID, l.ID, l.Source, l.Message, string(l.Fields)
		times[i] = l.CreatedAt.UnixMicro()
		if l.StepKey != nil {
			steps[i] = *l.StepKey
		}
		iterations[i] = -1
		if l.Iteration != nil {
			iterations[i] = int64(*l.Iteration)
		}
		level, _ := logline.Level(l.Level) // Clean has checked it
		attempts[i], seqs[i], levels[i] = int64(l.Attempt), l.Seq, int64(level)
	}
	_, err := s.db.ExecContext(ctx, insertLines, executions, ids, steps, attempts, iterations, seqs, levels, sources, messages, fields, times)
	if postgres.Refused(err) {
		return fmt.Errorf("%w: %w", logline.ErrRefused, err)
	}
	return postgres.Translate(err)
}

type row struct {
	ID          string    `db:"id"`
	ExecutionID string    `db:"execution_id"`
	StepKey     *string   `db:"step_key"`
	Attempt     int       `db:"attempt"`
	Iteration   *int      `db:"iteration"`
	Seq         int64     `db:"seq"`
	Level       int       `db:"level"`
	Source      string    `db:"source"`
	Message     string    `db:"message"`
	Fields      string    `db:"fields"`
	CreatedAt   time.Time `db:"created_at"`
	listing.Key
}

func (r row) line() telemetry.LogLine {
	return telemetry.LogLine{
		ID: r.ID, ExecutionID: r.ExecutionID, StepKey: r.StepKey, Attempt: r.Attempt, Iteration: r.Iteration, Seq: r.Seq,
		Level: telemetry.Levels[r.Level], Source: r.Source, Message: r.Message, Fields: json.RawMessage(r.Fields), CreatedAt: r.CreatedAt.UTC(),
	}
}

const columns = "id, execution_id, step_key, attempt, iteration, seq, level, source, message, fields, created_at"

// List implements natsapi.Logs. The lines come oldest first. A request that can not be is a
// VALIDATION_ERROR with every fault of it.
func (s *Logs) List(ctx context.Context, q telemetry.LogsRequest) (rpc.List[telemetry.LogLine], error) {
	table := listing.Table{From: "execution_logs", ID: "id", Columns: map[string]listing.Column{"createdAt": {SQL: "created_at", Kind: listing.Time}}}
	var faults form.Faults
	page := table.Parse(rpc.Page{
		Page: q.Page, PageSize: q.PageSize, Cursor: q.Cursor, Search: q.Search, SortBy: "createdAt", SortOrder: "asc",
	}, &faults)
	if _, err := uuid.Parse(q.ExecutionID); err != nil {
		faults.Add("executionId", errs.BadValue, "is no UUID; give the id of an execution")
	}
	listing.Enum("level", q.Level, telemetry.Levels, &faults)
	if strings.ContainsRune(q.StepKey, 0) {
		faults.Add("stepKey", errs.BadValue, "must be text without NUL")
	}
	if err := faults.Err("query"); err != nil {
		return rpc.List[telemetry.LogLine]{}, err
	}
	var where listing.Where
	where.And("execution_id = ?::uuid", q.ExecutionID)
	if level, given := logline.Level(q.Level); given {
		where.And("level >= ?", level)
	}
	if q.StepKey != "" {
		where.And("step_key = ?", q.StepKey)
	}
	if q.Since != nil {
		where.And("created_at >= ?", q.Since.UTC())
	}
	if q.Search != "" {
		where.Look("message ILIKE ?", listing.Contains(q.Search))
	}
	rows, pagination, err := listing.Select[row](ctx, s.db, page, columns, where)
	if err != nil {
		return rpc.List[telemetry.LogLine]{}, err
	}
	list := rpc.List[telemetry.LogLine]{Items: make([]telemetry.LogLine, len(rows)), Pagination: pagination}
	for i, r := range rows {
		list.Items[i] = r.line()
	}
	return list, nil
}
