package partitiontest

import (
	"context"
	"strconv"
	"time"

	"turbocat.io/contracts/errs"
)

// request is one call over a link, by what it is and what it is about.
type request struct {
	*Process
	link        link
	what, about string
}

func (r request) incident(what string) { r.note(Incident{r.name, r.what, r.about, what}) }

func (r request) unavailable() error {
	return errs.New(errs.DependencyUnavailable, "%s does not answer; try again", r.link)
}

// nth is the fate of the next call about this.
func (r request) nth() fate {
	return newFate(r.chance.Draw(r.name, r.what, r.about), r.faults[r.link]())
}

// now is the fate of a call about this at this moment. Several partitions may ask the same at
// the same moment; as none is told from another, all fare alike.
func (r request) now() fate {
	return newFate(r.chance.Same(r.name, r.what, r.about, time.Since(r.begun).String()), r.faults[r.link]())
}

// ask has no effect and waits for its answer.
func ask[T any](ctx context.Context, p *Process, l link, what, about string, do func(context.Context) (T, error)) (T, error) {
	r := request{p, l, what, about}
	return call(ctx, r, r.now, do, nil)
}

// order waits for its answer. What it does may still be done when nobody waits for it any more.
func order[T any](ctx context.Context, p *Process, l link, what, about string, do func(context.Context) (T, error)) (T, error) {
	r := request{p, l, what, about}
	return call(ctx, r, r.nth, do, func() { _, _ = do(context.WithoutCancel(ctx)) })
}

func call[T any](ctx context.Context, r request, draw func() fate, do func(context.Context) (T, error), orphaned func()) (T, error) {
	var none T
	if err := r.Await(); err != nil {
		return none, err
	}
	if err := ctx.Err(); err != nil {
		return none, err
	}
	f, sent := draw(), time.Now()
	if err := r.wait(ctx, f.before); err != nil {
		if orphaned != nil && f.survives && !f.fail && !r.isCut(r.link) {
			r.incident("is under way although nobody waits for it any more")
			time.AfterFunc(f.before-time.Since(sent), orphaned)
		}
		return none, err
	}
	if f.fail || r.isCut(r.link) {
		r.incident("fails")
		return none, r.unavailable()
	}
	out, err := do(ctx)
	if werr := r.wait(ctx, f.after); werr != nil {
		return none, werr
	}
	if f.lose && err == nil {
		r.incident("is done, and its answer lost")
		return none, r.unavailable()
	}
	return out, err
}

// publication is a message that is sent without waiting; done is told of the outcome.
type publication struct {
	request
	fate
	send func(done func(seq uint64, err error))
	done func(seq uint64, err error)
}

// publish sends something. What has the same order arrives in the order in which it was sent,
// "" being none.
func (p *Process) publish(what, about, order string, send func(done func(seq uint64, err error)), done func(seq uint64, err error)) {
	r := request{p, toJetStream, what, about}
	x := publication{request: r, fate: r.nth(), send: send, done: done}
	if order != "" {
		x.before = p.inOrder(order, x.before)
	}
	go x.run()
}

// inOrder gives how long something takes that must not arrive before what was sent before it.
func (p *Process) inOrder(order string, takes time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	arrival := now.Add(takes)
	if last := p.last[order]; !arrival.After(last) {
		arrival = last.Add(1)
	}
	p.last[order] = arrival
	return arrival.Sub(now)
}

func (x publication) run() {
	if x.Await() != nil {
		return
	}
	begun := time.Now()
	if x.wait(context.Background(), x.before) != nil {
		if x.survives && !x.fail && !x.drop && !x.isCut(x.link) {
			x.incident("arrives after the death of its sender")
			x.again(x.before - time.Since(begun))
		}
		return
	}
	seq, err := x.arrive()
	after := x.after
	if err != nil && !x.fail {
		after = max(0, publishTimeout+x.after-time.Since(begun)) // it is waited for in vain
	}
	if x.wait(context.Background(), after) == nil {
		x.done(seq, err)
	}
}

// arrive gives what the sender is told.
func (x publication) arrive() (uint64, error) {
	switch {
	case x.fail:
		x.incident("fails")
		return 0, x.unavailable()
	case x.drop:
		x.incident("is dropped")
		return 0, x.unavailable()
	case x.late > 0:
		x.incident("arrives late, after " + x.late.String())
		x.again(x.late)
		return 0, x.unavailable()
	case x.isCut(x.link):
		return 0, x.unavailable()
	}
	if x.twice > 0 {
		x.incident("arrives again, after " + x.twice.String())
		x.again(x.twice)
	}
	type outcome struct {
		seq uint64
		err error
	}
	outcomes := make(chan outcome, 1)
	x.send(func(seq uint64, err error) { outcomes <- outcome{seq, err} })
	got := <-outcomes
	switch {
	case got.err != nil && x.survives:
		x.incident("is kept until the server is back")
		x.again(x.before + x.after + 20*time.Second)
	case got.err == nil && x.lose:
		x.incident("is done, and its answer lost")
		return 0, x.unavailable()
	case got.err == nil && x.after >= publishTimeout:
		return 0, x.unavailable()
	}
	return got.seq, got.err
}

// again lets the message arrive after d, whoever lives then.
func (x publication) again(d time.Duration) {
	time.AfterFunc(d, func() { x.send(func(uint64, error) {}) })
}

func number(n int) string { return strconv.Itoa(n) }
