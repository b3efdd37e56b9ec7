package data

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// apply runs a config over inputs that must fit, and gives its data.
func apply(t *rapid.T, tb testing.TB, config string, input row) any {
	t.Helper()
	raw, err := json.Marshal(input)
	if err != nil {
		t.Fatal(err)
	}
	out, stepError := run(tb, config, string(raw))
	var got struct{ Data any }
	if stepError != nil || json.Unmarshal([]byte(out), &got) != nil {
		t.Fatalf("%s of %s: %v %s", config, raw, stepError, out)
	}
	return got.Data
}

func same(t *rapid.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

// value draws JSON of few names and values, so that they meet.
func value(depth int) *rapid.Generator[any] {
	kinds := []*rapid.Generator[any]{
		rapid.Map(rapid.SampledFrom([]any{nil, true, 0.0, 1.0, -2.5, "", "a", "ä\n"}), func(v any) any { return v }),
	}
	if depth > 0 {
		kinds = append(
			kinds,
			rapid.Map(rapid.SliceOfN(rapid.Deferred(func() *rapid.Generator[any] { return value(depth - 1) }), 0, 3), func(l []any) any { return l }),
			rapid.Map(objectOf(depth), func(o row) any { return o }),
		)
	}
	return rapid.OneOf(kinds...)
}

func objectOf(depth int) *rapid.Generator[row] {
	return rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "ü"}), rapid.Deferred(func() *rapid.Generator[any] { return value(depth - 1) }), 0, 3)
}

func objectRows(t *rapid.T, name string) []row {
	return rapid.SliceOfN(objectOf(3), 0, 8).Draw(t, name)
}

func anyRows(t *rapid.T, name string) []any { return rapid.SliceOfN(value(3), 0, 8).Draw(t, name) }

func TestUniqueLaws(t *testing.T) {
	const first, last = `{"operation":"unique"}`, `{"operation":"unique","keep":"last"}`
	rapid.Check(t, func(r *rapid.T) {
		rows := anyRows(r, "rows")
		want := []any{}
		for _, v := range rows {
			if !slices.ContainsFunc(want, func(w any) bool { return reflect.DeepEqual(v, w) }) {
				want = append(want, v)
			}
		}
		got := apply(r, t, first, row{"data": rows}).([]any)
		same(r, "the first", got, any(want))
		same(r, "twice", apply(r, t, first, row{"data": got}), any(got))
		slices.Reverse(rows)
		mirrored := apply(r, t, last, row{"data": rows}).([]any)
		slices.Reverse(mirrored)
		same(r, "the last of the reverse", mirrored, got)
	})
}

func TestPickAndOmitLaws(t *testing.T) {
	paths := []string{"a", "b", "a.b", "a.ü.b", "ü.a", "ü"}
	rapid.Check(t, func(r *rapid.T) {
		rows := objectRows(r, "rows")
		list, _ := json.Marshal(rapid.SliceOfNDistinct(rapid.SampledFrom(paths), 1, 4, rapid.ID[string]).Draw(r, "fields"))
		pick, omit := fmt.Sprintf(`{"operation":"pick","fields":%s}`, list), fmt.Sprintf(`{"operation":"omit","fields":%s}`, list)
		picked, left := apply(r, t, pick, row{"data": rows}), apply(r, t, omit, row{"data": rows})
		same(r, "pick twice", apply(r, t, pick, row{"data": picked}), picked)
		same(r, "omit twice", apply(r, t, omit, row{"data": left}), left)
		for _, v := range apply(r, t, pick, row{"data": left}).([]any) {
			same(r, "pick of what is left", v, any(row{}))
		}
		same(r, "both together", apply(r, t, `{"operation":"merge","with":"o","deep":true,"onConflict":"error"}`, row{"data": picked, "o": left}), plainJSON(rows))
	})
}

// plainJSON gives v as it comes out of JSON.
func plainJSON(v any) (out any) {
	raw, _ := json.Marshal(v)
	_ = json.Unmarshal(raw, &out)
	return out
}

func TestFlattenLaws(t *testing.T) {
	levels := func(n int) string { return fmt.Sprintf(`{"operation":"flatten","depth":%d}`, n) }
	rapid.Check(t, func(r *rapid.T) {
		rows, m, n := anyRows(r, "rows"), rapid.IntRange(1, 3).Draw(r, "m"), rapid.IntRange(1, 3).Draw(r, "n")
		twice := apply(r, t, levels(n), row{"data": apply(r, t, levels(m), row{"data": rows})})
		same(r, "levels add up", twice, apply(r, t, levels(m+n), row{"data": rows}))

		inField := make([]row, len(rows))
		for i, v := range rows {
			inField[i] = row{"v": []any{v}}
		}
		same(r, "a field to elements", apply(r, t, `{"operation":"flatten","field":"v","into":"elements"}`, row{"data": inField}), plainJSON(rows))
		wrapped := apply(r, t, `{"operation":"flatten","field":"v"}`, row{"data": inField})
		same(r, "a field to rows", apply(r, t, `{"pipeline":[{"operation":"reduce","reducer":"collect","field":"v"},{"operation":"flatten"}]}`, row{"data": wrapped}), any(withoutNull(rows)))
	})
	rapid.Check(t, func(r *rapid.T) {
		rows := objectRows(r, "rows")
		want := make([]any, len(rows))
		for i, o := range rows {
			flat := row{}
			flattened("", o, flat)
			want[i] = plainJSON(flat)
		}
		got := apply(r, t, `{"operation":"flatten","mode":"objects","separator":"/"}`, row{"data": rows})
		same(r, "objects", got, any(want))
		same(r, "objects twice", apply(r, t, `{"operation":"flatten","mode":"objects","separator":"/"}`, row{"data": got}), got)
	})
}

func withoutNull(rows []any) []any {
	list := []any{}
	for _, v := range plainJSON(rows).([]any) {
		if v != nil {
			list = append(list, v)
		}
	}
	return list
}

func flattened(prefix string, o, into row) {
	for name, v := range o {
		if inner, ok := v.(row); ok && len(inner) > 0 {
			flattened(prefix+name+"/", inner, into)
		} else {
			into[prefix+name] = v
		}
	}
}

// TestMergeIsAssociative holds for objects that are merged shallow, by place: it is promised.
func TestMergeIsAssociative(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		a, b, c := objectRows(r, "a"), objectRows(r, "b"), objectRows(r, "c")
		config := fmt.Sprintf(`{"operation":"merge","with":"o","onConflict":%q}`, rapid.SampledFrom([]string{"first", "last"}).Draw(r, "onConflict"))
		left := apply(r, t, config, row{"data": apply(r, t, config, row{"data": a, "o": b}), "o": c})
		right := apply(r, t, config, row{"data": a, "o": apply(r, t, config, row{"data": b, "o": c})})
		same(r, "associative", left, right)
		same(r, "with itself", apply(r, t, config, row{"data": a, "o": a}), plainJSON(a))
		same(r, "with nothing", apply(r, t, config, row{"data": a, "o": []row{}}), plainJSON(a))
	})
}

func TestMergeMatchesNaive(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		rows, others := drawRows(r, "rows"), drawRows(r, "others")
		kind := rapid.SampledFrom([]string{"inner", "left", "right", "full"}).Draw(r, "type")
		var keys []any
		byKey := map[any]row{}
		for i, o := range others {
			key := o["k"]
			if key == nil {
				key = i + 1000 // stands alone
			}
			if byKey[key] == nil {
				byKey[key] = row{}
				keys = append(keys, key)
			}
			maps.Copy(byKey[key], o)
		}
		var want []row
		used := map[any]bool{}
		for _, x := range rows {
			switch o := byKey[x["k"]]; {
			case x["k"] != nil && o != nil:
				used[x["k"]] = true
				merged := maps.Clone(x)
				maps.Copy(merged, o)
				want = append(want, merged)
			case kind == "left" || kind == "full":
				want = append(want, x)
			}
		}
		for _, key := range keys {
			if !used[key] && (kind == "right" || kind == "full") {
				want = append(want, byKey[key])
			}
		}
		check(r, t, fmt.Sprintf(`{"operation":"merge","with":"o","key":"k","type":%q}`, kind), row{"data": rows, "o": others}, want)
	})
}

func TestReduceMatchesAggregate(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		rows := drawRows(r, "rows")
		for _, x := range rows {
			if _, text := x["v"].(string); text {
				delete(x, "v")
			}
		}
		for _, name := range []string{"sum", "min", "max", "count", "first", "last"} {
			reduced := apply(r, t, fmt.Sprintf(`{"operation":"reduce","reducer":%q,"field":"v"}`, name), row{"data": rows})
			aggregated := apply(r, t, fmt.Sprintf(`{"operation":"aggregate","aggregations":{"x":{"function":%q,"field":"v"}}}`, name), row{"data": rows})
			same(r, name, any(row{"x": reduced}), aggregated)
		}
	})
}

func TestFilterLaws(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		rows := drawRows(r, "rows")
		x, y := `{"field":"k","operator":"in","value":["a",1,2]}`, `{"field":"v","operator":"exists"}`
		filter := func(format string, args ...any) any {
			return apply(r, t, `{"operation":"filter",`+fmt.Sprintf(format, args...)+`}`, row{"data": rows})
		}
		same(r, "not any", filter(`"not":{"any":[%s,%s]}`, x, y), filter(`"all":[{"not":%s},{"not":%s}]`, x, y))
		same(r, "not all", filter(`"not":{"all":[%s,%s]}`, x, y), filter(`"any":[{"not":%s},{"not":%s}]`, x, y))
		same(r, "not not", filter(`"not":{"not":%s}`, x), filter(`"conditions":[%s]`, x))
	})
}

func TestTransformMatchesMap(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		rows := objectRows(r, "rows")
		const fields = `"fields":{"x":"a","y":"b.ü","z":{"value":[1]},"a":"ü"}`
		keep := rapid.Bool().Draw(r, "keep")
		mapped := apply(r, t, fmt.Sprintf(`{"operation":"map","keep":%v,%s}`, keep, fields), row{"data": rows})
		same(r, "the same", apply(r, t, fmt.Sprintf(`{"operation":"transform","keep":%v,%s}`, keep, fields), row{"data": rows}), mapped)
	})
}
