package data

import (
	"strconv"

	"github.com/tidwall/gjson"

	"turbocat.io/pkg/fieldpath"
	"turbocat.io/services/runner/internal/form"
)

// path names a field of a row: first a key spelt exactly like it, then the way through
// objects by key and through arrays by index, as in a.b[0].c or a.b.0.c.
type path struct{ fieldpath.Path }

// parsePath reads a path that stands at the given place of the config.
func parsePath(text, at string, faults *form.Faults) path {
	p, err := fieldpath.Parse(text)
	if err != nil {
		faults.Add(at, "%s", err)
	}
	return path{p}
}

// parseKeys reads a path that goes through objects alone.
func parseKeys(text, at string, faults *form.Faults) path {
	p, err := fieldpath.ParseKeys(text)
	if err != nil {
		faults.Add(at, "%s", err)
	}
	return path{p}
}

// find gives the field of a row; false when the row has none. problem tells that the row
// can have no fields.
func (p path) find(row gjson.Result) (v gjson.Result, ok bool, problem string) {
	if p.Text == fieldpath.Self {
		return row, true, ""
	}
	if row.Type != gjson.JSON {
		return v, false, "the row is " + form.Kind(row) + ", not an object"
	}
	if v, ok = member(row, p.Text); ok || p.Parts == nil {
		return v, ok, ""
	}
	v = row
	for _, part := range p.Parts {
		if v, ok = member(v, part); !ok {
			return v, false, ""
		}
	}
	return v, true, ""
}

// literal tells whether the row has a key spelt exactly like the path.
func (p path) literal(row gjson.Result) bool {
	_, ok := member(row, p.Text)
	return ok
}

// member gives the value of a key of an object, or of an index of an array.
func member(v gjson.Result, name string) (found gjson.Result, ok bool) {
	switch {
	case v.IsObject():
		v.ForEach(func(key, value gjson.Result) bool {
			if key.Str != name {
				return true
			}
			found, ok = value, true
			return false
		})
	case v.IsArray():
		index, err := strconv.Atoi(name)
		if err != nil || index < 0 || strconv.Itoa(index) != name {
			return found, false
		}
		v.ForEach(func(_, value gjson.Result) bool {
			if index > 0 {
				index--
				return true
			}
			found, ok = value, true
			return false
		})
	}
	return found, ok
}
