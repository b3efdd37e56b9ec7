package httpapi_test

import (
	"encoding/json"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/schema"
)

// serveDefinitions plays what the catalog has beside agents and workflows themselves. What was asked stands in the answers.
func (w *world) serveDefinitions(s *bus.Server) {
	change := func(v any) ([]catalog.Change, error) {
		text, err := asked(v)
		return []catalog.Change{{Path: "/" + text, Before: json.RawMessage("null")}}, err
	}
	answer(w, s, catalog.ListAgentVersions, func(_ rpc.Caller, r catalog.VersionsRequest) (rpc.List[catalog.AgentSnapshot], error) {
		raw, err := json.Marshal(r)
		return rpc.List[catalog.AgentSnapshot]{Items: []catalog.AgentSnapshot{{AgentID: r.ID, Version: 3, Type: "CODE", Config: raw}}}, err
	})
	answer(w, s, catalog.GetAgentVersion, func(_ rpc.Caller, r catalog.VersionRequest) (catalog.AgentSnapshot, error) {
		if r.Version > 3 {
			return catalog.AgentSnapshot{}, errs.New(errs.NotFound, "the agent has no version %d", r.Version)
		}
		return catalog.AgentSnapshot{AgentID: r.ID, Version: r.Version, Type: "CODE", Config: json.RawMessage("{}")}, nil
	})
	answer(w, s, catalog.DuplicateAgent, func(c rpc.Caller, r catalog.DuplicateRequest) (catalog.Agent, error) {
		a := agent(c.UserID, 1)
		a.Name, a.SourceID = string(r.Body), &r.ID
		return a, nil
	})
	answer(w, s, catalog.ListWorkflowVersions, func(_ rpc.Caller, r catalog.VersionsRequest) (rpc.List[catalog.WorkflowSnapshot], error) {
		return rpc.List[catalog.WorkflowSnapshot]{Items: []catalog.WorkflowSnapshot{{WorkflowID: r.ID, Version: 3}}}, nil
	})
	answer(w, s, catalog.GetWorkflowVersion, func(_ rpc.Caller, r catalog.VersionRequest) (catalog.WorkflowSnapshot, error) {
		return catalog.WorkflowSnapshot{WorkflowID: r.ID, Version: r.Version, Steps: []catalog.Step{}}, nil
	})
	answer(w, s, catalog.DuplicateWorkflow, func(c rpc.Caller, r catalog.DuplicateRequest) (catalog.Workflow, error) {
		return catalog.Workflow{ID: thingID, UserID: c.UserID, Version: 1, Status: "DRAFT", Name: string(r.Body), SourceID: &r.ID, Tags: []string{}}, nil
	})
	answer(w, s, catalog.ImportWorkflow, func(c rpc.Caller, _ catalog.ImportRequest) (catalog.Workflow, error) {
		return catalog.Workflow{ID: thingID, UserID: c.UserID, Version: 1, Status: "DRAFT", Tags: []string{}}, nil
	})
	answer(w, s, catalog.CreateTemplate, func(c rpc.Caller, r catalog.CreateRequest) (catalog.Template, error) {
		return catalog.Template{ID: thingID, UserID: &c.UserID, Type: "AGENT", Content: r.Body, Tags: []string{}, Version: 1}, nil
	})
	answer(w, s, catalog.InstantiateTemplate, func(c rpc.Caller, _ catalog.InstantiateRequest) (catalog.TemplateInstance, error) {
		a := agent(c.UserID, 1)
		return catalog.TemplateInstance{ResourceType: "AGENT", ID: &a.ID, Agent: &a, Agents: []catalog.Agent{}}, nil
	})
	answer(w, s, catalog.DiffWorkflow, func(_ rpc.Caller, r catalog.DiffRequest) (catalog.WorkflowDiff, error) {
		changes, err := change(r)
		return catalog.WorkflowDiff{
			WorkflowID: r.ID, From: r.From, To: r.To, Changes: changes,
			Steps: catalog.StepsDiff{Added: []catalog.Step{}, Removed: []catalog.Step{}, Changed: []catalog.StepDiff{}},
		}, err
	})
	answer(w, s, catalog.ValidateWorkflow, func(_ rpc.Caller, r catalog.ValidateRequest) (catalog.Validation, error) {
		return catalog.Validation{Problems: []errs.Detail{{Field: "name", Code: errs.Required, Message: "body " + string(r.Body)}}, Obstacles: []errs.Detail{}}, nil
	})
}

func TestDefinitionRoutes(t *testing.T) {
	w := start(t, setup{})
	const agent, workflow = "/api/v1/agents/" + thingID, "/api/v1/workflows/" + thingID
	for _, s := range []scenario{
		{name: "agent versions", request: request{method: "GET", path: agent + "/versions?page=2&pageSize=7", token: aliceToken}, status: 200, holds: `"config":{"page":2,"pageSize":7,"id":"` + thingID},
		{name: "agent versions wrongly", request: request{method: "GET", path: agent + "/versions?pageSize=0", token: aliceToken}, status: 400, code: errs.Validation, faults: []string{"pageSize out_of_range"}},
		{name: "agent version", request: request{method: "GET", path: agent + "/versions/2", token: aliceToken}, status: 200, holds: `"version":2`},
		{name: "no agent version", request: request{method: "GET", path: agent + "/versions/4", token: aliceToken}, status: 404, code: errs.NotFound},
		{name: "agent version nonsense", request: request{method: "GET", path: agent + "/versions/x", token: aliceToken}, status: 404, code: errs.NotFound},
		{name: "duplicate agent", request: request{method: "POST", path: agent + "/duplicate", token: aliceToken}, status: 201, holds: `"sourceId":"` + thingID, header: map[string]string{"ETag": `"1"`}},
		{name: "duplicate agent by name", request: request{method: "POST", path: agent + "/duplicate", token: aliceToken, body: `{"name":"n"}`}, status: 201, holds: `{\"name\":\"n\"}`},
		{name: "duplicate agent wrongly", request: request{method: "POST", path: agent + "/duplicate", token: aliceToken, body: `[]`}, status: 400, code: errs.Validation},
		{name: "test agent", request: request{method: "POST", path: agent + "/test?wait=1s", token: aliceToken, body: `{"input":{"n":1}}`}, status: 202, holds: `"logsUrl":"/api/v1/executions/` + thingID + `/logs"`},
		{name: "test agent wrongly", request: request{method: "POST", path: agent + "/test?wait=1s", token: aliceToken, body: `{"inputs":{},"input":7}`}, status: 400, code: errs.Validation, faults: []string{"input bad_type", "inputs unknown_field"}},
		{name: "test agent for long", request: request{method: "POST", path: agent + "/test?wait=1h", token: aliceToken}, status: 400, code: errs.Validation, faults: []string{"wait out_of_range"}},
		{name: "workflow versions", request: request{method: "GET", path: workflow + "/versions", token: aliceToken}, status: 200, holds: `"version":3`},
		{name: "workflow version", request: request{method: "GET", path: workflow + "/versions/1", token: aliceToken}, status: 200, holds: `"steps":[]`},
		{name: "duplicate workflow", request: request{method: "POST", path: workflow + "/duplicate", token: aliceToken, body: `{"name":"n"}`}, status: 201, holds: `"sourceId":"` + thingID},
		{name: "diff", request: request{method: "GET", path: workflow + "/diff?from=2&to=1", token: aliceToken}, status: 200, holds: `\"from\":2,\"to\":1`},
		{name: "diff wrongly", request: request{method: "GET", path: workflow + "/diff?from=0", token: aliceToken}, status: 400, code: errs.Validation, faults: []string{"from out_of_range"}},
		{name: "validate", request: request{method: "POST", path: workflow + "/validate", token: aliceToken}, status: 200, holds: `"valid":false`},
		{name: "validate a body", request: request{method: "POST", path: workflow + "/validate", token: aliceToken, body: `{"name":""}`}, status: 200, holds: `body {\"name\":\"\"}`},
		{name: "validate nonsense", request: request{method: "POST", path: workflow + "/validate", token: aliceToken, body: `{`}, status: 400, code: errs.Validation},
		{name: "no such schema", request: request{method: "GET", path: "/api/v1/schemas/agents/code"}, status: 404, code: errs.NotFound},
	} {
		t.Run(s.name, func(t *testing.T) { w.check(t, s) })
	}
	w.t = t
	for _, agentType := range catalog.AgentTypes() {
		got := w.do(request{method: "GET", path: "/api/v1/schemas/agents/" + agentType})
		if _, err := schema.Compile([]byte(got.text)); err != nil || got.status != 200 || got.header.Get("Content-Type") != "application/schema+json" {
			t.Errorf("%s: %d, %v, %s", agentType, got.status, err, got.text)
		}
	}
}
