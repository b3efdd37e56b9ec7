package orchestrator_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/orchestrator/internal/trigger"
)

// schedule makes a schedule of a workflow. More is what its body has beside the cron expression.
func (in *installation) schedule(workflow, cron, more string) contract.Trigger {
	in.t.Helper()
	body := `{"name":"s","type":"SCHEDULE","cron":"` + cron + `"` + more + `}`
	t, err := bus.Call(in.t.Context(), in.conn, contract.CreateTrigger, in.owner, contract.NewTriggerRequest{WorkflowID: workflow, Body: json.RawMessage(body)})
	if err != nil {
		in.t.Fatalf("%s: %v", body, err)
	}
	return t.Trigger
}

func (in *installation) patch(t contract.Trigger, body string) contract.Trigger {
	in.t.Helper()
	after, err := bus.Call(in.t.Context(), in.conn, contract.PatchTrigger, in.owner, contract.PatchTriggerRequest{WorkflowID: t.WorkflowID, ID: t.ID, Body: json.RawMessage(body)})
	if err != nil {
		in.t.Fatalf("%s: %v", body, err)
	}
	return after
}

func (in *installation) trigger(t contract.Trigger) contract.Trigger {
	in.t.Helper()
	now, err := bus.Call(in.t.Context(), in.conn, contract.GetTrigger, in.owner, contract.TriggerRequest{WorkflowID: t.WorkflowID, ID: t.ID})
	if err != nil {
		in.t.Fatal(err)
	}
	return now
}

func (in *installation) skips(t contract.Trigger) []contract.Skip {
	in.t.Helper()
	list, err := bus.Call(in.t.Context(), in.conn, contract.ListSkips, in.owner, contract.ListSkipsRequest{WorkflowID: t.WorkflowID, ID: t.ID, Page: rpc.Page{PageSize: 100}})
	if err != nil {
		in.t.Fatal(err)
	}
	return list.Items
}

// fired gives the scheduled times that have executions, in their order; one that has two stands twice.
func (in *installation) fired(db *sqlx.DB, t contract.Trigger) []time.Time {
	in.t.Helper()
	times := scan[time.Time](in, db, `SELECT scheduled_for FROM executions WHERE trigger_id = $1 ORDER BY scheduled_for`, t.ID)
	for i := range times {
		times[i] = times[i].UTC()
	}
	return times
}

// withoutIndex takes away what would keep a time from a second execution if the schedule's place did not.
func (in *installation) withoutIndex(db *sqlx.DB) {
	in.t.Helper()
	in.exec(db, `DROP INDEX executions_scheduled`)
}

// checkEachSecond wants each second that a schedule has decided, from one on, to have one execution or to be in one skip. It gives how
// many have one, and how many are decided.
func (in *installation) checkEachSecond(db *sqlx.DB, t contract.Trigger, from time.Time) (executions, decided int) {
	in.t.Helper()
	type second struct {
		At         time.Time
		Executions int
		Skips      int
	}
	found := scan[second](in, db, `SELECT at, (SELECT count(*) FROM executions e WHERE e.trigger_id = s.trigger_id AND e.scheduled_for = at) AS executions,
			(SELECT count(*) FROM schedule_skips k WHERE k.trigger_id = s.trigger_id AND k.scheduled_for <= at AND k.until > at) AS skips
		FROM schedules s, generate_series($2::timestamptz, s.next_time - interval '1 second', interval '1 second') at WHERE s.trigger_id = $1 ORDER BY at`, t.ID, from)
	for _, one := range found {
		executions += one.Executions
		if one.Executions+one.Skips != 1 {
			in.t.Errorf("%s has %d executions and %d skips", one.At.UTC(), one.Executions, one.Skips)
		}
	}
	if all := len(in.fired(db, t)); all != executions {
		in.t.Errorf("%d executions, of which %d are of times from %s on that are decided", all, executions, from)
	}
	return executions, len(found)
}

// quick saves a workflow of one step.
func (in *installation) quick() string { return in.workflow(catalog.Step{StepKey: "s"}) }

// Three orchestrators, schedules that tick each second, and random kills: each time has one execution or one recorded skip.
func TestSchedulesOverKills(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 19))
	in := newInstallation(t)
	db := in.db()
	in.withoutIndex(db)
	in.play(echo)
	processes := []*process{in.spawn(), in.spawn(), in.spawn()}
	in.eventually(60*time.Second, "all three work", func() bool { return len(in.held(db)) == 3 })
	every := in.schedule(in.quick(), "* * * * * *", `,"overlap":"ALLOW"`)
	skipping := in.schedule(in.quick(), "@every 1s", `,"overlap":"SKIP"`)
	jittered := in.schedule(in.quick(), "* * * * * *", `,"overlap":"QUEUE","jitterMs":900`)
	for range 8 {
		wait(t.Context(), time.Duration(random.IntN(3000))*time.Millisecond)
		i := random.IntN(len(processes))
		processes[i].kill()
		if random.IntN(2) == 0 { // the others are alone for a while
			wait(t.Context(), time.Duration(random.IntN(2000))*time.Millisecond)
		}
		processes[i] = in.spawn()
	}
	// The waits between the kills are random, and may come to little: what is looked at is long enough all the same.
	const least = 10
	target := jittered.CreatedAt.Add((least + 2) * time.Second)
	if now := time.Now(); now.After(target) {
		target = now
	}
	for _, s := range []contract.Trigger{every, skipping, jittered} {
		in.eventually(60*time.Second, "what was missed is made up for", func() bool {
			return scan[bool](in, db, `SELECT next_time > $2 FROM schedules WHERE trigger_id = $1`, s.ID, target)[0]
		})
		s = in.patch(s, `{"enabled":false}`)
		n, decided := in.checkEachSecond(db, s, s.CreatedAt.Truncate(time.Second).Add(time.Second))
		skips := in.skips(s)
		t.Logf("%s %s: %d executions of %d times, %d skips", s.Cron, s.Overlap, n, decided, len(skips))
		// How many times SKIP leaves out depends on how long the execution takes whose owner was killed.
		if n == 0 || decided < least || s.Overlap != contract.OverlapSkip && len(skips) > 0 {
			t.Errorf("%s %s: %d executions of %d times and the skips %v", s.Cron, s.Overlap, n, decided, skips)
		}
	}
	in.eventually(60*time.Second, "all have ended", func() bool {
		return scan[int](in, db, `SELECT count(*) FROM executions WHERE completed_at IS NULL`)[0] == 0
	})
	in.checkLedger(db)
}

// A schedule is edited, turned off and on and given other intervals while it is due: no time fires twice, what is shown as next is what
// fires, nothing fires at or before what has fired, and it goes on.
func TestScheduleIsChangedWhileDue(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 20))
	in := newInstallation(t)
	db := in.db()
	in.withoutIndex(db)
	in.play(echo)
	in.start()
	in.start()
	s := in.schedule(in.quick(), "* * * * * *", `,"overlap":"ALLOW"`)
	begin := s.CreatedAt.Truncate(time.Second).Add(time.Second)
	order := map[time.Time]time.Time{} // of what has fired: when that was seen
	edits := []string{
		`{"inputs":{"n":1}}`, `{"inputs":{"n":2},"priority":9}`, `{"enabled":false}`, `{"enabled":true}`, `{"cron":"@every 1s"}`, `{"cron":"* * * * * *"}`, `{"cron":"@every 2s"}`,
		`{"cron":"*/3 * * * * *","timeZone":"Asia/Kolkata"}`, `{"jitterMs":400}`, `{"jitterMs":0}`, `{"overlap":"QUEUE"}`, `{"overlap":"ALLOW"}`, `{"name":"t"}`,
	}
	for range 80 {
		pause := time.Duration(random.IntN(200)) * time.Millisecond
		if random.IntN(4) == 0 { // about the moment at which something is due
			pause = time.Until(time.Now().Truncate(time.Second).Add(time.Second)) + time.Duration(random.IntN(80)-20)*time.Millisecond
		}
		wait(t.Context(), pause)
		before := in.fired(db, s)
		s = in.patch(s, edits[random.IntN(len(edits))])
		for _, at := range in.fired(db, s) {
			if _, known := order[at]; !known {
				order[at] = time.Now()
			}
		}
		if len(before) == 0 {
			continue
		}
		last := before[len(before)-1]
		if len(s.NextFireTimes) > 0 && !s.NextFireTimes[0].After(last) {
			t.Fatalf("%s has fired, and next is %s", last, s.NextFireTimes[0])
		}
	}
	fired := in.fired(db, s)
	if n := len(slices.Compact(slices.Clone(fired))); n != len(fired) {
		t.Errorf("%d executions of %d times", len(fired), n)
	}
	// It goes on, as shown.
	in.patch(s, `{"enabled":true,"overlap":"ALLOW","jitterMs":0}`)
	s = in.patch(s, `{"cron":"*/2 * * * * *","timeZone":"Europe/Berlin"}`)
	if len(s.NextFireTimes) != contract.NextFireTimes {
		t.Fatalf("next are %v", s.NextFireTimes)
	}
	preview, err := bus.Call(t.Context(), in.conn, contract.PreviewSchedule, in.owner, contract.NewTriggerRequest{WorkflowID: s.WorkflowID, Body: json.RawMessage(`{"cron":"*/2 * * * * *","timeZone":"Europe/Berlin"}`)})
	if err != nil || len(preview.NextFireTimes) != contract.NextFireTimes || preview.NextFireTimes[0].Sub(s.NextFireTimes[0]) > 2*time.Second {
		t.Errorf("the preview is %v, next are %v (%v)", preview.NextFireTimes, s.NextFireTimes, err)
	}
	in.eventually(60*time.Second, "the times shown have fired", func() bool {
		got := in.trigger(s).LastFiredAt
		return got != nil && !got.Before(s.NextFireTimes[4])
	})
	var since []time.Time
	for _, at := range in.fired(db, s) {
		if !at.Before(s.NextFireTimes[0]) && !at.After(s.NextFireTimes[4]) {
			since = append(since, at)
		}
	}
	if !slices.Equal(since, s.NextFireTimes) {
		t.Errorf("fired are %v, shown were %v", since, s.NextFireTimes)
	}
	// No time is both, and none lies in two skips.
	if both := scan[time.Time](in, db, `SELECT e.scheduled_for FROM executions e JOIN schedule_skips k ON k.trigger_id = e.trigger_id AND k.scheduled_for <= e.scheduled_for AND k.until > e.scheduled_for
		WHERE e.trigger_id = $1`, s.ID); len(both) > 0 {
		t.Errorf("%v have an execution and are skipped", both)
	}
	if begin.After(fired[0]) {
		t.Errorf("%s fired before it was scheduled", fired[0])
	}
}

// Nobody runs for a year: what lies in the catch-up window is made up for, the rest is one skip.
func TestCatchUp(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.play(echo)
	stop := in.start()
	s := in.schedule(in.quick(), "@every 1s", `,"overlap":"ALLOW","catchUpWindowMs":20000`)
	daily := in.schedule(in.quick(), "0 3 * * *", `,"timeZone":"Europe/Berlin","overlap":"ALLOW"`)
	in.eventually(30*time.Second, "it ticks", func() bool { return len(in.fired(db, s)) > 1 })
	stop()
	first := s.CreatedAt.Truncate(time.Second).AddDate(-1, 0, 0)
	in.exec(db, `DELETE FROM executions WHERE trigger_id = $1`, s.ID)
	in.exec(db, `UPDATE schedules SET next_time = $2, next_fire_at = $2, look_at = $2, last_time = NULL WHERE trigger_id = ANY($1::uuid[])`, "{"+s.ID+","+daily.ID+"}", first)
	stopped := time.Now()
	in.start()
	begun := time.Now()
	in.eventually(60*time.Second, "what was missed is decided", func() bool {
		return scan[int](in, db, `SELECT count(*) FROM schedules WHERE next_time < $1`, begun)[0] == 0
	})
	skips := in.skips(s)
	if len(skips) != 1 || skips[0].Reason != contract.SkipCatchUpWindow || !skips[0].ScheduledFor.Equal(first) || !strings.Contains(skips[0].Message, "20s") {
		t.Fatalf("skips %+v", skips)
	}
	const window, either = 20 * time.Second, 2 * time.Second // the seconds of the schedule
	if until := skips[0].Until; until.Before(stopped.Add(-window-either)) || until.After(time.Now().Add(-window+either)) {
		t.Errorf("skipped until %v, decided between %v and %v", until, stopped, time.Now())
	}
	s = in.patch(s, `{"enabled":false}`)
	if n, _ := in.checkEachSecond(db, s, first.Add(365*24*time.Hour-time.Minute)); n < 20 {
		t.Errorf("%d executions", n)
	}
	if skips := in.skips(daily); len(skips) != 1 || skips[0].ScheduledFor.Sub(first) != 0 || len(in.fired(db, daily)) > 1 {
		t.Errorf("the daily one: %+v, fired %v", skips, in.fired(db, daily))
	}
}

func TestOverlap(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	release := make(chan struct{})
	in.play(func(a attempt) (string, *runner.StepError) {
		if strings.Contains(string(a.input), "held") {
			<-release
		}
		return `{}`, nil
	})
	in.start()
	in.start()
	workflow := in.workflow(catalog.Step{StepKey: "s", Inputs: json.RawMessage(`{"x":"{{inputs.x}}"}`)})
	held := func(overlap string) contract.Trigger {
		return in.schedule(workflow, "@every 1s", `,"inputs":{"x":"held"},"overlap":"`+overlap+`"`)
	}
	skip, queue, allow := held(contract.OverlapSkip), held(contract.OverlapQueue), held(contract.OverlapAllow)
	in.eventually(60*time.Second, "ALLOW runs three", func() bool { return len(in.fired(db, allow)) >= 3 })
	in.eventually(60*time.Second, "SKIP has skipped", func() bool {
		found := in.skips(skip)
		return len(found) > 0 && found[0].Until.Sub(found[0].ScheduledFor) >= 2*time.Second
	})
	if n, found := len(in.fired(db, skip)), in.skips(skip); n != 1 || len(found) != 1 || found[0].Reason != contract.SkipOverlap {
		t.Errorf("SKIP: %d executions, %+v", n, found)
	}
	if n, found := len(in.fired(db, queue)), in.skips(queue); n != 1 || len(found) != 0 {
		t.Errorf("QUEUE: %d executions, %+v", n, found)
	}
	close(release)
	in.eventually(60*time.Second, "both go on", func() bool { return len(in.fired(db, skip)) > 2 && len(in.fired(db, queue)) > 4 })
	for _, s := range []contract.Trigger{skip, queue, allow} {
		s = in.patch(s, `{"enabled":false}`)
		in.checkEachSecond(db, s, s.CreatedAt.Truncate(time.Second).Add(time.Second))
	}
	// Of QUEUE no two ever ran at once.
	in.eventually(60*time.Second, "all have ended", func() bool {
		return scan[int](in, db, `SELECT count(*) FROM executions WHERE completed_at IS NULL`)[0] == 0
	})
	for _, s := range []contract.Trigger{skip, queue} {
		if n := scan[int](in, db, `SELECT count(*) FROM executions a JOIN executions b ON b.trigger_id = a.trigger_id AND b.id <> a.id AND a.started_at <= b.started_at AND a.completed_at > b.started_at
			WHERE a.trigger_id = $1`, s.ID)[0]; n > 0 {
			t.Errorf("%s: %d executions ran at once", s.Overlap, n)
		}
	}
}

// What can not be accepted is skipped with the reason; what can not be yet waits; the schedule lives on.
func TestScheduleIsRefused(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.play(echo)
	in.start()
	answer := func(err error) {
		in.mu.Lock()
		defer in.mu.Unlock()
		in.away = err
	}
	answer(&errs.Error{Code: errs.Conflict, Message: "1 obstacle", Details: []errs.Detail{{Field: "status", Message: "the workflow is DRAFT; set its status to ACTIVE"}}})
	s := in.schedule(in.quick(), "@every 1s", `,"overlap":"ALLOW","priority":2,"inputs":{"a":"{{inputs.b}}"}`)
	in.eventually(30*time.Second, "it is skipped", func() bool {
		found := in.skips(s)
		return len(found) == 1 && found[0].Until.Sub(found[0].ScheduledFor) >= 2*time.Second
	})
	if found := in.skips(s); found[0].Reason != contract.SkipRefused || found[0].Message != "1 obstacle; status the workflow is DRAFT; set its status to ACTIVE" || len(in.fired(db, s)) != 0 {
		t.Errorf("%+v", found)
	}
	answer(errs.New(errs.DependencyUnavailable, "the catalog is away"))
	in.eventually(30*time.Second, "nothing is decided", func() bool {
		return scan[bool](in, db, `SELECT next_time < clock_timestamp() - interval '3 seconds' FROM schedules WHERE trigger_id = $1`, s.ID)[0]
	})
	answer(nil)
	in.eventually(30*time.Second, "it fires", func() bool { return len(in.fired(db, s)) > 4 })
	s = in.patch(s, `{"enabled":false}`)
	if found := in.skips(s); len(found) != 1 {
		t.Errorf("while the catalog was away: %+v", found)
	}
	in.checkEachSecond(db, s, s.CreatedAt.Truncate(time.Second).Add(time.Second))
	id := scan[string](in, db, `SELECT id FROM executions WHERE trigger_id = $1 LIMIT 1`, s.ID)[0]
	x := in.await(id, "ended", terminal)
	if x.TriggerType != contract.TriggerScheduled || x.TriggerID == nil || *x.TriggerID != s.ID || x.ScheduledFor == nil || x.UserID != s.UserID || x.Priority != 2 ||
		string(x.Inputs) != `{"a":"{{inputs.b}}"}` {
		t.Errorf("%+v", x)
	}
	list, err := bus.Call(t.Context(), in.conn, contract.ListExecution, in.owner, contract.ListRequest{TriggerID: s.ID, TriggerType: contract.TriggerScheduled})
	if err != nil || list.Pagination.Total != len(in.fired(db, s)) || list.Items[0].ScheduledFor == nil || *list.Items[0].TriggerID != s.ID {
		t.Errorf("%+v, %v", list, err)
	}
	again, err := bus.Call(t.Context(), in.conn, contract.Rerun, in.owner, contract.RerunRequest{ID: id, From: "s"})
	if err != nil || again.Execution.TriggerID != nil || again.Execution.ScheduledFor != nil {
		t.Errorf("run again it is %+v, %v", again.Execution, err)
	}
}

// Triggers are for who may change the workflow.
func TestTriggers(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.start()
	workflow, other := in.quick(), in.quick()
	s := in.schedule(workflow, "0 9 * * MON-FRI", `,"timeZone":"Europe/Berlin","jitterMs":60000`)
	if len(s.NextFireTimes) != 5 || s.Type != contract.TriggerTypeSchedule || s.LastFiredAt != nil || s.UserID != in.owner.UserID {
		t.Errorf("%+v", s)
	}
	stranger := rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleUser}
	admin := rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleAdmin}
	ctx := t.Context()
	calls := func(caller rpc.Caller, workflow, id string) map[string]error {
		one := contract.TriggerRequest{WorkflowID: workflow, ID: id}
		out := map[string]error{}
		_, out["get"] = bus.Call(ctx, in.conn, contract.GetTrigger, caller, one)
		_, out["patch"] = bus.Call(ctx, in.conn, contract.PatchTrigger, caller, contract.PatchTriggerRequest{WorkflowID: workflow, ID: id, Body: json.RawMessage(`{"name":"x"}`)})
		_, out["skips"] = bus.Call(ctx, in.conn, contract.ListSkips, caller, contract.ListSkipsRequest{WorkflowID: workflow, ID: id})
		_, out["list"] = bus.Call(ctx, in.conn, contract.ListTriggers, caller, contract.ListTriggersRequest{WorkflowID: workflow})
		_, out["preview"] = bus.Call(ctx, in.conn, contract.PreviewSchedule, caller, contract.NewTriggerRequest{WorkflowID: workflow, Body: json.RawMessage(`{"cron":"@daily"}`)})
		return out
	}
	for what, err := range calls(stranger, workflow, s.ID) {
		if errs.CodeOf(err) != errs.NotFound {
			t.Errorf("a stranger: %s gives %v", what, err)
		}
	}
	if _, err := bus.Call(ctx, in.conn, contract.DeleteTrigger, stranger, contract.TriggerRequest{WorkflowID: workflow, ID: s.ID}); errs.CodeOf(err) != errs.NotFound {
		t.Errorf("a stranger deletes: %v", err)
	}
	for what, err := range calls(in.owner, other, s.ID) {
		if (errs.CodeOf(err) != errs.NotFound) != (what == "list" || what == "preview") {
			t.Errorf("by another workflow: %s gives %v", what, err)
		}
	}
	for what, err := range calls(in.owner, workflow, "x") {
		if (errs.CodeOf(err) != errs.NotFound) != (what == "list" || what == "preview") {
			t.Errorf("by no id: %s gives %v", what, err)
		}
	}
	for what, err := range calls(admin, workflow, s.ID) {
		if err != nil {
			t.Errorf("ADMIN: %s gives %v", what, err)
		}
	}
	body := json.RawMessage(`{"name":"n","type":"SCHEDULE","cron":"@daily"}`)
	for who, want := range map[*rpc.Caller]errs.Code{&stranger: errs.NotFound, &admin: errs.Forbidden} {
		if _, err := bus.Call(ctx, in.conn, contract.CreateTrigger, *who, contract.NewTriggerRequest{WorkflowID: workflow, Body: body}); errs.CodeOf(err) != want {
			t.Errorf("%s makes a trigger: %v", who.Role, err)
		}
	}
	// The triggers of a deleted workflow are still there to be deleted.
	in.mu.Lock()
	delete(in.workflows, workflow)
	in.mu.Unlock()
	list, err := bus.Call(ctx, in.conn, contract.ListTriggers, in.owner, contract.ListTriggersRequest{WorkflowID: workflow})
	if err != nil || len(list.Items) != 1 || list.Items[0].Name != "x" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := bus.Call(ctx, in.conn, contract.DeleteTrigger, in.owner, contract.TriggerRequest{WorkflowID: workflow, ID: s.ID}); err != nil {
		t.Error(err)
	}
	for what, err := range calls(in.owner, workflow, s.ID) {
		if errs.CodeOf(err) != errs.NotFound {
			t.Errorf("deleted: %s gives %v", what, err)
		}
	}
}

// TestATriggerIsMadeOncePerIdempotencyKey repeats what makes a trigger, also at once and when there is room for one more.
func TestATriggerIsMadeOncePerIdempotencyKey(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.start()
	workflow := in.workflow(waitStep("w", `{"signal":"go"}`))
	keyed := in.owner
	keyed.IdempotencyKey = "k"
	create := func(caller rpc.Caller, name string) (contract.IssuedTrigger, error) {
		return bus.Call(context.Background(), in.conn, contract.CreateTrigger, caller,
			contract.NewTriggerRequest{WorkflowID: workflow, Body: json.RawMessage(`{"name":"` + name + `","type":"SCHEDULE","cron":"@daily","inputs":{"a":"<b>"}}`)})
	}
	for i := range trigger.MaxPerWorkflow - 1 {
		if _, err := create(in.owner, "n"+strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
	}
	answers := [8]contract.IssuedTrigger{}
	var making sync.WaitGroup
	for i := range answers {
		making.Go(func() {
			var err error
			if answers[i], err = create(keyed, "last"); err != nil {
				t.Error(err)
			}
		})
	}
	making.Wait()
	for _, got := range answers[1:] {
		if !reflect.DeepEqual(got, answers[0]) || got.ID == "" {
			t.Errorf("got %+v and %+v", got, answers[0])
		}
	}
	if _, err := create(keyed, "other"); errs.CodeOf(err) != errs.Conflict || !strings.Contains(err.Error(), "Idempotency-Key") {
		t.Errorf("another trigger with the key: %v", err)
	}
	list, err := bus.Call(t.Context(), in.conn, contract.ListTriggers, in.owner, contract.ListTriggersRequest{WorkflowID: workflow})
	if err != nil || list.Pagination.Total != trigger.MaxPerWorkflow {
		t.Errorf("%d triggers, %v", list.Pagination.Total, err)
	}
}
