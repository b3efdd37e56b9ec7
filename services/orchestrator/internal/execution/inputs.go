package execution

import (
	"context"
	"encoding/json"
	"fmt"

	"turbocat.io/pkg/form"
	"turbocat.io/pkg/schema"
)

// checkInputs fails with every fault of the inputs against the workflow's inputSchema.
func checkInputs(ctx context.Context, inputSchema json.RawMessage, inputs []byte) error {
	if len(inputSchema) == 0 || string(inputSchema) == "null" {
		return nil
	}
	compiled, err := schema.Compile(inputSchema)
	if err != nil {
		return fmt.Errorf("compile the inputSchema: %w", err) // the catalog has checked it
	}
	var faults form.Faults
	if err := compiled.Validate(ctx, "inputs", inputs, &faults); err != nil {
		return err
	}
	return faults.Err("inputs")
}
