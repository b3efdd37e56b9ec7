// Package form reads an agent's config field by field and collects every fault of it, so
// that a config is refused once, with all its problems, and never half read.
//
// pkg/form does the like for the bodies of clients, which differ in all that matters here: a
// body is written into a value that is there already, and null resets a field of it; a config
// has nothing behind it, so readers return values and null counts as absent. The order of a
// config's fields may matter, a field given twice is a fault, and parts of it are data that
// must stay as they are written, so values are gjson's and nothing is decoded. And the faults
// of a body become the answer to a client, each with a code; those of a config become the
// message of one error of a step.
package form

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"turbocat.io/contracts/runner"
)

// Fault is what is wrong with the field at Path, and what would be right.
type Fault struct {
	Path    string // "" for the whole config
	Message string
}

// Faults collects what is wrong with one config. It is not safe for concurrent use.
type Faults struct{ all []Fault }

// Add notes a fault of the field at path; the message says what would be right.
func (f *Faults) Add(path, format string, args ...any) {
	f.all = append(f.all, Fault{Path: path, Message: fmt.Sprintf(format, args...)})
}

// All gives the faults in the order they were found; nil when there are none.
func (f *Faults) All() []Fault { return f.all }

// Err gives nil, or an INVALID_CONFIG that is not retried and names every fault of the config of what.
func (f *Faults) Err(what string) error {
	if len(f.all) == 0 {
		return nil
	}
	lines := make([]string, len(f.all))
	for i, fault := range f.all {
		lines[i] = fault.Message
		if fault.Path != "" {
			lines[i] = fault.Path + ": " + fault.Message
		}
	}
	noun := "problems"
	if len(lines) == 1 {
		noun = "problem"
	}
	return &runner.StepError{
		Code:    runner.CodeInvalidConfig,
		Message: fmt.Sprintf("%d %s in the config of the %s agent: %s", len(lines), noun, what, strings.Join(lines, "; ")),
	}
}

// Object is a JSON object that is read field by field. Null counts as absent, but for Raw.
type Object struct {
	path   string
	faults *Faults
	names  []string
	values map[string]gjson.Result
	read   map[string]bool
}

// Value is a JSON value and where it stands.
type Value struct {
	gjson.Result
	Path string
}

// Read takes a whole config; false, with a fault noted, when it is no JSON object.
func Read(raw json.RawMessage, faults *Faults) (*Object, bool) {
	if !json.Valid(raw) {
		faults.Add("", "the config is not valid JSON; correct its syntax")
		return nil, false
	}
	r := gjson.Parse(string(raw))
	if !r.IsObject() {
		faults.Add("", "the config must be an object, not %s", Kind(r))
		return nil, false
	}
	return open(Value{Result: r}, faults), true
}

// Object takes a value that must be an object; false, with a fault noted, when it is none.
func (v Value) Object(faults *Faults) (*Object, bool) {
	if !v.IsObject() {
		faults.Add(v.Path, "must be an object, not %s", Kind(v.Result))
		return nil, false
	}
	return open(v, faults), true
}

func open(v Value, faults *Faults) *Object {
	o := &Object{path: v.Path, faults: faults, values: map[string]gjson.Result{}, read: map[string]bool{}}
	v.ForEach(func(key, value gjson.Result) bool {
		if _, twice := o.values[key.Str]; twice {
			faults.Add(o.At(key.Str), "stands twice; remove one")
			return true
		}
		o.names = append(o.names, key.Str)
		o.values[key.Str] = value
		return true
	})
	return o
}

// At gives the path of a field of o.
func (o *Object) At(name string) string {
	if o.path == "" {
		return name
	}
	return o.path + "." + name
}

// Has tells whether the field is given and not null.
func (o *Object) Has(name string) bool {
	v, ok := o.Raw(name)
	return ok && v.Type != gjson.Null
}

// Raw gives a field of any type, also null; false when it is absent.
func (o *Object) Raw(name string) (Value, bool) {
	o.read[name] = true
	v, ok := o.values[name]
	return Value{Result: v, Path: o.At(name)}, ok
}

// String gives a text field, or otherwise when it is absent or, with a fault noted, of another type.
func (o *Object) String(name, otherwise string) string {
	if !o.Has(name) {
		return otherwise
	}
	v, _ := o.Raw(name)
	if v.Type != gjson.String {
		o.faults.Add(v.Path, "must be a string, not %s", Kind(v.Result))
		return otherwise
	}
	return v.Str
}

// Required gives a text field that must be there and not be empty; "" with a fault noted.
func (o *Object) Required(name, remedy string) string {
	if !o.Has(name) {
		o.faults.Add(o.At(name), "is missing; %s", remedy)
		return ""
	}
	v, _ := o.Raw(name)
	if v.Type == gjson.String && v.Str == "" {
		o.faults.Add(v.Path, "must not be empty; %s", remedy)
	}
	return o.String(name, "")
}

// OneOf gives a text field that must be one of allowed; otherwise when it is absent or at fault.
func (o *Object) OneOf(name, otherwise string, allowed ...string) string {
	s := o.String(name, otherwise)
	if s != otherwise && !slices.Contains(allowed, s) {
		o.faults.Add(o.At(name), "is %q; it must be one of %s", s, strings.Join(allowed, ", "))
		return otherwise
	}
	return s
}

// Bool gives a boolean field; otherwise when it is absent or at fault.
func (o *Object) Bool(name string, otherwise bool) bool {
	if !o.Has(name) {
		return otherwise
	}
	v, _ := o.Raw(name)
	if !v.IsBool() {
		o.faults.Add(v.Path, "must be true or false, not %s", Kind(v.Result))
		return otherwise
	}
	return v.Type == gjson.True
}

// Int gives a whole number between low and high; otherwise when it is absent or at fault.
func (o *Object) Int(name string, low, high, otherwise int64) int64 {
	if !o.Has(name) {
		return otherwise
	}
	v, _ := o.Raw(name)
	if v.Type != gjson.Number || v.Num != math.Trunc(v.Num) || v.Num < float64(low) || v.Num > float64(high) {
		o.faults.Add(v.Path, "must be a whole number from %d to %d", low, high)
		return otherwise
	}
	return int64(v.Num)
}

// List gives the elements of an array field; false when it is absent or, with a fault noted, no array.
func (o *Object) List(name string) ([]Value, bool) {
	if !o.Has(name) {
		return nil, false
	}
	v, _ := o.Raw(name)
	return v.List(o.faults)
}

// List gives the elements of a value that must be an array.
func (v Value) List(faults *Faults) ([]Value, bool) {
	if !v.IsArray() {
		faults.Add(v.Path, "must be an array, not %s", Kind(v.Result))
		return nil, false
	}
	var list []Value
	v.ForEach(func(_, e gjson.Result) bool {
		list = append(list, Value{Result: e, Path: v.Path + "[" + strconv.Itoa(len(list)) + "]"})
		return true
	})
	return list, true
}

// Sub gives an object field; false when it is absent or, with a fault noted, no object.
func (o *Object) Sub(name string) (*Object, bool) {
	if !o.Has(name) {
		return nil, false
	}
	v, _ := o.Raw(name)
	return v.Object(o.faults)
}

// Each visits every field in the order it is written.
func (o *Object) Each(visit func(name string, v Value)) {
	for _, name := range o.names {
		v, _ := o.Raw(name)
		visit(name, v)
	}
}

// Done notes a fault for every field that nobody asked for.
func (o *Object) Done() {
	for _, name := range o.names {
		if !o.read[name] {
			o.faults.Add(o.At(name), "is not a field of this config; remove it or correct its name")
		}
	}
}

// Kind names the type of a JSON value for people.
func Kind(r gjson.Result) string {
	switch {
	case r.Type == gjson.Null:
		return "null"
	case r.Type == gjson.Number:
		return "a number"
	case r.Type == gjson.String:
		return "a string"
	case r.IsBool():
		return "a boolean"
	case r.IsArray():
		return "an array"
	default:
		return "an object"
	}
}

// Text gives a value that must be a string; false, with a fault noted, when it is none.
func (v Value) Text(faults *Faults) (string, bool) {
	if v.Type != gjson.String {
		faults.Add(v.Path, "must be a string, not %s", Kind(v.Result))
		return "", false
	}
	return v.Str, true
}

// HasAny tells whether one of the fields is given and not null.
func (o *Object) HasAny(names ...string) bool {
	found := false
	for _, name := range names {
		found = o.Has(name) || found // all of them count as read
	}
	return found
}

// Names gives the names of the fields in the order in which they are written.
func (o *Object) Names() []string { return o.names }
