package data

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

type row = map[string]any

// rows draws rows with few different keys, so that they meet.
func drawRows(t *rapid.T, name string) []row {
	value := rapid.OneOf(
		rapid.Map(rapid.IntRange(-3, 12), func(n int) any { return float64(n) }),
		rapid.Map(rapid.SampledFrom([]string{"", "a", "b", "10", "ä\n"}), func(s string) any { return s }),
		rapid.Just[any](nil),
	)
	n := rapid.IntRange(0, 25).Draw(t, name)
	rows := make([]row, n)
	for i := range rows {
		rows[i] = row{"i": float64(i)}
		for _, field := range []string{"k", "v"} {
			if rapid.IntRange(0, 5).Draw(t, "there") > 0 {
				rows[i][field] = value.Draw(t, field)
			}
		}
	}
	return rows
}

func check(t *rapid.T, tb *testing.T, config string, input row, want []row) {
	raw, _ := json.Marshal(input)
	out, stepError := run(tb, config, string(raw))
	var got struct {
		Data  []row
		Count int
	}
	if stepError != nil || json.Unmarshal([]byte(out), &got) != nil {
		t.Fatalf("%v %s", stepError, out)
	}
	if got.Count != len(want) || len(got.Data) != len(want) || len(want) > 0 && !reflect.DeepEqual(got.Data, want) {
		t.Fatalf("%s of %s\n got %s\nwant %v", config, raw, out, want)
	}
}

func naiveLess(a, b any, desc bool) bool {
	rank := func(v any) int {
		switch v.(type) {
		case float64:
			return 0
		case string:
			return 1
		}
		return 2
	}
	if rank(a) != rank(b) {
		return rank(a) < rank(b)
	}
	if desc {
		a, b = b, a
	}
	switch x := a.(type) {
	case float64:
		return x < b.(float64)
	case string:
		return x < b.(string)
	}
	return false
}

func TestSortMatchesInsertion(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		rows := drawRows(r, "rows")
		desc := rapid.Bool().Draw(r, "desc")
		direction := map[bool]string{false: "asc", true: "desc"}[desc]
		var want []row
		for _, x := range rows {
			at := len(want)
			for at > 0 && (naiveLess(x["k"], want[at-1]["k"], desc) ||
				!naiveLess(want[at-1]["k"], x["k"], desc) && naiveLess(x["v"], want[at-1]["v"], false)) {
				at--
			}
			want = slices.Insert(want, at, x)
		}
		check(r, t, fmt.Sprintf(`{"operation":"sort","sort":[{"field":"k","direction":%q},{"field":"v"}]}`, direction), row{"data": rows}, want)
	})
}

func TestGroupMatchesNaive(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		rows := drawRows(r, "rows")
		var want []row
		for _, x := range rows {
			at := slices.IndexFunc(want, func(g row) bool { return g["key"] == x["k"] })
			if at < 0 {
				at = len(want)
				want = append(want, row{"key": x["k"], "count": 0.0, "items": []any{}})
			}
			want[at]["count"] = want[at]["count"].(float64) + 1
			want[at]["items"] = append(want[at]["items"].([]any), any(x))
		}
		check(r, t, `{"operation":"group","groupBy":"k"}`, row{"data": rows}, want)
	})
}

func TestJoinMatchesNestedLoops(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		left, right := drawRows(r, "left"), drawRows(r, "right")
		kind := rapid.SampledFrom([]string{"inner", "left", "right", "full"}).Draw(r, "type")
		var want []row
		used := map[int]bool{}
		for _, x := range left {
			met := false
			for n, y := range right {
				if x["k"] == nil || x["k"] != y["v"] {
					continue
				}
				met, used[n] = true, true
				merged := row{}
				for name, v := range x {
					merged[name] = v
				}
				for name, v := range y {
					if _, both := x[name]; both {
						name = "right_" + name
					}
					merged[name] = v
				}
				want = append(want, merged)
			}
			if !met && strings.Contains("left full", kind) {
				want = append(want, x)
			}
		}
		for n, y := range right {
			if !used[n] && strings.Contains("right full", kind) {
				want = append(want, y)
			}
		}
		check(r, t, fmt.Sprintf(`{"operation":"join","type":%q,"with":"o","leftKey":"k","rightKey":"v"}`, kind), row{"data": left, "o": right}, want)
	})
}
