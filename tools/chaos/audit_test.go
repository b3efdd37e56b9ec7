//go:build unix

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/subject"
)

// changer makes changes in one service, one after the other, and remembers how each was answered.
type changer struct {
	*planner
	action audit.Action
	change func(n int) (method, path, body string)
	made   []madeChange
	good   atomic.Int64
}

type madeChange struct {
	request  string
	answered bool // with success; otherwise it may have been made or not
}

// run makes changes until ctx ends.
func (g *changer) run(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		method, path, body := g.change(n)
		m := madeChange{request: fmt.Sprintf("%s-%d", g.action, n)}
		status, err := g.send(method, path, body, m.request)
		m.answered = err == nil && status/100 == 2
		if err == nil && status/100 == 4 && status != http.StatusTooManyRequests {
			g.t.Errorf("%s %s is answered %d", method, path, status)
		}
		g.made = append(g.made, m)
		pause := 5 * time.Millisecond
		if m.answered {
			g.good.Add(1)
		} else {
			pause = 50 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// send makes a request to its end, also when the check ends meanwhile.
func (g *changer) send(method, path, body, request string) (status int, err error) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(g.t.Context()), method, g.door+"/api/v1"+path, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+g.token)
	req.Header.Set("X-Request-ID", request)
	resp, err := lab.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// changers make an account, and changes of it, of an agent and of a trigger: each is recorded by another service.
func (c *check) changers() (all []*changer, agent string) {
	c.t.Helper()
	p := c.newPlanner("auditor@chaos.dev")
	agent = asked[thing](p, http.MethodPost, "/agents", `{"name":"a","type":"DATA","config":{"operation":"flatten"}}`).ID
	trigger := p.schedule(`"cron":"0 0 1 1 *","enabled":false`).ID
	for _, g := range []*changer{
		{action: audit.UserUpdated, change: func(n int) (string, string, string) {
			return http.MethodPatch, "/users/me", fmt.Sprintf(`{"fullName":"n%d"}`, n)
		}},
		{action: audit.AuthLogin, change: func(int) (string, string, string) {
			return http.MethodPost, "/auth/login", `{"email":"auditor@chaos.dev","password":"Chaos-of-schedules-1"}`
		}},
		{action: audit.AgentUpdated, change: func(n int) (string, string, string) {
			return http.MethodPatch, "/agents/" + agent, fmt.Sprintf(`{"config":{"operation":"map","fields":{"n":{"value":%d}}}}`, n)
		}},
		{action: audit.TriggerUpdated, change: func(n int) (string, string, string) {
			return http.MethodPatch, "/workflows/" + p.workflow + "/triggers/" + trigger, fmt.Sprintf(`{"name":"n%d"}`, n)
		}},
	} {
		g.planner = p
		all = append(all, g)
	}
	return all, agent
}

// TestR34AuditTrail makes changes in every service that has an outbox while those are killed, and NATS, and JetStream loses what it
// has. Each change that was answered has one entry of the audit trail, each other one at most one, and the chain is whole.
func TestR34AuditTrail(t *testing.T) {
	c := drawCheck(t, "R34")
	c.laboratory = newLaboratory(t, 1, 1, false)
	all, agent := c.changers()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(cancel)
	for _, g := range all {
		running.Go(func() { g.run(ctx) })
	}
	faults := c.auditFaults()
	for range size(1, 4) {
		c.random.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
		for _, fault := range faults {
			c.moreChanges(all, size[int64](5, 20))
			fault()
		}
	}
	c.awaitReady(readyWithin)
	c.moreChanges(all, 20)
	cancel()
	running.Wait()
	c.awaitEmptyOutboxes()
	c.judgeTrail(all, agent)
	c.recorded = true
}

// moreChanges waits until each of them has made some that were answered.
func (c *check) moreChanges(all []*changer, many int64) {
	c.t.Helper()
	for _, g := range all {
		until := g.good.Load() + many
		c.eventually(growWithin, func() error {
			if n := g.good.Load(); n < until {
				return fmt.Errorf("%s: %d changes are answered, and not %d", g.action, n, until)
			}
			return nil
		})
	}
}

// auditFaults are what the audit trail is to survive. None waits until all works again.
func (c *check) auditFaults() []func() {
	kill := func(names ...string) func() {
		return func() {
			c.fault("kill -9 of "+strings.Join(names, ", "), func() {
				for _, name := range names {
					c.of(name)[0].kill()
				}
				for _, name := range names {
					c.wait(c.between(0, time.Second))
					c.of(name)[0].start()
				}
			})
		}
	}
	faults := []func(){kill(identity, catalog, orchestrator)}
	faults = append(faults, func() {
		c.fault("kill -9 of NATS, its store deleted", func() {
			c.nats.kill()
			c.loseStore()
			c.wait(c.between(0, time.Second))
			c.nats.start()
			c.awaitNATS()
		})
	})
	if !full {
		return faults
	}
	return append(
		faults, kill(identity), kill(catalog), kill(orchestrator),
		func() {
			c.fault("kill -9 of NATS", func() {
				c.nats.kill()
				c.wait(c.between(0, 5*time.Second))
				c.nats.start()
				c.awaitNATS()
			})
		},
		func() { c.fault("stream AUDIT purged", func() { c.onAudit(true) }) },
		func() { c.fault("stream AUDIT deleted", func() { c.onAudit(false) }) },
		func() {
			c.fault("crash of PostgreSQL", func() {
				c.crashPostgres()
				c.wait(c.between(0, 3*time.Second))
				c.revivePostgres()
			})
		},
	)
}

// onAudit empties the stream of entries that are on their way, or deletes it.
func (c *check) onAudit(purge bool) {
	c.t.Helper()
	conn := c.connect()
	defer conn.Close()
	c.eventually(readyWithin, func() error {
		if !purge {
			return conn.JetStream().DeleteStream(c.t.Context(), subject.AuditStream)
		}
		stream, err := conn.JetStream().Stream(c.t.Context(), subject.AuditStream)
		if err != nil {
			return err
		}
		return stream.Purge(c.t.Context())
	})
}

// awaitEmptyOutboxes waits until identity has committed what was recorded.
func (c *check) awaitEmptyOutboxes() {
	c.t.Helper()
	begin := time.Now()
	for _, name := range []string{identity, catalog, orchestrator} {
		c.eventually(endWithin, func() error {
			if n := selected[int](c.laboratory, name, `SELECT count(*) FROM outbox`)[0]; n > 0 {
				return fmt.Errorf("the outbox of %s has %d entries", name, n)
			}
			return nil
		})
	}
	c.number("outboxes empty %.1f s after the last change", time.Since(begin).Seconds())
}

// judgeTrail compares the audit trail with what was changed, and has it verified.
func (c *check) judgeTrail(all []*changer, agent string) {
	c.t.Helper()
	type counted struct {
		Request string `db:"request_id"`
		Action  string
		N       int
	}
	entries, total := map[string]int{}, 0
	for _, r := range selected[counted](c.laboratory, identity, `SELECT request_id, action, count(*) AS n FROM audit_log GROUP BY 1, 2`) {
		entries[r.Request+" "+r.Action] = r.N
		total += r.N
	}
	for _, g := range all {
		answered, unknown, kept := 0, 0, 0
		for _, m := range g.made {
			n := entries[m.request+" "+string(g.action)]
			kept += n
			switch {
			case m.answered && n != 1:
				c.t.Errorf("%d entries of %s, which was answered with success", n, m.request)
			case n > 1:
				c.t.Errorf("%d entries of %s, which was not answered", n, m.request)
			}
			if m.answered {
				answered++
			} else {
				unknown++
			}
		}
		c.number("%s: %d answered, %d not, %d entries", g.action, answered, unknown, kept)
		if g.action != audit.AgentUpdated {
			continue
		}
		// Each change made a version, whether it was answered or not.
		if version := selected[int](c.laboratory, catalog, `SELECT version FROM agents WHERE id = '`+agent+`'`)[0]; version != kept+1 {
			c.t.Errorf("the agent has version %d by %d entries", version, kept)
		}
	}
	verify := exec.CommandContext(c.t.Context(), c.program, "audit", "verify", "--json")
	verify.Env = []string{"DATABASE_URL=" + c.pg.URL()}
	out, err := verify.Output()
	var report struct {
		Entries int
		Break   any
	}
	if err := errors.Join(err, json.Unmarshal(out, &report)); err != nil || report.Break != nil || report.Entries != total {
		c.t.Errorf("turbocat audit verify says %s, %v; there are %d entries", out, err, total)
	}
}
