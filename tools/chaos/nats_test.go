//go:build unix

package chaos

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"turbocat.io/tools/internal/load"
)

// reconnectWithin is how long after a server is back everything may take to work again.
const reconnectWithin = 10 * time.Second

// again waits until everything works after a server is back.
func (c *check) again(server string) {
	c.t.Helper()
	took := c.awaitReady(readyWithin)
	c.number("%s back, all ready after %.1f s", server, took.Seconds())
	if took > bound(reconnectWithin) {
		c.problems = append(c.problems, fmt.Sprintf("%s is back, and everything works only %.1f s later", server, took.Seconds()))
	}
}

// TestR03KillNATS kills the NATS server under load.
func TestR03KillNATS(t *testing.T) {
	c := newCheck(t, "R03", 2, 2)
	l := c.start(load.Diamond(c.bookURL), size(6, 20))
	for range size(1, 3) {
		c.grow(l, size(8, 20))
		away := c.between(time.Second, size(4*time.Second, 20*time.Second))
		c.fault("kill -9 of NATS", func() {
			c.nats.kill()
			c.wait(away)
			c.nats.start()
			c.awaitNATS()
			c.again("NATS")
		})
	}
	c.grow(l, size(8, 20))
	c.finish(l)
}

// TestR06LoseStore deletes everything that NATS has stored.
func TestR06LoseStore(t *testing.T) {
	c := newCheck(t, "R06", 2, 2)
	l := c.start(load.Diamond(c.bookURL), size(6, 20))
	for range size(1, 3) {
		c.grow(l, size(8, 20))
		away := c.between(0, 3*time.Second)
		c.fault("NATS loses its store", func() {
			c.nats.signal(syscall.SIGTERM)
			<-c.nats.running.Done()
			c.loseStore()
			c.wait(away)
			c.nats.start()
			c.awaitNATS()
			c.again("NATS")
		})
	}
	c.grow(l, size(8, 20))
	c.finish(l)
}

// TestR16BlackHole lets the network between one service and NATS vanish without a word.
func TestR16BlackHole(t *testing.T) {
	const noticedWithin = 20 * time.Second
	c := newCheck(t, "R16", 2, 2)
	l := c.start(load.Diamond(c.bookURL), size(6, 20))
	services := []string{identity, catalog, orchestrator, runner, telemetry, gateway}
	c.random.Shuffle(len(services), func(i, j int) { services[i], services[j] = services[j], services[i] })
	for _, name := range services[:size(1, len(services))] {
		c.grow(l, 4)
		p := c.of(name)[0]
		c.fault("black hole between "+name+" and NATS", func() {
			begin := time.Now()
			p.nats.BlackHole()
			c.eventually(bound(noticedWithin), func() error {
				still, err := talking(p.nats)
				if err == nil && still {
					err = fmt.Errorf("%s has not noticed that it is cut off from NATS", p.name)
				}
				return err
			})
			c.number("%s noticed after %.1f s", p.name, time.Since(begin).Seconds())
			c.wait(time.Until(begin.Add(size(noticedWithin, 45*time.Second))))
			p.nats.Heal()
			c.again("the network of " + p.name)
		})
	}
	c.grow(l, 8)
	c.finish(l)
}
