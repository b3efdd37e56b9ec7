// Package due works on what a store says is due, so much of it at a time.
package due

import (
	"context"
	"sync"
	"time"
)

// Queue has things that are due at times. Any number of processes may work on one: each thing is given to one of them for a while.
type Queue[T any] struct {
	Together int           // how many are worked on at once
	Every    time.Duration // after how long it is looked at the latest

	// Claim gives what is due, at most n, which nobody else is given before its lease is over.
	Claim func(ctx context.Context, n int) ([]T, error)
	// Until tells after how long something is due, at most the given time.
	Until func(ctx context.Context, most time.Duration) (time.Duration, error)
	// Work does it, whatever becomes of ctx, and tells whether more of it is due already.
	Work func(ctx context.Context, it T) (more bool)
	// Failed is told of a claim that failed; it is made again.
	Failed func(err error)
	// Woken tells that something may be due earlier than it was; nil when nothing does.
	Woken <-chan struct{}
}

// Run works until ctx ends; what it has begun then it does.
func (q Queue[T]) Run(ctx context.Context) {
	var working sync.WaitGroup
	defer working.Wait()
	done := make(chan bool, q.Together)
	for free := q.Together; ctx.Err() == nil; {
		claimed, err := q.Claim(ctx, free)
		if err != nil && ctx.Err() == nil {
			q.Failed(err)
		}
		for _, it := range claimed {
			working.Go(func() { done <- q.Work(context.WithoutCancel(ctx), it) })
		}
		free -= len(claimed)
		free += q.wait(ctx, free, done)
	}
}

// wait lets time pass until something is due and there is room for it. It gives how many were done meanwhile.
func (q Queue[T]) wait(ctx context.Context, free int, done <-chan bool) (n int) {
	pause, err := q.Until(ctx, q.Every)
	if err != nil {
		pause = q.Every
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	over, woken := timer.C, q.Woken
	if free == 0 {
		over, woken = nil, nil
	}
	for {
		select {
		case <-ctx.Done():
			return n
		case <-over:
			return n
		case <-woken:
			return n
		case more := <-done:
			n++
			if more || free == 0 {
				return n
			}
		}
	}
}
