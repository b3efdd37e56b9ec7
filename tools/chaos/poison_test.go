//go:build unix

package chaos

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"turbocat.io/contracts/event"
	contract "turbocat.io/contracts/orchestrator"
	contracts "turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/tools/internal/load"
	"turbocat.io/tools/internal/promises"
)

// TestR12PoisonStep has a step that takes its runner with it each time it begins, and one that takes all memory of its sandbox.
func TestR12PoisonStep(t *testing.T) {
	onDemand(t)
	const (
		runs   = 4 // what is delivered for the fifth time is not run
		within = runs*(ackWait+5*time.Second) + ackWait
	)
	c := newCheck(t, "R12", 2, 1)
	greedy := c.start(load.Greedy(), 0)
	eaten := c.begin(greedy)
	begin := time.Now()
	c.eventually(bound(30*time.Second), func() error { return c.ended(greedy, eaten) })
	c.number("the greedy one ended after %.1f s", time.Since(begin).Seconds())

	p, poison := c.of(runner)[0], c.start(load.Calls(c.bookURL, 1, 10*time.Minute).AnyEnd(), 0)
	begin = time.Now()
	id := c.begin(poison)
	c.eventually(bound(within), func() error {
		if kills := len(c.faults); c.callsOf(id) > kills {
			c.fault("kill -9 of the runner by its step", func() {
				p.kill()
				p.start()
				c.awaitReady(readyWithin)
			})
		}
		return c.ended(poison, id)
	})
	c.number("the poisonous one ended after %.1f s and %d runs", time.Since(begin).Seconds(), len(c.faults))
	if len(c.faults) != runs {
		t.Errorf("the step was run %d times, want %d", len(c.faults), runs)
	}
	c.finish(greedy, poison)
	c.checkFailed(eaten, contracts.CodeMemoryLimit)
	c.checkFailed(id, contracts.CodeRunnerLost)
}

func (c *check) callsOf(id string) int {
	n := 0
	for _, call := range c.book.Calls() {
		if call.Execution == id {
			n++
		}
	}
	return n
}

func (c *check) ended(l *load.Load, id string) error {
	status, err := l.Status(c.t.Context(), id)
	if err == nil && !promises.Ended(status) {
		err = fmt.Errorf("the execution %s is %s", id, status)
	}
	return err
}

// checkFailed checks that an execution FAILED for a reason.
func (c *check) checkFailed(id, code string) {
	c.t.Helper()
	for _, x := range c.executed {
		if x.ID != id || len(x.Readings) == 0 {
			continue
		}
		if r := x.Readings[len(x.Readings)-1]; r.Status != contract.ExecutionFailed || r.Error == nil || r.Error.Code != code {
			c.t.Errorf("the execution %s is %s with %v, want FAILED with %s", id, r.Status, r.Error, code)
		}
		return
	}
	c.t.Errorf("the execution %s was not read", id)
}

var deadLetters = regexp.MustCompile(`(?m)^turbocat_orchestrator_dead_letters_total (\d+)`)

// TestR11Garbage sends to every subject what is nothing, what is of an unknown type, what has wrong values, and what is large.
func TestR11Garbage(t *testing.T) {
	onDemand(t)
	const late = time.Second
	c := newCheck(t, "R11", 2, 2)
	c.strangers = true
	l := c.start(load.Diamond(c.bookURL), 4)
	conn := c.connect()
	defer conn.Close()
	pids := c.pids()
	inputs := 0
	c.fault("garbage on every subject", func() {
		for _, m := range garbage() {
			if _, err := conn.JetStream().PublishMsg(t.Context(), m); err != nil {
				t.Fatalf("%s: %v", m.Subject, err)
			}
			if m.Subject == subject.ExecutionInputRun(3) || m.Subject == subject.ExecutionInputControl(3) {
				inputs++
			}
		}
		for range 50 {
			for _, name := range []string{"get_execution", "submit", "attempt_awaited"} {
				if err := conn.NATS().PublishRequest(subject.RPC(contract.Service, 1, name), nats.NewInbox(), []byte("\x00garbage")); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
	quick := c.start(load.Quick(c.bookURL, 5*time.Millisecond), 0)
	var took []time.Duration
	for range 50 {
		begin := time.Now()
		id := c.begin(quick)
		c.eventually(growWithin, func() error { return c.ended(quick, id) })
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	c.number("single executions beside it: p95 %.0f ms", took[47].Seconds()*1000)
	if took[47] > bound(late) {
		t.Errorf("single executions take up to %.1f s beside the garbage", took[47].Seconds())
	}
	rows := rowsOf[int](c.laboratory, `SELECT count(*) FROM dead_letters`)[0]
	counted := 0
	for _, p := range c.of(orchestrator) {
		counted += p.counter(t.Context(), deadLetters)
	}
	c.number("%d inputs are none: %d rows, %d counted", inputs, rows, counted)
	if rows != inputs || counted < inputs {
		t.Errorf("%d inputs are none, %d dead letters, %d counted", inputs, rows, counted)
	}
	c.grow(l, 8)
	c.finish(l, quick)
	if now := c.pids(); !slices.Equal(now, pids) {
		t.Errorf("processes were %v and are %v", pids, now)
	}
}

// garbage is everything that a stranger could send to a stream, once each.
func garbage() []*nats.Msg {
	large := bytes.Repeat([]byte("x"), 2<<20)
	var all []*nats.Msg
	for _, to := range []string{
		subject.ExecutionInputRun(3), subject.ExecutionInputControl(3), subject.Step(subject.DefaultPool, "API", 5), subject.Step(subject.DefaultPool, "CODE", 5),
		subject.Events(3), subject.Logs(3),
	} {
		for _, body := range [][]byte{nil, []byte("garbage"), []byte(`{"a":`), []byte("ce-type=somebody.elses ce-id ce-subject=%ff\n{"), large} {
			for _, header := range []nats.Header{
				nil,
				{event.HeaderType: {"io.turbocat.step.completed.v99"}, event.HeaderID: {"i"}, event.HeaderSubject: {"\xff\xfe"}},
				{event.HeaderType: {"somebody.elses"}, event.HeaderID: {"i"}, event.HeaderSubject: {"01900000-0000-7000-8000-000000000001"}},
				{event.HeaderType: {contract.TypeSignal}, event.HeaderID: {"i"}, event.HeaderSubject: {"01900000-0000-7000-8000-000000000001"}},
			} {
				all = append(all, &nats.Msg{Subject: to, Header: header, Data: body})
			}
		}
	}
	return all
}

func (c *check) pids() []int {
	var all []int
	for _, p := range c.services {
		all = append(all, p.running.PID())
	}
	return all
}

// counter reads a figure of the metrics.
func (p *process) counter(ctx context.Context, which *regexp.Regexp) int {
	_, body, err := get(ctx, p.ops+"/metrics")
	if err != nil {
		return 0
	}
	n := 0
	if m := which.FindStringSubmatch(body); m != nil {
		n, _ = strconv.Atoi(m[1])
	}
	return n
}
