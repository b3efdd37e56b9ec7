package agent

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/schema"
	"turbocat.io/pkg/template"
)

// lent are the fields of an LLM config that may name secrets: what a model reads may be told by it.
var lent = regexp.MustCompile(`^(providers\[\d+\]\.apiKey|tools\[\d+\]\.mcp\.headers[.\[].*)$`)

var headerName = regexp.MustCompile(`^[A-Za-z0-9-]{1,128}$`)

// checkLLM notes what the schema of LLM agents can not tell.
func checkLLM(config json.RawMessage, faults *form.Faults) {
	checkLLMTemplates(config, faults)
	var c catalog.LLMConfig
	if json.Unmarshal(config, &c) != nil {
		return // what has another type is at fault, which is told
	}
	checkProviders(c, faults)
	checkTools(c.Tools, faults)
	if c.ResponseFormat != nil {
		schema.Check("config.responseFormat.schema", c.ResponseFormat.Schema, faults)
	}
}

// checkLLMTemplates notes malformed templates, also in texts that are none, and secrets where they are not lent.
func checkLLMTemplates(config json.RawMessage, faults *form.Faults) {
	for _, r := range checkTemplates(config, faults) {
		if r.Path.Root() == "secrets" && !lent.MatchString(r.Field) {
			faults.Add(within("config", r.Field), errs.NotApplicable, "models tell what they read; give {{%s}} in the apiKey of a provider or the headers of an MCP server", r.Path)
		}
	}
}

// checkProviders notes providers that no model is named for, keys that are no secrets, and what none of them has.
func checkProviders(c catalog.LLMConfig, faults *form.Faults) {
	anthropic := len(c.Providers) > 0
	for i, p := range c.Providers {
		at := form.At("config.providers", i)
		if p.Model == "" && c.Model == "" {
			faults.Add(form.Join(at, "model"), errs.Required, "is required; name a model here, or for all providers in config.model")
		}
		if p.APIKey != "" && !isSecret(p.APIKey) {
			faults.Add(form.Join(at, "apiKey"), errs.BadValue, "must be a secret and nothing else, like {{secrets.API_KEY}}; others can read configs")
		}
		anthropic = anthropic && p.Type == catalog.ProviderAnthropic
	}
	if !anthropic {
		return
	}
	for _, option := range []struct {
		field string
		value *float64
	}{{"frequencyPenalty", c.FrequencyPenalty}, {"presencePenalty", c.PresencePenalty}} {
		if option.value != nil {
			faults.Add("config."+option.field, errs.NotApplicable, "providers of the type anthropic have no penalties; remove it")
		}
	}
	if c.Temperature != nil && *c.Temperature > 1 {
		faults.Add("config.temperature", errs.OutOfRange, "is too large for providers of the type anthropic; give at most 1")
	}
}

// isSecret tells whether a text is a template of one secret.
func isSecret(text string) bool {
	raw, _ := json.Marshal(text) // a string always encodes
	tpl, problems := template.Parse(raw)
	paths := tpl.Paths()
	return len(problems) == 0 && len(paths) == 1 && paths[0].Root() == "secrets" && text == "{{"+paths[0].String()+"}}"
}

// checkTools notes names that two tools or servers have, arguments that nothing fits, and servers that are not reached over HTTP.
func checkTools(tools []catalog.LLMTool, faults *form.Faults) {
	var names, servers []string
	for i, t := range tools {
		at := form.At("config.tools", i)
		if t.MCP == nil {
			if t.Name != "" && slices.Contains(names, t.Name) {
				faults.Add(form.Join(at, "name"), errs.BadValue, "is the name of another tool; give each its own")
			}
			names = append(names, t.Name)
			checkParameters(form.Join(at, "parameters"), t.Parameters, faults)
			continue
		}
		at = form.Join(at, "mcp")
		if slices.Contains(servers, t.MCP.Name) {
			faults.Add(form.Join(at, "name"), errs.BadValue, "is the name of another MCP server; give each its own")
		}
		servers = append(servers, t.MCP.Name)
		switch {
		case t.MCP.URL == "" && t.MCP.Program == "":
			faults.Add(form.Join(at, "url"), errs.Required, "is missing; give the URL of the server, or in program the name of one of the operator's programs")
		case t.MCP.URL != "" && t.MCP.Program != "":
			faults.Add(form.Join(at, "program"), errs.NotApplicable, "stands beside url; leave one of them out")
		case t.MCP.Program != "" && len(t.MCP.Headers) > 0:
			faults.Add(form.Join(at, "headers"), errs.NotApplicable, "are of servers with a url alone; leave them out")
		}
		for _, name := range slices.Sorted(maps.Keys(t.MCP.Headers)) {
			if !headerName.MatchString(name) {
				faults.Add(form.Join(form.Join(at, "headers"), name), errs.BadValue, "is no name of a header; use letters, digits and -")
			}
		}
	}
}

func checkParameters(at string, parameters json.RawMessage, faults *form.Faults) {
	schema.Check(at, parameters, faults)
	var object struct{ Type any }
	if json.Unmarshal(parameters, &object) == nil && object.Type != nil && object.Type != "object" {
		faults.Add(form.Join(at, "type"), errs.BadValue, "is %s; arguments are always an object", form.Quote(fmt.Sprint(object.Type)))
	}
}
