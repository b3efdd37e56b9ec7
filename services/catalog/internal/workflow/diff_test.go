package workflow_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/services/catalog/internal/workflow"
)

// TestDiffMakesTheOtherVersion draws pairs of versions and wants the diff to make the one of the other, both ways, and to be empty between what is the same.
func TestDiffMakesTheOtherVersion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from, to := version(t, 1), version(t, 2)
		if rapid.Bool().Draw(t, "near") { // what differs in few places
			to.Steps, to.InputSchema, to.Outputs = slices.Clone(from.Steps), from.InputSchema, from.Outputs
			if len(to.Steps) > 0 {
				i := rapid.IntRange(0, len(to.Steps)-1).Draw(t, "changed")
				to.Steps[i].Config = value(t, "config")
			}
		}
		for _, pair := range [][2]catalog.WorkflowSnapshot{{from, to}, {to, from}, {from, from}} {
			d, err := workflow.Diff(pair[0], pair[1])
			if err != nil {
				t.Fatal(err)
			}
			if got, want := tree(t, apply(t, pair[0], d)), tree(t, pair[1]); !reflect.DeepEqual(got, want) {
				t.Fatalf("the diff %s\nmakes %v\nof    %v\nwant  %v", raw(t, d), got, tree(t, pair[0]), want)
			}
			if same := reflect.DeepEqual(pair[0], pair[1]); same != (len(d.Changes)+len(d.Steps.Added)+len(d.Steps.Removed)+len(d.Steps.Changed) == 0 && d.Steps.Order == nil) && same {
				t.Fatalf("nothing differs, and the diff is %s", raw(t, d))
			}
		}
	})
}

func TestDiffNamesWhatChanges(t *testing.T) {
	step := func(key string, position int, config string) catalog.Step {
		return catalog.Step{StepKey: key, StepType: "WAIT", DependsOn: []string{}, Inputs: json.RawMessage("{}"), Config: json.RawMessage(config), Position: position}
	}
	from := catalog.WorkflowSnapshot{
		WorkflowID: "w", Version: 1, InputSchema: json.RawMessage("null"), Outputs: json.RawMessage(`{"a/b":{"~":[1,2]}}`), TimeoutMs: 1,
		Steps: []catalog.Step{step("a", 0, `{ "signal":"s", "timeoutMs":5 }`), step("b", 1, `{"durationMs":1}`)},
	}
	to := catalog.WorkflowSnapshot{
		WorkflowID: "w", Version: 3, InputSchema: json.RawMessage(`{}`), Outputs: json.RawMessage(`{"a/b":{"~":[1,3]}}`), TimeoutMs: 1,
		Steps: []catalog.Step{step("c", 0, `{}`), step("a", 1, `{"timeoutMs":5,"signal":"t"}`)},
	}
	d, err := workflow.Diff(from, to)
	if err != nil {
		t.Fatal(err)
	}
	if d.WorkflowID != "w" || d.From != 1 || d.To != 3 || len(d.Steps.Added) != 1 || d.Steps.Added[0].StepKey != "c" || len(d.Steps.Removed) != 1 || d.Steps.Removed[0].StepKey != "b" {
		t.Errorf("got %+v", d)
	}
	for want, got := range map[string]any{
		`[{"path":"/inputSchema","before":null,"after":{}},{"path":"/outputs/a~1b/~0/1","before":2,"after":3}]`:                      d.Changes,
		`[{"stepKey":"a","changes":[{"path":"/config/signal","before":"s","after":"t"},{"path":"/position","before":0,"after":1}]}]`: d.Steps.Changed,
		`["c","a"]`: d.Steps.Order,
	} {
		if string(raw(t, got)) != want {
			t.Errorf("\n got %s\nwant %s", raw(t, got), want)
		}
	}
}

// version draws a version with a few steps of few keys, so that two of them share some.
func version(t *rapid.T, number int) catalog.WorkflowSnapshot {
	v := catalog.WorkflowSnapshot{
		WorkflowID: "w", Version: number, InputSchema: value(t, "inputSchema"), Outputs: value(t, "outputs"),
		TimeoutMs: rapid.Int64Range(1, 3).Draw(t, "timeoutMs"), Priority: rapid.IntRange(0, 1).Draw(t, "priority"), StrictTemplates: rapid.Bool().Draw(t, "strict"),
		Steps: []catalog.Step{},
	}
	if rapid.Bool().Draw(t, "limited") {
		v.Concurrency = &catalog.Concurrency{Max: rapid.IntRange(1, 2).Draw(t, "max"), OnLimit: "QUEUE"}
	}
	for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 4, rapid.ID[string]).Draw(t, "keys") {
		s := catalog.Step{
			StepKey: key, StepType: "AGENT", DependsOn: rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b"}), 0, 2).Draw(t, "dependsOn"),
			Inputs: value(t, "inputs"), Config: value(t, "config"), Position: rapid.IntRange(0, 2).Draw(t, "position"),
		}
		if rapid.Bool().Draw(t, "undone") {
			s.Compensate = &catalog.Compensate{AgentID: "x", Inputs: value(t, "undo")}
		}
		v.Steps = append(v.Steps, s)
	}
	return v
}

// value draws any JSON, with keys that a pointer has to escape.
func value(t *rapid.T, label string) json.RawMessage {
	var value func(depth int) string
	value = func(depth int) string {
		kinds := 6
		if depth > 2 {
			kinds = 4
		}
		switch rapid.IntRange(0, kinds-1).Draw(t, label) {
		case 0:
			return "null"
		case 1:
			return strconv.Itoa(rapid.IntRange(0, 3).Draw(t, "n"))
		case 2:
			return rapid.SampledFrom([]string{`""`, `"x"`, `"1"`, "1.0", "1e400", "true"}).Draw(t, "scalar")
		case 3:
			return rapid.SampledFrom([]string{"{}", "[]"}).Draw(t, "empty")
		case 4:
			items := make([]string, rapid.IntRange(0, 3).Draw(t, "items"))
			for i := range items {
				items[i] = value(depth + 1)
			}
			return "[" + strings.Join(items, ",") + "]"
		default:
			var fields []string
			for _, k := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "", "/", "~", "~1", "a b", "0", "é"}), 0, 3, rapid.ID[string]).Draw(t, "names") {
				fields = append(fields, strconv.Quote(k)+":"+value(depth+1))
			}
			return "{" + strings.Join(fields, ",") + "}"
		}
	}
	return json.RawMessage(value(0))
}

// apply makes the version that a diff leads to.
func apply(t *rapid.T, from catalog.WorkflowSnapshot, d catalog.WorkflowDiff) catalog.WorkflowSnapshot {
	steps := map[string]catalog.Step{}
	var order []string
	for _, s := range from.Steps {
		steps[s.StepKey] = s
		order = append(order, s.StepKey)
	}
	for _, s := range d.Steps.Removed {
		delete(steps, s.StepKey)
	}
	for _, s := range d.Steps.Added {
		steps[s.StepKey] = s
	}
	for _, c := range d.Steps.Changed {
		steps[c.StepKey] = patched[catalog.Step](t, steps[c.StepKey], c.Changes)
	}
	if d.Steps.Order != nil {
		order = d.Steps.Order
	}
	from.Steps = nil
	to := patched[catalog.WorkflowSnapshot](t, from, d.Changes)
	to.Version, to.Steps = d.To, []catalog.Step{}
	for _, key := range order {
		to.Steps = append(to.Steps, steps[key])
	}
	return to
}

func patched[T any](t *rapid.T, v T, changes []catalog.Change) (result T) {
	root := tree(t, v)
	for _, c := range changes {
		parts := strings.Split(strings.TrimPrefix(c.Path, "/"), "/")
		for i := range parts {
			parts[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(parts[i])
		}
		root = set(t, root, parts, c)
	}
	if err := json.Unmarshal(raw(t, root), &result); err != nil {
		t.Fatal(err)
	}
	return result
}

func set(t *rapid.T, at any, path []string, c catalog.Change) any {
	if len(path) == 0 {
		return tree(t, c.After)
	}
	switch at := at.(type) {
	case map[string]any:
		if len(path) == 1 && c.After == nil {
			delete(at, path[0])
			return at
		}
		at[path[0]] = set(t, at[path[0]], path[1:], c)
	case []any:
		i, err := strconv.Atoi(path[0])
		if err != nil {
			t.Fatal(err)
		}
		at[i] = set(t, at[i], path[1:], c)
	default:
		t.Fatalf("%s leads through %v", c.Path, at)
	}
	return at
}

type failer interface{ Fatal(...any) }

func raw(t failer, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tree(t failer, v any) (decoded any) {
	d := json.NewDecoder(bytes.NewReader(raw(t, v)))
	d.UseNumber()
	if err := d.Decode(&decoded); err != nil {
		t.Fatal(fmt.Sprint(err))
	}
	return decoded
}
