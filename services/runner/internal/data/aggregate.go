package data

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"turbocat.io/services/runner/internal/form"
)

// aggregation makes one value of a field of many rows. All functions but first and last
// pass over absent fields and nulls; without a field count counts rows. Of no values sum
// and count are 0, all others null.
type aggregation struct {
	name     string
	quoted   string // name as JSON
	function string
	field    *path // nil for the count of rows
}

// aggregate makes one object of all rows.
type aggregate struct{ values []aggregation }

var functions = []string{"sum", "avg", "min", "max", "count", "first", "last"}

func parseAggregate(o *form.Object, faults *form.Faults) operation {
	return aggregate{values: parseAggregations(o, faults)}
}

func parseAggregations(o *form.Object, faults *form.Faults) []aggregation {
	const example = `like {"total":{"function":"sum","field":"price"}}`
	var values []aggregation
	list, ok := o.Sub("aggregations")
	if !ok {
		if !o.Has("aggregations") {
			faults.Add(o.At("aggregations"), "is missing; name the values to make, %s", example)
		}
		return nil
	}
	list.Each(func(name string, v form.Value) {
		e, ok := v.Object(faults)
		if !ok {
			return
		}
		a := aggregation{
			name:     name,
			quoted:   quote(name),
			function: e.Required("function", "it must be one of "+strings.Join(functions, ", ")),
		}
		if a.function != "" {
			e.OneOf("function", "", functions...)
		}
		if a.function != "count" || e.Has("field") {
			p := parseField(e, "field", faults)
			a.field = &p
		}
		e.Done()
		values = append(values, a)
	})
	if len(list.Names()) == 0 {
		faults.Add(o.At("aggregations"), "must name at least one value, %s", example)
	}
	return values
}

func (a aggregate) apply(w *work, rows []string) ([]string, error) {
	all := make([]int, len(rows))
	for i := range all {
		all[i] = i
	}
	var b bytes.Buffer
	for i, v := range a.values {
		raw, err := v.over(w, rows, all)
		if err != nil {
			return nil, err
		}
		if err := w.making(len(raw)); err != nil {
			return nil, err
		}
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(v.quoted + ":")
		b.WriteString(raw)
	}
	b.WriteByte('}')
	return []string{b.String()}, nil
}

// over gives the value over the rows at the given places, as JSON.
func (a aggregation) over(w *work, rows []string, of []int) (string, error) {
	if a.field == nil {
		return strconv.Itoa(len(of)), nil
	}
	switch {
	case len(of) == 0:
	case a.function == "first":
		of = of[:1]
	case a.function == "last":
		of = of[len(of)-1:]
	}
	var t tally
	for _, i := range of {
		if err := w.reading(rows[i]); err != nil {
			return "", err
		}
		v, ok, problem := a.field.find(gjson.Parse(rows[i]))
		if problem == "" && !missing(v, ok) {
			problem = t.add(a.function, v)
		}
		if problem != "" {
			return "", &rowFault{row: i, field: a.field.Text, problem: problem}
		}
	}
	return t.result(a.function), nil
}

// tally is what an aggregation knows of the values so far.
type tally struct {
	count   int
	best    gjson.Result // for min, max, first and last
	sum     float64
	integer int64 // the sum, unless inexact
	inexact bool
}

func (t *tally) add(function string, v gjson.Result) (problem string) {
	t.count++
	switch function {
	case "sum", "avg":
		return t.addNumber(v)
	case "min", "max":
		return t.choose(v, function == "max")
	case "first", "last":
		t.best = v
	}
	return ""
}

// addNumber adds integers exactly for as long as all are and their sum fits 64 bits.
func (t *tally) addNumber(v gjson.Result) (problem string) {
	if v.Type != gjson.Number {
		return "is " + form.Kind(v) + ", not a number"
	}
	if t.sum += v.Num; math.IsInf(t.sum, 0) || math.IsNaN(t.sum) {
		return "makes the sum larger than a number can be"
	}
	n, err := strconv.ParseInt(v.Raw, 10, 64)
	next := t.integer + n
	if err != nil || (next > t.integer) != (n > 0) {
		t.inexact = true
	}
	t.integer = next
	return ""
}

func (t *tally) choose(v gjson.Result, largest bool) (problem string) {
	if v.Type != gjson.Number && v.Type != gjson.String {
		return "is " + form.Kind(v) + ", not a number or a string"
	}
	if t.count == 1 {
		t.best = v
		return ""
	}
	if v.Type != t.best.Type {
		return "is " + form.Kind(v) + ", while the rows before have " + form.Kind(t.best)
	}
	c := strings.Compare(v.Str, t.best.Str)
	if v.Type == gjson.Number {
		c = compareNumbers(v.Num, v.Raw, t.best.Num, t.best.Raw)
	}
	if largest && c > 0 || !largest && c < 0 {
		t.best = v
	}
	return ""
}

func (t *tally) result(function string) string {
	switch {
	case function == "count":
		return strconv.Itoa(t.count)
	case function == "sum" && !t.inexact:
		return strconv.FormatInt(t.integer, 10)
	case function == "sum":
		return number(t.sum)
	case t.count == 0:
		return "null"
	case function == "avg" && !t.inexact:
		return number(float64(t.integer) / float64(t.count))
	case function == "avg":
		return number(t.sum / float64(t.count))
	default:
		return t.best.Raw
	}
}

func number(f float64) string {
	b, _ := json.Marshal(f) // f is finite
	return string(b)
}
