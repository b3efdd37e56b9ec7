package data

import (
	"github.com/tidwall/gjson"

	"turbocat.io/services/runner/internal/form"
)

// What flatten does with the array in a field.
const (
	intoRows     = "rows"     // a row for each element, which takes the array's place
	intoElements = "elements" // a row for each element, which is the row
	intoArray    = "array"    // the array stays, with fewer levels
)

// arrays opens arrays: those that are rows, or those in a field of each row.
type arrays struct {
	depth int // how many levels are opened
	field *path
	into  string
	keep  bool // a row whose field is absent, null or empty stays, with a null in it
}

// objects makes one object of those within it: of the row, or of a field of each row.
type objects struct {
	depth     int // how many levels are opened
	field     *path
	separator string
}

func parseFlatten(o *form.Object, faults *form.Faults) operation {
	var field *path
	if o.Has("field") {
		p := parseField(o, "field", faults)
		field = &p
	}
	if o.OneOf("mode", "arrays", "arrays", "objects") == "objects" {
		for _, name := range []string{"into", "empty"} {
			if o.Has(name) {
				faults.Add(o.At(name), "is about arrays; remove it, or set mode to arrays")
			}
		}
		return objects{
			depth: int(o.Int("depth", 1, maxDepth, maxDepth)), field: field,
			separator: o.String("separator", "."),
		}
	}
	if o.Has("separator") {
		faults.Add(o.At("separator"), "is about objects; remove it, or set mode to objects")
	}
	a := arrays{
		depth: int(o.Int("depth", 1, maxDepth, 1)), field: field,
		into: o.OneOf("into", intoRows, intoRows, intoElements, intoArray),
		keep: o.OneOf("empty", "drop", "drop", "keep") == "keep",
	}
	if a.into == intoArray && o.Has("empty") {
		faults.Add(o.At("empty"), "is about rows that are made of elements; remove it, or set into to rows or elements")
	}
	if field == nil {
		for _, name := range []string{"into", "empty"} {
			if o.Has(name) {
				faults.Add(o.At(name), "is about the array in a field; give field too")
			}
		}
	}
	return a
}

func (a arrays) apply(w *work, rows []string) ([]string, error) {
	made := make([]string, 0, len(rows))
	var elements []string
	var b []byte
	for i, row := range rows {
		r := gjson.Parse(row)
		if a.field == nil {
			var err error
			if made, err = open(w, made, r, a.depth); err != nil {
				return nil, err
			}
			continue
		}
		if err := w.reading(row); err != nil {
			return nil, err
		}
		v, ok, problem := a.field.find(r)
		if problem == "" && !missing(v, ok) && !v.IsArray() {
			problem = "is " + form.Kind(v) + ", not an array"
		}
		if problem != "" {
			return nil, &rowFault{row: i, field: a.field.Text, problem: problem}
		}
		elements = elements[:0]
		if !missing(v, ok) {
			var err error
			levels := a.depth
			if a.into == intoArray {
				levels++ // the array itself stays
			}
			if elements, err = open(w, elements, v, levels); err != nil {
				return nil, err
			}
		}
		switch {
		case a.into == intoArray && missing(v, ok):
			made = append(made, row)
			continue
		case a.into == intoArray:
			b = append(b[:0], row[:v.Index]...)
			b = appendArray(b, elements)
			b = append(b, row[v.Index+len(v.Raw):]...)
			if err := w.making(len(b)); err != nil {
				return nil, err
			}
			made = append(made, string(b))
			continue
		case len(elements) == 0 && a.keep && !ok && a.into == intoRows:
			made = append(made, row) // there is no place for a null
			continue
		case len(elements) == 0 && a.keep:
			elements = append(elements, "null")
		}
		if a.into == intoElements {
			made = append(made, elements...)
			continue
		}
		for _, e := range elements {
			b = append(b[:0], row[:v.Index]...)
			b = append(b, e...)
			b = append(b, row[v.Index+len(v.Raw):]...)
			if err := w.making(len(b)); err != nil {
				return nil, err
			}
			made = append(made, string(b))
		}
	}
	return made, nil
}

// open appends what is in an array, of arrays in it what is in them, and so on through depth
// levels; what is no array as it is.
func open(w *work, list []string, v gjson.Result, depth int) (_ []string, err error) {
	if depth == 0 || !v.IsArray() {
		return append(list, v.Raw), w.reading("")
	}
	if err := w.reading(v.Raw); err != nil {
		return list, err
	}
	v.ForEach(func(_, e gjson.Result) bool {
		list, err = open(w, list, e, depth-1)
		return err == nil
	})
	return list, err
}

func (f objects) apply(w *work, rows []string) ([]string, error) {
	made := make([]string, 0, len(rows))
	var b []byte
	for i, row := range rows {
		r, at := gjson.Parse(row), ""
		v := r
		if f.field != nil {
			var ok bool
			var problem string
			at = f.field.Text
			v, ok, problem = f.field.find(r)
			if problem == "" && !missing(v, ok) && !v.IsObject() {
				problem = "is " + form.Kind(v) + ", not an object"
			}
			if problem != "" {
				return nil, &rowFault{row: i, field: at, problem: problem}
			}
			if missing(v, ok) {
				made = append(made, row)
				continue
			}
		} else if !v.IsObject() {
			return nil, notAnObject(i, v)
		}
		flat := flattening{w: w, separator: f.separator, quotedSeparator: unquoted(f.separator), taken: map[string]bool{}}
		flat.b = append(append(b[:0], row[:v.Index]...), '{')
		if err := flat.fields("", "", v, f.depth); err != nil {
			return nil, inRow(i, err)
		}
		b = append(append(flat.b, '}'), row[v.Index+len(v.Raw):]...)
		if err := w.making(len(b)); err != nil {
			return nil, err
		}
		made = append(made, string(b))
	}
	return made, nil
}

// flattening is one object on its way to have no objects within.
type flattening struct {
	w               *work
	separator       string
	quotedSeparator string // as JSON, without the quotes
	taken           map[string]bool
	b               []byte
}

// fields appends those of an object under a name, which is given as such and as it stands
// between the quotes of a JSON string.
func (f *flattening) fields(name, quoted string, v gjson.Result, depth int) (err error) {
	if err := f.w.reading(v.Raw); err != nil {
		return err
	}
	v.ForEach(func(key, value gjson.Result) bool {
		name, quoted := name+key.Str, quoted+key.Raw[1:len(key.Raw)-1]
		if depth > 0 && value.IsObject() && !isEmpty(value) {
			err = f.fields(name+f.separator, quoted+f.quotedSeparator, value, depth-1)
			return err == nil
		}
		if f.taken[name] {
			err = &rowFault{field: name, problem: "stands twice once the objects are flattened; choose another separator"}
			return false
		}
		f.taken[name] = true
		if len(f.taken) > 1 {
			f.b = append(f.b, ',')
		}
		f.b = append(append(append(f.b, '"'), quoted...), '"', ':')
		f.b = append(f.b, value.Raw...)
		if len(f.b) > maxBytes {
			err = f.w.making(len(f.b))
		}
		return err == nil
	})
	return err
}

func isEmpty(v gjson.Result) bool {
	empty := true
	v.ForEach(func(_, _ gjson.Result) bool {
		empty = false
		return false
	})
	return empty
}
