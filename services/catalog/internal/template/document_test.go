package template

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/services/catalog/internal/workflow"
)

// TestRoundTrip exports what was imported, and imports that again: as YAML and as JSON it is the same document.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	for _, name := range []string{"order", "review", "timezones"} {
		raw := example(t, name)
		first := exported(t, b, name, raw)
		text, err := toYAML(first)
		if err != nil {
			t.Fatal(err)
		}
		for kind, again := range map[string][]byte{"YAML": []byte(text), "JSON": first} {
			if second := exported(t, b, name, again); string(second) != string(first) {
				t.Errorf("%s over %s is\n%s\nand was\n%s", name, kind, second, first)
			}
		}
		if strings.Contains(text, "agentId:") {
			t.Errorf("%s is written as\n%s", name, text)
		}
	}
}

func example(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile("../../../../examples/" + name + "/workflow.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func exported(t *testing.T, b builder, name string, raw []byte) json.RawMessage {
	t.Helper()
	made, err := b.read(raw)
	if err != nil {
		t.Fatalf("%s: %v %+v\n%s", name, err, errs.From(err).Details, raw)
	}
	agents := map[string]catalog.Agent{}
	for _, a := range made.Agents {
		agents[a.ID] = a
	}
	out, err := marshal(portable(*made.Workflow, workflow.AgentIDs(made.Workflow.Steps), agents))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestDocumentFaults(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	for raw, want := range map[string]string{
		"":            "empty",
		"a: b: c":     "does not parse",
		"name: x\n":   "steps is required",
		"[]":          "is an array",
		"steps: []\n": "name is required",
		"name: x\nsteps:\n  - {stepKey: a, stepType: AGENT, agent: Nobody}\n":         "(line 3)",
		"name: x\nagents:\n  A: {type: DATA, config: {operation: none}}\nsteps: []\n": "agents.A.config.operation",
		"name: x\nsteps: []\nunknown: 1\n":                                            "unknown",
		"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n": "aliases",
	} {
		_, err := b.read([]byte(raw))
		var e *errs.Error
		if !errors.As(err, &e) || e.Code != errs.Validation {
			t.Errorf("%q: %v", raw, err)
			continue
		}
		var told []string
		for _, d := range e.Details {
			told = append(told, d.Field+" "+d.Message)
		}
		if !strings.Contains(strings.Join(told, "; "), want) {
			t.Errorf("%q is told as %q, without %q", raw, told, want)
		}
	}
}

func FuzzDocument(f *testing.F) {
	schemas, err := newSchemas()
	if err != nil {
		f.Fatal(err)
	}
	b := builder{schemas}
	f.Add(example(f, "order"))
	f.Add(example(f, "review"))
	f.Add([]byte(`{"name":"x","steps":[]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		made, err := b.read(raw)
		if err != nil && errs.CodeOf(err) != errs.Validation {
			t.Fatalf("%v", err)
		}
		if err == nil && made.Workflow == nil {
			t.Fatal("there is no workflow")
		}
	})
}
