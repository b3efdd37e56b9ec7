//go:build unix

package e2e

import (
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/examples"
)

// TestExportAndImport takes a workflow from one user to another, as YAML and as JSON, and has it run there.
func TestExportAndImport(t *testing.T) {
	t.Parallel()
	c, other := user(t), user(t)
	schema, err := jsonschema.UnmarshalJSON(strings.NewReader(string(guest(t).do(t, "GET", "/schemas/workflow", nil).body)))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("mem:///workflow.json", schema); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("mem:///workflow.json")
	if err != nil {
		t.Fatal(err)
	}
	made := data[catalog.Workflow](t, c.do(t, "POST", "/workflows/import", raw(examples.Order()), "Content-Type", "application/yaml"), 201)
	if made.Name != "Order" || made.Status != "ACTIVE" || made.UserID != c.session.User.ID {
		t.Errorf("made %+v", made)
	}
	path := "/workflows/" + made.ID + "/export"
	asJSON := data[any](t, c.do(t, "GET", path, nil), 200)
	if err := compiled.Validate(asJSON); err != nil {
		t.Errorf("the export does not fit the schema for editors: %v", err)
	}
	asYAML := c.do(t, "GET", path+"?format=yaml", nil)
	if asYAML.status != 200 || asYAML.header.Get("Content-Type") != "application/yaml" || !strings.HasPrefix(string(asYAML.body), "name: Order\n") {
		t.Fatalf("%s", asYAML)
	}
	for _, document := range []any{asJSON, raw(asYAML.body)} {
		again := data[catalog.Workflow](t, other.do(t, "POST", "/workflows/import", document), 201)
		if e := other.run(t, again.ID, object{"amount": 5, "items": []string{"a"}, "address": "here"}); e.Status != "COMPLETED" {
			t.Errorf("%+v", e)
		}
	}
	fault(t, other.do(t, "GET", path, nil), errs.NotFound)
	before := data[any](t, other.do(t, "GET", "/agents?pageSize=100", nil), 200)
	faults := fault(t, other.do(t, "POST", "/workflows/import", raw("name: x\nagents:\n  A: {type: DATA, config: {operation: unique}}\nsteps:\n  - {stepKey: a, stepType: AGENT, agent: B}\n"), "Content-Type", "text/yaml"), errs.Validation)
	if !hasField(faults, "steps[0].agent") || !strings.Contains(faults.Details[0].Message, "line 5") {
		t.Errorf("%+v", faults)
	}
	if after := data[any](t, other.do(t, "GET", "/agents?pageSize=100", nil), 200); len(after.([]any)) != len(before.([]any)) {
		t.Error("an import that was refused has left agents behind")
	}
	fault(t, other.do(t, "POST", "/agents", raw("name: x"), "Content-Type", "text/yaml"), errs.UnsupportedMediaType)
}
