//go:build unix

package chaos

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/tools/internal/load"
)

// stopsWithin is how long after the end of an execution was told its effects may go on.
const stopsWithin = 2 * time.Second

// TestR21Cancel cancels executions whose steps wait in the queue, are in an endless loop, in a call that is not answered, in a
// WAIT, in the pause before another attempt, in a LOOP, in a PARALLEL and in a child: once, twice, and just before one orchestrator, or all of them, die.
func TestR21Cancel(t *testing.T) {
	c := newCheck(t, "R21", 2, 2)
	l := c.start(load.Endless(c.bookURL), 0)
	many := size(5, 6) // their calls that are not answered leave room for others
	ids, of := make([]string, many), make([]*load.Load, many)
	for i := range many {
		of[i] = l
	}
	for i := range many - 1 {
		ids[i] = c.begin(l)
	}
	c.eventually(growWithin, func() error { return c.allAtWork(ids[:many-1]) })
	queued := c.start(load.Hanging(c.bookURL, 40), 0)
	ids[many-1], of[many-1] = c.begin(queued), queued // most of its steps find no runner
	c.wait(c.between(0, time.Second))

	told := make([]time.Time, many)
	cancel := func(i int) {
		for range 1 + i%2 {
			if err := c.command(of[i], ids[i], "cancel"); err != nil {
				t.Error(err)
			}
		}
	}
	end := func(i int) {
		c.eventually(growWithin, func() error {
			status, err := of[i].Status(t.Context(), ids[i])
			if err == nil && status != contract.ExecutionCancelled {
				err = fmt.Errorf("the execution %s is %s after its cancel", ids[i], status)
			}
			return err
		})
		told[i] = time.Now()
	}
	half := many / 2
	most := half + (many-half)/2
	slowest := time.Duration(0)
	for i := range half {
		begin := time.Now()
		cancel(i)
		end(i)
		slowest = max(slowest, told[i].Sub(begin))
	}
	c.number("CANCELLED %.1f s after the request at the latest", slowest.Seconds())
	after := func(what string, from, to int, die []*process) {
		c.fault("kill -9 of "+what+" after a cancel", func() {
			for i := from; i < to; i++ {
				cancel(i)
			}
			for _, p := range die {
				p.kill()
			}
			for i := from; i < to && len(die) == 1; i++ {
				end(i) // the other works on
			}
			for _, p := range die {
				p.start()
			}
			c.awaitReady(readyWithin)
		})
		for i := from; i < to && len(die) > 1; i++ {
			end(i)
		}
	}
	all := c.of(orchestrator)
	after("an orchestrator", half, most, all[:1])
	after("the orchestrators", most, many, all)
	c.wait(2 * stopsWithin) // late effects, if there were any
	c.finish(l, queued)
	c.checkStopped(ids, told)
}

// allAtWork tells whether each execution, and the child of each, has called.
func (c *check) allAtWork(ids []string) error {
	called := map[string]map[string]bool{}
	for _, call := range c.book.Calls() {
		if called[call.Execution] == nil {
			called[call.Execution] = map[string]bool{}
		}
		called[call.Execution][call.Step] = true
	}
	for _, id := range ids {
		if steps := called[id]; !steps["backoff"] {
			return fmt.Errorf("the execution %s has called %v", id, steps)
		}
	}
	return nil
}

// checkStopped checks that no effect of a cancelled execution, or of its child, began long after its end was told.
func (c *check) checkStopped(ids []string, told []time.Time) {
	c.t.Helper()
	at := map[string]time.Time{}
	for i, id := range ids {
		at[id] = told[i]
	}
	for _, x := range c.executed {
		if end, ok := at[x.ParentID]; ok {
			at[x.ID] = end
		}
	}
	for _, call := range c.book.Calls() {
		if end, ok := at[call.Execution]; ok && call.Began.After(end.Add(stopsWithin)) {
			c.t.Errorf("I3: the step %s of %s called %.1f s after it was told that the execution is cancelled", call.Step, call.Execution, call.Began.Sub(end).Seconds())
		}
	}
}

// TestR22CancelAgainstCompletion cancels executions about when they complete.
func TestR22CancelAgainstCompletion(t *testing.T) {
	onDemand(t)
	c := newCheck(t, "R22", 2, 2)
	l := c.start(load.Quick(c.bookURL, 40*time.Millisecond), 0)
	many := size(60, 1000)
	pauses := make(chan time.Duration, many)
	for range many {
		pauses <- c.between(0, size(200*time.Millisecond, 40*time.Millisecond))
	}
	close(pauses)
	var racing sync.WaitGroup
	for range 16 {
		racing.Go(func() {
			for pause := range pauses {
				id, err := l.Begin(t.Context())
				if err == nil {
					c.wait(pause)
					err = c.command(l, id, "cancel")
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	racing.Wait()
	c.finish(l)
	ends := map[string]int{}
	for _, x := range c.executed {
		if len(x.Readings) > 0 {
			ends[x.Readings[len(x.Readings)-1].Status]++
		}
	}
	c.number("%d COMPLETED, %d CANCELLED", ends[contract.ExecutionCompleted], ends[contract.ExecutionCancelled])
	if ends[contract.ExecutionCompleted] < 5 || ends[contract.ExecutionCancelled] < 5 {
		t.Errorf("the ends are %v, so the race was none", ends)
	}
}

// TestR23OneKey asks for one execution many times at once, through two gateways, and again after everything was killed.
func TestR23OneKey(t *testing.T) {
	c := newCheck(t, "R23", 2, 1)
	doors := []string{c.door}
	other := c.add(gateway, 2)
	doors = append(doors, c.door)
	c.door = doors[0]
	other.start()
	c.eventually(readyWithin, func() error { return other.ready(t.Context()) })

	l := c.start(load.Quick(c.bookURL, 5*time.Millisecond), 0)
	for round := range size(2, 10) {
		key := fmt.Sprintf("one-%d", round)
		ids := make([]string, 50)
		var asking sync.WaitGroup
		for i := range ids {
			asking.Go(func() {
				id, status, err := l.Ask(t.Context(), doors[i%2], key, `{"inputs":{"n":7}}`)
				if err != nil || status != http.StatusCreated {
					t.Errorf("request %d of the key %s is answered %d, %v", i, key, status, err)
				}
				ids[i] = id
			})
		}
		asking.Wait()
		for i, id := range ids {
			if id != ids[0] || id == "" {
				t.Errorf("the key %s gave %s and, asked for the %d. time, %q", key, ids[0], i+1, id)
			}
		}
		l.Adopt(7, ids[0])
		if _, status, err := l.Ask(t.Context(), doors[round%2], key, `{"inputs":{"n":8}}`); err != nil || status != http.StatusConflict {
			t.Errorf("the key %s with another body is answered %d, %v", key, status, err)
		}
		if round == 0 {
			c.fault("kill -9 of everything of ours", func() { c.killAll(); c.startAll() })
			if id, status, err := l.Ask(t.Context(), doors[1], key, `{"inputs":{"n":7}}`); err != nil || status != http.StatusCreated || id != ids[0] {
				t.Errorf("the key %s gives %q after a restart (%d, %v), and was of %s", key, id, status, err, ids[0])
			}
			if _, status, err := l.Ask(t.Context(), doors[0], key, `{"inputs":{"n":8}}`); err != nil || status != http.StatusConflict {
				t.Errorf("the key %s with another body is answered %d after a restart, %v", key, status, err)
			}
		}
	}
	c.finish(l)
}

// killAll ends every process of ours at once.
func (c *check) killAll() {
	for _, p := range c.services {
		p.kill()
	}
}

// startAll starts them again and waits until everything works.
func (c *check) startAll() {
	c.t.Helper()
	for _, p := range c.services {
		p.start()
	}
	c.awaitReady(readyWithin)
}

// begin has one execution accepted.
func (c *check) begin(l *load.Load) string {
	c.t.Helper()
	id, err := l.Begin(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

// command asks something of an execution. That it has ended is an answer too.
func (c *check) command(l *load.Load, id, what string) error {
	err := l.Command(c.t.Context(), id, what)
	if errors.Is(err, load.ErrEnded) {
		return nil
	}
	return err
}
