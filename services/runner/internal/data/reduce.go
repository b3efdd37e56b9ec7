package data

import (
	"math"
	"strconv"

	"github.com/tidwall/gjson"

	"turbocat.io/services/runner/internal/form"
)

// reducing folds a field of all rows into one value. All reducers but first and last pass over
// absent fields and nulls; without a field count counts rows and the others take whole rows.
type reducing struct {
	reducer   string
	field     *path
	initial   gjson.Result // null for none
	separator string
	merging   merging
}

var reducers = []string{"sum", "product", "min", "max", "count", "concat", "join", "collect", "first", "last", "merge"}

func parseReduce(o *form.Object, faults *form.Faults) operation {
	r := reducing{reducer: o.Required("reducer", oneOf(reducers))}
	if r.reducer != "" {
		o.OneOf("reducer", "", reducers...)
	}
	if o.Has("field") {
		p := parseField(o, "field", faults)
		r.field = &p
	}
	for _, option := range []struct{ name, of string }{{"separator", "join"}, {"deep", "merge"}, {"onConflict", "merge"}} {
		if o.Has(option.name) && r.reducer != option.of {
			faults.Add(o.At(option.name), "is an option of the reducer %s; remove it", option.of)
		}
	}
	if r.reducer == "join" {
		r.separator = o.String("separator", ",")
	}
	if r.reducer == "merge" {
		r.merging = parseMerging(o)
	}
	if initial, _ := o.Raw("initial"); o.Has("initial") {
		r.initial = initial.Result
		if want := initialOf(r.reducer, r.initial); want != "" {
			faults.Add(initial.Path, "of the reducer %s must be %s, not %s", r.reducer, want, form.Kind(r.initial))
		}
	}
	return r
}

// initialOf tells what the initial value of a reducer must be; "" when v is that.
func initialOf(reducer string, v gjson.Result) string {
	kinds := map[string]struct {
		fits bool
		want string
	}{
		"sum":     {v.Type == gjson.Number && !math.IsInf(v.Num, 0), "a number of 64 bits"},
		"product": {v.Type == gjson.Number && !math.IsInf(v.Num, 0), "a number of 64 bits"},
		"count":   {v.Type == gjson.Number && v.Num == math.Trunc(v.Num) && math.Abs(v.Num) <= maxCount, "a whole number of at most 15 digits"},
		"min":     {v.Type == gjson.Number || v.Type == gjson.String, "a number or a string"},
		"max":     {v.Type == gjson.Number || v.Type == gjson.String, "a number or a string"},
		"concat":  {v.Type == gjson.String || v.IsArray(), "a string or an array"},
		"join":    {v.Type == gjson.String, "a string"},
		"collect": {v.IsArray(), "an array"},
		"merge":   {v.IsObject(), "an object"},
	}
	if kind, limited := kinds[reducer]; limited && !kind.fits {
		return kind.want
	}
	return ""
}

const maxCount = 1e15

func (r reducing) apply(w *work, rows []string) ([]string, error) {
	switch {
	case r.reducer == "count" && r.field == nil:
		return []string{strconv.FormatInt(int64(r.initial.Num)+int64(len(rows)), 10)}, nil
	case r.reducer == "first" && len(rows) > 0:
		rows = rows[:1]
	}
	from := 0
	if r.reducer == "last" && len(rows) > 0 {
		from = len(rows) - 1
	}
	f := r.begin(w)
	for i := from; i < len(rows); i++ {
		if err := w.reading(rows[i]); err != nil {
			return nil, err
		}
		v, ok, problem, name := gjson.Parse(rows[i]), true, "", ""
		if r.field != nil {
			name = r.field.Text
			v, ok, problem = r.field.find(v)
		}
		if problem == "" && !missing(v, ok) {
			var err error
			if problem, err = f.add(v); err != nil {
				return nil, inRow(i, err)
			}
		}
		if problem != "" {
			return nil, &rowFault{row: i, field: name, problem: problem}
		}
	}
	b := f.appendTo(nil)
	return []string{string(b)}, w.making(len(b))
}

// fold is a value that grows row by row.
type fold interface {
	add(v gjson.Result) (problem string, err error)
	appendTo(b []byte) []byte
}

func (r reducing) begin(w *work) fold {
	switch r.reducer {
	case "product":
		p := &productFold{integer: 1, product: 1}
		if r.initial.Type != gjson.Null {
			_, _ = p.add(r.initial) // a number times one is one
		}
		return p
	case "concat":
		return &concatFold{w: w, initial: r.initial}
	case "join":
		return &joinFold{w: w, initial: r.initial, separator: r.separator}
	case "collect":
		return &collectFold{w: w, elements: within(r.initial)}
	case "merge":
		m := &mergeFold{w: w, merging: r.merging}
		m.object.reset()
		_ = m.merging.into(w, &m.object, r.initial)
		return m
	default:
		t := &tallyFold{function: r.reducer}
		if r.initial.Type != gjson.Null {
			t.begin(r.initial)
		}
		return t
	}
}

// tallyFold is an aggregation.
type tallyFold struct {
	tally
	function string
}

func (f *tallyFold) begin(initial gjson.Result) {
	switch f.function {
	case "count":
		f.count = int(initial.Num)
	case "first", "last":
		f.count, f.best = 1, initial
	default:
		_ = f.tally.add(f.function, initial)
	}
}

func (f *tallyFold) add(v gjson.Result) (string, error) { return f.tally.add(f.function, v), nil }

func (f *tallyFold) appendTo(b []byte) []byte { return append(b, f.result(f.function)...) }

// productFold multiplies integers exactly for as long as all are and their product fits 64 bits.
type productFold struct {
	product float64
	integer int64
	inexact bool
}

func (f *productFold) add(v gjson.Result) (string, error) {
	if v.Type != gjson.Number {
		return "is " + form.Kind(v) + ", not a number", nil
	}
	if f.product *= v.Num; math.IsInf(f.product, 0) || math.IsNaN(f.product) {
		return "makes the product larger than a number can be", nil
	}
	n, err := strconv.ParseInt(v.Raw, 10, 64)
	next := f.integer * n
	// Below 2^62 the float is near enough to tell an overflow.
	if err != nil || math.Abs(f.product) > 1<<62 {
		f.inexact = true
	}
	f.integer = next
	return "", nil
}

func (f *productFold) appendTo(b []byte) []byte {
	if f.inexact {
		return append(b, number(f.product)...)
	}
	return strconv.AppendInt(b, f.integer, 10)
}

// joinFold is a text of texts.
type joinFold struct {
	w         *work
	initial   gjson.Result
	separator string
	text      []byte
	begun     bool
}

func (f *joinFold) add(v gjson.Result) (string, error) {
	s, ok := plain(v)
	if !ok {
		return "is " + form.Kind(v) + ", not a string, a number or a boolean", nil
	}
	if !f.begun && f.initial.Type == gjson.String {
		f.text, f.begun = append(f.text, f.initial.Str...), true
	}
	if f.begun {
		f.text = append(f.text, f.separator...)
	}
	f.begun = true
	f.text = append(f.text, s...)
	return "", f.w.making(len(f.separator) + len(s))
}

func (f *joinFold) appendTo(b []byte) []byte {
	if !f.begun {
		return appendQuoted(b, f.initial.Str)
	}
	return appendQuoted(b, string(f.text))
}

// collectFold is an array of the values.
type collectFold struct {
	w        *work
	elements []string
}

func (f *collectFold) add(v gjson.Result) (string, error) {
	f.elements = append(f.elements, v.Raw)
	return "", f.w.making(len(v.Raw))
}

func (f *collectFold) appendTo(b []byte) []byte { return appendArray(b, f.elements) }

// concatFold puts strings one behind the other, or the elements of arrays.
type concatFold struct {
	w       *work
	initial gjson.Result
	fold    fold // once the first value has said which
	kind    gjson.Result
}

func (f *concatFold) add(v gjson.Result) (string, error) {
	if f.fold == nil {
		if f.kind = f.initial; f.kind.Type == gjson.Null {
			f.kind = v
		}
		if f.kind.IsArray() {
			f.fold = &collectFold{w: f.w, elements: within(f.initial)}
		} else {
			f.fold = &joinFold{w: f.w, initial: f.initial}
		}
	}
	switch {
	case v.Type != gjson.String && !v.IsArray():
		return "is " + form.Kind(v) + ", not a string or an array", nil
	case v.Type != f.kind.Type:
		return "is " + form.Kind(v) + ", while what is before is " + form.Kind(f.kind), nil
	case v.Type == gjson.String:
		return f.fold.add(v)
	}
	var err error
	v.ForEach(func(_, e gjson.Result) bool {
		_, err = f.fold.add(e)
		return err == nil
	})
	return "", err
}

func (f *concatFold) appendTo(b []byte) []byte {
	if f.fold == nil {
		return appendValue(b, f.initial)
	}
	return f.fold.appendTo(b)
}

// within gives the elements of an array as raw JSON, none of anything else.
func within(v gjson.Result) []string {
	list, _ := elements(v)
	return list
}

// mergeFold is an object of all that the values have.
type mergeFold struct {
	w       *work
	merging merging
	object  object
}

func (f *mergeFold) add(v gjson.Result) (string, error) {
	if !v.IsObject() {
		return "is " + form.Kind(v) + ", not an object", nil
	}
	return "", f.merging.into(f.w, &f.object, v)
}

func (f *mergeFold) appendTo(b []byte) []byte { return f.object.appendTo(b) }
