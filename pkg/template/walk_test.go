package template_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"turbocat.io/pkg/template"
)

func TestWalk(t *testing.T) {
	const raw = ` { "a" : {"b":[10, "x", [true] , {"c":null}]}, "é\"\u0041": 1, "": 2, "0": 3, "s": "}]\"" , "n":-1.5e3} `
	k, i := template.Key, template.Index
	for _, c := range []struct {
		path template.Path
		want string // "" when nothing is there
	}{
		{nil, raw[1 : len(raw)-1]},
		{template.Path{k("a"), k("b"), i(0)}, "10"},
		{template.Path{k("a"), k("b"), i(1)}, `"x"`},
		{template.Path{k("a"), k("b"), i(2), i(0)}, "true"},
		{template.Path{k("a"), k("b"), i(3), k("c")}, "null"},
		{template.Path{k("a"), k("b"), i(3), k("c"), k("d")}, ""},
		{template.Path{k("a"), k("b"), i(4)}, ""},
		{template.Path{k("a"), k("b"), k("0")}, ""},
		{template.Path{k("a"), i(0)}, ""},
		{template.Path{k("é\"A")}, "1"},
		{template.Path{k("")}, "2"},
		{template.Path{k("0")}, "3"},
		{template.Path{k("s")}, `"}]\""`},
		{template.Path{k("s"), i(0)}, ""},
		{template.Path{k("n")}, "-1.5e3"},
		{template.Path{k("none")}, ""},
	} {
		got, ok := template.Walk([]byte(raw), c.path)
		if string(got) != c.want || ok != (c.want != "") {
			t.Errorf("Walk(%s) = %s, %v; want %s", c.path, got, ok, c.want)
		}
	}
}

func FuzzWalk(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":"x"}]}`), "a", 1)
	f.Add([]byte(`{"a" : "\"" , "b\\":[[]]}`), `b\`, 0)
	f.Add([]byte(`{"a`), "a", 0)
	f.Fuzz(func(t *testing.T, raw []byte, key string, index int) {
		got, ok := template.Walk(raw, template.Path{template.Key(key), template.Index(index)})
		var object map[string][]json.RawMessage
		if !json.Valid(raw) || json.Unmarshal(raw, &object) != nil {
			return // it must only not panic
		}
		list := object[key]
		if ok != (index >= 0 && index < len(list)) {
			// encoding/json takes the last of two equal keys, Walk the first.
			if countKeys(raw) == len(object) {
				t.Fatalf("Walk(%q, %q, %d) = %s, %v", raw, key, index, got, ok)
			}
			return
		}
		if ok && countKeys(raw) == len(object) && !reflect.DeepEqual(decode(t, got), decode(t, list[index])) {
			t.Fatalf("Walk(%q, %q, %d) = %s, want %s", raw, key, index, got, list[index])
		}
	})
}

// countKeys counts the keys of the object raw, equal ones too.
func countKeys(raw []byte) int {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil {
		return -1
	}
	n := 0
	for dec.More() {
		var value json.RawMessage
		if _, err := dec.Token(); err != nil || dec.Decode(&value) != nil {
			return -1
		}
		n++
	}
	return n
}

func decode(t *testing.T, raw []byte) any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	return v
}
