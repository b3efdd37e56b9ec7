package data

import (
	"errors"

	"github.com/tidwall/gjson"

	"turbocat.io/services/runner/internal/form"
)

// shaping makes a row of named values of each row; map and transform do so.
type shaping struct {
	fields []field
	names  map[string]bool
	keep   bool // the fields of the row that are not named stay, before the others
}

// field is one value of a new row.
type field struct {
	name   string
	quoted string // the name as JSON
	shape  shape
}

// shape makes a value of a row; a null that has no text is written as one.
type shape interface {
	of(w *work, row gjson.Result) (gjson.Result, error)
}

// parseMapping reads fields that are paths or constants.
func parseMapping(o *form.Object, faults *form.Faults) operation {
	return parseShaping(o, `like {"name":"user.name","kind":{"value":"customer"}}`, faults, func(v form.Value) shape {
		switch {
		case v.Type == gjson.String:
			return source{parsePath(v.Str, v.Path, faults)}
		case v.IsObject():
			e, _ := v.Object(faults)
			if e.Has("expr") {
				alone(e, "expr", []string{"value"}, faults)
				made := parseComputation(e, faults)
				e.Done()
				return made
			}
			value, given := e.Raw("value")
			if !given {
				faults.Add(value.Path, `is missing; give {"value":...}, {"expr":"..."} or the path of a field`)
			}
			e.Done()
			return constant{value.Result}
		default:
			faults.Add(v.Path, `must be the path of a field or {"value":...}, not %s`, form.Kind(v.Result))
			return constant{}
		}
	})
}

func parseShaping(o *form.Object, example string, faults *form.Faults, parse func(form.Value) shape) operation {
	s := shaping{names: map[string]bool{}, keep: o.Bool("keep", false)}
	fields, ok := o.Sub("fields")
	if !ok {
		if !o.Has("fields") {
			faults.Add(o.At("fields"), "is missing; name the fields of the new rows, %s", example)
		}
		return s
	}
	fields.Each(func(name string, v form.Value) {
		s.names[name] = true
		s.fields = append(s.fields, field{name: name, quoted: quote(name), shape: parse(v)})
	})
	return s
}

func (s shaping) apply(w *work, rows []string) ([]string, error) {
	made := make([]string, 0, len(rows))
	var b []byte
	for i, row := range rows {
		var err error
		if b, err = s.row(w, b[:0], gjson.Parse(row)); err == nil {
			err = w.making(len(b))
		}
		if err != nil {
			return nil, inRow(i, err)
		}
		made = append(made, string(b))
	}
	return made, nil
}

func (s shaping) row(w *work, b []byte, r gjson.Result) ([]byte, error) {
	b = append(b, '{')
	if s.keep {
		if !r.IsObject() {
			return b, notAnObject(0, r)
		}
		r.ForEach(func(key, value gjson.Result) bool {
			if !s.names[key.Str] {
				b = append(appendKey(b, 0, key.Raw), value.Raw...)
			}
			return true
		})
	}
	return appendFields(w, b, 0, s.fields, r)
}

// appendFields appends the fields and the end of the object that begins at start.
func appendFields(w *work, b []byte, start int, fields []field, r gjson.Result) ([]byte, error) {
	for _, f := range fields {
		v, err := f.shape.of(w, r)
		if err != nil {
			return b, forField(f.name, err)
		}
		b = appendValue(appendKey(b, start, f.quoted), v)
		if len(b) > maxBytes {
			return b, w.making(len(b))
		}
	}
	return append(b, '}'), nil
}

// forField names the field to be made in a fault that is about no field of the row.
func forField(name string, err error) error {
	var fault *rowFault
	if errors.As(err, &fault) && fault.field == "" {
		fault.field = name
	}
	return err
}

// source is a field of the row.
type source struct{ path path }

func (s source) of(w *work, row gjson.Result) (gjson.Result, error) {
	if err := w.reading(row.Raw); err != nil {
		return gjson.Result{}, err
	}
	v, _, problem := s.path.find(row)
	if problem != "" {
		return v, &rowFault{field: s.path.Text, problem: problem}
	}
	return v, nil
}

// constant is the same value for all rows.
type constant struct{ value gjson.Result }

func (c constant) of(w *work, _ gjson.Result) (gjson.Result, error) { return c.value, w.reading("") }
