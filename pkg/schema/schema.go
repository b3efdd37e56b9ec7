// Package schema checks JSON against JSON Schemas and tells every fault by its path.
package schema

import (
	"bytes"
	"context"
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

	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/pattern"
	"turbocat.io/pkg/rawjson"
)

// location is where a schema pretends to stand; nothing is ever loaded from it.
const location = "urn:turbocat:schema"

// Bounds of a schema that a client gives, and of a value that is checked.
const (
	maxBytes  = 64 << 10
	maxDepth  = 100
	maxValues = 1_000_000
)

// Schema is a compiled JSON Schema. It is safe for concurrent use, and checks one value at a time.
type Schema struct {
	compiled *jsonschema.Schema
	meter    meter
	turn     chan struct{} // held while the meter is used
}

// Compile makes a schema from its JSON text. Nothing that it refers to is loaded from elsewhere.
func Compile(raw json.RawMessage) (*Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	s := &Schema{turn: make(chan struct{}, 1)}
	var all []*jsonschema.Schema
	c := jsonschema.NewCompiler()
	c.UseLoader(jsonschema.SchemeURLLoader{}) // the default one opens files that a schema names
	c.AssertFormat()
	for _, f := range formats() {
		c.RegisterFormat(f)
	}
	var patterns pattern.Budget
	c.UseRegexpEngine(func(text string) (jsonschema.Regexp, error) { return patterns.Compile(text) })
	c.RegisterVocabulary(collect(func(part *jsonschema.Schema) { all = append(all, part) }))
	c.AssertVocabs()
	if err := c.AddResource(location, doc); err != nil {
		return nil, err
	}
	if s.compiled, err = c.Compile(location); err != nil {
		return nil, err
	}
	s.meter.most = maxSteps
	for _, part := range all {
		s.meter.attach(part)
	}
	return s, nil
}

// Check notes the faults of a client's own schema, which stands at path. Null is no schema and no fault.
func Check(path string, raw json.RawMessage, faults *form.Faults) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" || !numbersFit(path, raw, faults) {
		return
	}
	if raw[0] != '{' && raw[0] != 't' && raw[0] != 'f' {
		faults.Add(path, errs.BadType, "is no JSON Schema; give an object, or null for none")
		return
	}
	if len(raw) > maxBytes {
		faults.Add(path, errs.OutOfRange, "has %d bytes; give at most %d", len(raw), maxBytes)
		return
	}
	if rawjson.Depth(raw) > maxDepth {
		faults.Add(path, errs.BadValue, "nests deeper than %d levels; put parts of it under $defs", maxDepth)
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
	faults.Add(path, errs.BadValue, "is not a valid JSON Schema: %s", reason(err))
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

// Validate notes the faults of raw, which stands at path. The error is ctx's and tells that it
// ended before the check did.
func (s *Schema) Validate(ctx context.Context, path string, raw json.RawMessage, faults *form.Faults) error {
	if !numbersFit(path, raw, faults) {
		return nil
	}
	if rawjson.Values(raw) > maxValues {
		faults.Add(path, errs.OutOfRange, "has more than %d values, the most that a schema can check; pass less", maxValues)
		return nil
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		faults.Add(path, errs.BadJSON, "is not valid JSON; correct its syntax")
		return nil
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	fault, reason := s.meter.run(ctx, s.compiled, doc)
	var invalid *jsonschema.ValidationError
	switch {
	case errors.Is(reason, errTooManySteps):
		faults.Add(path, errs.BadValue, "takes more than %d steps to check; simplify the schema or pass less", s.meter.most)
		return nil
	case errors.Is(reason, errTooDeep):
		faults.Add(path, errs.BadValue, "goes too deep, with a schema of many references; make either flatter")
		return nil
	case errors.As(fault, &invalid):
		sorted(path, invalid, faults)
	}
	return reason
}

// numbersFit tells whether every number can be computed with; the validator can not take
// exponents of a million.
func numbersFit(path string, raw json.RawMessage, faults *form.Faults) bool {
	for n := range rawjson.Numbers(raw) {
		if !fits(n) {
			faults.Add(path, errs.OutOfRange, "contains the number %s, which is too large or too small; use one that fits into 64 bits", form.Quote(n))
			return false
		}
	}
	return true
}

func fits(number string) bool {
	if len(number) < 300 && !strings.ContainsAny(number, "eE") {
		return true
	}
	_, err := strconv.ParseFloat(number, 64)
	return err == nil && exponent(number) <= 400
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
	case *kind.Not:
		faults.Add(at, errs.BadValue, "is not allowed to be so; give another value")
	case *kind.FalseSchema:
		faults.Add(at, errs.UnknownField, "is not allowed here; remove it")
	case *kind.UniqueItems:
		faults.Add(form.At(at, k.Duplicates[1]), errs.BadValue, "repeats entry %d; remove it", k.Duplicates[0])
	case *kind.DependentRequired:
		for _, name := range k.Missing {
			faults.Add(form.Join(at, name), errs.Required, "is required beside %s; add it", k.Prop)
		}
	case *kind.RefCycle:
		faults.Add(at, errs.BadValue, "can not be checked, for the schema refers to itself without end; correct the schema")
	case *kind.Format:
		var own formatFault
		if errors.As(k.Err, &own) {
			faults.Add(at, errs.BadValue, "%s", own)
		} else {
			faults.Add(at, errs.BadValue, "%s; correct it", k.LocalizedString(message.NewPrinter(language.English)))
		}
	case *kind.Required:
		for _, name := range k.Missing {
			faults.Add(form.Join(at, name), errs.Required, "is required; add it")
		}
	case *kind.AdditionalProperties:
		slices.Sort(k.Properties)
		for _, name := range k.Properties {
			faults.Add(form.Join(at, name), errs.UnknownField, "unknown field; remove it or correct its name")
		}
	case *kind.Type:
		faults.Add(at, errs.BadType, "is %s; give %s", k.Got, strings.Join(k.Want, " or "))
	case *kind.Enum:
		faults.Add(at, errs.BadEnum, "is %s; give one of %s", show(k.Got), list(k.Want))
	case *kind.Const:
		if k.Want == nil { // null stands for an absent field
			faults.Add(at, errs.UnknownField, "is not allowed here; remove it, or give null")
			return
		}
		faults.Add(at, errs.BadEnum, "is %s; give %s", show(k.Got), show(k.Want))
	case *kind.Minimum:
		faults.Add(at, errs.OutOfRange, "is too small; give at least %s", k.Want.RatString())
	case *kind.Maximum:
		faults.Add(at, errs.OutOfRange, "is too large; give at most %s", k.Want.RatString())
	case *kind.MinLength:
		faults.Add(at, errs.OutOfRange, "has %d characters; give at least %d", k.Got, k.Want)
	case *kind.MaxLength:
		faults.Add(at, errs.OutOfRange, "has %d characters; give at most %d", k.Got, k.Want)
	case *kind.MinItems:
		faults.Add(at, errs.OutOfRange, "has %d entries; give at least %d", k.Got, k.Want)
	case *kind.MaxItems:
		faults.Add(at, errs.OutOfRange, "has %d entries; give at most %d", k.Got, k.Want)
	case *kind.MinProperties:
		faults.Add(at, errs.OutOfRange, "has %d fields; give at least %d", k.Got, k.Want)
	case *kind.MaxProperties:
		faults.Add(at, errs.OutOfRange, "has %d fields; give at most %d", k.Got, k.Want)
	case *kind.Pattern:
		faults.Add(at, errs.BadValue, "is %s; it must match %s", form.Quote(k.Got), k.Want)
	default:
		if len(e.Causes) == 0 {
			faults.Add(at, errs.BadValue, "%s; correct it", e.ErrorKind.LocalizedString(message.NewPrinter(language.English)))
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
		faults.Add(at, errs.BadValue, "fits more than one of its shapes; give exactly one of them")
		return
	}
	var missing []string
	for _, cause := range e.Causes {
		need := needed(cause, len(e.InstanceLocation))
		if need == nil {
			note(path, e.Causes[0], faults)
			return
		}
		missing = append(missing, need...)
	}
	faults.Add(at, errs.Required, "needs %s; add one of them", strings.Join(missing, " or "))
}

// needed gives the fields without which a shape does not fit, of a value that stands at a depth;
// nil when that is not what is wrong.
func needed(cause *jsonschema.ValidationError, depth int) []string {
	switch k := cause.ErrorKind.(type) {
	case *kind.Required:
		if len(cause.InstanceLocation) == depth {
			return k.Missing
		}
	case *kind.MinProperties, *kind.Not: // given, but empty or null
		if len(cause.InstanceLocation) == depth+1 {
			return cause.InstanceLocation[depth:]
		}
	}
	return nil
}

func list(values []any) string {
	var texts []string
	for _, v := range values {
		if v != nil { // null stands for an absent field
			texts = append(texts, fmt.Sprint(v))
		}
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
