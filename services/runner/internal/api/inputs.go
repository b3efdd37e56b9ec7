package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/tidwall/gjson"

	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/template"
	"turbocat.io/services/runner/internal/executor"
)

// inputs resolves templates over the input of one task.
type inputs struct {
	raw     json.RawMessage
	secrets map[string]string
	log     executor.Logger
	warned  []string // what was not there, told once each
}

// lookup gives the value of a path into the input, or that of a secret.
func (in *inputs) lookup(p template.Path) (json.RawMessage, bool) {
	if p.Root() == "secrets" && len(p) == 2 {
		value, known := in.secrets[p[1].Key]
		quoted, err := json.Marshal(value)
		return quoted, known && err == nil
	}
	return template.Walk(in.raw, p)
}

// render resolves a template to JSON.
func (in *inputs) render(t *template.Template, lookup template.Lookup) ([]byte, error) {
	raw, unresolved, err := t.RenderWithin(runner.MaxInput, lookup)
	if errors.Is(err, template.ErrTooLarge) {
		return nil, &runner.StepError{
			Code:    runner.CodeInputLimit,
			Message: fmt.Sprintf("the request would be larger than %d MiB; send less of the input", runner.MaxInput>>20),
		}
	}
	for _, p := range unresolved {
		if name := p.String(); !slices.Contains(in.warned, name) {
			in.warned = append(in.warned, name)
			in.log("WARN", "engine", fmt.Sprintf("{{%s}} is not in the step's input and stays as it is written; add the input or correct the name", name))
		}
	}
	return raw, err
}

// text resolves a template of a JSON string; each value passes through escape, which gives
// a problem for one that may not stand there.
func (in *inputs) text(t *template.Template, field string, escape func(string) (escaped, problem string)) (string, error) {
	var fault error
	raw, err := in.render(t, func(p template.Path) (json.RawMessage, bool) {
		v, ok := in.lookup(p)
		if !ok {
			return nil, false
		}
		escaped, problem := escape(plain(gjson.ParseBytes(v)))
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
	return gjson.ParseBytes(raw).Str, nil
}

// plain gives a value as text: a string as it is, anything else as JSON.
func plain(v gjson.Result) string {
	if v.Type == gjson.String {
		return v.Str
	}
	return v.Raw
}

// invalid says that a config does not make a request with this input.
func invalid(field, problem string) *runner.StepError {
	return &runner.StepError{Code: runner.CodeInvalidConfig, Message: field + ": " + problem}
}
