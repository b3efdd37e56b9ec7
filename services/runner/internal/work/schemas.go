package work

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/schema"
)

const (
	// maxSchemaText bounds the text of the compiled schemas that are kept; they take some
	// thirty times as much.
	maxSchemaText = 1 << 20
	// largeValue is how many bytes make a value that is checked alone: its tree takes up to a
	// hundred times as much.
	largeValue = 256 << 10
)

// schemas checks inputs and outputs of agents. It keeps the compiled schemas that were used
// last. It is safe for concurrent use.
type schemas struct {
	mu    sync.Mutex
	known *simplelru.LRU[string, *schema.Schema] // by their text
	text  int                                    // bytes of the known
	large chan struct{}                          // held while a large value is checked
}

func newSchemas() *schemas {
	known, _ := simplelru.NewLRU[string, *schema.Schema](maxSchemaText, nil) // it refuses sizes below 1 alone
	return &schemas{known: known, large: make(chan struct{}, 1)}
}

// check gives a StepError of the code with every fault of a value by the schema raw, or ctx's
// error when it ended first. No schema, or null, has nothing against any value.
func (c *schemas) check(ctx context.Context, code, what string, raw, value json.RawMessage) error {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	compiled, err := c.of(string(raw))
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
	if err := compiled.Validate(ctx, what, value, &faults); err != nil {
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

// of gives the compiled schema of a text.
func (c *schemas) of(text string) (*schema.Schema, error) {
	if known := c.find(text); known != nil {
		return known, nil
	}
	compiled, err := schema.Compile(json.RawMessage(text))
	if err != nil {
		return nil, err
	}
	c.keep(text, compiled)
	return compiled, nil
}

func (c *schemas) find(text string) *schema.Schema {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, _ := c.known.Get(text)
	return known
}

func (c *schemas) keep(text string, compiled *schema.Schema) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known.Contains(text) {
		return
	}
	c.known.Add(text, compiled)
	for c.text += len(text); c.text > maxSchemaText; {
		oldest, _, _ := c.known.RemoveOldest()
		c.text -= len(oldest)
	}
}
