package data

import (
	"encoding/json"

	"github.com/tidwall/gjson"

	"turbocat.io/pkg/expr"
	"turbocat.io/pkg/template"
	"turbocat.io/services/runner/internal/form"
)

// computation is an expression over a row and the step's input.
type computation struct{ expression *expr.Expression }

func parseComputation(o *form.Object, faults *form.Faults) computation {
	text := o.Required("expr", `write an expression, like "row.price * row.count"`)
	if text == "" {
		return computation{}
	}
	e, err := expr.CompileRow(text)
	if err != nil {
		faults.Add(o.At("expr"), "%s", err)
	}
	return computation{e}
}

// of is the value as a shape.
func (c computation) of(w *work, row gjson.Result) (gjson.Result, error) {
	if err := w.reading(row.Raw); err != nil {
		return gjson.Result{}, err
	}
	raw, err := c.expression.Evaluate(w.values(row))
	if err != nil {
		return gjson.Result{}, &rowFault{problem: "expr: " + err.Error()}
	}
	return gjson.ParseBytes(raw), nil
}

// holds is the value as a condition.
func (c computation) holds(w *work, row gjson.Result) (bool, error) {
	if err := w.reading(row.Raw); err != nil {
		return false, err
	}
	holds, err := c.expression.Holds(w.values(row))
	if err != nil {
		return false, &rowFault{problem: "expr: " + err.Error()}
	}
	return holds, nil
}

// values gives what an expression names. What it takes of the input is looked up once in a run: the rows stand there as well.
func (w *work) values(row gjson.Result) expr.Lookup {
	raw := json.RawMessage(row.Raw)
	return func(p template.Path) (json.RawMessage, bool) {
		if p.Root() == "row" {
			return template.Walk(raw, p[1:])
		}
		name := p.String()
		if known, ok := w.found[name]; ok {
			return known, known != nil
		}
		value, ok := template.Walk(json.RawMessage(w.input.Raw), p[1:])
		if w.found == nil {
			w.found = map[string]json.RawMessage{}
		}
		w.found[name] = value
		return value, ok
	}
}
