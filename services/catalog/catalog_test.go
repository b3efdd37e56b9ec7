package catalog_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	contract "turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/migrations"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/pkg/service"
	"turbocat.io/services/catalog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client calls a catalog that runs for one test.
type client struct {
	t   *testing.T
	bus *bus.Conn
}

func start(t *testing.T) client {
	t.Helper()
	t.Parallel()
	db := pgtest.New(t, contract.Service, migrations.Of(contract.Service))
	conn := bustest.New(t)
	svc, err := catalog.New(service.Env{Log: zerolog.Nop(), Bus: conn, DB: db, Health: service.NewHealth(contract.Service)}, catalog.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	c := client{t, bustest.Connect(t, conn.NATS().ConnectedUrl())}
	for ctx, stop := context.WithTimeout(ctx, bus.DefaultTimeout); ; {
		_, err := bus.Call(ctx, c.bus, contract.ListAgents, admin, contract.ListRequest{})
		if err == nil || ctx.Err() != nil {
			stop()
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
	}
}

func call[Req, Resp any](c client, m rpc.Method[Req, Resp], caller rpc.Caller, req Req) Resp {
	c.t.Helper()
	resp, err := bus.Call(context.Background(), c.bus, m, caller, req)
	if err != nil {
		c.t.Fatalf("%s: %v %+v", m.Name, err, errs.From(err).Details)
	}
	return resp
}

func refused[Req, Resp any](c client, code errs.Code, m rpc.Method[Req, Resp], caller rpc.Caller, req Req) *errs.Error {
	c.t.Helper()
	resp, err := bus.Call(context.Background(), c.bus, m, caller, req)
	if err == nil {
		c.t.Fatalf("%s answers %+v, want %s", m.Name, resp, code)
	}
	e := errs.From(err)
	if e.Code != code || e.Message == "" {
		c.t.Fatalf("%s: %v, want %s", m.Name, err, code)
	}
	return e
}

var (
	admin = rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleAdmin}
	alice = rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleUser}
	bob   = rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleUser}
)

func body(format string, args ...any) contract.CreateRequest {
	return contract.CreateRequest{Body: json.RawMessage(fmt.Sprintf(format, args...))}
}

func patch(id, format string, args ...any) contract.PatchRequest {
	return contract.PatchRequest{ID: id, Body: json.RawMessage(fmt.Sprintf(format, args...))}
}

func resolve(id string) contract.ResolveRequest { return contract.ResolveRequest{ID: id} }

func byID(id string) contract.IDRequest { return contract.IDRequest{ID: id} }

const sum = `{"name":"sum","type":"CODE","status":"ACTIVE","config":{"runtime":"javascript","source":"x => x","timeoutMs":5000}%s}`

func TestWorkflowLife(t *testing.T) {
	c := start(t)
	agent := call(c, contract.CreateAgent, alice, body(sum, ""))
	if agent.UserID != alice.UserID || agent.Version != 1 || agent.CreatedAt.IsZero() || uuid.MustParse(agent.ID).Version() != 7 {
		t.Errorf("got %+v", agent)
	}
	w := call(c, contract.CreateWorkflow, alice, body(
		`{"name":"etl","steps":[{"stepKey":"a","stepType":"AGENT","agentId":%[1]q},{"stepKey":"b","stepType":"AGENT","agentId":%[1]q,"dependsOn":["a"],"inputs":{"x":"{{a.output.sum}}"}}]}`, agent.ID))
	if got := call(c, contract.GetWorkflow, alice, byID(w.ID)); len(got.Steps) != 2 || string(got.Steps[1].Inputs) != `{"x":"{{a.output.sum}}"}` || !got.CreatedAt.Equal(w.CreatedAt) {
		t.Errorf("got %+v", got)
	}

	e := refused(c, errs.Conflict, contract.ResolveDefinition, alice, resolve(w.ID))
	if !strings.Contains(e.Message, `"etl" is DRAFT`) {
		t.Error(e.Message)
	}
	call(c, contract.PatchWorkflow, alice, patch(w.ID, `{"status":"ACTIVE"}`))
	d := call(c, contract.ResolveDefinition, alice, resolve(w.ID))
	if d.WorkflowID != w.ID || d.WorkflowOwner != alice.UserID || d.WorkflowVersion != 1 || len(d.Steps) != 2 || len(d.Agents) != 1 || d.Agents[0].TimeoutMs != 5000 {
		t.Errorf("got %+v", d)
	}

	// An edit makes a version; a stale one is refused.
	edit := patch(w.ID, `{"steps":[{"stepKey":"b","_delete":true}]}`)
	edit.IfMatch = 1
	if got := call(c, contract.PatchWorkflow, alice, edit); got.Version != 2 || len(got.Steps) != 1 || !got.UpdatedAt.After(w.UpdatedAt) {
		t.Errorf("got %+v", got)
	}
	refused(c, errs.PreconditionFailed, contract.PatchWorkflow, alice, edit)
	refused(c, errs.Validation, contract.PatchWorkflow, alice, patch(w.ID, `{"steps":[{"stepKey":"a","dependsOn":["b"]}]}`))

	// Agents are pinned at their current version; a deleted one is in the way.
	if got := call(c, contract.PatchAgent, alice, patch(agent.ID, `{"config":{"runtime":"javascript","source":"y => y"}}`)); got.Version != 2 {
		t.Errorf("got %+v", got)
	}
	if d := call(c, contract.ResolveDefinition, alice, resolve(w.ID)); d.Agents[0].Version != 2 || d.Agents[0].TimeoutMs != 0 || d.WorkflowVersion != 2 {
		t.Errorf("got %+v", d)
	}
	call(c, contract.DeleteAgent, alice, byID(agent.ID))
	if e := refused(c, errs.Conflict, contract.ResolveDefinition, alice, resolve(w.ID)); !strings.Contains(e.Message, agent.ID) {
		t.Error(e.Message)
	}
	e = refused(c, errs.Validation, contract.CreateWorkflow, alice, body(`{"name":"x","steps":[{"stepKey":"a","stepType":"AGENT","agentId":%q}]}`, agent.ID))
	if e.Details[0].Code != "unknown_agent" || e.Details[0].Field != "steps[0].agentId" {
		t.Errorf("got %+v", e.Details)
	}
	call(c, contract.DeleteWorkflow, alice, byID(w.ID))
	refused(c, errs.NotFound, contract.GetWorkflow, alice, byID(w.ID))
	refused(c, errs.NotFound, contract.ResolveDefinition, alice, resolve(w.ID))
	refused(c, errs.NotFound, contract.DeleteWorkflow, alice, byID(w.ID))
}

// TestResolveKnown wants a definition that is known to be left out for as long as resolving gives the same, and no longer.
func TestResolveKnown(t *testing.T) {
	c := start(t)
	agent := call(c, contract.CreateAgent, alice, body(sum, `,"isPublic":true`))
	w := call(c, contract.CreateWorkflow, bob, body(`{"name":"etl","status":"ACTIVE","isPublic":true,"steps":[{"stepKey":"a","stepType":"AGENT","agentId":%q}]}`, agent.ID))
	known := func() contract.ResolveRequest {
		t.Helper()
		d := call(c, contract.ResolveDefinition, bob, resolve(w.ID))
		return contract.ResolveRequest{ID: w.ID, Known: &contract.Versions{Workflow: d.WorkflowVersion, Agents: []contract.AgentVersion{{ID: d.Agents[0].ID, Version: d.Agents[0].Version}}}}
	}
	unchanged := func(req contract.ResolveRequest, callers ...rpc.Caller) {
		t.Helper()
		for _, caller := range callers {
			if r := call(c, contract.ResolveDefinition, caller, req); !r.Unchanged || r.WorkflowID != "" {
				t.Errorf("nothing has changed: %+v", r)
			}
		}
	}
	changed := func(req contract.ResolveRequest) {
		t.Helper()
		if r := call(c, contract.ResolveDefinition, bob, req); r.Unchanged || r.WorkflowID != w.ID {
			t.Errorf("it has changed: %+v", r)
		}
	}
	first := known()
	unchanged(first, alice, bob, admin)

	call(c, contract.PatchWorkflow, bob, patch(w.ID, `{"priority":3}`))
	changed(first)
	second := known()
	unchanged(second, bob)
	call(c, contract.PatchAgent, alice, patch(agent.ID, `{"config":{"runtime":"javascript","source":"y => y"}}`))
	changed(second)
	third := known()
	unchanged(third, bob)

	// What is in the way is told whatever is known.
	call(c, contract.PatchAgent, alice, patch(agent.ID, `{"isPublic":false}`))
	refused(c, errs.Conflict, contract.ResolveDefinition, bob, third)
	unchanged(third, admin)
	call(c, contract.PatchAgent, alice, patch(agent.ID, `{"isPublic":true,"status":"INACTIVE"}`))
	refused(c, errs.Conflict, contract.ResolveDefinition, bob, third)
	call(c, contract.PatchAgent, alice, patch(agent.ID, `{"status":"ACTIVE"}`))
	unchanged(known(), bob)
	call(c, contract.PatchWorkflow, bob, patch(w.ID, `{"isPublic":false}`))
	refused(c, errs.NotFound, contract.ResolveDefinition, alice, known())
	last := known()
	call(c, contract.PatchWorkflow, bob, patch(w.ID, `{"status":"DRAFT"}`))
	refused(c, errs.Conflict, contract.ResolveDefinition, bob, last)
	call(c, contract.PatchWorkflow, bob, patch(w.ID, `{"status":"ACTIVE"}`))
	unchanged(known(), bob)
	call(c, contract.DeleteAgent, alice, byID(agent.ID))
	refused(c, errs.Conflict, contract.ResolveDefinition, bob, last)
	call(c, contract.DeleteWorkflow, bob, byID(w.ID))
	refused(c, errs.NotFound, contract.ResolveDefinition, bob, last)
	refused(c, errs.NotFound, contract.ResolveDefinition, bob, contract.ResolveRequest{ID: "none", Known: last.Known})
}

func TestStepTypes(t *testing.T) {
	c := start(t)
	own := call(c, contract.CreateAgent, alice, body(sum, ""))
	other := call(c, contract.CreateAgent, alice, body(sum, ""))
	foreign := call(c, contract.CreateAgent, bob, body(sum, ""))
	child := call(c, contract.CreateAgent, alice, body(`{"name":"child","type":"WORKFLOW","config":{"workflowId":%q}}`, uuid.NewString()))
	steps := `{"name":"w","status":"ACTIVE","steps":[
		{"stepKey":"c","stepType":"CONDITION","config":{"expression":"inputs.n > 1 && inputs.s < \"é\"","then":["l"],"else":["p"]}},
		{"stepKey":"l","stepType":"LOOP","agentId":%[1]q,"dependsOn":["c"],"config":{ "forEach": "{{inputs.list}}", "maxFailurePercent": 2.50 },"inputs":{"x":"{{item}}"}},
		{"stepKey":"p","stepType":"PARALLEL","dependsOn":["c"],"config":{"branches":[{"key":"a","agentId":%[2]q}],"join":"any"}},
		{"stepKey":"w","stepType":"WAIT","dependsOn":["l","p"],"triggerRule":"one_success","config":{"signal":"go","timeoutMs":5,"default":null}}]}`
	w := call(c, contract.CreateWorkflow, alice, body(steps, own.ID, other.ID))
	d := call(c, contract.ResolveDefinition, alice, resolve(w.ID))
	if len(d.Agents) != 2 || d.Agents[0].ID != own.ID || d.Agents[1].ID != other.ID || d.Steps[3].TimeoutMs != 86_400_000 {
		t.Fatalf("got %+v", d)
	}
	var condition contract.ConditionConfig
	if err := json.Unmarshal(d.Steps[0].Config, &condition); err != nil || condition.Expression != `inputs.n > 1 && inputs.s < "é"` {
		t.Errorf("got %s, %v", d.Steps[0].Config, err)
	}
	for i, want := range []string{`{"forEach":"{{inputs.list}}","maxFailurePercent":2.50}`, `{"branches":[{"key":"a","agentId":"` + other.ID + `"}],"join":"any"}`, `{"signal":"go","timeoutMs":5,"default":null}`} {
		if got := string(d.Steps[i+1].Config); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}

	// Agents of branches and loops must exist, be visible and be ACTIVE as those of AGENT steps must.
	e := refused(c, errs.Validation, contract.CreateWorkflow, alice, body(steps, foreign.ID, uuid.NewString()))
	if len(e.Details) != 2 || e.Details[0].Field != "steps[1].agentId" || e.Details[1].Field != "steps[2].config.branches[0].agentId" {
		t.Errorf("got %+v", e.Details)
	}
	w = call(c, contract.CreateWorkflow, alice, body(steps, child.ID, other.ID))
	call(c, contract.DeleteAgent, alice, byID(other.ID))
	e = refused(c, errs.Conflict, contract.ResolveDefinition, alice, resolve(w.ID))
	if len(e.Details) != 2 || e.Details[0].Code != errs.NotActive || e.Details[1].Field != "steps[2].config.branches[0].agentId" || e.Details[1].Code != errs.UnknownAgent {
		t.Errorf("got %+v", e.Details)
	}
	if a := call(c, contract.PatchAgent, alice, patch(child.ID, `{"status":"ACTIVE"}`)); a.Status != contract.StatusActive {
		t.Errorf("got %+v", a)
	}
}

func TestVisibility(t *testing.T) {
	c := start(t)
	private := call(c, contract.CreateAgent, alice, body(sum, ""))
	public := call(c, contract.CreateAgent, alice, body(sum, `,"isPublic":true`))
	hidden := call(c, contract.CreateWorkflow, alice, body(`{"name":"w","status":"ACTIVE","steps":[{"stepKey":"a","stepType":"AGENT","agentId":%q}]}`, private.ID))
	shown := call(c, contract.CreateWorkflow, alice, body(`{"name":"w","status":"ACTIVE","isPublic":true,"steps":[{"stepKey":"a","stepType":"AGENT","agentId":%q}]}`, private.ID))

	for _, id := range []string{private.ID, uuid.NewString(), "x"} {
		refused(c, errs.NotFound, contract.GetAgent, bob, byID(id))
		refused(c, errs.NotFound, contract.PatchAgent, bob, patch(id, `{}`))
		refused(c, errs.NotFound, contract.DeleteAgent, bob, byID(id))
	}
	for _, id := range []string{hidden.ID, uuid.NewString(), "x"} {
		refused(c, errs.NotFound, contract.GetWorkflow, bob, byID(id))
		refused(c, errs.NotFound, contract.ResolveDefinition, bob, resolve(id))
		refused(c, errs.NotFound, contract.PatchWorkflow, bob, patch(id, `{}`))
		refused(c, errs.NotFound, contract.DeleteWorkflow, bob, byID(id))
	}
	call(c, contract.GetAgent, bob, byID(public.ID))
	refused(c, errs.NotFound, contract.PatchAgent, bob, patch(public.ID, `{"name":"mine"}`))
	refused(c, errs.NotFound, contract.DeleteAgent, bob, byID(public.ID))
	call(c, contract.GetWorkflow, bob, byID(shown.ID))
	refused(c, errs.NotFound, contract.PatchWorkflow, bob, patch(shown.ID, `{"name":"mine"}`))
	// The workflow's own agents need not be visible to who runs it, only to its owner.
	if d := call(c, contract.ResolveDefinition, bob, resolve(shown.ID)); d.WorkflowOwner != alice.UserID {
		t.Errorf("got %+v", d)
	}

	refused(c, errs.Validation, contract.CreateWorkflow, bob, body(`{"name":"w","steps":[{"stepKey":"a","stepType":"AGENT","agentId":%q}]}`, private.ID))
	call(c, contract.CreateWorkflow, bob, body(`{"name":"w","steps":[{"stepKey":"a","stepType":"AGENT","agentId":%q}]}`, public.ID))
	call(c, contract.CreateWorkflow, admin, body(`{"name":"w","steps":[{"stepKey":"a","stepType":"AGENT","agentId":%q}]}`, private.ID))

	yes := true
	for _, l := range []struct {
		caller    rpc.Caller
		req       contract.ListRequest
		agents    int
		workflows int
	}{
		{alice, contract.ListRequest{}, 2, 2},
		{bob, contract.ListRequest{}, 0, 1},
		{bob, contract.ListRequest{IsPublic: &yes}, 1, 1},
		{admin, contract.ListRequest{}, 2, 4},
	} {
		agents, workflows := call(c, contract.ListAgents, l.caller, l.req), call(c, contract.ListWorkflows, l.caller, l.req)
		if agents.Pagination.Total != l.agents || len(agents.Items) != l.agents || workflows.Pagination.Total != l.workflows || len(workflows.Items) != l.workflows {
			t.Errorf("%s sees %d agents and %d workflows, want %d and %d", l.caller.Role, len(agents.Items), len(workflows.Items), l.agents, l.workflows)
		}
	}

	if got := call(c, contract.PatchAgent, admin, patch(private.ID, `{"name":"by admin"}`)); got.Name != "by admin" || got.UserID != alice.UserID {
		t.Errorf("got %+v", got)
	}
	call(c, contract.DeleteWorkflow, admin, byID(hidden.ID))
}

func TestRefusals(t *testing.T) {
	c := start(t)
	e := refused(c, errs.Validation, contract.CreateAgent, alice, body(`{"type":"CODE","config":{"runtime":"ruby"},"nam":1}`))
	if len(e.Details) != 4 || e.Message != "4 problems in the agent" {
		t.Errorf("got %v %+v", e, e.Details)
	}
	refused(c, errs.Validation, contract.CreateAgent, alice, body(`[]`))
	refused(c, errs.Validation, contract.CreateWorkflow, alice, body(`"x"`))
	refused(c, errs.Validation, contract.ListAgents, alice, contract.ListRequest{Status: "ON"})
	refused(c, errs.Validation, contract.ListWorkflows, alice, contract.ListRequest{Page: rpc.Page{Cursor: "x"}})
	refused(c, errs.Unauthorized, contract.CreateAgent, rpc.Caller{}, body(sum, ""))
	refused(c, errs.Unauthorized, contract.ListWorkflows, rpc.Caller{}, contract.ListRequest{})

	chosen := body(sum, "")
	chosen.ID = uuid.NewString()
	refused(c, errs.Forbidden, contract.CreateAgent, alice, chosen)
	if a := call(c, contract.CreateAgent, admin, chosen); a.ID != chosen.ID {
		t.Errorf("got %s, want %s", a.ID, chosen.ID)
	}
	refused(c, errs.Conflict, contract.CreateAgent, admin, chosen)
	call(c, contract.DeleteAgent, admin, byID(chosen.ID))
	refused(c, errs.Conflict, contract.CreateAgent, admin, chosen)
}

// TestIdempotencyKey repeats what creates, and wants the first answer and one of each thing.
func TestIdempotencyKey(t *testing.T) {
	c := start(t)
	keyed := func(key string) rpc.Caller {
		caller := alice
		caller.IdempotencyKey = key
		return caller
	}
	const special = `{"name":"<sum>","type":"CODE","config":{"runtime":"javascript","source":"a < b && \u2028"}}`
	first := call(c, contract.CreateAgent, keyed("k"), body(special))
	call(c, contract.PatchAgent, alice, patch(first.ID, `{"name":"other"}`))
	if again := call(c, contract.CreateAgent, keyed("k"), body(special)); !reflect.DeepEqual(again, first) {
		t.Errorf("got  %+v\nwant %+v", again, first)
	}
	refused(c, errs.Conflict, contract.CreateAgent, keyed("k"), body(sum, ""))
	copied := call(c, contract.DuplicateAgent, keyed("k"), contract.DuplicateRequest{ID: first.ID})
	if again := call(c, contract.DuplicateAgent, keyed("k"), contract.DuplicateRequest{ID: first.ID}); !reflect.DeepEqual(again, copied) || copied.ID == first.ID {
		t.Errorf("got  %+v\nwant %+v", again, copied)
	}
	w := call(c, contract.CreateWorkflow, keyed("w"), body(`{"name":"w","steps":[{"stepKey":"a","stepType":"AGENT","agentId":%q}]}`, first.ID))
	call(c, contract.DeleteAgent, alice, byID(first.ID)) // by now the request would be refused
	if again := call(c, contract.CreateWorkflow, keyed("w"), body(`{"name":"w","steps":[{"stepKey":"a","stepType":"AGENT","agentId":%q}]}`, first.ID)); again.ID != w.ID {
		t.Errorf("got  %+v\nwant %+v", again, w)
	}
	if list := call(c, contract.ListAgents, alice, contract.ListRequest{}); list.Pagination.Total != 1 {
		t.Errorf("%d agents are left", list.Pagination.Total)
	}
}
