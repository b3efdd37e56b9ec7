package orchestrator_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/postgres/weekly"
	"turbocat.io/services/orchestrator/internal/postgres"
)

// Weeks are made and dropped under a load that loses nothing by it; what is unfinished lives on and ends as ever; what is finished
// goes, and the disk comes back.
func TestRetentionUnderLoad(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	in.play(echo)
	wait := waitStep("wait", `{"signal":"go"}`, "before")
	wait.TimeoutMs = 3_600_000 // it waits through all of the load, which on a starved host takes minutes
	waits := in.define(catalog.Definition{TimeoutMs: 3_600_000}, catalog.Step{StepKey: "before"}, wait, catalog.Step{StepKey: "after", DependsOn: []string{"wait"}})
	begin := func() string {
		t.Helper()
		x := in.submit(waits, `{}`)
		in.await(x.ID, "waiting", is("wait", contract.StepRunning))
		return x.ID
	}
	finish := func(id string) {
		t.Helper()
		if _, err := bus.Call(t.Context(), in.conn, contract.SendSignal, in.owner, contract.SignalRequest{ID: id, Name: "go", Payload: json.RawMessage(`{}`)}); err != nil {
			t.Fatal(err)
		}
		if x := in.await(id, "ended", terminal); x.Status != contract.ExecutionCompleted {
			t.Errorf("what had waited is %s", x.Status)
		}
	}
	waiting := begin()
	load := in.submitting(in.workflow(chain(3)...))
	load.grow(10)

	const period, week = 24 * time.Hour, 7 * 24 * time.Hour
	store, now := postgres.New(db, db), time.Now()
	rules := store.Retention(period)
	keep := func(rules weekly.Rules) {
		t.Helper()
		keeper := weekly.NewKeeper(store.Weeks(), rules, zerolog.Nop(), nil).WithClock(func(context.Context) (time.Time, error) { return now, nil })
		in.eventually(120*time.Second, "a round of retention is done", func() bool { return keeper.Keep(t.Context()) == nil })
	}
	weeksAlone := rules
	weeksAlone.Sweep = func(context.Context, time.Time) (int64, error) { return 0, nil }
	for range 10 { // each makes a week, and drops one that is empty
		now = now.Add(week)
		keep(weeksAlone)
		load.grow(5)
	}
	ids := load.stop()
	in.eventually(60*time.Second, "all but one have ended", func() bool {
		return scan[int](in, db, `SELECT count(*) FROM executions WHERE completed_at IS NULL`)[0] == 1
	})
	for _, id := range ids {
		if x := in.get(id); x.Status != contract.ExecutionCompleted {
			t.Errorf("an execution under load is %s: %v", x.Status, x.Error)
		}
	}
	if len(load.refused) > 0 {
		t.Errorf("%d submits were refused, the first with %v", len(load.refused), load.refused[0])
	}
	finish(waiting)
	in.checkLedger(db)
	in.checkPublished(db)

	waiting = begin()
	size := func() int {
		return scan[int](in, db, `SELECT coalesce(sum(pg_relation_size(oid)), 0) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'orchestrator'::regnamespace
			AND (relname LIKE 'steps%' OR relname LIKE 'execution_events%')`)[0] // without indexes, which have a page of each week
	}
	full := size()
	keep(rules)
	if n := scan[int](in, db, `SELECT count(*) FROM executions`)[0]; n != 1 {
		t.Errorf("%d executions are left beside the one that waits", n-1)
	}
	finish(waiting)
	in.eventually(60*time.Second, "the week is dropped once its events are published", func() bool {
		keep(rules)
		return scan[int](in, db, `SELECT count(*) FROM execution_events`)[0] == 0
	})
	if empty := size(); empty > full/2 {
		t.Errorf("%d bytes are left of %d", empty, full)
	}
	gone := contract.IDRequest{ID: ids[0]}
	refused(in, errs.NotFound, in.owner, contract.GetExecution, gone)
	refused(in, errs.NotFound, in.owner, contract.ListEvents, contract.EventsRequest{ID: gone.ID})
	refused(in, errs.NotFound, in.owner, contract.Explain, gone)
	refused(in, errs.NotFound, in.owner, contract.Cancel, gone)
	refused(in, errs.NotFound, in.owner, contract.Retry, contract.RetryRequest{ID: gone.ID})
	if list, err := bus.Call(t.Context(), in.conn, contract.ListExecution, in.owner, contract.ListRequest{Page: rpc.Page{PageSize: 10}}); err != nil || len(list.Items) > 0 || list.Pagination.Total > 0 {
		t.Errorf("%d executions are listed, %v", len(list.Items), err)
	}
	// What begins now is of no week by that clock, and goes on all the same.
	in.await(in.submit(in.workflow(chain(2)...), `{}`).ID, "completed", func(x contract.Execution) bool { return x.Status == contract.ExecutionCompleted })
}
