package partitiontest

import (
	"context"
	"time"

	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
)

// Ledger gives a Store as the process reaches it.
func (p *Process) Ledger(s Store) Store { return faultyLedger{p, s} }

type faultyLedger struct {
	process *Process
	to      Store
}

type nothing = struct{}

func (l faultyLedger) do(ctx context.Context, what, about string, do func(context.Context) error) error {
	_, err := order(ctx, l.process, toLedger, what, about, func(ctx context.Context) (nothing, error) { return nothing{}, do(ctx) })
	return err
}

func (l faultyLedger) Secret(ctx context.Context) ([]byte, error) {
	return ask(ctx, l.process, toLedger, "Secret", "", l.to.Secret)
}

func (l faultyLedger) Heartbeat(ctx context.Context, owner string, lease time.Duration, published map[int]uint64) ([]int, []string, error) {
	type answer struct {
		held []int
		live []string
	}
	a, err := order(ctx, l.process, toLedger, "Heartbeat", "", func(ctx context.Context) (answer, error) {
		held, live, err := l.to.Heartbeat(ctx, owner, lease, published)
		return answer{held, live}, err
	})
	return a.held, a.live, err
}

func (l faultyLedger) Leave(ctx context.Context, owner string) error {
	return l.do(ctx, "Leave", "", func(ctx context.Context) error { return l.to.Leave(ctx, owner) })
}

func (l faultyLedger) Acquire(ctx context.Context, owner string, lease time.Duration, n int) ([]partition.Position, error) {
	return order(ctx, l.process, toLedger, "Acquire", "", func(ctx context.Context) ([]partition.Position, error) { return l.to.Acquire(ctx, owner, lease, n) })
}

func (l faultyLedger) Release(ctx context.Context, owner string, ps []int) error {
	return l.do(ctx, "Release", "", func(ctx context.Context) error { return l.to.Release(ctx, owner, ps) })
}

func (l faultyLedger) Positions(ctx context.Context, ps []int) ([]partition.Position, error) {
	return ask(ctx, l.process, toLedger, "Positions", number(ps[0]), func(ctx context.Context) ([]partition.Position, error) { return l.to.Positions(ctx, ps) })
}

func (l faultyLedger) Rebuild(ctx context.Context, p int, epoch int64, before uint64, created int64) (partition.Position, error) {
	return order(ctx, l.process, toLedger, "Rebuild", number(p), func(ctx context.Context) (partition.Position, error) {
		return l.to.Rebuild(ctx, p, epoch, before, created)
	})
}

func (l faultyLedger) Adopt(ctx context.Context, p int, epoch, created int64) error {
	return l.do(ctx, "Adopt", number(p), func(ctx context.Context) error { return l.to.Adopt(ctx, p, epoch, created) })
}

func (l faultyLedger) LoadLive(ctx context.Context, p int, until engine.Time) ([]partition.Loaded, error) {
	return ask(ctx, l.process, toLedger, "LoadLive", number(p), func(ctx context.Context) ([]partition.Loaded, error) { return l.to.LoadLive(ctx, p, until) })
}

func (l faultyLedger) Waking(ctx context.Context, p int, until engine.Time) (map[string]engine.Time, error) {
	return ask(ctx, l.process, toLedger, "Waking", number(p), func(ctx context.Context) (map[string]engine.Time, error) { return l.to.Waking(ctx, p, until) })
}

func (l faultyLedger) Load(ctx context.Context, ids []string) ([]partition.Loaded, error) {
	return ask(ctx, l.process, toLedger, "Load", ids[0], func(ctx context.Context) ([]partition.Loaded, error) { return l.to.Load(ctx, ids) })
}

func (l faultyLedger) Commit(ctx context.Context, b partition.Batch) ([]partition.Control, error) {
	return order(ctx, l.process, toLedger, "Commit", number(b.Partitions[0].P), func(ctx context.Context) ([]partition.Control, error) { return l.to.Commit(ctx, b) })
}

func (l faultyLedger) Rehearse(ctx context.Context, b partition.Batch) error {
	return l.do(ctx, "Rehearse", number(b.Partitions[0].P), func(ctx context.Context) error { return l.to.Rehearse(ctx, b) })
}

func (l faultyLedger) Events(ctx context.Context, p int, after uint64, limit int) ([]partition.EventRow, error) {
	return ask(ctx, l.process, toLedger, "Events", number(p), func(ctx context.Context) ([]partition.EventRow, error) {
		return l.to.Events(ctx, p, after, limit)
	})
}

func (l faultyLedger) Unseen(ctx context.Context, p int, age time.Duration) ([]partition.Control, error) {
	return ask(ctx, l.process, toLedger, "Unseen", number(p), func(ctx context.Context) ([]partition.Control, error) { return l.to.Unseen(ctx, p, age) })
}

func (l faultyLedger) Unapplied(ctx context.Context, ps []int, least, most time.Duration) ([]partition.Control, error) {
	return ask(ctx, l.process, toLedger, "Unapplied", "", func(ctx context.Context) ([]partition.Control, error) { return l.to.Unapplied(ctx, ps, least, most) })
}

func (l faultyLedger) Stopped(ctx context.Context, ps []int, age time.Duration) ([]partition.StoppedAttempt, error) {
	return ask(ctx, l.process, toLedger, "Stopped", number(len(ps)), func(ctx context.Context) ([]partition.StoppedAttempt, error) { return l.to.Stopped(ctx, ps, age) })
}

func (l faultyLedger) Cleared(ctx context.Context, attempts []partition.StoppedAttempt) error {
	return l.do(ctx, "Cleared", attempts[0].Token, func(ctx context.Context) error { return l.to.Cleared(ctx, attempts) })
}

func (l faultyLedger) Accept(ctx context.Context, executions []execution.Accepted) ([]execution.Outcome, []partition.Control, error) {
	type answer struct {
		outcomes []execution.Outcome
		inputs   []partition.Control
	}
	a, err := order(ctx, l.process, toLedger, "Accept", executions[0].ID, func(ctx context.Context) (answer, error) {
		outcomes, inputs, err := l.to.Accept(ctx, executions)
		return answer{outcomes, inputs}, err
	})
	return a.outcomes, a.inputs, err
}

func (l faultyLedger) AddCommands(ctx context.Context, commands []execution.Command) error {
	return l.do(ctx, "AddCommands", commands[0].ID, func(ctx context.Context) error { return l.to.AddCommands(ctx, commands) })
}

func (l faultyLedger) AddSignal(ctx context.Context, c execution.Command, key *execution.IdempotencyKey, admit func(execution.Standing) error) (execution.Outcome, error) {
	return order(ctx, l.process, toLedger, "AddSignal", c.ID, func(ctx context.Context) (execution.Outcome, error) { return l.to.AddSignal(ctx, c, key, admit) })
}

func (l faultyLedger) StorePayload(ctx context.Context, executionID string, payload []byte) (runner.Reference, error) {
	return order(ctx, l.process, toLedger, "StorePayload", executionID, func(ctx context.Context) (runner.Reference, error) {
		return l.to.StorePayload(ctx, executionID, payload)
	})
}

func (l faultyLedger) Payload(ctx context.Context, executionID string, ref runner.Reference) ([]byte, error) {
	return ask(ctx, l.process, toLedger, "Payload", executionID, func(ctx context.Context) ([]byte, error) { return l.to.Payload(ctx, executionID, ref) })
}

func (l faultyLedger) MissingPayloads(ctx context.Context, wanted []partition.PayloadID) (map[partition.PayloadID]bool, error) {
	return ask(ctx, l.process, toLedger, "MissingPayloads", wanted[0].ExecutionID, func(ctx context.Context) (map[partition.PayloadID]bool, error) {
		return l.to.MissingPayloads(ctx, wanted)
	})
}

func (l faultyLedger) ItemOutputs(ctx context.Context, executionID string, step, limit int) ([]engine.ItemOutput, error) {
	return ask(ctx, l.process, toLedger, "ItemOutputs", executionID+" "+number(step), func(ctx context.Context) ([]engine.ItemOutput, error) {
		return l.to.ItemOutputs(ctx, executionID, step, limit)
	})
}

func (l faultyLedger) Step(ctx context.Context, id, key string, iteration int) (engine.Task, bool, error) {
	type answer struct {
		task     engine.Task
		recorded bool
	}
	a, err := ask(ctx, l.process, toLedger, "Step", id+" "+key+" "+number(iteration), func(ctx context.Context) (answer, error) {
		task, recorded, err := l.to.Step(ctx, id, key, iteration)
		return answer{task, recorded}, err
	})
	return a.task, a.recorded, err
}

func (l faultyLedger) Ending(ctx context.Context, id string) (execution.Ending, bool, error) {
	type answer struct {
		ending execution.Ending
		found  bool
	}
	a, err := ask(ctx, l.process, toLedger, "Ending", id, func(ctx context.Context) (answer, error) {
		ending, found, err := l.to.Ending(ctx, id)
		return answer{ending, found}, err
	})
	return a.ending, a.found, err
}

func (l faultyLedger) Queue(ctx context.Context, id string) (execution.Queue, bool, error) {
	type answer struct {
		queue execution.Queue
		waits bool
	}
	a, err := ask(ctx, l.process, toLedger, "Queue", id, func(ctx context.Context) (answer, error) {
		queue, waits, err := l.to.Queue(ctx, id)
		return answer{queue, waits}, err
	})
	return a.queue, a.waits, err
}
