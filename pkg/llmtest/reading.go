package llmtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// reading reads a request on as far as it can, and keeps its first fault.
type reading struct {
	wording
	fault *fault
}

// wording is how a provider names a field, and tells what is wrong with it: formats of the field's name and what
// each says.
type wording struct {
	name       func(path string) string // of a path like messages.0.content
	unreadable string                   // of the whole request
	unknown    string
	missing    string
	empty      string
	mistyped   string // the type
	unmatched  string // the pattern
	unlisted   string // what there is instead, and the values
	above      string // the bound, and what there is instead
	below      string // likewise
}

// fields are those that an object may have, and the variables that they are read into; nil is not looked into.
// A variable that is a pointer takes null.
type fields map[string]any

func (r *reading) refuse(path, code, message string) {
	if r.fault == nil {
		r.fault = &fault{status: http.StatusBadRequest, message: message, param: r.name(path), code: code}
	}
}

func (r *reading) contentType(header http.Header) {
	if got, _, _ := mime.ParseMediaType(header.Get("Content-Type")); got != "application/json" {
		r.refuse("", "", fmt.Sprintf("Invalid Content-Type header (%s), expected application/json.", got))
	}
}

// object reads one; path is "" for the request itself.
func (r *reading) object(path string, raw json.RawMessage, into fields, required ...string) {
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil || object == nil {
		if path == "" {
			r.refuse("", "", r.unreadable)
		}
		r.mistype(path, "object")
		return
	}
	for _, field := range slices.Sorted(maps.Keys(object)) {
		variable, known := into[field]
		if !known {
			r.refuse(under(path, field), "unknown_parameter", fmt.Sprintf(r.unknown, r.name(under(path, field))))
		} else if variable != nil {
			r.value(under(path, field), object[field], variable)
		}
	}
	for _, field := range required {
		if _, there := object[field]; !there {
			r.miss(under(path, field))
		}
	}
}

func (r *reading) value(path string, raw json.RawMessage, variable any) {
	kind := reflect.TypeOf(variable).Elem()
	if _, anything := variable.(*json.RawMessage); !anything && string(raw) == "null" && kind.Kind() != reflect.Pointer {
		r.mistype(path, typeName(kind))
	} else if json.Unmarshal(raw, variable) != nil {
		r.mistype(path, typeName(kind))
	}
}

// kind refuses an object whose field that says what it is has none of the values.
func (r *reading) kind(path, field string, raw json.RawMessage, values ...string) {
	var object map[string]json.RawMessage
	_ = json.Unmarshal(raw, &object)
	switch {
	case object == nil:
		r.mistype(path, "object")
	case object[field] == nil:
		r.miss(under(path, field))
	default:
		var kind string
		r.value(under(path, field), object[field], &kind)
		r.oneOf(under(path, field), kind, values...)
	}
}

func (r *reading) miss(path string) {
	r.refuse(path, "missing_required_parameter", fmt.Sprintf(r.missing, r.name(path)))
}

func (r *reading) mistype(path, want string) {
	r.refuse(path, "invalid_type", fmt.Sprintf(r.mistyped, r.name(path), want))
}

func (r *reading) nonempty(path string, length int) {
	if length == 0 {
		r.refuse(path, "invalid_value", fmt.Sprintf(r.empty, r.name(path)))
	}
}

func (r *reading) matches(path, value string, pattern *regexp.Regexp) {
	if !pattern.MatchString(value) {
		r.refuse(path, "invalid_value", fmt.Sprintf(r.unmatched, r.name(path), pattern))
	}
}

func (r *reading) oneOf(path, value string, values ...string) {
	if !slices.Contains(values, value) {
		r.refuse(path, "invalid_value", fmt.Sprintf(r.unlisted, r.name(path), value, "'"+strings.Join(values, "', '")+"'"))
	}
}

// within takes null.
func within[N int64 | float64](r *reading, path string, value *N, low, high N) {
	switch {
	case value == nil:
	case *value < low:
		r.refuse(path, "invalid_value", fmt.Sprintf(r.below, r.name(path), low, *value))
	case *value > high:
		r.refuse(path, "invalid_value", fmt.Sprintf(r.above, r.name(path), high, *value))
	}
}

func (r *reading) distinct(tools []Tool) {
	names := map[string]bool{}
	for _, tool := range tools {
		if names[tool.Name] {
			r.refuse("tools", "invalid_value", "tools: Tool names must be unique.")
		}
		names[tool.Name] = true
	}
}

// peek reads one field of an object, if it is text: that which says how to read the others.
func peek(raw json.RawMessage, field string) string {
	var object map[string]json.RawMessage
	_ = json.Unmarshal(raw, &object)
	return peekText(object[field])
}

// peekText reads a value, if it is text.
func peekText(raw json.RawMessage) (text string) {
	_ = json.Unmarshal(raw, &text)
	return text
}

// given tells a field that is there from one that is not, or null.
func given(raw json.RawMessage) bool { return raw != nil && string(raw) != "null" }

func under(path, field string) string { return strings.TrimPrefix(path+"."+field, ".") }

func element(path string, i int) string { return fmt.Sprintf("%s.%d", path, i) }

func join(text, more string) string {
	if text == "" {
		return more
	}
	return text + "\n" + more
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.Slice:
		if t.Elem().Kind() == reflect.String {
			return "array of strings"
		}
		return "array"
	case reflect.Float64:
		return "number"
	case reflect.Int64:
		return "integer"
	case reflect.Bool:
		return "boolean"
	default:
		return "string"
	}
}
