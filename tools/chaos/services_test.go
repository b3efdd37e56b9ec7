//go:build unix

package chaos

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"turbocat.io/contracts/subject"
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

// TestR02RandomKills kills a random process every few seconds, whether or not those before it work again.
func TestR02RandomKills(t *testing.T) {
	onDemand(t)
	c := newCheck(t, "R02", 2, 2)
	l := c.start(load.Diamond(c.bookURL), size(6, 20))
	lasts := size(time.Minute, 10*time.Minute)
	if given := os.Getenv("TURBOCAT_CHAOS_FOR"); given != "" {
		var err error
		if lasts, err = time.ParseDuration(given); err != nil {
			t.Fatal(err)
		}
	}
	for until := time.Now().Add(lasts); time.Now().Before(until); {
		p, away, then := c.services[c.random.IntN(len(c.services))], c.between(0, 2*time.Second), c.between(3*time.Second, 8*time.Second)
		c.say("%s is killed, away for %s; the next in %s", p.name, away, then)
		c.fault("kill -9 of "+p.args[1], func() {
			p.kill()
			c.wait(away)
			p.start()
		})
		c.wait(then - away)
	}
	c.awaitReady(readyWithin)
	c.grow(l, 20)
	c.finish(l)
}

// TestR07RollingStop stops processes in order, one after the other, and starts them again.
func TestR07RollingStop(t *testing.T) {
	onDemand(t)
	const within = 30 * time.Second
	c := newCheck(t, "R07", 2, 2)
	c.gentle = true
	l := c.start(load.Diamond(c.bookURL), size(6, 20))
	long := c.start(load.Calls(c.bookURL, 4, 4*time.Second), size(1, 4))
	slowest := time.Duration(0)
	for _, i := range c.random.Perm(len(c.services)) {
		p := c.services[i]
		c.grow(l, 2)
		c.wait(c.between(0, time.Second))
		begin := time.Now()
		p.signal(syscall.SIGTERM)
		select {
		case <-p.running.Done():
		case <-time.After(bound(within)):
			t.Fatalf("%s has not ended %s after SIGTERM\n%s", p.name, bound(within), p.printed())
		}
		slowest = max(slowest, time.Since(begin))
		if err := p.running.Err(); err != nil {
			t.Errorf("%s ended after SIGTERM with %v\n%s", p.name, err, p.printed())
		}
		c.say("%s has ended after %.1f s", p.name, time.Since(begin).Seconds())
		p.start()
		c.awaitReady(readyWithin)
	}
	c.number("the slowest ended %.1f s after SIGTERM", slowest.Seconds())
	c.grow(l, 4)
	c.finish(l, long)
}

// crashPoint is a moment of a process: before or after it says something to a server.
type crashPoint struct {
	service string
	server  string // that it is said to
	says    string
	after   bool
}

func (p crashPoint) String() string {
	when := "before"
	if p.after {
		when = "after"
	}
	return fmt.Sprintf("%s dies %s %q to %s", p.service, when, p.says, p.server)
}

// crashPoints are all moments at which what a process does begins to count or has just done so: before and after each kind of
// commit, publish and ack. What they say tells them, so that the product needs no hooks for it.
func crashPoints() []crashPoint {
	const postgres, nats = "PostgreSQL", "NATS"
	var all []crashPoint
	for _, p := range []crashPoint{
		{service: identity, server: postgres, says: "COMMIT"},
		{service: catalog, server: postgres, says: "COMMIT"},
		{service: orchestrator, server: postgres, says: "COMMIT"},
		{service: orchestrator, server: nats, says: "PUB " + strings.TrimSuffix(subject.StepsAll, ">")},
		{service: orchestrator, server: nats, says: "PUB " + strings.TrimSuffix(subject.EventsAll, ">")},
		{service: orchestrator, server: nats, says: "PUB " + strings.TrimSuffix(subject.ExecutionInputAll, ">")},
		{service: runner, server: nats, says: "PUB " + strings.TrimSuffix(subject.ExecutionInputAll, ">")},
		{service: runner, server: nats, says: "PUB $JS.ACK." + subject.StepsStream},
		{service: runner, server: nats, says: "PUB " + strings.TrimSuffix(subject.LogsAll, ">")},
		{service: telemetry, server: nats, says: "PUB $JS.ACK." + subject.LogsStream},
	} {
		again := p
		again.after = true
		all = append(all, p, again)
	}
	return all
}

// TestR09CrashPoints kills a process at each point before and after what it does counts.
func TestR09CrashPoints(t *testing.T) {
	onDemand(t)
	c := newCheck(t, "R09", 2, 2)
	l := c.start(load.Diamond(c.bookURL), 8)
	points := crashPoints()
	c.random.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
	p := c.newPlanner("planner@chaos.dev")
	// A load has them commit at its beginning alone.
	asks := map[string]func(){
		identity: func() { p.try(http.MethodPatch, "/users/me", `{"fullName":"Q"}`) },
		catalog: func() {
			p.try(http.MethodPost, "/agents", `{"name":"a","type":"DATA","config":{"operation":"flatten"}}`)
		},
	}
	for _, point := range points {
		c.dieAt(point, asks[point.service])
	}
	c.number("%d points", len(points))
	c.grow(l, 8)
	c.finish(l)
}

// dieAt waits until a process has come to a point, and kills it there. ask, if any, is done again and again so that it does.
func (c *check) dieAt(point crashPoint, ask func()) {
	c.t.Helper()
	p := c.of(point.service)[0]
	link := p.nats
	if point.server == "PostgreSQL" {
		link = p.postgres
	}
	pid, sprung := p.running.PID(), make(chan struct{})
	kill := func() {
		_ = syscall.Kill(pid, syscall.SIGKILL) // here and now, before anything else is said
		close(sprung)
	}
	c.fault(point.String(), func() {
		if point.after {
			link.After(point.says, kill)
		} else {
			link.Before(point.says, kill)
		}
		c.eventually(readyWithin, func() error {
			if ask != nil {
				ask()
			}
			select {
			case <-sprung:
				return nil
			default:
				return fmt.Errorf("%s: it has said nothing of the kind", point)
			}
		})
		p.kill()
		p.start()
		c.awaitReady(readyWithin)
	})
}
