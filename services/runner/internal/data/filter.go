package data

import (
	"regexp"
	"strings"

	"github.com/tidwall/gjson"

	"turbocat.io/services/runner/internal/form"
)

// filter keeps the rows for which all conditions hold, or any.
type filter struct {
	conditions []condition
	any        bool
}

// condition is one test of a row.
type condition struct {
	field path
	test  test
}

// test decides about the value of a field, which may be absent. problem says why it can not.
type test func(v gjson.Result, ok bool) (holds bool, problem string)

var operators = []string{
	"eq", "neq", "gt", "gte", "lt", "lte", "in", "nin", "contains", "startsWith", "endsWith", "exists", "regex",
}

func parseFilter(o *form.Object, faults *form.Faults) operation {
	var f filter
	f.any = o.OneOf("match", "all", "all", "any") == "any"
	inline := o.Has("field") || o.Has("operator")
	switch {
	case inline && o.Has("conditions"):
		faults.Add(o.At("conditions"), "conflict", "stands beside field and operator; give one of them")
	case o.Has("conditions"):
		list, ok := o.List("conditions")
		if ok && len(list) == 0 {
			faults.Add(o.At("conditions"), "required", "must hold at least one condition")
		}
		for _, v := range list {
			if c, ok := v.Object(faults); ok {
				f.conditions = append(f.conditions, parseCondition(c, faults))
				c.Done()
			}
		}
	case inline:
		f.conditions = append(f.conditions, parseCondition(o, faults))
	default:
		faults.Add(o.At("conditions"), "required", "is missing; give conditions, or field, operator and value")
	}
	return f
}

func parseCondition(o *form.Object, faults *form.Faults) condition {
	c := condition{field: parseField(o, "field", faults)}
	value, given := o.Raw("value")
	operator := o.Required("operator", "it must be one of "+strings.Join(operators, ", "))
	if !given && operator != "exists" {
		faults.Add(value.Path, "required", "is missing; give what to compare with")
		given = operator == ""
	}
	wrong := func(want string) {
		if given {
			faults.Add(value.Path, "type", "of the operator %s must be %s, not %s", operator, want, form.Kind(value.Result))
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
		c.test = isIn(value, operator == "nin", faults)
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
		re, err := regexp.Compile(value.Str)
		if err != nil {
			faults.Add(value.Path, "regex", "is no RE2 expression: %v", err)
			break
		}
		c.test = texts(re.MatchString)
	case "":
	default:
		faults.Add(o.At("operator"), "enum", "is %q; it must be one of %s", operator, strings.Join(operators, ", "))
	}
	return c
}

// equals takes an absent field for null.
func equals(want gjson.Result, not bool) test {
	return func(v gjson.Result, ok bool) (bool, string) {
		if missing(v, ok) || want.Type == gjson.Null {
			return (missing(v, ok) && want.Type == gjson.Null) != not, ""
		}
		same, comparable := equal(v, want)
		if !comparable {
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
func isIn(list form.Value, not bool, faults *form.Faults) test {
	known := map[string]bool{}
	elements, _ := list.List(faults)
	for _, e := range elements {
		id, ok := identity(nil, e.Result)
		if !ok {
			faults.Add(e.Path, "type", tooDeep)
		}
		known[string(id)] = true
	}
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
			same, comparable := equal(e, want)
			if !comparable {
				problem = tooDeep
			}
			found = same
			return !found && comparable
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
		keep, err := f.keeps(w, i, row)
		if err != nil {
			return nil, err
		}
		if keep {
			kept = append(kept, row)
		}
	}
	return kept, nil
}

func (f filter) keeps(w *work, i int, row string) (bool, error) {
	r := gjson.Parse(row)
	for _, c := range f.conditions {
		if err := w.reading(row); err != nil {
			return false, err
		}
		v, ok, problem := c.field.find(r)
		holds := false
		if problem == "" {
			holds, problem = c.test(v, ok)
		}
		if problem != "" {
			return false, &rowFault{row: i, field: c.field.text, problem: problem}
		}
		if holds == f.any {
			return f.any, nil
		}
	}
	return !f.any, nil
}
