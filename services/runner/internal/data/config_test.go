package data

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	bodies "turbocat.io/pkg/form"
	"turbocat.io/pkg/schema"
	"turbocat.io/services/runner/internal/form"
)

// savedCase is a config and the fields at fault in it. The catalog's test reads the same file.
type savedCase struct {
	Config json.RawMessage
	Faults []string
}

func savedCases(t testing.TB) []savedCase {
	t.Helper()
	raw, err := os.ReadFile("../../../../contracts/testdata/configs/DATA.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []savedCase
	if err := json.Unmarshal(raw, &cases); err != nil || len(cases) < 100 {
		t.Fatal(len(cases), err)
	}
	return cases
}

func TestConfigs(t *testing.T) {
	for _, c := range savedCases(t) {
		var got []string
		_, faults := parse(c.Config)
		for _, fault := range faults.All() {
			got = append(got, fault.Path)
		}
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, c.Faults) {
			t.Errorf("%.300s\n got %q\nwant %q: %v", c.Config, got, c.Faults, faults.All())
		}
	}
}

// savedSchema is what the catalog checks configs with when agents are saved.
func savedSchema(t testing.TB) *schema.Schema {
	t.Helper()
	raw, err := catalog.ConfigSchema("DATA")
	if err != nil {
		t.Fatal(err)
	}
	s, err := schema.Compile(raw)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// disagreement tells how a schema and parse differ about a config; "" when they agree, or
// when it is one of those that are refused, or meant to be, by something else:
// what is no object in UTF-8, names that stand twice, and what is too large or nests too deep
// (the catalog checks these beside the schema), and numbers beyond 64 bits (which runners could take).
func disagreement(s *schema.Schema, config json.RawMessage) string {
	config = bytes.TrimSpace(config)
	if !utf8.Valid(config) || !json.Valid(config) || config[0] != '{' {
		return ""
	}
	var refused bodies.Faults
	_ = s.Validate(context.Background(), "", config, &refused)
	var saved *errs.Error
	if errors.As(refused.Err("config"), &saved) && strings.Contains(saved.Details[0].Message, "contains the number") {
		return ""
	}
	_, faults := parse(config)
	run := slices.DeleteFunc(slices.Clone(faults.All()), func(f form.Fault) bool {
		return strings.Contains(f.Message, "stands twice; remove one") || strings.Contains(f.Message, "levels deep") || strings.Contains(f.Message, "the config has")
	})
	switch {
	case saved == nil && len(run) > 0:
		return fmt.Sprintf("it is saved, and can not be run: %v", run)
	case saved != nil && len(faults.All()) == 0:
		return fmt.Sprintf("it could be run, and is not saved: %v", saved.Details)
	default:
		return ""
	}
}

// TestSavedConfigsRun changes configs in one to three places, and asks both who saves them and
// who runs them.
func TestSavedConfigsRun(t *testing.T) {
	s, cases := savedSchema(t), savedCases(t)
	names := map[string]bool{"x": true}
	var collect func(v any)
	collect = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, e := range v {
				names[name] = true
				collect(e)
			}
		case []any:
			for _, e := range v {
				collect(e)
			}
		}
	}
	decode := func(raw json.RawMessage) (v any) {
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	var configs []json.RawMessage
	for _, c := range cases {
		if len(c.Config) < 2000 {
			configs = append(configs, c.Config)
			collect(decode(c.Config))
		}
	}
	m := mutator{names: slices.Sorted(maps.Keys(names)), values: []string{
		`null`, `true`, `false`, `0`, `1`, `1.5`, `-1`, `17`, `65`, `1e3`, `""`, `"a"`, `"a.b"`, `"a[0]"`, `"."`, `"a..b"`, `"{{x}}"`, `"("`, `"iso"`, `"UTC"`,
		`"first"`, `"last"`, `"left"`, `"any"`, `"all"`, `"exists"`, `"regex"`, `"in"`, `"join"`, `"merge"`, `"count"`, `"array"`, `"objects"`, `"keep"`, `"trim"`,
		`[]`, `["a"]`, `["a","a"]`, `[1]`, `{}`, `{"a":1}`, `{"field":"a"}`, `{"value":null}`, `{"field":"a","operator":"exists"}`, `{"a":{"function":"sum","field":"n"}}`, `{"round":1}`,
	}}
	rapid.Check(t, func(r *rapid.T) {
		config := decode(rapid.SampledFrom(configs).Draw(r, "config"))
		for range rapid.IntRange(1, 3).Draw(r, "changes") {
			config = m.change(r, config)
		}
		raw, err := json.Marshal(config)
		if err != nil {
			r.Fatal(err)
		}
		if d := disagreement(s, raw); d != "" {
			r.Fatalf("%s: %s", raw, d)
		}
	})
}

// mutator changes JSON in one place.
type mutator struct {
	names  []string
	values []string
}

func (m mutator) change(r *rapid.T, v any) any {
	if deeper := rapid.IntRange(0, 4).Draw(r, "deeper") > 0; deeper {
		switch v := v.(type) {
		case map[string]any:
			if len(v) > 0 {
				name := rapid.SampledFrom(slices.Sorted(maps.Keys(v))).Draw(r, "into")
				v[name] = m.change(r, v[name])
				return v
			}
		case []any:
			if len(v) > 0 {
				i := rapid.IntRange(0, len(v)-1).Draw(r, "into")
				v[i] = m.change(r, v[i])
				return v
			}
		}
	}
	value := func() (fresh any) {
		_ = json.Unmarshal([]byte(rapid.SampledFrom(m.values).Draw(r, "value")), &fresh) // they are JSON
		return fresh
	}
	switch v := v.(type) {
	case map[string]any:
		if rapid.Bool().Draw(r, "add") {
			v[rapid.SampledFrom(m.names).Draw(r, "name")] = value()
			return v
		}
		if len(v) > 0 && rapid.Bool().Draw(r, "remove") {
			delete(v, rapid.SampledFrom(slices.Sorted(maps.Keys(v))).Draw(r, "name"))
			return v
		}
	case []any:
		if rapid.Bool().Draw(r, "add") {
			return append(v, value())
		}
	}
	return value()
}
