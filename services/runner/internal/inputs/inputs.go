// Package inputs resolves the templates of an agent's config over the input of one attempt.
package inputs

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

// Inputs is what the templates of one attempt name. It is not safe for concurrent use.
type Inputs struct {
	raw     json.RawMessage
	secrets map[string]string
	log     executor.Logger
	warned  []string // what was not there, told once each
}

// Of gives the inputs of a task. A template of something that is not among them stays as it is written, with a line in the task's log.
func Of(task executor.Task) *Inputs {
	return &Inputs{raw: task.Input, secrets: task.Secrets, log: task.Log}
}

// Lookup gives the value of a path into the input, or that of a secret.
func (in *Inputs) Lookup(p template.Path) (json.RawMessage, bool) {
	if p.Root() == "secrets" && len(p) == 2 {
		value, known := in.secrets[p[1].Key]
		quoted, err := json.Marshal(value)
		return quoted, known && err == nil
	}
	return template.Walk(in.raw, p)
}

// Public is Lookup without the secrets.
func (in *Inputs) Public(p template.Path) (json.RawMessage, bool) {
	if p.Root() == "secrets" {
		return nil, false
	}
	return in.Lookup(p)
}

// Render resolves a template to JSON of at most runner.MaxInput; else the error is a *runner.StepError with INPUT_LIMIT.
func (in *Inputs) Render(t *template.Template, lookup template.Lookup) ([]byte, error) {
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

// Text gives a JSON value as text: a string as it is, anything else as JSON.
func Text(raw []byte) string {
	if v := gjson.ParseBytes(raw); v.Type == gjson.String {
		return v.Str
	}
	return string(raw)
}
