package partitiontest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
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
	detached    bool
	status      string
	outputs     []byte
	failure     *runner.StepError
	eventSeq    uint64
	lastInput   engine.Time
	startedAt   engine.Time
	completedAt engine.Time
	sleepsUntil engine.Time
	steps       map[engine.Place]stepRow
}

type stepRow struct {
	engine.Row
	sent uint64
}

func newExecutionRow(x execution.Accepted, def *engine.Definition) *executionRow {
	p, waits := subject.PartitionOf(x.ID), x.Parent
	if x.Detached {
		waits = nil
	}
	return &executionRow{
		id: x.ID, p: p, def: def, createdAt: x.CreatedAt, detached: x.Detached, status: orchestrator.ExecutionPending, steps: map[engine.Place]stepRow{},
		accepted: engine.Execution{
			ID: x.ID, WorkflowID: x.Definition.WorkflowID, UserID: x.Caller.UserID, TriggerType: x.TriggerType,
			RequestID: x.Caller.RequestID, Traceparent: x.Caller.Traceparent, Partition: p, Priority: x.Priority,
			Inputs: bytes.Clone(x.Inputs), CreatedAt: engine.TimeOf(x.CreatedAt), Depth: x.Depth, CompensationOf: x.CompensationOf, Parent: waits,
		},
	}
}

// load makes a state of the rows, and of the commands that were applied.
func (x *executionRow) load(commands []*commandRow, slot *slotRow) partition.Loaded {
	accepted := x.accepted
	if slot != nil {
		accepted.Slot = slot.state
	}
	accepted.Inputs = bytes.Clone(accepted.Inputs)
	state := engine.New(accepted, x.def)
	state.Status, state.Outputs, state.Error, state.EventSeq = x.status, stored(x.outputs), copied(x.failure), x.eventSeq
	state.LastInput, state.StartedAt, state.CompletedAt = x.lastInput, x.startedAt, x.completedAt
	sent := map[engine.Place]uint64{}
	for _, p := range slices.SortedFunc(maps.Keys(x.steps), byPlace) {
		row, step := x.steps[p], &state.Steps[p.Step]
		if p.Iteration == 0 {
			step.Task, step.WakeAt = row.copied().Task, row.WakeAt
		} else {
			addItem(&x.def.Steps[p.Step], step, row)
		}
		if row.sent > 0 && (p.Iteration == 0 || row.Status == orchestrator.StepRunning) {
			sent[p] = row.sent
		}
	}
	if !state.Terminal() && state.LastInput != 0 {
		for _, c := range commands {
			if c.ExecutionID != x.id || c.applied == 0 {
				continue
			}
			state.Commands[c.ID] = true
			if control, err := c.Control(); err == nil && c.kept > 0 && control.Signal != nil {
				state.Signals = append(state.Signals, engine.KeptSignal{Command: c.ID, Signal: *control.Signal})
			}
		}
	}
	return partition.Loaded{Execution: engine.Restore(*state, x.def), Sent: sent}
}

func byPlace(a, b engine.Place) int {
	return cmp.Or(cmp.Compare(a.Step, b.Step), cmp.Compare(a.Iteration, b.Iteration))
}

// addItem takes an item into the state of its step, in the order of the iterations.
func addItem(def *engine.StepDefinition, step *engine.Step, row stepRow) {
	step.Begun = row.Iteration
	switch row.Status {
	case orchestrator.StepCompleted:
		step.Completed++
		if def.Remembers() {
			step.Last = stored(row.Output)
		}
	case orchestrator.StepFailed:
		step.Failed++
	case orchestrator.StepRunning:
		step.Items = append(step.Items, engine.Item{Iteration: row.Iteration, Task: row.copied().Task})
	}
}

// copied gives the columns of the row, and nothing that it shares.
func (r stepRow) copied() engine.Row {
	row := r.Row
	row.Output, row.Error = stored(r.Output), copied(r.Error)
	return row
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

func (x *executionRow) wakesBy(until engine.Time) bool {
	return x.sleepsUntil != 0 && x.sleepsUntil <= until
}

// LoadLive implements partition.Ledger.
func (l *Ledger) LoadLive(ctx context.Context, p int, until engine.Time) ([]partition.Loaded, error) {
	if err := l.lock(ctx); err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	return l.loaded(l.rows(func(x *executionRow) bool {
		return x.p == p && x.completedAt == 0 && x.status != orchestrator.ExecutionPending && (x.sleepsUntil == 0 || x.wakesBy(until))
	})), nil
}

// Waking implements partition.Ledger.
func (l *Ledger) Waking(ctx context.Context, p int, until engine.Time) (map[string]engine.Time, error) {
	if err := l.lock(ctx); err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	due := map[string]engine.Time{}
	for _, x := range l.rows(func(x *executionRow) bool {
		return x.p == p && x.completedAt == 0 && x.wakesBy(until)
	}) {
		due[x.id] = x.sleepsUntil
	}
	return due, nil
}

// Load implements partition.Ledger.
func (l *Ledger) Load(ctx context.Context, ids []string) ([]partition.Loaded, error) {
	if err := l.lock(ctx); err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	return l.loaded(l.rows(func(x *executionRow) bool { return slices.Contains(ids, x.id) })), nil
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

func (l *Ledger) loaded(rows []*executionRow) []partition.Loaded {
	commands := slices.SortedStableFunc(slices.Values(l.commands), func(a, b *commandRow) int {
		return cmp.Or(cmp.Compare(a.applied, b.applied), cmp.Compare(a.kept, b.kept))
	})
	var out []partition.Loaded
	for _, x := range rows {
		out = append(out, x.load(commands, l.slots[x.id]))
	}
	return out
}

// ItemOutputs implements partition.Ledger.
func (l *Ledger) ItemOutputs(ctx context.Context, executionID string, step, limit int) ([]engine.ItemOutput, error) {
	if err := l.lock(ctx); err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	x := l.executions[executionID]
	if x == nil {
		return nil, nil
	}
	var out []engine.ItemOutput
	size := 0
	for _, p := range slices.SortedFunc(maps.Keys(x.steps), byPlace) {
		if row := x.steps[p]; p.Step == step && p.Iteration > 0 && row.Status == orchestrator.StepCompleted {
			out = append(out, engine.ItemOutput{Iteration: p.Iteration, Output: bytes.Clone(row.Output)})
			size += len(row.Output)
		}
	}
	if size > limit {
		return nil, partition.ErrTooLarge
	}
	return out, nil
}

// Commit implements partition.Ledger.
func (l *Ledger) Commit(ctx context.Context, b partition.Batch) ([]partition.Control, error) {
	if err := l.lock(ctx); err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	there, err := l.fence(b)
	if err != nil || there {
		return nil, err
	}
	if err := l.check(b); err != nil {
		return nil, err
	}
	l.write(b)
	if l.Committed != nil {
		l.Committed(b)
	}
	cancels, err := l.cancelUnawaited(b.Cancels)
	if err != nil {
		return nil, err
	}
	return append(cancels, l.settled(l.releaseSlots(b.Executions))...), nil
}

func (l *Ledger) cancelUnawaited(ids []string) ([]partition.Control, error) {
	var out []partition.Control
	for _, id := range ids {
		x := l.executions[id]
		if x == nil || engine.Terminal(x.status) || x.detached {
			continue
		}
		c := execution.Unawaited(id)
		if l.checkCommand(c) == nil {
			l.commands = append(l.commands, &commandRow{Command: c, createdAt: l.Now()})
		}
		control, err := c.Control()
		if err != nil {
			return nil, err
		}
		out = append(out, control)
	}
	return out, nil
}

// Rehearse implements partition.Ledger.
func (l *Ledger) Rehearse(ctx context.Context, b partition.Batch) error {
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer l.mu.Unlock()
	return l.check(b)
}

func (l *Ledger) fence(b partition.Batch) (there bool, err error) {
	var lost []int
	numbers := b.FirstEvents()
	moving, moved := 0, 0
	for _, a := range b.Partitions {
		row := &l.partitions[a.P]
		stays, there := a.From == a.InputSeq, a.InputSeq == row.InputSeq && a.EventN == row.EventN
		if !stays {
			moving++
		}
		switch {
		case a.Epoch != row.Epoch || !there && (stays || a.From != row.InputSeq || numbers[a.P] > 0 && numbers[a.P] != row.EventN+1):
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

// eventRow is an event with the commit that wrote it.
type eventRow struct {
	partition.EventRow
	commit int
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
	for _, c := range b.Compensations {
		if _, err := l.Compile(c.Definition); err != nil || !isUUID(c.ID) {
			return fmt.Errorf("%w: compensation %q: %w", partition.ErrRefused, c.ID, err)
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
	l.commits++
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
		x.lastInput, x.startedAt, x.completedAt, x.sleepsUntil = r.LastInput, r.StartedAt, r.CompletedAt, r.SleepsUntil
	}
	for _, r := range b.Steps {
		if x := l.executions[r.ExecutionID]; x != nil {
			row := stepRow{Row: r.Row, sent: r.Sent}
			row.Row = row.copied()
			x.steps[r.Place] = row
		}
	}
	for _, e := range b.Events {
		e.Body = bytes.Clone(e.Body)
		for _, key := range keysOf(e) {
			l.taken[key] = true
		}
		l.events[e.P] = append(l.events[e.P], eventRow{e, l.commits})
	}
	for _, c := range l.commands {
		for _, row := range b.Commands {
			if row.ID == c.ID {
				if c.applied == 0 {
					c.applied = l.commits
				}
				c.kept = row.Kept
			}
		}
	}
	for _, c := range b.Compensations {
		def, _ := l.Compile(c.Definition)           // by check
		x, err := execution.AcceptedCompensation(c) // the definition is one that was stored
		if err == nil && l.executions[x.ID] == nil {
			l.executions[x.ID] = newExecutionRow(x, def)
		}
	}
	for _, d := range b.DeadLetters {
		d.Headers, d.Body = maps.Clone(d.Headers), bytes.Clone(d.Body)
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
	last := 0
	for _, e := range l.events[p] {
		if e.N > after && (len(out) < limit || e.commit == last) {
			last, e.Body = e.commit, bytes.Clone(e.Body)
			out = append(out, e.EventRow)
		}
	}
	return out, nil
}

// Stopped implements partition.Ledger.
func (l *Ledger) Stopped(ctx context.Context, ps []int, age time.Duration) ([]partition.StoppedAttempt, error) {
	if err := l.lock(ctx); err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	var out []partition.StoppedAttempt
	until := engine.TimeOf(l.Now().Add(-age))
	for _, x := range l.rows(func(x *executionRow) bool { return slices.Contains(ps, x.p) }) {
		for _, p := range slices.SortedFunc(maps.Keys(x.steps), byPlace) {
			if row := x.steps[p]; row.Status == orchestrator.StepCancelled && row.sent > 0 && (age == 0 || row.CompletedAt <= until) {
				out = append(out, partition.StoppedAttempt{ExecutionID: x.id, Place: p, Token: row.Token, Sent: row.sent})
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
		if row, begun := x.steps[a.Place]; begun && row.sent == a.Sent {
			row.sent = 0
			x.steps[a.Place] = row
		}
	}
	return nil
}
