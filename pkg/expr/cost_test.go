package expr_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"turbocat.io/pkg/expr"
	"turbocat.io/pkg/template"
)

// large gives JSON of about 1 MiB.
func large(item string) json.RawMessage {
	return json.RawMessage("[" + strings.Repeat(item+",", 1<<20/(len(item)+1)) + item + "]")
}

func keyed() json.RawMessage {
	var b strings.Builder
	for i := 1 << 20 / 9; i > 0; i-- {
		fmt.Fprintf(&b, `,"%d":1`, i*7919%1000003)
	}
	return json.RawMessage("{" + b.String()[1:] + "}")
}

// doubled gives an expression in which a value stands in itself 2 to the n times.
func doubled(n int, first, twice, use string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "let v0 = %s; ", first)
	for i := range n {
		fmt.Fprintf(&b, "let v%d = %s; ", i+1, strings.ReplaceAll(twice, "#", fmt.Sprintf("v%d", i)))
	}
	return b.String() + strings.ReplaceAll(use, "#", fmt.Sprintf("v%d", n))
}

// costly are expressions that try to take a processor or the memory.
func costly() map[string]string {
	return map[string]string{
		"nested loops":           `all(1..1000, all(1..1000, all(1..1000, true)))`,
		"a list again and again": `let x = 1..1000; all(x, all(x, all(x, all(x, # > 0))))`,
		"a huge range":           `1..9223372036854775807`,
		"ranges":                 `map(1..1000, 1..1000)`,
		"loops of input":         `all(numbers, all(numbers, # == 1))`,
		"count":                  `count(1..700, count(1..700, # == 1) == 1)`,
		"map":                    `map(1..1000, map(1..1000, ({"a": #})))`,
		"groups":                 `groupBy(1..300000, #)`,
		"groups of strings":      `groupBy(1..300000, string(#))`,
		"sort":                   `sort(map(1..300000, # * 7919 % 1000003))`,
		"sort strings":           `sort(split(repeat("b a c ", 100000), " "))`,
		"sort long strings":      `let s = repeat("x", 100000); sort(map(1..1000, s + string(#)))`,
		"uniq":                   `uniq(1..100000)`,
		"doubled string":         `reduce(1..60, #acc + #acc, "x")`,
		"doubled by let":         doubled(60, `"x"`, "# + #", "len(#)"),
		"doubled list":           `reduce(1..60, concat(#acc, #acc), [1])`,
		"doubled join":           `reduce(1..60, join([#acc, #acc], #acc), "x")`,
		"doubled replace":        `reduce(1..60, replace(#acc, "x", "xx"), "x")`,
		"repeat":                 `repeat("x", 1000000000)`,
		"repeat of repeat":       `repeat(repeat("xy", 1000), 100000)`,
		"shared flatten":         doubled(60, "[1]", "[#, #]", "flatten(#)"),
		"shared encoded":         doubled(60, "[1]", "[#, #]", "#"),
		"shared text":            doubled(60, "[1]", "[#, #]", "string(#)"),
		"shared equal":           doubled(60, "[1]", "[#, #]", "# == "+"[#, #][0]"),
		"shared max":             doubled(60, "[1]", "[#, #]", "max(#)"),
		"shared mean":            doubled(60, "[1]", "[#, #]", "mean(#)"),
		"shared objects":         doubled(60, "1", "{a: #, b: #}", "#"),
		"deep":                   `reduce(1..100000, [#acc])`,
		"deep equal":             `reduce(1..100000, [#acc]) == reduce(1..100000, [#acc])`,
		"regular expression":     `let s = repeat("a", 80); all(1..1000, not (s matches "(a?){100}a{100}b"))`,
		"regular expression 2":   `let s = repeat("ab", 100000); s matches "(x+x+)+y|(a|b|ab)*c{1,100}$"`,
		"one pass":               `let s = repeat("ab", 100000); all(1..1000, s matches "^[ab]+$")`,
		"search":                 `let s = repeat("a", 100000); all(1..1000, not (s contains repeat("a", 1000) + "b"))`,
		"search backwards":       `let s = repeat("a", 100000); all(1..1000, lastIndexOf(s, "b" + repeat("a", 1000)) < 0)`,
		"characters":             `let s = repeat("é", 100000); all(1..100000, s[#] == "é")`,
		"slices":                 `let s = repeat("é", 100000); all(1..100000, len(s[1:]) > 0)`,
		"upper":                  `let s = repeat("é", 100000); all(1..100000, upper(s) != s)`,
		"trim":                   `let s = repeat("aé", 100000); all(1..100000, trim(s, repeat("bcdefgé", 100) + "a") == "")`,
		"base64":                 `let s = repeat("a", 100000); all(1..100000, fromBase64(toBase64(s)) == s)`,
		"JSON":                   `let s = toJSON(1..10000); all(1..100000, len(fromJSON(s)) == 10000)`,
		"JSON of objects":        `let s = toJSON(map(1..10000, ({}))); all(1..100000, len(fromJSON(s)) == 10000)`,
		"objects":                `reduce(1..100000, ({a: #acc, b: 1, c: 2}))`,
		"pairs":                  `fromPairs(map(1..100000, [string(# * 7919 % 1000003), #]))`,
		"keys":                   `let o = fromPairs(map(1..1000, [string(#), #])); all(1..10000, len(keys(o)) + len(toPairs(o)) > 0)`,
		"in":                     `let x = 1..10000; all(x, # in x)`,
		"median":                 `let x = 1..10000; all(x, median(x) > 0)`,
		"splits":                 `let s = repeat("a,", 10000); all(1..10000, len(split(s, ",")) > 0)`,
		"reverse":                `let x = 1..10000; all(x, len(reverse(x)) > 0)`,
		"one-letter objects":     `objects`,
		"empty lists":            `lists`,
		"numbers":                `numbers`,
		"long numbers":           `floats`,
		"words":                  `map(words, upper(#))`,
		"keys in no order":       `keyed`,
		"escapes":                `escapes`,
		"all of them":            `[numbers, lists, words, objects, keyed, escapes, floats]`,
		"power":                  `all(1..100000, 1.0000001 ** 10000 > 0)`,
	}
}

// big gives 1 MiB for each of the names.
func big() expr.Lookup {
	values := map[string]json.RawMessage{
		"numbers": large("1"), "lists": large("[]"), "words": large(`"abc"`), "objects": large(`{"a":1}`),
		"keyed": keyed(), "escapes": large(`"\n\u00e9"`), "floats": large(`1.2345678901`),
	}
	return func(p template.Path) (json.RawMessage, bool) {
		v, ok := values[p.Root()]
		return v, ok
	}
}

// TestCost shows that nothing takes a processor or the memory for long. The bound is far above
// what is measured, some 10 to 60 ms each, because machines are busy and the race detector is slow.
func TestCost(t *testing.T) {
	lookup := big()
	for name, source := range costly() {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			e, err := expr.Compile(source)
			if err != nil {
				t.Fatal(err)
			}
			first, err := e.Evaluate(lookup)
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %s", took)
			}
			again, errAgain := e.Evaluate(lookup)
			if string(first) != string(again) || fmt.Sprint(err) != fmt.Sprint(errAgain) {
				t.Errorf("first %d bytes, %v; then %d bytes, %v", len(first), err, len(again), errAgain)
			}
		})
	}
}

// TestTooCostly shows what the steps refuse.
func TestTooCostly(t *testing.T) {
	for _, name := range []string{"nested loops", "a list again and again", "a huge range", "doubled string", "doubled list", "repeat", "shared flatten", "shared encoded", "shared equal", "regular expression 2", "uniq", "search", "trim"} {
		source := costly()[name]
		e, err := expr.Compile(source)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := e.Evaluate(nothing); err == nil || !strings.Contains(err.Error(), "too costly") {
			t.Errorf("%s: %v, want it to be too costly", name, err)
		}
	}
}

// TestSharedSource compiles sources of which the parser uses a part twice, again and again.
func TestSharedSource(t *testing.T) {
	for _, source := range []string{
		strings.Repeat("(", 100) + "a" + strings.Repeat("?:1)", 100),
		strings.Repeat("(a < ", 100) + "1" + strings.Repeat("< 2)", 100),
	} {
		if _, err := expr.Compile(source); err == nil || !strings.Contains(err.Error(), "more than 1000") {
			t.Errorf("Compile(%.20s...): %v", source, err)
		}
	}
}

// TestUsualSize reads a MiB of rows.
func TestUsualSize(t *testing.T) {
	rows := large(`{"id":12345,"name":"somebody","total":99.5,"tags":["a","b"],"active":true}`)
	e, err := expr.Compile(`len(filter(load.output.rows, .total > 50 and "a" in .tags and .name startsWith "some"))`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := e.Evaluate(func(template.Path) (json.RawMessage, bool) { return rows, true })
	if want := strconv.Itoa(strings.Count(string(rows), "id")); err != nil || string(got) != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
}
