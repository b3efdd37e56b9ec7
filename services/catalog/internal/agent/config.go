package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/rawjson"
	"turbocat.io/pkg/schema"
	"turbocat.io/pkg/template"
)

// Schemas checks configs, one JSON Schema for each agent type. It is safe for concurrent use.
type Schemas map[string]*schema.Schema

// LoadSchemas compiles the schemas of all agent types.
func LoadSchemas() (Schemas, error) {
	schemas := Schemas{}
	for _, t := range catalog.AgentTypes() {
		raw, err := catalog.ConfigSchema(t)
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
	CheckNames("config", config, faults)
	if slices.Contains(catalog.RunnerAgentTypes(), agentType) {
		var ok bool
		if _, config, ok = catalog.SplitPool(config); !ok {
			faults.Add("config.runner", errs.BadValue, "are no labels of runners; write one, or a list of up to %d, each of up to 32 letters, digits, - and _, or leave it out for runners that offer %q", catalog.MaxLabels, subject.DefaultPool)
		}
	}
	_ = s[agentType].Validate(context.Background(), "config", config, faults) // the error is the context's
	switch agentType {
	case catalog.AgentAPI:
		checkTemplates(config, faults)
	case catalog.AgentCode:
		checkSources(config, faults)
	case catalog.AgentLLM:
		checkLLM(config, faults)
	case catalog.AgentWorkflow:
		refuseSecrets("the inputs of another workflow are data", config, faults)
	case catalog.AgentData:
		refuseSecrets("a DATA agent takes its config as it is", config, faults)
		if depth := rawjson.Depth(config); depth > catalog.MaxDataDepth {
			faults.Add("config", errs.BadValue, "nests %d levels deep; at most %d are allowed", depth, catalog.MaxDataDepth)
		}
		if len(config) > catalog.MaxDataConfig {
			faults.Add("config", errs.OutOfRange, "has %d bytes; give at most %d", len(config), catalog.MaxDataConfig)
		}
	}
}

// checkSources notes code that is too long, and files of which none is the main one.
func checkSources(config json.RawMessage, faults *form.Faults) {
	var c struct {
		Runtime, Source, Main string
		Files                 map[string]string
	}
	if json.Unmarshal(config, &c) == nil && len(c.Files) > 0 && c.Source == "" { // what has another type is at fault, which is told
		if _, fault := catalog.MainFile(c.Runtime, c.Main, slices.Collect(maps.Keys(c.Files))); fault != "" {
			faults.Add("config.main", errs.BadValue, "%s", fault)
		}
	}
	check := func(field, text string) {
		if len(text) > catalog.MaxCodeSource {
			faults.Add(field, errs.OutOfRange, "has %d bytes; give at most %d", len(text), catalog.MaxCodeSource)
		}
	}
	check("config.source", c.Source)
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		check(form.Join("config.files", name), c.Files[name])
	}
}

// CheckNames notes every name that stands twice in an object of the JSON at path, for which of
// the two counts is for each reader to choose.
func CheckNames(path string, raw json.RawMessage, faults *form.Faults) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	checkNames(path, dec, faults)
}

func checkNames(path string, dec *json.Decoder, faults *form.Faults) {
	switch token, _ := dec.Token(); token {
	case json.Delim('['):
		for i := 0; dec.More(); i++ {
			checkNames(form.At(path, i), dec, faults)
		}
	case json.Delim('{'):
		seen := map[string]bool{}
		for dec.More() {
			token, err := dec.Token()
			name, ok := token.(string)
			if err != nil || !ok {
				return // no JSON, which is told by others
			}
			if seen[name] {
				faults.Add(form.Join(path, name), errs.BadValue, "stands twice; remove one")
			}
			seen[name] = true
			checkNames(form.Join(path, name), dec, faults)
		}
	default:
		return
	}
	_, _ = dec.Token() // the end
}

// checkTemplates notes malformed templates in the strings of a config, and gives what the others name.
func checkTemplates(config json.RawMessage, faults *form.Faults) []template.Reference {
	tpl, problems := template.Parse(config)
	for _, p := range problems {
		faults.Add(within("config", p.Field), errs.BadTemplate, "%s", p.Message)
	}
	if tpl == nil {
		return nil
	}
	references := tpl.References()
	for _, r := range references {
		if problem := SecretProblem(r.Path); problem != "" {
			faults.Add(within("config", r.Field), errs.BadTemplate, "%s", problem)
		}
	}
	return references
}

var secretName = regexp.MustCompile(identity.SecretNamePattern)

// SecretProblem tells what is wrong with the path of a template that names a secret; "" for nothing, or when it names none.
func SecretProblem(path template.Path) string {
	if path.Root() != "secrets" || len(path) == 2 && !path[1].IsIndex && secretName.MatchString(path[1].Key) {
		return ""
	}
	return fmt.Sprintf("{{%s}} names no secret; write it like {{secrets.API_KEY}}, with up to 128 letters, digits, - and _", path)
}

// refuseSecrets notes the secrets in a config that nothing puts any in.
func refuseSecrets(why string, config json.RawMessage, faults *form.Faults) {
	tpl, _ := template.Parse(config)
	if tpl == nil {
		return
	}
	for _, r := range tpl.References() {
		if r.Path.Root() == "secrets" {
			faults.Add(within("config", r.Field), errs.NotApplicable, "%s; give {{%s}} to an agent of another type, or in the inputs of a step", why, r.Path)
		}
	}
}

func within(path, field string) string {
	if field == "" || field[0] == '[' {
		return path + field
	}
	return path + "." + field
}
