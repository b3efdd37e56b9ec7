package partitiontest

import (
	"context"
	"strconv"
	"time"

	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
)

// Transport gives a partition.Transport as the process reaches it.
func (p *Process) Transport(t partition.Transport) partition.Transport { return faultyTransport{p, t} }

type faultyTransport struct {
	process *Process
	to      partition.Transport
}

func (t faultyTransport) Ensure(ctx context.Context) (partition.Streams, error) {
	return ask(ctx, t.process, toJetStream, "Ensure", "", t.to.Ensure)
}

func (t faultyTransport) TimeAt(ctx context.Context, seq uint64) (int64, bool, error) {
	type answer struct {
		ns    int64
		found bool
	}
	a, err := ask(ctx, t.process, toJetStream, "TimeAt", strconv.FormatUint(seq, 10), func(ctx context.Context) (answer, error) {
		ns, found, err := t.to.TimeAt(ctx, seq)
		return answer{ns, found}, err
	})
	return a.ns, a.found, err
}

func (t faultyTransport) LastInput(ctx context.Context, p int) (uint64, error) {
	return ask(ctx, t.process, toJetStream, "LastInput", number(p), func(ctx context.Context) (uint64, error) { return t.to.LastInput(ctx, p) })
}

func (t faultyTransport) Purge(ctx context.Context, seq uint64) error {
	_, err := order(ctx, t.process, toJetStream, "Purge", "", func(ctx context.Context) (nothing, error) { return nothing{}, t.to.Purge(ctx, seq) })
	return err
}

func (t faultyTransport) Send(m partition.StepMessage, done func(seq uint64, err error)) {
	about := m.ExecutionID + " " + m.StepKey
	if m.Iteration > 0 {
		about += " " + number(m.Iteration)
	}
	t.process.publish("Send", about, "", func(done func(uint64, error)) { t.to.Send(m, done) }, done)
}

func (t faultyTransport) Append(c partition.Control, done func(err error)) {
	t.process.publish("Append", c.ExecutionID+" "+strconv.Itoa(int(c.Kind))+" "+c.Step, "",
		func(done func(uint64, error)) { t.to.Append(c, func(err error) { done(0, err) }) }, func(_ uint64, err error) { done(err) })
}

// Publish keeps the order, as a connection does for each subject that it publishes on.
func (t faultyTransport) Publish(events []partition.EventRow, done func(err error)) {
	first := events[0]
	t.process.publish("Publish", number(first.P)+" "+strconv.FormatUint(first.N, 10), number(first.P),
		func(done func(uint64, error)) { t.to.Publish(events, func(err error) { done(0, err) }) }, func(_ uint64, err error) { done(err) })
}

func (t faultyTransport) StepAt(ctx context.Context, seq uint64) (string, bool, error) {
	type answer struct {
		token string
		found bool
	}
	a, err := ask(ctx, t.process, toJetStream, "StepAt", strconv.FormatUint(seq, 10), func(ctx context.Context) (answer, error) {
		token, found, err := t.to.StepAt(ctx, seq)
		return answer{token, found}, err
	})
	return a.token, a.found, err
}

func (t faultyTransport) StopAttempt(ctx context.Context, token string, seq uint64) error {
	_, err := order(ctx, t.process, toJetStream, "StopAttempt", token, func(ctx context.Context) (nothing, error) {
		return nothing{}, t.to.StopAttempt(ctx, token, seq)
	})
	return err
}

func (t faultyTransport) Warn(x *engine.Execution, w engine.Warning) { t.to.Warn(x, w) }

func (t faultyTransport) Read(ctx context.Context, p int, from uint64) (partition.Reader, error) {
	var opened partition.Reader
	r, err := ask(ctx, t.process, toJetStream, "Read", number(p), func(ctx context.Context) (partition.Reader, error) {
		var err error
		opened, err = t.to.Read(ctx, p, from)
		return opened, err
	})
	if err != nil {
		if opened != nil { // its answer was lost
			opened.Close()
		}
		return nil, err
	}
	out := &faultyReader{
		Reader: r, process: t.process, p: p, messages: make(chan partition.Message, 64), resets: make(chan struct{}, 1),
		closing: make(chan struct{}), done: make(chan struct{}),
	}
	go out.run()
	return out, nil
}

// faultyReader gives what another reader gives, later.
type faultyReader struct {
	partition.Reader
	process  *Process
	p        int
	messages chan partition.Message
	resets   chan struct{}
	closing  chan struct{}
	done     chan struct{}
}

func (r *faultyReader) Messages() <-chan partition.Message { return r.messages }
func (r *faultyReader) Resets() <-chan struct{}            { return r.resets }

func (r *faultyReader) run() {
	defer close(r.done)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-r.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.process.died:
			return
		case m := <-r.Reader.Messages():
			if !r.pass(ctx, "read", strconv.FormatUint(m.Seq, 10)) {
				return
			}
			select {
			case r.messages <- m:
			case <-ctx.Done():
				return
			}
		case <-r.Reader.Resets():
			if !r.pass(ctx, "reset", "") || r.process.wait(ctx, r.noticed()) != nil {
				return
			}
			select {
			case r.resets <- struct{}{}:
			default:
			}
		}
	}
}

// pass returns once the process may be given something, false when it may not any more.
func (r *faultyReader) pass(ctx context.Context, what, about string) bool {
	f := request{r.process, toJetStream, what, number(r.p) + " " + about}.nth()
	if r.process.wait(ctx, f.before/8) != nil {
		return false
	}
	for r.process.isCut(toJetStream) {
		if r.process.wait(ctx, 100*time.Millisecond) != nil {
			return false
		}
	}
	return true
}

// noticed is how long it takes until the reader knows that it has nobody to read from.
func (r *faultyReader) noticed() time.Duration {
	chance := r.process.chance.Draw(r.process.name, "noticed", number(r.p))
	if chance.IntN(2) == 0 {
		return lag(chance)
	}
	return time.Duration(chance.Int64N(int64(8 * time.Second)))
}

func (r *faultyReader) Idle(ctx context.Context) (upTo uint64, at int64, delivered uint64, ok bool, err error) {
	type answer struct {
		upTo      uint64
		at        int64
		delivered uint64
		ok        bool
	}
	a, err := ask(ctx, r.process, toJetStream, "Idle", number(r.p), func(ctx context.Context) (answer, error) {
		upTo, at, delivered, ok, err := r.Reader.Idle(ctx)
		return answer{upTo, at, delivered, ok}, err
	})
	return a.upTo, a.at, a.delivered, a.ok, err
}

func (r *faultyReader) Close() {
	select {
	case <-r.closing:
	default:
		close(r.closing)
	}
	<-r.done
	r.Reader.Close()
}
