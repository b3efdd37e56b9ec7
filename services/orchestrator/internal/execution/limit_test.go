package execution

import (
	"strings"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
)

func TestLimitOf(t *testing.T) {
	t.Parallel()
	if l, err := limitOf(catalog.Definition{}, []byte(`{}`)); l != nil || err != nil {
		t.Fatalf("without a limit: %+v, %v", l, err)
	}
	longest := strings.Repeat("k", maxLimitKey)
	for _, c := range []struct {
		name, key, inputs, want string
		strict                  bool
		fault                   string
	}{
		{"one for all", "", `{}`, "", false, ""},
		{"a text", "{{inputs.who}}", `{"who":"Ann \u00e4\"\u0000"}`, "Ann ä\"\x00", false, ""},
		{"a number as it is written", "{{inputs.n}}", `{"n": 1e2}`, "1e2", false, ""},
		{"a number and its text are one", "{{inputs.n}}", `{"n":"5"}`, "5", false, ""},
		{"an object without spaces", "{{inputs.o}}", `{"o": {"b": [1, 2]}}`, `{"b":[1,2]}`, false, ""},
		{"within a text", "{{inputs.a}}/{{inputs.b.c[1]}}", `{"a":"x","b":{"c":[0,true]}}`, "x/true", false, ""},
		{"a value is no template", "{{inputs.a}}", `{"a":"{{inputs.b}}","b":1}`, "{{inputs.b}}", false, ""},
		{"unresolved", "{{inputs.a}} {{inputs.b}}", `{"a":1}`, "1 {{inputs.b}}", false, ""},
		{"unresolved and strict", "{{inputs.a}} {{inputs.b}}", `{}`, "", true, "inputs.a inputs.b"},
		{"resolved and strict", "{{inputs.a}}", `{"a":null}`, "null", true, ""},
		{"longest", "{{inputs.a}}", `{"a":"` + longest + `"}`, longest, false, ""},
		{"longest in JSON", "{{inputs.a}}", `{"a":"` + strings.Repeat(`\u0041`, maxLimitKey) + `"}`, strings.Repeat("A", maxLimitKey), false, ""},
		{"too long", "{{inputs.a}}", `{"a":"` + longest + `k"}`, "", false, "inputs"},
		{"much too long", "{{inputs.a}}", `{"a":"` + strings.Repeat("k", 1<<20) + `"}`, "", false, "inputs"},
	} {
		l, err := limitOf(catalog.Definition{StrictTemplates: c.strict, Concurrency: &catalog.Concurrency{Max: 3, Key: c.key, OnLimit: catalog.OnLimitDrop}}, []byte(c.inputs))
		var fields []string
		if err != nil {
			for _, d := range errs.From(err).Details {
				fields = append(fields, d.Field)
			}
		}
		if got := strings.Join(fields, " "); got != c.fault || err != nil && errs.CodeOf(err) != errs.Validation {
			t.Errorf("%s: %v, want faults of %q", c.name, err, c.fault)
		}
		if c.fault == "" && (l == nil || *l != Limit{Key: c.want, Max: 3, OnLimit: catalog.OnLimitDrop}) {
			t.Errorf("%s: %+v", c.name, l)
		}
	}
}
