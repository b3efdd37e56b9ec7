//go:build unix

package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	orchestration "turbocat.io/contracts/orchestrator"
)

// planner is a user who makes schedules, and executes a workflow.
type planner struct {
	*check
	token, workflow string
}

type thing struct {
	ID          string `json:"id"`
	AccessToken string `json:"accessToken"`
}

// newPlanner makes an account with a workflow of one step.
func (c *check) newPlanner(email string) *planner {
	c.t.Helper()
	p := &planner{check: c}
	p.token = asked[thing](p, http.MethodPost, "/auth/register", `{"email":"`+email+`","password":"Chaos-of-schedules-1","fullName":"P"}`).AccessToken
	agent := asked[thing](p, http.MethodPost, "/agents", `{"name":"a","type":"DATA","status":"ACTIVE","config":{"operation":"map","fields":{"done":{"value":true}}}}`)
	p.workflow = asked[thing](p, http.MethodPost, "/workflows", `{"name":"w","status":"ACTIVE","steps":[{"stepKey":"s","stepType":"AGENT","agentId":"`+agent.ID+`","inputs":{"data":[{}]}}]}`).ID
	return p
}

// asked makes a request until it is answered with success, and gives the data of the answer.
func asked[T any](p *planner, method, path, body string) T {
	p.t.Helper()
	var answer struct{ Data T }
	p.eventually(growWithin, func() error {
		req, err := http.NewRequestWithContext(p.t.Context(), method, p.door+"/api/v1"+path, bytes.NewBufferString(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		if p.token != "" {
			req.Header.Set("Authorization", "Bearer "+p.token)
		}
		resp, err := lab.client.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		raw, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode/100 != 2 {
			return fmt.Errorf("%s %s: %d %s (%w)", method, path, resp.StatusCode, raw, err)
		}
		return json.Unmarshal(raw, &answer)
	})
	return answer.Data
}

// try makes a request, whatever the answer is.
func (p *planner) try(method, path, body string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.door+"/api/v1"+path, bytes.NewBufferString(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+p.token)
	if resp, err := lab.client.Do(req); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}

func (p *planner) schedule(more string) orchestration.Trigger {
	p.t.Helper()
	return asked[orchestration.Trigger](p, http.MethodPost, "/workflows/"+p.workflow+"/triggers", `{"name":"s","type":"SCHEDULE",`+more+`}`)
}

func (p *planner) change(t orchestration.Trigger, body string) orchestration.Trigger {
	p.t.Helper()
	return asked[orchestration.Trigger](p, http.MethodPatch, "/workflows/"+p.workflow+"/triggers/"+t.ID, body)
}

// awaitDecided waits until a schedule has decided all times before one, and everything of it has ended.
func (p *planner) awaitDecided(t orchestration.Trigger, before time.Time) {
	p.t.Helper()
	p.eventually(endWithin, func() error {
		left := rowsOf[int](p.laboratory, fmt.Sprintf(`SELECT (SELECT count(*) FROM schedules WHERE trigger_id = '%s' AND next_time < '%s')
			+ (SELECT count(*) FROM executions WHERE completed_at IS NULL)`, t.ID, before.UTC().Format(time.RFC3339)))[0]
		if left > 0 {
			return fmt.Errorf("%d schedules and executions are behind", left)
		}
		return nil
	})
}

// judge notes the times of a schedule that have more than one execution, or an execution and a skip, and those of each second, if
// it ticks so, that have neither. It gives how many have an execution.
func (p *planner) judge(t orchestration.Trigger, eachSecond bool) int {
	p.t.Helper()
	type second struct {
		At         time.Time
		Executions int
		Skips      int
	}
	executions := 0
	for _, one := range rowsOf[second](p.laboratory, fmt.Sprintf(`SELECT at, (SELECT count(*) FROM executions e WHERE e.trigger_id = s.trigger_id AND e.scheduled_for = at) AS executions,
			(SELECT count(*) FROM schedule_skips k WHERE k.trigger_id = s.trigger_id AND k.scheduled_for <= at AND k.until > at) AS skips
		FROM schedules s, generate_series('%s'::timestamptz, s.next_time - interval '1 second', interval '1 second') at WHERE s.trigger_id = '%s'`,
		t.CreatedAt.Truncate(time.Second).Add(time.Second).Format(time.RFC3339), t.ID)) {
		executions += one.Executions
		if n := one.Executions + one.Skips; n > 1 || eachSecond && n < 1 {
			p.problems = append(p.problems, fmt.Sprintf("schedule: %s has %d executions and %d skips", one.At.UTC(), one.Executions, one.Skips))
		}
	}
	if all := rowsOf[int](p.laboratory, fmt.Sprintf(`SELECT count(*) FROM executions WHERE trigger_id = '%s'`, t.ID))[0]; all != executions {
		p.problems = append(p.problems, fmt.Sprintf("schedule: %d executions, of which %d are of times that are decided", all, executions))
	}
	return executions
}

// close tells the problems, and what the ledger says of itself.
func (p *planner) close() {
	p.t.Helper()
	for _, problem := range p.problems {
		p.t.Error(problem)
	}
	p.settle(calmWithin)
	for _, v := range p.verify().Violations {
		p.t.Error(v)
	}
	p.recorded = true
}

// TestR19SchedulesOverKills kills orchestrators at random while a schedule ticks each second: each time has one execution.
func TestR19SchedulesOverKills(t *testing.T) {
	onDemand(t)
	c := newCheck(t, "R19", 3, 1)
	p := c.newPlanner("planner@chaos.dev")
	ticking := p.schedule(`"cron":"* * * * * *","overlap":"ALLOW"`)
	skipping := p.schedule(`"cron":"@every 1s","overlap":"SKIP","jitterMs":500`)
	processes := c.of(orchestrator)
	for range 20 {
		c.wait(c.between(0, 3*time.Second))
		i := c.random.IntN(len(processes))
		away := c.between(0, 4*time.Second)
		c.fault("kill -9 of "+orchestrator, func() {
			processes[i].kill()
			c.wait(away)
			processes[i].start()
		})
	}
	last := time.Now()
	c.awaitReady(readyWithin)
	for _, s := range []orchestration.Trigger{ticking, skipping} {
		p.awaitDecided(s, last)
		s = p.change(s, `{"enabled":false}`)
		n := p.judge(s, true)
		c.number("%s %s: %d executions in %.0f s", s.Cron, s.Overlap, n, last.Sub(s.CreatedAt).Seconds())
		if s.Overlap == orchestration.OverlapAllow && n < int(last.Sub(s.CreatedAt).Seconds()) {
			p.problems = append(p.problems, "schedule: times of the catch-up window are skipped")
		}
	}
	p.awaitDecided(ticking, ticking.CreatedAt)
	p.close()
}

// TestR20ScheduleIsChangedWhileDue edits, toggles and retimes a schedule about the moments at which it is due: no time has two executions,
// and it goes on as it shows.
func TestR20ScheduleIsChangedWhileDue(t *testing.T) {
	onDemand(t)
	c := newCheck(t, "R20", 3, 1)
	p := c.newPlanner("planner@chaos.dev")
	s := p.schedule(`"cron":"* * * * * *","overlap":"ALLOW"`)
	edits := []string{
		`{"inputs":{"n":1}}`, `{"enabled":false}`, `{"enabled":true}`, `{"cron":"@every 1s"}`, `{"cron":"*/2 * * * * *"}`, `{"cron":"*/3 * * * * *","timeZone":"Asia/Kolkata"}`,
		`{"jitterMs":400}`, `{"jitterMs":0}`, `{"overlap":"QUEUE"}`, `{"overlap":"ALLOW"}`,
	}
	const changed = 400
	for range changed {
		pause := c.between(0, 200*time.Millisecond)
		if c.random.IntN(3) == 0 { // about the moment at which something is due
			pause = time.Until(time.Now().Truncate(time.Second).Add(time.Second)) + c.between(-20*time.Millisecond, 60*time.Millisecond)
		}
		c.wait(pause)
		before := rowsOf[time.Time](c.laboratory, fmt.Sprintf(`SELECT last_time FROM schedules WHERE trigger_id = '%s' AND last_time IS NOT NULL`, s.ID))
		s = p.change(s, edits[c.random.IntN(len(edits))])
		if len(before) > 0 && len(s.NextFireTimes) > 0 && !s.NextFireTimes[0].After(before[0]) {
			p.problems = append(p.problems, fmt.Sprintf("schedule: %s has fired and is next", before[0]))
		}
	}
	p.change(s, `{"enabled":true,"overlap":"ALLOW","jitterMs":0}`)
	s = p.change(s, `{"cron":"*/2 * * * * *","timeZone":"Europe/Berlin"}`)
	shown := s.NextFireTimes
	p.awaitDecided(s, shown[len(shown)-1].Add(time.Second))
	s = p.change(s, `{"enabled":false}`)
	fired := rowsOf[time.Time](c.laboratory, fmt.Sprintf(`SELECT scheduled_for FROM executions WHERE trigger_id = '%s' AND scheduled_for BETWEEN '%s' AND '%s' ORDER BY 1`,
		s.ID, shown[0].Format(time.RFC3339), shown[len(shown)-1].Format(time.RFC3339)))
	if !slices.EqualFunc(fired, shown, time.Time.Equal) {
		p.problems = append(p.problems, fmt.Sprintf("schedule: shown were %v, fired are %v", shown, fired))
	}
	c.number("%d changes, %d executions", changed, p.judge(s, false))
	p.awaitDecided(s, s.CreatedAt)
	p.close()
}
