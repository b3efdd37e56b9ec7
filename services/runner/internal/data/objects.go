package data

import (
	"github.com/tidwall/gjson"

	"turbocat.io/services/runner/internal/form"
)

// merging says how objects become one: field by field, in the order in which the fields first
// appear. A null is a value like any other.
type merging struct {
	deep       bool   // objects under the same name are merged too
	onConflict string // different values under the same name
}

const (
	conflictLast  = "last"
	conflictFirst = "first"
	conflictError = "error"
)

func parseMerging(o *form.Object) merging {
	return merging{
		deep:       o.Bool("deep", false),
		onConflict: o.OneOf("onConflict", conflictLast, conflictLast, conflictFirst, conflictError),
	}
}

// object is one in the making.
type object struct {
	fields []objectField
	places map[string]int // of fields, by key
	merged int            // how many objects were put into it
}

type objectField struct {
	quoted string
	value  string  // JSON
	inner  *object // instead of value
	from   int     // which of the merged objects has set it
}

// reset empties the object for the next row.
func (o *object) reset() {
	const small = 1024 // emptying a large map takes long, even when little is in it
	o.fields, o.merged = o.fields[:0], 0
	if o.places == nil || len(o.places) > small {
		o.places = map[string]int{}
	} else {
		clear(o.places)
	}
}

// into puts the fields of an object into o. A problem names the field that it is with.
func (m merging) into(w *work, o *object, v gjson.Result) error { return m.intoAt(w, o, v, 0, "") }

func (m merging) intoAt(w *work, o *object, v gjson.Result, depth int, under string) (err error) {
	if err := w.reading(v.Raw); err != nil {
		return err
	}
	o.merged++
	v.ForEach(func(key, value gjson.Result) bool {
		at, known := o.places[key.Str]
		switch {
		case !known:
			o.places[key.Str] = len(o.fields)
			o.fields = append(o.fields, objectField{quoted: key.Raw, value: value.Raw, from: o.merged})
		case o.fields[at].from == o.merged: // a key twice in one object; its first value counts everywhere
		default:
			err = m.meet(w, &o.fields[at], o.merged, value, depth, under+key.Str)
		}
		return err == nil
	})
	return err
}

// meet puts a value to a field that has one.
func (m merging) meet(w *work, f *objectField, from int, v gjson.Result, depth int, name string) error {
	was := gjson.Result{}
	isObject := f.inner != nil
	if !isObject {
		was = gjson.Parse(f.value)
		isObject = was.IsObject()
	}
	switch {
	case m.deep && isObject && v.IsObject():
		if depth == maxDepth {
			return &rowFault{field: name, problem: tooDeep}
		}
		if f.inner == nil {
			f.inner = &object{}
			f.inner.reset()
			if err := m.intoAt(w, f.inner, was, depth+1, name+"."); err != nil {
				return err
			}
		}
		f.from = from
		return m.intoAt(w, f.inner, v, depth+1, name+".")
	case m.onConflict == conflictLast:
		f.value, f.inner, f.from = v.Raw, nil, from
	case m.onConflict == conflictError:
		same, ok := equal(was, v)
		if f.inner != nil || !same {
			problem := "has different values; set onConflict to first or last, or leave one out"
			if !ok {
				problem = tooDeep
			}
			return &rowFault{field: name, problem: problem}
		}
	}
	return nil
}

func (o *object) appendTo(b []byte) []byte {
	start := len(b)
	b = append(b, '{')
	for _, f := range o.fields {
		b = appendKey(b, start, f.quoted)
		if f.inner != nil {
			b = f.inner.appendTo(b)
		} else {
			b = append(b, f.value...)
		}
	}
	return append(b, '}')
}
