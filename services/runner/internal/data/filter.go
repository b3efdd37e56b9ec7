package data

import (
	"strings"

	"github.com/tidwall/gjson"

	"turbocat.io/pkg/pattern"
	"turbocat.io/services/runner/internal/form"
)

// filter keeps the rows for which a condition holds.
type filter struct{ condition }

// condition decides about a row: by the test of a field, or by other conditions, of which all
// must hold, or any; or by an expression. It may be turned round.
type condition struct {
	field path
	test  test // nil for a combination and a computation
	value *computation
	parts []condition
	any   bool
	not   bool
}

// test decides about the value of a field, which may be absent. problem says why it can not.
type test func(v gjson.Result, ok bool) (holds bool, problem string)

// maxConditions bounds one list of conditions.
const maxConditions = 100

var operators = []string{
	"eq", "neq", "gt", "gte", "lt", "lte", "in", "nin", "contains", "startsWith", "endsWith", "exists", "regex",
}

// The ways to write a condition; a filter has conditions too, with match.
var (
	conditionForms = []string{"all", "any", "not", "expr", "field", "operator", "value"}
	filterForms    = append([]string{"conditions"}, conditionForms...)
)

func parseFilter(o *form.Object, faults *form.Faults) operation {
	matchAny := o.OneOf("match", "all", "all", "any") == "any"
	switch {
	case o.Has("conditions"):
		alone(o, "conditions", filterForms, faults)
		c := parseAll(o, "conditions", faults)
		c.any = matchAny
		return filter{c}
	case !o.HasAny(conditionForms...):
		faults.Add(o.At("conditions"), "is missing; give conditions, or field, operator and value")
		return filter{}
	default:
		return filter{parseCondition(o, faults)}
	}
}

// alone notes a fault for each of forms that stands beside name.
func alone(o *form.Object, name string, forms []string, faults *form.Faults) {
	for _, other := range forms {
		if other != name && o.Has(other) {
			faults.Add(o.At(other), "stands beside %s; give one of them", name)
		}
	}
}

func parseCondition(o *form.Object, faults *form.Faults) condition {
	switch {
	case o.Has("all"):
		alone(o, "all", conditionForms, faults)
		return parseAll(o, "all", faults)
	case o.Has("any"):
		alone(o, "any", conditionForms, faults)
		c := parseAll(o, "any", faults)
		c.any = true
		return c
	case o.Has("not"):
		alone(o, "not", conditionForms, faults)
		v, _ := o.Raw("not")
		c := parsePart(v, faults)
		c.not = !c.not
		return c
	case o.Has("expr"):
		alone(o, "expr", conditionForms, faults)
		value := parseComputation(o, faults)
		return condition{value: &value}
	default:
		return parseTest(o, faults)
	}
}

// parseAll reads a list of conditions.
func parseAll(o *form.Object, name string, faults *form.Faults) condition {
	var c condition
	list, ok := o.List(name)
	if ok && (len(list) == 0 || len(list) > maxConditions) {
		faults.Add(o.At(name), "has %d conditions; give 1 to %d", len(list), maxConditions)
		return c
	}
	for _, v := range list {
		c.parts = append(c.parts, parsePart(v, faults))
	}
	return c
}

func parsePart(v form.Value, faults *form.Faults) condition {
	o, ok := v.Object(faults)
	if !ok {
		return condition{}
	}
	c := parseCondition(o, faults)
	o.Done()
	return c
}

func parseTest(o *form.Object, faults *form.Faults) condition {
	c := condition{field: parseField(o, "field", faults)}
	value, given := o.Raw("value")
	operator := o.Required("operator", "it must be one of "+strings.Join(operators, ", "))
	if !given && operator != "exists" && operator != "" {
		faults.Add(value.Path, "is missing; give what to compare with")
	}
	wrong := func(want string) {
		if given {
			faults.Add(value.Path, "of the operator %s must be %s, not %s", operator, want, form.Kind(value.Result))
		}
	}
	switch operator {
	case "eq", "neq":
		c.test = equals(value.Result, operator == "neq")
	case "gt", "gte", "lt", "lte":
		if value.Type != gjson.Number && value.Type != gjson.String {
			wrong("a number or a string")
		}
		c.test = orders(value.Result, operator)
	case "in", "nin":
		if !value.IsArray() {
			wrong("an array")
			break
		}
		c.test = isIn(value, operator == "nin")
	case "contains":
		c.test = contains(value.Result)
	case "startsWith", "endsWith":
		if value.Type != gjson.String {
			wrong("a string")
		}
		cut := strings.HasPrefix
		if operator == "endsWith" {
			cut = strings.HasSuffix
		}
		c.test = texts(func(s string) bool { return cut(s, value.Str) })
	case "exists":
		if given && !value.IsBool() {
			wrong("true or false")
		}
		want := !given || value.Type == gjson.True
		c.test = func(_ gjson.Result, ok bool) (bool, string) { return ok == want, "" }
	case "regex":
		if value.Type != gjson.String {
			wrong("a string")
			break
		}
		re, err := pattern.Compile(value.Str)
		if err != nil {
			faults.Add(value.Path, "%s", err)
			break
		}
		c.test = texts(re.MatchString)
	case "":
	default:
		faults.Add(o.At("operator"), "is %q; it must be one of %s", operator, strings.Join(operators, ", "))
	}
	return c
}

// equals takes an absent field for null.
func equals(want gjson.Result, not bool) test {
	return func(v gjson.Result, ok bool) (bool, string) {
		if missing(v, ok) || want.Type == gjson.Null {
			return (missing(v, ok) && want.Type == gjson.Null) != not, ""
		}
		same, ok := equal(v, want)
		if !ok {
			return false, tooDeep
		}
		return same != not, ""
	}
}

// orders holds for no absent or null field.
func orders(want gjson.Result, operator string) test {
	return func(v gjson.Result, ok bool) (bool, string) {
		if missing(v, ok) {
			return false, ""
		}
		var c int
		switch {
		case v.Type != want.Type:
			return false, "is " + form.Kind(v) + ", which " + operator + " can not compare with " + form.Kind(want)
		case v.Type == gjson.Number:
			c = compareNumbers(v.Num, v.Raw, want.Num, want.Raw)
		default:
			c = strings.Compare(v.Str, want.Str)
		}
		switch operator {
		case "gt":
			return c > 0, ""
		case "gte":
			return c >= 0, ""
		case "lt":
			return c < 0, ""
		default:
			return c <= 0, ""
		}
	}
}

// isIn takes an absent field for null.
func isIn(list form.Value, not bool) test {
	known := map[string]bool{}
	list.ForEach(func(_, e gjson.Result) bool {
		id, _ := identity(nil, e) // no config nests too deep
		known[string(id)] = true
		return true
	})
	return func(v gjson.Result, ok bool) (bool, string) {
		if missing(v, ok) {
			v = gjson.Result{}
		}
		id, ok := identity(make([]byte, 0, 64), v)
		if !ok {
			return false, tooDeep
		}
		return known[string(id)] != not, ""
	}
}

// contains looks for a part of a string or for an element of an array.
func contains(want gjson.Result) test {
	return func(v gjson.Result, ok bool) (bool, string) {
		switch {
		case missing(v, ok):
			return false, ""
		case v.Type == gjson.String && want.Type == gjson.String:
			return strings.Contains(v.Str, want.Str), ""
		case v.Type == gjson.String:
			return false, "is a string, which can not contain " + form.Kind(want)
		case !v.IsArray():
			return false, "is " + form.Kind(v) + ", which contains needs to be a string or an array"
		}
		found, problem := false, ""
		v.ForEach(func(_, e gjson.Result) bool {
			same, ok := equal(e, want)
			if !ok {
				problem = tooDeep
			}
			found = same
			return !found && ok
		})
		return found, problem
	}
}

// texts tests strings; it holds for no absent or null field.
func texts(holds func(string) bool) test {
	return func(v gjson.Result, ok bool) (bool, string) {
		switch {
		case missing(v, ok):
			return false, ""
		case v.Type != gjson.String:
			return false, "is " + form.Kind(v) + ", not a string"
		default:
			return holds(v.Str), ""
		}
	}
}

func (f filter) apply(w *work, rows []string) ([]string, error) {
	kept := make([]string, 0, len(rows))
	for i, row := range rows {
		keep, err := f.holds(w, gjson.Parse(row))
		if err != nil {
			return nil, inRow(i, err)
		}
		if keep {
			kept = append(kept, row)
		}
	}
	return kept, nil
}

// holds tells whether the condition holds for a row; the row of a fault is for the caller to name.
func (c condition) holds(w *work, row gjson.Result) (bool, error) {
	if c.value != nil {
		holds, err := c.value.holds(w, row)
		return holds != c.not, err
	}
	if c.test == nil {
		for _, part := range c.parts {
			holds, err := part.holds(w, row)
			if err != nil {
				return false, err
			}
			if holds == c.any {
				return c.any != c.not, nil
			}
		}
		return c.any == c.not, nil
	}
	if err := w.reading(row.Raw); err != nil {
		return false, err
	}
	v, ok, problem := c.field.find(row)
	holds := false
	if problem == "" {
		holds, problem = c.test(v, ok)
	}
	if problem != "" {
		return false, &rowFault{field: c.field.Text, problem: problem}
	}
	return holds != c.not, nil
}
