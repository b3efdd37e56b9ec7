//go:build unix

// Package child runs servers as child processes. A child stands in a process group of
// its own, so that Ctrl-C in a terminal reaches only us and the order of stopping is ours,
// and on Linux it is signalled when this process dies in any way.
package child

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Command says what to run.
type Command struct {
	Path   string
	Name   string // what the child is called in lists of processes; Path when empty
	Args   []string
	Dir    string
	Env    []string
	Stdin  string         // what the child reads, when not empty
	Output *os.File       // stdout and stderr; the null device when nil
	As     *Account       // nil: the user we are
	Orphan syscall.Signal // sent to the child when this process dies
}

// Process is a running child. It is safe for concurrent use.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error

	mu    sync.Mutex
	ended bool
}

// Start runs the command. The output of a child that may outlive us for a moment must be a file: a
// pipe to us would end it at its next word.
func Start(c Command) (*Process, error) {
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Dir, cmd.Env = c.Dir, c.Env
	if c.Name != "" {
		cmd.Args[0] = c.Name
	}
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	cmd.SysProcAttr = attributes(c.Orphan)
	if c.As != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(c.As.UID), Gid: uint32(c.As.GID)}
	}
	if c.Output != nil {
		cmd.Stdout, cmd.Stderr = c.Output, c.Output
	}
	if c.Stdin != "" {
		in, err := filled(c.Stdin)
		if err != nil {
			return nil, err
		}
		defer func() { _ = in.Close() }()
		cmd.Stdin = in
	}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends the orphan's signal when the thread that forked ends.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		err = cmd.Wait()
		p.mu.Lock()
		p.err, p.ended = err, true
		p.mu.Unlock()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("cannot run %s%s: %w", c.Path, c.As.suffix(), cause(err))
	}
	return p, nil
}

// filled is a pipe that holds a short text and ends there.
func filled(text string) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	_, err = w.WriteString(text)
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

// PID of the child.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the child ended; nil while it runs and after a clean exit.
func (p *Process) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Stop sends the signals one after another, giving the child the grace period after each,
// then kills what is left of its group. It returns when the child has ended. It may be repeated.
func (p *Process) Stop(grace time.Duration, signals ...syscall.Signal) {
	for _, s := range signals {
		p.signal(s)
		select {
		case <-p.done:
			return
		case <-time.After(grace):
		}
	}
	p.mu.Lock()
	if !p.ended {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
	p.mu.Unlock()
	<-p.done
}

func (p *Process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		_ = p.cmd.Process.Signal(s)
	}
}
