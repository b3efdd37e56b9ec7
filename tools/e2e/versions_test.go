//go:build unix

package e2e

import (
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
)

// TestVersions follows an agent and a workflow through their versions: what is kept of each, what makes one the other, what a copy has,
// and which of them an execution runs.
func TestVersions(t *testing.T) {
	t.Parallel()
	c, other := user(t), user(t)
	agent := c.code(t, `function handler(input) { return input.n + 1 }`)
	path := "/workflows/" + c.workflow(t, []object{step("a", agent, inputs(object{"n": 1})), step("b", agent, after("a"), inputs(object{"n": "{{a.output}}"}))})
	first := data[orchestrator.Execution](t, c.do(t, "POST", path+"/execute?wait=30s", nil), 200)

	data[catalog.Agent](t, c.do(t, "PATCH", "/agents/"+agent, object{"config": object{"runtime": "javascript", "source": `function handler(input) { return input.n + 10 }`}}), 200)
	data[catalog.Workflow](t, c.do(t, "PATCH", path, object{"timeoutMs": 60_000, "steps": []object{
		{"stepKey": "a", "_delete": true}, {"stepKey": "b", "dependsOn": []string{}, "inputs": object{"n": 5}}, step("c", agent, inputs(object{"n": 1})),
	}}), 200)
	second := data[orchestrator.Execution](t, c.do(t, "POST", path+"/execute?wait=30s", nil), 200)
	if first.WorkflowVersion != 1 || string(first.Outputs) != `{"a":2,"b":3}` || second.WorkflowVersion != 2 || string(second.Outputs) != `{"b":15,"c":11}` {
		t.Errorf("ran version %d to %s, then %d to %s", first.WorkflowVersion, first.Outputs, second.WorkflowVersion, second.Outputs)
	}
	// A retry runs what was, whatever the workflow has become.
	if again := data[orchestrator.Execution](t, c.do(t, "POST", "/executions/"+first.ID+"/rerun", object{"from": "a"}), 201); again.WorkflowVersion != 1 {
		t.Errorf("a rerun of version 1 runs version %d", again.WorkflowVersion)
	}

	versions, p := page[catalog.WorkflowSnapshot](t, c.do(t, "GET", path+"/versions", nil))
	if p.Total != 2 || versions[0].Version != 2 || versions[1].Version != 1 || versions[1].TimeoutMs != 3_600_000 || versions[0].Steps != nil {
		t.Errorf("versions %+v", versions)
	}
	if v := data[catalog.WorkflowSnapshot](t, c.do(t, "GET", path+"/versions/1", nil), 200); len(v.Steps) != 2 || string(v.Steps[0].Inputs) != `{"n":1}` {
		t.Errorf("version 1 is %+v", v)
	}
	agents, p := page[catalog.AgentSnapshot](t, c.do(t, "GET", "/agents/"+agent+"/versions", nil))
	if p.Total != 2 || agents[0].Version != 2 {
		t.Errorf("versions of the agent %+v", agents)
	}
	if v := data[catalog.AgentSnapshot](t, c.do(t, "GET", "/agents/"+agent+"/versions/1", nil), 200); v.Type != "CODE" || string(v.Config) == string(agents[0].Config) {
		t.Errorf("version 1 of the agent is %+v", v)
	}

	forth := data[catalog.WorkflowDiff](t, c.do(t, "GET", path+"/diff?from=1&to=2", nil), 200)
	if len(forth.Changes) != 1 || forth.Changes[0].Path != "/timeoutMs" || string(forth.Changes[0].After) != "60000" || len(forth.Steps.Added) != 1 || forth.Steps.Added[0].StepKey != "c" ||
		len(forth.Steps.Removed) != 1 || forth.Steps.Removed[0].StepKey != "a" || len(forth.Steps.Changed) != 1 || forth.Steps.Changed[0].StepKey != "b" {
		t.Errorf("from 1 to 2: %+v", forth)
	}
	if newest := data[catalog.WorkflowDiff](t, c.do(t, "GET", path+"/diff", nil), 200); newest.From != 1 || newest.To != 2 {
		t.Errorf("by default from %d to %d", newest.From, newest.To)
	}
	if back := data[catalog.WorkflowDiff](t, c.do(t, "GET", path+"/diff?from=2&to=1", nil), 200); len(back.Steps.Added) != 1 || back.Steps.Added[0].StepKey != "a" {
		t.Errorf("from 2 to 1: %+v", back)
	}
	fault(t, c.do(t, "GET", path+"/diff?from=1&to=9", nil), errs.NotFound)

	copied := data[object](t, c.do(t, "POST", path+"/duplicate", object{"name": "mine too"}), 201)
	shape(t, "a copy", copied, workflowFields+" steps sourceId")
	if copied["version"] != 1.0 || copied["status"] != "DRAFT" || copied["name"] != "mine too" || "/workflows/"+copied["sourceId"].(string) != path {
		t.Errorf("copied %+v", copied)
	}
	if a := data[object](t, c.do(t, "POST", "/agents/"+agent+"/duplicate", nil), 201); a["version"] != 1.0 || a["sourceId"] != agent {
		t.Errorf("copied the agent as %+v", a)
	}

	// Checked as it stands, and as a change would make it, of which nothing stays.
	if v := data[catalog.Validation](t, c.do(t, "POST", path+"/validate", nil), 200); !v.Valid || !v.Executable {
		t.Errorf("as it stands: %+v", v)
	}
	v := data[catalog.Validation](t, c.do(t, "POST", path+"/validate", object{"timeoutMs": -1, "steps": []object{{"stepKey": "b", "dependsOn": []string{"c"}}, {"stepKey": "c", "dependsOn": []string{"b", "q"}}}}), 200)
	if v.Valid || v.Executable || len(v.Problems) < 2 {
		t.Errorf("as it would be: %+v", v)
	}
	if w := data[catalog.Workflow](t, c.do(t, "GET", path, nil), 200); w.Version != 2 || w.TimeoutMs != 60_000 {
		t.Errorf("validating left %+v", w)
	}

	for _, route := range []string{"/versions", "/versions/1", "/diff"} {
		fault(t, other.do(t, "GET", path+route, nil), errs.NotFound)
	}
	fault(t, other.do(t, "POST", path+"/duplicate", nil), errs.NotFound)
	fault(t, other.do(t, "POST", path+"/validate", nil), errs.NotFound)
	fault(t, other.do(t, "GET", "/agents/"+agent+"/versions", nil), errs.NotFound)
	fault(t, other.do(t, "POST", "/agents/"+agent+"/duplicate", nil), errs.NotFound)
}
