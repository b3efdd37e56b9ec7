//go:build unix

package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/tools/internal/child"
)

// TestPools has a step wait for a runner that offers the labels of its agent, that runner killed while it works on it, and another one end it.
func TestPools(t *testing.T) {
	t.Parallel()
	i := inProcesses(t, "pools")
	c := register(t, i.url)
	there := c.code(t, `function handler(input) { return new Promise(done => setTimeout(() => done(input.n + 1), 3000)) }`, object{"runner": []string{"gpu", "eu"}})
	workflow := c.workflow(t, []object{
		step("anywhere", c.code(t, `function handler() { return 1 }`)),
		step("there", there, after("anywhere"), inputs(object{"n": "{{anywhere.output}}"})),
	})
	x := c.begin(t, workflow)
	explained := func(want string) {
		t.Helper()
		eventually(t, readyWithin, func() error {
			e := data[orchestrator.Explanation](t, c.do(t, "GET", "/executions/"+x.ID+"/explain", nil), 200)
			for _, s := range e.Steps {
				if s.StepKey == "there" && strings.Contains(s.Message, want) {
					return nil
				}
			}
			return fmt.Errorf("it is explained by %+v", e.Steps)
		})
	}
	explained("no runner labelled eu and gpu is alive")

	env := append([]string{"TURBOCAT_RUNNER_LABELS=gpu,eu,big"}, i.environOf(t, "runner")...)
	start := func() *child.Process {
		p, err := child.Start(child.Command{Path: i.program, Name: "turbocat", Args: []string{"serve", "runner"}, Env: env, Orphan: syscall.SIGKILL})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := start()
	explained("attempt 1 runs")
	kill := func(p *child.Process) {
		_ = syscall.Kill(p.PID(), syscall.SIGKILL)
		<-p.Done()
	}
	kill(first)
	second := start()
	defer kill(second)
	if x = c.awaitEndSomehow(t, x.ID); x.Status != "COMPLETED" || string(state(t, x, "there").Output) != "2" {
		t.Errorf("%s with %+v", statuses(x), x.Error)
	}
	if err := i.stop(); err != nil {
		t.Error(err)
	}
}
