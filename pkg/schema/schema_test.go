package schema_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/schema"
)

func compile(t testing.TB, raw string) *schema.Schema {
	t.Helper()
	s, err := schema.Compile(json.RawMessage(raw))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// lines gives faults as "field: message", one a line.
func lines(faults *form.Faults) string {
	var e *errs.Error
	if !errors.As(faults.Err("value"), &e) {
		return ""
	}
	var b strings.Builder
	for _, d := range e.Details {
		b.WriteString(d.Field + ": " + d.Message + "\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func validate(t testing.TB, s *schema.Schema, value string) string {
	t.Helper()
	var faults form.Faults
	if err := s.Validate(context.Background(), "v", json.RawMessage(value), &faults); err != nil {
		t.Fatal(err)
	}
	return lines(&faults)
}

func TestValidate(t *testing.T) {
	for _, c := range []struct{ name, schema, value, want string }{
		{"fits", `{"type":"object","properties":{"a":{"type":"integer"}}}`, `{"a":1.0}`, ""},
		{"true and false", `false`, `1`, "v: is not allowed here; remove it"},
		{
			"all faults by path", `{"type":"object","required":["a"],"additionalProperties":false,"properties":{"a":true,"b":{"items":{"type":"string"}},"c d":{"minimum":3}}}`,
			`{"b":["x",1],"c d":2,"e":0}`,
			"v.a: is required; add it\nv.b[1]: is number; give string\nv.e: unknown field; remove it or correct its name\nv[\"c d\"]: is too small; give at least 3",
		},
		{"through $ref and allOf", `{"allOf":[{"$ref":"#/$defs/x"}],"$defs":{"x":{"properties":{"a":{"const":1}}}}}`, `{"a":2}`, "v.a: is 2; give 1"},
		{"long enum", `{"enum":["a","b","c","d","e","f","g","h","i","j"]}`, `"k"`, `v: is "k"; give one of a, b, c, d, e, f, g, h, i, j`},
		{"enum with null", `{"enum":["a",null]}`, `"k"`, `v: is "k"; give one of a`},
		{"unique", `{"uniqueItems":true}`, `[1,2,1.0]`, "v[2]: repeats entry 0; remove it"},
		{"not", `{"properties":{"a":{"not":{"type":"string"}}}}`, `{"a":"x"}`, "v.a: is not allowed to be so; give another value"},
		{"refused field", `{"properties":{"a":false}}`, `{"a":1}`, "v.a: is not allowed here; remove it"},
		{"dependent", `{"dependentRequired":{"a":["b"]}}`, `{"a":1}`, "v.b: is required beside a; add it"},
		{"needs one", `{"oneOf":[{"required":["a"]},{"required":["b"]}]}`, `{}`, "v: needs a or b; add one of them"},
		{"needs one that is not null", `{"oneOf":[{"required":["a"],"properties":{"a":{"not":{"type":"null"}}}},{"required":["b"]}]}`, `{"a":null}`, "v: needs a or b; add one of them"},
		{"both", `{"oneOf":[{"required":["a"]},{"required":["b"]}]}`, `{"a":1,"b":1}`, "v: fits more than one of its shapes; give exactly one of them"},
		{"shapes of the whole", `{"anyOf":[{"minProperties":2},{"not":{"type":"object"}}]}`, `{}`, "v: has 0 fields; give at least 2"},
		{"standard format", `{"format":"uuid"}`, `"x"`, "v: 'x' is not valid uuid: must have 5 elements; correct it"},
		{"field path", `{"format":"field-path"}`, `"a..b"`, `v: is "a..b", which is no path; write it like "user.name" or "items[0].id"`},
		{"key path", `{"format":"key-path"}`, `"a[0]"`, `v: must lead through objects by their keys, like "user.name"; it can name neither the whole row nor a part of an array`},
		{"time zone", `{"format":"time-zone"}`, `"Mars/Base"`, `v: is "Mars/Base", which is no time zone; give one like Europe/Berlin or UTC`},
		{"regular expression", `{"format":"re2"}`, `"("`, "v: is no RE2 expression: error parsing regexp: missing closing ): `(`"},
		{"a format of text says nothing of numbers", `{"format":"re2"}`, `1`, ""},
		{"a reference to itself", `{"$ref":"#"}`, `1`, "v: can not be checked, for the schema refers to itself without end; correct the schema"},
		{"no JSON", `true`, `{`, "v: is not valid JSON; correct its syntax"},
		{"huge number", `true`, `1e999`, `v: contains the number "1e999", which is too large or too small; use one that fits into 64 bits`},
		{"deep", `{"items":{"$ref":"#"}}`, strings.Repeat("[", 1000) + strings.Repeat("]", 1000), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := validate(t, compile(t, c.schema), c.value); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	long := func(n int) string { return `{"$comment":"` + strings.Repeat("x", n) + `"}` }
	for _, c := range []struct{ name, schema, want string }{
		{"none", ``, ""},
		{"null", `null`, ""},
		{"good", `{"type":"object","properties":{"a":{"type":"string","pattern":"^a+$"}}}`, ""},
		{"earlier draft", `{"$schema":"http://json-schema.org/draft-07/schema#","definitions":{"a":{"type":"string"}},"$ref":"#/definitions/a"}`, ""},
		{"the schema of schemas", `{"$ref":"https://json-schema.org/draft/2020-12/schema"}`, ""},
		{"no schema", `3`, "s: is no JSON Schema; give an object, or null for none"},
		{"bad type", `{"type":"strin"}`, "s.type: is"},
		{"broken pattern", `{"pattern":"("}`, "s.pattern:"},
		{"large pattern", `{"pattern":"(abc){1000}"}`, "s.pattern:"},
		{"many large patterns", `{"allOf":[{"pattern":"a{900}"}` + strings.Repeat(`,{"pattern":"[a-z]{300}"}`, 100) + `]}`, "together with the other expressions"},
		{"a file", `{"$ref":"file:///etc/passwd"}`, "s: is not a valid JSON Schema: it refers to another document; put what it refers to under $defs"},
		{"the web", `{"$ref":"https://example.com/x.json"}`, "it refers to another document"},
		{"just short enough", long(64<<10 - 17), ""},
		{"too long", long(64 << 10), "give at most 65536"},
		{"too deep", strings.Repeat(`{"not":`, 101) + "true" + strings.Repeat("}", 101), "nests deeper than 100 levels"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var faults form.Faults
			schema.Check("s", json.RawMessage(c.schema), &faults)
			if got := lines(&faults); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// costly are small schemas that ask for more than there is time.
func costly() map[string][2]string {
	var doubling strings.Builder
	doubling.WriteString(`{"$ref":"#/$defs/a0","$defs":{`)
	for i := range 60 {
		fmt.Fprintf(&doubling, `"a%d":{"allOf":[{"$ref":"#/$defs/a%d"},{"$ref":"#/$defs/a%d"}]},`, i, i+1, i+1)
	}
	doubling.WriteString(`"a60":{}}}`)
	words := make([]string, 10_000)
	for i := range words {
		words[i] = fmt.Sprintf(`"w%d"`, i)
	}
	return map[string][2]string{
		"references that double":   {doubling.String(), `1`},
		"the same that all fail":   {strings.Replace(doubling.String(), `"a60":{}`, `"a60":{"type":"string"}`, 1), `1`},
		"inside not":               {`{"not":` + strings.ReplaceAll(doubling.String(), `#/`, `#/not/`) + `}`, `1`},
		"shapes inside shapes":     {`{"anyOf":[{"items":{"$ref":"#"},"minItems":2},{"items":{"$ref":"#"},"minItems":3}]}`, strings.Repeat("[", 100) + "1" + strings.Repeat("]", 100)},
		"many words, many values":  {`{"items":{"enum":[` + strings.Join(words, ",") + `]}}`, `["x"` + strings.Repeat(`,"x"`, 20_000) + `]`},
		"many patterns, many keys": {`{"patternProperties":{"^a":true` + patterns(300) + `}}`, keys(100_000)},
	}
}

func patterns(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"^a%d":true`, i)
	}
	return b.String()
}

func keys(n int) string {
	var b strings.Builder
	b.WriteString(`{"k":0`)
	for i := range n {
		fmt.Fprintf(&b, `,"k%d":0`, i)
	}
	return b.String() + "}"
}

func TestCheckIsBounded(t *testing.T) {
	for name, c := range costly() {
		t.Run(name, func(t *testing.T) {
			s := compile(t, c[0])
			s.SetMaxSteps(100_000)
			if got := validate(t, s, c[1]); !strings.Contains(got, "takes more than 100000 steps") {
				t.Errorf("got %.200q", got)
			}
		})
	}
}

func TestCheckEndsWithItsContext(t *testing.T) {
	s := compile(t, costly()["references that double"][0])
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 3 { // the second waits for the first
		wg.Go(func() {
			var faults form.Faults
			if err := s.Validate(ctx, "v", json.RawMessage(`1`), &faults); !errors.Is(err, context.Canceled) {
				t.Errorf("%v, %v", err, lines(&faults))
			}
		})
	}
	begin := time.Now()
	cancel()
	if wg.Wait(); time.Since(begin) > 5*time.Second {
		t.Errorf("it took %v to end", time.Since(begin))
	}
	if got := validate(t, compile(t, `{"type":"string"}`), `1`); got == "" {
		t.Error("a check after it finds nothing")
	}
}

// TestDeepestStack goes the longest way from schema to schema in the deepest value.
func TestDeepestStack(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"$ref":"#/$defs/a0","$defs":{`)
	const long = 1200 // as many as a client's schema can have
	for i := range long {
		fmt.Fprintf(&b, `"a%d":{"allOf":[{"$ref":"#/$defs/a%d"}]},`, i, i+1)
	}
	fmt.Fprintf(&b, `"a%d":{"items":{"$ref":"#/$defs/a0"}}}}`, long)
	if got := validate(t, compile(t, b.String()), strings.Repeat("[", 1000)+strings.Repeat("]", 1000)); !strings.Contains(got, "goes too deep") {
		t.Error(got)
	}
}

func TestManyValues(t *testing.T) {
	s := compile(t, `{"items":{"type":"integer"}}`)
	if got := validate(t, s, "[1"+strings.Repeat(",1", 900_000)+"]"); got != "" {
		t.Error(got)
	}
	if got := validate(t, s, "[1"+strings.Repeat(",1", 1_000_000)+"]"); !strings.Contains(got, "more than 1000000 values") {
		t.Error(got)
	}
}

func TestConcurrentChecks(t *testing.T) {
	s := compile(t, `{"type":"object","properties":{"a":{"type":"integer"}}}`)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 100 {
				value, want := `{"a":1}`, ""
				if i%2 == 0 {
					value, want = `{"a":"x"}`, "v.a: is string; give integer"
				}
				if got := validate(t, s, value); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkValidate(b *testing.B) {
	s := compile(b, `{"type":"object","properties":{"data":{"type":"array","items":{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"name":{"type":"string"}}}}}}`)
	value := json.RawMessage(`{"data":[{"id":0,"name":"n"}` + strings.Repeat(`,{"id":1,"name":"some name"}`, 99_999) + `]}`)
	b.SetBytes(int64(len(value)))
	for b.Loop() {
		var faults form.Faults
		if err := s.Validate(context.Background(), "v", value, &faults); err != nil || lines(&faults) != "" {
			b.Fatal(err, lines(&faults))
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		compile(b, `{"type":"object","required":["a"],"properties":{"a":{"type":"integer"},"b":{"type":"array","items":{"type":"string","pattern":"^a+$"}}}}`)
	}
}
