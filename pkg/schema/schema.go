// Package schema checks JSON against JSON Schemas and tells every fault by its path.
package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"turbocat.io/pkg/form"
)

// location is where a schema pretends to stand; nothing is ever loaded from it.
const location = "urn:turbocat:schema"

// Compile makes a schema from its JSON text.
func Compile(raw json.RawMessage) (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(jsonschema.SchemeURLLoader{}) // the default one opens files that a schema names
	c.AssertFormat()
	if err := c.AddResource(location, doc); err != nil {
		return nil, err
	}
	return c.Compile(location)
}

// Check notes the faults of a client's own schema, which stands at path. Null is no schema and no fault.
func Check(path string, raw json.RawMessage, faults *form.Faults) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" || !numbersFit(path, raw, faults) {
		return
	}
	if raw[0] != '{' && raw[0] != 't' && raw[0] != 'f' {
		faults.Add(path, form.BadType, "is no JSON Schema; give an object, or null for none")
		return
	}
	_, err := Compile(raw)
	if err == nil {
		return
	}
	var invalid *jsonschema.SchemaValidationError
	var faulty *jsonschema.ValidationError
	if errors.As(err, &invalid) && errors.As(invalid.Err, &faulty) {
		sorted(path, faulty, faults)
		return
	}
	faults.Add(path, form.BadValue, "is not a valid JSON Schema: %s", reason(err))
}

// reason puts a fault of a schema in one line without the location it pretends to stand at.
func reason(err error) string {
	var unloadable *jsonschema.LoadURLError
	if errors.As(err, &unloadable) {
		return "it refers to another document; put what it refers to under $defs"
	}
	s := strings.ReplaceAll(err.Error(), location, "")
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		s = s[:i]
	}
	return s
}

// Validate notes the faults of raw, which stands at path, against a schema.
func Validate(s *jsonschema.Schema, path string, raw json.RawMessage, faults *form.Faults) {
	if !numbersFit(path, raw, faults) {
		return
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		faults.Add(path, form.BadJSON, "is not valid JSON; correct its syntax")
		return
	}
	var invalid *jsonschema.ValidationError
	if err := s.Validate(doc); errors.As(err, &invalid) {
		sorted(path, invalid, faults)
	}
}

// numbersFit tells whether every number can be computed with; the validator can not take
// exponents of a million.
func numbersFit(path string, raw json.RawMessage, faults *form.Faults) bool {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	for {
		token, err := dec.Token()
		if err != nil {
			return true
		}
		n, ok := token.(json.Number)
		if !ok {
			continue
		}
		if _, err := strconv.ParseFloat(n.String(), 64); err != nil || exponent(n.String()) > 400 {
			faults.Add(path, form.OutOfRange, "contains the number %s, which is too large or too small; use one that fits into 64 bits", form.Quote(n.String()))
			return false
		}
	}
}

// exponent gives the size of the exponent of a JSON number, without its sign.
func exponent(number string) int {
	_, digits, ok := strings.Cut(strings.ToLower(number), "e")
	if !ok {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimLeft(digits, "+-"))
	if err != nil {
		return 1 << 30
	}
	return n
}

// sorted reports a tree of faults; the validator gives them in the order of a map.
func sorted(path string, e *jsonschema.ValidationError, faults *form.Faults) {
	var found form.Faults
	note(path, e, &found)
	faults.AddSorted(found)
}

// note reports the leaves of a tree of faults.
func note(path string, e *jsonschema.ValidationError, faults *form.Faults) {
	at := path
	for _, segment := range e.InstanceLocation {
		if i, err := strconv.Atoi(segment); err == nil {
			at = form.At(at, i)
		} else {
			at = form.Join(at, segment)
		}
	}
	switch k := e.ErrorKind.(type) {
	case *kind.AnyOf, *kind.OneOf:
		alternatives(path, at, e, faults)
	case *kind.Required:
		for _, name := range k.Missing {
			faults.Add(form.Join(at, name), form.Required, "is required; add it")
		}
	case *kind.AdditionalProperties:
		slices.Sort(k.Properties)
		for _, name := range k.Properties {
			faults.Add(form.Join(at, name), form.UnknownField, "unknown field; remove it or correct its name")
		}
	case *kind.Type:
		faults.Add(at, form.BadType, "is %s; give %s", k.Got, strings.Join(k.Want, " or "))
	case *kind.Enum:
		faults.Add(at, form.BadEnum, "is %s; give one of %s", show(k.Got), list(k.Want))
	case *kind.Const:
		faults.Add(at, form.BadEnum, "is %s; give %s", show(k.Got), show(k.Want))
	case *kind.Minimum:
		faults.Add(at, form.OutOfRange, "is too small; give at least %s", k.Want.RatString())
	case *kind.Maximum:
		faults.Add(at, form.OutOfRange, "is too large; give at most %s", k.Want.RatString())
	case *kind.MinLength:
		faults.Add(at, form.OutOfRange, "has %d characters; give at least %d", k.Got, k.Want)
	case *kind.MaxLength:
		faults.Add(at, form.OutOfRange, "has %d characters; give at most %d", k.Got, k.Want)
	case *kind.MinItems:
		faults.Add(at, form.OutOfRange, "has %d entries; give at least %d", k.Got, k.Want)
	case *kind.MaxItems:
		faults.Add(at, form.OutOfRange, "has %d entries; give at most %d", k.Got, k.Want)
	case *kind.MinProperties:
		faults.Add(at, form.OutOfRange, "has %d fields; give at least %d", k.Got, k.Want)
	case *kind.MaxProperties:
		faults.Add(at, form.OutOfRange, "has %d fields; give at most %d", k.Got, k.Want)
	case *kind.Pattern:
		faults.Add(at, form.BadValue, "is %s; it must match %s", form.Quote(k.Got), k.Want)
	default:
		if len(e.Causes) == 0 {
			faults.Add(at, form.BadValue, "%s; correct it", e.ErrorKind.LocalizedString(message.NewPrinter(language.English)))
		}
		for _, cause := range e.Causes {
			note(path, cause, faults)
		}
	}
}

// alternatives reports a value that fits none, or too many, of several shapes. When the
// shapes differ only in the fields they need, those fields are named; else the faults of
// the first shape are told, which stands for all.
func alternatives(path, at string, e *jsonschema.ValidationError, faults *form.Faults) {
	if len(e.Causes) == 0 {
		faults.Add(at, form.BadValue, "fits more than one of its shapes; give exactly one of them")
		return
	}
	var missing []string
	for _, cause := range e.Causes {
		switch k := cause.ErrorKind.(type) {
		case *kind.Required:
			missing = append(missing, k.Missing...)
		case *kind.MinProperties:
			missing = append(missing, cause.InstanceLocation[len(cause.InstanceLocation)-1])
		default:
			note(path, e.Causes[0], faults)
			return
		}
	}
	faults.Add(at, form.Required, "needs %s; add one of them", strings.Join(missing, " or "))
}

func list(values []any) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = fmt.Sprint(v)
	}
	return strings.Join(texts, ", ")
}

func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "not allowed"
	}
	if s, ok := v.(string); ok {
		return form.Quote(s)
	}
	if len(b) > 80 {
		return "not one of these"
	}
	return string(b)
}
