package template

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/services/catalog/internal/agent"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newSchemas() (agent.Schemas, error) { return agent.LoadSchemas() }

func newBuilder(t *testing.T) builder {
	t.Helper()
	schemas, err := agent.LoadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	return builder{schemas}
}

// TestOfficial builds what every official template is of.
func TestOfficial(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	all, err := official()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Web Scraper", "Data Transformer", "API Integration", "LLM Assistant", "Email Automation", "Data Pipeline"}
	ids := map[string]bool{}
	var names []string
	for _, o := range all {
		names = append(names, o.Name)
		ids[o.ID] = true
		if o.Category == "" || o.Description == "" || o.Version < 1 || len(o.Tags) == 0 {
			t.Errorf("%s is not all said: %+v", o.Name, o)
		}
		made, err := b.build(o, wishesOf(o), "content")
		if err != nil {
			t.Errorf("%s: %v %+v", o.Name, err, errs.From(err).Details)
		}
		if (made.Agent != nil) != (o.Type == catalog.TemplateAgent) || (made.Workflow != nil) != (o.Type == catalog.TemplateWorkflow) {
			t.Errorf("%s makes %+v", o.Name, made)
		}
	}
	if !slices.Equal(names, want) || len(ids) != len(want) {
		t.Errorf("there are %v with %d ids", names, len(ids))
	}
}

func TestBuildStep(t *testing.T) {
	t.Parallel()
	made, err := newBuilder(t).build(catalog.Template{
		Type: catalog.TemplateStep, Tags: []string{},
		Content: json.RawMessage(`{"agents":{"A":{"type":"DATA","config":{"operation":"unique"}},"B":{"type":"DATA","config":{"operation":"unique"}}},
			"step":{"stepKey":"p","stepType":"PARALLEL","config":{"branches":[{"key":"x","agent":"A"},{"key":"y","agent":"B","inputs":{"a":1}}],"join":"any"},"compensate":{"agent":"A","inputs":{}}}}`),
	}, wishes{name: "s", status: catalog.StatusActive, tags: []string{}}, "content")
	if err != nil {
		t.Fatal(err)
	}
	text := string(made.Step.Config)
	if len(made.Agents) != 2 || made.Agents[0].Name != "A" || made.Agents[1].Status != catalog.StatusActive ||
		!strings.Contains(text, made.Agents[0].ID) || !strings.Contains(text, made.Agents[1].ID) || strings.Contains(text, `"agent"`) ||
		made.Step.Compensate == nil || made.Step.Compensate.AgentID != made.Agents[0].ID {
		t.Errorf("made %+v of %s", made.Step, text)
	}
}

// TestFaults wants every fault of a template at its place in it.
func TestFaults(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	for _, c := range []struct {
		kind, content string
		want          string
	}{
		{catalog.TemplateAgent, `{"type":"API","config":{"url":"ftp://x"},"x":1}`, "content.config.url content.x"},
		{catalog.TemplateAgent, `{}`, "content.config content.type"},
		{catalog.TemplateWorkflow, `{}`, "content.steps"},
		{
			catalog.TemplateWorkflow, `{"agents":{"A":{"type":"DATA","config":{"operation":"nothing"}},"a b":{"type":"X","config":{}}},
			"steps":[{"stepKey":"a","stepType":"AGENT","agent":"Z"},{"stepKey":"b","stepType":"AGENT","agentId":"01930000-0000-7000-8000-00000000000a","dependsOn":["q"]}],"outputs":"{{nobody.output}}"}`,
			`content.agents.A.config.operation content.agents["a b"].type content.outputs content.steps[0].agent content.steps[1].agentId content.steps[1].dependsOn[0]`,
		},
		{catalog.TemplateStep, `{"step":{"stepKey":"1","stepType":"AGENT"}}`, "content.step.agentId content.step.stepKey"},
		{catalog.TemplateStep, `{}`, "content.step"},
	} {
		_, err := b.build(catalog.Template{Type: c.kind, Content: json.RawMessage(c.content)}, wishes{name: "n", status: catalog.StatusDraft, tags: []string{}}, "content")
		var e *errs.Error
		if !errors.As(err, &e) || e.Code != errs.Validation {
			t.Errorf("%s: %v", c.content, err)
			continue
		}
		at := map[string]bool{}
		for _, d := range e.Details {
			at[d.Field] = true
		}
		if got := strings.Join(slices.Sorted(maps.Keys(at)), " "); got != c.want {
			t.Errorf("%s\nis at fault in %s\nand not in    %s\n%+v", c.content, got, c.want, e.Details)
		}
	}
}

func TestWishes(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	template := catalog.Template{Type: catalog.TemplateAgent, Name: "t", Tags: []string{"x"}, Content: json.RawMessage(`{"type":"API","config":{"url":"https://a.io","method":"GET"}}`)}
	for _, body := range []string{
		`{"name":"mine","tags":["y"],"isPublic":true,"status":"ACTIVE","config":{"method":"POST"}}`,
		`{"customizations":{"name":"mine","tags":["y"],"isPublic":true,"status":"ACTIVE","config":{"method":"POST"}}}`,
		`{"name":"mine","customizations":{"tags":["y"],"isPublic":true,"status":"ACTIVE","config":{"method":"POST"}}}`,
	} {
		w, err := readWishes(template, json.RawMessage(body))
		if err != nil {
			t.Fatal(err)
		}
		made, err := b.build(template, w, "content")
		if err != nil {
			t.Fatal(err)
		}
		if a := made.Agent; a.Name != "mine" || !slices.Equal(a.Tags, []string{"y"}) || !a.IsPublic || a.Status != catalog.StatusActive || string(a.Config) != `{"method":"POST","url":"https://a.io"}` {
			t.Errorf("%s makes %+v", body, a)
		}
	}
	template.Type = catalog.TemplateWorkflow
	if _, err := readWishes(template, json.RawMessage(`{"config":{},"customizations":{"x":1}}`)); errs.CodeOf(err) != errs.Validation || len(errs.From(err).Details) != 2 {
		t.Errorf("%+v", err)
	}
}
