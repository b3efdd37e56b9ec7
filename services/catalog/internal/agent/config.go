package agent

import (
	"embed"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"turbocat.io/contracts/catalog"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/schema"
	"turbocat.io/pkg/template"
)

//go:embed schemas/*.json
var schemaFiles embed.FS

// Types lists the agent types.
func Types() []string {
	return []string{catalog.AgentCode, catalog.AgentAPI, catalog.AgentLLM, catalog.AgentData, catalog.AgentWorkflow}
}

// Schemas checks configs, one JSON Schema for each agent type. It is safe for concurrent use.
type Schemas map[string]*jsonschema.Schema

// LoadSchemas compiles the schemas of all agent types.
func LoadSchemas() (Schemas, error) {
	schemas := Schemas{}
	for _, t := range Types() {
		raw, err := schemaFiles.ReadFile("schemas/" + t + ".json")
		if err != nil {
			return nil, err
		}
		if schemas[t], err = schema.Compile(raw); err != nil {
			return nil, fmt.Errorf("schema of %s agents: %w", t, err)
		}
	}
	return schemas, nil
}

// checkConfig notes the faults of a config that is a JSON object.
func (s Schemas) checkConfig(agentType string, config json.RawMessage, faults *form.Faults) {
	schema.Validate(s[agentType], "config", config, faults)
	if agentType == catalog.AgentAPI {
		checkTemplates(config, faults)
	}
}

// checkTemplates notes malformed templates; only an API config holds any, in its strings.
func checkTemplates(config json.RawMessage, faults *form.Faults) {
	tpl, problems := template.Parse(config)
	for _, p := range problems {
		faults.Add(within("config", p.Field), "bad_template", "%s", p.Message)
	}
	if tpl == nil {
		return
	}
	for _, r := range tpl.References() {
		if r.Path.Root() == "secrets" {
			faults.Add(within("config", r.Field), form.Unsupported, "secrets are not available yet; remove {{%s}}", r.Path)
		}
	}
}

func within(path, field string) string {
	if field == "" || field[0] == '[' {
		return path + field
	}
	return path + "." + field
}

// notYet names what agents with the config need and runners can not do yet; "" when they can run.
func notYet(agentType string, config json.RawMessage) string {
	var c struct {
		Runtime    string
		AllowHosts []string
		Files      map[string]json.RawMessage
		Auth       struct{ Type string }
		Operation  string
		Pipeline   []struct{ Operation string }
	}
	if json.Unmarshal(config, &c) != nil {
		return "" // the config is at fault, which is told
	}
	switch agentType {
	case catalog.AgentLLM, catalog.AgentWorkflow:
		return agentType + " agents"
	case catalog.AgentCode:
		switch {
		case c.Runtime == "typescript" || c.Runtime == "python":
			return "CODE agents with the runtime " + c.Runtime
		case len(c.AllowHosts) > 0:
			return "CODE agents with allowHosts"
		case len(c.Files) > 1:
			return "CODE agents with several files"
		}
	case catalog.AgentAPI:
		if c.Auth.Type == "oauth2" {
			return "API agents with oauth2"
		}
	case catalog.AgentData:
		runnable := []string{"", "filter", "map", "sort", "group", "aggregate", "pick", "join"}
		for _, step := range append(c.Pipeline, struct{ Operation string }{c.Operation}) {
			if !slices.Contains(runnable, step.Operation) {
				return "DATA agents with the operation " + step.Operation
			}
		}
	}
	return ""
}
