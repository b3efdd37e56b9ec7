package expr_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/expr-lang/expr/builtin"

	"turbocat.io/pkg/expr"
	"turbocat.io/pkg/template"
)

const document = `{
	"inputs": {"n": 20, "f": 1.5, "s": "héllo", "t": true, "z": null, "list": [3, 1, 2], "k": "b", "big": 9007199254740993, "o": {"b": 2, "a": 1}},
	"a": {"output": {"rows": [{"x": 1, "id": "p"}, {"x": 2, "id": "q"}, {"x": 3, "id": "p"}], "a-b": 7, "twice": 1, "twice": 2}},
	"b": {"huge": 1e400},
	"count": {"output": 5}
}`

func lookup(p template.Path) (json.RawMessage, bool) { return template.Walk([]byte(document), p) }

func nothing(template.Path) (json.RawMessage, bool) { return nil, false }

func compile(t *testing.T, source string) *expr.Expression {
	t.Helper()
	e, err := expr.Compile(source)
	if err != nil {
		t.Fatalf("Compile(%s): %v", source, err)
	}
	return e
}

func TestEvaluate(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{`nil`, `null`},
		{`inputs.n`, `20`},
		{`inputs`, `{"big":9007199254740993,"f":1.5,"k":"b","list":[3,1,2],"n":20,"o":{"a":1,"b":2},"s":"héllo","t":true,"z":null}`},
		{`"<&>\u2028" + "\n"`, `"<&>\u2028\n"`},
		{`"\377\xff\ud800"`, `"ÿÿ�"`},
		{`{b: 1, a: [], "c d": {}, b: 2}`, `{"a":[],"b":1,"c d":{}}`},
		{`{("a" + "b"): 1}`, `{"ab":1}`},

		// What is not there.
		{`a.output.x == nil`, `true`},
		{`a.output.x.y[3].z`, `null`},
		{`inputs.z`, `null`},
		{`let o = a.output; o.x.y[3].z`, `null`},
		{`inputs.n.x`, `null`},
		{`inputs.list["0"] ?? "none"`, `"none"`},
		{`a?.output?.nothing?.x ?? 5`, `5`},
		{`a.output.rows[5]`, `null`},
		{`a.output.rows[inputs.n]`, `null`},
		{`"x" in inputs.none`, `false`},
		{`inputs.none contains "x" or inputs.none matches "x"`, `false`},
		{`inputs.none[1:2]`, `null`},

		// Paths.
		{`a.output.rows[0].x`, `1`},
		{`a.output["a-b"]`, `7`},
		{`a["output"]["rows"][1]["id"]`, `"q"`},
		{`inputs.o[inputs.k]`, `2`},
		{`a.output.rows[-1].x`, `3`},
		{`inputs.list[1.0]`, `1`},
		{`inputs.list[0.5]`, `null`},
		{`a.output.twice`, `1`},
		{`let o = a.output.rows; len(o)`, `3`},
		{`fromJSON('{"twice":1,"twice":2}').twice`, `1`},
		{`count.output + count([true])`, `6`},
		{`let inputs = {n: 1}; inputs.n`, `1`},

		// Numbers.
		{`inputs.big`, `9007199254740993`},
		{`inputs.big + 1`, `9007199254740994`},
		{`inputs.big == 9007199254740992`, `false`},
		{`9223372036854775807`, `9223372036854775807`},
		{`-9223372036854775807 - 1`, `-9223372036854775808`},
		{`7 / 2`, `3.5`},
		{`6 / 2`, `3`},
		{`7 % 3`, `1`},
		{`-7 % 3`, `-1`},
		{`2 ** 10`, `1024`},
		{`2 ** -2`, `0.25`},
		{`0.1 + 0.2`, `0.30000000000000004`},
		{`1e21`, `1e+21`},
		{`1 == 1.0`, `true`},
		{`3 * 1.5`, `4.5`},
		{`+inputs.n - -1`, `21`},
		{`1 < 2 < 3`, `true`},
		{`0x10 + 0b11 + 1_000`, `1019`},

		// Text.
		{`inputs.s[1]`, `null`},
		{`let s = inputs.s; s[1]`, `null`},
		{`inputs.s[1:2]`, `"é"`},
		{`inputs.s[1:3]`, `"él"`},
		{`inputs.s[-2:]`, `"lo"`},
		{`inputs.s[3:1]`, `""`},
		{`"b" > "a"`, `true`},
		{`inputs.s matches "^h.llo$"`, `true`},
		{`inputs.s not contains "x"`, `true`},
		{`inputs.s startsWith "hé" and inputs.s endsWith "lo"`, `true`},

		// Lists.
		{`inputs.list[1:]`, `[1,2]`},
		{`inputs.list[:-1]`, `[3,1]`},
		{`inputs.list[5:9]`, `[]`},
		{`1..3`, `[1,2,3]`},
		{`3..1`, `[]`},
		{`2 in inputs.list and "a" in inputs.o and 4 not in inputs.list`, `true`},
		{`[1, [2.0]] == [1.0, [2]]`, `true`},
		{`{a: 1} == {a: 1, b: 2}`, `false`},

		// Flow.
		{`inputs.t ? 1 : 2`, `1`},
		{`inputs.t && !inputs.t || inputs.n > 3`, `true`},
		{`inputs.t or inputs.none`, `true`},
		{`if inputs.n > 3 { "big" } else { "small" }`, `"big"`},
		{`let x = 2; let y = x * 3; x + y`, `8`},
		{`1; 2`, `2`},
		{`inputs.f ?: 2`, ``},
		{`inputs.list | filter(# > 1) | map(# * 10)`, `[30,20]`},

		// Loops.
		{`filter(a.output.rows, .x > 1 && .id == "p")`, `[{"id":"p","x":3}]`},
		{`map(a.output.rows, ({i: #index, x: .x}))`, `[{"i":0,"x":1},{"i":1,"x":2},{"i":2,"x":3}]`},
		{`map([1, 2], let y = # * 2; map([10], # + y))`, `[[12],[14]]`},
		{`reduce(inputs.list, #acc * 10 + #)`, `312`},
		{`reduce([], #acc + #, "none")`, `"none"`},
		{`sortBy(a.output.rows, .id, "desc") | map(.x)`, `[2,1,3]`},
		{`groupBy(a.output.rows, .x % 2 == 0)`, `{"false":[{"id":"p","x":1},{"id":"p","x":3}],"true":[{"id":"q","x":2}]}`},
		{`all([], false) and none([], true)`, `true`},
		{`sum([])`, `0`},
	} {
		got, err := compile(t, c.source).Evaluate(lookup)
		if c.want == "" {
			if err == nil {
				t.Errorf("%s = %s, want an error", c.source, got)
			}
			continue
		}
		if err != nil || string(got) != c.want {
			t.Errorf("%s\n got %s, %v\nwant %s", c.source, got, err, c.want)
		}
	}
}

// functions has for every function one use with its value. %s stands for an object whose keys are in any order.
var functions = map[string]struct{ source, want string }{
	"all":           {`all(values(%s), # > 0)`, `true`},
	"none":          {`none(values(%s), # > 4)`, `true`},
	"any":           {`any(values(%s), # > 3)`, `true`},
	"one":           {`one(values(%s), # == 3)`, `true`},
	"filter":        {`filter(values(%s), # > 2)`, `[4,3]`},
	"map":           {`map(values(%s), # * 2)`, `[8,2,4,6]`},
	"find":          {`find(values(%s), # > 2)`, `4`},
	"findIndex":     {`findIndex(values(%s), # < 4)`, `1`},
	"findLast":      {`findLast(values(%s), # > 1)`, `3`},
	"findLastIndex": {`findLastIndex(values(%s), # > 9)`, `null`},
	"count":         {`count(values(%s), # > 1)`, `3`},
	"sum":           {`sum(values(%s), # + 0.5)`, `12`},
	"groupBy":       {`groupBy(values(%s), # % 2)`, `{"0":[4,2],"1":[1,3]}`},
	"sortBy":        {`sortBy(keys(%s), len(#))`, `["a","b","c","é"]`},
	"reduce":        {`reduce(keys(%s), #acc + #)`, `"abcé"`},
	"len":           {`[len(%s), len("é"), len([1])]`, `[4,1,1]`},
	"type":          {`[type(%s), type(1), type(1.0), type(nil), type(""), type([]), type(true)]`, `["map","int","float","nil","string","array","bool"]`},
	"abs":           {`[abs(-3), abs(-1.5)]`, `[3,1.5]`},
	"ceil":          {`[ceil(1.2), ceil(3), ceil(1e300)]`, `[2,3,1e+300]`},
	"floor":         {`floor(-1.2)`, `-2`},
	"round":         {`[round(2.5), round(-0.4)]`, `[3,0]`},
	"int":           {`[int("12"), int(1.9), int(-1.9)]`, `[12,1,-1]`},
	"float":         {`[float("1.5"), float(3)]`, `[1.5,3]`},
	"string":        {`[string(%s), string("x"), string(1.5), string(nil)]`, `["{\"a\":4,\"b\":1,\"c\":2,\"é\":3}","x","1.5","null"]`},
	"trim":          {`[trim(" a "), trim("xxaxx", "x")]`, `["a","a"]`},
	"trimPrefix":    {`[trimPrefix("abc", "a"), trimPrefix(" b")]`, `["bc","b"]`},
	"trimSuffix":    {`trimSuffix("abc", "c")`, `"ab"`},
	"upper":         {`upper("aé")`, `"AÉ"`},
	"lower":         {`lower("AÉ")`, `"aé"`},
	"split":         {`[split("a,b,c", ","), split("a,b,c", ",", 2), split("é", "")]`, `[["a","b","c"],["a","b,c"],["é"]]`},
	"splitAfter":    {`splitAfter("a,b", ",")`, `["a,","b"]`},
	"replace":       {`[replace("aaa", "a", "b"), replace("aaa", "a", "b", 2), replace("ab", "", "-")]`, `["bbb","bba","-a-b-"]`},
	"repeat":        {`[repeat("ab", 2), repeat("", 1000000000000)]`, `["abab",""]`},
	"join":          {`[join(keys(%s), "-"), join([])]`, `["a-b-c-é",""]`},
	"indexOf":       {`[indexOf("éab", "b"), indexOf("a", "x")]`, `[2,-1]`},
	"lastIndexOf":   {`lastIndexOf("éaéa", "a")`, `3`},
	"hasPrefix":     {`hasPrefix("ab", "a")`, `true`},
	"hasSuffix":     {`hasSuffix("ab", "b")`, `true`},
	"max":           {`[max(values(%s)), max(1, [2.5, [3]]), max([])]`, `[4,3,null]`},
	"min":           {`min(values(%s), 0.5)`, `0.5`},
	"mean":          {`[mean(values(%s)), mean([])]`, `[2.5,0]`},
	"median":        {`[median(values(%s)), median(3, 1, 2)]`, `[2.5,2]`},
	"toJSON":        {`toJSON(%s)`, `"{\"a\":4,\"b\":1,\"c\":2,\"é\":3}"`},
	"fromJSON":      {`fromJSON(" {\"z\": [1, 2.50], \"\\u0061\": null} ")`, `{"a":null,"z":[1,2.5]}`},
	"toBase64":      {`toBase64("é")`, `"w6k="`},
	"fromBase64":    {`fromBase64("w6k=")`, `"é"`},
	"first":         {`[first(keys(%s)), first([])]`, `["a",null]`},
	"last":          {`last(keys(%s))`, `"é"`},
	"get":           {`[get(%s, "c"), get([1, 2], 1), get(nil, "x")]`, `[2,2,null]`},
	"take":          {`[take(keys(%s), 2), take([1], 5)]`, `[["a","b"],[1]]`},
	"keys":          {`keys(%s)`, `["a","b","c","é"]`},
	"values":        {`values(%s)`, `[4,1,2,3]`},
	"toPairs":       {`toPairs(%s)`, `[["a",4],["b",1],["c",2],["é",3]]`},
	"fromPairs":     {`fromPairs(reverse(toPairs(%s)))`, `{"a":4,"b":1,"c":2,"é":3}`},
	"reverse":       {`reverse(keys(%s))`, `["é","c","b","a"]`},
	"uniq":          {`uniq([1, 1.0, "1", [1], [1]])`, `[1,"1",[1]]`},
	"concat":        {`concat(keys(%s), [1])`, `["a","b","c","é",1]`},
	"flatten":       {`flatten([1, [2, [3]], []])`, `[1,2,3]`},
	"sort":          {`[sort(values(%s)), sort(["b", "a"], "desc")]`, `[[1,2,3,4],["b","a"]]`},
	"bitand":        {`bitand(6, 3)`, `2`},
	"bitor":         {`bitor(6, 3)`, `7`},
	"bitxor":        {`bitxor(6, 3)`, `5`},
	"bitnand":       {`bitnand(6, 3)`, `4`},
	"bitnot":        {`bitnot(0)`, `-1`},
	"bitshl":        {`[bitshl(1, 4), bitshl(1, 64)]`, `[16,0]`},
	"bitshr":        {`bitshr(-16, 2)`, `-4`},
	"bitushr":       {`bitushr(-1, 60)`, `15`},
}

// TestFunctions evaluates every function of expr with keys in different orders, as often as shows a random order.
func TestFunctions(t *testing.T) {
	orders := []string{`{"a":4,"b":1,"c":2,"é":3}`, `{"é":3,"c":2,"b":1,"a":4}`, `{"c":2,"\u00e9":3,"a":4,"b":1,"a":9}`}
	for _, f := range builtin.Builtins {
		use, allowed := functions[f.Name]
		if !allowed {
			if _, err := expr.Compile(f.Name + "()"); err == nil || !strings.Contains(err.Error(), "not available: ") {
				t.Errorf("%s is neither tried nor refused: %v", f.Name, err)
			}
			continue
		}
		e := compile(t, strings.ReplaceAll(use.source, "%s", "o"))
		for i := range 20 {
			order := json.RawMessage(orders[i%len(orders)])
			got, err := e.Evaluate(func(template.Path) (json.RawMessage, bool) { return order, true })
			if err != nil || string(got) != use.want {
				t.Errorf("%s with o = %s\n got %s, %v\nwant %s", use.source, order, got, err, use.want)
				break
			}
		}
	}
}

func TestEvaluateErrors(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{`1 / 0`, "column 3: divides by zero"},
		{`1 % 0`, "divides by zero"},
		{`1e308 * 10`, "no finite number"},
		{`0.0 / inputs.none`, "/ wants two numbers, not a number and nil"},
		{`0 ** -1`, "no finite number"},
		{`2 ** 0.5`, "whole exponent"},
		{`9223372036854775807 + 1`, "more than 64 bits"},
		{`9223372036854775807 * 2`, "more than 64 bits"},
		{`-(-9223372036854775807 - 1)`, "more than 64 bits"},
		{`abs(-9223372036854775807 - 1)`, "more than 64 bits"},
		{`(-9223372036854775807 - 1) * -1`, "more than 64 bits"},
		{`0 - 9223372036854775807 - 2`, "more than 64 bits"},
		{`int(1e19)`, "more than 64 bits"},
		{`int("x")`, `cannot read "x" as an integer`},
		{`float("Inf")`, "no finite number"},
		{`inputs.n + "x"`, "column 10: + cannot join a number and a string; convert"},
		{`inputs.none + 1`, "not nil and a number"},
		{`inputs.none > 1`, "cannot compare nil with a number; give both a value with ??"},
		{`[1] < [2]`, "cannot compare a list with a list"},
		{`!inputs.none`, "! wants true or false, not nil; compare"},
		{`inputs.n ? 1 : 2`, "? wants true or false, not a number"},
		{`inputs.n and true`, "and wants true or false, not a number"},
		{`filter(inputs.none, true)`, "filter() wants a list, not nil; write x ?? []"},
		{`map(inputs.o, #)`, "not an object"},
		{`filter([1], #)`, "filter() wants true or false for every element, not a number"},
		{"\n  filter([1],\n # + nil)", "line 3, column 4: + wants two numbers"},
		{`reduce([], #acc + #)`, "no elements"},
		{`sortBy([1, "a"], #)`, "sortBy() cannot compare"},
		{`sort([1], "up")`, `sort() wants "asc" or "desc"`},
		{`sortBy([1], #, 1)`, `sortBy() wants "asc" or "desc"`},
		{`groupBy([nil], #)`, "groupBy() wants a string, number or boolean for every element, not nil"},
		{`1 in "1"`, "in wants a list or an object, not a string"},
		{`1 contains 1`, "contains wants two strings"},
		{`1 matches "a"`, "matches wants a string, not a number"},
		{`(5)[1:]`, "cannot slice a number"},
		{`[1]["a":]`, "whole numbers"},
		{`len(5)`, "len() wants a string, a list or an object, not a number"},
		{`upper(nil)`, "upper() wants a string, not nil"},
		{`repeat("x", -1)`, "repeat() wants no negative number"},
		{`take([1], -1)`, "take() wants no negative number"},
		{`bitshl(1, -1)`, "bitshl() wants no negative number"},
		{`bitand(1.5, 1)`, "bitand() wants a whole number"},
		{`max("a")`, "max() wants numbers, not a string"},
		{`fromJSON("{")`, "fromJSON() is no JSON"},
		{`fromJSON("1e999")`, "out of range"},
		{`fromBase64("/w==")`, "no text in base64"},
		{`fromPairs([1])`, "list of pairs"},
		{`keys(nil)`, "keys() wants an object, not nil"},
		{`{(1): 2}`, "a key wants a string, not a number"},
		{`b.huge`, "column 3: b.huge holds a number that is out of range"},
		{`reduce(1..2000, [#acc])`, "deeper than 1000 levels"},
		{`flatten(reduce(1..2000, [#acc]))`, "deeper than 1000 levels"},
	} {
		got, err := compile(t, c.source).Evaluate(lookup)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n got %s, %v\nwant %s", c.source, got, err, c.want)
			continue
		}
		checkText(t, c.source, err)
	}
}

// checkText wants errors that are one short line without words of Go.
func checkText(t *testing.T, source string, err error) {
	t.Helper()
	text := err.Error()
	if len(text) > 400 || strings.Contains(text, "\n") || strings.Contains(text, "interface {}") || strings.Contains(text, "reflect") || strings.Contains(text, "int64") {
		t.Errorf("%s: the error is %q", source, text)
	}
}

func TestCompileErrors(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{``, "is empty"},
		{" \n", "is empty"},
		{"\xff", "not UTF-8"},
		{`1 +`, "column 3: unexpected token EOF; correct the syntax"},
		{"1 +\n + + (", "line 2, column 6: unexpected token EOF"},
		{`a b`, "column 3: unexpected token"},
		{`"abc`, "correct the syntax"},
		{`a ?? b == c`, "cannot be mixed"},
		{`now()`, "column 1: now() is not available: there is no clock"},
		{`date("2020-01-01")`, "date() is not available"},
		{`duration("1h")`, "duration() is not available"},
		{`timezone("UTC")`, "timezone() is not available"},
		{`foo(1)`, `there is no function "foo"()`},
		{`inputs.foo(1)`, "a value has no methods"},
		{`$env`, "$env is not available"},
		{`$env.inputs`, "$env is not available"},
		{`b"abc"`, "no bytes in JSON"},
		{`len()`, "len() takes 1 arguments, not 0"},
		{`len(1, 2)`, "not 2"},
		{`max()`, "max() takes at least 1 arguments, not 0"},
		{`trim("a", "b", "c")`, "trim() takes 1 to 2 arguments"},
		{`#`, "correct the syntax"},
		{`filter([1], #acc)`, "there is no #acc here"},
		{`filter([1], #foo)`, "there is no #foo here"},
		{`inputs.s matches inputs.k`, "pattern as a constant"},
		{`inputs.s matches "["`, `the pattern "[" is no RE2 expression`},
		{`inputs.s matches "(a{500}){500}"`, "correct it"},
		{`inputs.s matches "` + strings.Repeat("a", 1001) + `"`, "too large"},
		{`99999999999999999999`, "correct the syntax"},
	} {
		_, err := expr.Compile(c.source)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Compile(%s)\n got %v\nwant %s", c.source, err, c.want)
			continue
		}
		checkText(t, c.source, err)
	}
}

func references(e *expr.Expression) string {
	var refs []string
	for _, r := range e.References() {
		refs = append(refs, r.Path.String())
	}
	return strings.Join(refs, " ")
}

func TestReferences(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{`1 + 2`, ""},
		{`a.output.rows[0].x > inputs.n`, "a.output.rows[0].x inputs.n"},
		{`a.output[inputs.k]`, "a.output inputs.k"},
		{`a.output[inputs.k].x[0]`, "a.output inputs.k"},
		{`a.output[a.output["x y"]]`, `a.output a.output["x y"]`},
		{`a.output + inputs.n + a.output`, "a.output inputs.n"},
		{`a["output"] + a.output`, "a.output"},
		{`a?.output?.["x"]?.y`, "a.output.x.y"},
		{`a.output[-1]`, "a.output"},
		{`a.output[1000000000]`, "a.output"},
		{`a.output[1:inputs.n].x`, "a.output inputs.n"},
		{`let x = a.output; x.y + y`, "a.output y"},
		{`let x = x.y; x`, "x.y"},
		{`(let x = 1; x) + x.y`, "x.y"},
		{`filter(a.output, .x > inputs.n and # != #index)`, "a.output inputs.n"},
		{`map(a.output, let x = #; x.y + z.y)`, "a.output z.y"},
		{`reduce(a, #acc + #.b, c)`, "a c"},
		{`{inputs: a.b, (k): 1}`, "a.b k"},
		{`inputs.t ? b : c`, "inputs.t b c"},
		{`1 < a < 3`, "a"},
		{`filter.output + count`, "filter.output count"},
		{`len(a.b) | max(c)`, "a.b c"},
		{`first(a).b`, "a"},
	} {
		if got := references(compile(t, c.source)); got != c.want {
			t.Errorf("%s reads %s, want %s", c.source, got, c.want)
		}
	}
}

func TestReferencesAreCopies(t *testing.T) {
	e := compile(t, `inputs.n`)
	e.References()[0].Path[0] = template.Key("other")
	if got := references(e); got != "inputs.n" {
		t.Errorf("reads %s", got)
	}
}

// TestLookup shows that what is needed is looked up, once, and nothing else.
func TestLookup(t *testing.T) {
	e := compile(t, `inputs.n > 1 ? inputs.n + len(map(1..3, a.output["a-b"])) : b.output`)
	var asked []string
	_, err := e.Evaluate(func(p template.Path) (json.RawMessage, bool) {
		asked = append(asked, p.String())
		return lookup(p)
	})
	if want := []string{"inputs.n", "a.output.a-b"}; err != nil || !slices.Equal(asked, want) {
		t.Errorf("asked for %q, %v", asked, err)
	}
}

// TestBadLookup shows that what is no JSON, and a panic, become errors.
func TestBadLookup(t *testing.T) {
	for _, raw := range []string{``, `{`, `[1,]`, `"\x"`, `nul`, `1 2`, `"` + "\x01" + `"`, strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)} {
		v, err := compile(t, `a`).Evaluate(func(template.Path) (json.RawMessage, bool) { return json.RawMessage(raw), true })
		if err == nil || !strings.Contains(err.Error(), "column 1: a is no JSON") {
			t.Errorf("%.20q gives %.20s, %v", raw, v, err)
		}
	}
	if _, err := compile(t, `a`).Holds(func(template.Path) (json.RawMessage, bool) { panic("x") }); err == nil {
		t.Error("a panic gives no error")
	}
}

func TestHolds(t *testing.T) {
	for _, c := range []struct {
		source string
		want   bool
		err    string
	}{
		{`inputs.n > 1`, true, ""},
		{`inputs.none == 1`, false, ""},
		{`inputs.n`, false, "is a number, not true or false"},
		{`inputs.none`, false, "is nil, not true or false"},
		{`inputs.s`, false, "is a string, not"},
		{`[]`, false, "is a list, not"},
		{`{}`, false, "is an object, not"},
		{`1 / 0 > 1`, false, "divides by zero"},
	} {
		got, err := compile(t, c.source).Holds(lookup)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s holds: %v, %v; want %v, %q", c.source, got, err, c.want, c.err)
		}
	}
}

func TestMaxLength(t *testing.T) {
	at := `"` + strings.Repeat("x", expr.MaxLength-2) + `"`
	compile(t, at)
	if _, err := expr.Compile(at + " "); err == nil || !strings.Contains(err.Error(), "4097 bytes long; at most 4096") {
		t.Errorf("above the limit: %v", err)
	}
}

func TestMaxNodes(t *testing.T) {
	list := func(n int) string { return "[" + strings.Repeat("1,", n) + "]" }
	compile(t, list(expr.MaxNodes-1))
	if _, err := expr.Compile(list(expr.MaxNodes)); err == nil || !strings.Contains(err.Error(), "more than 1000 names") {
		t.Errorf("above the limit: %v", err)
	}
	if _, err := expr.Compile("a" + strings.Repeat(".b", expr.MaxNodes/2)); err == nil || !strings.Contains(err.Error(), "more than 1000 names") {
		t.Errorf("a path above the limit: %v", err)
	}
}

func TestMaxReferences(t *testing.T) {
	list := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "a[%d],", i)
		}
		return "[" + b.String() + "]"
	}
	compile(t, list(expr.MaxReferences))
	if _, err := expr.Compile(list(expr.MaxReferences + 1)); err == nil || !strings.Contains(err.Error(), "more than 100 different paths") {
		t.Errorf("above the limit: %v", err)
	}
}

func TestMaxSteps(t *testing.T) {
	// A range of n elements takes 2 n steps, the comparison one, and each of seven nodes one.
	const most = (expr.MaxSteps - 8) / 2
	if holds, err := compile(t, fmt.Sprintf("len(1..%d) > +0", most)).Holds(nothing); err != nil || !holds {
		t.Errorf("at the limit: %v", err)
	}
	if _, err := compile(t, fmt.Sprintf("len(1..%d) > + +0", most)).Holds(nothing); err == nil || !strings.Contains(err.Error(), "too costly") {
		t.Errorf("above the limit: %v", err)
	}
}

func TestConcurrentUse(t *testing.T) {
	e := compile(t, `sum(map(a.output.rows, let y = .x; y * #index)) + reduce(inputs.list, #acc + #)`)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				if got, err := e.Evaluate(lookup); err != nil || string(got) != "14" {
					t.Errorf("got %s, %v", got, err)
					return
				}
			}
		})
	}
	all.Wait()
}

func BenchmarkHolds(b *testing.B) {
	e, err := expr.Compile(`inputs.f > 0.5 && inputs.k in ["a", "b"]`)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := e.Holds(lookup); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

func TestFiltersOverEvents(t *testing.T) {
	event := json.RawMessage(`{"specversion":"1.0","id":"1","type":"io.turbocat.execution.failed.v1","subject":"x","mine":"a","data":{"status":"FAILED","durationMs":12}}`)
	for source, want := range map[string]bool{
		`type startsWith "io.turbocat.execution." && data.durationMs > 10`: true,
		`data.status == "COMPLETED"`:                                       false,
		`mine == "a" && subject == "x"`:                                    true,
		`data.none == nil`:                                                 true,
	} {
		e, err := expr.CompileEvent(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if got, err := e.Holds(expr.OfEvent(event)); got != want || err != nil {
			t.Errorf("%s: %v, %v", source, got, err)
		}
	}
	for _, source := range []string{`event.type == "x"`, `inputs.n > 1`, `dataX.n == 1`, `type ==`} {
		if _, err := expr.CompileEvent(source); err == nil {
			t.Errorf("%s compiles", source)
		}
	}
}
