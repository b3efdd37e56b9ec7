//go:build unix

package e2e

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
)

const (
	workflowFields = "id userId name description status version inputSchema outputs timeoutMs concurrency priority strictTemplates tags isPublic createdAt updatedAt"
	stepFields     = "stepKey stepType agentId dependsOn inputs config onError retryCount retryDelayMs timeoutMs triggerRule position"
)

// step makes an AGENT step.
func step(key, agentID string, more ...object) object {
	s := object{"stepKey": key, "stepType": "AGENT", "agentId": agentID}
	for _, m := range more {
		for name, value := range m {
			s[name] = value
		}
	}
	return s
}

func after(keys ...string) object { return object{"dependsOn": keys} }

func inputs(values object) object { return object{"inputs": values} }

// workflow makes an ACTIVE workflow and gives its id.
func (c *client) workflow(t testing.TB, steps []object, more ...object) string {
	t.Helper()
	body := object{"name": "a workflow", "status": "ACTIVE", "steps": steps}
	for _, m := range more {
		for name, value := range m {
			body[name] = value
		}
	}
	return data[catalog.Workflow](t, c.do(t, "POST", "/workflows", body), 201).ID
}

func TestWorkflows(t *testing.T) {
	t.Parallel()
	c := user(t)
	agent := c.code(t, identityCode)
	a := c.do(t, "POST", "/workflows", object{"name": "etl", "steps": []object{step("a", agent), step("b", agent, after("a"), inputs(object{"x": "{{a.output}}"}))}})
	answered := data[object](t, a, 201)
	shape(t, "a workflow", answered, workflowFields+" steps")
	shape(t, "a step", answered["steps"].([]any)[0], stepFields)
	w := data[catalog.Workflow](t, a, 201)
	if w.Status != "DRAFT" || w.Version != 1 || w.TimeoutMs != 3600000 || w.Priority != 5 || w.StrictTemplates || w.Concurrency != nil || a.header.Get("ETag") != `"1"` {
		t.Errorf("made %+v", w)
	}
	first := w.Steps[0]
	if first.OnError != "FAIL" || first.RetryCount != 3 || first.RetryDelayMs != 1000 || first.TimeoutMs != 300000 || first.TriggerRule != "none_failed" || first.Position != 0 ||
		first.DependsOn == nil || string(first.Inputs) != "{}" || string(first.Config) != "{}" || w.Steps[1].Position != 1 {
		t.Errorf("made the steps %+v", w.Steps)
	}
	path := "/workflows/" + w.ID

	patch := func(body object, headers ...string) catalog.Workflow {
		t.Helper()
		return data[catalog.Workflow](t, c.do(t, "PATCH", path, body, headers...), 200)
	}
	got := patch(object{"description": "x", "status": "ACTIVE"})
	if got.Version != 1 || len(got.Steps) != 2 || got.Status != "ACTIVE" {
		t.Errorf("a change that is none of the definition: %+v", got)
	}
	got = patch(object{"steps": []object{
		{"stepKey": "b", "timeoutMs": 1000},
		step("c", agent, after("b")),
	}}, "If-Match", `"1"`)
	if got.Version != 2 || stepKeys(got) != "a b c" || got.Steps[1].TimeoutMs != 1000 || got.Steps[1].DependsOn[0] != "a" || got.Steps[2].Position != 2 {
		t.Errorf("steps do not merge: %+v", got)
	}
	got = patch(object{"steps": []object{{"stepKey": "a", "_delete": true}, {"stepKey": "b", "dependsOn": nil, "inputs": object{}}}})
	if got.Version != 3 || stepKeys(got) != "b c" || len(got.Steps[0].DependsOn) != 0 {
		t.Errorf("a step is not deleted: %+v", got)
	}
	if e := fault(t, c.do(t, "PATCH", path, object{"name": "half", "steps": []object{{"stepKey": "b", "_delete": true}}}), errs.Validation); e.Details[0].Code != "unknown_step" {
		t.Errorf("a deleted step that is needed: %+v", e)
	}
	fault(t, c.do(t, "PATCH", path, object{"steps": []object{{"stepKey": "zz", "_delete": true}}}), errs.Validation)
	fault(t, c.do(t, "PATCH", path, object{"name": "half"}, "If-Match", `"2"`), errs.PreconditionFailed)
	if got := data[catalog.Workflow](t, c.do(t, "GET", path, nil), 200); got.Name != "etl" || got.Version != 3 || stepKeys(got) != "b c" {
		t.Errorf("a refused change left %+v", got)
	}
	got = patch(object{"outputs": object{"r": "{{c.output}}"}, "tags": []string{"listed"}})
	if got.Version != 4 {
		t.Errorf("a change of the outputs makes version %d", got.Version)
	}
	if got = patch(object{"outputs": nil}); string(got.Outputs) != "null" {
		t.Errorf("null does not clear: %s", got.Outputs)
	}

	items, _ := page[object](t, c.do(t, "GET", "/workflows?tags=listed&status=ACTIVE&search=ETL&isPublic=false", nil))
	if len(items) != 1 {
		t.Fatalf("listed %v", items)
	}
	shape(t, "a workflow in a list", items[0], workflowFields)
	for _, query := range []string{"status=DRAFT", "search=elt", "isPublic=true", "tags=listed,other"} {
		// What others made public may have numbers that Go has not.
		if items, p := page[struct{ ID string }](t, c.do(t, "GET", "/workflows?"+query, nil)); p.Total != len(items) || slices.ContainsFunc(items, func(o struct{ ID string }) bool { return o.ID == w.ID }) {
			t.Errorf("%s gives %v", query, items)
		}
	}

	other := user(t)
	for _, a := range []answer{
		other.do(t, "GET", path, nil), other.do(t, "PATCH", path, object{"name": "mine"}), other.do(t, "DELETE", path, nil),
		other.do(t, "POST", path+"/execute", nil), other.do(t, "GET", path+"/executions", nil),
	} {
		fault(t, a, errs.NotFound)
	}
	// Somebody else's agent does not exist either.
	if e := fault(t, other.do(t, "POST", "/workflows", object{"name": "x", "steps": []object{step("a", agent)}}), errs.Validation); e.Details[0].Code != "unknown_agent" {
		t.Errorf("somebody else's agent: %+v", e)
	}

	if a := c.do(t, "DELETE", path, nil); a.status != 204 {
		t.Fatal(a)
	}
	fault(t, c.do(t, "GET", path, nil), errs.NotFound)
	fault(t, c.do(t, "POST", path+"/execute", nil), errs.NotFound)
}

// TestWorkflowsWithASchedule lists workflows by whether a schedule of theirs is on, which another service knows.
func TestWorkflowsWithASchedule(t *testing.T) {
	t.Parallel()
	c := user(t)
	plain, nightly := c.workflow(t, []object{}), c.workflow(t, []object{})
	listed := func(on string) (ids []string) {
		t.Helper()
		found, _ := page[catalog.Workflow](t, c.do(t, "GET", "/workflows?sortOrder=asc&scheduleEnabled="+on, nil))
		for _, w := range found {
			ids = append(ids, w.ID)
		}
		return ids
	}
	become := func(what string, on, off []string) {
		t.Helper()
		eventually(t, 10*time.Second, func() error {
			if gotOn, gotOff := listed("true"), listed("false"); !slices.Equal(gotOn, on) || !slices.Equal(gotOff, off) {
				return fmt.Errorf("%s: %v have one and %v have none, want %v and %v", what, gotOn, gotOff, on, off)
			}
			return nil
		})
	}
	become("none with a schedule", nil, []string{plain, nightly})
	path := "/workflows/" + nightly + "/triggers"
	trigger := data[orchestrator.Trigger](t, c.do(t, "POST", path, object{"type": "SCHEDULE", "name": "nightly", "cron": "0 3 1 1 *"}), 201)
	become("one with a schedule", []string{nightly}, []string{plain})
	data[orchestrator.Trigger](t, c.do(t, "PATCH", path+"/"+trigger.ID, object{"enabled": false}), 200)
	become("its schedule off", nil, []string{plain, nightly})
	data[orchestrator.Trigger](t, c.do(t, "PATCH", path+"/"+trigger.ID, object{"enabled": true}), 200)
	become("its schedule on again", []string{nightly}, []string{plain})
	if a := c.do(t, "DELETE", path+"/"+trigger.ID, nil); a.status != 204 {
		t.Fatal(a)
	}
	become("its schedule deleted", nil, []string{plain, nightly})
	fault(t, c.do(t, "GET", "/workflows?scheduleEnabled=maybe", nil), errs.Validation)
}

func stepKeys(w catalog.Workflow) string {
	var list []string
	for _, s := range w.Steps {
		list = append(list, s.StepKey)
	}
	return strings.Join(list, " ")
}

func TestWorkflowProblemsAllAtOnce(t *testing.T) {
	t.Parallel()
	c := user(t)
	agent := c.code(t, identityCode)
	const missing = "0193a5c0-7a2b-7c3d-8e4f-0123456789ab"
	a := c.do(t, "POST", "/workflows", object{"name": "broken", "steps": []object{
		0:  step("a", agent, after("c")),
		1:  step("b", agent, after("a")),
		2:  step("c", agent, after("b")),
		3:  step("d", agent, after("d", "q")),
		4:  step("e", missing),
		5:  step("e", agent),
		6:  step("f", agent, inputs(object{"x": "{{g.output}}"})),
		7:  step("g", agent, inputs(object{"deep": []any{object{"y": "{{nobody.output.x}}"}}})),
		8:  step("h", agent, inputs(object{"x": "{{inputs.}}"})),
		9:  step("inputs", agent),
		10: step("9lives", agent),
		11: step("k", agent, object{"onError": "PANIC", "retryCount": -1, "colour": "red"}),
		12: {"stepKey": "l", "stepType": "DANCE"},
		13: {"stepKey": "m", "stepType": "AGENT"},
	}})
	got := fault(t, a, errs.Validation)
	want := []errs.Detail{
		{Field: "steps[0].dependsOn[0]", Code: "cycle"},
		{Field: "steps[3].dependsOn[0]", Code: "self_dependency"},
		{Field: "steps[3].dependsOn[1]", Code: "unknown_step"},
		{Field: "steps[4].agentId", Code: "unknown_agent"},
		{Field: "steps[5].stepKey", Code: "duplicate_key"},
		{Field: "steps[6].inputs.x", Code: "not_an_ancestor"},
		{Field: "steps[7].inputs.deep[0].y", Code: "unknown_step"},
		{Field: "steps[8].inputs.x", Code: "bad_template"},
		{Field: "steps[9].stepKey", Code: "reserved_key"},
		{Field: "steps[10].stepKey", Code: "bad_key"},
		{Field: "steps[11].onError", Code: "bad_enum"},
		{Field: "steps[11].retryCount", Code: "out_of_range"},
		{Field: "steps[11].colour", Code: "unknown_field"},
		{Field: "steps[12].stepType", Code: "bad_enum"},
		{Field: "steps[13].agentId", Code: "required"},
	}
	if got.Message != fmt.Sprintf("%d problems in the workflow", len(want)) {
		t.Errorf("the message is %q", got.Message)
	}
	// A cycle has no first step: it stands at any of its three.
	for i, d := range got.Details {
		if d.Code == "cycle" {
			for _, key := range []string{"a", "b", "c"} {
				if !strings.Contains(d.Message, key) {
					t.Errorf("the cycle is not named: %s", d.Message)
				}
			}
			got.Details[i].Field = want[0].Field
		}
		if d.Field == "steps[3].dependsOn[1]" && d.Message != `unknown step "q"; add it or remove it` {
			t.Errorf("the message is %q", d.Message)
		}
		got.Details[i].Message = ""
	}
	byField := func(a, b errs.Detail) int { return cmp.Compare(a.Field+string(a.Code), b.Field+string(b.Code)) }
	slices.SortFunc(got.Details, byField)
	slices.SortFunc(want, byField)
	if !slices.Equal(got.Details, want) {
		t.Errorf("found\n%v\nwant\n%v", got.Details, want)
	}
}

func TestExecuteNeedsActiveParts(t *testing.T) {
	t.Parallel()
	c := user(t)
	agent := c.code(t, identityCode)
	draft := data[catalog.Agent](t, c.do(t, "POST", "/agents", object{"name": "half done", "type": "CODE", "config": object{"runtime": "javascript", "source": identityCode}}), 201)
	for name, want := range map[string]struct{ id, message string }{
		"workflow": {c.workflow(t, []object{step("a", agent)}, object{"status": "DRAFT"}), "DRAFT"},
		"agent":    {c.workflow(t, []object{step("a", agent), step("b", draft.ID)}), draft.ID},
		"empty":    {c.workflow(t, []object{}), "step"},
	} {
		if e := fault(t, c.do(t, "POST", "/workflows/"+want.id+"/execute", nil), errs.Conflict); !strings.Contains(e.Message+fmt.Sprint(e.Details), want.message) {
			t.Errorf("%s: %+v does not name %s", name, e, want.message)
		}
	}
}
