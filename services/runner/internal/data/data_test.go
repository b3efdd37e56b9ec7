package data

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/runner/internal/executor"
)

func run(t testing.TB, config, input string) (string, *runner.StepError) {
	t.Helper()
	out, err := New().Run(context.Background(), executor.Task{Config: json.RawMessage(config), Input: json.RawMessage(input)})
	if err == nil {
		if !json.Valid(out) {
			t.Fatalf("output is no JSON: %s", out)
		}
		return string(out), nil
	}
	var stepError *runner.StepError
	if !errors.As(err, &stepError) {
		t.Fatalf("not a StepError: %v", err)
	}
	return "", stepError
}

func TestOperations(t *testing.T) {
	const people = `[{"id":1,"name":"Ada","team":{"k":"x"},"n":10},{"id":2,"name":"Bob","n":3.5},{"id":3,"name":"Cy","team":{"k":"x"},"n":null}]`
	tests := []struct {
		name, config, data, want string
		count                    int
	}{
		{"identity", `{"pipeline":[]}`, `[1, 2]`, `[1,2]`, 2},
		{"identity of an object", `{"pipeline":[]}`, `{"a": 9007199254740993}`, `{"a": 9007199254740993}`, 1},
		{"identity of null", `{"pipeline":[]}`, `null`, `null`, 1},
		{
			"rows pass untouched", `{"operation":"filter","field":"a","operator":"exists"}`,
			`[{"b":12345678901234567890, "a":1.0e0,"c":"\u0041"}]`, `[{"b":12345678901234567890, "a":1.0e0,"c":"\u0041"}]`, 1,
		},
		{
			"match any", `{"operation":"filter","match":"any","conditions":[{"field":"id","operator":"eq","value":1},{"field":"name","operator":"eq","value":"Cy"}]}`,
			`[{"id":1},{"id":2},{"name":"Cy"}]`, `[{"id":1},{"name":"Cy"}]`, 2,
		},
		{
			"match all", `{"operation":"filter","conditions":[{"field":"id","operator":"gt","value":1},{"field":"id","operator":"lt","value":3}]}`,
			`[{"id":1},{"id":2},{"id":3}]`, `[{"id":2}]`, 1,
		},
		{"filter to nothing", `{"operation":"filter","field":"id","operator":"eq","value":9}`, `[{"id":1}]`, `[]`, 0},
		{"filter of plain values", `{"operation":"filter","field":".","operator":"gte","value":2}`, `[1,2,3]`, `[2,3]`, 2},
		{
			"map", `{"operation":"map","fields":{"who":"name","k":"team.k","kind":{"value":{"a":[1]}}}}`, people,
			`[{"who":"Ada","k":"x","kind":{"a":[1]}},{"who":"Bob","k":null,"kind":{"a":[1]}},{"who":"Cy","k":"x","kind":{"a":[1]}}]`, 3,
		},
		{"map keep", `{"operation":"map","keep":true,"fields":{"b":"a","a":{"value":null}}}`, `[{"a":1,"c":2}]`, `[{"c":2,"b":1,"a":null}]`, 1},
		{"map of plain values", `{"operation":"map","fields":{"v":"."}}`, `[7]`, `[{"v":7}]`, 1},
		{"map through arrays", `{"operation":"map","fields":{"x":"a[1].b","y":"a.0.b"}}`, `[{"a":[{"b":1},{"b":2}]}]`, `[{"x":2,"y":1}]`, 1},
		{
			"sort", `{"operation":"sort","sort":[{"field":"v"}]}`,
			`[{"v":null},{"v":"b"},{"v":10},{},{"v":true},{"v":9},{"v":"a"},{"v":false},{"v":9.5}]`,
			`[{"v":9},{"v":9.5},{"v":10},{"v":"a"},{"v":"b"},{"v":false},{"v":true},{"v":null},{}]`, 9,
		},
		{
			"sort desc keeps nulls last", `{"operation":"sort","sort":[{"field":"v","direction":"desc"}]}`,
			`[{"v":null},{"v":1},{"v":"b"},{"v":3}]`, `[{"v":3},{"v":1},{"v":"b"},{"v":null}]`, 4,
		},
		{
			"sort by two", `{"operation":"sort","sort":[{"field":"a","direction":"desc"},{"field":"b"}]}`,
			`[{"a":1,"b":1},{"a":2,"b":2},{"a":2,"b":1}]`, `[{"a":2,"b":1},{"a":2,"b":2},{"a":1,"b":1}]`, 3,
		},
		{
			"sort beyond floats", `{"operation":"sort","sort":[{"field":"."}]}`,
			`[9007199254740993,9007199254740992,1e500,1e400,-1e400,1e-400,0]`, `[-1e400,0,1e-400,9007199254740992,9007199254740993,1e400,1e500]`, 7,
		},
		{
			"group", `{"operation":"group","groupBy":"team.k"}`, `[{"team":{"k":"b"}},{"team":{"k":"a"}},{"team":{"k":"b"},"n":1}]`,
			`[{"key":"b","count":2,"items":[{"team":{"k":"b"}},{"team":{"k":"b"},"n":1}]},{"key":"a","count":1,"items":[{"team":{"k":"a"}}]}]`, 2,
		},
		{
			"group by equal numbers and nulls", `{"operation":"group","groupBy":"k","items":false}`, `[{"k":1},{"k":1.0},{"k":"1"},{"k":null},{}]`,
			`[{"key":1,"count":2},{"key":"1","count":1},{"key":null,"count":2}]`, 3,
		},
		{
			"group by two with values", `{"operation":"group","groupBy":["a","b"],"items":false,"aggregations":{"sum":{"function":"sum","field":"n"}}}`,
			`[{"a":1,"b":2,"n":3},{"a":1,"b":2,"n":4},{"a":12,"n":1}]`,
			`[{"key":{"a":1,"b":2},"count":2,"sum":7},{"key":{"a":12,"b":null},"count":1,"sum":1}]`, 2,
		},
		{
			"group with its own count", `{"operation":"group","groupBy":"a","items":false,"aggregations":{"count":{"function":"count","field":"n"}}}`,
			`[{"a":1,"n":1},{"a":1}]`, `[{"key":1,"count":1}]`, 1,
		},
		{
			"aggregate", `{"operation":"aggregate","aggregations":{"s":{"function":"sum","field":"n"},"a":{"function":"avg","field":"n"},"lo":{"function":"min","field":"n"},
			"hi":{"function":"max","field":"n"},"c":{"function":"count"},"cn":{"function":"count","field":"n"},"f":{"function":"first","field":"name"},"l":{"function":"last","field":"n"}}}`,
			people, `{"s":13.5,"a":6.75,"lo":3.5,"hi":10,"c":3,"cn":2,"f":"Ada","l":null}`, 1,
		},
		{
			"aggregate of nothing", `{"operation":"aggregate","aggregations":{"s":{"function":"sum","field":"n"},"a":{"function":"avg","field":"n"},"m":{"function":"min","field":"n"},"f":{"function":"first","field":"n"},"c":{"function":"count"}}}`,
			`[]`, `{"s":0,"a":null,"m":null,"f":null,"c":0}`, 1,
		},
		{
			"aggregate exact integers", `{"operation":"aggregate","aggregations":{"s":{"function":"sum","field":"."},"m":{"function":"max","field":"."}}}`,
			`[9007199254740992,1,9007199254740993]`, `{"s":18014398509481986,"m":9007199254740993}`, 1,
		},
		{
			"aggregate beyond 64 bits", `{"operation":"aggregate","aggregations":{"s":{"function":"sum","field":"."}}}`,
			`[9223372036854775807,9223372036854775807]`, `{"s":18446744073709552000}`, 1,
		},
		{"min of strings", `{"operation":"aggregate","aggregations":{"m":{"function":"min","field":"name"}}}`, people, `{"m":"Ada"}`, 1},
		{"pick", `{"operation":"pick","fields":["n","team.k"]}`, people, `[{"team":{"k":"x"},"n":10},{"n":3.5},{"team":{"k":"x"},"n":null}]`, 3},
		{"pick a dotted key first", `{"operation":"pick","fields":["a.b","c"]}`, `[{"a.b":1,"a":{"b":2},"c":3},{"a":{"b":2,"x":1}}]`, `[{"a.b":1,"c":3},{"a":{"b":2}}]`, 2},
		{"pick whole and part", `{"operation":"pick","fields":["a","a.b","c.d","c.e"]}`, `[{"a":{"b":1,"z":2},"c":{"d":1,"e":2,"f":3}},{"c":4}]`, `[{"a":{"b":1,"z":2},"c":{"d":1,"e":2}},{}]`, 2},
		{
			"names are never patterns", `{"operation":"map","fields":{"x":"a*","y":"#","z":"@this","q":"a|b","r":"a?","s":"#(n>0)"}}`,
			`[{"ab":1,"n":2,"a":{"b":1}}]`, `[{"x":null,"y":null,"z":null,"q":null,"r":null,"s":null}]`, 1,
		},
		{
			"pipeline", `{"pipeline":[{"operation":"filter","field":"n","operator":"gt","value":1},{"operation":"sort","sort":[{"field":"n"}]},{"operation":"aggregate","aggregations":{"first":{"function":"first","field":"name"}}}],"timeoutMs":1000}`,
			people, `{"first":"Bob"}`, 1,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := run(t, tt.config, `{"x":0,"data":`+tt.data+`}`)
			if want := fmt.Sprintf(`{"data":%s,"count":%d}`, tt.want, tt.count); err != nil || got != want {
				t.Errorf("got %v %s\nwant %s", err, got, want)
			}
		})
	}
}

func TestOperators(t *testing.T) {
	tests := []struct {
		operator, value string
		holds, not      []string // values of the field; "" is an absent one
	}{
		{"eq", `1`, []string{`1`, `1.0`, `10e-1`}, []string{`2`, `"1"`, `null`, ``, `true`, `[1]`}},
		{"eq", `9007199254740993`, []string{`9007199254740993`, `9007199254740993.0`}, []string{`9007199254740992`, `9007199254740994`}},
		{"eq", `"a"`, []string{`"a"`, `"\u0061"`}, []string{`"A"`, `null`}},
		{"eq", `null`, []string{`null`, ``}, []string{`0`, `""`, `false`}},
		{"eq", `{"a":[1,{}],"b":2}`, []string{`{"b":2.0,"a":[1,{}]}`}, []string{`{"b":2,"a":[1,{"c":1}]}`, `{"a":[1,{}]}`, `[]`}},
		{"eq", `true`, []string{`true`}, []string{`false`, `1`}},
		{"neq", `1`, []string{`2`, `"1"`, `null`, ``}, []string{`1`, `1.0`}},
		{"neq", `null`, []string{`0`}, []string{`null`, ``}},
		{"gt", `2`, []string{`2.5`, `1e400`}, []string{`2`, `-3`, `null`, ``}},
		{"gt", `9007199254740992`, []string{`9007199254740993`}, []string{`9007199254740992`}},
		{"gte", `2`, []string{`2`, `2.0`, `3`}, []string{`1.999`}},
		{"lt", `"b"`, []string{`"a"`, `""`}, []string{`"b"`, `"ba"`, `null`}},
		{"lte", `-1`, []string{`-1`, `-2`}, []string{`0`, ``}},
		{"in", `[1,"a",null]`, []string{`1`, `1.0`, `"a"`, `null`, ``}, []string{`"1"`, `2`, `[1]`}},
		{"in", `[]`, nil, []string{`1`, ``}},
		{"nin", `[1,[2]]`, []string{`2`, `null`, ``, `"1"`}, []string{`1`, `[2]`, `[2.0]`}},
		{"contains", `"b"`, []string{`"abc"`, `["b"]`}, []string{`"ac"`, `["bb"]`, `[]`, `null`, ``}},
		{"contains", `1`, []string{`[2,1.0]`}, []string{`["1"]`}},
		{"startsWith", `"ab"`, []string{`"abc"`}, []string{`"cab"`, `null`, ``}},
		{"endsWith", `"bc"`, []string{`"abc"`}, []string{`"bcd"`}},
		{"exists", `true`, []string{`1`, `null`, `""`}, []string{``}},
		{"exists", `false`, []string{``}, []string{`null`}},
		{"regex", `"^a.+z$"`, []string{`"abz"`}, []string{`"az"`, `null`, ``}},
	}
	for _, tt := range tests {
		config := fmt.Sprintf(`{"operation":"filter","field":"f","operator":%q,"value":%s}`, tt.operator, tt.value)
		check := func(value string, want int) {
			row := `{"f":` + value + `}`
			if value == "" {
				row = `{}`
			}
			got, err := run(t, config, `{"data":[`+row+`]}`)
			if err != nil || !strings.HasSuffix(got, fmt.Sprintf(`"count":%d}`, want)) {
				t.Errorf("%s %s of %q: %v %s, want %d", tt.operator, tt.value, value, err, got, want)
			}
		}
		for _, v := range tt.holds {
			check(v, 1)
		}
		for _, v := range tt.not {
			check(v, 0)
		}
	}
}

func TestJoin(t *testing.T) {
	const input = `{"data":[{"id":1,"a":"x"},{"id":2,"a":"y"},{"id":null,"a":"z"},{"id":1.0,"a":"w"}],
		"other":[{"userId":1,"a":"r1"},{"userId":3,"b":"r3"},{"userId":1,"b":"r2"},{"userId":null}]}`
	const inner = `{"id":1,"a":"x","userId":1,"right_a":"r1"},{"id":1,"a":"x","userId":1,"b":"r2"}`
	const inner2 = `{"id":1.0,"a":"w","userId":1,"right_a":"r1"},{"id":1.0,"a":"w","userId":1,"b":"r2"}`
	const right = `{"userId":3,"b":"r3"},{"userId":null}`
	const lone = `{"id":2,"a":"y"},{"id":null,"a":"z"}`
	tests := []struct {
		kind, want string
		count      int
	}{
		{"inner", inner + "," + inner2, 4},
		{"left", inner + "," + lone + "," + inner2, 6},
		{"right", inner + "," + inner2 + "," + right, 6},
		{"full", inner + "," + lone + "," + inner2 + "," + right, 8},
	}
	for _, tt := range tests {
		got, err := run(t, `{"operation":"join","type":"`+tt.kind+`","with":"other","leftKey":"id","rightKey":"userId"}`, input)
		if want := fmt.Sprintf(`{"data":[%s],"count":%d}`, tt.want, tt.count); err != nil || got != want {
			t.Errorf("%s: got %v %s\nwant %s", tt.kind, err, got, want)
		}
	}
	got, err := run(t, `{"operation":"join","with":"o","leftKey":"id","rightKey":"id","prefix":"p_"}`,
		`{"data":[{"id":1,"p_id":2},{ }],"o":[{"id":1,"p_p_id":3,"q":1}]}`)
	if want := `{"data":[{"id":1,"p_id":2,"p_p_p_id":1,"p_p_id":3,"q":1}],"count":1}`; err != nil || got != want {
		t.Errorf("collisions: got %v %s\nwant %s", err, got, want)
	}
}

func TestDataErrors(t *testing.T) {
	tests := []struct{ name, config, input, want string }{
		{"no data", `{"pipeline":[]}`, `{}`, `no "data"`},
		{"input is no object", `{"pipeline":[]}`, `[1]`, `no "data"`},
		{"data is no array", `{"operation":"sort","sort":[{"field":"a"}]}`, `{"data":{"a":1}}`, "input.data must be an array of rows, not an object"},
		{
			"sort of objects", `{"pipeline":[{"operation":"filter","field":"n","operator":"exists"},{"operation":"sort","sort":[{"field":"n"}]}]}`,
			`{"data":[{"n":1},{"n":{}}]}`, `pipeline[1] sort: row 1 field "n": is an object, which has no order`,
		},
		{"row is no object", `{"operation":"sort","sort":[{"field":"n"}]}`, `{"data":[{"n":1},5]}`, `sort: row 1 field "n": the row is a number, not an object`},
		{"sum of strings", `{"operation":"aggregate","aggregations":{"s":{"function":"sum","field":"n"}}}`, `{"data":[{"n":"1"}]}`, `aggregate: row 0 field "n": is a string, not a number`},
		{"sum in a group", `{"operation":"group","groupBy":"k","aggregations":{"s":{"function":"avg","field":"n"}}}`, `{"data":[{"k":1},{"k":2,"n":[]}]}`, `group: row 1 field "n": is an array, not a number`},
		{"sum too large", `{"operation":"aggregate","aggregations":{"s":{"function":"sum","field":"."}}}`, `{"data":[1e308,1e308]}`, `row 1 field ".": makes the sum larger`},
		{"mixed min", `{"operation":"aggregate","aggregations":{"s":{"function":"min","field":"n"}}}`, `{"data":[{"n":"1"},{"n":1}]}`, `row 1 field "n": is a number, while the rows before have a string`},
		{"gt of a string", `{"operation":"filter","field":"n","operator":"gt","value":1}`, `{"data":[{"n":"1"}]}`, `filter: row 0 field "n": is a string, which gt can not compare with a number`},
		{"regex of a number", `{"operation":"filter","field":"n","operator":"regex","value":"1"}`, `{"data":[{"n":1}]}`, `row 0 field "n": is a number, not a string`},
		{"contains in a number", `{"operation":"filter","field":"n","operator":"contains","value":"1"}`, `{"data":[{"n":1}]}`, `row 0 field "n"`},
		{"pick of a number", `{"operation":"pick","fields":["n"]}`, `{"data":[1]}`, `pick: row 0: the row is a number`},
		{"join without the other", `{"operation":"join","with":"o","leftKey":"a","rightKey":"a"}`, `{"data":[]}`, `join: the input has no "o"`},
		{"join with no array", `{"operation":"join","with":"o","leftKey":"a","rightKey":"a"}`, `{"data":[],"o":1}`, `join: input.o must be an array of rows, not a number`},
		{"join with plain rows", `{"operation":"join","with":"o","leftKey":"a","rightKey":"a"}`, `{"data":[],"o":[{},1]}`, `join: row 1 of input.o: the row is a number`},
		{"too deep", `{"operation":"group","groupBy":"a"}`, `{"data":[{"a":` + strings.Repeat("[", 99) + strings.Repeat("]", 99) + `}]}`, `row 0 field "a": is nested too deep`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := run(t, tt.config, tt.input)
			if err == nil || err.Code != runner.CodeDataError || err.Retryable || !strings.Contains(err.Message, tt.want) {
				t.Errorf("got %+v, want DATA_ERROR with %q", err, tt.want)
			}
		})
	}
}

func TestParse(t *testing.T) {
	tests := []struct {
		config string
		want   []string // fields at fault, in order
	}{
		{`{"pipeline":[]}`, nil},
		{`{`, []string{""}},
		{`{"operation":"pick","fields":["a"],"fields":["b"],"x":1}`, []string{"fields", "x"}},
		{`{"operation":"reduce","reducer":"sum","initial":1e400}`, []string{"initial"}},
		{`{"operation":"map","fields":{"a":{"value":"` + strings.Repeat("x", catalog.MaxDataConfig) + `"}}}`, []string{""}},
		{strings.Repeat(`{"a":`, 64) + "{}" + strings.Repeat("}", 64), []string{""}},
		{
			`{"pipeline":[{"operation":"join","prefix":"","type":"outer"},{"operation":"x"},7],"timeoutMs":0,"z":1}`,
			[]string{
				"timeoutMs", "pipeline[0].type", "pipeline[0].with", "pipeline[0].leftKey", "pipeline[0].rightKey", "pipeline[0].prefix",
				"pipeline[1].operation", "pipeline[2]", "z",
			},
		},
	}
	for _, tt := range tests {
		var got []string
		_, faults := parse(json.RawMessage(tt.config))
		for _, fault := range faults.All() {
			got = append(got, fault.Path)
		}
		if strings.Join(got, "|") != strings.Join(tt.want, "|") || len(got) != len(tt.want) {
			t.Errorf("%s\n got %q\nwant %q: %v", tt.config, got, tt.want, faults.All())
		}
	}
	_, err := run(t, `{"operation":"join","type":"outer","with":"o"}`, `{}`)
	if err == nil || err.Code != runner.CodeInvalidConfig || err.Retryable ||
		!strings.Contains(err.Message, "3 problems") || !strings.Contains(err.Message, "leftKey") || !strings.Contains(err.Message, "rightKey") {
		t.Errorf("got %+v", err)
	}
}

func TestBounds(t *testing.T) {
	row := `{"k":1,"text":"` + strings.Repeat("x", 3000) + `"}`
	rows := "[" + strings.Repeat(row+",", 399) + row + "]"
	task := executor.Task{
		Config: json.RawMessage(`{"operation":"join","with":"data","leftKey":"k","rightKey":"k"}`),
		Input:  json.RawMessage(`{"data":` + rows + `}`),
	}
	_, err := New().Run(context.Background(), task)
	var stepError *runner.StepError
	if !errors.As(err, &stepError) || stepError.Code != runner.CodeOutputLimit {
		t.Errorf("a join of all with all: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	start := time.Now()
	if _, err = New().Run(ctx, task); !errors.Is(err, context.Canceled) || time.Since(start) > 10*time.Second {
		t.Errorf("cancelled: %v after %v", err, time.Since(start))
	}
	task.Config = json.RawMessage(`{"operation":"join","with":"data","leftKey":"k","rightKey":"k","timeoutMs":1}`)
	if _, err = New().Run(context.Background(), task); !errors.As(err, &stepError) || stepError.Code != runner.CodeStepTimeout || !stepError.Retryable {
		t.Errorf("out of time: %v", err)
	}
}

// FuzzParse runs any config over any input, and over what is no JSON, which the pool lets through to nobody. Seeds stand in testdata/fuzz.
func FuzzParse(f *testing.F) {
	saved := savedSchema(f)
	f.Fuzz(func(t *testing.T, config, input string) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		out, err := New().Run(ctx, executor.Task{Config: json.RawMessage(config), Input: json.RawMessage(input)})
		if err == nil && json.Valid([]byte(input)) && !json.Valid(out) {
			t.Errorf("output is no JSON: %s", out)
		}
		var stepError *runner.StepError
		if err != nil && !errors.As(err, &stepError) {
			t.Errorf("%v", err)
		}
		if _, faults := parse(json.RawMessage(config)); len(faults.All()) > 0 && err == nil {
			t.Errorf("ran although it has %v", faults.All())
		}
		if d := disagreement(saved, json.RawMessage(config)); d != "" {
			t.Error(d)
		}
	})
}
