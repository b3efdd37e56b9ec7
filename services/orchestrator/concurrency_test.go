package orchestrator_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/catalog"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
)

// limited saves a workflow whose executions wait for a signal, so many at a time.
func (in *installation) limited(limit catalog.Concurrency, timeoutMs int64) string {
	return in.define(catalog.Definition{TimeoutMs: timeoutMs, Concurrency: &limit}, waitStep("w", `{"signal":"go"}`))
}

func status(want string) func(contract.Execution) bool {
	return func(x contract.Execution) bool { return x.Status == want }
}

func (in *installation) goOn(id string) {
	in.t.Helper()
	ask(in, contract.SendSignal, contract.SignalRequest{ID: id, Name: "go"})
	in.await(id, "completed", status(contract.ExecutionCompleted))
}

func TestConcurrencyQueue(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.start()
	workflow := in.limited(catalog.Concurrency{Max: 1, Key: "{{inputs.k}}", OnLimit: catalog.OnLimitQueue}, 600_000)
	first := in.submit(workflow, `{"k":"x"}`)
	in.await(first.ID, "running", status(contract.ExecutionRunning))
	second, third := in.submit(workflow, `{"k":"x"}`), in.submit(workflow, `{"k":"x"}`)
	if w := second.Steps[0].WaitingFor; second.Status != contract.ExecutionPending || w == nil || w.Reason != "LIMIT" {
		t.Errorf("the second is %s and waits for %+v", second.Status, w)
	}
	in.await(in.submit(workflow, `{"k":"y"}`).ID, "running, for it has another key", status(contract.ExecutionRunning))
	e := ask(in, contract.Explain, contract.IDRequest{ID: third.ID})
	if l := e.Limit; l == nil || l.Place != 2 || l.Waiting != 2 || l.Held != 1 || !slices.Equal(l.Holders, []string{first.ID}) || l.Key != "x" || !strings.Contains(e.Summary, first.ID) {
		t.Errorf("the third is explained as %+v, %s", e.Limit, e.Summary)
	}
	// What is queued is paused and resumed without beginning, and cancelled without freeing a slot.
	ask(in, contract.Pause, contract.IDRequest{ID: second.ID})
	in.await(second.ID, "paused", status(contract.ExecutionPaused))
	ask(in, contract.Resume, contract.IDRequest{ID: second.ID})
	in.await(second.ID, "pending", status(contract.ExecutionPending))
	ask(in, contract.Cancel, contract.IDRequest{ID: second.ID})
	in.await(second.ID, "cancelled", status(contract.ExecutionCancelled))
	if x := in.get(third.ID); x.Status != contract.ExecutionPending {
		t.Errorf("the third is %s while the first holds the slot", x.Status)
	}
	in.goOn(first.ID)
	in.await(third.ID, "running", status(contract.ExecutionRunning))
	// A paused one counts.
	ask(in, contract.Pause, contract.IDRequest{ID: third.ID})
	in.await(third.ID, "paused", status(contract.ExecutionPaused))
	fourth := in.submit(workflow, `{"k":"x"}`)
	if e := ask(in, contract.Explain, contract.IDRequest{ID: fourth.ID}); e.Limit == nil || !slices.Equal(e.Limit.Holders, []string{third.ID}) {
		t.Errorf("the fourth is explained as %+v", e.Limit)
	}
	ask(in, contract.Cancel, contract.IDRequest{ID: third.ID})
	in.await(fourth.ID, "running", status(contract.ExecutionRunning))
	in.goOn(fourth.ID)
}

// TestConcurrencyQueueTimeout has the time of a workflow run from an execution's beginning, and an end by it free the slot.
func TestConcurrencyQueueTimeout(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.start()
	const timeout = time.Second
	workflow := in.limited(catalog.Concurrency{Max: 1, OnLimit: catalog.OnLimitQueue}, timeout.Milliseconds())
	ids := []string{in.submit(workflow, `{}`).ID, in.submit(workflow, `{}`).ID}
	first := in.await(ids[0], "out of time", status(contract.ExecutionTimeout))
	second := in.await(ids[1], "out of time", status(contract.ExecutionTimeout))
	if second.StartedAt.Before(*first.CompletedAt) {
		t.Errorf("the second began at %v, the first ended at %v", second.StartedAt, first.CompletedAt)
	}
	if took := second.CompletedAt.Sub(*second.StartedAt); took < timeout {
		t.Errorf("the second was out of time after %s", took)
	}
}

func TestConcurrencyDrop(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.start()
	workflow := in.limited(catalog.Concurrency{Max: 1, OnLimit: catalog.OnLimitDrop}, 60_000)
	first := in.submit(workflow, `{}`)
	dropped := in.submit(workflow, `{}`)
	if e := dropped.Error; dropped.Status != contract.ExecutionCancelled || e == nil || e.Code != runner.CodeConcurrency || dropped.CompletedAt == nil {
		t.Errorf("it is answered as %s with %+v", dropped.Status, e)
	}
	in.eventually(30*time.Second, "its end is told", func() bool { return len(in.events(dropped.ID)) == 3 })
	if x := in.get(dropped.ID); x.Status != contract.ExecutionCancelled || x.Error == nil || x.Error.Code != runner.CodeConcurrency {
		t.Errorf("it is %s with %+v", x.Status, x.Error)
	}
	in.goOn(first.ID)
	retried := ask(in, contract.Retry, contract.RetryRequest{ID: dropped.ID}).Execution
	in.await(retried.ID, "running", status(contract.ExecutionRunning))
	if again := ask(in, contract.Retry, contract.RetryRequest{ID: dropped.ID}).Execution; again.Status != contract.ExecutionCancelled {
		t.Errorf("beyond the limit a retry is %s", again.Status)
	}
	in.goOn(retried.ID)
}

func TestConcurrencyCancelOldest(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.start()
	workflow := in.limited(catalog.Concurrency{Max: 2, OnLimit: catalog.OnLimitCancelOldest}, 60_000)
	var ids []string
	for range 6 {
		ids = append(ids, in.submit(workflow, `{}`).ID)
	}
	for _, id := range ids[:4] {
		in.await(id, "cancelled", status(contract.ExecutionCancelled))
	}
	for _, id := range ids[4:] {
		in.await(id, "running", status(contract.ExecutionRunning))
		in.goOn(id)
	}
}

// TestConcurrencyOverKills has two processes share executions with a limit, and kills them: never do more run than may, and all end.
func TestConcurrencyOverKills(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.play(in.slow(20 * time.Millisecond))
	const maximum = 3
	workflow := in.define(catalog.Definition{TimeoutMs: 600_000, Concurrency: &catalog.Concurrency{Max: maximum, OnLimit: catalog.OnLimitQueue}}, chain(2)...)
	p, q := in.spawn(), in.spawn()
	in.awaitShares(db, 60*time.Second, subject.Partitions/2, subject.Partitions/2)
	load := in.submitting(workflow)
	for range 2 {
		load.grow(8)
		p.kill()
		p, q = q, in.spawn()
	}
	q.kill()
	in.spawn()
	ids := load.stop()
	in.eventually(120*time.Second, "all have ended", func() bool {
		if n := scan[int](in, db, `SELECT count(*) FROM executions WHERE started_at IS NOT NULL AND completed_at IS NULL`)[0]; n > maximum {
			t.Fatalf("%d run at once", n)
		}
		return scan[int](in, db, `SELECT count(*) FROM executions WHERE completed_at IS NULL`)[0] == 0
	})
	in.completed(db, ids, 10*time.Second)
	// Also at no moment in the past.
	worst := scan[int](in, db, fmt.Sprintf(`SELECT coalesce(max((SELECT count(*) FROM executions o WHERE o.started_at <= x.started_at AND o.completed_at > x.started_at
		AND o.workflow_id = x.workflow_id)), 0) FROM executions x WHERE x.workflow_id = '%s'`, workflow))[0]
	if worst > maximum {
		t.Errorf("%d ran at once", worst)
	}
	if n := scan[int](in, db, `SELECT (SELECT count(*) FROM concurrency_slots) + (SELECT count(*) FROM concurrency_groups)`)[0]; n > 0 {
		t.Errorf("%d slots and groups are left", n)
	}
	in.checkLedger(db)
	in.checkPublished(db)
}
