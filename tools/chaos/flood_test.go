//go:build unix

package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	contract "turbocat.io/contracts/orchestrator"
)

const (
	// residentAtMost is what an orchestrator and a gateway may take of memory, whatever comes.
	residentAtMost = 512 << 20
	// drainWithin is how long what was accepted of a flood may take to end.
	drainWithin = 8 * time.Minute
)

// TestR24Flood has three users execute far more than they may, in seconds and without a runner: each request is accepted, or
// refused with the time of the next try, the processes stay small, and what was accepted ends once there is a runner.
func TestR24Flood(t *testing.T) {
	requests, perSecond := size(2000, 20_000), size(200, 2000)
	perUser := requests / 2 // one of the users has three fifths
	c := newCheck(t, "R24", 2, 1)
	for _, p := range c.of(orchestrator) {
		p.kill()
		p.environ = append(p.environ, "TURBOCAT_ORCHESTRATOR_UNFINISHED_PER_USER="+strconv.Itoa(perUser))
		p.start()
	}
	c.awaitReady(readyWithin)
	users := []*planner{c.newPlanner("a@flood.dev"), c.newPlanner("b@flood.dev"), c.newPlanner("c@flood.dev")}
	turns := []*planner{users[0], users[1], users[0], users[2], users[0]}

	var mu sync.Mutex
	accepted, answers := map[string]bool{}, map[int]int{}
	idle := c.of(runner)[0]
	c.fault("a flood without a runner", func() {
		idle.kill()
		client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: requests}}
		defer client.CloseIdleConnections()
		var sending sync.WaitGroup
		begin := time.Now()
		for n := range requests { // none waits for the answer to another
			c.wait(time.Until(begin.Add(time.Duration(n) * time.Second / time.Duration(perSecond))))
			sending.Go(func() {
				id, status, problem := turns[n%len(turns)].execute(client)
				mu.Lock()
				defer mu.Unlock()
				answers[status]++
				if id != "" {
					accepted[id] = true
				}
				if problem != "" {
					c.problems = append(c.problems, problem)
				}
			})
		}
		sent := time.Since(begin)
		sending.Wait()
		c.number("%d requests in %.1f s, answered after %.1f s: %v", requests, sent.Seconds(), time.Since(begin).Seconds(), answers)
		idle.start()
	})
	begin := time.Now()
	c.eventually(drainWithin, func() error {
		if left := rowsOf[int](c.laboratory, `SELECT count(*) FROM executions WHERE completed_at IS NULL`)[0]; left > 0 {
			return fmt.Errorf("%d executions have not ended", left)
		}
		return nil
	})
	c.number("drained in %.0f s", time.Since(begin).Seconds())
	for _, p := range append(c.of(orchestrator), c.of(gateway)...) {
		peak := p.peak()
		c.number("%s: at most %d MiB", p.name, peak>>20)
		if peak > residentAtMost {
			c.problems = append(c.problems, fmt.Sprintf("memory: %s took %d bytes", p.name, peak))
		}
	}
	for id, status := range c.ledger().Statuses {
		if accepted[id] && status != contract.ExecutionCompleted {
			c.problems = append(c.problems, fmt.Sprintf("I1: the accepted execution %s is %s", id, status))
		}
		delete(accepted, id)
	}
	for id := range accepted {
		c.problems = append(c.problems, "I1: the ledger does not have the accepted execution "+id)
	}
	if answers[http.StatusTooManyRequests]+answers[http.StatusServiceUnavailable] == 0 {
		c.problems = append(c.problems, "flood: nobody was refused")
	}
	users[0].close()
}

// execute asks for an execution, and tells what is not as it should be of the answer.
func (p *planner) execute(client *http.Client) (id string, status int, problem string) {
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.door+"/api/v1/workflows/"+p.workflow+"/execute", bytes.NewBufferString(`{}`))
	if err != nil {
		return "", 0, err.Error()
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+p.token)
	resp, err := client.Do(req)
	if err != nil {
		return "", 0, "flood: " + err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	var answer struct{ Data thing }
	switch seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")); {
	case err != nil:
		return "", 0, "flood: " + err.Error()
	case resp.StatusCode == http.StatusCreated:
		if err := json.Unmarshal(raw, &answer); err != nil || answer.Data.ID == "" {
			return "", resp.StatusCode, fmt.Sprintf("flood: accepted with %s", raw)
		}
		return answer.Data.ID, resp.StatusCode, ""
	case (resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable) && seconds > 0:
		return "", resp.StatusCode, ""
	default:
		return "", resp.StatusCode, fmt.Sprintf("flood: answered %d %s, Retry-After %d", resp.StatusCode, raw, seconds)
	}
}

var resident = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB`)

// peak is how many bytes of memory the process has had at most, as the kernel knows it.
func (p *process) peak() int {
	p.t.Helper()
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(p.running.PID()) + "/status")
	if err != nil {
		p.t.Fatal(err)
	}
	m := resident.FindSubmatch(raw)
	if m == nil {
		p.t.Fatal("the kernel does not tell the memory of a process")
	}
	kib, _ := strconv.Atoi(string(m[1]))
	return kib << 10
}
