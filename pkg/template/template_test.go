package template_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"turbocat.io/pkg/template"
)

const values = `{
	"inputs": {"n": 20, "s": "a\"b\nc", "o": {"k": [1, "x"]}, "z": null, "t": true, "brace": "{{inputs.n}}", "any key": 1.50, "sp": [ 1,
		2 ]},
	"a": {"output": {"path": [{"x": "deep"}], "a-b": 7, "_c": 1e400}},
	"b": {"error": {"message": "boom"}}
}`

// lookup finds the whole path in values.
func lookup(p template.Path) (json.RawMessage, bool) { return template.Walk([]byte(values), p) }

func parse(t *testing.T, raw string) *template.Template {
	t.Helper()
	tpl, problems := template.Parse([]byte(raw))
	if len(problems) > 0 {
		t.Fatalf("Parse(%s): %v", raw, problems)
	}
	return tpl
}

func TestRender(t *testing.T) {
	for _, c := range []struct {
		name, raw, want string
		unresolved      string
	}{
		{"no template", ` {"a" : [1, 2.50, "x", null] } `, ` {"a" : [1, 2.50, "x", null] } `, ""},
		{"number keeps its type", `{"v":"{{inputs.n}}"}`, `{"v":20}`, ""},
		{"number keeps its digits", `"{{inputs[\"any key\"]}}"`, `1.50`, ""},
		{"huge number", `"{{a.output._c}}"`, `1e400`, ""},
		{"string", `"{{inputs.s}}"`, `"a\"b\nc"`, ""},
		{"object", `["{{inputs.o}}"]`, `[{"k": [1, "x"]}]`, ""},
		{"null is a value", `"{{inputs.z}}"`, `null`, ""},
		{"true", `"{{inputs.t}}"`, `true`, ""},
		{"in text: string", `"<{{inputs.s}}>"`, `"<a\"b\nc>"`, ""},
		{"in text: number", `"n={{inputs.n}}!"`, `"n=20!"`, ""},
		{"in text: null", `"{{inputs.z}}."`, `"null."`, ""},
		{"in text: object as JSON", `"o: {{inputs.o}}"`, `"o: {\"k\": [1, \"x\"]}"`, ""},
		{"in text: white space of JSON", `"{{inputs.sp}},"`, `"[ 1,\n\t\t2 ],"`, ""},
		{"two in one string", `"{{inputs.n}}{{inputs.n}}"`, `"2020"`, ""},
		{"space around is text", `" {{inputs.n}}"`, `" 20"`, ""},
		{"space inside the braces", `"{{  inputs.n\t}}"`, `20`, ""},
		{"index and key", `"{{a.output.path[0].x}}"`, `"deep"`, ""},
		{"key with a dash", `"{{a.output.a-b}}"`, `7`, ""},
		{"key in brackets is the same", `"{{a[\"output\"].a-b}}"`, `7`, ""},
		{"error message", `"{{b.error.message}}"`, `"boom"`, ""},
		{"escaped braces are braces", `"\u007b{inputs.n}\u007d"`, `20`, ""},
		{"values are data", `["{{inputs.brace}}","x{{inputs.brace}}"]`, `["{{inputs.n}}","x{{inputs.n}}"]`, ""},
		{"keys of objects are no templates", `{"{{inputs.n}}":1}`, `{"{{inputs.n}}":1}`, ""},
		{"single braces", `"{a} { } }}"`, `"{a} { } }}"`, ""},
		{"escapes around stay", `"\u00e9\ud800 {{inputs.n}} \"\/"`, `"\u00e9\ud800 20 \"\/"`, ""},
		{"unresolved stays as written", `["{{ inputs.none }}","x {{c.output}}","{{inputs.n}}"]`, `["{{ inputs.none }}","x {{c.output}}",20]`, "inputs.none c.output"},
		{"path into a scalar", `"{{inputs.n.x}}"`, `"{{inputs.n.x}}"`, "inputs.n.x"},
		{"index out of range", `"{{a.output.path[1]}}"`, `"{{a.output.path[1]}}"`, "a.output.path[1]"},
		{
			"no wildcards", `"{{inputs[\"*\"]}}{{inputs[\"@this\"]}}{{inputs[\"o.k\"]}}"`, `"{{inputs[\"*\"]}}{{inputs[\"@this\"]}}{{inputs[\"o.k\"]}}"`,
			`inputs["*"] inputs["@this"] inputs["o.k"]`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, unresolved := parse(t, c.raw).Render(lookup)
			if string(got) != c.want {
				t.Errorf("Render(%s)\n got %s\nwant %s", c.raw, got, c.want)
			}
			if s := join(unresolved); s != c.unresolved {
				t.Errorf("unresolved %q, want %q", s, c.unresolved)
			}
		})
	}
}

func join(paths []template.Path) string {
	var s []string
	for _, p := range paths {
		s = append(s, p.String())
	}
	return strings.Join(s, " ")
}

func TestParseProblems(t *testing.T) {
	for _, c := range []struct{ name, raw, field, message string }{
		{"not JSON", `{"a":`, "", "not valid JSON"},
		{"empty", ``, "", "not valid JSON"},
		{"not closed", `{"a":{"b":["x","{{inputs.a"]}}`, "a.b[1]", `no matching "}}"`},
		{"closed once", `"{{a}"`, "", `no matching "}}"`},
		{"nothing inside", `["{{}}"]`, "[0]", "must begin with"},
		{"three braces", `"{{{a}}}"`, "", "must begin with"},
		{"number first", `"{{0.a}}"`, "", "must begin with"},
		{"dot at the end", `"{{a.}}"`, "", `after the "."`},
		{"index by dot", `"{{a.0}}"`, "", `after the "."`},
		{"negative index", `"{{a[-1]}}"`, "", "malformed [...]"},
		{"huge index", `"{{a[99999999999]}}"`, "", "malformed [...]"},
		{"empty brackets", `"{{a[]}}"`, "", "malformed [...]"},
		{"key not closed", `"{{a[\"x]}}"`, "", "malformed [...]"},
		{"operator", `"{{a + 1}}"`, "", "a path and nothing else"},
		{"space in the path", `"{{a .b}}"`, "", "a path and nothing else"},
		{"odd key in the field", `{"a b":"{{}}"}`, `["a b"]`, "must begin with"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, problems := template.Parse([]byte(c.raw))
			if len(problems) != 1 || problems[0].Field != c.field || !strings.Contains(problems[0].Message, c.message) {
				t.Errorf("Parse(%s) = %q, want one at %q with %q", c.raw, problems, c.field, c.message)
			}
		})
	}
}

func TestParseReportsAllProblems(t *testing.T) {
	tpl, problems := template.Parse([]byte(`["{{a.}} {{b}} {{1}}", {"x":"{{"}, "{{c}}"]`))
	var fields []string
	for _, p := range problems {
		fields = append(fields, p.Field)
	}
	if want := []string{"[0]", "[0]", "[1].x"}; !slices.Equal(fields, want) {
		t.Errorf("problems at %q, want %q", fields, want)
	}
	if got := join(tpl.Paths()); got != "b c" {
		t.Errorf("paths %q", got)
	}
}

func TestPathsAndReferences(t *testing.T) {
	tpl := parse(t, `{"x":["{{b.output}}","{{ a[\"k k\"] }}"],"y":{"z":"{{b.output}} {{a[3]}}"}}`)
	if got, want := join(tpl.Paths()), `b.output a["k k"] a[3]`; got != want {
		t.Errorf("Paths() = %s, want %s", got, want)
	}
	var refs []string
	for _, r := range tpl.References() {
		refs = append(refs, r.Field+"="+r.Path.String())
	}
	if got, want := strings.Join(refs, " "), `x[0]=b.output x[1]=a["k k"] y.z=b.output y.z=a[3]`; got != want {
		t.Errorf("References() = %s, want %s", got, want)
	}
	if root := tpl.Paths()[1].Root(); root != "a" {
		t.Errorf("Root() = %q", root)
	}
}

func TestTooManyPaths(t *testing.T) {
	var b strings.Builder
	b.WriteString(`"`)
	for i := range template.MaxPaths + 2 {
		b.WriteString("{{" + template.Path{template.Key("a"), template.Index(i)}.String() + "}}")
	}
	b.WriteString(`"`)
	tpl, problems := template.Parse([]byte(b.String()))
	if len(problems) != 1 || len(tpl.Paths()) != template.MaxPaths {
		t.Errorf("%d problems, %d paths", len(problems), len(tpl.Paths()))
	}
}

func TestRenderWithin(t *testing.T) {
	tpl := parse(t, `["{{inputs.s}}","{{inputs.n}}"]`)
	full, _ := tpl.Render(lookup)
	if got, _, err := tpl.RenderWithin(len(full), lookup); err != nil || string(got) != string(full) {
		t.Errorf("at the limit: %s, %v", got, err)
	}
	if _, _, err := tpl.RenderWithin(len(full)-1, lookup); !errors.Is(err, template.ErrTooLarge) {
		t.Errorf("above the limit: %v", err)
	}
}

func TestLookupIsAskedOncePerPath(t *testing.T) {
	asked := 0
	parse(t, `["{{a}}","{{ a }}","x{{a}}"]`).Render(func(template.Path) (json.RawMessage, bool) {
		asked++
		return json.RawMessage(`1`), true
	})
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

func TestParseKeepsItsOwnCopy(t *testing.T) {
	raw := []byte(`"{{inputs.n}} x"`)
	tpl, _ := template.Parse(raw)
	clear(raw)
	if got, _ := tpl.Render(lookup); string(got) != `"20 x"` {
		t.Errorf("got %s", got)
	}
}

// jsonValue draws JSON values without templates.
func jsonValue(depth int) *rapid.Generator[any] {
	leaf := []*rapid.Generator[any]{
		rapid.Just[any](nil),
		rapid.Bool().AsAny(),
		rapid.Int().AsAny(),
		rapid.StringMatching(`[a-z{}"\\é\n\t ]{0,8}`).Filter(func(s string) bool { return !strings.Contains(s, "{{") }).AsAny(),
	}
	if depth == 0 {
		return rapid.OneOf(leaf...)
	}
	return rapid.OneOf(append(leaf,
		rapid.SliceOfN(jsonValue(depth-1), 0, 3).AsAny(),
		rapid.MapOfN(rapid.StringMatching(`[a-z."{} ]{0,4}`), jsonValue(depth-1), 0, 3).AsAny(),
	)...)
}

func TestRenderWithoutTemplatesIsIdentity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw, err := json.MarshalIndent(jsonValue(3).Draw(t, "value"), "", " ")
		if err != nil {
			t.Fatal(err)
		}
		tpl, problems := template.Parse(raw)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		got, unresolved := tpl.Render(lookup)
		if string(got) != string(raw) || len(unresolved) > 0 {
			t.Fatalf("got %s, want %s", got, raw)
		}
	})
}

// TestRenderEqualsReplacement builds a template beside the JSON it must render to.
func TestRenderEqualsReplacement(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(jsonValue(2), 1, 5).Draw(t, "data")
		value := func(i int) json.RawMessage {
			b, _ := json.Marshal(data[i])
			return b
		}
		var tpl, want []any
		for range rapid.IntRange(1, 5).Draw(t, "strings") {
			i := rapid.IntRange(0, len(data)-1).Draw(t, "index")
			ref := "{{v[" + string(rune('0'+i)) + "]}}"
			if rapid.Bool().Draw(t, "whole") {
				tpl, want = append(tpl, ref), append(want, data[i])
				continue
			}
			as := string(value(i))
			if s, ok := data[i].(string); ok {
				as = s
			}
			pre, post := rapid.SampledFrom([]string{"", "é\"", "\\", "{ "}).Draw(t, "pre"), rapid.SampledFrom([]string{"x", "\n}"}).Draw(t, "post")
			tpl, want = append(tpl, pre+ref+post), append(want, pre+as+post)
		}
		raw, _ := json.Marshal(tpl)
		parsed, problems := template.Parse(raw)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		got, unresolved := parsed.Render(func(p template.Path) (json.RawMessage, bool) { return value(p[1].Index), true })
		var gotValue, wantValue any
		wantRaw, _ := json.Marshal(want)
		_ = json.Unmarshal(wantRaw, &wantValue)
		if err := json.Unmarshal(got, &gotValue); err != nil || len(unresolved) > 0 {
			t.Fatalf("%s: %v, unresolved %v", got, err, unresolved)
		}
		a, _ := json.Marshal(gotValue)
		b, _ := json.Marshal(wantValue)
		if string(a) != string(b) {
			t.Fatalf("template %s\n got %s\nwant %s", raw, a, b)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`"{{a.b[0][\"k\"]}}"`, `{"a":["{{ x }} y","{{"]}`, `"\u007b{a\ud83d\ude00}}"`, `{`, `[1e5,{"":"{{a[\"\\\"\"]}}"}]`, `"{{a\`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		tpl, problems := template.Parse(raw)
		if (tpl == nil) == json.Valid(raw) {
			t.Fatalf("template %v of valid=%v", tpl, json.Valid(raw))
		}
		if tpl == nil {
			return
		}
		for _, p := range tpl.Paths() {
			// What a path prints must mean the same path.
			quoted, _ := json.Marshal("{{" + p.String() + "}}")
			again, problems := template.Parse(quoted)
			if len(problems) > 0 || len(again.Paths()) != 1 || !slices.Equal(again.Paths()[0], p) {
				t.Fatalf("path %q does not read back: %v", p, problems)
			}
		}
		if got, _ := tpl.Render(func(template.Path) (json.RawMessage, bool) { return nil, false }); string(got) != string(raw) {
			t.Fatalf("unresolved render %q of %q, problems %v", got, raw, problems)
		}
	})
}

func FuzzRender(f *testing.F) {
	f.Add([]byte(`["{{a}}","x{{a.b}}y"]`), []byte(`{"b":"\"\n"}`))
	f.Add([]byte(`"{{a}}{{b}}"`), []byte(" [ 1 ,\t{} ]\n"))
	f.Fuzz(func(t *testing.T, raw, value []byte) {
		if !json.Valid(value) {
			return
		}
		tpl, _ := template.Parse(raw)
		if tpl == nil {
			return
		}
		got, _ := tpl.Render(func(p template.Path) (json.RawMessage, bool) { return template.Walk(value, p[1:]) })
		if !json.Valid(got) {
			t.Fatalf("Render(%q) with %q gives %q", raw, value, got)
		}
	})
}

func BenchmarkRender(b *testing.B) {
	tpl, _ := template.Parse([]byte(`{"values":["{{inputs.o}}"],"text":"n={{inputs.n}}","add":1}`))
	b.ReportAllocs()
	for b.Loop() {
		tpl.Render(lookup)
	}
}
