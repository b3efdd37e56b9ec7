// Package form reads the JSON body of a client field by field and collects every fault of
// a request, so that a client sees all that is wrong at once.
//
// The readers write into a value that holds the defaults or the state so far: an absent
// field leaves it as it is, null sets the default, anything else is checked and set. That is
// what a body asks for, which makes something or changes it; a config, which only says what is
// to be done, is better read by values.
package form

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/rawjson"
	"turbocat.io/pkg/template"
)

// MaxDepth is how deep a body may nest, well below what the parsers behind take.
const MaxDepth = 200

// maxFaults bounds how many faults are spelled out.
const maxFaults = 200

// Faults collects what is wrong with a request. It is not safe for concurrent use.
type Faults struct {
	details []errs.Detail
	more    int
}

// Add notes a fault of a field: the message says what is wrong and what would be right.
func (f *Faults) Add(field string, code errs.DetailCode, format string, args ...any) {
	if len(f.details) == maxFaults {
		f.more++
		return
	}
	f.details = append(f.details, errs.Detail{Field: field, Message: fmt.Sprintf(format, args...), Code: code})
}

// AddSorted takes over the faults of other in the order of their fields.
func (f *Faults) AddSorted(other Faults) {
	slices.SortStableFunc(other.details, func(a, b errs.Detail) int { return strings.Compare(a.Field, b.Field) })
	for _, d := range other.details {
		f.Add(d.Field, d.Code, "%s", d.Message)
	}
	f.more += other.more
}

// Err gives the VALIDATION_ERROR for what, nil when there are no faults.
func (f *Faults) Err(what string) error {
	if len(f.details) == 0 {
		return nil
	}
	details := f.details
	if f.more > 0 {
		details = append(details[:maxFaults:maxFaults], errs.Detail{Message: strconv.Itoa(f.more) + " more problems; correct the ones above first", Code: errs.More})
	}
	return errs.Invalid(what, details)
}

// Join gives the path of a key inside the value at path.
func Join(path, key string) string {
	segment := template.Path{template.Key(clip(key))}.String()
	if path == "" || strings.HasPrefix(segment, "[") {
		return path + segment
	}
	return path + "." + segment
}

// At gives the path of a place in the array at path.
func At(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// Quote shows a client's text in a message, cut when it is long.
func Quote(s string) string { return strconv.Quote(clip(s)) }

func clip(s string) string {
	const most = 80
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "..."
}

// Object is a JSON object of a body.
type Object struct {
	Path   string
	faults *Faults
	fields map[string]json.RawMessage
}

// Read opens a whole body; false, with the fault noted, when it is no JSON object.
func Read(body json.RawMessage, faults *Faults) (Object, bool) {
	switch {
	case !utf8.Valid(body):
		faults.Add("", errs.BadJSON, "the body is not UTF-8; encode it so")
		return Object{}, false
	case !json.Valid(body):
		faults.Add("", errs.BadJSON, "the body is not valid JSON; correct its syntax")
		return Object{}, false
	case rawjson.Depth(body) > MaxDepth:
		faults.Add("", errs.BadValue, "the body nests deeper than %d levels; make it flatter", MaxDepth)
		return Object{}, false
	}
	return Open("", body, faults)
}

// Open opens the value at path; false, with the fault noted, when it is no object.
func Open(path string, raw json.RawMessage, faults *Faults) (Object, bool) {
	o := Object{Path: path, faults: faults}
	if kind(raw) != "an object" || json.Unmarshal(raw, &o.fields) != nil {
		if path == "" {
			faults.Add("", errs.BadType, "the body is %s; send a JSON object", kind(raw))
		} else {
			faults.Add(path, errs.BadType, "is %s; give an object", kind(raw))
		}
		return o, false
	}
	return o, true
}

// Field gives the path of a field of the object.
func (o Object) Field(name string) string { return Join(o.Path, name) }

// Has tells whether the field is given, also as null.
func (o Object) Has(name string) bool {
	_, ok := o.fields[name]
	return ok
}

// IsNull tells whether the field is given as null.
func (o Object) IsNull(name string) bool { return isNull(o.fields[name]) }

// Text gives the string of a field; "" when it is absent or no string. No fault is noted.
func (o Object) Text(name string) string {
	var s string
	_ = json.Unmarshal(o.fields[name], &s)
	return s
}

// Only notes a fault for every field that is none of names.
func (o Object) Only(names ...string) {
	for _, name := range slices.Sorted(maps.Keys(o.fields)) {
		if !slices.Contains(names, name) {
			o.faults.Add(o.Field(name), errs.UnknownField, "unknown field; remove it or correct its name")
		}
	}
}

// Require notes a fault for each of names that is null or, in a body that makes something new, absent.
func (o Object) Require(create bool, names ...string) {
	for _, name := range names {
		raw, present := o.fields[name]
		if present && isNull(raw) || !present && create {
			o.faults.Add(o.Field(name), errs.Required, "is required; add it")
		}
	}
}

// given gives the raw value of a field that is to be checked and set.
func given[T any](o Object, name string, dst *T, otherwise T) (json.RawMessage, bool) {
	raw, present := o.fields[name]
	if present && isNull(raw) {
		*dst = otherwise
	}
	return raw, present && !isNull(raw)
}

func isNull(raw json.RawMessage) bool { return string(bytes.TrimSpace(raw)) == "null" }

// String reads a text of least to most characters, without NUL.
func (o Object) String(name string, dst *string, otherwise string, least, most int) {
	raw, ok := given(o, name, dst, otherwise)
	if !ok {
		return
	}
	if s, ok := str(o.faults, o.Field(name), raw, least, most); ok {
		*dst = s
	}
}

func str(faults *Faults, field string, raw json.RawMessage, least, most int) (string, bool) {
	var s string
	if kind(raw) != "a string" || json.Unmarshal(raw, &s) != nil {
		faults.Add(field, errs.BadType, "is %s; give a string", kind(raw))
		return "", false
	}
	if n := utf8.RuneCountInString(s); n < least || n > most {
		faults.Add(field, errs.OutOfRange, "has %d characters; give %d to %d", n, least, most)
		return "", false
	}
	if strings.ContainsRune(s, 0) {
		faults.Add(field, errs.BadValue, `contains a NUL character (\u0000); remove it`)
		return "", false
	}
	return s, true
}

// Enum reads one of the allowed texts.
func (o Object) Enum(name string, dst *string, otherwise string, allowed ...string) {
	raw, ok := given(o, name, dst, otherwise)
	if !ok {
		return
	}
	var s string
	if kind(raw) != "a string" || json.Unmarshal(raw, &s) != nil {
		o.faults.Add(o.Field(name), errs.BadType, "is %s; give one of %s", kind(raw), strings.Join(allowed, ", "))
		return
	}
	if !slices.Contains(allowed, s) {
		o.faults.Add(o.Field(name), errs.BadEnum, "is %s; give one of %s", Quote(s), strings.Join(allowed, ", "))
		return
	}
	*dst = s
}

// Bool reads true or false.
func (o Object) Bool(name string, dst *bool, otherwise bool) {
	raw, ok := given(o, name, dst, otherwise)
	if ok && json.Unmarshal(raw, dst) != nil {
		o.faults.Add(o.Field(name), errs.BadType, "is %s; give true or false", kind(raw))
	}
}

// Int reads a whole number of least to most.
func (o Object) Int(name string, dst *int64, otherwise, least, most int64) {
	raw, ok := given(o, name, dst, otherwise)
	if !ok {
		return
	}
	if kind(raw) != "a number" {
		o.faults.Add(o.Field(name), errs.BadType, "is %s; give a whole number", kind(raw))
		return
	}
	n, err := whole(raw)
	if err != nil || n < least || n > most {
		o.faults.Add(o.Field(name), errs.OutOfRange, "is %s; give a whole number from %d to %d", clip(string(raw)), least, most)
		return
	}
	*dst = n
}

// whole reads 3, and 3.0 and 3e0 too: to JSON they are one number.
func whole(raw json.RawMessage) (int64, error) {
	s := string(bytes.TrimSpace(raw))
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil {
		return n, nil
	}
	f, ferr := strconv.ParseFloat(s, 64)
	if ferr == nil && f == float64(int64(f)) && f > -1<<53 && f < 1<<53 {
		return int64(f), nil
	}
	return 0, err
}

// Time reads a moment in RFC 3339, as the database keeps it; null is none.
func (o Object) Time(name string, dst **time.Time) {
	raw, ok := given(o, name, dst, nil)
	if !ok {
		return
	}
	var s string
	_ = json.Unmarshal(raw, &s)
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.Year() < 1 || t.Year() > 9999 {
		o.faults.Add(o.Field(name), errs.BadValue, "is not a time; give one like 2026-01-31T08:00:00Z")
		return
	}
	t = t.UTC().Truncate(time.Microsecond)
	*dst = &t
}

// Strings reads an array of at most count texts of least to most characters.
func (o Object) Strings(name string, dst *[]string, count, least, most int) {
	raw, ok := given(o, name, dst, []string{})
	if !ok {
		return
	}
	items, ok := o.list(name, raw, "strings")
	if !ok {
		return
	}
	if len(items) > count {
		o.faults.Add(o.Field(name), errs.OutOfRange, "has %d entries; give at most %d", len(items), count)
		return
	}
	list := make([]string, 0, len(items))
	for i, item := range items {
		if s, ok := str(o.faults, At(o.Field(name), i), item, least, most); ok {
			list = append(list, s)
		}
	}
	*dst = list
}

// List gives the elements of an array; false when it is absent, null or, with the fault noted, no array.
func (o Object) List(name, of string) ([]json.RawMessage, bool) {
	raw, present := o.fields[name]
	if !present || isNull(raw) {
		return nil, false
	}
	return o.list(name, raw, of)
}

func (o Object) list(name string, raw json.RawMessage, of string) ([]json.RawMessage, bool) {
	var items []json.RawMessage
	if kind(raw) != "an array" || json.Unmarshal(raw, &items) != nil {
		o.faults.Add(o.Field(name), errs.BadType, "is %s; give an array of %s", kind(raw), of)
		return nil, false
	}
	return items, true
}

// Object reads a JSON object as it is written.
func (o Object) Object(name string, dst *json.RawMessage, otherwise json.RawMessage) {
	raw, ok := given(o, name, dst, otherwise)
	if !ok {
		return
	}
	if kind(raw) != "an object" {
		o.faults.Add(o.Field(name), errs.BadType, "is %s; give an object", kind(raw))
		return
	}
	*dst = raw
}

// Any reads any JSON value as it is written.
func (o Object) Any(name string, dst *json.RawMessage, otherwise json.RawMessage) {
	if raw, ok := given(o, name, dst, otherwise); ok {
		*dst = raw
	}
}

// kind names the type of a JSON value for people.
func kind(raw json.RawMessage) string {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	if len(raw) == 0 {
		return "empty"
	}
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}
