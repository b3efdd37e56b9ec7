package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/schedule"
	"turbocat.io/services/orchestrator/internal/trigger"
)

// recorded gives what the outbox has, each as "action resource owner actor".
func (l ledger) recorded() (all []string) {
	l.t.Helper()
	var bodies []string
	if err := l.db.SelectContext(l.t.Context(), &bodies, `SELECT body FROM outbox WHERE type = $1 ORDER BY id`, audit.TypeRecorded); err != nil {
		l.t.Fatal(err)
	}
	for _, body := range bodies {
		var e audit.TrailEntry
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			l.t.Fatal(err)
		}
		all = append(all, fmt.Sprint(e.Action, " ", e.ResourceID, " ", e.OwnerID, " ", e.Actor.UserID))
		if strings.Contains(body, "canary") {
			l.t.Errorf("%s tells a payload", body)
		}
	}
	return all
}

// TestWhatIsAskedIsRecorded wants an entry of each command, signal, retry and change of a trigger, and none of what was refused.
func TestWhatIsAskedIsRecorded(t *testing.T) {
	l := newLedger(t)
	x := l.acceptable("a")
	l.accept(x)
	owner, by := x.Caller.UserID, uuid.NewString()
	ctx := rpc.WithCaller(t.Context(), rpc.Caller{UserID: by, Role: rpc.RoleUser, SessionID: "s"})
	var want []string
	expect := func(action audit.Action, resource, owner, actor string) {
		want = append(want, fmt.Sprint(action, " ", resource, " ", owner, " ", actor))
	}
	for kind, action := range commandActions {
		if kind == execution.CommandSignal {
			continue
		}
		if err := l.AddCommands(ctx, []execution.Command{{ID: uuid.NewString(), ExecutionID: x.ID, Kind: kind, UserID: by}}); err != nil {
			t.Fatal(err)
		}
		expect(action, x.ID, owner, by)
	}
	signal := l.signal(x.ID, "go")
	signal.Signal = []byte(`{"name":"go","payload":"canary","approve":true}`)
	if _, err := l.AddSignal(ctx, signal, nil, func(execution.Standing) error { return nil }); err != nil {
		t.Fatal(err)
	}
	expect(audit.ExecutionSignalled, x.ID, owner, by)
	if _, err := l.AddSignal(ctx, l.signal(x.ID, "go"), nil, func(execution.Standing) error { return errs.New(errs.Conflict, "no") }); err == nil {
		t.Fatal("it is not refused")
	}
	again := x
	again.ID, again.RetryOf, again.DefinitionBody, again.Key = uuid.Must(uuid.NewV7()).String(), x.ID, nil, &execution.IdempotencyKey{UserID: by, Route: "retry", Key: "k", BodyHash: []byte("h")}
	again.Caller = rpc.Caller{UserID: by}
	l.accept(again)
	expect(audit.ExecutionRetried, x.ID, by, by)
	repeated := again
	repeated.ID = uuid.Must(uuid.NewV7()).String()
	l.accept(repeated) // by the same key: it is the same one

	now, err := l.Clock(ctx)
	if err != nil {
		t.Fatal(err)
	}
	made := schedule.Trigger{
		Base: trigger.Base{
			ID: uuid.NewString(), WorkflowID: uuid.NewString(), WorkflowOwner: owner, UserID: owner, Type: orchestrator.TriggerTypeSchedule, Name: "n", Inputs: []byte(`{}`), CreatedAt: now, UpdatedAt: now,
		},
		Cron: "@daily", TimeZone: "UTC", Overlap: orchestrator.OverlapSkip, Place: schedule.Place{Time: now, FireAt: now},
	}
	if err := l.AddTrigger(ctx, &made, 1); err != nil {
		t.Fatal(err)
	}
	expect(audit.TriggerCreated, made.ID, owner, by)
	refused := made
	refused.ID = uuid.NewString()
	if err := l.AddTrigger(ctx, &refused, 1); errs.CodeOf(err) != errs.Conflict {
		t.Fatal(err)
	}
	for _, change := range []func(*schedule.Trigger) error{
		func(t *schedule.Trigger) error { t.Name = "m"; return nil },
		func(*schedule.Trigger) error { return nil },
		func(t *schedule.Trigger) error {
			t.Name = "o"
			return errors.New("no")
		},
	} {
		_, _ = l.change(ctx, made.ID, change)
	}
	expect(audit.TriggerUpdated, made.ID, owner, by)
	for range 2 {
		if err := l.RemoveTrigger(ctx, made.ID); err != nil {
			t.Fatal(err)
		}
	}
	expect(audit.TriggerDeleted, made.ID, owner, by)
	got := l.recorded()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("recorded\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
