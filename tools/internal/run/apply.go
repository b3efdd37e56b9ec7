package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/tools/internal/client"
	"turbocat.io/tools/internal/workflowfile"
)

// readOnly are the fields of an agent or a workflow that the server sets.
var readOnly = []string{"id", "userId", "version", "createdAt", "updatedAt", "steps"}

// Apply makes the user's agents and workflow of the file's names be as the file says, and changes nothing
// that is so already. Others of theirs stay as they are.
func Apply(ctx context.Context, c *client.Client, f *workflowfile.File) (catalog.Workflow, error) {
	ids := map[string]string{}
	for _, want := range f.Agents {
		id, err := applyAgent(ctx, c, want)
		if err != nil {
			return catalog.Workflow{}, located(f, workflowfile.AgentPath(want.Name), err)
		}
		ids[want.Name] = id
	}
	want := f.Workflow
	want.Steps = f.Steps(ids)
	workflow, err := applyWorkflow(ctx, c, want)
	return workflow, located(f, "", err)
}

func applyAgent(ctx context.Context, c *client.Client, want catalog.Agent) (id string, err error) {
	known, err := c.Agents(ctx, want.Name)
	switch {
	case err != nil:
		return "", err
	case len(known) > 1:
		return "", ambiguous("agents", want.Name, len(known))
	case len(known) == 0:
		made, err := c.CreateAgent(ctx, settable(want))
		return made.ID, err
	}
	if patch := difference(settable(want), settable(known[0])); len(patch) > 0 {
		_, err = c.PatchAgent(ctx, known[0].ID, patch)
	}
	return known[0].ID, err
}

func applyWorkflow(ctx context.Context, c *client.Client, want catalog.Workflow) (catalog.Workflow, error) {
	known, err := c.Workflows(ctx, want.Name)
	switch {
	case err != nil:
		return want, err
	case len(known) > 1:
		return want, ambiguous("workflows", want.Name, len(known))
	case len(known) == 0:
		body := settable(want)
		body["steps"] = encode(want.Steps)
		return c.CreateWorkflow(ctx, body)
	}
	current, err := c.Workflow(ctx, known[0].ID)
	if err != nil {
		return want, err
	}
	patch := difference(settable(want), settable(current))
	if steps := stepsPatch(want.Steps, current.Steps); steps != nil {
		patch["steps"] = steps
	}
	if len(patch) == 0 {
		return current, nil
	}
	return c.PatchWorkflow(ctx, current.ID, patch)
}

// stepsPatch gives all wanted steps, in their order so that faults name their places in the file, and the removal
// of the others; nil when the current ones are as wanted.
func stepsPatch(want, current []catalog.Step) json.RawMessage {
	if same(encode(want), encode(current)) {
		return nil
	}
	var patch []any
	for _, s := range want {
		patch = append(patch, s)
	}
	for _, s := range current {
		if !slices.ContainsFunc(want, func(w catalog.Step) bool { return w.StepKey == s.StepKey }) {
			patch = append(patch, map[string]any{"stepKey": s.StepKey, "_delete": true})
		}
	}
	return encode(patch)
}

// settable gives the fields of an agent or a workflow that a client sets, without the steps.
func settable(v any) map[string]json.RawMessage {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(encode(v), &fields) // of a struct
	maps.DeleteFunc(fields, func(name string, _ json.RawMessage) bool { return slices.Contains(readOnly, name) })
	return fields
}

// difference gives the wanted fields that are not so yet.
func difference(want, current map[string]json.RawMessage) map[string]json.RawMessage {
	patch := map[string]json.RawMessage{}
	for name, value := range want {
		if !same(value, current[name]) {
			patch[name] = value
		}
	}
	return patch
}

// same compares JSON values, whatever the order of keys.
func same(a, b json.RawMessage) bool {
	decode := func(raw json.RawMessage) (v any, ok bool) {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		return v, d.Decode(&v) == nil
	}
	x, okX := decode(a)
	y, okY := decode(b)
	return okX && okY && reflect.DeepEqual(x, y)
}

func encode(v any) json.RawMessage {
	raw, _ := json.Marshal(v) // of types that always encode
	return raw
}

func ambiguous(what, name string, n int) error {
	return fmt.Errorf("you have %d %s with the name %q; rename or delete all but one", n, what, name)
}

// located gives what the API found wrong with its place in the file.
func located(f *workflowfile.File, path string, err error) error {
	var refused *client.Refusal
	if errors.As(err, &refused) && refused.Reason.Code == errs.Validation && len(refused.Reason.Details) > 0 {
		return f.Locate(path, refused.Reason.Details)
	}
	return err
}
