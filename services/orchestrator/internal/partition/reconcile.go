package partition

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"turbocat.io/services/orchestrator/internal/engine"
)

// reconcile looks, in the background, for what was accepted and never applied, and for steps
// whose message is gone without a result. It only appends inputs; the log decides.
func (r *run) reconcile(ctx context.Context, age time.Duration) {
	if !r.reconciling.CompareAndSwap(false, true) {
		return
	}
	type sent struct {
		control Control
		seq     uint64
	}
	var steps []sent
	for _, l := range r.live {
		for p := range l.x.Awaiting() {
			t := l.x.Task(p)
			if seq := l.sends[p].sequence(); seq > 0 && (age == 0 || time.Since(l.sends[p].at) > lostAfter) {
				steps = append(steps, sent{Control{
					P: r.position.P, Kind: engine.StepLost, ExecutionID: l.x.ID, Step: l.x.Definition.Steps[p.Step].Key, Iteration: p.Iteration,
					Token: t.Token, Dispatch: t.Dispatch,
				}, seq})
			}
		}
	}
	slices.SortFunc(steps, func(a, b sent) int { return cmp.Compare(a.seq, b.seq) }) // the oldest first
	r.background.Go(func() {
		defer r.reconciling.Store(false)
		unseen, err := r.ledger.Unseen(ctx, r.position.P, age)
		if err != nil {
			r.log.Warn().Err(err).Msg("the reconciler can not read the ledger; it tries again")
		}
		if err == nil {
			r.unseen.Store(int64(len(unseen)))
		}
		for _, c := range unseen {
			r.append(c)
		}
		for _, s := range steps {
			token, found, err := r.transport.StepAt(ctx, s.seq)
			if err != nil {
				return // NATS is away; the next round looks again
			}
			if found && token == s.control.Token {
				continue
			}
			// A runner acks a step only after its result is in the log. So the result, if there
			// is one, stands before this input, which then changes nothing.
			r.append(s.control)
		}
	})
}

// followIdle moves the offset of a partition without inputs along, so that the log can be purged.
func (r *run) followIdle(ctx context.Context, reader Reader) {
	upTo, ns, delivered, ok, err := reader.Idle(ctx)
	if err != nil || !ok || delivered > r.seq || upTo <= r.seq {
		return
	}
	c := &change{run: r, from: r.seq, seq: upTo, time: ns, eventN: r.eventN, size: 64, made: time.Now()}
	r.seq, r.seqTime = upTo, ns
	r.uncommitted.Add(1)
	r.writer.add(c)
}

// appendUnseen puts into the log what a new owner is to know before it sends anything: what was accepted and is not there.
func (r *run) appendUnseen(ctx context.Context) error {
	unseen, err := r.ledger.Unseen(ctx, r.position.P, 0)
	if err != nil {
		return fmt.Errorf("read what partition %d has not seen: %w", r.position.P, err)
	}
	stored := make(chan error, len(unseen))
	for _, c := range unseen {
		r.transport.Append(c, func(err error) { stored <- err })
	}
	for range unseen {
		select {
		case err := <-stored:
			if err != nil {
				return fmt.Errorf("put what partition %d has not seen into the log: %w", r.position.P, err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (r *run) append(c Control) {
	r.transport.Append(c, func(err error) {
		if err != nil {
			r.log.Warn().Err(err).Str("executionId", c.ExecutionID).Msg("an input is not in the log yet; the reconciler repeats it")
		}
	})
}
