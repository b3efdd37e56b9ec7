package execution

import (
	"context"
	"encoding/json"
	"fmt"

	"turbocat.io/pkg/form"
	"turbocat.io/pkg/schema"
)

// compileInputs gives the schema of a workflow's inputs; nil for none.
func compileInputs(inputSchema json.RawMessage) (*schema.Schema, error) {
	if len(inputSchema) == 0 || string(inputSchema) == "null" {
		return nil, nil
	}
	compiled, err := schema.Compile(inputSchema)
	if err != nil {
		return nil, fmt.Errorf("compile the inputSchema: %w", err) // the catalog has checked it
	}
	return compiled, nil
}

// checkInputs fails with every fault of the inputs against the workflow's inputSchema, if it has one.
func checkInputs(ctx context.Context, compiled *schema.Schema, inputs []byte) error {
	if compiled == nil {
		return nil
	}
	var faults form.Faults
	if err := compiled.Validate(ctx, "inputs", inputs, &faults); err != nil {
		return err
	}
	return faults.Err("inputs")
}
