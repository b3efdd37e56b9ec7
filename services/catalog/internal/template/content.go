package template

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/form"
	"turbocat.io/services/catalog/internal/agent"
	"turbocat.io/services/catalog/internal/workflow"
)

// maxAgents is how many agents a template may bring along.
const maxAgents = 50

// Made is what comes of a template. Ids of agents are set, for steps name them; all else that the catalog sets is not.
type Made struct {
	Agent    *catalog.Agent
	Workflow *catalog.Workflow
	Step     *catalog.Step
	Agents   []catalog.Agent // that Workflow or Step names
}

// wishes are what somebody wants other than a template has it. What is not among them stays.
type wishes struct {
	name, description, status string
	tags                      []string
	isPublic                  bool
	config                    json.RawMessage // fields of the config of an AGENT
}

// fields are those of a body.
func (w wishes) fields() map[string]json.RawMessage {
	return map[string]json.RawMessage{
		"name": encode(w.name), "description": encode(w.description), "tags": encode(w.tags), "isPublic": encode(w.isPublic), "status": encode(w.status),
	}
}

// below gives what paths below a path begin with.
func below(path string) string {
	if path == "" {
		return ""
	}
	return path + "."
}

// builder makes things of templates.
type builder struct{ schemas agent.Schemas }

// build makes what a template is of, or a VALIDATION_ERROR with every fault. Faults of the content stand at their place in it, below path.
func (b builder) build(t catalog.Template, w wishes, path string) (Made, error) {
	var faults form.Faults
	content, ok := form.Open(path, t.Content, &faults)
	if !ok {
		return Made{}, faults.Err("template")
	}
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(t.Content, &fields) // it is an object, which Open has found
	var made Made
	switch t.Type {
	case catalog.TemplateAgent:
		content.Only("type", "config", "inputSchema", "outputSchema")
		if len(w.config) > 0 {
			fields["config"] = laidOver(fields["config"], w.config)
		}
		a := b.agent(fields, w, path, &faults)
		made.Agent = &a
	case catalog.TemplateWorkflow:
		content.Only("agents", "steps", "inputSchema", "outputs", "timeoutMs", "concurrency", "priority", "strictTemplates")
		named := b.agents(content.Field("agents"), fields["agents"], w, &faults)
		delete(fields, "agents")
		fields["steps"] = bindAll(content.Field("steps"), fields["steps"], named, &faults)
		wf := b.workflow(fields, w, named, below(path), &faults)
		made.Workflow, made.Agents = &wf, named.list()
	case catalog.TemplateStep:
		content.Only("agents", "step")
		content.Require(true, "step")
		named := b.agents(content.Field("agents"), fields["agents"], w, &faults)
		bound := bind(content.Field("step"), fields["step"], named, &faults)
		wf := b.workflow(map[string]json.RawMessage{"steps": slices.Concat([]byte("["), bound, []byte("]"))}, w, named, below(path)+"step|", &faults)
		if len(wf.Steps) == 1 {
			made.Step = &wf.Steps[0]
		}
		made.Agents = named.list()
	}
	return made, faults.Err("template")
}

// laidOver gives an object with the fields of another instead of its own.
func laidOver(object, with json.RawMessage) json.RawMessage {
	var fields, more map[string]json.RawMessage
	if json.Unmarshal(object, &fields) != nil || json.Unmarshal(with, &more) != nil {
		return object // what is no object is told where it is read
	}
	maps.Copy(fields, more)
	return encode(fields)
}

func encode(v any) json.RawMessage {
	raw, _ := json.Marshal(v) // made of what was decoded
	return raw
}

// agent makes an agent of its fields and of what is wished for it.
func (b builder) agent(fields map[string]json.RawMessage, w wishes, path string, faults *form.Faults) catalog.Agent {
	body := w.fields()
	maps.Copy(body, fields)
	a, err := b.schemas.New(encode(body))
	within(below(path), err, faults)
	a.ID = uuid.Must(uuid.NewV7()).String()
	return a
}

// within notes the faults of err below a path; "x|" stands for the one step that the error speaks of.
func within(path string, err error, faults *form.Faults) {
	var e *errs.Error
	if !errors.As(err, &e) {
		return
	}
	step, alone := strings.CutSuffix(path, "|")
	for _, d := range e.Details {
		field := path + d.Field
		if rest, ok := strings.CutPrefix(d.Field, "steps[0]"); alone && ok {
			field = step + rest
		}
		faults.Add(field, d.Code, "%s", d.Message)
	}
	if len(e.Details) == 0 {
		faults.Add(strings.TrimRight(path, ".|"), errs.BadValue, "%s", e.Message)
	}
}

// local are the agents that a template brings along, by the name that its steps know them by.
type local map[string]catalog.Agent

func (l local) list() []catalog.Agent {
	list := []catalog.Agent{}
	for _, name := range slices.Sorted(maps.Keys(l)) {
		list = append(list, l[name])
	}
	return list
}

// agents makes the agents of {"Name": {"type", "config", ...}}.
func (b builder) agents(path string, raw json.RawMessage, w wishes, faults *form.Faults) local {
	named := local{}
	if raw == nil {
		return named
	}
	if _, ok := form.Open(path, raw, faults); !ok {
		return named
	}
	var all map[string]json.RawMessage
	_ = json.Unmarshal(raw, &all) // an object, which Open has found
	if len(all) > maxAgents {
		faults.Add(path, errs.OutOfRange, "has %d agents; give at most %d", len(all), maxAgents)
		return named
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		at := form.Join(path, name)
		o, ok := form.Open(at, all[name], faults)
		if !ok {
			continue
		}
		o.Only("type", "config", "description", "inputSchema", "outputSchema", "tags", "status", "isPublic")
		var fields map[string]json.RawMessage
		_ = json.Unmarshal(all[name], &fields) // an object, which Open has found
		named[name] = b.agent(fields, wishes{name: name, status: w.status, tags: []string{}}, at, faults)
	}
	return named
}

// bindAll has each of the steps name agents by their ids.
func bindAll(path string, raw json.RawMessage, named local, faults *form.Faults) json.RawMessage {
	var steps []json.RawMessage
	if json.Unmarshal(raw, &steps) != nil {
		return raw // told where it is read
	}
	for i := range steps {
		steps[i] = bind(form.At(path, i), steps[i], named, faults)
	}
	return encode(steps)
}

// bind has a step, its branches and its compensation name agents by their ids.
func bind(path string, raw json.RawMessage, named local, faults *form.Faults) json.RawMessage {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil || fields == nil {
		return raw
	}
	bindOne(path, fields, named, faults)
	if inner := map[string]json.RawMessage(nil); json.Unmarshal(fields["compensate"], &inner) == nil && inner != nil {
		bindOne(path+".compensate", inner, named, faults)
		fields["compensate"] = encode(inner)
	}
	var config map[string]json.RawMessage
	if json.Unmarshal(fields["config"], &config) == nil && config != nil {
		var branches []map[string]json.RawMessage
		if json.Unmarshal(config["branches"], &branches) == nil && branches != nil {
			for i, branch := range branches {
				bindOne(form.At(path+".config.branches", i), branch, named, faults)
			}
			config["branches"] = encode(branches)
			fields["config"] = encode(config)
		}
	}
	return encode(fields)
}

func bindOne(path string, fields map[string]json.RawMessage, named local, faults *form.Faults) {
	if _, given := fields["agentId"]; given {
		faults.Add(path+".agentId", errs.NotApplicable, "a template has agents of its own; put the agent among agents and name it as agent")
	}
	raw, given := fields["agent"]
	if !given {
		return
	}
	delete(fields, "agent")
	var name string
	if err := json.Unmarshal(raw, &name); err != nil || named[name].ID == "" {
		faults.Add(path+".agent", errs.UnknownAgent, "names no agent of the template; put it among agents or correct the name")
		name = ""
	}
	id := named[name].ID
	if id == "" {
		id = uuid.Nil.String() // so that what else is wrong is told too
	}
	fields["agentId"] = encode(id)
}

// workflow makes a workflow of its fields, whose agents are those of the template.
func (b builder) workflow(fields map[string]json.RawMessage, w wishes, named local, path string, faults *form.Faults) catalog.Workflow {
	body := w.fields()
	maps.Copy(body, fields)
	types := map[string]string{}
	for _, a := range named {
		types[a.ID] = a.Type
	}
	d := workflow.New(encode(body))
	d.KeepSecrets(func(id string) bool { return types[id] == catalog.AgentWorkflow })
	wf, err := d.Finish(func(string) bool { return true })
	within(path, err, faults)
	return wf
}
