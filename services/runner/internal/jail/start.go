//go:build linux && (amd64 || arm64)

package jail

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	nobody    = 65534
	maxStderr = 16 << 10
	// resultFD is the last descriptor of a child: the ones before it are stdin, /dev/null and stderr.
	resultFD = 3
)

// environment is all that a child has of it. On one processor a collector that runs beside
// the program saves nothing, and keeps garbage for longer; until main says otherwise it need not run.
var environment = []string{"GOMAXPROCS=1", "GODEBUG=gcstoptheworld=1", "GOGC=off", "TZ=UTC"}

// Child is a process in its jail. Its methods are safe for concurrent use.
type Child struct {
	Job    *os.File // what is written here the child reads from its standard input
	Result *os.File // what the child writes to its descriptor 3 is read here

	cmd     *exec.Cmd
	stderr  *head
	groups  Groups        // of its own
	starved bool          // it was killed for want of memory; set when it is reaped
	done    chan struct{} // closed when the child is reaped

	mu   sync.Mutex
	dead bool
}

// Host is how children stand among the processes of this host.
type Host struct {
	Nice   int    // to all others, from 0 to 19
	Groups Groups // in which each has one of its own; nil for none
}

// Start runs program with args as a child that dies with this process. The caller must Close it.
func (h Host) Start(program string, args ...string) (*Child, error) {
	return h.start(&head{}, program, args)
}

// StartProgram has a child of self, a program whose main begins with Main, become p. The caller must Close it.
func (h Host) StartProgram(self string, p Program) (*Child, error) {
	becomes, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	c, err := h.start(&head{rest: p.Speaks}, self, []string{word, string(becomes)})
	if err == nil && p.Limits.Memory > 0 {
		err = c.Bound(p.Limits.Memory)
	}
	if err != nil && c != nil {
		c.Close()
		c = nil
	}
	return c, err
}

func (h Host) start(stderr *head, program string, args []string) (*Child, error) {
	jobR, jobW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make the job pipe: %w", err)
	}
	resultR, resultW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the result pipe: %w", err), jobR.Close(), jobW.Close())
	}
	c := &Child{Job: jobW, Result: resultR, stderr: stderr, done: make(chan struct{})}
	c.cmd = &exec.Cmd{
		Path:        program,
		Args:        append([]string{"turbocat-sandbox"}, args...),
		Env:         environment,
		Dir:         "/",
		Stdin:       jobR,
		Stderr:      c.stderr,
		ExtraFiles:  []*os.File{resultW},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
		WaitDelay:   time.Second,
	}
	if os.Geteuid() == 0 {
		c.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	started := make(chan error)
	go c.life(h, started)
	err = <-started
	// The child has its own copies; with ours closed, its death ends the pipes.
	err = errors.Join(err, jobR.Close(), resultW.Close())
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return c, nil
}

// life starts the child, and reaps it. It holds one thread all along, for the child is
// killed when the thread that forked it ends, not when the process does.
func (c *Child) life(h Host, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer func() { c.groups.remove() }() // nobody waits for that
	defer close(c.done)
	if err := c.cmd.Start(); err != nil {
		c.mu.Lock()
		c.dead = true
		c.mu.Unlock()
		started <- err
		return
	}
	beNice(c.cmd.Process.Pid, h.Nice)
	var err error
	c.groups, err = h.Groups.hold(c.cmd.Process.Pid)
	started <- err
	// The dead child keeps its process id until Wait, so that until then the id of its
	// group can not be another's.
	for {
		err := unix.Waitid(unix.P_PID, c.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	c.mu.Lock()
	c.killGroup()
	c.dead = true
	c.mu.Unlock()
	_ = c.cmd.Wait() // how it ended stands in ProcessState
	c.starved = c.groups.starved()
}

// beNice has the processor go to others first. A child is a session of its own, and where the kernel shares the processor out by sessions
// (sched_autogroup) the session is to be nice, not its threads. A host that allows neither shares it out evenly.
func beNice(pid, nice int) {
	_ = unix.Setpriority(unix.PRIO_PGRP, pid, nice)
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", pid), []byte(strconv.Itoa(nice)), 0)
}

// Bound bounds, by the control group of the child if it has one, what it may take beyond what its own limits count. It is to be told before
// a job.
func (c *Child) Bound(memory uint64) error { return c.groups.bound(memory) }

// Kill kills the child and all of its group. It may be called again.
func (c *Child) Kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dead {
		c.killGroup()
	}
}

func (c *Child) killGroup() { _ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) }

// Close kills the child, waits until it is reaped, closes the pipes and tells how it
// ended. A child that was ending by itself is told as such. It may be called again.
func (c *Child) Close() Exit {
	c.Kill()
	<-c.done
	_ = c.Job.Close()
	_ = c.Result.Close()
	exit := Exit{Stderr: c.stderr.String(), Starved: c.starved}
	if c.cmd.ProcessState != nil {
		exit.Reason = c.cmd.ProcessState.String()
	}
	return exit
}

// head keeps the start of what is written to it and refuses the rest, unless it takes that, too.
type head struct {
	rest bool
	mu   sync.Mutex
	buf  []byte
}

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := min(len(p), maxStderr-len(h.buf))
	h.buf = append(h.buf, p[:n]...)
	if n < len(p) && !h.rest {
		return n, errors.New("the child wrote too much to stderr")
	}
	return len(p), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return string(h.buf)
}
