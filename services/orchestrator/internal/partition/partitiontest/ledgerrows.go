package partitiontest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
)

// executionRow is an execution as the table has it. It shares nothing with what was committed.
type executionRow struct {
	id          string
	p           int
	def         *engine.Definition
	accepted    engine.Execution
	createdAt   time.Time
	status      string
	outputs     []byte
	failure     *runner.StepError
	eventSeq    uint64
	lastInput   engine.Time
	startedAt   engine.Time
	completedAt engine.Time
	steps       map[int]stepRow
}

type stepRow struct {
	step engine.Step
	sent uint64
}

func newExecutionRow(x execution.Accepted, def *engine.Definition) *executionRow {
	p := subject.PartitionOf(x.ID)
	return &executionRow{
		id: x.ID, p: p, def: def, createdAt: x.CreatedAt, status: orchestrator.ExecutionPending, steps: map[int]stepRow{},
		accepted: engine.Execution{
			ID: x.ID, WorkflowID: x.Definition.WorkflowID, UserID: x.Caller.UserID, TriggerType: x.TriggerType,
			RequestID: x.Caller.RequestID, Traceparent: x.Caller.Traceparent, Partition: p, Priority: x.Priority,
			Inputs: bytes.Clone(x.Inputs), CreatedAt: engine.TimeOf(x.CreatedAt),
		},
	}
}

// load makes a state of the rows.
func (x *executionRow) load() partition.Loaded {
	accepted := x.accepted
	accepted.Inputs = bytes.Clone(accepted.Inputs)
	state := engine.New(accepted, x.def)
	state.Status, state.Outputs, state.Error, state.EventSeq = x.status, stored(x.outputs), copied(x.failure), x.eventSeq
	state.LastInput, state.StartedAt, state.CompletedAt = x.lastInput, x.startedAt, x.completedAt
	sent := make([]uint64, len(state.Steps))
	for i, row := range x.steps {
		state.Steps[i], sent[i] = row.copied(), row.sent
	}
	return partition.Loaded{Execution: engine.Restore(*state, x.def), Sent: sent}
}

// copied gives the columns of the step, and nothing that the engine derives from them.
func (r stepRow) copied() engine.Step {
	return engine.Step{
		Status: r.step.Status, Attempt: r.step.Attempt, Token: r.step.Token, Dispatch: r.step.Dispatch, RetryAt: r.step.RetryAt, Backstop: r.step.Backstop,
		Output: stored(r.step.Output), Error: copied(r.step.Error), StartedAt: r.step.StartedAt, CompletedAt: r.step.CompletedAt,
	}
}

// stored is what a nullable column keeps of bytes: empty ones are NULL.
func stored(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return bytes.Clone(b)
}

func copied(e *runner.StepError) *runner.StepError {
	if e == nil {
		return nil
	}
	c := *e
	return &c
}

// LoadLive implements partition.Ledger.
func (l *Ledger) LoadLive(ctx context.Context, p int) ([]partition.Loaded, error) {
	if err := l.lock(ctx); err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	return loaded(l.rows(func(x *executionRow) bool {
		return x.p == p && x.completedAt == 0 && x.status != orchestrator.ExecutionPending
	})), nil
}

// Load implements partition.Ledger.
func (l *Ledger) Load(ctx context.Context, ids []string) ([]partition.Loaded, error) {
	if err := l.lock(ctx); err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	return loaded(l.rows(func(x *executionRow) bool { return slices.Contains(ids, x.id) })), nil
}

// rows gives the executions of which it holds, in the order of their ids.
func (l *Ledger) rows(holds func(*executionRow) bool) []*executionRow {
	var out []*executionRow
	for _, x := range l.executions {
		if holds(x) {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(a, b *executionRow) int { return cmp.Compare(a.id, b.id) })
	return out
}

func loaded(rows []*executionRow) []partition.Loaded {
	var out []partition.Loaded
	for _, x := range rows {
		out = append(out, x.load())
	}
	return out
}

// Commit implements partition.Ledger.
func (l *Ledger) Commit(ctx context.Context, b partition.Batch) error {
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer l.mu.Unlock()
	there, err := l.fence(b.Partitions)
	if err != nil || there {
		return err
	}
	if err := l.check(b); err != nil {
		return err
	}
	l.write(b)
	if l.Committed != nil {
		l.Committed(b)
	}
	return nil
}

// Rehearse implements partition.Ledger.
func (l *Ledger) Rehearse(ctx context.Context, b partition.Batch) error {
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer l.mu.Unlock()
	return l.check(b)
}

func (l *Ledger) fence(advances []partition.Advance) (there bool, err error) {
	var lost []int
	moving, moved := 0, 0
	for _, a := range advances {
		row := &l.partitions[a.P]
		stays, there := a.From == a.InputSeq, a.InputSeq == row.InputSeq && a.EventN == row.EventN
		if !stays {
			moving++
		}
		switch {
		case a.Epoch != row.Epoch || !there && (stays || a.From != row.InputSeq):
			lost = append(lost, a.P)
		case there && !stays:
			moved++
		}
	}
	if len(lost) > 0 {
		slices.Sort(lost)
		return false, &partition.FencedError{Partitions: lost}
	}
	return moving > 0 && moved == moving, nil
}

// eventKey is one of the two numbers that tell an event apart.
type eventKey struct {
	of     string
	number uint64
}

func keysOf(e partition.EventRow) [2]eventKey {
	return [2]eventKey{{"execution " + e.ExecutionID, e.Seq}, {"partition " + strconv.Itoa(e.P), e.N}}
}

// check fails for data that the tables would not take.
func (l *Ledger) check(b partition.Batch) error {
	seen := map[eventKey]bool{}
	for _, e := range b.Events {
		for _, key := range keysOf(e) {
			if l.taken[key] || seen[key] {
				return fmt.Errorf("%w: there is an event %d of %s", partition.ErrRefused, key.number, key.of)
			}
			seen[key] = true
		}
	}
	if l.Refuse != nil {
		if err := l.Refuse(b); err != nil {
			return fmt.Errorf("%w: %w", partition.ErrRefused, err)
		}
	}
	return nil
}

func (l *Ledger) write(b partition.Batch) {
	for _, a := range b.Partitions {
		row := &l.partitions[a.P]
		row.InputSeq, row.InputTime, row.EventN = a.InputSeq, a.InputTime, a.EventN
	}
	for _, r := range b.Executions {
		x := l.executions[r.ID]
		if x == nil {
			continue
		}
		x.status, x.outputs, x.failure, x.eventSeq = r.Status, stored(r.Outputs), copied(r.Error), r.EventSeq
		x.lastInput, x.startedAt, x.completedAt = r.LastInput, r.StartedAt, r.CompletedAt
	}
	for _, r := range b.Steps {
		if x := l.executions[r.ExecutionID]; x != nil {
			row := stepRow{step: r.Step, sent: r.Sent}
			row.step = row.copied()
			x.steps[r.Index] = row
		}
	}
	for _, e := range b.Events {
		e.Body = bytes.Clone(e.Body)
		for _, key := range keysOf(e) {
			l.taken[key] = true
		}
		at, _ := slices.BinarySearchFunc(l.events[e.P], e.N, func(o partition.EventRow, n uint64) int { return cmp.Compare(o.N, n) })
		l.events[e.P] = slices.Insert(l.events[e.P], at, e)
	}
	for _, c := range l.commands {
		c.applied = c.applied || slices.Contains(b.Commands, c.ID)
	}
	for _, d := range b.DeadLetters {
		d.Headers, d.Body = bytes.Clone(d.Headers), bytes.Clone(d.Body)
		l.dead = append(l.dead, d)
	}
}

// Events implements partition.Ledger.
func (l *Ledger) Events(ctx context.Context, p int, after uint64, limit int) ([]partition.EventRow, error) {
	if err := l.lock(ctx); err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	var out []partition.EventRow
	for _, e := range l.events[p] {
		if e.N > after && len(out) < limit {
			e.Body = bytes.Clone(e.Body)
			out = append(out, e)
		}
	}
	return out, nil
}

// Stopped implements partition.Ledger.
func (l *Ledger) Stopped(ctx context.Context, p int) ([]partition.StoppedAttempt, error) {
	if err := l.lock(ctx); err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	var out []partition.StoppedAttempt
	for _, x := range l.rows(func(x *executionRow) bool { return x.p == p }) {
		for i := range x.def.Steps {
			if row := x.steps[i]; row.step.Status == orchestrator.StepCancelled && row.sent > 0 {
				out = append(out, partition.StoppedAttempt{ExecutionID: x.id, Index: i, Token: row.step.Token, Sent: row.sent})
			}
		}
	}
	return out, nil
}

// Cleared implements partition.Ledger.
func (l *Ledger) Cleared(ctx context.Context, attempts []partition.StoppedAttempt) error {
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer l.mu.Unlock()
	for _, a := range attempts {
		x := l.executions[a.ExecutionID]
		if x == nil {
			continue
		}
		if row, begun := x.steps[a.Index]; begun && row.sent == a.Sent {
			row.sent = 0
			x.steps[a.Index] = row
		}
	}
	return nil
}
