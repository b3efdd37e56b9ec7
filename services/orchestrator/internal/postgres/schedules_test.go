package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/schedule"
	"turbocat.io/services/orchestrator/internal/trigger"
)

var workflowID = uuid.NewString()

// scheduled adds a schedule whose next time has been due for a while.
func (l ledger) scheduled(late time.Duration, change func(*schedule.Trigger)) schedule.Trigger {
	l.t.Helper()
	now, err := l.Clock(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	at := now.Add(-late).Truncate(time.Second)
	t := schedule.Trigger{
		Base: trigger.Base{
			ID: uuid.Must(uuid.NewV7()).String(), WorkflowID: workflowID, WorkflowOwner: uuid.NewString(), UserID: uuid.NewString(), Type: orchestrator.TriggerTypeSchedule, Name: "s", Enabled: true,
			Inputs: []byte(`{"a":1}`), CreatedAt: now, UpdatedAt: now,
		},
		Cron: "@every 1s", TimeZone: "UTC", Overlap: orchestrator.OverlapSkip, CatchUpWindow: time.Minute, Jitter: time.Second,
		Place: schedule.Place{Time: at, FireAt: at},
	}
	if change != nil {
		change(&t)
	}
	if err := l.AddTrigger(l.t.Context(), &t, trigger.MaxPerWorkflow); err != nil {
		l.t.Fatal(err)
	}
	return l.trigger(t.ID)
}

func (l ledger) trigger(id string) schedule.Trigger {
	l.t.Helper()
	t, err := l.Trigger(l.t.Context(), id)
	if err != nil {
		l.t.Fatal(err)
	}
	return *t.(*schedule.Trigger)
}

// change changes a schedule.
func (l ledger) change(ctx context.Context, id string, change func(*schedule.Trigger) error) (*schedule.Trigger, error) {
	t, err := l.ChangeTrigger(ctx, id, func(was trigger.Trigger) (trigger.Trigger, error) {
		next := *was.(*schedule.Trigger)
		return &next, change(&next)
	})
	if err != nil {
		return nil, err
	}
	return t.(*schedule.Trigger), nil
}

func (l ledger) claim(lease time.Duration, n int) []string {
	l.t.Helper()
	due, err := l.ClaimDue(l.t.Context(), lease, n)
	if err != nil {
		l.t.Fatal(err)
	}
	ids := make([]string, len(due))
	for i, d := range due {
		ids[i] = d.ID
	}
	return ids
}

// firing is the execution of a schedule's next time.
func (l ledger) firing(t schedule.Trigger) execution.Accepted {
	l.t.Helper()
	x := l.acceptable("s")
	next := t.Place.Time.Add(time.Second)
	x.Scheduled = &execution.Scheduled{TriggerID: t.ID, Revision: t.Revision, For: t.Place.Time, Next: next, NextFireAt: next.Add(time.Millisecond)}
	return x
}

func TestTriggerIsKept(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	priority := 3
	want := l.scheduled(time.Hour, func(t *schedule.Trigger) { t.Priority, t.Name = &priority, "nightly" })
	off := l.scheduled(time.Hour, func(t *schedule.Trigger) { t.Enabled = false })
	if want.Revision != 1 || *want.Priority != 3 || want.Jitter != time.Second || string(want.Inputs) != `{"a":1}` || !want.Last.IsZero() || want.Now.Sub(want.CreatedAt) < 0 {
		t.Errorf("%+v", want)
	}
	if got := l.claim(time.Minute, 10); !slices.Equal(got, []string{want.ID}) {
		t.Errorf("due are %v", got)
	}
	found, pagination, err := l.Triggers(t.Context(), orchestrator.ListTriggersRequest{WorkflowID: workflowID, Page: rpc.Page{SortBy: "name", SortOrder: "asc", Search: "IGHT"}})
	if err != nil || len(found) != 1 || pagination.Total != 1 || found[0].Common().ID != want.ID {
		t.Errorf("%+v, %+v, %v", found, pagination, err)
	}
	if found, _, err := l.Triggers(t.Context(), orchestrator.ListTriggersRequest{WorkflowID: workflowID}); err != nil || len(found) != 2 || found[0].Common().ID != off.ID {
		t.Errorf("%+v, %v", found, err)
	}
	for _, req := range []orchestrator.ListTriggersRequest{{WorkflowID: "x"}, {WorkflowID: workflowID, Page: rpc.Page{SortBy: "cron"}}} {
		if _, _, err := l.Triggers(t.Context(), req); errs.CodeOf(err) != errs.Validation {
			t.Errorf("%+v: %v", req, err)
		}
	}
	for _, id := range []string{"x", uuid.NewString()} {
		if _, err := l.Trigger(t.Context(), id); errs.CodeOf(err) != errs.NotFound {
			t.Errorf("%s: %v", id, err)
		}
		if _, err := l.ChangeTrigger(t.Context(), id, nil); errs.CodeOf(err) != errs.NotFound {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// TestTheCatalogIsToldOfSchedules reads what waits in the outbox after each change of a workflow's schedules.
func TestTheCatalogIsToldOfSchedules(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	var last int64
	told := func(want bool) {
		t.Helper()
		var bodies []string
		if err := l.db.Select(&bodies, `DELETE FROM outbox WHERE type = $1 RETURNING body`, schedule.TypeNoted); err != nil {
			t.Fatal(err)
		}
		var state catalog.ScheduleState
		if len(bodies) != 1 || json.Unmarshal([]byte(bodies[0]), &state) != nil || state.WorkflowID != workflowID || state.Enabled != want || state.Revision <= last {
			t.Errorf("told %q, want %t above %d", bodies, want, last)
		}
		last = state.Revision
	}
	enable := func(id string, enabled bool) {
		t.Helper()
		if _, err := l.change(t.Context(), id, func(t *schedule.Trigger) error {
			t.Enabled = enabled
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(id string) {
		t.Helper()
		if err := l.RemoveTrigger(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	a := l.scheduled(0, func(t *schedule.Trigger) { t.Enabled = false })
	told(false)
	enable(a.ID, true)
	told(true)
	b := l.scheduled(0, nil)
	told(true)
	enable(a.ID, false)
	told(true)
	remove(b.ID)
	told(false)
	enable(a.ID, true)
	told(true)
	remove(a.ID)
	told(false)
}

func TestTriggersOfAWorkflowAreBounded(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	one := l.scheduled(0, nil)
	l.scheduled(0, func(t *schedule.Trigger) { t.WorkflowID = uuid.NewString() })
	var adding sync.WaitGroup
	refused := make(chan error, 10)
	for range 10 {
		adding.Go(func() {
			more := one
			more.ID = uuid.NewString()
			if err := l.AddTrigger(t.Context(), &more, 5); err != nil {
				refused <- err
			}
		})
	}
	adding.Wait()
	close(refused)
	n := 0
	for err := range refused {
		if n++; errs.CodeOf(err) != errs.Conflict {
			t.Error(err)
		}
	}
	if n != 6 {
		t.Errorf("%d of 10 were refused", n)
	}
}

func TestClaim(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	second, first := l.scheduled(10*time.Second, nil), l.scheduled(20*time.Second, nil)
	future := l.scheduled(-time.Hour, nil)
	if wait, err := l.UntilNextLook(t.Context(), time.Second); err != nil || wait != 0 {
		t.Errorf("%s, %v", wait, err)
	}
	if got := l.claim(time.Minute, 1); !slices.Equal(got, []string{first.ID}) {
		t.Errorf("first is %v", got)
	}
	if got := l.claim(0, 10); !slices.Equal(got, []string{second.ID}) {
		t.Errorf("then %v", got)
	}
	if got := l.claim(time.Minute, 10); !slices.Equal(got, []string{second.ID}) {
		t.Errorf("when its lease is over, %v", got)
	}
	if got := l.claim(time.Minute, 10); len(got) != 0 {
		t.Errorf("at last %v", got)
	}
	if err := l.Postpone(t.Context(), first, 0); err != nil {
		t.Fatal(err)
	}
	if got := l.claim(time.Minute, 10); !slices.Equal(got, []string{first.ID}) {
		t.Errorf("put off by nothing, %v", got)
	}
	stale := second
	stale.Revision++
	if err := l.Postpone(t.Context(), stale, 0); err != nil || len(l.claim(time.Minute, 10)) != 0 {
		t.Errorf("another revision is put off: %v", err)
	}
	if wait, err := l.UntilNextLook(t.Context(), 2*time.Hour); err != nil || wait < 50*time.Second || wait > time.Minute {
		t.Errorf("%s, %v", wait, err)
	}
	if err := l.RemoveTrigger(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	if err := l.RemoveTrigger(t.Context(), second.ID); err != nil {
		t.Fatal(err)
	}
	if wait, err := l.UntilNextLook(t.Context(), 2*time.Hour); err != nil || wait < 59*time.Minute || wait > time.Hour {
		t.Errorf("until %s: %s, %v", future.Place.Time, wait, err)
	}
}

// A schedule that somebody else works on is left to them.
func TestClaimWaitsForNobody(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	changed, free := l.scheduled(20*time.Second, nil), l.scheduled(10*time.Second, nil)
	_, err := l.change(t.Context(), changed.ID, func(*schedule.Trigger) error {
		if got := l.claim(time.Minute, 10); !slices.Equal(got, []string{free.ID}) {
			t.Errorf("claimed are %v", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := l.claim(time.Minute, 10); !slices.Equal(got, []string{changed.ID}) {
		t.Errorf("then %v", got)
	}
}

// Of all who would decide one time, one does.
func TestATimeIsDecidedOnce(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	s := l.scheduled(10*time.Second, nil)
	var deciding sync.WaitGroup
	var mu sync.Mutex
	accepted := 0
	for i := range 20 {
		deciding.Go(func() {
			if i > 2 { // as few accept at once as do in a process
				next := s.Place.Time.Add(time.Second)
				skip := schedule.Skip{Time: s.Place.Time, Until: next, Reason: orchestrator.SkipOverlap, Message: "m"}
				if err := l.SkipTimes(t.Context(), s, skip, schedule.Place{Time: next, FireAt: next}); err != nil {
					t.Error(err)
				}
				return
			}
			other := l.acceptable("s")
			outcomes, _, err := l.Accept(t.Context(), []execution.Accepted{l.firing(s), other, l.firing(s)})
			if err != nil || outcomes[1].Obsolete || !outcomes[0].Obsolete && !outcomes[2].Obsolete {
				t.Errorf("%+v, %v", outcomes, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, o := range outcomes {
				if o.ID != other.ID && !o.Obsolete {
					accepted++
				}
			}
		})
	}
	deciding.Wait()
	var executions, skips int
	if err := errors.Join(l.db.Get(&executions, `SELECT count(*) FROM executions WHERE trigger_id = $1`, s.ID), l.db.Get(&skips, `SELECT count(*) FROM schedule_skips`)); err != nil {
		t.Fatal(err)
	}
	now := l.trigger(s.ID)
	if executions != accepted || executions+skips != 1 || !now.Place.Time.Equal(s.Place.Time.Add(time.Second)) || now.Last.IsZero() != (executions == 0) {
		t.Errorf("%d executions, %d accepted, %d skips; it stands at %+v after %s", executions, accepted, skips, now.Place, now.Last)
	}
}

// What was changed since it was claimed is not decided, and neither is what was turned off.
func TestAChangedScheduleIsNotDecided(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	for name, change := range map[string]func(*schedule.Trigger){
		"inputs": func(t *schedule.Trigger) { t.Inputs = []byte(`{}`) },
		"off":    func(t *schedule.Trigger) { t.Enabled = false },
	} {
		s := l.scheduled(10*time.Second, nil)
		now, err := l.change(t.Context(), s.ID, func(t *schedule.Trigger) error {
			change(t)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		next := s.Place.Time.Add(time.Second)
		if err := l.SkipTimes(t.Context(), s, schedule.Skip{Time: s.Place.Time, Until: next}, schedule.Place{Time: next, FireAt: next}); err != nil {
			t.Fatal(err)
		}
		outcomes, _, err := l.Accept(t.Context(), []execution.Accepted{l.firing(s)})
		if err != nil || !outcomes[0].Obsolete {
			t.Errorf("%s: %+v, %v", name, outcomes, err)
		}
		current := l.trigger(s.ID)
		if !current.Place.Time.Equal(s.Place.Time) || current.Revision != 2 {
			t.Errorf("%s: %+v", name, current)
		}
		current.Revision = now.Revision + 1
		outcomes, _, err = l.Accept(t.Context(), []execution.Accepted{l.firing(current)})
		if err != nil || outcomes[0].Obsolete != (name == "off") {
			t.Errorf("%s, seen: %+v, %v", name, outcomes, err)
		}
	}
}

func TestSkipsInARowAreOne(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	s := l.scheduled(time.Hour, nil)
	begin := s.Place.Time
	step := func(seconds int, reason, message string) {
		t.Helper()
		s = l.trigger(s.ID)
		next := s.Place.Time.Add(time.Duration(seconds) * time.Second)
		skip := schedule.Skip{Time: s.Place.Time, Until: next, Reason: reason, Message: message}
		if err := l.SkipTimes(t.Context(), s, skip, schedule.Place{Time: next, FireAt: next}); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		step(1, orchestrator.SkipOverlap, "a")
	}
	step(1, orchestrator.SkipOverlap, "b")
	step(100, orchestrator.SkipCatchUpWindow, "\x00late")
	if _, _, err := l.Accept(t.Context(), []execution.Accepted{l.firing(l.trigger(s.ID))}); err != nil {
		t.Fatal(err)
	}
	step(1, orchestrator.SkipCatchUpWindow, "late")
	list := func(page rpc.Page, reason string) (got []string, next *string) {
		t.Helper()
		found, pagination, err := l.Skips(t.Context(), orchestrator.ListSkipsRequest{ID: s.ID, Page: page, Reason: reason})
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range found {
			got = append(got, fmt.Sprintf("%s %g-%g", k.Reason, k.Time.Sub(begin).Seconds(), k.Until.Sub(begin).Seconds()))
		}
		return got, pagination.NextCursor
	}
	want := []string{"CATCH_UP_WINDOW 105-106", "CATCH_UP_WINDOW 4-104", "OVERLAP 3-4", "OVERLAP 0-3"}
	if got, _ := list(rpc.Page{}, ""); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got, next := list(rpc.Page{PageSize: 3}, ""); !slices.Equal(got, want[:3]) || next == nil {
		t.Errorf("%q", got)
	} else if got, _ := list(rpc.Page{PageSize: 3, Cursor: *next}, ""); !slices.Equal(got, want[3:]) {
		t.Errorf("%q", got)
	}
	if got, _ := list(rpc.Page{}, orchestrator.SkipOverlap); !slices.Equal(got, want[2:]) {
		t.Errorf("%q", got)
	}
	if _, _, err := l.Skips(t.Context(), orchestrator.ListSkipsRequest{ID: s.ID, Reason: "BORED"}); errs.CodeOf(err) != errs.Validation {
		t.Error(err)
	}
	if err := l.RemoveTrigger(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	if got, _ := list(rpc.Page{}, ""); len(got) != 0 {
		t.Errorf("of a trigger that is deleted: %q", got)
	}
}

// A skip says until when by the timetable that it was made by. Another one may have times before that.
func TestSkipsEndWhereTheScheduleGoesOn(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	s := l.scheduled(time.Minute, nil)
	until := s.Place.Time.Add(time.Hour)
	if err := l.SkipTimes(t.Context(), s, schedule.Skip{Time: s.Place.Time, Until: until, Reason: orchestrator.SkipOverlap}, schedule.Place{Time: until, FireAt: until}); err != nil {
		t.Fatal(err)
	}
	earlier := s.Place.Time.Add(2 * time.Minute)
	if _, err := l.change(t.Context(), s.ID, func(t *schedule.Trigger) error {
		t.Place = schedule.Place{Time: earlier, FireAt: earlier}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if found, _, err := l.Skips(t.Context(), orchestrator.ListSkipsRequest{ID: s.ID}); err != nil || len(found) != 1 || !found[0].Until.Equal(earlier) {
		t.Errorf("%+v, %v", found, err)
	}
}

// The index is there for whoever breaks the rule above: a time has one execution.
func TestATimeHasOneExecution(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	s := l.scheduled(time.Minute, nil)
	if _, _, err := l.Accept(t.Context(), []execution.Accepted{l.firing(s)}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.db.Exec(`UPDATE schedules SET next_time = $1`, s.Place.Time); err != nil {
		t.Fatal(err)
	}
	_, _, err := l.Accept(t.Context(), []execution.Accepted{l.firing(s)})
	var refused *pq.Error
	if !errors.As(err, &refused) || refused.Constraint != "executions_scheduled" {
		t.Errorf("%v", err)
	}
}
