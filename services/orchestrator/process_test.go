package orchestrator_test

import (
	"bytes"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// envServe makes the test binary an orchestrator.
const envServe = "TURBOCAT_TEST_SERVE"

// process is an orchestrator that can be killed and paused like any other process.
type process struct {
	in   *installation
	cmd  *exec.Cmd
	done chan error
	once sync.Once
}

// spawn starts an orchestrator as a process of its own. It is killed when the test ends.
func (in *installation) spawn() *process {
	in.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envServe+"=1")
	for k, v := range in.environ() {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		in.t.Fatal(err)
	}
	p := &process{in: in, cmd: cmd, done: make(chan error, 1)}
	go func() { p.done <- cmd.Wait() }()
	in.t.Cleanup(func() {
		p.kill()
		if out.Len() > 0 {
			in.t.Logf("the spawned orchestrator says:\n%s", out.String())
		}
	})
	return p
}

func (p *process) signal(s syscall.Signal) {
	p.in.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.in.t.Fatalf("signal %v: %v", s, err)
	}
}

func (p *process) kill() {
	p.once.Do(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
	})
}

// stop ends the process in the planned way and gives how long that took.
func (p *process) stop() time.Duration {
	p.in.t.Helper()
	begin := time.Now()
	p.once.Do(func() {
		p.signal(syscall.SIGTERM)
		if err := <-p.done; err != nil {
			p.in.t.Errorf("the stopped orchestrator: %v", err)
		}
	})
	return time.Since(begin)
}
