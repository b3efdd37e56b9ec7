//go:build unix

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"turbocat.io/contracts/orchestrator"
)

// recoverWithin is how long a killed process may take until everything works again: a held step is
// silent for five seconds until another runner takes it, a lease lasts as long.
const recoverWithin = 90 * time.Second

// inProcesses gives an installation with a process for each service, started with environment variables beside the usual ones.
func inProcesses(t *testing.T, name string, environ ...string) *installation {
	t.Helper()
	if _, ok := look(os.Getpid()); !ok {
		t.Skip("SKIPPED: processes are told apart by /proc")
	}
	i := own(t, name)
	i.args, i.environ = []string{"dev", "--processes"}, append(i.environ, environ...)
	if err := i.start(); err != nil {
		t.Fatal(err)
	}
	return i
}

// tableRow is a process in what `turbocat dev --processes` prints.
var tableRow = regexp.MustCompile(`(?m)^  (nats|catalog|gateway|identity|orchestrator|runner|telemetry) +(\d+)( |$)`)

// environOf gives the environment of one of the processes, by its name.
func (i *installation) environOf(t *testing.T, name string) []string {
	t.Helper()
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", i.pids(t)[name]))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimRight(string(environ), "\x00"), "\x00")
}

// pids gives those of the processes by name, as the last start printed them.
func (i *installation) pids(t *testing.T) map[string]int {
	t.Helper()
	found := map[string]int{}
	eventually(t, readyWithin, func() error {
		for _, row := range tableRow.FindAllStringSubmatch(i.printed(), -1) {
			pid, err := strconv.Atoi(row[2])
			if err != nil {
				return err
			}
			found[row[1]] = pid
		}
		if len(found) < 7 {
			return fmt.Errorf("the table of processes is not there:\n%s", i.printed())
		}
		return nil
	})
	return found
}

// TestEachProcessKilled kills every process in turn while executions run, and each of them completes.
func TestEachProcessKilled(t *testing.T) {
	i := inProcesses(t, "killed")
	c := register(t, i.url)
	nap := c.code(t, `function handler(input) { return new Promise(done => setTimeout(() => done(input.n + 1), 700)) }`)
	workflow := c.workflow(t, []object{
		step("a", nap, inputs(object{"n": "{{inputs.n}}"})),
		step("b", nap, after("a"), inputs(object{"n": "{{a.output}}"})),
		step("c", nap, after("b"), inputs(object{"n": "{{b.output}}"})),
	})
	pids := i.pids(t)
	var all []string
	for _, name := range slices.Sorted(maps.Keys(pids)) {
		t.Run(name, func(t *testing.T) {
			var ids []string
			for n := range 4 {
				x := data[orchestrator.Execution](t, c.do(t, "POST", "/workflows/"+workflow+"/execute", object{"inputs": object{"n": n}}), 201)
				ids = append(ids, x.ID)
			}
			victim, ok := look(pids[name])
			if !ok || victim.name != "turbocat" {
				t.Fatalf("the process %d is %+v", pids[name], victim)
			}
			if name == "runner" {
				eventually(t, readyWithin, func() error {
					if len(descendants(victim.pid)) == 0 {
						return fmt.Errorf("no attempt runs")
					}
					return nil
				})
			}
			below := descendants(victim.pid)
			printed := len(i.printed())
			if err := syscall.Kill(victim.pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}

			var again string
			told := regexp.MustCompile(name + ` \(pid ` + strconv.Itoa(victim.pid) + `\) was killed by SIGKILL; it is started again in \d+ms\.\n(?s:.*)` + name + ` works again as pid (\d+)\.\n`)
			eventually(t, recoverWithin, func() error {
				found := told.FindStringSubmatch(i.printed()[printed:])
				if found == nil {
					return fmt.Errorf("the terminal shows\n%s", i.printed()[printed:])
				}
				again = found[1]
				return i.ready()
			})
			if again == strconv.Itoa(victim.pid) {
				t.Errorf("it has the pid %s as before", again)
			}
			for _, p := range append(below, victim) {
				if p.alive() {
					t.Errorf("the process %d (%s) outlives the kill", p.pid, p.name)
				}
			}
			for n, id := range ids {
				x := c.awaitEndSomehow(t, id)
				if x.Status != "COMPLETED" {
					t.Errorf("an execution is %s: %+v", statuses(x), x.Error)
					continue
				}
				same(t, "the result", state(t, x, "c").Output, strconv.Itoa(n+3))
			}
			all = append(all, ids...)
			if x := c.run(t, workflow, object{"n": 10}); x.Status != "COMPLETED" {
				t.Errorf("an execution begun afterwards is %s", statuses(x))
			}
		})
	}
	c.agrees(t, all) // also when telemetry, or NATS with what it had of them, was killed meanwhile
	if err := i.stop(); err != nil {
		t.Error(err)
	}
	i.checkLog(t)
}

// awaitEndSomehow waits until the execution is terminal, whatever becomes of the requests meanwhile.
func (c *client) awaitEndSomehow(t *testing.T, id string) orchestrator.Execution {
	t.Helper()
	var e struct{ Data orchestrator.Execution }
	eventually(t, recoverWithin, func() error {
		a, err := c.send(t.Context(), "GET", "/api/v1/executions/"+id, nil)
		switch {
		case err != nil:
			return err
		case a.status != http.StatusOK:
			return fmt.Errorf("%s", a)
		}
		if err := json.Unmarshal(a.body, &e); err != nil {
			return err
		}
		if !ended(e.Data) {
			return fmt.Errorf("the execution %s: %s", id, statuses(e.Data))
		}
		return nil
	})
	return e.Data
}

// checkLog checks that every line of the log is whole, and that every process has written some.
func (i *installation) checkLog(t *testing.T) {
	t.Helper()
	f, err := os.Open(filepath.Join(i.data, "turbocat.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	services := map[string]int{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var entry struct{ Level, Service, Time string }
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil || entry.Level == "" || entry.Time == "" {
			t.Errorf("a line of the log is %q", lines.Text())
		}
		services[entry.Service]++
	}
	if err := lines.Err(); err != nil {
		t.Error(err)
	}
	for _, name := range strings.Fields("nats catalog gateway identity orchestrator runner telemetry") {
		if services[name] == 0 {
			t.Errorf("%s has written no line into the log: %v", name, services)
		}
	}
}

// TestProcessesEndWithTheirParent kills `turbocat dev --processes` itself: nothing is left, and it starts again.
func TestProcessesEndWithTheirParent(t *testing.T) {
	i := inProcesses(t, "orphans")
	c := register(t, i.url)
	endless := c.workflow(t, []object{step("a", c.code(t, `function handler() { for (;;) {} }`, object{"timeoutMs": 600000}))})
	c.begin(t, endless)
	runner := i.pids(t)["runner"]
	eventually(t, readyWithin, func() error {
		if len(descendants(runner)) == 0 {
			return fmt.Errorf("no attempt runs")
		}
		return nil
	})
	below := descendants(i.process.PID())
	for _, p := range below {
		if group, err := syscall.Getpgid(p.pid); err == nil && group == i.process.PID() {
			t.Errorf("Ctrl-C in a terminal would reach %s (%d) before its parent stops it", p.name, p.pid)
		}
	}
	i.kill()
	eventually(t, endWithin, func() error {
		for _, p := range below {
			if p.alive() {
				return fmt.Errorf("the process %d (%s) outlives turbocat dev", p.pid, p.name)
			}
		}
		return nil
	})
	if err := i.start(); err != nil {
		t.Fatal(err)
	}
	if err := i.stop(); err != nil {
		t.Error(err)
	}
}

// TestProcessesStopInOrder checks what Ctrl-C does: the door closes first, NATS last, and nobody is told to be started again.
func TestProcessesStopInOrder(t *testing.T) {
	i := inProcesses(t, "order")
	pids := i.pids(t)
	watched := map[string]process{}
	for name, pid := range pids {
		p, ok := look(pid)
		if !ok {
			t.Fatalf("%s does not run", name)
		}
		watched[name] = p
	}
	ctx, cancel := context.WithTimeout(t.Context(), endWithin)
	defer cancel()
	if err := syscall.Kill(-i.process.PID(), syscall.SIGINT); err != nil { // the whole group, as a terminal does
		t.Fatal(err)
	}
	for {
		door, nats := watched["gateway"].alive(), watched["nats"].alive()
		inner := 0
		for name, p := range watched {
			if name != "gateway" && name != "nats" && p.alive() {
				inner++
			}
		}
		// What is looked at later may have ended meanwhile, so the door is looked at once more.
		if door && inner < 5 && watched["gateway"].alive() {
			t.Error("a service ends before the door")
		}
		if !nats && inner > 0 {
			t.Error("NATS ends before a service")
		}
		if !nats || t.Failed() {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatal("it does not stop")
		case <-time.After(time.Millisecond):
		}
	}
	select {
	case <-i.process.Done():
	case <-ctx.Done():
		t.Fatal("it does not stop")
	}
	if err := i.process.Err(); err != nil {
		t.Error(err)
	}
	if out := i.printed(); strings.Contains(out, "started again") || !strings.HasSuffix(out, "Stopping.\nStopped.\n") {
		t.Errorf("it prints\n%s", out)
	}
}
