package partitiontest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
)

// Store is a ledger together with what fills and reads it: the part of execution.Store that
// the engine's work depends on.
type Store interface {
	partition.Ledger
	Accept(ctx context.Context, executions []execution.Accepted) ([]execution.Outcome, []partition.Control, error)
	Queue(ctx context.Context, id string) (q execution.Queue, waits bool, err error)
	AddCommands(ctx context.Context, commands []execution.Command) error
	AddSignal(ctx context.Context, c execution.Command, key *execution.IdempotencyKey, admit func(execution.Standing) error) (execution.Outcome, error)
	Step(ctx context.Context, id, key string, iteration int) (task engine.Task, recorded bool, err error)
	Ending(ctx context.Context, id string) (e execution.Ending, found bool, err error)
}

// Ledger is a Store in memory, by the contract of the orchestrator's schema; see Conform. Its
// fields are set before it is used. It is safe for concurrent use.
type Ledger struct {
	// Now is the ledger's clock: leases and ages go by it.
	Now func() time.Time
	// Compile makes what executions run of what was accepted.
	Compile func(catalog.Definition) (*engine.Definition, error)
	// Accepted, when set, is told of every execution that is accepted, with the limit that counts it. It must not block.
	Accepted func(execution.Accepted)
	// Refuse, when set, gives the reason why the data of a batch is rejected.
	Refuse func(partition.Batch) error
	// Committed, when set, is told of every batch that was written, in order. It must not block.
	Committed func(partition.Batch)
	// Stored, when set, is told of every payload that is stored. It must not block.
	Stored func(executionID string, payload []byte)
	// Settled, when set, is told after every accept and commit what Slots gives, and the inputs that follow. It must not block.
	Settled func(slots map[string]engine.Slot, wrong []string, follow []partition.Control)

	mu         sync.Mutex
	away       bool
	secret     []byte
	instances  map[string]time.Time // when each was seen
	partitions []partitionRow
	executions map[string]*executionRow
	events     [][]eventRow // of each partition, in the order of their numbers
	taken      map[eventKey]bool
	commands   []*commandRow
	commits    int
	keys       map[[3]string]keyRow
	groups     map[groupID]*group
	slots      map[string]*slotRow // by execution
	dead       []partition.DeadLetter
	payloads   map[partition.PayloadID][]byte
}

type partitionRow struct {
	partition.Position
	leasedUntil time.Time
}

type commandRow struct {
	execution.Command
	createdAt time.Time
	applied   int // the commit that did; 0 for none yet
	kept      uint64
}

type keyRow struct {
	bodyHash  string
	execution string
	createdAt time.Time
}

// NewLedger makes an empty ledger whose tokens are made with secret.
func NewLedger(secret []byte) *Ledger {
	l := &Ledger{
		Now: time.Now, Compile: engine.Compile, secret: slices.Clone(secret), instances: map[string]time.Time{},
		partitions: make([]partitionRow, subject.Partitions), executions: map[string]*executionRow{},
		events: make([][]eventRow, subject.Partitions), taken: map[eventKey]bool{}, keys: map[[3]string]keyRow{}, payloads: map[partition.PayloadID][]byte{},
		groups: map[groupID]*group{}, slots: map[string]*slotRow{},
	}
	for p := range l.partitions {
		l.partitions[p].P = p
	}
	return l
}

// SetAway makes every call fail with DEPENDENCY_UNAVAILABLE until it is set back.
func (l *Ledger) SetAway(away bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = away
}

// DeadLetters gives the inputs that could not be applied.
func (l *Ledger) DeadLetters() []partition.DeadLetter {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.dead)
}

// lock begins a transaction; the caller ends it with l.mu.Unlock unless it fails.
func (l *Ledger) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	if l.away {
		l.mu.Unlock()
		return errs.New(errs.DependencyUnavailable, "the ledger is away; try again")
	}
	return nil
}

// Secret implements partition.Ledger.
func (l *Ledger) Secret(ctx context.Context) ([]byte, error) {
	if err := l.lock(ctx); err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	return slices.Clone(l.secret), nil
}

// Heartbeat implements partition.Ledger.
func (l *Ledger) Heartbeat(ctx context.Context, owner string, lease time.Duration, published map[int]uint64) (held []int, live []string, err error) {
	if err := l.lock(ctx); err != nil {
		return nil, nil, err
	}
	defer l.mu.Unlock()
	now := l.Now()
	l.instances[owner] = now
	for id, seen := range l.instances {
		if now.Sub(seen) > 24*time.Hour {
			delete(l.instances, id)
		} else if now.Sub(seen) < lease {
			live = append(live, id)
		}
	}
	for p := range l.partitions {
		row := &l.partitions[p]
		n, works := published[p]
		if !works || row.Owner != owner {
			continue
		}
		row.leasedUntil = now.Add(lease)
		row.PublishedN = max(row.PublishedN, n)
		held = append(held, p)
	}
	return held, live, nil
}

// Leave implements partition.Ledger.
func (l *Ledger) Leave(ctx context.Context, owner string) error {
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer l.mu.Unlock()
	delete(l.instances, owner)
	return nil
}

// Acquire implements partition.Ledger.
func (l *Ledger) Acquire(ctx context.Context, owner string, lease time.Duration, n int) ([]partition.Position, error) {
	if err := l.lock(ctx); err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	now := l.Now()
	var taken []partition.Position
	for p := range l.partitions {
		row := &l.partitions[p]
		if len(taken) >= n || !row.leasedUntil.Before(now) {
			continue
		}
		row.Owner, row.leasedUntil, row.Epoch = owner, now.Add(lease), l.nextEpoch(row.Epoch)
		taken = append(taken, row.Position)
	}
	return taken, nil
}

func (l *Ledger) nextEpoch(epoch int64) int64 { return max(epoch+1, l.Now().UnixMilli()) }

// Release implements partition.Ledger.
func (l *Ledger) Release(ctx context.Context, owner string, ps []int) error {
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer l.mu.Unlock()
	for _, p := range ps {
		if row := &l.partitions[p]; row.Owner == owner {
			row.Owner, row.leasedUntil = "", time.Time{}
		}
	}
	return nil
}

// Positions implements partition.Ledger.
func (l *Ledger) Positions(ctx context.Context, ps []int) ([]partition.Position, error) {
	if err := l.lock(ctx); err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	var out []partition.Position
	for p := range l.partitions {
		if slices.Contains(ps, p) {
			out = append(out, l.partitions[p].Position)
		}
	}
	return out, nil
}

// Rebuild implements partition.Ledger.
func (l *Ledger) Rebuild(ctx context.Context, p int, epoch int64, before uint64, created int64) (partition.Position, error) {
	if err := l.lock(ctx); err != nil {
		return partition.Position{}, err
	}
	defer l.mu.Unlock()
	row := &l.partitions[p]
	if row.Epoch != epoch {
		return partition.Position{}, &partition.FencedError{Partitions: []int{p}}
	}
	row.Epoch = l.nextEpoch(row.Epoch)
	row.Generation = row.Epoch
	row.InputSeq, row.InputTime, row.StreamCreated = before, 0, created
	return row.Position, nil
}

// Adopt implements partition.Ledger.
func (l *Ledger) Adopt(ctx context.Context, p int, epoch, created int64) error {
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer l.mu.Unlock()
	if row := &l.partitions[p]; row.Epoch == epoch && row.StreamCreated == 0 {
		row.StreamCreated = created
	}
	return nil
}

// Unseen implements partition.Ledger.
func (l *Ledger) Unseen(ctx context.Context, p int, age time.Duration) ([]partition.Control, error) {
	if err := l.lock(ctx); err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	now := l.Now()
	until := now.Add(-age)
	var pending []*executionRow
	for _, x := range l.executions {
		fresh := x.createdAt.After(until) && !x.createdAt.After(now)
		queued := l.slots[x.id] != nil && l.slots[x.id].state == engine.SlotWaiting
		if x.p == p && x.status == orchestrator.ExecutionPending && !fresh && !queued {
			pending = append(pending, x)
		}
	}
	slices.SortFunc(pending, func(a, b *executionRow) int {
		return cmp.Or(a.createdAt.Compare(b.createdAt), cmp.Compare(a.id, b.id))
	})
	var out []partition.Control
	for _, x := range pending {
		out = append(out, partition.Control{P: p, Kind: engine.Submitted, ExecutionID: x.id})
	}
	commands, err := l.unapplied([]int{p}, time.Time{}, until)
	return append(out, commands...), err
}

// Unapplied implements partition.Ledger.
func (l *Ledger) Unapplied(ctx context.Context, ps []int, least, most time.Duration) ([]partition.Control, error) {
	if err := l.lock(ctx); err != nil {
		return nil, err
	}
	defer l.mu.Unlock()
	return l.unapplied(ps, l.Now().Add(-most), l.Now().Add(-least))
}

func (l *Ledger) unapplied(ps []int, from, to time.Time) ([]partition.Control, error) {
	var out []partition.Control
	for _, c := range l.commands {
		if slices.Contains(ps, c.Partition) && c.applied == 0 && !c.createdAt.Before(from) && !c.createdAt.After(to) {
			control, err := c.Control()
			if err != nil {
				return nil, err
			}
			out = append(out, control)
		}
	}
	return out, nil
}

// Accept implements execution.Store.
func (l *Ledger) Accept(ctx context.Context, executions []execution.Accepted) ([]execution.Outcome, []partition.Control, error) {
	if err := l.lock(ctx); err != nil {
		return nil, nil, err
	}
	defer l.mu.Unlock()
	outcomes := make([]execution.Outcome, len(executions))
	compiled := make([]*engine.Definition, len(executions))
	for i, x := range executions {
		var err error
		if compiled[i], err = l.Compile(x.Definition); err != nil {
			return nil, nil, err
		}
		outcomes[i] = l.outcome(x)
	}
	var limited []execution.Accepted
	for i, x := range executions {
		if outcomes[i].Replayed {
			continue
		}
		if x.Key != nil {
			l.keys[[3]string{x.Key.UserID, x.Key.Route, x.Key.Key}] = keyRow{string(x.Key.BodyHash), x.ID, l.Now()}
		}
		if l.executions[x.ID] != nil {
			continue
		}
		if !l.awaited(x) {
			outcomes[i].Obsolete = true
			continue
		}
		if x.Limit = l.limitOf(x); x.Limit != nil {
			limited = append(limited, x)
		}
		x.Inputs = l.inputsOf(x)
		l.executions[x.ID] = newExecutionRow(x, compiled[i])
		if l.Accepted != nil {
			l.Accepted(x)
		}
	}
	return outcomes, l.settled(l.takeSlots(limited, outcomes)), nil
}

// awaited tells whether somebody waits for an execution, if it is a child.
func (l *Ledger) awaited(x execution.Accepted) bool {
	if x.Parent == nil {
		return true
	}
	parent := l.executions[x.Parent.ExecutionID]
	if parent == nil {
		return false
	}
	row := parent.steps[x.Parent.Place]
	return row.Status == orchestrator.StepRunning && row.Token == x.Parent.Token
}

// Ending implements execution.Store.
func (l *Ledger) Ending(ctx context.Context, id string) (execution.Ending, bool, error) {
	if err := l.lock(ctx); err != nil {
		return execution.Ending{}, false, err
	}
	defer l.mu.Unlock()
	x := l.executions[id]
	if x == nil || !engine.Terminal(x.status) {
		return execution.Ending{}, x != nil, nil
	}
	state := x.load(nil, nil).Execution
	state.Payloads = func(ref runner.Reference) json.RawMessage {
		return bytes.Clone(l.payloads[partition.PayloadID{ExecutionID: id, Reference: ref}])
	}
	output, failure := state.Ending()
	return execution.Ending{Ended: true, Output: output, Failure: failure}, true, nil
}

func (l *Ledger) outcome(x execution.Accepted) execution.Outcome {
	if x.Key == nil {
		return execution.Outcome{ID: x.ID}
	}
	before, used := l.keys[[3]string{x.Key.UserID, x.Key.Route, x.Key.Key}]
	if !used || l.Now().Sub(before.createdAt) > 24*time.Hour {
		return execution.Outcome{ID: x.ID}
	}
	return execution.Outcome{ID: before.execution, Replayed: true, Conflict: before.bodyHash != string(x.Key.BodyHash)}
}

// AddCommands implements execution.Store.
func (l *Ledger) AddCommands(ctx context.Context, commands []execution.Command) error {
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer l.mu.Unlock()
	for _, c := range commands {
		if err := l.checkCommand(c); err != nil {
			return err
		}
	}
	for _, c := range commands {
		c.Name, c.Signal = "", nil
		l.commands = append(l.commands, &commandRow{Command: c, createdAt: l.Now()})
	}
	return nil
}

func (l *Ledger) checkCommand(c execution.Command) error {
	if !isUUID(c.ID) || slices.ContainsFunc(l.commands, func(r *commandRow) bool { return r.ID == c.ID }) {
		return fmt.Errorf("%w: command %q", partition.ErrRefused, c.ID)
	}
	return nil
}

// AddSignal implements execution.Store. It knows no keys.
func (l *Ledger) AddSignal(ctx context.Context, c execution.Command, _ *execution.IdempotencyKey, admit func(execution.Standing) error) (execution.Outcome, error) {
	if err := l.lock(ctx); err != nil {
		return execution.Outcome{}, err
	}
	defer l.mu.Unlock()
	x := l.executions[c.ExecutionID]
	if x == nil {
		return execution.Outcome{}, errs.New(errs.NotFound, "execution not found")
	}
	if err := l.checkCommand(c); err != nil {
		return execution.Outcome{}, err
	}
	now := execution.Standing{Status: x.status}
	if slot := l.slots[x.id]; slot != nil && slot.state == engine.SlotDropped {
		now.Status = orchestrator.ExecutionCancelled
	}
	for _, r := range l.commands {
		if r.ExecutionID != x.id || r.Kind != execution.CommandSignal {
			continue
		}
		if r.applied == 0 || r.kept > 0 {
			now.Kept++
		}
		if r.Name == c.Name {
			now.Named++
		}
	}
	if err := admit(now); err != nil {
		return execution.Outcome{}, err
	}
	l.commands = append(l.commands, &commandRow{Command: c, createdAt: l.Now()})
	return execution.Outcome{ID: c.ID}, nil
}

// Step implements execution.Store.
func (l *Ledger) Step(ctx context.Context, id, key string, iteration int) (engine.Task, bool, error) {
	if err := l.lock(ctx); err != nil {
		return engine.Task{}, false, err
	}
	defer l.mu.Unlock()
	x := l.executions[id]
	if x == nil {
		return engine.Task{}, false, errs.New(errs.NotFound, "execution not found")
	}
	i, ok := x.def.StepIndex(key)
	if !ok {
		return engine.Task{}, false, errs.New(errs.NotFound, "step not found")
	}
	row, begun := x.steps[engine.Place{Step: i, Iteration: iteration}]
	if !begun {
		return engine.Task{Status: orchestrator.StepPending}, x.completedAt != 0, nil
	}
	return row.Task, true, nil
}

// isUUID tells whether id is a UUID as the ledger writes it.
func isUUID(id string) bool {
	parsed, err := uuid.Parse(id)
	return err == nil && parsed.String() == id
}
