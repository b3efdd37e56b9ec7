package llm

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/rawjson"
	"turbocat.io/pkg/schema"
)

// read takes the JSON out of an answer that is to be JSON, and tells what is wrong with it; "" for nothing. The error is ctx's.
func (a *attempt) read(ctx context.Context, said answer) (faults string, err error) {
	if !wantsJSON(a.config) || said.stop == stopNo {
		return "", nil // a refusal is one, whatever was asked for
	}
	raw := json.RawMessage(unfenced(said.text))
	if fault := rawjson.Fault(raw); fault != "" {
		if said.stop == stopLimit {
			fault += ", because it is longer than maxTokens"
		}
		return "it " + fault, nil
	}
	if faults, err = misfits(ctx, a.format, "the answer", raw); err == nil && faults == "" {
		a.out.JSON = raw
	}
	return faults, err
}

// unfenced takes a text out of the code fence that models like to put JSON in.
func unfenced(text string) string {
	text = strings.TrimSpace(text)
	inner, ok := strings.CutPrefix(text, "```")
	if !ok {
		return text
	}
	if inner, ok = strings.CutSuffix(inner, "```"); !ok {
		return text
	}
	if _, after, ok := strings.Cut(inner, "\n"); ok {
		return strings.TrimSpace(after)
	}
	return text
}

// misfits tells what is wrong with a value by a schema; "" for nothing, or when there is no schema. The error is ctx's.
func misfits(ctx context.Context, by *schema.Schema, what string, value json.RawMessage) (string, error) {
	if by == nil {
		return "", nil
	}
	var faults form.Faults
	if err := by.Validate(ctx, what, value, &faults); err != nil {
		return "", err
	}
	var invalid *errs.Error
	if !errors.As(faults.Err(what), &invalid) {
		return "", nil
	}
	lines := make([]string, len(invalid.Details))
	for i, d := range invalid.Details {
		lines[i] = d.Field + " " + d.Message
	}
	return strings.Join(lines, "; "), nil
}

// isObject tells whether raw is a JSON object.
func isObject(raw json.RawMessage) bool {
	var object map[string]json.RawMessage
	return json.Unmarshal(raw, &object) == nil && object != nil
}
