package api

import (
	"encoding/json"
	"fmt"

	"github.com/tidwall/gjson"

	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/template"
	"turbocat.io/services/runner/internal/inputs"
)

// textOf resolves a template of a JSON string; each value passes through escape, which gives
// a problem for one that may not stand there.
func textOf(in *inputs.Inputs, t *template.Template, field string, escape func(string) (escaped, problem string)) (string, error) {
	var fault error
	raw, err := in.Render(t, func(p template.Path) (json.RawMessage, bool) {
		v, ok := in.Lookup(p)
		if !ok {
			return nil, false
		}
		escaped, problem := escape(inputs.Text(v))
		if problem != "" {
			fault = invalid(field, fmt.Sprintf("the value of {{%s}} %s", p, problem))
		}
		quoted, _ := json.Marshal(escaped) // a string always encodes
		return quoted, true
	})
	if err == nil {
		err = fault
	}
	if err != nil {
		return "", err
	}
	return inputs.Text(raw), nil
}

// plain gives a value as text: a string as it is, anything else as JSON.
func plain(v gjson.Result) string { return inputs.Text([]byte(v.Raw)) }

// invalid says that a config does not make a request with this input.
func invalid(field, problem string) *runner.StepError {
	return &runner.StepError{Code: runner.CodeInvalidConfig, Message: field + ": " + problem}
}
