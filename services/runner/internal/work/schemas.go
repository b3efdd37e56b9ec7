package work

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/schema"
	"turbocat.io/services/runner/internal/compiled"
)

const (
	// maxSchemaText bounds the text of the compiled schemas that are kept; they take some
	// thirty times as much.
	maxSchemaText = 1 << 20
	// largeValue is how many bytes make a value that is checked alone: its tree takes up to a
	// hundred times as much.
	largeValue = 256 << 10
)

// schemas checks inputs and outputs of agents. It is safe for concurrent use.
type schemas struct {
	compiled *compiled.Cache[*schema.Schema]
	large    chan struct{} // held while a large value is checked
}

func newSchemas() *schemas {
	return &schemas{
		compiled: compiled.NewCache(maxSchemaText, func(text string) (*schema.Schema, error) { return schema.Compile(json.RawMessage(text)) }),
		large:    make(chan struct{}, 1),
	}
}

// check gives a StepError of the code with every fault of a value by the schema raw, or ctx's
// error when it ended first. No schema, or null, has nothing against any value.
func (c *schemas) check(ctx context.Context, code, what string, raw, value json.RawMessage) error {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	by, err := c.compiled.Of(string(raw))
	if err != nil {
		return &runner.StepError{Code: runner.CodeInvalidConfig, Message: "the agent's " + what + "Schema can not be used: " + err.Error()}
	}
	if len(value) > largeValue {
		select {
		case c.large <- struct{}{}:
			defer func() { <-c.large }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var faults form.Faults
	if err := by.Validate(ctx, what, value, &faults); err != nil {
		return err
	}
	var invalid *errs.Error
	if !errors.As(faults.Err(what+" by the agent's "+what+"Schema"), &invalid) {
		return nil
	}
	lines := make([]string, len(invalid.Details))
	for i, d := range invalid.Details {
		lines[i] = d.Message
		if d.Field != "" {
			lines[i] = d.Field + " " + d.Message
		}
	}
	return &runner.StepError{Code: code, Message: invalid.Message + ": " + strings.Join(lines, "; ")}
}
