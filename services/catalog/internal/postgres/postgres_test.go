package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/migrations"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/services/catalog/internal/postgres"
)

func open(t *testing.T) *sqlx.DB {
	t.Helper()
	t.Parallel()
	return pgtest.New(t, catalog.Service, migrations.Of(catalog.Service))
}

var start = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)

const config = `{ "b" : 1, "a":"\u0000 \ud800 <x>", "n": 1.50e3 }`

const source = "01930000-0000-7000-8000-000000000001"

func sourced() *string {
	id := source
	return &id
}

func newAgent(owner string, change func(*catalog.Agent)) catalog.Agent {
	a := catalog.Agent{
		ID: uuid.Must(uuid.NewV7()).String(), UserID: owner, Name: "sum", Type: "CODE", Status: "DRAFT", Version: 1, Config: json.RawMessage(config),
		InputSchema: json.RawMessage("null"), OutputSchema: json.RawMessage(`{"type":"object"}`), Tags: []string{}, CreatedAt: start, UpdatedAt: start,
	}
	if change != nil {
		change(&a)
	}
	return a
}

func newWorkflow(owner, agentID string) catalog.Workflow {
	return catalog.Workflow{
		ID: uuid.Must(uuid.NewV7()).String(), UserID: owner, Name: "etl", Status: "ACTIVE", Version: 1, InputSchema: json.RawMessage("null"),
		Outputs: json.RawMessage(`{"r":"{{a.output}}"}`), TimeoutMs: 3600000, Concurrency: &catalog.Concurrency{Max: 2, Key: "{{inputs.k}}", OnLimit: catalog.OnLimitDrop}, Priority: 5, StrictTemplates: true,
		Tags: []string{"x", "y"}, CreatedAt: start, UpdatedAt: start,
		Steps: []catalog.Step{{
			StepKey: "a", StepType: "AGENT", AgentID: &agentID, DependsOn: []string{}, Inputs: json.RawMessage(`{"n":"{{inputs.n}}"}`), Config: json.RawMessage(`{}`),
			OnError: "FAIL", RetryCount: 3, RetryDelayMs: 1000, TimeoutMs: 300000, TriggerRule: "none_failed",
		}},
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func wantCode(t *testing.T, err error, code errs.Code) {
	t.Helper()
	if errs.CodeOf(err) != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

// wantFilled wants a value in every field, for one without is not seen to come back.
func wantFilled(t *testing.T, v any) {
	t.Helper()
	for f, value := range reflect.ValueOf(v).Fields() {
		if value.IsZero() {
			t.Errorf("the %s that is saved here has no %s; give it a value", reflect.TypeOf(v).Name(), f.Name)
		}
	}
}

func count(t *testing.T, db *sqlx.DB, table string) (n int) {
	t.Helper()
	if err := db.Get(&n, "SELECT count(*) FROM "+table); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAgentComesBackAsItWas(t *testing.T) {
	db := open(t)
	store, ctx := postgres.NewAgents(db), context.Background()
	a := newAgent(uuid.NewString(), func(a *catalog.Agent) {
		a.Tags, a.IsPublic, a.Description, a.SourceID = []string{"x,{\"", "ü"}, true, "d", sourced()
	})
	wantFilled(t, a)
	if err := store.Insert(ctx, a); err != nil {
		t.Fatal(err)
	}
	got, err := store.Find(ctx, a.ID)
	if err != nil || asJSON(t, got) != asJSON(t, a) {
		t.Fatalf("%v\n got %s\nwant %s", err, asJSON(t, got), asJSON(t, a))
	}
	if string(got.Config) != config {
		t.Errorf("config %s, want %s", got.Config, config)
	}
	wantCode(t, store.Insert(ctx, a), errs.Conflict)
	for _, id := range []string{uuid.NewString(), "x", "", "{" + a.ID + "}", "\x00"} {
		_, err := store.Find(ctx, id)
		wantCode(t, err, errs.NotFound)
		wantCode(t, store.Delete(ctx, id, "", start), errs.NotFound)
	}
}

func TestAgentsOfEveryTypeAreKept(t *testing.T) {
	store := postgres.NewAgents(open(t))
	for _, agentType := range catalog.AgentTypes() {
		if err := store.Insert(t.Context(), newAgent(uuid.NewString(), func(a *catalog.Agent) { a.Type = agentType })); err != nil {
			t.Errorf("%s: %v; let a new migration allow it", agentType, err)
		}
	}
}

func TestAgentVersionsAreKept(t *testing.T) {
	db := open(t)
	store, ctx := postgres.NewAgents(db), context.Background()
	a := newAgent(uuid.NewString(), nil)
	if err := store.Insert(ctx, a); err != nil {
		t.Fatal(err)
	}
	change := func(fn func(*catalog.Agent)) {
		t.Helper()
		next, err := store.Update(ctx, a.ID, func(current catalog.Agent) (catalog.Agent, error) {
			fn(&current)
			return current, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if found, err := store.Find(ctx, a.ID); err != nil || asJSON(t, found) != asJSON(t, next) {
			t.Errorf("%v\n got %s\nwant %s", err, asJSON(t, found), asJSON(t, next))
		}
	}
	change(func(*catalog.Agent) {})
	change(func(a *catalog.Agent) { a.Name, a.Status = "other", "ACTIVE" })
	if n := count(t, db, "agent_versions"); n != 1 {
		t.Errorf("%d versions after a new name", n)
	}
	change(func(a *catalog.Agent) { a.Version, a.Config = 2, json.RawMessage(`{"v":2}`) })
	var configs []string
	if err := db.Select(&configs, "SELECT config::text FROM agent_versions ORDER BY version"); err != nil || !slices.Equal(configs, []string{config, `{"v":2}`}) {
		t.Errorf("%v, %v", configs, err)
	}
	refused := errs.New(errs.PreconditionFailed, "no")
	_, err := store.Update(ctx, a.ID, func(a catalog.Agent) (catalog.Agent, error) { return a, refused })
	wantCode(t, err, errs.PreconditionFailed)
}

func TestDeletedAgentsAreGone(t *testing.T) {
	db := open(t)
	store, ctx := postgres.NewAgents(db), context.Background()
	a := newAgent(uuid.NewString(), nil)
	if err := store.Insert(ctx, a); err != nil {
		t.Fatal(err)
	}
	wantCode(t, store.Delete(ctx, a.ID, uuid.NewString(), start), errs.NotFound)
	if err := store.Delete(ctx, a.ID, a.UserID, start); err != nil {
		t.Fatal(err)
	}
	_, err := store.Find(ctx, a.ID)
	wantCode(t, err, errs.NotFound)
	wantCode(t, store.Delete(ctx, a.ID, "", start), errs.NotFound)
	wantCode(t, store.Insert(ctx, a), errs.Conflict)
	_, err = store.Update(ctx, a.ID, func(a catalog.Agent) (catalog.Agent, error) { return a, nil })
	wantCode(t, err, errs.NotFound)
	found, err := store.FindAll(ctx, []string{a.ID})
	if err != nil || len(found) != 0 {
		t.Errorf("FindAll: %v, %v", found, err)
	}
	if n := count(t, db, "agent_versions"); n != 1 {
		t.Errorf("%d versions kept, want 1", n)
	}
}

func TestConcurrentChangesAreAllKept(t *testing.T) {
	db := open(t)
	store, ctx := postgres.NewAgents(db), context.Background()
	a := newAgent(uuid.NewString(), nil)
	if err := store.Insert(ctx, a); err != nil {
		t.Fatal(err)
	}
	const writers = 8
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			_, err := store.Update(ctx, a.ID, func(a catalog.Agent) (catalog.Agent, error) {
				a.Tags = append(slices.Clone(a.Tags), fmt.Sprint(i))
				a.Version++
				return a, nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got, err := store.Find(ctx, a.ID)
	if err != nil || len(got.Tags) != writers || got.Version != 1+writers || count(t, db, "agent_versions") != 1+writers {
		t.Errorf("%v, %+v", err, got)
	}
}

func TestWorkflowComesBackAsItWas(t *testing.T) {
	db := open(t)
	store, ctx := postgres.NewWorkflows(db), context.Background()
	w := newWorkflow(uuid.NewString(), uuid.NewString())
	w.Description, w.IsPublic, w.SourceID = "d", true, sourced()
	wantFilled(t, w)
	if err := store.Insert(ctx, w); err != nil {
		t.Fatal(err)
	}
	got, err := store.Find(ctx, w.ID)
	if err != nil || asJSON(t, got) != asJSON(t, w) {
		t.Fatalf("%v\n got %s\nwant %s", err, asJSON(t, got), asJSON(t, w))
	}
	wantCode(t, store.Insert(ctx, w), errs.Conflict)

	next, err := store.Update(ctx, w.ID, func(w catalog.Workflow) (catalog.Workflow, error) {
		w.Version, w.Steps, w.Name, w.UpdatedAt = 2, []catalog.Step{}, "v2", start.Add(time.Second)
		return w, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := store.Find(ctx, w.ID); err != nil || asJSON(t, got) != asJSON(t, next) || !strings.Contains(asJSON(t, got), `"steps":[]`) {
		t.Errorf("%v\n got %s\nwant %s", err, asJSON(t, got), asJSON(t, next))
	}
	if n := count(t, db, "workflow_versions"); n != 2 {
		t.Errorf("%d versions", n)
	}
	list, err := store.List(ctx, w.UserID, catalog.ListRequest{Type: "CODE"}) // workflows have no type
	if err != nil || len(list.Items) != 1 || strings.Contains(asJSON(t, list), `"steps"`) {
		t.Errorf("%v, %s", err, asJSON(t, list))
	}
	if err := store.Delete(ctx, w.ID, w.UserID, start); err != nil {
		t.Fatal(err)
	}
	_, err = store.Find(ctx, w.ID)
	wantCode(t, err, errs.NotFound)
}

// TestSchedulesAreNoted has states come late, twice and together.
func TestSchedulesAreNoted(t *testing.T) {
	store, ctx := postgres.NewWorkflows(open(t)), context.Background()
	w, plain := newWorkflow(uuid.NewString(), uuid.NewString()), newWorkflow(uuid.NewString(), uuid.NewString())
	plain.UserID = w.UserID
	for _, w := range []catalog.Workflow{w, plain} {
		if err := store.Insert(ctx, w); err != nil {
			t.Fatal(err)
		}
	}
	yes, no := true, false
	for i, s := range []struct {
		states []catalog.ScheduleState
		on     bool
	}{
		{nil, false},
		{[]catalog.ScheduleState{{WorkflowID: w.ID, Enabled: true, Revision: 2}}, true},
		{[]catalog.ScheduleState{{WorkflowID: w.ID, Enabled: false, Revision: 1}}, true},
		{[]catalog.ScheduleState{{WorkflowID: w.ID, Enabled: false, Revision: 4}, {WorkflowID: w.ID, Enabled: true, Revision: 3}, {WorkflowID: uuid.NewString(), Enabled: true, Revision: 9}}, false},
		{[]catalog.ScheduleState{{WorkflowID: w.ID, Enabled: true, Revision: 4}}, false},
		{[]catalog.ScheduleState{{WorkflowID: w.ID, Enabled: true, Revision: 5}}, true},
	} {
		if err := store.NoteSchedules(ctx, s.states); err != nil {
			t.Fatal(err)
		}
		on, err := store.List(ctx, w.UserID, catalog.ListRequest{ScheduleEnabled: &yes})
		if err != nil || len(on.Items) == 1 != s.on || s.on && on.Items[0].ID != w.ID {
			t.Errorf("state %d: with a schedule %s, %v", i, asJSON(t, on), err)
		}
		if off, err := store.List(ctx, w.UserID, catalog.ListRequest{ScheduleEnabled: &no}); err != nil || len(off.Items) == 2 == s.on {
			t.Errorf("state %d: without a schedule %s, %v", i, asJSON(t, off), err)
		}
	}
	// A change of the workflow says nothing of its schedules.
	if _, err := store.Update(ctx, w.ID, func(w catalog.Workflow) (catalog.Workflow, error) {
		w.Name, w.Version = "v2", 2
		return w, nil
	}); err != nil {
		t.Fatal(err)
	}
	if on, err := store.List(ctx, "", catalog.ListRequest{ScheduleEnabled: &yes}); err != nil || len(on.Items) != 1 || on.Items[0].Name != "v2" {
		t.Errorf("after a change: %s, %v", asJSON(t, on), err)
	}
}

func TestInsertIsAllOrNothing(t *testing.T) {
	db := open(t)
	store, ctx := postgres.NewWorkflows(db), context.Background()
	w := newWorkflow(uuid.NewString(), uuid.NewString())
	w.Outputs = json.RawMessage(`{`) // the version's row is refused after the workflow's is written
	if err := store.Insert(ctx, w); err == nil {
		t.Fatal("saved")
	}
	if n := count(t, db, "workflows"); n != 0 {
		t.Errorf("%d workflows left over", n)
	}
}

func TestListFilters(t *testing.T) {
	db := open(t)
	store, ctx := postgres.NewAgents(db), context.Background()
	me, other := uuid.NewString(), uuid.NewString()
	for i, a := range []catalog.Agent{
		newAgent(me, func(a *catalog.Agent) { a.Name, a.Tags = "alpha", []string{"x", "y"} }),
		newAgent(me, func(a *catalog.Agent) { a.Name, a.Status, a.Type, a.Tags = "beta_1", "ACTIVE", "DATA", []string{"x"} }),
		newAgent(me, func(a *catalog.Agent) { a.Name, a.Description, a.IsPublic = "gamma", "100% Alpha", true }),
		newAgent(other, func(a *catalog.Agent) { a.Name, a.IsPublic = "delta", true }),
	} {
		a.CreatedAt = start.Add(time.Duration(i) * time.Second)
		if err := store.Insert(ctx, a); err != nil {
			t.Fatal(err)
		}
	}
	yes, no := true, false
	for _, c := range []struct {
		name  string
		owner string
		q     catalog.ListRequest
		want  string
	}{
		{"mine, newest first", me, catalog.ListRequest{}, "gamma beta_1 alpha"},
		{"everybody's", "", catalog.ListRequest{}, "delta gamma beta_1 alpha"},
		{"public", "", catalog.ListRequest{IsPublic: &yes}, "delta gamma"},
		{"private", me, catalog.ListRequest{IsPublic: &no}, "beta_1 alpha"},
		{"type", me, catalog.ListRequest{Type: "DATA"}, "beta_1"},
		{"status", me, catalog.ListRequest{Status: "ACTIVE"}, "beta_1"},
		{"tags", me, catalog.ListRequest{Tags: []string{"x"}}, "beta_1 alpha"},
		{"all tags", me, catalog.ListRequest{Tags: []string{"x", "y"}}, "alpha"},
		{"search in name and description", me, catalog.ListRequest{Page: rpc.Page{Search: "ALPHA"}}, "gamma alpha"},
		{"search divides words", me, catalog.ListRequest{Page: rpc.Page{Search: "bet_1"}}, "beta_1"},
		{"search is no pattern", me, catalog.ListRequest{Page: rpc.Page{Search: "10%"}}, "gamma"},
		{"by name", me, catalog.ListRequest{Page: rpc.Page{SortBy: "name", SortOrder: "asc"}}, "alpha beta_1 gamma"},
		{"second page", me, catalog.ListRequest{Page: rpc.Page{Page: 2, PageSize: 2}}, "alpha"},
		{"beyond", me, catalog.ListRequest{Page: rpc.Page{Page: 9}}, ""},
	} {
		list, err := store.List(ctx, c.owner, c.q)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var names []string
		for _, a := range list.Items {
			names = append(names, a.Name)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	for name, p := range map[string]rpc.Page{"all": {Page: 9}, "searched": {Page: 9, Search: "alpha"}} { // behind the end
		want := map[string]int{"all": 3, "searched": 2}[name]
		if list, err := store.List(ctx, me, catalog.ListRequest{Page: p}); err != nil || list.Pagination.Total != want {
			t.Errorf("%s: %+v, %v; want a total of %d", name, list.Pagination, err, want)
		}
	}
	_, err := store.List(ctx, me, catalog.ListRequest{Status: "ON", Type: "X", Tags: []string{"\x00"}, Page: rpc.Page{SortBy: "config", PageSize: 1000}})
	wantCode(t, err, errs.Validation)
	if n := len(errs.From(err).Details); n != 5 {
		t.Errorf("%d details: %v", n, err)
	}
}

func TestCursorMeetsEachRowOnce(t *testing.T) {
	db := open(t)
	store, ctx := postgres.NewAgents(db), context.Background()
	me := uuid.NewString()
	const rows = 23
	for i := range rows {
		a := newAgent(me, func(a *catalog.Agent) {
			a.Name = fmt.Sprintf("n%d", i%3)
			a.CreatedAt = start.Add(time.Duration(i/4) * time.Microsecond) // several are equal
		})
		if err := store.Insert(ctx, a); err != nil {
			t.Fatal(err)
		}
	}
	for _, sortBy := range []string{"", "name", "updatedAt", "status"} {
		for _, order := range []string{"asc", "desc"} {
			seen := map[string]bool{}
			q := catalog.ListRequest{Page: rpc.Page{SortBy: sortBy, SortOrder: order, PageSize: 5}}
			for page := 1; ; page++ {
				list, err := store.List(ctx, me, q)
				if err != nil {
					t.Fatal(err)
				}
				for _, a := range list.Items {
					if seen[a.ID] {
						t.Errorf("%s %s: %s twice", sortBy, order, a.ID)
					}
					seen[a.ID] = true
				}
				p := list.Pagination
				if p.Page != page || p.PageSize != 5 || p.Total != rows || p.TotalPages != 5 {
					t.Errorf("pagination %+v on page %d", p, page)
				}
				if p.NextCursor == nil {
					break
				}
				q.Cursor = *p.NextCursor
			}
			if len(seen) != rows {
				t.Errorf("%s %s: %d rows, want %d", sortBy, order, len(seen), rows)
			}
		}
	}
}

func TestMigrationsHaveAWayBack(t *testing.T) {
	db := open(t)
	files := migrations.Of(catalog.Service)
	up, err := fs.Glob(files, "*.up.sql")
	if err != nil {
		t.Fatal(err)
	}
	var steps []string
	for _, name := range slices.Backward(up) {
		steps = append(steps, strings.TrimSuffix(name, ".up.sql")+".down.sql")
	}
	for _, name := range slices.Concat(steps, up) {
		sql, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(string(sql)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if n := count(t, db, "agents"); n != 0 {
		t.Errorf("%d agents", n)
	}
}
