//go:build unix

package e2e

import (
	"slices"
	"strings"
	"testing"

	"turbocat.io/contracts/orchestrator"
)

func TestConcurrencyLimits(t *testing.T) {
	t.Parallel()
	c := user(t)
	limited := func(onLimit string) string {
		waits := object{"stepKey": "a", "stepType": "WAIT", "config": object{"signal": "go"}}
		return c.workflow(t, []object{waits}, object{"concurrency": object{"max": 1, "key": "{{inputs.k}}", "onLimit": onLimit}})
	}
	submit := func(workflow, key, query string, status int) orchestrator.Execution {
		t.Helper()
		return data[orchestrator.Execution](t, c.do(t, "POST", "/workflows/"+workflow+"/execute"+query, object{"inputs": object{"k": key}}), status)
	}
	release := func(id string) {
		t.Helper()
		data[orchestrator.CommandResponse](t, c.do(t, "POST", "/executions/"+id+"/signals/go", object{}), 202)
	}
	expect := func(e orchestrator.Execution, status string) {
		t.Helper()
		if got := c.until(t, e.ID, status, func(e orchestrator.Execution) bool { return ended(e) || e.Status == status }); got.Status != status {
			t.Errorf("want %s: %s", status, statuses(got))
		}
	}

	queue := limited("QUEUE")
	first, second, third, other := submit(queue, "x", "", 201), submit(queue, "x", "", 201), submit(queue, "x", "", 201), submit(queue, "y", "", 201)
	expect(first, "RUNNING")
	expect(other, "RUNNING")
	if w := state(t, second, "a").WaitingFor; second.Status != "PENDING" || w == nil || w.Reason != "LIMIT" {
		t.Errorf("the second is %s, and its step waits for %+v", second.Status, w)
	}
	queued := data[orchestrator.Execution](t, c.do(t, "GET", "/executions/"+third.ID, nil), 200)
	if w := state(t, queued, "a").WaitingFor; queued.Status != "PENDING" || queued.StartedAt != nil || w == nil || w.Reason != "LIMIT" {
		t.Errorf("the third is %s, and its step waits for %+v", queued.Status, w)
	}
	e := data[orchestrator.Explanation](t, c.do(t, "GET", "/executions/"+third.ID+"/explain", nil), 200)
	if l := e.Limit; l == nil || l.Key != "x" || l.Max != 1 || l.Held != 1 || l.Place != 2 || l.Waiting != 2 || !slices.Equal(l.Holders, []string{first.ID}) ||
		!strings.Contains(e.Summary, first.ID) {
		t.Errorf("the third is explained by %+v, %q", e.Limit, e.Summary)
	}

	drop := limited("DROP")
	holder := submit(drop, "x", "", 201)
	dropped := submit(drop, "x", "?wait=60s", 200)
	if e := dropped.Error; dropped.Status != "CANCELLED" || e == nil || e.Code != "CONCURRENCY_LIMIT" || dropped.StartedAt != nil || state(t, dropped, "a").Status != "CANCELLED" {
		t.Errorf("beyond the limit it is %s, with %+v", statuses(dropped), e)
	}
	listed, _ := page[orchestrator.Execution](t, c.do(t, "GET", "/executions?status=CANCELLED&workflowId="+drop, nil))
	if len(listed) != 1 || listed[0].ID != dropped.ID || listed[0].Error == nil || listed[0].Error.Code != "CONCURRENCY_LIMIT" {
		t.Errorf("the dropped are listed as %+v", listed)
	}

	evict := limited("CANCEL_OLDEST")
	oldest := submit(evict, "x", "", 201)
	expect(oldest, "RUNNING")
	newcomer := submit(evict, "x", "", 201)
	expect(oldest, "CANCELLED")
	expect(newcomer, "RUNNING")

	for _, e := range []orchestrator.Execution{first, second, third, other, holder, newcomer} {
		release(e.ID)
	}
	for _, e := range []orchestrator.Execution{first, second, third, other, holder, newcomer} {
		expect(e, "COMPLETED")
	}
	again := submit(drop, "x", "", 201)
	release(again.ID)
	expect(again, "COMPLETED")
}
