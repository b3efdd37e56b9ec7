//go:build unix

package child

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
	// steady is how long a child works until its next end counts as the first one again.
	steady = 10 * time.Second
)

// Supervisor keeps one child running: who ends by itself is started again, after a pause that grows.
type Supervisor struct {
	Command  func() Command             // asked before each start; Output and Orphan are the supervisor's
	Ready    func(line string) bool     // tells whether a line of the child's output says that it works
	Line     func(pid int, line string) // is given every other line, whole and without its end
	Up       func(up Up)                // the child works
	Down     func(down Down)            // the child has ended by itself
	Patience time.Duration              // how long the first start may take
	Grace    time.Duration              // how long the child may take to stop until it is killed
}

// Up is a child that works.
type Up struct {
	PID   int
	Said  string // the line by which it told
	Again bool   // it did before, as another process
}

// Down is how a child ended by itself, and after which time it is started again.
type Down struct {
	PID   int    // 0 when it could not even be started
	How   string // like "was killed by SIGKILL"
	Again time.Duration
}

// StartError is a first start that came to nothing.
type StartError struct {
	How    string   // as in Down, or that it took too long
	Exited bool     // the child ended itself, with an exit code
	Last   []string // what it said last
}

func (e *StartError) Error() string { return "the child " + e.How + " at its first start" }

// Run starts the child and keeps it running until ctx ends; then it stops the child and returns when
// that has ended, with an error if it had to be killed. A first start that fails is a *StartError. Ready and Line are
// called from another goroutine than the rest; nothing is called after the return.
func (s Supervisor) Run(ctx context.Context) error {
	var pauses pauses
	for first := true; ; first = false {
		l := s.live(ctx, first)
		switch {
		case ctx.Err() != nil:
			return l.fault
		case first && !l.ready:
			return &StartError{How: l.how, Exited: l.exited, Last: l.last}
		}
		down := Down{PID: l.pid, How: l.how, Again: pauses.next(l.worked, rand.Float64())}
		s.Down(down)
		again := time.NewTimer(down.Again)
		select {
		case <-ctx.Done():
			again.Stop()
			return nil
		case <-again.C:
		}
	}
}

// pauses are those between an end and the next start: doubling, and never the same for children that died together.
type pauses struct{ failures int }

// next gives the pause after a child that worked so long; random is from 0 to 1.
func (p *pauses) next(worked time.Duration, random float64) time.Duration {
	if worked >= steady {
		p.failures = 0
	}
	longest := min(firstPause<<min(p.failures, 10), longestPause)
	p.failures++
	return longest/2 + time.Duration(random*float64(longest/2))
}

// life is one start of the child and what became of it.
type life struct {
	pid    int
	ready  bool
	worked time.Duration
	how    string
	exited bool
	last   []string
	fault  error // an ordered stop that was none
}

// live starts the child and returns when it has ended.
func (s Supervisor) live(ctx context.Context, first bool) life {
	p, out, err := s.launch()
	if err != nil {
		return life{how: "can not be started: " + err.Error()}
	}
	l := life{pid: p.PID()}
	up := out.ready
	var late <-chan time.Time
	if first {
		timer := time.NewTimer(s.Patience)
		defer timer.Stop()
		late = timer.C
	}
	var since time.Time
	works := func() {
		l.ready, since, up, late = true, time.Now(), nil, nil
		s.Up(Up{PID: l.pid, Said: out.said, Again: !first})
	}
	for {
		select {
		case <-up:
			works()
			continue
		case <-p.Done():
			l.last = out.drain()
			if !l.ready && out.saidReady() { // it worked for a moment
				works()
			}
			if l.ready {
				l.worked = time.Since(since)
			}
			l.how, l.exited = ending(p.Err())
		case <-late:
			p.Stop(0)
			l.last = out.drain()
			l.how = fmt.Sprintf("was not ready after %s", s.Patience)
		case <-ctx.Done():
			p.Stop(s.Grace, syscall.SIGTERM)
			l.last = out.drain()
			if signal, ok := signalled(p.Err()); ok && signal == syscall.SIGKILL {
				l.fault = fmt.Errorf("did not end within %s of SIGTERM and was killed", s.Grace)
			}
		}
		return l
	}
}

func (s Supervisor) launch() (*Process, *output, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	c := s.Command()
	// Its words reach nobody when we are gone, and the next start needs what it works on.
	c.Output, c.Orphan = w, syscall.SIGKILL
	p, err := Start(c)
	_ = w.Close()
	if err != nil {
		_ = r.Close()
		return nil, nil, err
	}
	return p, listen(r, s.Ready, func(line string) { s.Line(p.PID(), line) }), nil
}

// ending says how a process ended, and whether with an exit code.
func ending(err error) (how string, exited bool) {
	if signal, ok := signalled(err); ok {
		return "was killed by " + unix.SignalName(signal), false
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return "ended: " + err.Error(), false
	}
	code := 0
	if exit != nil {
		code = exit.ExitCode()
	}
	return fmt.Sprintf("ended with exit code %d", code), true
}

func signalled(err error) (syscall.Signal, bool) {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return 0, false
	}
	return status.Signal(), true
}
