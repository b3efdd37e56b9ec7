package catalog

import (
	"embed"
	"encoding/json"
	"fmt"
)

//go:embed schemas/*.json
var schemas embed.FS

// ConfigSchema gives the JSON Schema, draft 2020-12, of the config of an agent type. What it can not tell is told where the
// bounds of configs are. There is none of a type that is not among AgentTypes.
func ConfigSchema(agentType string) (json.RawMessage, error) {
	raw, err := schemas.ReadFile("schemas/" + agentType + ".json")
	if err != nil {
		return nil, fmt.Errorf("the JSON Schema of %s agents: %w", agentType, err)
	}
	return raw, nil
}

//go:embed document.json
var documentSchema []byte

// DocumentSchema gives the JSON Schema of the documents that ExportWorkflow gives and ImportWorkflow takes, for editors. The config of an agent has that of its type.
func DocumentSchema() (json.RawMessage, error) {
	var document map[string]any
	if err := json.Unmarshal(documentSchema, &document); err != nil {
		return nil, fmt.Errorf("document.json: %w", err)
	}
	defs, _ := document["$defs"].(map[string]any)
	agent, _ := defs["agent"].(map[string]any)
	var byType []any
	for _, t := range AgentTypes() {
		raw, err := ConfigSchema(t)
		if err != nil {
			return nil, err
		}
		var config map[string]any
		if err := json.Unmarshal(raw, &config); err != nil {
			return nil, fmt.Errorf("the JSON Schema of %s agents: %w", t, err)
		}
		config["$id"] = "agents/" + t // its own references are to itself
		defs["config"+t] = config
		byType = append(byType, map[string]any{
			"if":   map[string]any{"properties": map[string]any{"type": map[string]any{"const": t}}, "required": []string{"type"}},
			"then": map[string]any{"properties": map[string]any{"config": map[string]any{"$ref": "agents/" + t}}},
		})
	}
	agent["allOf"] = byType
	return json.MarshalIndent(document, "", "  ")
}
