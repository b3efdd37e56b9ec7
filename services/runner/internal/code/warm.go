package code

import (
	"context"
	"time"

	"turbocat.io/services/runner/internal/code/frame"
	"turbocat.io/services/runner/internal/code/jail"
)

// maxIdle bounds the sandboxes that wait for a job.
const maxIdle = 16

// startTimeout bounds the start of a sandbox. That takes milliseconds, but on a starved host seconds, and there a step, or a runner that tries at its
// start whether it can jail, is not to fail for it: to begin anew would take as long.
const startTimeout = time.Minute

// sandbox is a process for one job.
type sandbox struct {
	child  *jail.Child
	frames *frame.Reader
	pooled bool // it was started by Warm
}

// Warm keeps up to n sandboxes ready until ctx ends, and leaves none. Without it each attempt starts its own.
//
// Those at work count, so that the next one is started when an attempt has ended: one after the other, they have at
// most one processor of those that run.
func (e *Executor) Warm(ctx context.Context, n int) {
	if e.missing != nil {
		return
	}
	for range min(n, maxIdle) {
		e.room <- struct{}{}
	}
	defer e.drain()
	for {
		select {
		case <-e.room:
		case <-ctx.Done():
			return
		}
		s, err := e.start(ctx)
		if err != nil {
			// Attempts say why; here it is tried again when the host may have come to itself.
			e.room <- struct{}{}
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return
			}
			continue
		}
		s.pooled = true
		e.idle <- s
	}
}

// drain ends the sandboxes that wait.
func (e *Executor) drain() {
	for {
		select {
		case s := <-e.idle:
			s.child.Close()
		default:
			return
		}
	}
}

// take gives a sandbox with its jail closed, or ctx.Err(), or why there is none.
func (e *Executor) take(ctx context.Context, limits jail.Limits) (*sandbox, error) {
	for {
		s, err := e.next(ctx)
		if err != nil {
			return nil, err
		}
		if err = s.close(ctx, limits); err == nil {
			return s, nil
		}
		e.replace(s)
		// One that died while it waited, say for want of memory, fails nobody.
		if !s.pooled || ctx.Err() != nil {
			return nil, err
		}
	}
}

func (e *Executor) next(ctx context.Context) (*sandbox, error) {
	select {
	case s := <-e.idle:
		return s, nil
	default:
		return e.start(ctx)
	}
}

// replace tells Warm that a sandbox has ended.
func (e *Executor) replace(s *sandbox) {
	if s.pooled {
		e.room <- struct{}{}
	}
}

// start gives a sandbox that waits for its limits, or ctx.Err(), or why there is none.
func (e *Executor) start(ctx context.Context) (*sandbox, error) {
	child, err := jail.Start(e.program, sandboxWord)
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
