package engine_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

// owned is a workflow whose agent belongs to a user and has a config.
func owned(owner, agentType, config string, steps ...catalog.Step) catalog.Definition {
	d := workflow(steps...)
	d.Agents[0].Owner, d.Agents[0].Type, d.Agents[0].Config = owner, agentType, json.RawMessage(config)
	return d
}

const plain = `{"runtime":"javascript"}`

func bodyOf(t *testing.T, x *engine.Execution, p engine.Place) (body runner.StepBody) {
	t.Helper()
	raw, failure := x.Body(p, nil)
	if failure != nil {
		t.Fatal(failure)
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return body
}

// fill puts a value in the places of secrets.
func fill(body runner.StepBody, value string) string {
	text := string(body.Input)
	for _, point := range slices.Backward(body.Secrets) {
		text = text[:point.At] + value + text[point.At:]
	}
	return text
}

func TestSecretsAreHolesInTheBody(t *testing.T) {
	f := submit(t, owned(userID, catalog.AgentCode, plain, step("a", nil),
		step("b", on("a"), inputs(`{"k":"{{secrets.KEY}}","h":["Bearer {{ secrets.KEY }}.{{secrets.B}}{{a.output}}"],"d":"{{a.output}}"}`))))
	f.completed("a", `"{{secrets.KEY}}"`)
	body := bodyOf(t, f.x, engine.Place{Step: 1})
	if want := `{"k":"X","h":["Bearer X.X{{secrets.KEY}}"],"d":"{{secrets.KEY}}"}`; fill(body, "X") != want {
		t.Errorf("filled it is %s, want %s", fill(body, "X"), want)
	}
	var names []string
	for _, point := range body.Secrets {
		names = append(names, point.Name)
	}
	if !slices.Equal(names, []string{"KEY", "KEY", "B"}) || !slices.Equal(f.x.Definition.Steps[1].Work(0).Secrets, []string{"B", "KEY"}) {
		t.Errorf("it needs %v", names)
	}
	shown, _, failure := f.x.Input(engine.Place{Step: 1})
	if want := `{"k":"{{secrets.KEY}}","h":["Bearer {{ secrets.KEY }}.{{secrets.B}}{{secrets.KEY}}"],"d":"{{secrets.KEY}}"}`; string(shown) != want || failure != nil {
		t.Errorf("it shows %s, %v", shown, failure)
	}
	if len(f.warned) > 0 {
		t.Errorf("it warns %q", f.warned)
	}
	if other := bodyOf(t, f.x, engine.Place{Step: 0}); other.Secrets != nil || f.x.Definition.Steps[0].Work(0).Secrets != nil {
		t.Errorf("a step without secrets has %+v", other)
	}
}

func TestSecretsOfStrictTemplates(t *testing.T) {
	d := owned(userID, catalog.AgentCode, plain, step("a", nil, inputs(`{"k":"{{secrets.KEY}}"}`)), step("b", nil, inputs(`{"k":"{{secrets.KEY}}{{inputs.none}}"}`)))
	d.StrictTemplates = true
	f := submit(t, d)
	if f.x.Steps[1].Error == nil || f.x.Steps[1].Error.Code != runner.CodeTemplate || strings.Contains(f.x.Steps[1].Error.Message, "secrets") {
		t.Errorf("what does not resolve: %+v", f.x.Steps[1].Error)
	}
	if f.x.Steps[0].Error != nil {
		t.Errorf("a secret is no template that does not resolve: %+v", f.x.Steps[0].Error)
	}
}

func TestSecretsOfItems(t *testing.T) {
	f := submit(t, owned(userID, catalog.AgentCode, plain,
		typed("l", catalog.StepLoop, `{"forEach":["v"]}`, nil, inputs(`{"k":"{{secrets.KEY}}","i":"{{item}}"}`)),
		typed("p", catalog.StepParallel, `{"branches":[{"key":"x","agentId":"`+agentID+`","inputs":{"k":"{{secrets.KEY}}"}},{"key":"y","agentId":"`+agentID+`"}]}`, nil)))
	for p, want := range map[engine.Place]string{{Step: 0, Iteration: 1}: `{"k":"X","i":"v"}`, {Step: 1, Iteration: 1}: `{"k":"X"}`, {Step: 1, Iteration: 2}: `{}`} {
		if got := fill(bodyOf(t, f.x, p), "X"); got != want {
			t.Errorf("%+v is given %s, want %s", p, got, want)
		}
	}
}

// What belongs to somebody else gets no secrets: neither those of who runs it nor those of who made it.
func TestSecretsAreReadForTheirOwnerAlone(t *testing.T) {
	const other = "01890a5d-ac96-774b-bcce-b302099a80ff"
	api, code, data := `{"url":"https://x/{{secrets.KEY}}/{{id}}"}`, `{"runtime":"javascript","secrets":["KEY"]}`, `{"operation":"sort"}`
	for name, c := range map[string]struct {
		definition catalog.Definition
		workflow   string // its owner
		needs      int
		refused    string // what is another's
	}{
		"own":                              {owned(userID, catalog.AgentAPI, api, step("a", nil, inputs(`{"k":"{{secrets.B}}"}`))), userID, 2, ""},
		"another's agent":                  {owned(other, catalog.AgentAPI, api, step("a", nil)), userID, 1, "agent"},
		"another's code":                   {owned(other, catalog.AgentCode, code, step("a", nil)), userID, 1, "agent"},
		"another's agent without its own":  {owned(other, catalog.AgentData, data, step("a", nil, inputs(`{"k":"{{secrets.B}}"}`))), userID, 1, ""},
		"another's workflow":               {owned(userID, catalog.AgentData, data, step("a", nil, inputs(`{"k":"{{secrets.B}}"}`))), other, 1, "workflow"},
		"another's workflow and own agent": {owned(userID, catalog.AgentAPI, api, step("a", nil)), other, 1, ""},
		"an agent from before":             {owned("", catalog.AgentAPI, api, step("a", nil)), userID, 1, "agent"},
		"text in code":                     {owned(other, catalog.AgentCode, `{"runtime":"javascript","source":"// {{secrets.KEY}}"}`, step("a", nil)), other, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.definition.WorkflowOwner = c.workflow
			f := submit(t, c.definition)
			if got := len(f.x.Definition.Steps[0].Work(0).Secrets); got != c.needs {
				t.Errorf("it needs %d secrets, want %d", got, c.needs)
			}
			failure := f.x.Steps[0].Error
			switch {
			case c.refused == "" && failure != nil:
				t.Errorf("it fails with %+v", failure)
			case c.refused != "" && (failure == nil || failure.Code != runner.CodeForeignSecret || failure.Retryable || !strings.Contains(failure.Message, "the "+c.refused)):
				t.Errorf("it fails with %+v", failure)
			case c.refused != "" && len(f.last.Ready) > 0:
				t.Error("it is sent all the same")
			}
		})
	}
}

func TestSecretsUndo(t *testing.T) {
	d := owned(userID, catalog.AgentCode, plain,
		step("a", nil, undone(`{"auth":"Bearer {{secrets.KEY}}","id":"{{a.output.id}}","text":"{{a.output.id}} of {{inputs.n}}","none":"{{a.output.none}}","again":"{{a.output.id}}"}`)), step("b", on("a")))
	f := submit(t, d)
	f.completed("a", `{"id": "{{secrets.KEY}}"}`)
	got := f.failed("b", final).Compensation
	if got == nil || string(got.Inputs) != `{"a":["{{secrets.KEY}}",20,"{{a.output.none}}"]}` {
		t.Fatalf("it is given %+v", got)
	}
	undoing := accepted(got.ID, compile(t, got.Definition))
	undoing.Inputs, undoing.CompensationOf = got.Inputs, executionID
	if begun := engine.Apply(undoing, engine.Input{Kind: engine.Submitted, Time: start}, keys); len(begun.Ready) != 1 || undoing.Status != orchestrator.ExecutionRunning {
		t.Fatalf("it is %s, %+v", undoing.Status, undoing.Error)
	}
	want := `{"auth":"Bearer X","id":"{{secrets.KEY}}","text":"{{secrets.KEY}} of 20","none":"{{a.output.none}}","again":"{{secrets.KEY}}"}`
	if body := bodyOf(t, undoing, engine.Place{}); fill(body, "X") != want || len(body.Secrets) != 1 {
		t.Errorf("it is given %s, want %s", fill(body, "X"), want)
	}
}

func TestAWorkflowAgentGetsNoSecrets(t *testing.T) {
	d := owned(userID, catalog.AgentWorkflow, `{"workflowId":"`+workflowID+`"}`, step("a", nil, inputs(`{"k":"{{secrets.KEY}}"}`)))
	if _, err := engine.Compile(d); err == nil || !strings.Contains(err.Error(), "WORKFLOW agent name the secret KEY") {
		t.Errorf("it compiles: %v", err)
	}
}
