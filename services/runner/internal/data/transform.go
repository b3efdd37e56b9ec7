package data

import (
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"turbocat.io/services/runner/internal/form"
)

// The ways to write where a value comes from.
var sources = []string{"field", "value", "coalesce", "concat", "object", "cases", "expr"}

// parseTransform reads fields that are paths, constants, or made of other values, and what is
// done to them.
func parseTransform(o *form.Object, faults *form.Faults) operation {
	return parseShaping(o, `like {"name":"user.name","total":{"field":"price","convert":["number",{"round":2}]}}`, faults, func(v form.Value) shape {
		return parseShape(v, faults)
	})
}

func parseShape(v form.Value, faults *form.Faults) shape {
	if v.Type == gjson.String {
		return source{parsePath(v.Str, v.Path, faults)}
	}
	if !v.IsObject() {
		faults.Add(v.Path, `must be the path of a field or an object like {"field":...}, not %s`, form.Kind(v.Result))
		return constant{}
	}
	o, _ := v.Object(faults)
	made, name := parseSource(o, faults)
	if list, ok := o.List("convert"); ok {
		made = converted{shape: made, name: name, conversions: parseConversions(list, o.At("convert"), faults)}
	}
	o.Done()
	return made
}

// parseSource reads where a value comes from, and gives the field of the row that it is about, if any.
func parseSource(o *form.Object, faults *form.Faults) (_ shape, name string) {
	chosen := ""
	for _, s := range sources {
		_, given := o.Raw(s)
		given = given && (s == "value" || o.Has(s)) // a constant may be null
		switch {
		case given && chosen != "":
			faults.Add(o.At(s), "stands beside %s; give one of them", chosen)
		case given:
			chosen = s
		}
	}
	for _, option := range []struct{ name, of string }{{"separator", "concat"}, {"else", "cases"}} {
		if o.Has(option.name) && chosen != option.of {
			faults.Add(o.At(option.name), "is an option of %s; remove it", option.of)
		}
	}
	switch chosen {
	case "field":
		p := parseField(o, "field", faults)
		return source{p}, p.Text
	case "value":
		v, _ := o.Raw("value")
		return constant{v.Result}, ""
	case "coalesce":
		return coalesced{parseShapes(o, "coalesce", faults)}, ""
	case "concat":
		return concatenated{parseShapes(o, "concat", faults), o.String("separator", "")}, ""
	case "object":
		var n nested
		if sub, ok := o.Sub("object"); ok {
			sub.Each(func(name string, v form.Value) {
				n.fields = append(n.fields, field{name: name, quoted: quote(name), shape: parseShape(v, faults)})
			})
		}
		return n, ""
	case "cases":
		return parseCases(o, faults), ""
	case "expr":
		return parseComputation(o, faults), ""
	default:
		faults.Add(o.At("field"), "is missing; give one of %s", strings.Join(sources, ", "))
		return constant{}, ""
	}
}

// parseShapes reads a list of shapes.
func parseShapes(o *form.Object, name string, faults *form.Faults) []shape {
	list, ok := o.List(name)
	if ok && (len(list) == 0 || len(list) > maxShapes) {
		faults.Add(o.At(name), "has %d entries; give 1 to %d", len(list), maxShapes)
		return nil
	}
	shapes := make([]shape, len(list))
	for i, v := range list {
		shapes[i] = parseShape(v, faults)
	}
	return shapes
}

// maxShapes bounds one list of shapes, of cases or of conversions.
const maxShapes = 100

// coalesced is the first of several values that is not null.
type coalesced struct{ shapes []shape }

func (c coalesced) of(w *work, row gjson.Result) (gjson.Result, error) {
	for _, s := range c.shapes {
		v, err := s.of(w, row)
		if err != nil || v.Type != gjson.Null {
			return v, err
		}
	}
	return gjson.Result{}, nil
}

// concatenated is a text of texts; nulls are passed over.
type concatenated struct {
	shapes    []shape
	separator string
}

func (c concatenated) of(w *work, row gjson.Result) (gjson.Result, error) {
	var b []byte
	begun := false
	for i, s := range c.shapes {
		v, err := s.of(w, row)
		if err != nil {
			return v, err
		}
		if v.Type == gjson.Null {
			continue
		}
		part, ok := plain(v)
		if !ok {
			return v, &rowFault{field: nameOf(s), problem: "is " + form.Kind(v) + ", which can be no part of a text; part " + strconv.Itoa(i) + " of concat must be a string, a number or a boolean"}
		}
		if begun {
			b = append(b, c.separator...)
		}
		begun = true
		b = append(b, part...)
		if err := w.making(len(c.separator) + len(part)); err != nil {
			return v, err
		}
	}
	return computed(string(b)), nil
}

// nameOf gives the field that a shape takes from the row; "" for others.
func nameOf(s shape) string {
	switch s := s.(type) {
	case source:
		return s.path.Text
	case converted:
		return s.name
	default:
		return ""
	}
}

// nested is an object of values.
type nested struct{ fields []field }

func (n nested) of(w *work, row gjson.Result) (gjson.Result, error) {
	b, err := appendFields(w, []byte{'{'}, 0, n.fields, row)
	if err == nil {
		err = w.making(len(b))
	}
	return gjson.Result{Type: gjson.JSON, Raw: string(b)}, err
}

// cased is the value of the first case whose condition holds for the row.
type cased struct {
	cases     []oneCase
	otherwise shape
}

type oneCase struct {
	when condition
	then shape
}

func parseCases(o *form.Object, faults *form.Faults) shape {
	c := cased{otherwise: constant{}}
	list, ok := o.List("cases")
	if ok && (len(list) == 0 || len(list) > maxShapes) {
		faults.Add(o.At("cases"), "has %d entries; give 1 to %d", len(list), maxShapes)
		return c
	}
	for _, v := range list {
		e, ok := v.Object(faults)
		if !ok {
			continue
		}
		var one oneCase
		when, _ := e.Raw("when")
		if e.Has("when") {
			one.when = parsePart(when, faults)
		} else {
			faults.Add(when.Path, `is missing; give a condition, like {"field":"n","operator":"gt","value":1}`)
		}
		then, given := e.Raw("then")
		if given {
			one.then = parseShape(then, faults)
		} else {
			faults.Add(then.Path, `is missing; give the path of a field or {"value":...}`)
		}
		e.Done()
		c.cases = append(c.cases, one)
	}
	if o.Has("else") {
		v, _ := o.Raw("else")
		c.otherwise = parseShape(v, faults)
	}
	return c
}

func (c cased) of(w *work, row gjson.Result) (gjson.Result, error) {
	for _, one := range c.cases {
		holds, err := one.when.holds(w, row)
		if err != nil {
			return gjson.Result{}, err
		}
		if holds {
			return one.then.of(w, row)
		}
	}
	return c.otherwise.of(w, row)
}
