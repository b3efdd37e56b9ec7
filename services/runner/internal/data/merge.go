package data

import (
	"github.com/tidwall/gjson"

	"turbocat.io/services/runner/internal/form"
)

func parseMerge(o *form.Object, faults *form.Faults) operation {
	if o.Has("fields") {
		for _, name := range []string{"with", "key", "type"} {
			if o.Has(name) {
				faults.Add(o.At(name), "stands beside fields, which merges within each row; give one of them")
			}
		}
		return parseFieldsMerge(o, faults)
	}
	if o.Has("into") {
		faults.Add(o.At("into"), "says where the merged fields go; give fields too")
	}
	return parseRowsMerge(o, faults)
}

// rowsMerge makes one row of a row and of what another input has in the same place, or with
// the same key; rows of the other input with the same key count as one, merged in their order.
// The rows keep their order; what only the other input has (right, full) comes last. An absent
// or null key matches nothing.
type rowsMerge struct {
	merging
	left, right bool // rows without a counterpart are kept
	with        string
	key         []path // nil for the place
}

func parseRowsMerge(o *form.Object, faults *form.Faults) operation {
	kind := o.OneOf("type", "full", joinTypes...)
	m := rowsMerge{
		merging: parseMerging(o),
		left:    kind == "left" || kind == "full",
		right:   kind == "right" || kind == "full",
		with:    o.Required("with", "name the input that holds the other rows, or give fields to merge within each row"),
	}
	if o.Has("key") {
		m.key = parseFieldOrFields(o, "key", faults)
	}
	return m
}

// counterpart is a row of the other input, or several with the same key, which count as one.
type counterpart struct {
	rows    []int
	merged  string // of several, once it is needed
	matched bool
}

func (m rowsMerge) apply(w *work, rows []string) ([]string, error) {
	others, err := w.others(m.with)
	if err != nil {
		return nil, err
	}
	of, counterparts, err := m.match(w, rows, others)
	if err != nil {
		return nil, err
	}
	made := make([]string, 0, max(len(rows), len(others)))
	var o object
	merged := func(list ...string) (string, error) {
		o.reset()
		for _, row := range list {
			if err := m.into(w, &o, gjson.Parse(row)); err != nil {
				return "", err
			}
		}
		b := o.appendTo(nil)
		return string(b), w.making(len(b))
	}
	asOne := func(c *counterpart) (string, error) {
		if len(c.rows) == 1 {
			return others[c.rows[0]], nil
		}
		if c.merged == "" {
			list := make([]string, len(c.rows))
			for i, n := range c.rows {
				list[i] = others[n]
			}
			var err error
			if c.merged, err = merged(list...); err != nil {
				return "", inInput(m.with, inRow(c.rows[0], err))
			}
		}
		return c.merged, nil
	}
	for i, row := range rows {
		if of[i] >= 0 {
			c := &counterparts[of[i]]
			c.matched = true
			other, err := asOne(c)
			if err != nil {
				return nil, err
			}
			if row, err = merged(row, other); err != nil {
				return nil, inRow(i, err)
			}
		} else if !m.left {
			continue
		}
		made = append(made, row)
	}
	for i := range counterparts {
		if c := &counterparts[i]; m.right && !c.matched {
			other, err := asOne(c)
			if err != nil {
				return nil, err
			}
			made = append(made, other)
		}
	}
	return made, nil
}

// match gives the counterpart of each row, -1 for none, and all counterparts in their order.
func (m rowsMerge) match(w *work, rows, others []string) (of []int, all []counterpart, err error) {
	byKey := map[string]int{}
	for i, other := range others {
		id, err := joinKey(w, m.key, other, rowFault{of: m.with, row: i})
		if err != nil {
			return nil, nil, err
		}
		n, known := byKey[id]
		if !known || id == "" {
			n = len(all)
			all = append(all, counterpart{})
			byKey[id] = n
		}
		all[n].rows = append(all[n].rows, i)
	}
	of = make([]int, len(rows))
	for i, row := range rows {
		id, err := joinKey(w, m.key, row, rowFault{row: i})
		if err != nil {
			return nil, nil, err
		}
		n, known := byKey[id]
		switch {
		case m.key == nil && i < len(all):
			of[i] = i
		case m.key == nil || id == "" || !known:
			of[i] = -1
		default:
			of[i] = n
		}
	}
	return of, all, nil
}

// fieldsMerge makes one object of several in each row: the new row, or a field of it. What is
// absent or null is passed over.
type fieldsMerge struct {
	merging
	fields []path
	into   string // a key; "" for the whole row
}

func parseFieldsMerge(o *form.Object, faults *form.Faults) operation {
	m := fieldsMerge{merging: parseMerging(o)}
	if list, ok := o.List("fields"); ok {
		m.fields = parseFields(list, o.At("fields"), parsePath, faults)
	}
	if o.Has("into") {
		m.into = o.Required("into", "name the field for the merged object")
	}
	return m
}

func (m fieldsMerge) apply(w *work, rows []string) ([]string, error) {
	made := make([]string, 0, len(rows))
	var o object
	var b []byte
	for i, row := range rows {
		r := gjson.Parse(row)
		o.reset()
		for _, f := range m.fields {
			if err := w.reading(row); err != nil {
				return nil, err
			}
			v, ok, problem := f.find(r)
			switch {
			case problem != "":
			case missing(v, ok):
				continue
			case !v.IsObject():
				problem = "is " + form.Kind(v) + ", not an object"
			default:
				if err := m.merging.into(w, &o, v); err != nil {
					return nil, inRow(i, err)
				}
			}
			if problem != "" {
				return nil, &rowFault{row: i, field: f.Text, problem: problem}
			}
		}
		b = b[:0]
		if m.into == "" {
			b = o.appendTo(b)
		} else if r.IsObject() {
			b = appendWith(b, r, m.into, o.appendTo(nil))
		} else {
			return nil, notAnObject(i, r)
		}
		if err := w.making(len(b)); err != nil {
			return nil, err
		}
		made = append(made, string(b))
	}
	return made, nil
}

// appendWith appends an object with a field set, where it stands or else at the end.
func appendWith(b []byte, object gjson.Result, name string, value []byte) []byte {
	set := false
	b = append(b, '{')
	object.ForEach(func(key, v gjson.Result) bool {
		b = appendKey(b, 0, key.Raw)
		if key.Str == name && !set {
			set = true
			b = append(b, value...)
		} else {
			b = append(b, v.Raw...)
		}
		return true
	})
	if !set {
		b = append(appendKey(b, 0, quote(name)), value...)
	}
	return append(b, '}')
}
