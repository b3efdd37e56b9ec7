//go:build unix

package chaos

import (
	"testing"
	"time"

	"turbocat.io/tools/internal/load"
)

// TestR01KillEachService kills processes of every service, one after the other.
func TestR01KillEachService(t *testing.T) {
	c := newCheck(t, "R01", 2, 2)
	l := c.start(load.Diamond(c.bookURL), size(6, 20))
	for range size(1, 5) {
		for _, i := range c.random.Perm(len(c.services)) {
			c.grow(l, 2)
			c.killed(c.services[i], c.between(0, 2*time.Second))
		}
	}
	c.grow(l, 5)
	c.finish(l)
}

// killed kills a process, starts it again after a while, and waits until everything works.
func (c *check) killed(p *process, away time.Duration) {
	c.t.Helper()
	c.fault("kill -9 of "+p.args[1], func() {
		p.kill()
		c.wait(away)
		p.start()
		c.awaitReady(readyWithin)
	})
}
