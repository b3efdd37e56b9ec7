package workflowfile

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/yamldoc"
)

func TestParse(t *testing.T) {
	f, err := Parse("w.yaml", []byte(`
name: Greet
outputs: {said: "{{greet.output}}", when: 2024-01-01, big: 0x10, float: 1e3}
agents:
  Greeter:
    type: CODE
    config: &config {runtime: javascript, source: x, memoryMb: 64}
  Other: {type: CODE, status: DRAFT, config: *config}
steps:
  - stepKey: greet
    stepType: AGENT
    agent: Greeter
    inputs: {who: "{{inputs.who}}", yes: yes, n: null}
    retryCount: 0
  - {stepKey: known, stepType: AGENT, agentId: 0193b7f0-0000-7000-8000-000000000000, dependsOn: [greet], inputs: null}
`))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Agents) != 2 || f.Agents[0].Name != "Greeter" || f.Agents[0].Status != catalog.StatusActive || f.Agents[1].Status != catalog.StatusDraft {
		t.Errorf("agents %+v", f.Agents)
	}
	if got := string(f.Agents[1].Config); got != `{"runtime":"javascript","source":"x","memoryMb":64}` {
		t.Errorf("the config over an alias is %s", got)
	}
	if got := string(f.Workflow.Outputs); got != `{"said":"{{greet.output}}","when":"2024-01-01","big":16,"float":1e3}` {
		t.Errorf("outputs %s", got)
	}
	w := f.Workflow
	if w.Name != "Greet" || w.Status != catalog.StatusActive || w.TimeoutMs != 3_600_000 || w.Priority != 5 || len(w.Steps) != 2 {
		t.Fatalf("workflow %+v", w)
	}
	greet, known := w.Steps[0], w.Steps[1]
	if string(greet.Inputs) != `{"who":"{{inputs.who}}","yes":"yes","n":null}` || greet.RetryCount != 0 || greet.AgentID != nil || f.StepAgents["greet"] != "Greeter" {
		t.Errorf("step %+v, %v", greet, f.StepAgents)
	}
	if known.AgentID == nil || known.Position != 1 || known.RetryCount != 3 || string(known.Inputs) != "{}" || len(known.DependsOn) != 1 {
		t.Errorf("step %+v", known)
	}
}

func TestCompensateNamesAnAgent(t *testing.T) {
	f, err := Parse("w.yaml", []byte(`
name: Order
steps:
  - {compensate: {agent: Refund, inputs: {id: "{{charge.output.id}}"}, retryCount: 7}, stepKey: charge, stepType: AGENT, agent: Charge}
  - {stepKey: known, stepType: AGENT, agent: Charge, compensate: {agentId: 0193b7f0-0000-7000-8000-000000000000}}
  - {stepKey: none, stepType: AGENT, agent: Charge, compensate: null}
agents:
  Charge: {type: CODE}
  Refund: {type: CODE}
`))
	if err != nil {
		t.Fatal(err)
	}
	steps := f.Steps(map[string]string{"Charge": "c", "Refund": "r"})
	if c := steps[0].Compensate; c == nil || c.AgentID != "r" || c.RetryCount != 7 || c.RetryDelayMs != 1000 || c.TimeoutMs != 300_000 || string(c.Inputs) != `{"id":"{{charge.output.id}}"}` {
		t.Errorf("charge is undone by %+v", c)
	}
	if c := steps[1].Compensate; c == nil || c.AgentID != "0193b7f0-0000-7000-8000-000000000000" || string(c.Inputs) != "{}" || steps[2].Compensate != nil {
		t.Errorf("known is undone by %+v, none by %+v", c, steps[2].Compensate)
	}
	for _, bad := range []string{"{agent: Nobody}", "{agent: Refund, agentId: x}", "{onError: FAIL}", "7"} {
		_, err := Parse("w.yaml", []byte("name: n\nagents: {Refund: {type: CODE}}\nsteps: [{stepKey: a, stepType: AGENT, compensate: "+bad+"}]"))
		var faults yamldoc.Faults
		if !errors.As(err, &faults) || len(faults) != 1 || !strings.HasPrefix(faults[0].Path, "steps[0].compensate") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestJSONIsYAML(t *testing.T) {
	f, err := Parse("w.json", []byte("{\n\t\"name\": \"n\",\n\t\"steps\": [\n\t\t{\"stepKey\": \"a\", \"stepType\": \"AGENT\", \"inputs\": {\"t\": \"a\\tb\"}}\n\t]\n}"))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(f.Workflow.Steps[0].Inputs); got != `{"t":"a\tb"}` {
		t.Errorf("inputs %s", got)
	}
}

func TestFaultsNameLineAndField(t *testing.T) {
	const step = "\nsteps: [{stepKey: a, stepType: AGENT}]"
	for name, c := range map[string]struct{ file, want string }{
		"empty":         {"", "w: the file is empty"},
		"comment":       {"# nothing", "w: the file is empty"},
		"syntax":        {"name: [", "w:1: the YAML does not parse: did not find expected node content"},
		"two documents": {"name: a\n---\nname: b", "a second document begins here"},
		"list":          {"- a", "w:1: is no mapping"},
		"no name":       {"tags: []" + step, "w:1: name: is missing"},
		"no steps":      {"name: a", "w:1: steps: is missing"},
		"steps text":    {"name: a\nsteps: x", "w:2: steps: is no list"},
		"unknown":       {"name: a\nnaem: b" + step, "w:2: naem: unknown field; remove it, or use one of agents, concurrency"},
		"twice":         {"name: a\nname: b" + step, "w:2: name: stands twice"},
		"type":          {"name: a\ntimeoutMs: soon" + step, "w:2: timeoutMs: is of the type string; give a whole number"},
		"fraction":      {"name: a\npriority: 1.5" + step, "w:2: priority: is of the type number 1.5; give a whole number"},
		"bool":          {"name: a\nisPublic: 1" + step, "w:2: isPublic: is of the type number; give true or false"},
		"infinity":      {"name: a\noutputs: {x: .inf}" + step, "w:2: outputs.x: \".inf\" is no number"},
		"tag":           {"name: a\noutputs: {x: !!binary aGk=}" + step, "w:2: outputs.x: has the tag \"!!binary\""},
		"merge":         {"name: a\noutputs: {<<: {a: 1}}" + step, "w:2: outputs: has a key that is no plain text"},
		"agent type":    {"name: a\nagents:\n  X: {config: {}}" + step, "w:3: agents.X.type: is missing"},
		"agents list":   {"name: a\nagents: [x]" + step, "w:2: agents: is no mapping"},
		"agent unknown": {"name: a\nsteps:\n- stepKey: a\n  agent: X", `w:3: steps[0].agent: unknown agent "X"`},
		"agent twice":   {"name: a\nsteps:\n- {stepKey: a, agent: X, agentId: y}", "w:3: steps[0].agent: stands beside agentId"},
		"no key":        {"name: a\nsteps:\n- {stepType: AGENT}", "w:3: steps[0].stepKey: is missing"},
		"deep":          {"name: a\noutputs: " + strings.Repeat("[", 200) + strings.Repeat("]", 200) + step, "nests too deep"},
		"bomb": {"name: a\ninputSchema: {a: &a [x,x,x,x,x,x,x,x,x,x], b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a], c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]," +
			" d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c], e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d], f: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]}" + step, "repeats itself"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("w", []byte(c.file))
			var faults yamldoc.Faults
			if !errors.As(err, &faults) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	_, err := Parse("w", []byte("naem: x\nsteps:\n- {stepKey: a, agnet: b}"))
	if err == nil || strings.Count(err.Error(), "\n") != 3 || !strings.HasPrefix(err.Error(), "3 faults\n") {
		t.Errorf("not all faults at once: %v", err)
	}
}

func TestLocate(t *testing.T) {
	f, err := Parse("w", []byte("name: a\nagents:\n  The one:\n    type: DATA\n    config:\n      pipeline:\n        - {operation: x}\nsteps:\n  - stepKey: a\n    dependsOn: [b]\n"))
	if err != nil {
		t.Fatal(err)
	}
	got := f.Locate(AgentPath("The one"), []errs.Detail{{Field: "config.pipeline[0].operation", Message: "m"}, {Field: "config.other", Message: "m"}}).Error()
	if want := "2 faults\n  w:7: agents[\"The one\"].config.pipeline[0].operation: m\n  w:5: agents[\"The one\"].config.other: m"; got != want {
		t.Errorf("got %s", got)
	}
	if got := f.Locate("", []errs.Detail{{Field: "steps[0].dependsOn[0]", Message: "m"}}).Error(); got != "w:10: steps[0].dependsOn[0]: m" {
		t.Errorf("got %s", got)
	}
}

func FuzzParse(f *testing.F) {
	if raw, err := os.ReadFile("../../../examples/timezones/workflow.yaml"); err == nil {
		f.Add(raw)
	}
	f.Add([]byte("name: a\nagents: {X: &x {type: CODE, config: {a: [1, 0x2, .5, ~, true]}}, Y: *x}\nsteps: [{stepKey: a, agent: X}]"))
	f.Add([]byte(`{"name":"a","steps":[{"stepKey":"a","inputs":{"b":"\ud83d\ude00"}}]}`))
	f.Add([]byte("a: &a\n  b: *a"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := Parse("w", raw)
		if err != nil {
			if err.Error() == "" {
				t.Error("a fault without words")
			}
			return
		}
		if _, err := json.Marshal(file.Workflow); err != nil {
			t.Errorf("not JSON: %v", err)
		}
		if _, err := json.Marshal(file.Agents); err != nil {
			t.Errorf("not JSON: %v", err)
		}
	})
}
