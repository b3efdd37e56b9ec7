//go:build unix

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/runner"
)

const agentFields = "id userId name description type status version config inputSchema outputSchema tags isPublic createdAt updatedAt"

// code makes an ACTIVE CODE agent of the JavaScript source.
func (c *client) code(t testing.TB, source string, config ...object) string {
	t.Helper()
	all := object{"runtime": "javascript", "source": source}
	for _, more := range config {
		for name, value := range more {
			all[name] = value
		}
	}
	return c.agent(t, "CODE", all)
}

// agent makes an ACTIVE agent and gives its id.
func (c *client) agent(t testing.TB, kind string, config object) string {
	t.Helper()
	return data[catalog.Agent](t, c.do(t, "POST", "/agents", object{"name": kind, "type": kind, "status": "ACTIVE", "config": config}), 201).ID
}

const identityCode = `function handler(input) { return input }`

func TestAgents(t *testing.T) {
	t.Parallel()
	c := user(t)
	a := c.do(t, "POST", "/agents", object{"name": "sum", "type": "CODE", "config": object{"runtime": "javascript", "source": identityCode}})
	shape(t, "an agent", data[object](t, a, 201), agentFields)
	agent := data[catalog.Agent](t, a, 201)
	if agent.Status != "DRAFT" || agent.Version != 1 || agent.UserID != c.session.User.ID || agent.Description != "" || len(agent.Tags) != 0 || agent.IsPublic ||
		string(agent.InputSchema) != "null" || a.header.Get("ETag") != `"1"` {
		t.Errorf("made %+v with the ETag %s", agent, a.header.Get("ETag"))
	}
	path := "/agents/" + agent.ID
	if got := c.do(t, "GET", path, nil); got.header.Get("ETag") != `"1"` || data[catalog.Agent](t, got, 200).Name != "sum" {
		t.Error(got)
	}

	patch := func(body object, headers ...string) catalog.Agent {
		t.Helper()
		return data[catalog.Agent](t, c.do(t, "PATCH", path, body, headers...), 200)
	}
	got := patch(object{"name": "total", "description": "adds", "status": "ACTIVE", "tags": []string{"x", "y"}})
	if got.Version != 1 || got.Name != "total" || got.Description != "adds" || got.Status != "ACTIVE" || len(got.Tags) != 2 {
		t.Errorf("a change of the name: %+v", got)
	}
	got = patch(object{"description": nil, "config": object{"runtime": "javascript", "source": identityCode, "timeoutMs": 500}}, "If-Match", `"1"`)
	if got.Version != 2 || got.Description != "" || got.Name != "total" || len(got.Tags) != 2 || !strings.Contains(string(got.Config), "500") {
		t.Errorf("a change of the config: %+v", got)
	}
	got = patch(object{"config": object{"runtime": "javascript", "source": identityCode}})
	if got.Version != 3 || strings.Contains(string(got.Config), "500") {
		t.Errorf("the config is not replaced whole: %+v", got)
	}
	got = patch(object{"id": "x", "userId": "x", "version": 77, "createdAt": "x", "updatedAt": nil})
	if got.Version != 3 || got.ID != agent.ID {
		t.Errorf("read-only fields are not ignored: %+v", got)
	}
	fault(t, c.do(t, "PATCH", path, object{"name": "z"}, "If-Match", `"2"`), errs.PreconditionFailed)
	fault(t, c.do(t, "PATCH", path, object{"name": "z"}, "If-Match", "rubbish"), errs.PreconditionFailed)

	problems := fault(t, c.do(t, "POST", "/agents", object{
		"name": 5, "type": "ROBOT", "status": "ASLEEP", "tags": "x", "isPublic": "yes", "colour": "red", "config": []int{1},
	}), errs.Validation)
	for _, field := range []string{"name", "type", "status", "tags", "isPublic", "colour", "config"} {
		if !hasField(problems, field) {
			t.Errorf("%s is not at fault in %+v", field, problems)
		}
	}
	problems = fault(t, c.do(t, "POST", "/agents", object{"name": "x", "type": "CODE", "config": object{"runtime": "cobol", "memoryMb": -1, "colour": "red"}}), errs.Validation)
	for _, field := range []string{"config.runtime", "config.memoryMb", "config.colour"} {
		if !hasField(problems, field) {
			t.Errorf("%s is not at fault in %+v", field, problems)
		}
	}
	// Source that does not parse is the step's error.
	c.code(t, "function handler( {")

	other := user(t)
	fault(t, other.do(t, "GET", path, nil), errs.NotFound)
	fault(t, other.do(t, "PATCH", path, object{"name": "mine"}), errs.NotFound)
	fault(t, other.do(t, "DELETE", path, nil), errs.NotFound)

	if a := c.do(t, "DELETE", path, nil); a.status != 204 {
		t.Fatal(a)
	}
	fault(t, c.do(t, "GET", path, nil), errs.NotFound)
	fault(t, c.do(t, "DELETE", path, nil), errs.NotFound)
}

func TestAgentList(t *testing.T) {
	t.Parallel()
	c := user(t)
	for i := range 5 {
		body := object{
			"name": fmt.Sprintf("agent %d", 5-i), "type": "CODE", "tags": []string{"mine", fmt.Sprintf("odd-%t", i%2 == 1)},
			"config": object{"runtime": "javascript", "source": identityCode},
		}
		if i == 0 {
			body["type"], body["config"], body["status"] = "DATA", object{"operation": "pick", "fields": []string{"a"}}, "ACTIVE"
		}
		data[catalog.Agent](t, c.do(t, "POST", "/agents", body), 201)
	}
	names := func(query string) string {
		t.Helper()
		items, p := page[catalog.Agent](t, c.do(t, "GET", "/agents?tags=mine&"+query, nil))
		var list []string
		for _, a := range items {
			list = append(list, strings.TrimPrefix(a.Name, "agent "))
		}
		return fmt.Sprintf("%s of %d", strings.Join(list, ""), p.Total)
	}
	for query, want := range map[string]string{
		"":                                   "12345 of 5",
		"sortOrder=asc":                      "54321 of 5",
		"sortBy=name&sortOrder=desc":         "54321 of 5",
		"pageSize=2&page=2":                  "34 of 5",
		"pageSize=2&page=9":                  " of 5",
		"type=DATA":                          "5 of 1",
		"status=DRAFT":                       "1234 of 4",
		"tags=odd-true":                      "24 of 2",
		"isPublic=true":                      " of 0",
		"search=agent%203":                   "3 of 1",
		"search=AGENT&type=CODE&pageSize=1":  "1 of 4",
		"search=%25":                         " of 0",
		"search=_gent":                       " of 0",
		"search=%27%3B%20DROP%20TABLE%20x--": " of 0",
	} {
		if got := names(query); got != want {
			t.Errorf("%s gives %s, want %s", query, got, want)
		}
	}
	if items, p := page[catalog.Agent](t, c.do(t, "GET", "/agents?pageSize=2&tags=mine", nil)); len(items) != 2 || p.Page != 1 || p.PageSize != 2 || p.TotalPages != 3 || p.NextCursor == nil {
		t.Errorf("%+v", p)
	}
	for _, query := range []string{"pageSize=0", "pageSize=101", "page=0", "pageSize=x", "sortBy=config", "sortOrder=up", "type=ROBOT", "status=x", "isPublic=x", "cursor=x", "page=2&cursor=x"} {
		fault(t, c.do(t, "GET", "/agents?"+query, nil), errs.Validation)
	}
}

// TestTestOfAnAgent runs agents outside any workflow: a draft, one that fails, one that is another workflow.
func TestTestOfAnAgent(t *testing.T) {
	t.Parallel()
	c := user(t)
	type test struct {
		ExecutionID, AgentID, Status, LogsURL string
		Output                                object
		Error                                 *struct{ Code, Message string }
		DurationMs                            *int64
	}
	draft := func(source string) string {
		return data[catalog.Agent](t, c.do(t, "POST", "/agents", object{"name": "draft", "type": "CODE", "config": object{"runtime": "javascript", "source": source}}), 201).ID
	}
	id := draft(`function handler(input, context) { console.log("hello"); return {twice: input.n * 2, attempt: context.attempt} }`)
	got := data[test](t, c.do(t, "POST", "/agents/"+id+"/test?wait=60s", object{"input": object{"n": 21}}), 200)
	if got.Status != "COMPLETED" || got.Output["twice"] != 42.0 || got.Output["attempt"] != 1.0 || got.Error != nil || got.DurationMs == nil || got.AgentID != id {
		t.Errorf("got %+v", got)
	}
	e := data[object](t, c.do(t, "GET", "/executions/"+got.ExecutionID, nil), 200)
	if e["agentId"] != id || e["workflowVersion"] != 0.0 || e["triggerType"] != "MANUAL" {
		t.Errorf("got %v", e)
	}
	if err := poll(t.Context(), readyWithin, func() error {
		if logs := c.do(t, "GET", strings.TrimPrefix(got.LogsURL, "/api/v1"), nil); !strings.Contains(string(logs.body), "hello") {
			return fmt.Errorf("no log line yet: %s", logs)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	failing := data[test](t, c.do(t, "POST", "/agents/"+draft(`function handler() { throw new Error("boom") }`)+"/test?wait=60s", nil), 200)
	if failing.Status != "FAILED" || failing.Error == nil || failing.Error.Message != "boom" || failing.Output != nil {
		t.Errorf("got %+v", failing)
	}
	child := c.workflow(t, []object{step("a", c.code(t, identityCode), inputs(object{"x": "{{inputs.x}}"}))})
	other := data[test](t, c.do(t, "POST", "/agents/"+c.agent(t, "WORKFLOW", object{"workflowId": child})+"/test?wait=60s", object{"input": object{"x": 1}}), 200)
	if a, _ := other.Output["a"].(object); other.Status != "COMPLETED" || a["x"] != 1.0 {
		t.Errorf("got %+v", other)
	}
}

// TestPython runs a workflow whose code is Python, where the host has one.
func TestPython(t *testing.T) {
	t.Parallel()
	c := user(t)
	agent := c.agent(t, "CODE", object{"runtime": "python", "source": "def handler(input, context):\n    print('adding')\n    return sum(input['list'])"})
	e := c.run(t, c.workflow(t, []object{step("add", agent, inputs(object{"list": []int{1, 2, 3}}))}), nil)
	got := state(t, e, "add")
	if got.Error != nil && got.Error.Code == runner.CodeNoSandbox {
		t.Skip(got.Error.Message)
	}
	if e.Status != "COMPLETED" || string(got.Output) != "6" {
		t.Fatalf("%s gives %s, %+v", statuses(e), got.Output, got.Error)
	}
	if lines := c.logs(t, e.ID, "", 1); lines[0].Message != "adding" || lines[0].Level != "INFO" {
		t.Errorf("the log is %+v", lines)
	}
}
