package verify

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/subject"
	"turbocat.io/tools/internal/promises"
)

const (
	// executionsAtOnce is how many executions are read in one snapshot.
	executionsAtOnce = 200
	// maxDefinitions is how many of them are kept in memory.
	maxDefinitions = 2000
	// endsWithin is how much later than its timeout an execution may end.
	endsWithin = time.Minute
)

type definition struct {
	timeout   time.Duration
	steps     []catalog.Step
	dependsOn map[string][]string
	recording string // the execution that one replays; "" for most
}

type executionRow struct {
	ID          string     `db:"id"`
	P           int        `db:"p"`
	Definition  []byte     `db:"definition"`
	Status      string     `db:"status"`
	EventSeq    uint64     `db:"event_seq"`
	Total       int        `db:"steps_total"`
	Completed   int        `db:"steps_completed"`
	Failed      int        `db:"steps_failed"`
	Skipped     int        `db:"steps_skipped"`
	Percent     int        `db:"percent"`
	StartedAt   *time.Time `db:"started_at"`
	CompletedAt *time.Time `db:"completed_at"`
	Now         time.Time  `db:"now"`
}

type stepRow struct {
	Execution   string     `db:"execution_id"`
	Index       int        `db:"step_index"`
	Status      string     `db:"status"`
	Attempt     int        `db:"attempt"`
	ReusedFrom  *string    `db:"reused_from"`
	CompletedAt *time.Time `db:"completed_at"`
}

type itemsRow struct {
	Execution string `db:"execution_id"`
	Index     int    `db:"step_index"`
	Begun     int    `db:"begun"`
	Last      int    `db:"last"`
	Completed int    `db:"completed"`
	Unended   int    `db:"unended"`
}

// executions reads every execution with its steps and events.
func (v *verifier) executions(ctx context.Context) error {
	from := "00000000-0000-0000-0000-000000000000"
	if !v.Since.IsZero() {
		ms := uint64(v.Since.UnixMilli()) // a UUIDv7 begins with its time
		first := fmt.Sprintf("%08x-%04x-0000-0000-000000000000", ms>>16, ms&0xffff)
		if err := v.scan(ctx, `completed_at IS NULL AND id < '`+first+`' AND id > $1`, from); err != nil {
			return err
		}
		from = first
	}
	return v.scan(ctx, `id > $1`, from)
}

func (v *verifier) scan(ctx context.Context, which, from string) error {
	for {
		tx, err := v.db.BeginTxx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
		if err != nil {
			return fmt.Errorf("the ledger can not be read: %w", err)
		}
		last, n, err := v.page(ctx, tx, which, from)
		_ = tx.Rollback()
		if err != nil {
			return fmt.Errorf("the ledger can not be read: %w", err)
		}
		v.tell(false)
		if n < executionsAtOnce {
			return nil
		}
		from = last
	}
}

// page reads the next executions in one snapshot.
func (v *verifier) page(ctx context.Context, tx *sqlx.Tx, which, from string) (last string, n int, err error) {
	var rows []executionRow
	if err := tx.SelectContext(ctx, &rows, `SELECT id, p, definition, status, event_seq, steps_total, steps_completed, steps_failed, steps_skipped, percent,
		started_at, completed_at, clock_timestamp() AS now FROM executions WHERE `+which+` ORDER BY id LIMIT $2`, from, executionsAtOnce); err != nil || len(rows) == 0 {
		return "", 0, err
	}
	ids := make([]string, len(rows))
	pages := make(map[string]*page, len(rows))
	for i, r := range rows {
		d, err := v.definition(ctx, tx, r.Definition)
		if err != nil {
			return "", 0, err
		}
		if d == nil {
			v.say("I1", "the definition of the execution %s is not there", r.ID)
			d = &definition{}
		}
		ids[i], pages[r.ID] = r.ID, &page{row: r, definition: d, steps: map[int]stepRow{}, reused: map[string]bool{}}
	}
	if err := v.readSteps(ctx, tx, ids, pages); err != nil {
		return "", 0, err
	}
	if err := v.readEvents(ctx, tx, ids, pages); err != nil {
		return "", 0, err
	}
	for _, r := range rows {
		v.checkExecution(pages[r.ID])
	}
	for _, check := range []func(context.Context, *sqlx.Tx, []string, map[string]*page) error{v.checkItems, v.checkKept, v.checkChildren, v.checkCompensations} {
		if err := check(ctx, tx, ids, pages); err != nil {
			return "", 0, err
		}
	}
	return ids[len(ids)-1], len(ids), nil
}

// page is an execution as it is in a snapshot.
type page struct {
	row        executionRow
	definition *definition
	steps      map[int]stepRow
	reused     map[string]bool
	story      *promises.Story
	events     uint64 // seq of the last
	number     uint64 // of the last, in its partition
}

func (v *verifier) definition(ctx context.Context, tx *sqlx.Tx, hash []byte) (*definition, error) {
	if d := v.definitions[string(hash)]; d != nil {
		return d, nil
	}
	var body []byte
	if err := tx.GetContext(ctx, &body, `SELECT body FROM definitions WHERE hash = $1`, hash); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			err = nil
		}
		return nil, err
	}
	var source catalog.Definition
	if err := json.Unmarshal(body, &source); err != nil {
		return nil, fmt.Errorf("definition %x: %w", hash, err)
	}
	d := &definition{timeout: time.Duration(source.TimeoutMs) * time.Millisecond, steps: source.Steps, dependsOn: map[string][]string{}}
	for _, s := range source.Steps {
		d.dependsOn[s.StepKey] = s.DependsOn
	}
	if source.Recording != nil {
		d.recording = source.Recording.ExecutionID
	}
	if len(v.definitions) >= maxDefinitions {
		clear(v.definitions)
	}
	v.definitions[string(hash)] = d
	return d, nil
}

func (v *verifier) readSteps(ctx context.Context, tx *sqlx.Tx, ids []string, pages map[string]*page) error {
	rows, err := tx.QueryxContext(ctx, `SELECT execution_id, step_index, status, attempt, reused_from, completed_at FROM steps
		WHERE execution_id = ANY($1::uuid[]) AND iteration = 0`, pq.Array(ids))
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var r stepRow
		if err := rows.StructScan(&r); err != nil {
			return err
		}
		v.report.Steps++
		x := pages[r.Execution]
		x.steps[r.Index] = r
		if r.Index >= len(x.definition.steps) {
			v.say("I2", "the execution %s has a step %d, and its definition has %d", r.Execution, r.Index, len(x.definition.steps))
			continue
		}
		if r.ReusedFrom != nil {
			x.reused[x.definition.steps[r.Index].StepKey] = true
		}
	}
	return rows.Err()
}

func (v *verifier) readEvents(ctx context.Context, tx *sqlx.Tx, ids []string, pages map[string]*page) error {
	for id, x := range pages {
		x.story = promises.NewStory(id, x.definition.dependsOn, x.reused, v.say)
	}
	rows, err := tx.QueryxContext(ctx, `SELECT execution_id, seq, p, n, event_count, events FROM execution_events WHERE execution_id = ANY($1::uuid[]) ORDER BY execution_id, seq`, pq.Array(ids))
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var r eventsRow
		if err := rows.StructScan(&r); err != nil {
			return err
		}
		v.readRow(pages[r.Execution], r)
	}
	return rows.Err()
}

// eventsRow is what one commit has of an execution's events.
type eventsRow struct {
	Execution string `db:"execution_id"`
	Seq       uint64 `db:"seq"` // of the last
	P         int    `db:"p"`
	N         uint64 `db:"n"` // up to which the commit has the partition's events
	Count     uint64 `db:"event_count"`
	Events    []byte `db:"events"`
}

// readRow takes the next events of an execution in. Their numbers are distinct and none is above its commit's; together with the counts that numbers
// looks at, that leaves each commit those which follow the commit before.
func (v *verifier) readRow(x *page, r eventsRow) {
	bodies, err := event.Split(r.Events)
	if err != nil {
		v.say("I5", "the events of %s up to event %d do not decode: %v", r.Execution, r.Seq, err)
	} else if n := uint64(len(bodies)); n != r.Count || r.Seq != x.events+n {
		v.say("I5", "the %d events of %s up to event %d count as %d, and follow event %d", n, r.Execution, r.Seq, r.Count, x.events)
	}
	x.events = r.Seq
	for i, body := range bodies {
		v.report.Events++
		seq := r.Seq - uint64(len(bodies)-1-i)
		e, err := promises.ParseEvent(body)
		switch {
		case err != nil:
			v.say("I5", "event %d of %s: %v", seq, r.Execution, err)
			continue
		case e.Execution != r.Execution || e.Seq != seq || e.P != r.P || r.P != x.row.P || e.N <= x.number || e.N > r.N:
			v.say("I5", "event %d of %s (of the partition %d, with a number above %d and up to %d) says that it is event %d of %s (number %d of the partition %d)",
				seq, r.Execution, r.P, x.number, r.N, e.Seq, e.Execution, e.N, e.P)
		case !v.fresh(e.P, e.N):
			v.say("I5", "event %d of %s is not the only one with the number %d of the partition %d", seq, r.Execution, e.N, e.P)
		}
		x.number = e.N
		x.story.Tell(e)
	}
}

// fresh tells whether no event was seen yet that has a number of a partition. It takes a bit for each.
func (v *verifier) fresh(p int, n uint64) bool {
	if v.seen[p] == nil {
		v.seen[p] = map[uint64]uint64{}
	}
	bit := uint64(1) << (n % 64)
	is := v.seen[p][n/64]&bit == 0
	v.seen[p][n/64] |= bit
	return is
}

// checkExecution compares the row of an execution, the rows of its steps, and its events.
func (v *verifier) checkExecution(x *page) {
	v.report.Executions++
	r := x.row
	row := orchestrator.Execution{
		ID: r.ID, Status: r.Status, CompletedAt: r.CompletedAt,
		Progress: orchestrator.Progress{Total: r.Total, Completed: r.Completed, Failed: r.Failed, Skipped: r.Skipped, Percent: r.Percent},
	}
	running := 0
	for i, d := range x.definition.steps {
		state := orchestrator.StepState{StepKey: d.StepKey, Status: orchestrator.StepPending}
		if s, ok := x.steps[i]; ok {
			state.Status, state.Attempts, state.CompletedAt = s.Status, s.Attempt, s.CompletedAt
		}
		if state.Status == orchestrator.StepRunning {
			running++
		}
		row.Steps = append(row.Steps, state)
	}
	x.story.Compare(row)
	if r.P != subject.PartitionOf(r.ID) {
		v.say("I2", "the execution %s is in the partition %d, and belongs to %d", r.ID, r.P, subject.PartitionOf(r.ID))
	}
	if x.events != r.EventSeq {
		v.say("I5", "the execution %s counts %d events, and the last is %d", r.ID, r.EventSeq, x.events)
	}
	ended := promises.Ended(r.Status)
	if ended != (r.CompletedAt != nil) {
		v.say("I2", "the execution %s is %s and has ended at %v", r.ID, r.Status, r.CompletedAt)
	}
	if ended {
		return
	}
	v.report.Unfinished++
	if v.Quiet {
		v.say("I1", "the execution %s is %s", r.ID, r.Status)
	}
	if r.Status == orchestrator.ExecutionRunning && running == 0 {
		v.say("I1", "the execution %s is RUNNING, and none of its steps is", r.ID)
	}
	if t := x.definition.timeout; t > 0 && r.StartedAt != nil && r.Now.After(r.StartedAt.Add(t+endsWithin+v.Patience)) {
		v.say("I1", "the execution %s runs since %s, and its timeout is %s", r.ID, r.StartedAt.UTC().Format(time.RFC3339), t)
	}
}

// checkItems compares the items of LOOPs and PARALLELs with what became of their steps.
func (v *verifier) checkItems(ctx context.Context, tx *sqlx.Tx, ids []string, pages map[string]*page) error {
	var rows []itemsRow
	if err := tx.SelectContext(ctx, &rows, `SELECT execution_id, step_index, count(*) AS begun, max(iteration) AS last,
		count(*) FILTER (WHERE status = 'COMPLETED') AS completed, count(*) FILTER (WHERE status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED')) AS unended
		FROM steps WHERE execution_id = ANY($1::uuid[]) AND iteration > 0 GROUP BY 1, 2`, pq.Array(ids)); err != nil {
		return err
	}
	for _, r := range rows {
		v.report.Steps += int64(r.Begun)
		x := pages[r.Execution]
		step, key := x.steps[r.Index], fmt.Sprint(r.Index)
		if r.Index < len(x.definition.steps) {
			key = x.definition.steps[r.Index].StepKey
		}
		if r.Last != r.Begun {
			v.say("I2", "of the step %s of %s %d items have begun, and the last is %d", key, r.Execution, r.Begun, r.Last)
		}
		if r.Unended > 0 && step.Status != orchestrator.StepRunning {
			v.say("I7", "%d items of the step %s of %s have not ended, and it is %s", r.Unended, key, r.Execution, step.Status)
		}
		if step.Status != orchestrator.StepCompleted || step.ReusedFrom != nil {
			continue
		}
		var output []byte
		if err := tx.GetContext(ctx, &output, `SELECT output FROM steps WHERE execution_id = $1 AND step_index = $2 AND iteration = 0`, r.Execution, r.Index); err != nil {
			return err
		}
		if n, ok := length(output); ok && n != r.Begun && n != r.Completed {
			v.say("I2", "the step %s of %s has %d items, %d of them COMPLETED, and its output has %d", key, r.Execution, r.Begun, r.Completed, n)
		}
	}
	return nil
}

// length is how many values an array or object has; false for what is none.
func length(raw []byte) (n int, ok bool) {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil && list != nil {
		return len(list), true
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) == nil && object != nil {
		return len(object), true
	}
	return 0, false
}

// checkKept checks that no signal is kept for a step that waits for it.
func (v *verifier) checkKept(ctx context.Context, tx *sqlx.Tx, ids []string, pages map[string]*page) error {
	var rows []struct {
		Execution string `db:"execution_id"`
		Name      string `db:"name"`
	}
	if err := tx.SelectContext(ctx, &rows, `SELECT execution_id, name FROM commands WHERE execution_id = ANY($1::uuid[]) AND kept IS NOT NULL AND name IS NOT NULL`, pq.Array(ids)); err != nil {
		return err
	}
	for _, r := range rows {
		x := pages[r.Execution]
		for i, d := range x.definition.steps {
			if x.steps[i].Status == orchestrator.StepRunning && signalOf(d) == r.Name {
				v.say("I1", "the step %s of %s waits for the signal %s, which is kept", d.StepKey, r.Execution, r.Name)
			}
		}
	}
	return nil
}

// signalOf is the signal that a step waits for; "" for none.
func signalOf(s catalog.Step) string {
	var c catalog.WaitConfig
	if s.StepType != catalog.StepWait || json.Unmarshal(s.Config, &c) != nil {
		return ""
	}
	if c.Approval && c.Signal == "" {
		return s.StepKey
	}
	return c.Signal
}
