//go:build unix

package e2e

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestExamplesOfWorkflowAgents runs every example of docs/agents/workflow.md; those of the other pages are run by their executors' tests.
func TestExamplesOfWorkflowAgents(t *testing.T) {
	t.Parallel()
	c := user(t)
	page, err := os.ReadFile("../../docs/agents/workflow.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?ms)^```json\n(.*?)^```$").FindAllSubmatch(page, -1)
	if len(examples) < 3 {
		t.Errorf("there are %d examples", len(examples))
	}
	for _, block := range examples {
		var e struct {
			Input, Config, Output json.RawMessage
			Workflow              object
		}
		if err := json.Unmarshal(block[1], &e); err != nil {
			t.Fatal(err)
		}
		var steps []object
		for _, s := range e.Workflow["steps"].([]any) {
			steps = append(steps, s.(object))
		}
		id := c.workflow(t, steps, object{"outputs": e.Workflow["outputs"]})
		var config object
		if err := json.Unmarshal([]byte(strings.ReplaceAll(string(e.Config), "0193b7f0-0000-7000-8000-000000000000", id)), &config); err != nil {
			t.Fatal(err)
		}
		agent := c.agent(t, "WORKFLOW", config)
		test := data[struct{ Output json.RawMessage }](t, c.do(t, "POST", "/agents/"+agent+"/test", object{"input": e.Input}), 200)
		var got, want any
		if json.Unmarshal(test.Output, &got) != nil || json.Unmarshal(e.Output, &want) != nil || string(encoded(t, got)) != string(encoded(t, want)) {
			t.Errorf("%s\ngives %s", block[1], test.Output)
		}
	}
}
