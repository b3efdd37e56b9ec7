package data

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"turbocat.io/pkg/dates"
	"turbocat.io/services/runner/internal/form"
)

// converted is a value to which something is done.
type converted struct {
	shape       shape
	name        string // the field of the row that it is about, if any
	conversions []conversion
}

// conversion makes a value of one that is not null. problem says why it can not.
type conversion struct {
	name string
	of   func(v gjson.Result) (_ gjson.Result, problem string)
	null bool // takes null too
}

// The conversions that need no option, and those that take one.
var (
	plainConversions  = []string{"string", "number", "boolean", "upper", "lower", "trim", "round", "length"}
	optionConversions = []string{"round", "split", "join", "date", "lookup", "default"}
)

func parseConversions(list []form.Value, at string, faults *form.Faults) []conversion {
	if len(list) > maxShapes {
		faults.Add(at, "has %d entries; give at most %d", len(list), maxShapes)
		return nil
	}
	conversions := make([]conversion, 0, len(list))
	for _, v := range list {
		switch {
		case v.Type == gjson.String:
			of, ok := plainConversion(v.Str)
			if !ok {
				faults.Add(v.Path, "is %q; it must be one of %s, or an object of one of %s",
					v.Str, strings.Join(plainConversions, ", "), strings.Join(optionConversions, ", "))
			}
			conversions = append(conversions, conversion{name: v.Str, of: of})
		case v.IsObject():
			o, _ := v.Object(faults)
			conversions = append(conversions, parseConversion(o, v.Path, faults))
			o.Done()
		default:
			faults.Add(v.Path, `must be the name of a conversion or an object like {"round":2}, not %s`, form.Kind(v.Result))
		}
	}
	return conversions
}

// parseConversion reads a conversion with its option: an object of one field.
func parseConversion(o *form.Object, at string, faults *form.Faults) conversion {
	var c conversion
	if names := o.Names(); len(names) != 1 {
		o.HasAny(names...) // whatever they are
		faults.Add(at, "has %d fields; give one of %s", len(names), strings.Join(optionConversions, ", "))
		return c
	}
	c.name = o.Names()[0]
	v, _ := o.Raw(c.name)
	if v.Type == gjson.Null && c.name != "default" {
		faults.Add(v.Path, "must not be null; give the option of %s", c.name)
		return c
	}
	switch c.name {
	case "round":
		digits := o.Int(c.name, 0, maxDigits, 0)
		c.of = func(v gjson.Result) (gjson.Result, string) { return round(v, int(digits)) }
	case "split":
		separator := o.Required(c.name, "give what stands between the parts")
		c.of = func(v gjson.Result) (gjson.Result, string) { return split(v, separator) }
	case "join":
		separator := o.String(c.name, "")
		c.of = func(v gjson.Result) (gjson.Result, string) { return join(v, separator) }
	case "date":
		c.of = parseDate(v, faults)
	case "lookup":
		c.of = parseLookup(v, faults)
	case "default":
		c.null = true
		c.of = func(was gjson.Result) (gjson.Result, string) {
			if was.Type == gjson.Null {
				return v.Result, ""
			}
			return was, ""
		}
	default:
		faults.Add(v.Path, "is no conversion with an option; give one of %s", strings.Join(optionConversions, ", "))
	}
	return c
}

func (c converted) of(w *work, row gjson.Result) (gjson.Result, error) {
	v, err := c.shape.of(w, row)
	if err != nil {
		return v, err
	}
	for _, conversion := range c.conversions {
		if v.Type == gjson.Null && !conversion.null {
			continue
		}
		made, problem := conversion.of(v)
		if problem != "" {
			return v, &rowFault{field: c.name, problem: problem + ", which " + conversion.name + " can not convert"}
		}
		// What was not made but found takes no memory.
		if made.Raw != v.Raw || made.Str != v.Str {
			if err := w.making(len(made.Raw) + len(made.Str)); err != nil {
				return v, err
			}
		}
		v = made
	}
	return v, nil
}

func plainConversion(name string) (func(gjson.Result) (gjson.Result, string), bool) {
	switch name {
	case "string":
		return toString, true
	case "number":
		return toNumber, true
	case "boolean":
		return toBoolean, true
	case "upper":
		return onText(strings.ToUpper), true
	case "lower":
		return onText(strings.ToLower), true
	case "trim":
		return onText(strings.TrimSpace), true
	case "round":
		return func(v gjson.Result) (gjson.Result, string) { return round(v, 0) }, true
	case "length":
		return length, true
	default:
		return nil, false
	}
}

func onText(change func(string) string) func(gjson.Result) (gjson.Result, string) {
	return func(v gjson.Result) (gjson.Result, string) {
		if v.Type != gjson.String {
			return v, "is " + form.Kind(v)
		}
		return computed(change(v.Str)), ""
	}
}

// toString writes numbers as they are spelt, and arrays and objects as JSON.
func toString(v gjson.Result) (gjson.Result, string) {
	if v.Type == gjson.String {
		return v, ""
	}
	return computed(v.Raw), ""
}

// toNumber reads a string that is spelt like a JSON number.
func toNumber(v gjson.Result) (gjson.Result, string) {
	switch v.Type {
	case gjson.Number:
		return v, ""
	case gjson.True:
		return gjson.Parse("1"), ""
	case gjson.False:
		return gjson.Parse("0"), ""
	case gjson.String:
		s := strings.TrimSpace(v.Str)
		if s != "" && (s[0] == '-' || s[0] >= '0' && s[0] <= '9') && json.Valid([]byte(s)) {
			return gjson.Parse(s), ""
		}
		return v, "is a string that is no number"
	default:
		return v, "is " + form.Kind(v)
	}
}

func toBoolean(v gjson.Result) (gjson.Result, string) {
	s, ok := plain(v)
	if !ok {
		return v, "is " + form.Kind(v)
	}
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "true", "yes", "on", "1":
		return gjson.Parse("true"), ""
	case "false", "no", "off", "0":
		return gjson.Parse("false"), ""
	default:
		return v, "is " + form.Kind(v) + " that is neither true nor false"
	}
}

func length(v gjson.Result) (gjson.Result, string) {
	n := 0
	switch v.Type {
	case gjson.String:
		n = utf8.RuneCountInString(v.Str)
	case gjson.JSON:
		v.ForEach(func(_, _ gjson.Result) bool {
			n++
			return true
		})
	default:
		return v, "is " + form.Kind(v)
	}
	return gjson.Parse(strconv.Itoa(n)), ""
}

func split(v gjson.Result, separator string) (gjson.Result, string) {
	if v.Type != gjson.String {
		return v, "is " + form.Kind(v)
	}
	b := []byte{'['}
	for part := range strings.SplitSeq(v.Str, separator) {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = appendQuoted(b, part)
	}
	return gjson.Parse(string(append(b, ']'))), ""
}

// join passes over nulls.
func join(v gjson.Result, separator string) (_ gjson.Result, problem string) {
	if !v.IsArray() {
		return v, "is " + form.Kind(v)
	}
	var parts []string
	v.ForEach(func(_, e gjson.Result) bool {
		part, ok := plain(e)
		switch {
		case ok:
			parts = append(parts, part)
		case e.Type != gjson.Null:
			problem = "has " + form.Kind(e) + " in it"
		}
		return problem == ""
	})
	return computed(strings.Join(parts, separator)), problem
}

// maxDigits is how many digits a number may keep behind its point.
const maxDigits = 15

// round rounds the number that is written, halves away from zero.
func round(v gjson.Result, digits int) (gjson.Result, string) {
	if v.Type != gjson.Number {
		return v, "is " + form.Kind(v)
	}
	d := parseDecimal(v.Raw)
	kept := d.point + digits // how many of its digits stay
	switch {
	case kept >= len(d.digits):
		return v, ""
	case kept < 0:
		return gjson.Parse("0"), ""
	}
	up := d.digits[kept] >= '5'
	b := append([]byte{'0'}, d.digits[:kept]...) // room for a carry
	for i := len(b) - 1; up; i-- {
		if up = b[i] == '9'; up {
			b[i] = '0'
		} else {
			b[i]++
		}
	}
	return gjson.Parse(written(d.negative, b, digits)), ""
}

// written gives the number of some digits, the last few of which stand behind the point.
func written(negative bool, b []byte, behind int) string {
	for len(b) <= behind {
		b = append([]byte{'0'}, b...)
	}
	whole := strings.TrimLeft(string(b[:len(b)-behind]), "0")
	fraction := strings.TrimRight(string(b[len(b)-behind:]), "0")
	if whole == "" {
		whole = "0"
	}
	if fraction != "" {
		whole += "." + fraction
	}
	if negative && whole != "0" {
		return "-" + whole
	}
	return whole
}

func parseDate(v form.Value, faults *form.Faults) func(gjson.Result) (gjson.Result, string) {
	o, ok := v.Object(faults)
	if !ok {
		return nil
	}
	layout := func(name string) dates.Layout {
		l, err := dates.ParseLayout(o.String(name, "iso"))
		if err != nil {
			faults.Add(o.At(name), "%s", err)
		}
		return l
	}
	from, to := layout("from"), layout("to")
	zone, err := dates.ParseZone(o.String("zone", "UTC"))
	if err != nil {
		faults.Add(o.At("zone"), "%s", err)
	}
	o.Done()
	return func(v gjson.Result) (gjson.Result, string) { return date(v, from, to, zone) }
}

func date(v gjson.Result, from, to dates.Layout, zone *time.Location) (gjson.Result, string) {
	want, read := gjson.String, func() (time.Time, bool) { return from.FromText(v.Str, zone) }
	if from.IsNumber() {
		want, read = gjson.Number, func() (time.Time, bool) { return from.FromNumber(v.Raw) }
	}
	if v.Type != want {
		return v, "is " + form.Kind(v)
	}
	at, ok := read()
	if !ok {
		return v, "is " + form.Kind(v) + " that is no date as from says"
	}
	s, ok := to.Text(at, zone)
	switch {
	case !ok:
		return v, "is a date beyond the years 0 to 9999"
	case to.IsNumber():
		return gjson.Parse(s), ""
	default:
		return computed(s), ""
	}
}

// parseLookup reads a table by the text of a string, a number or a boolean.
func parseLookup(v form.Value, faults *form.Faults) func(gjson.Result) (gjson.Result, string) {
	o, ok := v.Object(faults)
	if !ok {
		return nil
	}
	table := map[string]gjson.Result{}
	switch entries, ok := o.Sub("table"); {
	case ok:
		entries.Each(func(name string, v form.Value) { table[name] = v.Result })
	case !o.Has("table"):
		faults.Add(o.At("table"), `is missing; give what stands for which value, like {"de":"Germany"}`)
	}
	otherwise, _ := o.Raw("otherwise")
	o.Done()
	return func(v gjson.Result) (gjson.Result, string) {
		key, ok := plain(v)
		if !ok {
			return v, "is " + form.Kind(v)
		}
		if v.Type == gjson.Number {
			key = string(appendNumber(nil, v.Raw)) // 1.0 is found as 1
		}
		if found, ok := table[key]; ok {
			return found, ""
		}
		return otherwise.Result, ""
	}
}
