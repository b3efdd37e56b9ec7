package agent

import (
	"encoding/json"
	"fmt"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/pkg/form"
)

// TestSchemasKnowLabels wants the schemas that clients check configs by to take the labels that are taken when an agent is saved, and no others.
func TestSchemasKnowLabels(t *testing.T) {
	schemas, err := LoadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	verdict := func(agentType, config string) bool {
		var faults form.Faults
		if err := schemas[agentType].Validate(t.Context(), "config", json.RawMessage(config), &faults); err != nil {
			t.Fatal(err)
		}
		return faults.Err("config") == nil
	}
	for agentType, config := range map[string]string{
		catalog.AgentCode: `{"runtime":"javascript","source":"1"%s}`,
		catalog.AgentAPI:  `{"url":"https://x"%s}`,
		catalog.AgentLLM:  `{"providers":[{"type":"openai","model":"m"}],"prompt":"p"%s}`,
		catalog.AgentData: `{"operation":"sort","sort":[{"field":"a"}]%s}`,
		"DATA ":           `{"pipeline":[{"operation":"sort","sort":[{"field":"a"}]}]%s}`,
	} {
		if agentType == "DATA " {
			agentType = catalog.AgentData
		}
		if !verdict(agentType, fmt.Sprintf(config, "")) {
			t.Fatalf("%s is no config", config)
		}
		for _, runner := range []string{`"gpu-2_A"`, `["gpu","eu"]`, `["a","b","c","d"]`, `["a","b","c","d","e"]`, `[]`, `null`, `1`, `""`, `"a.b"`, `["a b"]`, `[1]`, `"123456789012345678901234567890123"`} {
			whole := fmt.Sprintf(config, `,"runner":`+runner)
			if _, _, ok := catalog.SplitPool(json.RawMessage(whole)); verdict(agentType, whole) != ok {
				t.Errorf("%s: taken when it is saved: %t", whole, ok)
			}
		}
	}
}
