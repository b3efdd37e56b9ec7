package data

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"turbocat.io/contracts/runner"
	"turbocat.io/services/runner/internal/executor"
)

// operation runs one operation over data beside other inputs, and wants its data, or an error
// that contains what begins with "!".
type operationTest struct{ name, config, data, want string }

func runOperations(t *testing.T, inputs string, tests []operationTest) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := run(t, tt.config, `{`+inputs+`"data":`+tt.data+`}`)
			want, fails := strings.CutPrefix(tt.want, "!")
			switch {
			case fails && (err == nil || err.Retryable || !strings.Contains(err.Message, want)):
				t.Errorf("got %s %+v, want an error with %q", got, err, want)
			case !fails && (err != nil || !strings.HasPrefix(got, `{"data":`+want+`,"count":`)):
				t.Errorf("got %v %s\nwant %s", err, got, want)
			}
		})
	}
}

func TestFilterCombinations(t *testing.T) {
	const rows = `[{"a":1,"b":1},{"a":1},{"b":1},{}]`
	has := func(field string) string { return `{"field":"` + field + `","operator":"exists"}` }
	runOperations(t, "", []operationTest{
		{"all", `{"operation":"filter","all":[` + has("a") + `,` + has("b") + `]}`, rows, `[{"a":1,"b":1}]`},
		{"any", `{"operation":"filter","any":[` + has("a") + `,` + has("b") + `]}`, rows, `[{"a":1,"b":1},{"a":1},{"b":1}]`},
		{"not", `{"operation":"filter","not":` + has("a") + `}`, rows, `[{"b":1},{}]`},
		{"not not", `{"operation":"filter","not":{"not":` + has("a") + `}}`, rows, `[{"a":1,"b":1},{"a":1}]`},
		{"not any", `{"operation":"filter","not":{"any":[` + has("a") + `,` + has("b") + `]}}`, rows, `[{}]`},
		{"not all", `{"operation":"filter","not":{"all":[` + has("a") + `,` + has("b") + `]}}`, rows, `[{"a":1},{"b":1},{}]`},
		{"within", `{"operation":"filter","conditions":[` + has("a") + `,{"not":{"any":[` + has("b") + `,` + has("c") + `]}}]}`, rows, `[{"a":1}]`},
		{"fault within", `{"operation":"filter","not":{"any":[{"field":"a","operator":"regex","value":"x"}]}}`, rows, `!filter: row 0 field "a": is a number, not a string`},
	})
}

// TestMergeOfManyWithTheSameKey would not end if every row were merged with every other.
func TestMergeOfManyWithTheSameKey(t *testing.T) {
	rows := "[{\"k\":1}" + strings.Repeat(`,{"k":1}`, 50_000) + "]"
	got, err := run(t, `{"pipeline":[{"operation":"merge","with":"data","key":"k"},{"operation":"unique"}]}`, `{"data":`+rows+`}`)
	if err != nil || got != `{"data":[{"k":1}],"count":1}` {
		t.Errorf("%v %.200s", err, got)
	}
}

func TestReduce(t *testing.T) {
	const people = `[{"n":10,"s":"a","t":["x"],"o":{"k":1}},{"n":null},{"n":2.5,"s":"ü","t":["y",1],"o":{"k":2,"l":3}},{"s":"","t":[],"o":{}}]`
	reduce := func(reducer, options string) string {
		return `{"operation":"reduce","reducer":"` + reducer + `"` + options + `}`
	}
	runOperations(t, "", []operationTest{
		{"sum", reduce("sum", `,"field":"n"`), people, `12.5`},
		{"sum from", reduce("sum", `,"field":"n","initial":0.5`), people, `13`},
		{"sum of nothing", reduce("sum", `,"field":"n"`), `[]`, `0`},
		{"sum of rows", reduce("sum", ``), `[1,2,null,9007199254740992]`, `9007199254740995`},
		{"sum of a string", reduce("sum", `,"field":"s"`), people, `!reduce: row 0 field "s": is a string, not a number`},
		{"sum of a row", reduce("sum", ``), people, `!reduce: row 0: is an object, not a number`},
		{"product", reduce("product", `,"field":"n"`), people, `25`},
		{"product exact", reduce("product", ``), `[9007199254740993,512]`, `4611686018427388416`},
		{"product beyond 64 bits", reduce("product", ``), `[9007199254740993,1024,1024]`, `9.44473296573929e+21`},
		{"product just beyond 64 bits", reduce("product", ``), `[4611686018427387904,3]`, `13835058055282164000`},
		{"product of nothing", reduce("product", ``), `[]`, `1`},
		{"product from", reduce("product", `,"initial":-2`), `[3]`, `-6`},
		{"product too large", reduce("product", ``), `[1e200,1e200]`, `!row 1: makes the product larger`},
		{"min", reduce("min", `,"field":"n"`), people, `2.5`},
		{"max from", reduce("max", `,"field":"n","initial":11`), people, `11`},
		{"max of strings", reduce("max", `,"field":"s"`), people, `"ü"`},
		{"min of nothing", reduce("min", ``), `[]`, `null`},
		{"max of a mix", reduce("max", `,"field":"n","initial":"a"`), people, `!row 0 field "n": is a number, while`},
		{"count", reduce("count", ``), people, `4`},
		{"count of values", reduce("count", `,"field":"n"`), people, `2`},
		{"count from", reduce("count", `,"field":"n","initial":40`), people, `42`},
		{"count of rows from", reduce("count", `,"initial":-4`), people, `0`},
		{"concat strings", reduce("concat", `,"field":"s"`), people, `"aü"`},
		{"concat strings from", reduce("concat", `,"field":"s","initial":"> "`), people, `"> aü"`},
		{"concat arrays", reduce("concat", `,"field":"t"`), people, `["x","y",1]`},
		{"concat arrays from", reduce("concat", `,"field":"t","initial":[{ }]`), people, `[{ },"x","y",1]`},
		{"concat of nothing", reduce("concat", ``), `[]`, `null`},
		{"concat of nothing from", reduce("concat", `,"initial":[]`), `[]`, `[]`},
		{"concat of a number", reduce("concat", `,"field":"n"`), people, `!row 0 field "n": is a number, not a string or an array`},
		{"concat of a mix", reduce("concat", ``), `["a",["b"]]`, `!row 1: is an array, while what is before is a string`},
		{"join", reduce("join", `,"field":"n"`), people, `"10,2.5"`},
		{"join with", reduce("join", `,"field":"s","separator":"\"-"`), people, `"a\"-ü\"-"`},
		{"join from", reduce("join", `,"initial":"x"`), `[true,1.50]`, `"x,true,1.50"`},
		{"join of nothing", reduce("join", ``), `[]`, `""`},
		{"join of nothing from", reduce("join", `,"initial":"x"`), `[null]`, `"x"`},
		{"join of an object", reduce("join", `,"field":"o"`), people, `!row 0 field "o": is an object, not a string, a number or a boolean`},
		{"collect", reduce("collect", `,"field":"o.k"`), people, `[1,2]`},
		{"collect rows from", reduce("collect", `,"initial":[0]`), `[{"a": 1},null,2]`, `[0,{"a": 1},2]`},
		{"first", reduce("first", `,"field":"n"`), people, `10`},
		{"last is absent", reduce("last", `,"field":"n"`), people, `null`},
		{"last from", reduce("last", `,"field":"n","initial":7`), people, `7`},
		{"first of nothing", reduce("first", ``), `[]`, `null`},
		{"first row", reduce("first", ``), `[{"a": 1.0}]`, `{"a": 1.0}`},
		{"merge", reduce("merge", `,"field":"o"`), people, `{"k":2,"l":3}`},
		{"merge first", reduce("merge", `,"field":"o","onConflict":"first","initial":{"l":0}`), people, `{"l":0,"k":1}`},
		{"merge error", reduce("merge", `,"field":"o","onConflict":"error"`), people, `!row 2 field "k": has different values`},
		{"merge deep", reduce("merge", `,"deep":true`), `[{"a":{"b":1,"c":{"d":[1]}}},{"a":{"c":{"e":2},"b":2}},{"a":{"c":{"d":null}}}]`, `{"a":{"b":2,"c":{"d":null,"e":2}}}`},
		{"merge deep and then not", reduce("merge", `,"deep":true`), `[{"a":{"b":1}},{"a":{"c":1}},{"a":[1]},{"a":{"d":1}}]`, `{"a":{"d":1}}`},
		{"merge deep, objects end", reduce("merge", `,"deep":true`), `[{"a":{"b":1}},{"a":{"c":1}},{"a":"x"}]`, `{"a":"x"}`},
		{"merge of nothing", reduce("merge", ``), `[]`, `{}`},
		{"merge of a number", reduce("merge", ``), `[{},1]`, `!row 1: is a number, not an object`},
		{"row that has no fields", reduce("sum", `,"field":"n"`), `[{"n":1},1]`, `!row 1 field "n": the row is a number, not an object`},
	})
}

func TestFlatten(t *testing.T) {
	runOperations(t, "", []operationTest{
		{"one level", `{"operation":"flatten"}`, `[[1, 2],3,[],[[4]],{"a":[5]},null]`, `[1,2,3,[4],{"a":[5]},null]`},
		{"two levels", `{"operation":"flatten","depth":2}`, `[[1,[2,[3]]],[[[4]]]]`, `[1,2,[3],[4]]`},
		{"nothing", `{"operation":"flatten"}`, `[]`, `[]`},
		{"field to rows", `{"operation":"flatten","field":"t"}`, `[{"t": ["x",{"y": 1}] ,"n":1.0},{"n":2,"t":[]},{"n":3},{"t":null,"n":4}]`, `[{"t": "x" ,"n":1.0},{"t": {"y": 1} ,"n":1.0}]`},
		{"field to rows, all kept", `{"operation":"flatten","field":"t","empty":"keep"}`, `[{"t":["x"]},{"n":2,"t":[]},{"n":3},{"t":null,"n":4}]`, `[{"t":"x"},{"n":2,"t":null},{"n":3},{"t":null,"n":4}]`},
		{"nested field to rows", `{"operation":"flatten","field":"a.b[1].ü"}`, `[{"z":0,"a":{"b":[0,{"ü":[1,2]},3]}}]`, `[{"z":0,"a":{"b":[0,{"ü":1},3]}},{"z":0,"a":{"b":[0,{"ü":2},3]}}]`},
		{"key that looks like a path", `{"operation":"flatten","field":"a.b"}`, `[{"a":{"b":[0]},"a.b":[1,2]}]`, `[{"a":{"b":[0]},"a.b":1},{"a":{"b":[0]},"a.b":2}]`},
		{"the whole row as a field", `{"operation":"flatten","field":"."}`, `[[1,2],[[3]]]`, `[1,2,[3]]`},
		{"field to elements", `{"operation":"flatten","field":"t","into":"elements"}`, `[{"t":[1,[2]]},{"t":[]},{},{"t":[{"a":1}]}]`, `[1,[2],{"a":1}]`},
		{"field to elements, all kept", `{"operation":"flatten","field":"t","into":"elements","empty":"keep","depth":2}`, `[{"t":[1,[2]]},{"t":[[]]},{}]`, `[1,2,null,null]`},
		{"array in place", `{"operation":"flatten","field":"t","into":"array"}`, `[{"t":[[1],2,[[3]]],"n":1},{"n": 2},{"t":null},{"t":[]}]`, `[{"t":[1,2,[3]],"n":1},{"n": 2},{"t":null},{"t":[]}]`},
		{"array in place, deeper", `{"operation":"flatten","field":"t","into":"array","depth":64}`, `[{"t":[[1],2,[[3]]]}]`, `[{"t":[1,2,3]}]`},
		{"field of a number", `{"operation":"flatten","field":"t"}`, `[{"t":[]},{"t":1}]`, `!flatten: row 1 field "t": is a number, not an array`},
		{"field of no object", `{"operation":"flatten","field":"t"}`, `["x"]`, `!row 0 field "t": the row is a string, not an object`},
		{"objects", `{"operation":"flatten","mode":"objects"}`, `[{"a":{"b":{"c":1.0},"d":[{"e":1}],"f":{}},"g":null},{}]`, `[{"a.b.c":1.0,"a.d":[{"e":1}],"a.f":{},"g":null},{}]`},
		{"objects, one level", `{"operation":"flatten","mode":"objects","depth":1,"separator":"_"}`, `[{"a":{"b":{"c":1}}}]`, `[{"a_b":{"c":1}}]`},
		{"objects with escapes", `{"operation":"flatten","mode":"objects","separator":"\""}`, `[{"ä\"":{"\u0062\n":1}}]`, `[{"ä\"\"\u0062\n":1}]`},
		{"objects in a field", `{"operation":"flatten","mode":"objects","field":"a.b"}`, `[{"a":{"b":{"c":{"d":1},"e":2}, "x":{"y":1}}},{"a":1},{"a":{"b":null}}]`, `[{"a":{"b":{"c.d":1,"e":2}, "x":{"y":1}}},{"a":1},{"a":{"b":null}}]`},
		{"objects that collide", `{"operation":"flatten","mode":"objects"}`, `[{},{"a.b":1,"a":{"b":2}}]`, `!row 1 field "a.b": stands twice once the objects are flattened`},
		{"objects that collide by an escape", `{"operation":"flatten","mode":"objects","separator":"\""}`, `[{"a\"b":1,"a":{"b":2}}]`, `!stands twice`},
		{"objects of a row that is none", `{"operation":"flatten","mode":"objects"}`, `[[1]]`, `!row 0: the row is an array, not an object`},
		{"objects of a field that is none", `{"operation":"flatten","mode":"objects","field":"a"}`, `[{"a":[1]}]`, `!row 0 field "a": is an array, not an object`},
	})
}

func TestUnique(t *testing.T) {
	runOperations(t, "", []operationTest{
		{"whole rows", `{"operation":"unique"}`, `[{"a":1,"b":[1]}, 1, {"b":[1.0],"a":10e-1},"1",1.0,null,[1],[2],null]`, `[{"a":1,"b":[1]},1,"1",null,[1],[2]]`},
		{"by a field", `{"operation":"unique","fields":["k"]}`, `[{"k":1,"n":1},{"k":2},{"k":1.0,"n":2},{},{"k":null},{"k":"1"}]`, `[{"k":1,"n":1},{"k":2},{},{"k":"1"}]`},
		{"the last", `{"operation":"unique","fields":["k"],"keep":"last"}`, `[{"k":1,"n":1},{"k":2},{"k":1,"n":2},{"k":3},{"k":1,"n":3}]`, `[{"k":2},{"k":3},{"k":1,"n":3}]`},
		{"by nested fields", `{"operation":"unique","fields":["a.ä","b[0]"]}`, `[{"a":{"ä":1},"b":[1]},{"a":{"ä":1,"x":0},"b":[1,2]},{"a":{"ä":1},"b":[]},{"a":{},"b":[1]}]`, `[{"a":{"ä":1},"b":[1]},{"a":{"ä":1},"b":[]},{"a":{},"b":[1]}]`},
		{"nothing", `{"operation":"unique"}`, `[]`, `[]`},
		{"a row without fields", `{"operation":"unique","fields":["k"]}`, `[{},1]`, `!unique: row 1 field "k": the row is a number, not an object`},
		{"too deep", `{"operation":"unique"}`, `[1,` + strings.Repeat("[", 99) + strings.Repeat("]", 99) + `]`, `!unique: row 1 field ".": is nested too deep to compare`},
	})
}

func TestOmit(t *testing.T) {
	runOperations(t, "", []operationTest{
		{"fields", `{"operation":"omit","fields":["a","z"]}`, `[{"a":1,"b":2.0},{"b": 1},{"c":{"a":1},"a":null}]`, `[{"b":2.0},{"b": 1},{"c":{"a":1}}]`},
		{"nested fields", `{"operation":"omit","fields":["a.b","c.d.e","c.d.ü"]}`, `[{"a":{"b":1,"x":2},"c":{"d":{"e":1,"ü":{}}}},{"a":[{"b":1}],"c":1},{}]`, `[{"a":{"x":2},"c":{"d":{}}},{"a":[{"b":1}],"c":1},{}]`},
		{"a dotted key first", `{"operation":"omit","fields":["a.b"]}`, `[{"a.b":1,"a":{"b":2}},{"a":{"b":2}}]`, `[{"a":{"b":2}},{"a":{}}]`},
		{"whole and part", `{"operation":"omit","fields":["a.b","a"]}`, `[{"a":{"b":1},"c":1}]`, `[{"c":1}]`},
		{"rows without them stay as they are", `{"operation":"omit","fields":["a.b"]}`, `[{ "a" : { "c" : 1e0 } }]`, `[{ "a" : { "c" : 1e0 } }]`},
		{"nothing", `{"operation":"omit","fields":["a"]}`, `[]`, `[]`},
		{"no object", `{"operation":"omit","fields":["a"]}`, `[{},[1]]`, `!omit: row 1: the row is an array, not an object`},
	})
}

func TestMerge(t *testing.T) {
	const o = `"o":[{"id":2,"x":"b","d":{"p":1}},{"id":3,"x":"c"},{"id":2.0,"y":1,"d":{"q":2}},{"x":"none"}],`
	const rows = `[{"id":1, "x":"a"},{"id":2,"x":"old","d":{"p":0,"r":9}},{"x":"z"}]`
	merge := func(options string) string { return `{"operation":"merge","with":"o"` + options + `}` }
	runOperations(t, o, []operationTest{
		{
			"by place", merge(``), rows,
			`[{"id":2,"x":"b","d":{"p":1}},{"id":3,"x":"c","d":{"p":0,"r":9}},{"x":"z","id":2.0,"y":1,"d":{"q":2}},{"x":"none"}]`,
		},
		{"by place, left", merge(`,"type":"left"`), `[{"n":1}]`, `[{"n":1,"id":2,"x":"b","d":{"p":1}}]`},
		{"by place, all left", merge(`,"type":"left","onConflict":"first"`), `[{},{},{},{},{"a": 1}]`, `[{"id":2,"x":"b","d":{"p":1}},{"id":3,"x":"c"},{"id":2.0,"y":1,"d":{"q":2}},{"x":"none"},{"a": 1}]`},
		{"by place, inner", merge(`,"type":"inner","onConflict":"first"`), `[{"x":0},{},{},{},{"a": 1}]`, `[{"x":0,"id":2,"d":{"p":1}},{"id":3,"x":"c"},{"id":2.0,"y":1,"d":{"q":2}},{"x":"none"}]`},
		{
			"by key", merge(`,"key":"id"`), rows,
			`[{"id":1, "x":"a"},{"id":2.0,"x":"b","d":{"q":2},"y":1},{"x":"z"},{"id":3,"x":"c"},{"x":"none"}]`,
		},
		{"by key, deep", merge(`,"key":["id"],"deep":true,"type":"inner"`), rows, `[{"id":2.0,"x":"b","d":{"p":1,"r":9,"q":2},"y":1}]`},
		{"by key, the first wins", merge(`,"key":"id","deep":true,"onConflict":"first","type":"inner"`), rows, `[{"id":2,"x":"old","d":{"p":0,"r":9,"q":2},"y":1}]`},
		{"by key, right", merge(`,"key":"id","type":"right"`), `[]`, `[{"id":2.0,"x":"b","d":{"q":2},"y":1},{"id":3,"x":"c"},{"x":"none"}]`},
		{"by key, left", merge(`,"key":"id","type":"left"`), `[{"id":7}]`, `[{"id":7}]`},
		{"conflict", merge(`,"key":"id","onConflict":"error"`), `[{"id":3,"x":"c"},{"id":3,"x":"d"}]`, `!merge: row 1 field "x": has different values`},
		{"conflict among the others of a row", merge(`,"key":"id","onConflict":"error"`), rows, `!merge: row 0 of input.o field "d": has different values`},
		{"objects of the others are merged first", `{"operation":"merge","with":"o","key":"id","deep":true,"type":"inner"}`, `[{"id":2,"d":1}]`, `[{"id":2.0,"d":{"p":1,"q":2},"x":"b","y":1}]`},
		{"conflict within", merge(`,"key":"id","onConflict":"error","deep":true`), `[{"id":2,"d":{"p":2}}]`, `!row 0 field "d.p": has different values`},
		{"equal values are no conflict", merge(`,"key":"x","onConflict":"error"`), `[{"x":"c","id":3.0}]`, `[{"x":"c","id":3.0},{"id":2,"x":"b","d":{"p":1}},{"id":2.0,"y":1,"d":{"q":2}},{"x":"none"}]`},
		{"conflict among the others", merge(`,"key":"id","onConflict":"error"`), `[]`, `!row 0 of input.o field "d": has different values`},
		{"no object", merge(``), `[{},1]`, `!row 1: the row is a number, not an object`},
	})
	runOperations(t, `"n":3,"a":[1],`, []operationTest{
		{"another input that is absent", merge(``), `[]`, `!merge: the input has no "o"`},
		{"another input that is no array", `{"operation":"merge","with":"n"}`, `[]`, `!merge: input.n must be an array of rows, not a number`},
		{"another row that is no object", `{"operation":"merge","with":"a"}`, `[]`, `!row 0 of input.a: the row is a number, not an object`},
	})
	deep := strings.Repeat(`{"a":`, 70) + "1" + strings.Repeat("}", 70)
	runOperations(t, "", []operationTest{
		{"fields", `{"operation":"merge","fields":["a","b","c"]}`, `[{"a":{"x":1,"y":2},"b":{"y":3},"n":1},{"b":{"z":{ }},"c":null},{}]`, `[{"x":1,"y":3},{"z":{ }},{}]`},
		{"fields into one of them", `{"operation":"merge","fields":["a","b"],"into":"a","onConflict":"first"}`, `[{"a":{"x":1},"n": 1,"b":{"x":2,"y":3}}]`, `[{"a":{"x":1,"y":3},"n":1,"b":{"x":2,"y":3}}]`},
		{"fields into a new one", `{"operation":"merge","fields":["a","b.c"],"into":"ä\"","deep":true}`, `[{"a":{"o":{"x":1}},"b":{"c":{"o":{"y":2}}}}]`, `[{"a":{"o":{"x":1}},"b":{"c":{"o":{"y":2}}},"ä\"":{"o":{"x":1,"y":2}}}]`},
		{"the row and a field", `{"operation":"merge","fields":[".","a"]}`, `[{"n":1,"a":{"x":1}}]`, `[{"n":1,"a":{"x":1},"x":1}]`},
		{"a key twice", `{"operation":"merge","fields":["a","b"]}`, `[{"a":{"x":1,"x":2},"b":{"y":1}}]`, `[{"x":1,"y":1}]`},
		{"field that is none", `{"operation":"merge","fields":["a"]}`, `[{"a":{}},{"a":[]}]`, `!row 1 field "a": is an array, not an object`},
		{"conflict", `{"operation":"merge","fields":["a","b"],"onConflict":"error","deep":true}`, `[{"a":{"x":{"y":1}},"b":{"x":2}}]`, `!row 0 field "x": has different values`},
		{"into no object", `{"operation":"merge","fields":["."],"into":"x"}`, `[null]`, `!row 0: the row is null, not an object`},
		{"too deep", `{"operation":"merge","fields":["a","b"],"deep":true}`, `[{"a":` + deep + `,"b":` + deep + `}]`, `!is nested too deep`},
		{"nothing", `{"operation":"merge","fields":["a"]}`, `[]`, `[]`},
	})
}

func TestTransform(t *testing.T) {
	shape := func(s string) string { return `{"operation":"transform","fields":{"v":` + s + `}}` }
	convert := func(c string) string { return shape(`{"field":"a","convert":[` + c + `]}`) }
	v := func(s string) string { return `[{"v":` + s + `}]` }
	a := func(s string) string { return `[{"a":` + s + `}]` }
	runOperations(t, "", []operationTest{
		{"path", shape(`"a.b[1]"`), `[{"a":{"b":[0,1.50]}},{"a":{}}]`, `[{"v":1.50},{"v":null}]`},
		{"constant", shape(`{"value":{"x": 1e0}}`), `[{},1]`, `[{"v":{"x": 1e0}},{"v":{"x": 1e0}}]`},
		{"null", shape(`{"value":null}`), a(`1`), v(`null`)},
		{"keep", `{"operation":"transform","keep":true,"fields":{"a":{"field":"a","convert":["upper"]},"ü":"b"}}`, `[{"b": 1,"a":"x"}]`, `[{"b":1,"a":"X","ü":1}]`},
		{"coalesce", shape(`{"coalesce":["x","a",{"value":0}]}`), `[{"x":null,"a":false},{"a":1,"x":2},{}]`, `[{"v":false},{"v":2},{"v":0}]`},
		{"coalesce of nothing", shape(`{"coalesce":["x"]}`), a(`1`), v(`null`)},
		{"concat", shape(`{"concat":["a",{"value":"/"},"b","c"]}`), `[{"a":"ä\"","b":1.0,"c":true},{"b":null}]`, `[{"v":"ä\"/1.0true"},{"v":"/"}]`},
		{"concat with", shape(`{"concat":["a","b","c"],"separator":", "}`), `[{"a":"x","c":"y"},{"a":"","c":""},{}]`, `[{"v":"x, y"},{"v":", "},{"v":""}]`},
		{"concat of an object", shape(`{"concat":["b","a"]}`), `[{"a":{}}]`, `!transform: row 0 field "a": is an object, which can be no part of a text`},
		{"object", shape(`{"object":{"x":"a","y":{"object":{"z":{"value":1}}},"e":{"object":{}}}}`), a(`"q"`), v(`{"x":"q","y":{"z":1},"e":{}}`)},
		{
			"cases", shape(`{"cases":[{"when":{"field":"a","operator":"gt","value":10},"then":{"value":"high"}},{"when":{"field":"a","operator":"exists"},"then":"a"}],"else":{"value":"none"}}`),
			`[{"a":11},{"a":10},{}]`, `[{"v":"high"},{"v":10},{"v":"none"}]`,
		},
		{"no case", shape(`{"cases":[{"when":{"field":"a","operator":"eq","value":1},"then":"a"}]}`), a(`2`), v(`null`)},
		{"case that can not be decided", shape(`{"cases":[{"when":{"field":"a","operator":"gt","value":1},"then":"a"}]}`), `[{},{"a":"x"}]`, `!row 1 field "a": is a string, which gt can not compare`},
		{"conversion of what is made, in vain", shape(`{"concat":["a"],"convert":["number"]}`), a(`"x"`), `!row 0 field "v": is a string that is no number`},
		{"conversion of what is made", shape(`{"concat":["a","b"],"convert":["trim","number",{"round":1}]}`), `[{"a":" 1","b":".25 "}]`, v(`1.3`)},
		{"rows without fields", shape(`"a"`), `[{},[]]`, `[{"v":null},{"v":null}]`},
		{"rows that are no objects", shape(`"a"`), `[{},1]`, `!row 1 field "a": the row is a number, not an object`},
		{"nothing", shape(`"a"`), `[]`, `[]`},

		{"null stays null", convert(`"string","number","boolean","upper","lower","trim","round","length",{"split":","},{"join":","},{"date":{}},{"lookup":{"table":{"null":1}}}`), a(`null`), v(`null`)},
		{"string of a number", convert(`"string"`), a(`1.50`), v(`"1.50"`)},
		{"string of an object", convert(`"string"`), a(`{"x": "y"}`), v(`"{\"x\": \"y\"}"`)},
		{"string", convert(`"string"`), a(`"\u00e4"`), v(`"\u00e4"`)},
		{"number of a string", convert(`"number"`), a(`" -1.50e3\n"`), v(`-1.50e3`)},
		{"number of a long string", convert(`"number"`), a(`"12345678901234567890.5"`), v(`12345678901234567890.5`)},
		{"number of a boolean", convert(`"number"`), a(`true`), v(`1`)},
		{"number of no number", convert(`"number"`), a(`"12a"`), `!transform: row 0 field "a": is a string that is no number, which number can not convert`},
		{"number of hex", convert(`"number"`), a(`"0x1f"`), `!is a string that is no number`},
		{"number of nothing", convert(`"number"`), a(`""`), `!is a string that is no number`},
		{"number of an array", convert(`"number"`), a(`[1]`), `!row 0 field "a": is an array, which number can not convert`},
		{"boolean of strings", `{"operation":"transform","fields":{"x":{"field":"x","convert":["boolean"]},"y":{"field":"y","convert":["boolean"]}}}`, `[{"x":" YES","y":"off"},{"x":1,"y":0},{"x":true,"y":"false"}]`, `[{"x":true,"y":false},{"x":true,"y":false},{"x":true,"y":false}]`},
		{"boolean of else", convert(`"boolean"`), a(`2`), `!is a number that is neither true nor false`},
		{"boolean of an object", convert(`"boolean"`), a(`{}`), `!is an object, which boolean`},
		{"upper", convert(`"upper"`), a(`"éa ä"`), v(`"ÉA Ä"`)},
		{"lower", convert(`"lower"`), a(`"ÄB"`), v(`"äb"`)},
		{"trim", convert(`"trim"`), a(`"\t a b\u00a0\n"`), v(`"a b"`)},
		{"upper of a number", convert(`"upper"`), a(`1`), `!row 0 field "a": is a number, which upper can not convert`},
		{"length", `{"operation":"transform","fields":{"s":{"field":"s","convert":["length"]},"l":{"field":"l","convert":["length"]},"o":{"field":"o","convert":["length"]}}}`, `[{"s":"äö","l":[1,[2,3]],"o":{"a":1}},{"s":"","l":[],"o":{}}]`, `[{"s":2,"l":2,"o":1},{"s":0,"l":0,"o":0}]`},
		{"length of a number", convert(`"length"`), a(`12`), `!is a number, which length`},
		{"split", convert(`{"split":", "}`), a(`"x, \"y, "`), v(`["x","\"y",""]`)},
		{"split of nothing", convert(`{"split":","}`), a(`""`), v(`[""]`)},
		{"split of an array", convert(`{"split":","}`), a(`[]`), `!is an array, which split`},
		{"join", convert(`{"join":"-"}`), a(`["x",1.0,null,true,""]`), v(`"x-1.0-true-"`)},
		{"join of nothing", convert(`{"join":"-"}`), a(`[]`), v(`""`)},
		{"join of objects", convert(`{"join":"-"}`), a(`[{}]`), `!has an object in it, which join`},
		{"default", convert(`{"default":"none"},"upper"`), `[{"a":null},{},{"a":"x"}]`, `[{"v":"NONE"},{"v":"NONE"},{"v":"X"}]`},
		{"lookup", convert(`{"lookup":{"table":{"de":"Germany","1":{"x":1},"true":null}}},{"default":"?"}`), `[{"a":"de"},{"a":1.0},{"a":true},{"a":"fr"},{"a":"1"}]`, `[{"v":"Germany"},{"v":{"x":1}},{"v":"?"},{"v":"?"},{"v":{"x":1}}]`},
		{"lookup of else", convert(`{"lookup":{"table":{},"otherwise":"other"}}`), a(`"x"`), v(`"other"`)},
		{"lookup of an array", convert(`{"lookup":{"table":{}}}`), a(`[]`), `!is an array, which lookup`},
		{"date", convert(`{"date":{"to":"dd.MM.yyyy HH:mm","zone":"Europe/Berlin"}}`), `[{"a":"2026-07-01T12:00:00Z"},{"a":"2026-01-01T12:00:00"},{"a":"2026-01-01"}]`, `[{"v":"01.07.2026 14:00"},{"v":"01.01.2026 12:00"},{"v":"01.01.2026 00:00"}]`},
		{"date to seconds", convert(`{"date":{"from":"MM/dd/yyyy","to":"unix"}}`), a(`"03/05/2026"`), v(`1772668800`)},
		{"date from milliseconds", convert(`{"date":{"from":"unixMs"}}`), a(`1772668800123`), v(`"2026-03-05T00:00:00.123Z"`)},
		{"date of no date", convert(`{"date":{}}`), a(`"soon"`), `!row 0 field "a": is a string that is no date as from says, which date can not convert`},
		{"date of another type", convert(`{"date":{"from":"unix"}}`), a(`"1"`), `!row 0 field "a": is a string, which date`},
		{"date beyond all years", convert(`{"date":{"from":"unix"}}`), a(`1e15`), `!is a number that is no date`},
		{"date that leaves the years", convert(`{"date":{"zone":"Asia/Tokyo"}}`), a(`"9999-12-31T23:59:59Z"`), `!is a date beyond the years 0 to 9999`},
	})
}

func TestRound(t *testing.T) {
	for _, c := range []struct {
		number string
		digits int
		want   string
	}{
		{"2.5", 0, "3"},
		{"-2.5", 0, "-3"},
		{"2.4999", 0, "2"},
		{"0.5", 0, "1"},
		{"0.49", 0, "0"},
		{"-0.4", 0, "0"},
		{"7", 0, "7"},
		{"7.0", 0, "7.0"},
		{"1.005", 2, "1.01"},
		{"2.675", 2, "2.68"},
		{"1.50", 1, "1.50"},
		{"1.25", 1, "1.3"},
		{"1.04", 1, "1"},
		{"99.995", 2, "100"},
		{"9.99", 1, "10"},
		{"0.0056", 2, "0.01"},
		{"0.0046", 2, "0"},
		{"0.00001", 2, "0"},
		{"123e-5", 4, "0.0012"},
		{"1e400", 2, "1e400"},
		{"1e-400", 15, "0"},
		{"12345678901234567890.55", 1, "12345678901234567890.6"},
		{"-0.0", 3, "-0.0"},
		{"1e2", 1, "1e2"},
		{"0.999999999999999999", 15, "1"},
	} {
		got, err := run(t, fmt.Sprintf(`{"operation":"transform","fields":{"v":{"field":".","convert":[{"round":%d}]}}}`, c.digits), `{"data":[`+c.number+`]}`)
		if want := `{"data":[{"v":` + c.want + `}],"count":1}`; err != nil || got != want {
			t.Errorf("%s to %d digits: %v %s, want %s", c.number, c.digits, err, got, c.want)
		}
	}
	_, err := run(t, `{"operation":"transform","fields":{"v":{"field":".","convert":["round"]}}}`, `{"data":["1"]}`)
	if err == nil || !strings.Contains(err.Message, "is a string, which round") {
		t.Errorf("%v", err)
	}
}

func TestOneValueAmongOperations(t *testing.T) {
	runOperations(t, "", []operationTest{
		{"an aggregate goes on as a row", `{"pipeline":[{"operation":"aggregate","aggregations":{"m":{"function":"avg","field":"."}}},{"operation":"transform","fields":{"m":{"field":"m","convert":[{"round":1}]}}}]}`, `[1,2,2]`, `[{"m":1.7}]`},
		{"a reduced array opens to rows", `{"pipeline":[{"operation":"reduce","reducer":"collect","field":"t"},{"operation":"flatten","depth":2},{"operation":"unique"}]}`, `[{"t":["a","b"]},{"t":["a"]}]`, `["a","b"]`},
		{"a reduced null", `{"pipeline":[{"operation":"filter","field":"a","operator":"exists"},{"operation":"reduce","reducer":"max","field":"a"}]}`, `[]`, `null`},
	})
}

// large are rows of about 40 bytes, as many as a step's input has room for.
func large(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `%s{"id":%d,"s":"k%d","t":[1,2]}`, "[,"[min(i, 1):min(i, 1)+1], i, i%1000)
	}
	return b.String() + "]"
}

func TestManyRows(t *testing.T) {
	const n = 100_000
	rows := large(n)
	for _, tt := range []struct{ config, inputs, want string }{
		{
			`{"pipeline":[
				{"operation":"filter","not":{"field":"id","operator":"lt","value":10}},
				{"operation":"map","keep":true,"fields":{"x":"s"}},
				{"operation":"transform","fields":{"x":{"field":"x","convert":["upper"]},"id":"id","t":"t"}},
				{"operation":"omit","fields":["id"]},
				{"operation":"flatten","field":"t"},
				{"operation":"unique"},
				{"operation":"reduce","reducer":"count"}]}`, `"data":` + rows, `{"data":2000,"count":1}`,
		},
		{
			`{"pipeline":[
				{"operation":"sort","sort":[{"field":"s"},{"field":"id","direction":"desc"}]},
				{"operation":"pick","fields":["s","id"]},
				{"operation":"group","groupBy":"s","items":false,"aggregations":{"n":{"function":"sum","field":"id"}}},
				{"operation":"aggregate","aggregations":{"groups":{"function":"count"},"first":{"function":"first","field":"key"},"n":{"function":"sum","field":"n"}}}]}`,
			`"data":` + rows, `{"data":{"groups":1000,"first":"k0","n":4999950000},"count":1}`,
		},
		{
			`{"pipeline":[
				{"operation":"merge","with":"o","key":"id","deep":true},
				{"operation":"join","with":"o","leftKey":"id","rightKey":"id"},
				{"operation":"flatten","mode":"objects"},
				{"operation":"reduce","reducer":"merge"}]}`, `"data":` + rows + `,"o":` + rows,
			`{"data":{"id":99999,"s":"k999","t":[1,2],"right_id":99999,"right_s":"k999","right_t":[1,2]},"count":1}`,
		},
	} {
		got, err := run(t, tt.config, `{`+tt.inputs+`}`)
		if err != nil || got != tt.want {
			t.Errorf("%s: %v %.300s, want %s", tt.config, err, got, tt.want)
		}
	}
}

// TestWorkIsBounded runs what would make far more than is allowed, or never end.
func TestWorkIsBounded(t *testing.T) {
	text := strings.Repeat("x", 1<<20)
	many := `["` + text + `"` + strings.Repeat(`,"x"`, 200) + `]`
	parts := strings.Repeat(`"a",`, 99) + `"a"`
	inner := `{"concat":[` + parts + `]}`
	for name, c := range map[string]struct{ config, input string }{
		"a text of texts":           {`{"operation":"transform","fields":{"v":{"concat":[` + parts + `]}}}`, `{"data":[{"a":"` + text + `"}]}`},
		"texts within":              {`{"operation":"transform","fields":{"v":{"coalesce":[{"concat":[` + inner + `,` + inner + `]}]}}}`, `{"data":[{"a":"` + text + `"}]}`},
		"many fields of the same":   {`{"operation":"transform","fields":{"v":{"object":{` + fields(99) + `}}}}`, `{"data":[{"a":"` + text + `"}]}`},
		"many conversions":          {`{"operation":"transform","fields":{"v":{"field":"a","convert":["upper"` + strings.Repeat(`,"lower","upper"`, 40) + `]}}}`, `{"data":[{"a":"` + text + `"}]}`},
		"a row for each element":    {`{"operation":"flatten","field":"t"}`, `{"data":[{"a":"` + text + `","t":` + many + `}]}`},
		"the same part in all rows": {`{"operation":"merge","with":"o","key":"k"}`, `{"data":[{"k":1}` + strings.Repeat(`,{"k":1}`, 200) + `],"o":[{"k":1,"a":"` + text + `"}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New().Run(context.Background(), executor.Task{Config: json.RawMessage(c.config), Input: json.RawMessage(c.input)})
			var fault *runner.StepError
			if !errors.As(err, &fault) || fault.Code != runner.CodeOutputLimit || fault.Retryable {
				t.Errorf("got %.200v", err)
			}
		})
	}
}

func fields(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`"f%d":"a"`, i)
	}
	return strings.Join(list, ",")
}

func TestOperationsEndWithTheirContext(t *testing.T) {
	rows := large(10_000)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, config := range []string{
		`{"operation":"filter","field":"id","operator":"gt","value":1}`,
		`{"operation":"map","fields":{"a":"id"}}`,
		`{"operation":"reduce","reducer":"collect"}`,
		`{"operation":"reduce","reducer":"merge"}`,
		`{"operation":"sort","sort":[{"field":"id"}]}`,
		`{"operation":"group","groupBy":"s"}`,
		`{"operation":"flatten"}`,
		`{"operation":"flatten","field":"t"}`,
		`{"operation":"flatten","mode":"objects"}`,
		`{"operation":"unique"}`,
		`{"operation":"pick","fields":["s"]}`,
		`{"operation":"omit","fields":["s"]}`,
		`{"operation":"merge","with":"data"}`,
		`{"operation":"merge","fields":["x"]}`,
		`{"operation":"join","with":"data","leftKey":"id","rightKey":"id"}`,
		`{"operation":"aggregate","aggregations":{"a":{"function":"sum","field":"id"}}}`,
		`{"operation":"transform","fields":{"a":{"concat":[{"value":"x"}]}}}`,
		`{"operation":"transform","fields":{"a":{"cases":[{"when":{"field":"id","operator":"exists"},"then":"id"}]}}}`,
	} {
		_, err := New().Run(ctx, executor.Task{Config: json.RawMessage(config), Input: json.RawMessage(`{"data":` + rows + `}`)})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", config, err)
		}
	}
}
