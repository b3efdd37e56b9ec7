package llmtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
)

// reading reads a request on as far as it can, and keeps its first fault.
type reading struct {
	wording
	fault *fault
}

// wording is how a provider names a field, and tells what is wrong with it.
type wording struct {
	name                       func(path string) string // of a path like messages.0.content
	unknown, missing, mistyped string                   // formats, of a name; mistyped also of the type
}

// fields are those that an object may have, and the variables that they are read into; nil is not looked into.
// A variable that is a pointer takes null.
type fields map[string]any

func (r *reading) refuse(path, code, format string, args ...any) {
	if r.fault == nil {
		r.fault = &fault{status: http.StatusBadRequest, message: fmt.Sprintf(format, args...), param: r.name(path), code: code}
	}
}

// object reads one; path is "" for the request itself.
func (r *reading) object(path string, raw json.RawMessage, into fields, required ...string) {
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil || object == nil {
		r.mistype(path, "object")
		return
	}
	for _, field := range slices.Sorted(maps.Keys(object)) {
		at := strings.TrimPrefix(path+"."+field, ".")
		variable, known := into[field]
		if !known {
			r.refuse(at, "unknown_parameter", r.unknown, r.name(at))
		} else if variable != nil {
			r.value(at, object[field], variable)
		}
	}
	for _, field := range required {
		if _, there := object[field]; !there {
			at := strings.TrimPrefix(path+"."+field, ".")
			r.refuse(at, "missing_required_parameter", r.missing, r.name(at))
		}
	}
}

func (r *reading) value(path string, raw json.RawMessage, variable any) {
	kind := reflect.TypeOf(variable).Elem()
	if _, untyped := variable.(*json.RawMessage); !untyped && string(raw) == "null" && kind.Kind() != reflect.Pointer {
		r.mistype(path, typeName(kind))
	} else if json.Unmarshal(raw, variable) != nil {
		r.mistype(path, typeName(kind))
	}
}

func (r *reading) mistype(path, want string) {
	r.refuse(path, "invalid_type", r.mistyped, r.name(path), want)
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.Slice:
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
