//go:build unix

package chaos

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"turbocat.io/contracts/event"
	contract "turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/tools/internal/load"
)

// ackWait is how long a runner may be silent about a step.
const ackWait = 5 * time.Second

// TestR08PausedRunner stops a runner in the midst of its steps for longer than they are its own.
func TestR08PausedRunner(t *testing.T) {
	c := newCheck(t, "R08", 2, 1)
	paused, other := c.of(runner)[0], c.add(runner, 2)
	calls := c.start(load.Calls(c.bookURL, 4, 2*time.Second), 4)
	steps := c.start(load.Diamond(c.bookURL), size(4, 12))
	c.eventually(growWithin, func() error {
		if n := c.underWay(); n < 8 {
			return fmt.Errorf("%d calls are under way", n)
		}
		return nil
	})
	c.wait(c.between(0, time.Second)) // they take two
	c.fault("SIGSTOP of runner", func() {
		begin := time.Now()
		paused.signal(syscall.SIGSTOP)
		other.start()
		c.eventually(readyWithin, func() error { return other.ready(t.Context()) })
		c.grow(steps, 4) // the other one works
		c.wait(time.Until(begin.Add(3 * ackWait)))
		paused.signal(syscall.SIGCONT)
		c.awaitReady(readyWithin)
	})
	c.grow(steps, 4)
	c.finish(calls, steps)
	if twice := c.calledTwice(); twice == 0 {
		t.Error("no step of the paused runner was taken over")
	} else {
		c.number("%d steps taken over in the midst of their call", twice)
	}
}

// underWay is how many calls are being answered.
func (c *check) underWay() int {
	n := 0
	for _, call := range c.book.Calls() {
		if call.Ended.IsZero() {
			n++
		}
	}
	return n
}

// calledTwice is how many attempts have called more than once.
func (c *check) calledTwice() int {
	type attempt struct {
		key    string
		number int
	}
	made, twice := map[attempt]int{}, 0
	for _, call := range c.book.Calls() {
		a := attempt{call.Key, call.Attempt}
		if made[a]++; made[a] == 2 {
			twice++
		}
	}
	return twice
}

// TestR10LongStep has steps that take several times as long as a runner may be silent.
func TestR10LongStep(t *testing.T) {
	c := newCheck(t, "R10", 2, 2)
	l := c.start(load.Calls(c.bookURL, 2, size(3*ackWait, 5*ackWait)), 0)
	c.submit(l, size(2, 10))
	c.finish(l)
}

// TestR13SameAgain sends what was sent once more, after a restart of NATS has forgotten that it was: steps that are
// done, steps that are at work, and results.
func TestR13SameAgain(t *testing.T) {
	c := newCheck(t, "R13", 2, 2)
	conn := c.connect()
	defer conn.Close()
	sent := overhear(c, conn.NATS())
	quick := c.start(load.Diamond(c.bookURL), 0)
	c.submit(quick, size(5, 30))
	c.end(quick)
	slow := c.start(load.Calls(c.bookURL, 4, 8*time.Second), 0)
	c.submit(slow, size(2, 8))
	c.eventually(growWithin, func() error {
		if n := c.underWay(); n < 4*size(2, 8) {
			return fmt.Errorf("%d calls are under way", n)
		}
		return nil
	})
	c.fault("kill -9 of NATS", func() {
		c.nats.kill()
		c.nats.start()
		c.awaitNATS()
		c.again("NATS")
	})
	c.fault("the same messages again", func() {
		messages := sent()
		c.say("%d messages are sent again", len(messages))
		known := 0
		for _, m := range messages {
			ack, err := conn.JetStream().PublishMsg(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			if ack.Duplicate {
				known++
			}
		}
		c.number("%d messages sent again, of which NATS knew %d", len(messages), known)
	})
	c.finish(slow)
}

// TestR13SentAgain has the orchestrators send again what is at work: they have no answer about it, and neither they nor NATS
// remember that it was sent.
func TestR13SentAgain(t *testing.T) {
	c := newCheck(t, "R13 by orchestrators", 2, 2)
	for _, p := range c.of(orchestrator) {
		p.nats.Slow(time.Second, 0) // there and back longer than a commit waits for the answer
	}
	l := c.start(load.Calls(c.bookURL, 4, 15*time.Second), 0)
	c.submit(l, size(2, 8))
	c.eventually(growWithin, func() error {
		if n := c.underWay(); n < size(4, 16) {
			return fmt.Errorf("%d calls are under way", n)
		}
		return nil
	})
	c.wait(3 * time.Second)
	c.say("%d steps at work are not recorded as sent", rowsOf[int](c.laboratory, `SELECT count(*) FROM steps WHERE status = 'RUNNING' AND sent = 0`)[0])
	c.fault("kill -9 of NATS and the orchestrators", func() {
		c.nats.kill()
		for _, p := range c.of(orchestrator) {
			p.kill()
			p.nats.Heal()
		}
		c.nats.start()
		c.awaitNATS()
		for _, p := range c.of(orchestrator) {
			p.start()
		}
		c.again("NATS")
	})
	c.finish(l)
}

// overhear listens to every ready step and every result from now on; sent gives them as they were published.
func overhear(c *check, nc *nats.Conn) (sent func() []*nats.Msg) {
	c.t.Helper()
	var mu sync.Mutex
	var heard []*nats.Msg
	for _, all := range []string{subject.StepsAll, subject.ExecutionInputAll} {
		if _, err := nc.Subscribe(all, func(m *nats.Msg) {
			headers, _ := event.HeaderMap(m.Header, m.Data)
			switch nats.Header(headers).Get(event.HeaderType) {
			case contract.TypeStepReady, contract.TypeStepCompleted, contract.TypeStepFailed:
				mu.Lock()
				defer mu.Unlock()
				heard = append(heard, &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data})
			}
		}); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		c.t.Fatal(err)
	}
	return func() []*nats.Msg {
		mu.Lock()
		defer mu.Unlock()
		return append([]*nats.Msg(nil), heard...)
	}
}
