package data

import (
	"slices"
	"strconv"

	"github.com/tidwall/gjson"

	"turbocat.io/services/runner/internal/form"
)

// grouping makes one row of all rows that have the same key, in the order in which the
// keys first appear: {"key":...,"count":n,"items":[...]} and the aggregations. An absent
// key counts as null; the key of several fields is an object of them.
type grouping struct {
	by     []path
	values []aggregation
	items  bool
}

func parseGrouping(o *form.Object, faults *form.Faults) operation {
	g := grouping{items: o.Bool("items", true)}
	g.by = parseFieldOrFields(o, "groupBy", faults)
	if o.Has("aggregations") {
		g.values = parseAggregations(o, faults)
	}
	for _, a := range g.values {
		if a.name == "key" || a.name == "items" {
			faults.Add(o.At("aggregations")+"."+a.name, "is a field of every group; choose another name")
		}
	}
	return g
}

func (g grouping) apply(w *work, rows []string) ([]string, error) {
	type group struct {
		key  string
		rows []int
	}
	var groups []group
	known := map[string]int{}
	id := make([]byte, 0, 64)
	values := make([]string, len(g.by))
	for i, row := range rows {
		r := gjson.Parse(row)
		id = id[:0]
		for n, by := range g.by {
			if err := w.reading(row); err != nil {
				return nil, err
			}
			v, ok, problem := by.find(r)
			if values[n] = v.Raw; missing(v, ok) {
				v, values[n] = gjson.Result{}, "null"
			}
			if problem == "" {
				if id, ok = identity(id, v); !ok {
					problem = tooDeep
				}
			}
			if problem != "" {
				return nil, &rowFault{row: i, field: by.Text, problem: problem}
			}
		}
		n, ok := known[string(id)]
		if !ok {
			n = len(groups)
			key := g.key(values)
			if err := w.making(len(key)); err != nil {
				return nil, err
			}
			known[string(id)] = n
			groups = append(groups, group{key: key})
		}
		groups[n].rows = append(groups[n].rows, i)
	}
	made := make([]string, 0, len(groups))
	for _, group := range groups {
		row, err := g.row(w, group.key, rows, group.rows)
		if err != nil {
			return nil, err
		}
		if err := w.making(len(row)); err != nil {
			return nil, err
		}
		made = append(made, row)
	}
	return made, nil
}

func (g grouping) key(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	b := []byte{'{'}
	for i, v := range values {
		b = append(appendKey(b, 0, quote(g.by[i].Text)), v...)
	}
	return string(append(b, '}'))
}

func (g grouping) row(w *work, key string, rows []string, of []int) (string, error) {
	b := append([]byte(`{"key":`), key...)
	if !slices.ContainsFunc(g.values, func(a aggregation) bool { return a.name == "count" }) {
		b = strconv.AppendInt(append(b, `,"count":`...), int64(len(of)), 10)
	}
	for _, a := range g.values {
		v, err := a.over(w, rows, of)
		if err != nil {
			return "", err
		}
		if err := w.making(len(v)); err != nil {
			return "", err
		}
		b = append(appendKey(b, 0, a.quoted), v...)
	}
	if g.items {
		items := make([]string, len(of))
		for i, n := range of {
			items[i] = rows[n]
		}
		b = appendArray(append(b, `,"items":`...), items)
	}
	return string(append(b, '}')), nil
}
