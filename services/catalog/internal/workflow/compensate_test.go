package workflow_test

import (
	"encoding/json"
	"strings"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/services/catalog/internal/workflow"
)

func TestCompensate(t *testing.T) {
	undone := func(compensate string) string { return step("a", `"compensate":`+compensate) }
	agent := func(more string) string { return `{"agentId":"` + agentA + `"` + more + `}` }
	checkCases(t, []configCase{
		{"of an agent", body(undone(agent(""))), ""},
		{"of a loop", body(loopStep(`{"forEach":[1]}`, `"compensate":`+agent(""))), ""},
		{"of a parallel", body(of("PARALLEL", "p", `{"branches":[{"key":"b","agentId":"`+agentA+`"}]}`, `"compensate":`+agent(""))), ""},
		{"null", body(undone("null")), ""},
		{"bounds", body(undone(agent(`,"retryCount":20,"retryDelayMs":3600000,"timeoutMs":86400000`))), ""},
		{"names the step, what is before, inputs and metadata", body(step("z", ""), step("a", `"dependsOn":["z"],"compensate":`+agent(`,"inputs":{"id":"{{a.output.id}}","z":"{{z.error}}","n":"{{inputs.n}}","x":"{{metadata.executionId}}"}`))), ""},

		{"of a wait", body(of("WAIT", "w", `{"durationMs":1}`, `"compensate":`+agent(""))), "steps[0].compensate not_applicable"},
		{"of a condition", body(of("CONDITION", "c", `{"expression":"true"}`, `"compensate":`+agent(""))), "steps[0].compensate not_applicable"},
		{"no object", body(undone(`"x"`)), "steps[0].compensate bad_type"},
		{"nothing in it", body(undone(`{}`)), "steps[0].compensate.agentId required"},
		{"no UUID", body(undone(`{"agentId":"x"}`)), "steps[0].compensate.agentId bad_value"},
		{"unknown agent", body(undone(`{"agentId":"` + unknown + `"}`)), "steps[0].compensate.agentId unknown_agent"},
		{
			"all at once", body(undone(agent(`,"inputs":[],"retryCount":21,"retryDelayMs":-1,"timeoutMs":0,"onError":"FAIL","compensate":null`))),
			"steps[0].compensate.inputs bad_type\nsteps[0].compensate.retryCount out_of_range\nsteps[0].compensate.retryDelayMs out_of_range\nsteps[0].compensate.timeoutMs out_of_range\n" +
				"steps[0].compensate.compensate unknown_field\nsteps[0].compensate.onError unknown_field",
		},
		{
			"names what is not there", body(undone(agent(`,"inputs":{"x":"{{b.output}}","y":"{{q.output}}","z":"{{item}}","s":"{{secrets}}","o":"{{a}}"}`)), step("b", `"dependsOn":["a"]`)),
			"steps[0].compensate.inputs.x not_an_ancestor\nsteps[0].compensate.inputs.y unknown_step\nsteps[0].compensate.inputs.z bad_template\nsteps[0].compensate.inputs.s bad_template\nsteps[0].compensate.inputs.o bad_template",
		},
	})
}

func TestCompensateIsPartOfTheVersion(t *testing.T) {
	w, err := workflow.New([]byte(body(step("a", `"compensate":{"agentId":"`+strings.ToUpper(agentA)+`"}`)))).Finish(known)
	if err != nil {
		t.Fatal(err)
	}
	want := catalog.Compensate{AgentID: agentA, Inputs: json.RawMessage(`{}`), RetryCount: 3, RetryDelayMs: 1000, TimeoutMs: 300_000}
	if got := w.Steps[0].Compensate; got == nil || got.AgentID != want.AgentID || string(got.Inputs) != `{}` || got.RetryCount != 3 || got.RetryDelayMs != 1000 || got.TimeoutMs != 300_000 {
		t.Errorf("it is %+v, want %+v", got, want)
	}
	for _, c := range []struct {
		name, patch string
		version     int
		has         bool
	}{
		{"another field", `{"steps":[{"stepKey":"a","onError":"RETRY"}]}`, 2, true},
		{"the same", `{"steps":[{"stepKey":"a","compensate":{"agentId":"` + agentA + `"}}]}`, 1, true},
		{"other inputs", `{"steps":[{"stepKey":"a","compensate":{"agentId":"` + agentA + `","inputs":{"x":1}}}]}`, 2, true},
		{"none any more", `{"steps":[{"stepKey":"a","compensate":null}]}`, 2, false},
	} {
		next, err := workflow.Patch(w, []byte(c.patch)).Finish(known)
		if err != nil || next.Version != c.version || (next.Steps[0].Compensate != nil) != c.has {
			t.Errorf("%s: version %d, %+v, %v", c.name, next.Version, next.Steps, err)
		}
	}
	if _, err := workflow.Patch(w, []byte(`{"steps":[{"stepKey":"a","stepType":"WAIT","agentId":null,"config":{"durationMs":1}}]}`)).Finish(known); faults(t, err) != "steps[0].compensate not_applicable" {
		t.Errorf("a WAIT keeps it: %v", err)
	}
}

// TestDefinitionHasWhatCompensates freezes also the agents that are named nowhere else.
func TestDefinitionHasWhatCompensates(t *testing.T) {
	other := "01890a5d-ac96-774b-bcce-b302099a8009"
	w, err := workflow.New([]byte(body(step("a", `"compensate":{"agentId":"`+other+`"}`)))).Finish(func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	w.Status = catalog.StatusActive
	agents := map[string]catalog.Agent{agentA: {ID: agentA, Status: catalog.StatusActive, Version: 2}, other: {ID: other, Status: catalog.StatusActive, Version: 7}}
	d, err := workflow.Define(w, agents)
	if err != nil || len(d.Agents) != 2 || d.Agents[1].ID != other || d.Agents[1].Version != 7 || d.Steps[0].Compensate == nil {
		t.Errorf("%+v, %v", d, err)
	}
	delete(agents, other)
	if _, err := workflow.Define(w, agents); errs.From(err).Details[0].Field != "steps[0].compensate.agentId" {
		t.Errorf("without it: %v", err)
	}
}

// What a WORKFLOW agent is given becomes the inputs of an execution, which everybody reads who may see that.
func TestWorkflowAgentsGetNoSecrets(t *testing.T) {
	inputs := `"inputs":{"a":["{{secrets.K}}"]}`
	text := body(
		step("a", inputs+`,"compensate":{"agentId":"`+agentA+`",`+inputs+`}`),
		of("PARALLEL", "p", `{"branches":[{"key":"x","agentId":"`+agentA+`",`+inputs+`}]}`, ""), step("b", ""))
	for _, workflows := range []bool{true, false} {
		d := workflow.New([]byte(text))
		d.KeepSecrets(func(string) bool { return workflows })
		want := ""
		if workflows {
			want = "steps[0].inputs.a[0] not_applicable\nsteps[0].compensate.inputs.a[0] not_applicable\nsteps[1].config.branches[0].inputs.a[0] not_applicable"
		}
		w, err := d.Finish(known)
		if got := faults(t, err); got != want {
			t.Errorf("with WORKFLOW agents %t: %q, want %q", workflows, got, want)
		}
		if err != nil {
			continue
		}
		w.Status = catalog.StatusActive
		_, err = workflow.Define(w, map[string]catalog.Agent{agentA: {ID: agentA, Type: catalog.AgentWorkflow, Status: catalog.StatusActive}})
		if got := errs.From(err); got.Code != errs.Conflict || len(got.Details) != 3 || got.Details[2].Field != "steps[1].config.branches[0].inputs.a[0]" {
			t.Errorf("its agent has become a WORKFLOW agent: %+v", got)
		}
	}
}
