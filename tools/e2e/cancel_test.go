//go:build unix

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
)

// stopWithin is what running code may take to stop, and what this machine may take to show it.
const stopWithin = 3 * time.Second

func TestCancel(t *testing.T) {
	t.Parallel()
	c := user(t)
	asked, left := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
		close(left)
	}))
	t.Cleanup(server.Close)
	workflow := c.workflow(t, []object{
		step("loop", c.code(t, `function handler() { for (;;) {} }`, object{"timeoutMs": 60000})),
		step("call", c.agent(t, "API", object{"url": server.URL, "timeoutMs": 60000})),
		step("next", c.code(t, identityCode), after("loop")),
	})
	e := c.begin(t, workflow)
	select {
	case <-asked:
	case <-time.After(30 * time.Second):
		t.Fatal("the call does not begin")
	}
	loop := busy(t)

	command := data[orchestrator.CommandResponse](t, c.do(t, "POST", "/executions/"+e.ID+"/cancel", nil), 202)
	cancelled := time.Now()
	if command.CommandID == "" {
		t.Error("there is no command id")
	}
	eventually(t, stopWithin, func() error {
		if e = c.execution(t, e.ID); e.Status != "CANCELLED" {
			return errors.New(statuses(e))
		}
		return nil
	})
	if got := statuses(e); got != "CANCELLED: loop CANCELLED call CANCELLED next CANCELLED" || string(e.Outputs) != "null" || e.CompletedAt == nil {
		t.Errorf("%s: %+v", got, e)
	}
	fault(t, c.do(t, "POST", "/executions/"+e.ID+"/cancel", nil), errs.Conflict)
	select {
	case <-left:
	case <-time.After(stopWithin - time.Since(cancelled)):
		t.Error("the call goes on")
	}
	if err := poll(t.Context(), stopWithin-time.Since(cancelled), func() error {
		if loop.pid != 0 && loop.alive() {
			return fmt.Errorf("the loop goes on in the process %d", loop.pid)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}

	done := c.run(t, c.workflow(t, []object{step("a", c.code(t, identityCode))}), nil)
	fault(t, c.do(t, "POST", "/executions/"+done.ID+"/cancel", nil), errs.Conflict)
	if got := c.execution(t, done.ID); got.Status != "COMPLETED" {
		t.Errorf("a refused cancel made it %s", got.Status)
	}
}

// busy waits for the process in which a step works for a second, longer than any other test lets one;
// none where there is no /proc.
func busy(t *testing.T) process {
	t.Helper()
	if lab.started == nil || len(descendants(lab.started.process.PID())) == 0 {
		return process{}
	}
	known := map[int]bool{}
	for _, p := range descendants(lab.started.process.PID()) {
		known[p.pid] = p.name == "postgres"
	}
	var found process
	eventually(t, 30*time.Second, func() error {
		for _, p := range descendants(lab.started.process.PID()) {
			if !known[p.pid] && p.name != "postgres" && p.name != "turbocat" && p.name != "redis-server" && p.cpu >= time.Second {
				found = p
				return nil
			}
		}
		return errors.New("no process works")
	})
	return found
}
