package code

import (
	"context"
	"sync"
	"time"

	"turbocat.io/services/runner/internal/code/frame"
	"turbocat.io/services/runner/internal/jail"
)

// maxIdle bounds the sandboxes that wait for a job, maxIdlePython those of Python.
const maxIdle, maxIdlePython = 16, 2

// startTimeout bounds the start of a sandbox. That takes milliseconds, but on a starved host seconds, and there a step, or a runner that tries at its
// start whether it can jail, is not to fail for it: to begin anew would take as long.
const startTimeout = time.Minute

// sandbox is a process for one job.
type sandbox struct {
	child  *jail.Child
	frames *frame.Reader
	pooled bool // it was started by Warm
}

// nursery starts the sandboxes of one interpreter, and keeps some ready.
type nursery struct {
	begin  func() (*jail.Child, error)
	idle   chan *sandbox // sandboxes without a job
	room   chan struct{} // has an entry for each that is missing
	wanted chan struct{} // closed when there is a reason to have some ready
	want   func()        // closes it
}

func newNursery(begin func() (*jail.Child, error)) *nursery {
	n := &nursery{begin: begin, idle: make(chan *sandbox, maxIdle), room: make(chan struct{}, maxIdle), wanted: make(chan struct{})}
	n.want = sync.OnceFunc(func() { close(n.wanted) })
	return n
}

// Warm keeps up to most sandboxes ready until ctx ends, and leaves none: of Python at most maxIdlePython, from the first attempt
// that needs one on. Without it each attempt starts its own.
//
// Those at work count, so that the next one is started when an attempt has ended: one after the other, they have at
// most one processor of those that run.
func (e *Executor) Warm(ctx context.Context, most int) {
	if e.missing != nil {
		return
	}
	var kept sync.WaitGroup
	e.scripts.want()
	kept.Go(func() { e.scripts.keep(ctx, most) })
	if e.pythonMissing == nil {
		kept.Go(func() { e.python.keep(ctx, min(most, maxIdlePython)) })
	}
	kept.Wait()
}

// keep keeps up to most sandboxes ready until ctx ends, and leaves none.
func (n *nursery) keep(ctx context.Context, most int) {
	for range min(most, maxIdle) {
		n.room <- struct{}{}
	}
	defer n.drain()
	select {
	case <-n.wanted:
	case <-ctx.Done():
		return
	}
	for {
		select {
		case <-n.room:
		case <-ctx.Done():
			return
		}
		s, err := n.start(ctx)
		if err != nil {
			// Attempts say why; here it is tried again when the host may have come to itself.
			n.room <- struct{}{}
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return
			}
			continue
		}
		s.pooled = true
		n.idle <- s
	}
}

// drain ends the sandboxes that wait.
func (n *nursery) drain() {
	for {
		select {
		case s := <-n.idle:
			s.child.Close()
		default:
			return
		}
	}
}

// take gives a sandbox with its jail closed, or ctx.Err(), or why there is none.
func (n *nursery) take(ctx context.Context, limits jail.Limits) (*sandbox, error) {
	n.want()
	for {
		s, err := n.next(ctx)
		if err != nil {
			return nil, err
		}
		if err = s.close(ctx, limits); err == nil {
			return s, nil
		}
		n.replace(s)
		// One that died while it waited, say for want of memory, fails nobody.
		if !s.pooled || ctx.Err() != nil {
			return nil, err
		}
	}
}

func (n *nursery) next(ctx context.Context) (*sandbox, error) {
	select {
	case s := <-n.idle:
		return s, nil
	default:
		return n.start(ctx)
	}
}

// replace tells keep that a sandbox has ended.
func (n *nursery) replace(s *sandbox) {
	if s.pooled {
		n.room <- struct{}{}
	}
}

// probe tries once whether there can be a sandbox with the limits.
func (n *nursery) probe(limits jail.Limits) error {
	s, err := n.start(context.Background())
	if err != nil {
		return err
	}
	defer s.child.Close()
	return s.close(context.Background(), limits)
}

// start gives a sandbox that waits for its limits, or ctx.Err(), or why there is none.
func (n *nursery) start(ctx context.Context) (*sandbox, error) {
	child, err := n.begin()
	if err != nil {
		return nil, err
	}
	s := &sandbox{child: child, frames: frame.NewReader(child.Result, answers)}
	if err := s.await(ctx, frame.Ready); err != nil {
		return nil, err
	}
	return s, nil
}

// close closes the jail.
func (s *sandbox) close(ctx context.Context, limits jail.Limits) error {
	if err := s.child.Bound(limits.Memory); err != nil {
		return died("the sandbox can not be bounded", err, s.child.Close())
	}
	// A sandbox that is dead can not be written to, and says nothing.
	_ = writeLimits(s.child.Job, limits)
	return s.await(ctx, frame.Jailed)
}

// await waits until the sandbox says that it has come as far as the kind tells. After an error it is no more.
func (s *sandbox) await(ctx context.Context, kind frame.Kind) error {
	bounded, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	defer context.AfterFunc(bounded, s.child.Kill)()
	_, err := await(s.frames, kind)
	if err == nil {
		return nil
	}
	exit := s.child.Close()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return died("the sandbox did not start", err, exit)
}
