package schema

import (
	"github.com/santhosh-tekuri/jsonschema/v6"

	"turbocat.io/pkg/dates"
	"turbocat.io/pkg/expr"
	"turbocat.io/pkg/fieldpath"
	"turbocat.io/pkg/pattern"
)

// formats are those that a schema may name beside the standard's. Their errors say what is
// wrong and what would be right.
func formats() []*jsonschema.Format {
	return []*jsonschema.Format{
		format("field-path", fieldpath.Parse),
		format("key-path", fieldpath.ParseKeys),
		format("date-layout", dates.ParseLayout),
		format("time-zone", dates.ParseZone),
		format("re2", pattern.Compile),
		format("row-expression", expr.CompileRow),
	}
}

func format[T any](name string, parse func(string) (T, error)) *jsonschema.Format {
	return &jsonschema.Format{Name: name, Validate: func(v any) error {
		s, ok := v.(string)
		if !ok {
			return nil // a schema's type says what must be text
		}
		if _, err := parse(s); err != nil {
			return formatFault{err}
		}
		return nil
	}}
}

// formatFault is an error of formats, which is told as it is.
type formatFault struct{ error }
