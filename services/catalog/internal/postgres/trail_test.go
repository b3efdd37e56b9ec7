package postgres_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/migrations"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/services/catalog/internal/postgres"
)

// TestEveryChangeIsRecorded wants an entry of each change in its transaction, and none of what was not done.
func TestEveryChangeIsRecorded(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, catalog.Service, migrations.Of(catalog.Service))
	agents := postgres.NewAgents(db)
	caller := rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleUser, SessionID: uuid.NewString(), RequestID: "r-1", IP: "192.0.2.7", UserAgent: "te\x00st"}
	ctx := rpc.WithCaller(t.Context(), caller)
	now := time.Now().UTC().Truncate(time.Microsecond)
	a := catalog.Agent{
		ID: uuid.NewString(), UserID: caller.UserID, Name: "a", Type: "API", Status: catalog.StatusDraft, Version: 1, CreatedAt: now, UpdatedAt: now, Tags: []string{},
		Config: json.RawMessage(`{"url":"https://x","auth":{"type":"bearer","token":"canary"}}`), InputSchema: json.RawMessage("null"), OutputSchema: json.RawMessage("null"),
	}
	entries := func() (all []audit.TrailEntry) {
		t.Helper()
		var bodies []string
		if err := db.Select(&bodies, `SELECT body FROM outbox ORDER BY id`); err != nil {
			t.Fatal(err)
		}
		for _, body := range bodies {
			var e audit.TrailEntry
			if err := json.Unmarshal([]byte(body), &e); err != nil {
				t.Fatal(err)
			}
			all = append(all, e)
		}
		return all
	}
	if err := agents.Insert(ctx, a); err != nil {
		t.Fatal(err)
	}
	if err := agents.Insert(ctx, a); errs.CodeOf(err) != errs.Conflict {
		t.Fatal(err)
	}
	update := func(change func(*catalog.Agent), refusal error) {
		t.Helper()
		if _, err := agents.Update(ctx, a.ID, func(a catalog.Agent) (catalog.Agent, error) {
			change(&a)
			return a, refusal
		}); !errors.Is(err, refusal) {
			t.Fatal(err)
		}
	}
	update(func(a *catalog.Agent) { a.Name = "b"; a.UpdatedAt = now.Add(time.Second) }, nil)
	update(func(*catalog.Agent) {}, nil)
	update(func(a *catalog.Agent) { a.Name = "c" }, errors.New("no"))
	update(func(a *catalog.Agent) {
		a.Version++
		a.Config = json.RawMessage(`{"url":"https://x","auth":{"type":"bearer","token":"other"}}`)
	}, nil)
	if err := agents.Delete(ctx, a.ID, uuid.NewString(), now); errs.CodeOf(err) != errs.NotFound {
		t.Fatal(err)
	}
	if err := agents.Delete(ctx, a.ID, caller.UserID, now); err != nil {
		t.Fatal(err)
	}
	if err := agents.Delete(ctx, a.ID, caller.UserID, now); errs.CodeOf(err) != errs.NotFound {
		t.Fatal(err)
	}
	got := entries()
	want := []struct {
		action  audit.Action
		changes string
	}{
		{audit.AgentCreated, ""},
		{audit.AgentUpdated, `[{"path":"name","before":"a","after":"b"}]`},
		{audit.AgentUpdated, `[{"path":"config.auth.token","before":"[masked]","after":"[masked]"},{"path":"version","before":1,"after":2}]`},
		{audit.AgentDeleted, ""},
	}
	if len(got) != len(want) {
		t.Fatalf("got %+v", got)
	}
	for i, e := range got {
		changes, err := json.Marshal(e.Changes)
		if err != nil || e.Action != want[i].action || want[i].changes != "" && string(changes) != want[i].changes || len(e.Changes) == 0 {
			t.Errorf("%s %s", e.Action, changes)
		}
		e.Changes, e.ID, e.Time, e.Action = nil, "", time.Time{}, ""
		if fmt.Sprint(e) != fmt.Sprint(audit.TrailEntry{
			Actor:   audit.TrailActor{UserID: caller.UserID, Role: rpc.RoleUser, Via: audit.ViaSession, SessionID: caller.SessionID},
			Outcome: audit.Success, ResourceType: "agent", ResourceID: a.ID, OwnerID: caller.UserID, IP: "192.0.2.7", UserAgent: "test", RequestID: "r-1",
		}) {
			t.Errorf("%+v", e)
		}
	}
}
