package catalog_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	contract "turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
)

func TestVersions(t *testing.T) {
	c := start(t)
	a := call(c, contract.CreateAgent, alice, body(sum, ""))
	for _, source := range []string{"1", "2", "3"} {
		call(c, contract.PatchAgent, alice, patch(a.ID, `{"config":{"runtime":"javascript","source":%q}}`, source))
	}
	first := call(c, contract.ListAgentVersions, alice, contract.VersionsRequest{ID: a.ID, Page: rpc.Page{PageSize: 3}})
	if first.Pagination.Total != 4 || first.Pagination.NextCursor == nil || len(first.Items) != 3 || first.Items[0].Version != 4 || first.Items[0].Type != "CODE" ||
		string(first.Items[1].Config) != `{"runtime":"javascript","source":"2"}` || first.Items[0].CreatedAt.IsZero() || first.Items[0].AgentID != a.ID {
		t.Errorf("got %+v", first)
	}
	last := call(c, contract.ListAgentVersions, alice, contract.VersionsRequest{ID: a.ID, Page: rpc.Page{PageSize: 3, Cursor: *first.Pagination.NextCursor}})
	if len(last.Items) != 1 || last.Items[0].Version != 1 || last.Pagination.NextCursor != nil || string(last.Items[0].Config) != string(a.Config) {
		t.Errorf("got %+v", last)
	}
	if v := call(c, contract.GetAgentVersion, alice, contract.VersionRequest{ID: a.ID, Version: 1}); string(v.Config) != string(a.Config) || v.Version != 1 {
		t.Errorf("got %+v", v)
	}
	refused(c, errs.NotFound, contract.GetAgentVersion, alice, contract.VersionRequest{ID: a.ID, Version: 5})

	w := call(c, contract.CreateWorkflow, alice, body(`{"name":"w","steps":[{"stepKey":"a","stepType":"AGENT","agentId":%q}]}`, a.ID))
	call(c, contract.PatchWorkflow, alice, patch(w.ID, `{"timeoutMs":7,"steps":[{"stepKey":"a","inputs":{"x":1}},{"stepKey":"b","stepType":"WAIT","config":{"durationMs":1}}]}`))
	call(c, contract.PatchWorkflow, alice, patch(w.ID, `{"name":"no new version"}`))
	versions := call(c, contract.ListWorkflowVersions, alice, contract.VersionsRequest{ID: w.ID})
	if len(versions.Items) != 2 || versions.Items[0].Version != 2 || versions.Items[0].TimeoutMs != 7 || versions.Items[0].Steps != nil {
		t.Errorf("got %+v", versions)
	}
	if v := call(c, contract.GetWorkflowVersion, alice, contract.VersionRequest{ID: w.ID, Version: 1}); len(v.Steps) != 1 || v.TimeoutMs != 3_600_000 {
		t.Errorf("got %+v", v)
	}
	d := call(c, contract.DiffWorkflow, alice, contract.DiffRequest{ID: w.ID, From: 1, To: 2})
	if len(d.Changes) != 1 || d.Changes[0].Path != "/timeoutMs" || string(d.Changes[0].Before) != "3600000" || len(d.Steps.Added) != 1 || d.Steps.Changed[0].Changes[0].Path != "/inputs/x" || len(d.Steps.Order) != 2 {
		t.Errorf("got %+v", d)
	}
	if back := call(c, contract.DiffWorkflow, alice, contract.DiffRequest{ID: w.ID, From: 2, To: 1}); len(back.Steps.Removed) != 1 {
		t.Errorf("got %+v", back)
	}
	refused(c, errs.NotFound, contract.DiffWorkflow, alice, contract.DiffRequest{ID: w.ID, From: 1, To: 3})
	if d := call(c, contract.DiffWorkflow, alice, contract.DiffRequest{ID: w.ID}); d.From != 1 || d.To != 2 {
		t.Errorf("got %+v", d)
	}

	// What is not the caller's has no versions either, nor has what is deleted.
	refused(c, errs.NotFound, contract.ListAgentVersions, bob, contract.VersionsRequest{ID: a.ID})
	refused(c, errs.NotFound, contract.GetAgentVersion, bob, contract.VersionRequest{ID: a.ID, Version: 1})
	refused(c, errs.NotFound, contract.ListWorkflowVersions, bob, contract.VersionsRequest{ID: w.ID})
	refused(c, errs.NotFound, contract.GetWorkflowVersion, bob, contract.VersionRequest{ID: w.ID, Version: 1})
	refused(c, errs.NotFound, contract.DiffWorkflow, bob, contract.DiffRequest{ID: w.ID, From: 1, To: 2})
	call(c, contract.DeleteWorkflow, alice, byID(w.ID))
	refused(c, errs.NotFound, contract.ListWorkflowVersions, alice, contract.VersionsRequest{ID: w.ID})
}

func TestDuplicate(t *testing.T) {
	c := start(t)
	a := call(c, contract.CreateAgent, alice, body(sum, `,"isPublic":true,"tags":["x"]`))
	call(c, contract.PatchAgent, alice, patch(a.ID, `{"outputSchema":{}}`))
	copied := call(c, contract.DuplicateAgent, bob, contract.DuplicateRequest{ID: a.ID})
	if copied.UserID != bob.UserID || copied.Version != 1 || copied.Status != contract.StatusDraft || copied.IsPublic || copied.Name != "sum (copy)" || *copied.SourceID != a.ID ||
		string(copied.OutputSchema) != "{}" || string(copied.Config) != string(a.Config) || !slices.Equal(copied.Tags, a.Tags) || copied.ID == a.ID {
		t.Errorf("got %+v", copied)
	}
	if got := call(c, contract.GetAgent, bob, byID(copied.ID)); *got.SourceID != a.ID || got.Name != copied.Name {
		t.Errorf("got %+v", got)
	}
	call(c, contract.PatchAgent, bob, patch(copied.ID, `{"outputSchema":null}`))
	if got := call(c, contract.GetAgent, alice, byID(a.ID)); string(got.OutputSchema) != "{}" || got.Version != 2 {
		t.Errorf("the source has changed: %+v", got)
	}
	long := call(c, contract.DuplicateAgent, alice, contract.DuplicateRequest{ID: call(c, contract.CreateAgent, alice, body(`{"name":%q,"type":"DATA","config":{"operation":"flatten"}}`, strings.Repeat("é", 200))).ID})
	if long.Name != strings.Repeat("é", 193)+" (copy)" {
		t.Error(long.Name)
	}
	private := call(c, contract.CreateAgent, alice, body(sum, ""))
	refused(c, errs.NotFound, contract.DuplicateAgent, bob, contract.DuplicateRequest{ID: private.ID})
	if e := refused(c, errs.Validation, contract.DuplicateAgent, alice, contract.DuplicateRequest{ID: a.ID, Body: json.RawMessage(`{"name":"","status":"ACTIVE"}`)}); len(e.Details) != 2 {
		t.Errorf("got %+v", e.Details)
	}

	w := call(c, contract.CreateWorkflow, alice, body(`{"name":"w","status":"ACTIVE","isPublic":true,"steps":[{"stepKey":"a","stepType":"AGENT","agentId":%q}]}`, a.ID))
	named := call(c, contract.DuplicateWorkflow, bob, contract.DuplicateRequest{ID: w.ID, Body: json.RawMessage(`{"name":"mine"}`)})
	if named.Name != "mine" || named.UserID != bob.UserID || named.Version != 1 || named.Status != contract.StatusDraft || named.IsPublic || *named.SourceID != w.ID || len(named.Steps) != 1 {
		t.Errorf("got %+v", named)
	}
	// A copy whose agents the caller may not use could not be saved by them.
	hidden := call(c, contract.CreateWorkflow, alice, body(`{"name":"w","isPublic":true,"steps":[{"stepKey":"a","stepType":"AGENT","agentId":%q}]}`, private.ID))
	if e := refused(c, errs.Validation, contract.DuplicateWorkflow, bob, contract.DuplicateRequest{ID: hidden.ID}); e.Details[0].Code != errs.UnknownAgent {
		t.Errorf("got %+v", e.Details)
	}
	refused(c, errs.Unauthorized, contract.DuplicateWorkflow, rpc.Caller{Role: rpc.RoleUser}, contract.DuplicateRequest{ID: w.ID})
	refused(c, errs.NotFound, contract.DuplicateWorkflow, bob, contract.DuplicateRequest{ID: uuid.NewString()})
}

func TestResolveAgent(t *testing.T) {
	c := start(t)
	of := func(id string) contract.ResolveRequest { return contract.ResolveRequest{ID: id, Agent: true} }
	draft := call(c, contract.CreateAgent, alice, body(`{"name":"sum","type":"CODE","isPublic":true,"config":{"runtime":"javascript","source":"x","timeoutMs":600000}}`))
	d := call(c, contract.ResolveDefinition, bob, of(draft.ID))
	if d.WorkflowID != draft.ID || d.WorkflowOwner != bob.UserID || d.WorkflowVersion != 0 || len(d.Steps) != 1 || d.Steps[0].StepKey != contract.TestStep ||
		d.Steps[0].TimeoutMs != 600_000 || *d.Steps[0].AgentID != draft.ID || len(d.Agents) != 1 || d.Agents[0].Version != 1 {
		t.Errorf("got %+v", d)
	}
	private := call(c, contract.CreateAgent, alice, body(sum, ""))
	refused(c, errs.NotFound, contract.ResolveDefinition, bob, of(private.ID))
	refused(c, errs.NotFound, contract.ResolveDefinition, alice, of("x"))
	refused(c, errs.NotFound, contract.ResolveDefinition, alice, of(uuid.NewString()))
	call(c, contract.DeleteAgent, alice, byID(private.ID))
	refused(c, errs.NotFound, contract.ResolveDefinition, alice, of(private.ID))
	w := call(c, contract.CreateWorkflow, alice, body(`{"name":"w","steps":[]}`))
	refused(c, errs.NotFound, contract.ResolveDefinition, alice, of(w.ID))
}

func TestValidate(t *testing.T) {
	c := start(t)
	a := call(c, contract.CreateAgent, alice, body(sum, `,"isPublic":true`))
	w := call(c, contract.CreateWorkflow, alice, body(`{"name":"w","isPublic":true,"steps":[{"stepKey":"a","stepType":"AGENT","agentId":%q}]}`, a.ID))
	check := func(caller rpc.Caller, body string, want ...string) contract.Validation {
		t.Helper()
		v := call(c, contract.ValidateWorkflow, caller, contract.ValidateRequest{ID: w.ID, Body: json.RawMessage(body)})
		var got []string
		for _, p := range append(v.Problems, v.Obstacles...) {
			got = append(got, p.Field+" "+string(p.Code))
			if p.Message == "" {
				t.Errorf("%+v says nothing", p)
			}
		}
		if !slices.Equal(got, want) || v.Valid != (len(v.Problems) == 0) || v.Executable != (len(want) == 0) || v.Problems == nil || v.Obstacles == nil {
			t.Errorf("got %q, %+v, want %q", got, v, want)
		}
		return v
	}
	check(alice, "", "status not_active")
	check(alice, `{"status":"ACTIVE"}`)
	check(alice, `{"status":"ACTIVE","steps":[{"stepKey":"a","_delete":true}]}`, "steps no_steps")
	check(alice, `{"names":"x","timeoutMs":0,"steps":[{"stepKey":"a","dependsOn":["b","a"]},{"stepKey":"c","stepType":"CONDITION","config":{"expression":"1 +"}}]}`,
		"timeoutMs out_of_range", "names unknown_field", "steps[0].dependsOn[0] unknown_step", "steps[0].dependsOn[1] self_dependency", "steps[1].config.expression bad_expression")
	if got := call(c, contract.GetWorkflow, alice, byID(w.ID)); got.Version != 1 || got.Status != contract.StatusDraft {
		t.Errorf("a dry run has changed it: %+v", got)
	}
	call(c, contract.PatchWorkflow, alice, patch(w.ID, `{"status":"ACTIVE"}`))
	check(alice, "")
	check(bob, "")
	call(c, contract.PatchAgent, alice, patch(a.ID, `{"status":"INACTIVE"}`))
	check(alice, "", "steps[0].agentId not_active")
	call(c, contract.DeleteAgent, alice, byID(a.ID))
	check(bob, "", "steps[0].agentId unknown_agent")
	refused(c, errs.NotFound, contract.ValidateWorkflow, bob, contract.ValidateRequest{ID: w.ID, Body: json.RawMessage(`{}`)})
	call(c, contract.PatchWorkflow, alice, patch(w.ID, `{"isPublic":false,"steps":[{"stepKey":"a","_delete":true}]}`))
	refused(c, errs.NotFound, contract.ValidateWorkflow, bob, contract.ValidateRequest{ID: w.ID})
}
