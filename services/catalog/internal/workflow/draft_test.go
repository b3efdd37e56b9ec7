package workflow_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/services/catalog/internal/workflow"
)

const (
	agentA  = "0193b7f0-0000-7000-8000-00000000000a"
	unknown = "0193b7f0-0000-7000-8000-00000000ffff"
)

func known(id string) bool { return id == agentA }

// details gives those of a VALIDATION_ERROR, none for nil.
func details(t testing.TB, err error) []errs.Detail {
	t.Helper()
	if err == nil {
		return nil
	}
	var e *errs.Error
	if !errors.As(err, &e) || e.Code != errs.Validation {
		t.Fatalf("not a VALIDATION_ERROR: %v", err)
	}
	return e.Details
}

func faults(t testing.TB, err error) string {
	t.Helper()
	var lines []string
	for _, d := range details(t, err) {
		if d.Message == "" {
			t.Errorf("no message for %s", d.Field)
		}
		lines = append(lines, d.Field+" "+string(d.Code))
	}
	return strings.Join(lines, "\n")
}

// step writes an AGENT step with more fields.
func step(key, more string) string {
	if more != "" {
		more = "," + more
	}
	return fmt.Sprintf(`{"stepKey":%q,"stepType":"AGENT","agentId":%q%s}`, key, agentA, more)
}

func body(steps ...string) string { return `{"name":"w","steps":[` + strings.Join(steps, ",") + `]}` }

func TestNewDefaults(t *testing.T) {
	w, err := workflow.New([]byte(`{"name":"etl","steps":[{"stepKey":"a","stepType":"AGENT","agentId":"` + strings.ToUpper(agentA) + `"},` +
		step("b", `"dependsOn":["a"],"inputs":{ "values":["{{a.output.sum}}"],"add":1 }`) + `]}`)).Finish(known)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(w)
	want := `{"id":"","userId":"","name":"etl","description":"","status":"DRAFT","version":1,"inputSchema":null,"outputs":null,"timeoutMs":3600000,` +
		`"concurrency":null,"priority":5,"strictTemplates":false,"tags":[],"isPublic":false,"createdAt":"0001-01-01T00:00:00Z","updatedAt":"0001-01-01T00:00:00Z","steps":[` +
		`{"stepKey":"a","stepType":"AGENT","agentId":"` + agentA + `","dependsOn":[],"inputs":{},"config":{},"onError":"FAIL","retryCount":3,"retryDelayMs":1000,"timeoutMs":300000,"triggerRule":"none_failed","position":0},` +
		`{"stepKey":"b","stepType":"AGENT","agentId":"` + agentA + `","dependsOn":["a"],"inputs":{"values":["{{a.output.sum}}"],"add":1},"config":{},"onError":"FAIL","retryCount":3,"retryDelayMs":1000,"timeoutMs":300000,"triggerRule":"none_failed","position":1}]}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if string(w.Steps[1].Inputs) != `{ "values":["{{a.output.sum}}"],"add":1 }` {
		t.Errorf("the inputs are not as written: %s", w.Steps[1].Inputs)
	}
}

func TestMessageOfTheExample(t *testing.T) {
	_, err := workflow.New([]byte(body(step("a", ""), step("b", `"dependsOn":["q"],"retryCount":21`)))).Finish(known)
	var e *errs.Error
	if !errors.As(err, &e) || e.Message != "2 problems in the workflow" {
		t.Fatalf("got %v", err)
	}
	want := errs.Detail{Field: "steps[1].dependsOn[0]", Message: `unknown step "q"; add it or remove it`, Code: "unknown_step"}
	if e.Details[1] != want {
		t.Errorf("got %+v, want %+v", e.Details, want)
	}
}

// limited is a workflow with a concurrency limit.
func limited(concurrency string) string {
	return `{"name":"w","steps":[` + step("a", "") + `],"concurrency":` + concurrency + `}`
}

func TestConcurrency(t *testing.T) {
	finish := func(d *workflow.Draft) catalog.Workflow {
		t.Helper()
		w, err := d.Finish(func(string) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := finish(workflow.New(json.RawMessage(limited(`{"max":3}`))))
	if want := (catalog.Concurrency{Max: 3, OnLimit: catalog.OnLimitQueue}); w.Concurrency == nil || *w.Concurrency != want {
		t.Fatalf("it is %+v", w.Concurrency)
	}
	for _, c := range []struct {
		patch   string
		want    *catalog.Concurrency
		version int
	}{
		{`{"name":"other"}`, &catalog.Concurrency{Max: 3, OnLimit: catalog.OnLimitQueue}, 1},
		{`{"concurrency":{"max":3,"onLimit":"QUEUE"}}`, &catalog.Concurrency{Max: 3, OnLimit: catalog.OnLimitQueue}, 1},
		{`{"concurrency":{"max":3,"key":"{{inputs.k}}","onLimit":"DROP"}}`, &catalog.Concurrency{Max: 3, Key: "{{inputs.k}}", OnLimit: catalog.OnLimitDrop}, 2},
		{`{"concurrency":{"max":2}}`, &catalog.Concurrency{Max: 2, OnLimit: catalog.OnLimitQueue}, 3},
		{`{"concurrency":null}`, nil, 4},
	} {
		w = finish(workflow.Patch(w, json.RawMessage(c.patch)))
		if w.Version != c.version || (w.Concurrency == nil) != (c.want == nil) || c.want != nil && *w.Concurrency != *c.want {
			t.Errorf("%s gives version %d with %+v", c.patch, w.Version, w.Concurrency)
		}
	}
}

func TestNew(t *testing.T) {
	thousand := make([]string, 1001)
	for i := range thousand {
		thousand[i] = step(fmt.Sprintf("s%d", i), "")
	}
	for _, c := range []struct{ name, body, want string }{
		{"not JSON", `{`, " bad_json"},
		{"not an object", `"x"`, " bad_type"},
		{"empty", `{}`, "name required\nsteps required"},
		{"no steps yet", `{"name":"w","steps":[]}`, ""},
		{
			"wrong types", `{"name":1,"steps":{},"timeoutMs":"1","priority":[],"strictTemplates":1,"isPublic":0,"inputSchema":7,"concurrency":7}`,
			"name bad_type\ninputSchema bad_type\ntimeoutMs bad_type\nconcurrency bad_type\npriority bad_type\nstrictTemplates bad_type\nisPublic bad_type\nsteps bad_type",
		},
		{
			"ranges", `{"name":"w","steps":[` + step("a", `"retryCount":21,"retryDelayMs":-1,"timeoutMs":0,"position":1.5`) + `],"timeoutMs":604800001,"priority":10}`,
			"timeoutMs out_of_range\npriority out_of_range\nsteps[0].retryDelayMs out_of_range\nsteps[0].timeoutMs out_of_range\nsteps[0].retryCount out_of_range\nsteps[0].position out_of_range",
		},
		{"concurrency", limited(`{"max":10000,"key":"{{inputs.a.b}}/{{inputs.c}}","onLimit":"CANCEL_OLDEST"}`), ""},
		{"concurrency by default", limited(`{"max":1,"key":null,"onLimit":null}`), ""},
		{"concurrency of nothing", limited(`{"key":"` + strings.Repeat("k", 1001) + `","onLimit":"WAIT","more":1}`), "concurrency.more unknown_field\nconcurrency.max required\nconcurrency.key out_of_range\nconcurrency.onLimit bad_enum"},
		{"concurrency too low", limited(`{"max":0,"key":"{{a.output}}{{inputs.x}}{{metadata.executionId}}{{secrets.k}}"}`), "concurrency.max out_of_range\nconcurrency.key bad_template\nconcurrency.key bad_template\nconcurrency.key bad_template"},
		{"concurrency too high", limited(`{"max":10001,"key":"{{inputs.}}"}`), "concurrency.max out_of_range\nconcurrency.key bad_template"},
		{"highest", `{"name":"w","steps":[` + step("a", `"retryCount":20,"retryDelayMs":3600000,"timeoutMs":86400000`) + `],"timeoutMs":604800000,"priority":9}`, ""},
		{"too many steps", body(thousand...), "steps out_of_range"},
		{"enough steps", body(thousand[:1000]...), ""},
		{"unknown fields", `{"name":"w","steps":[` + step("a", `"agentID":"x","_delete":true`) + `],"step":[]}`, "step unknown_field\nsteps[0]._delete unknown_field\nsteps[0].agentID unknown_field"},
		{"step no object", `{"name":"w","steps":[1,null]}`, "steps[0] bad_type\nsteps[1] bad_type"},
		{"step empty", body(`{}`), "steps[0].stepKey required\nsteps[0].stepType required"},
		{
			"bad enums", body(step("a", `"onError":"STOP","triggerRule":"x"`), `{"stepKey":"b","stepType":"TASK"}`),
			"steps[0].onError bad_enum\nsteps[0].triggerRule bad_enum\nsteps[1].stepType bad_enum",
		},
		{
			"keys", body(step("1a", ""), step("a-b", ""), step("inputs", ""), step("contains", ""), step(strings.Repeat("k", 65), ""), step("_ok9", "")),
			"steps[0].stepKey bad_key\nsteps[1].stepKey bad_key\nsteps[2].stepKey reserved_key\nsteps[3].stepKey reserved_key\nsteps[4].stepKey out_of_range",
		},
		{"duplicate keys", body(step("a", ""), step("b", ""), step("a", "")), "steps[2].stepKey duplicate_key"},
		{
			"agents", body(`{"stepKey":"a","stepType":"AGENT"}`, `{"stepKey":"b","stepType":"AGENT","agentId":"x"}`, `{"stepKey":"c","stepType":"AGENT","agentId":"`+unknown+`"}`, `{"stepKey":"d","stepType":"AGENT","agentId":7}`),
			"steps[0].agentId required\nsteps[1].agentId bad_value\nsteps[3].agentId bad_type\nsteps[2].agentId unknown_agent",
		},
		{
			"unknown and self", body(step("a", `"dependsOn":["a","q",1]`), step("b", `"dependsOn":["a","a"]`)),
			"steps[0].dependsOn[2] bad_type\nsteps[0].dependsOn[0] self_dependency\nsteps[0].dependsOn[1] unknown_step\nsteps[1].dependsOn[1] duplicate_key",
		},
		{"inputs no object", body(step("a", `"inputs":[1],"config":"x","dependsOn":"b"`)), "steps[0].dependsOn bad_type\nsteps[0].inputs bad_type\nsteps[0].config bad_type"},

		{"cycle of two", body(step("a", `"dependsOn":["b"]`), step("b", `"dependsOn":["a"]`)), "steps[1].dependsOn[0] cycle"},
		{
			"two cycles", body(step("a", `"dependsOn":["b"]`), step("b", `"dependsOn":["a"]`), step("c", `"dependsOn":["d","a"]`), step("d", `"dependsOn":["c"]`)),
			"steps[1].dependsOn[0] cycle\nsteps[3].dependsOn[0] cycle",
		},
		{"diamond", body(step("a", ""), step("b", `"dependsOn":["a"]`), step("c", `"dependsOn":["a"]`), step("d", `"dependsOn":["b","c"],"inputs":{"x":"{{a.output}}{{b.error.message}}"}`)), ""},

		{
			"template faults", body(step("a", `"inputs":{"x":["{{","{{b.output}}","{{secrets[1]}}","{{item}}","{{a.output}}","{{q.output}}"]}`), step("b", `"dependsOn":["a"],"inputs":{"y":"{{a}} {{a.result}} {{inputs.x}} {{metadata.executionId}}"}`)),
			"steps[0].inputs.x[0] bad_template\nsteps[0].inputs.x[1] not_an_ancestor\nsteps[0].inputs.x[2] bad_template\nsteps[0].inputs.x[3] bad_template\nsteps[0].inputs.x[4] not_an_ancestor\nsteps[0].inputs.x[5] unknown_step\n" +
				"steps[1].inputs.y bad_template\nsteps[1].inputs.y bad_template",
		},
		{"sibling is no ancestor", body(step("a", ""), step("b", ""), step("c", `"dependsOn":["a"],"inputs":{"x":"{{b.output}}"}`)), "steps[2].inputs.x not_an_ancestor"},
		{
			"outputs", `{"name":"w","steps":[` + step("a", "") + `],"outputs":{"r":"{{a.output.x}}","i":"{{inputs.n}}","q":"{{q.output}}","s":"{{secrets.S}}","b":"{{a"}}`,
			"outputs.b bad_template\noutputs.q unknown_step\noutputs.s bad_template",
		},
		{"bad inputSchema", `{"name":"w","steps":[],"inputSchema":{"type":"x"}}`, "inputSchema.type bad_enum"},
		{"no cascade from a bad key", body(step("1a", ""), step("b", `"dependsOn":["1a"],"inputs":{"x":"{{inputs.y}}"}`)), "steps[0].stepKey bad_key"},
		{
			"all at once", body(step("a", `"dependsOn":["b"],"onError":"x"`), step("b", `"dependsOn":["a","zz"]`), `{"stepKey":"c","stepType":"AGENT","agentId":"`+unknown+`"}`),
			"steps[0].onError bad_enum\nsteps[1].dependsOn[1] unknown_step\nsteps[1].dependsOn[0] cycle\nsteps[2].agentId unknown_agent",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := workflow.New([]byte(c.body)).Finish(known)
			if got := faults(t, err); got != c.want {
				t.Errorf("faults\n got %q\nwant %q\n%+v", got, c.want, details(t, err))
			}
		})
	}
}

func TestCycleIsNamed(t *testing.T) {
	for _, c := range []struct{ steps, want string }{
		{body(step("a", `"dependsOn":["b"]`), step("b", `"dependsOn":["a"]`)), "a -> b -> a"},
		{body(step("x", ""), step("a", `"dependsOn":["c","x"]`), step("b", `"dependsOn":["a"]`), step("c", `"dependsOn":["b"]`)), "a -> b -> c -> a"},
	} {
		_, err := workflow.New([]byte(c.steps)).Finish(known)
		d := details(t, err)
		if len(d) != 1 || !strings.Contains(d[0].Message, " "+c.want+";") {
			t.Errorf("got %+v, want %s", d, c.want)
		}
	}
}

func TestAncestorsInACycleAreNoFaults(t *testing.T) {
	_, err := workflow.New([]byte(body(
		step("a", `"dependsOn":["c"],"inputs":{"x":"{{b.output}}"}`), step("b", `"dependsOn":["a"],"inputs":{"x":"{{c.output}}"}`),
		step("c", `"dependsOn":["b"]`), step("d", `"dependsOn":["c"],"inputs":{"x":"{{a.output}}"}`)))).Finish(known)
	if got := faults(t, err); got != "steps[1].dependsOn[0] cycle" {
		t.Errorf("got %q", got)
	}
}

func TestPositionsOrderTheSteps(t *testing.T) {
	w, err := workflow.New([]byte(body(step("a", `"position":7`), step("b", ""), step("c", `"position":1`)))).Finish(known)
	if err != nil {
		t.Fatal(err)
	}
	if got := keys(w); got != "b1 c1 a7" {
		t.Errorf("got %s", got)
	}
}

func keys(w catalog.Workflow) string {
	var out []string
	for _, s := range w.Steps {
		out = append(out, fmt.Sprint(s.StepKey, s.Position))
	}
	return strings.Join(out, " ")
}

func TestPatch(t *testing.T) {
	base, err := workflow.New([]byte(`{"name":"w","description":"d","outputs":{"r":"{{c.output}}"},"timeoutMs":5,"steps":[` +
		step("a", `"inputs":{"n":1}`) + "," + step("b", `"dependsOn":["a"],"retryCount":7`) + "," + step("c", `"dependsOn":["b"]`) + `]}`)).Finish(known)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := json.Marshal(base)
	for _, c := range []struct {
		name, body, want string // faults
		version          int
		keys             string
	}{
		{"nothing", `{}`, "", 1, "a0 b1 c2"},
		{"read-only is ignored", `{"id":"x","version":9}`, "", 1, "a0 b1 c2"},
		{"name and status are no definition", `{"name":"v","status":"ACTIVE","description":null,"tags":["x"],"isPublic":true}`, "", 1, "a0 b1 c2"},
		{"timeout is", `{"timeoutMs":null}`, "", 2, "a0 b1 c2"},
		{"same step", `{"steps":[{"stepKey":"b","retryCount":7}]}`, "", 1, "a0 b1 c2"},
		{"one field of a step", `{"steps":[{"stepKey":"b","retryCount":null}]}`, "", 2, "a0 b1 c2"},
		{"a new step", `{"steps":[` + step("d", `"dependsOn":["c"]`) + `]}`, "", 2, "a0 b1 c2 d3"},
		{"a new step in front", `{"steps":[` + step("d", `"position":0`) + `]}`, "", 2, "a0 d0 b1 c2"},
		{"delete in the middle", `{"steps":[{"stepKey":"b","_delete":true},{"stepKey":"c","dependsOn":["a"]}]}`, "", 2, "a0 c2"},
		{"delete what others need", `{"steps":[{"stepKey":"c","_delete":true},{"stepKey":"a","_delete":true}]}`, "steps[\"b\"].dependsOn[0] unknown_step\noutputs.r unknown_step", 0, ""},
		{"delete what is not there", `{"steps":[{"stepKey":"z","_delete":true}]}`, "steps[0].stepKey unknown_step", 0, ""},
		{"a new step needs a type", `{"steps":[{"stepKey":"z"}]}`, "steps[0].stepType required", 0, ""},
		{"a step needs a key", `{"steps":[{"retryCount":1}]}`, "steps[0].stepKey required\nsteps[0].stepType required", 0, ""},
		{"twice the same", `{"steps":[{"stepKey":"b"},{"stepKey":"b"}]}`, "steps[1].stepKey duplicate_key", 0, ""},
		{"cycle by patch", `{"steps":[{"stepKey":"a","dependsOn":["c"]}]}`, "steps[\"b\"].dependsOn[0] cycle", 0, ""},
		{"the agent can not be cleared", `{"steps":[{"stepKey":"a","agentId":null}]}`, "steps[0].agentId required", 0, ""},
		{"clear all steps and outputs", `{"steps":null,"outputs":null}`, "", 2, ""},
		{"unknown field", `{"steps":[{"stepKey":"a","retries":1}],"nme":1}`, "nme unknown_field\nsteps[0].retries unknown_field", 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			next, err := workflow.Patch(base, []byte(c.body)).Finish(known)
			if got := faults(t, err); got != c.want {
				t.Fatalf("faults %q, want %q", got, c.want)
			}
			if c.want == "" && (next.Version != c.version || keys(next) != c.keys) {
				t.Errorf("version %d, steps %q; want %d, %q", next.Version, keys(next), c.version, c.keys)
			}
			if after, _ := json.Marshal(base); string(after) != string(before) {
				t.Fatalf("the base changed:\n%s\n%s", before, after)
			}
		})
	}
}

func FuzzNew(f *testing.F) {
	f.Add([]byte(body(step("a", ""), step("b", `"dependsOn":["a"],"inputs":{"x":"{{a.output[0]}}"}`))))
	f.Add([]byte(body(step("a", `"dependsOn":["b"]`), step("b", `"dependsOn":["a"]`))))
	f.Add([]byte(body(of("CONDITION", "c", `{"expression":"inputs.n > 1","then":["l"],"else":["p"]}`, ""),
		of("LOOP", "l", `{"forEach":"{{inputs.list}}","concurrency":2}`, `"agentId":"`+agentA+`","dependsOn":["c"],"inputs":{"x":"{{item}}"}`),
		of("PARALLEL", "p", `{"branches":[{"key":"a","agentId":"`+agentA+`"}],"join":1}`, `"dependsOn":["c"]`), of("WAIT", "w", `{"approval":true,"timeoutMs":5,"default":null}`, ""))))
	f.Add([]byte(`{"name":"w","steps":[{"stepKey":"a","_delete":true,"position":-1}],"outputs":"{{a.output}}"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		w, err := workflow.New(raw).Finish(known)
		if faults(t, err) != "" {
			return
		}
		for _, s := range w.Steps {
			if err := decodes(s); err != nil {
				t.Fatalf("accepted, and those who run it can not read it: %s: %v", s.Config, err)
			}
		}
		// What was accepted is accepted again as a patch of itself, and changes nothing.
		again, err := workflow.Patch(w, raw).Finish(known)
		if err != nil || again.Version != 1 {
			t.Fatalf("patched with itself: version %d, %v", again.Version, err)
		}
	})
}

// decodes tells whether a config is what package catalog declares for its type.
func decodes(s catalog.Step) error {
	into := map[string]any{
		catalog.StepCondition: new(catalog.ConditionConfig), catalog.StepLoop: new(catalog.LoopConfig),
		catalog.StepParallel: new(catalog.ParallelConfig), catalog.StepWait: new(catalog.WaitConfig),
	}[s.StepType]
	if into == nil {
		return nil
	}
	return json.Unmarshal(s.Config, into)
}
