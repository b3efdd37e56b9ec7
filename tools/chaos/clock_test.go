//go:build unix

package chaos

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"syscall"
	"testing"
	"time"

	orchestration "turbocat.io/contracts/orchestrator"
	"turbocat.io/tools/internal/built"
	"turbocat.io/tools/internal/load"
)

// otherClocks are by how many seconds the wall clock of a process is ahead.
var otherClocks = []int{600, -600}

// TestR33OtherClock lets a process of each service after the other go on with a wall clock that is ten minutes ahead, and then behind: nothing
// comes early or twice, no partition changes its owner, and who is logged in stays so.
func TestR33OtherClock(t *testing.T) {
	onDemand(t)
	c := newCheck(t, "R33", 2, 2)
	l := c.start(load.Diamond(c.bookURL), 8)
	sleepers := c.start(load.Sleepers(c.bookURL, 5*time.Second), 0)
	v := c.newVisitor()
	for _, seconds := range otherClocks {
		for _, name := range []string{orchestrator, runner, gateway, identity, catalog, telemetry} {
			p := c.of(name)[c.random.IntN(len(c.of(name)))]
			c.withClock(p, seconds, func() {
				c.wait(2 * ackWait) // partitions are shared anew
				before := c.epochs()
				v.visit()
				c.submit(sleepers, 5)
				c.grow(l, 8)
				if now := c.epochs(); now != before {
					t.Errorf("I7: while the clock of %s is off by %d s, partitions were taken: the epochs were %s and are %s", p.name, seconds, before, now)
				}
			})
			v.visit()
		}
	}
	c.finish(l, sleepers)
}

// TestR33Schedules lets one orchestrator of three have another clock while a schedule ticks each second: each time has one execution, none
// comes before its time by the database's clock, and none long after it.
func TestR33Schedules(t *testing.T) {
	onDemand(t)
	const late = 5 * time.Second
	c := newCheck(t, "R33, schedules", 3, 1)
	p := c.newPlanner("planner@chaos.dev")
	s := p.schedule(`"cron":"* * * * * *","overlap":"ALLOW"`)
	for _, seconds := range otherClocks {
		c.withClock(c.of(orchestrator)[c.random.IntN(3)], seconds, func() {
			for until := time.Now().Add(20 * time.Second); time.Now().Before(until); c.wait(100 * time.Millisecond) {
				for _, at := range rowsOf[time.Time](c.laboratory, `SELECT scheduled_for FROM executions WHERE scheduled_for > clock_timestamp()`) {
					p.problems = append(p.problems, fmt.Sprintf("schedule: %s has fired before its time", at.UTC()))
				}
				for _, at := range rowsOf[time.Time](c.laboratory, fmt.Sprintf(`SELECT next_time FROM schedules WHERE next_time < clock_timestamp() - interval '%d seconds'`, int(bound(late).Seconds()))) {
					p.problems = append(p.problems, fmt.Sprintf("schedule: %s has not fired %s after its time", at.UTC(), late))
				}
			}
		})
	}
	last := time.Now()
	p.awaitDecided(s, last)
	s = p.change(s, `{"enabled":false}`)
	n := p.judge(s, true)
	c.number("%s %s: %d executions in %.0f s", s.Cron, orchestration.OverlapAllow, n, last.Sub(s.CreatedAt).Seconds())
	p.awaitDecided(s, s.CreatedAt)
	p.close()
}

// withClock lets a process go on with another clock for as long as do takes.
func (c *check) withClock(p *process, seconds int, do func()) {
	c.t.Helper()
	program, err := lab.skewed()
	if err != nil {
		c.t.Fatal(err)
	}
	c.fault(fmt.Sprintf("the clock of a %s is off by %d s", p.args[1], seconds), func() {
		right, environ := p.program, p.environ
		c.restarted(p, program, append(environ[:len(environ):len(environ)], fmt.Sprintf("%s=%d", built.ClockVariable, seconds)))
		if off := p.clockOff(); (off - time.Duration(seconds)*time.Second).Abs() > time.Minute {
			c.t.Fatalf("the clock of %s is off by %s, want %d s", p.name, off, seconds)
		}
		do()
		c.restarted(p, right, environ)
	})
}

// restarted stops a process in order and starts another program in its place.
func (c *check) restarted(p *process, program string, environ []string) {
	c.t.Helper()
	p.signal(syscall.SIGTERM)
	<-p.running.Done()
	p.program, p.environ = program, environ
	p.start()
	c.awaitReady(readyWithin)
}

var logged = regexp.MustCompile(`"time":"([^"]+)"`)

// clockOff is how far the clock of a process is off, by the last of what it has logged since it began.
func (p *process) clockOff() time.Duration {
	p.t.Helper()
	lines := logged.FindAllStringSubmatch(p.printed(), -1)
	if len(lines) == 0 {
		p.t.Fatalf("%s has logged nothing", p.name)
	}
	at, err := time.Parse(time.RFC3339, lines[len(lines)-1][1])
	if err != nil {
		p.t.Fatal(err)
	}
	return time.Until(at)
}

// epochs tells which owners the partitions have had so far.
func (c *check) epochs() string {
	return rowsOf[string](c.laboratory, `SELECT string_agg(epoch::text, ' ' ORDER BY p) FROM partitions`)[0]
}

// visitor is somebody who logged in once and comes by. Nobody else has its session.
type visitor struct {
	*planner
	refresh string
}

func (c *check) newVisitor() *visitor {
	c.t.Helper()
	v := &visitor{planner: &planner{check: c}}
	v.token, v.refresh = v.tokens("/auth/register", `{"email":"visitor@chaos.dev","password":"Chaos-of-clocks-1","fullName":"V"}`)
	return v
}

func (v *visitor) tokens(path, body string) (access, refresh string) {
	v.t.Helper()
	got := asked[struct{ AccessToken, RefreshToken string }](v.planner, http.MethodPost, path, body)
	return got.AccessToken, got.RefreshToken
}

// visit uses the access token of a moment ago, which is to be good whoever's clock it is by, and the refresh token for the next.
func (v *visitor) visit() {
	v.t.Helper()
	for range 2 { // that of the last visit, and a new one
		status, body := v.me()
		if status != http.StatusOK {
			v.problems = append(v.problems, fmt.Sprintf("a session: an access token of a moment ago is answered %d %s", status, body))
		}
		v.token, v.refresh = v.tokens("/auth/refresh", `{"refreshToken":"`+v.refresh+`"}`)
	}
}

func (v *visitor) me() (status int, body []byte) {
	v.t.Helper()
	req, err := http.NewRequestWithContext(v.t.Context(), http.MethodGet, v.door+"/api/v1/users/me", nil)
	if err != nil {
		v.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+v.token)
	resp, err := lab.client.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err = io.ReadAll(resp.Body); err != nil {
		v.t.Fatal(err)
	}
	return resp.StatusCode, body
}
