package work

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"turbocat.io/contracts/runner"
)

func TestSchemas(t *testing.T) {
	c := newSchemas()
	const schema = `{"type":"object","required":["a"],"properties":{"b":{"items":{"type":"string"}}}}`
	for _, tt := range []struct{ name, schema, value, code, message string }{
		{"none", ``, `1`, "", ""},
		{"null", `null`, `1`, "", ""},
		{"fits", schema, `{"a":1}`, "", ""},
		{
			"all faults", schema, `{"b":["x",1,null]}`, runner.CodeInvalidInput,
			"3 problems in the input by the agent's inputSchema: input.a is required; add it; input.b[1] is number; give string; input.b[2] is null; give string",
		},
		{"a large value", `{"type":"array"}`, `"` + strings.Repeat("x", largeValue) + `"`, runner.CodeInvalidInput, "1 problem in the input by the agent's inputSchema: input is string; give array"},
		{"a schema that is none", `{"type":1}`, `1`, runner.CodeInvalidConfig, "the agent's inputSchema can not be used"},
		{"a schema of elsewhere", `{"$ref":"file:///etc/passwd"}`, `1`, runner.CodeInvalidConfig, "can not be used"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := c.check(context.Background(), runner.CodeInvalidInput, "input", json.RawMessage(tt.schema), json.RawMessage(tt.value))
			var fault *runner.StepError
			if tt.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.As(err, &fault) || fault.Code != tt.code || fault.Retryable || !strings.Contains(fault.Message, tt.message) {
				t.Errorf("got %+v, want %s %q", err, tt.code, tt.message)
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := c.check(ctx, runner.CodeInvalidInput, "input", json.RawMessage(schema), json.RawMessage(`{"a":1}`)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
