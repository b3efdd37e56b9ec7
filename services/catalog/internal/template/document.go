package template

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/yamldoc"
	"turbocat.io/services/catalog/internal/access"
	"turbocat.io/services/catalog/internal/workflow"
)

// document is a workflow with its agents as another installation can import it: without ids, owners and versions. `turbocat run` reads the same.
type document struct {
	Name            string                   `json:"name"`
	Description     string                   `json:"description"`
	Status          string                   `json:"status"`
	Tags            []string                 `json:"tags"`
	IsPublic        bool                     `json:"isPublic"`
	InputSchema     json.RawMessage          `json:"inputSchema"`
	Outputs         json.RawMessage          `json:"outputs"`
	TimeoutMs       int64                    `json:"timeoutMs"`
	Concurrency     *catalog.Concurrency     `json:"concurrency"`
	Priority        int                      `json:"priority"`
	StrictTemplates bool                     `json:"strictTemplates"`
	Agents          map[string]documentAgent `json:"agents"`
	Steps           []documentStep           `json:"steps"`
}

type documentAgent struct {
	Type         string          `json:"type"`
	Description  string          `json:"description"`
	Status       string          `json:"status"`
	Tags         []string        `json:"tags"`
	IsPublic     bool            `json:"isPublic"`
	Config       json.RawMessage `json:"config"`
	InputSchema  json.RawMessage `json:"inputSchema"`
	OutputSchema json.RawMessage `json:"outputSchema"`
}

// documentStep is a step whose agents are names.
type documentStep struct {
	StepKey      string              `json:"stepKey"`
	StepType     string              `json:"stepType"`
	Agent        string              `json:"agent,omitempty"`
	DependsOn    []string            `json:"dependsOn"`
	Inputs       json.RawMessage     `json:"inputs"`
	Config       json.RawMessage     `json:"config"`
	OnError      string              `json:"onError"`
	RetryCount   int                 `json:"retryCount"`
	RetryDelayMs int64               `json:"retryDelayMs"`
	TimeoutMs    int64               `json:"timeoutMs"`
	TriggerRule  string              `json:"triggerRule"`
	Compensate   *documentCompensate `json:"compensate,omitempty"`
}

type documentCompensate struct {
	Agent        string          `json:"agent"`
	Inputs       json.RawMessage `json:"inputs"`
	RetryCount   int             `json:"retryCount"`
	RetryDelayMs int64           `json:"retryDelayMs"`
	TimeoutMs    int64           `json:"timeoutMs"`
}

// Export gives a workflow that the caller may see, with its agents, as a document. CONFLICT when it names agents that he may not see.
func (s *Templates) Export(ctx context.Context, caller rpc.Caller, req catalog.ExportRequest) (catalog.ExportResponse, error) {
	if req.Format != "" && req.Format != catalog.FormatJSON && req.Format != catalog.FormatYAML {
		return catalog.ExportResponse{}, errs.Invalid("request", []errs.Detail{{Field: "format", Message: "must be json or yaml", Code: errs.BadEnum}})
	}
	w, err := s.workflows.Get(ctx, caller, catalog.IDRequest{ID: req.ID})
	if err != nil {
		return catalog.ExportResponse{}, err
	}
	ids := workflow.AgentIDs(w.Steps)
	found, err := s.agents.FindAll(ctx, ids)
	if err != nil {
		return catalog.ExportResponse{}, err
	}
	agents := map[string]catalog.Agent{}
	for _, a := range found {
		if access.CanSee(caller, a.UserID, a.IsPublic) {
			agents[a.ID] = a
		}
	}
	for _, id := range ids {
		if agents[id].ID == "" {
			return catalog.ExportResponse{}, errs.New(errs.Conflict, "the workflow names the agent %s, which is gone or is not yours to see; give the workflow another", id)
		}
	}
	raw, err := marshal(portable(w, ids, agents))
	if err != nil || req.Format != catalog.FormatYAML {
		return catalog.ExportResponse{JSON: raw}, err
	}
	text, err := toYAML(raw)
	return catalog.ExportResponse{YAML: text}, err
}

func branchesOf(config json.RawMessage) []map[string]json.RawMessage {
	var c struct{ Branches []map[string]json.RawMessage }
	_ = json.Unmarshal(config, &c) // other steps have none
	return c.Branches
}

// portable makes the document of a workflow; agents has all that it names.
func portable(w catalog.Workflow, ids []string, agents map[string]catalog.Agent) document {
	d := document{
		Name: w.Name, Description: w.Description, Status: w.Status, Tags: w.Tags, IsPublic: w.IsPublic, InputSchema: w.InputSchema, Outputs: w.Outputs,
		TimeoutMs: w.TimeoutMs, Concurrency: w.Concurrency, Priority: w.Priority, StrictTemplates: w.StrictTemplates,
		Agents: map[string]documentAgent{}, Steps: []documentStep{},
	}
	names := map[string]string{}
	for _, id := range ids {
		a := agents[id]
		name := a.Name
		for n := 2; d.Agents[name].Type != ""; n++ {
			name = fmt.Sprintf("%s %d", a.Name, n)
		}
		names[id] = name
		d.Agents[name] = documentAgent{a.Type, a.Description, a.Status, a.Tags, a.IsPublic, a.Config, a.InputSchema, a.OutputSchema}
	}
	for _, step := range w.Steps {
		s := documentStep{
			StepKey: step.StepKey, StepType: step.StepType, DependsOn: step.DependsOn, Inputs: step.Inputs, Config: unbound(step.Config, names), OnError: step.OnError,
			RetryCount: step.RetryCount, RetryDelayMs: step.RetryDelayMs, TimeoutMs: step.TimeoutMs, TriggerRule: step.TriggerRule,
		}
		if step.AgentID != nil {
			s.Agent = names[*step.AgentID]
		}
		if c := step.Compensate; c != nil {
			s.Compensate = &documentCompensate{names[c.AgentID], c.Inputs, c.RetryCount, c.RetryDelayMs, c.TimeoutMs}
		}
		d.Steps = append(d.Steps, s)
	}
	return d
}

// unbound has the branches of a config name their agents.
func unbound(config json.RawMessage, names map[string]string) json.RawMessage {
	branches := branchesOf(config)
	if branches == nil {
		return config
	}
	for _, b := range branches {
		var id string
		_ = json.Unmarshal(b["agentId"], &id) // a saved branch has one
		delete(b, "agentId")
		b["agent"] = encode(names[id])
	}
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(config, &fields) // it has branches, so it is an object
	fields["branches"] = encode(branches)
	return encode(fields)
}

func marshal(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}

// toYAML writes JSON as people read it, in its order.
func toYAML(raw json.RawMessage) (string, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(raw, &root); err != nil {
		return "", fmt.Errorf("read what was written: %w", err)
	}
	plain(&root)
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := encoder.Encode(&root); err != nil {
		return "", err
	}
	return b.String(), encoder.Close()
}

// plain gives nodes the style of people: blocks, and texts of several lines as they are.
func plain(n *yaml.Node) {
	n.Style = 0
	switch {
	case n.Kind != yaml.ScalarNode || n.Tag != "!!str":
	case strings.Contains(n.Value, "\n") && !strings.ContainsAny(n.Value, "\t\r\x00") && !strings.Contains(n.Value, " \n"):
		n.Style = yaml.LiteralStyle
	}
	for _, inner := range n.Content {
		plain(inner)
	}
}

// Import makes the workflow of a document and its agents, for the caller. What has no status is ACTIVE: what is in a file is meant to run.
func (s *Templates) Import(ctx context.Context, caller rpc.Caller, req catalog.ImportRequest) (catalog.Workflow, error) {
	id, err := access.NewID(caller, "")
	if err != nil {
		return catalog.Workflow{}, err
	}
	made, err := s.builder.read(req.Document)
	if err != nil {
		return catalog.Workflow{}, err
	}
	now, w := s.time(), made.Workflow
	w.ID, w.UserID, w.CreatedAt, w.UpdatedAt = id, caller.UserID, now, now
	for i := range made.Agents {
		a := &made.Agents[i]
		a.UserID, a.CreatedAt, a.UpdatedAt = caller.UserID, now, now
	}
	return *w, s.store.Import(ctx, *w, made.Agents)
}

// read builds what a document is of. Faults tell the line.
func (b builder) read(raw []byte) (Made, error) {
	d, root := yamldoc.Parse("document", raw)
	var body json.RawMessage
	ok := root != nil
	if ok {
		body, ok = d.JSON(root)
	}
	var faults form.Faults
	for _, f := range d.Faults {
		faults.Add(f.Path, errs.BadValue, "%s%s", f.Message, onLine(f.Line))
	}
	if err := faults.Err("document"); err != nil || !ok {
		return Made{}, err
	}
	o, isObject := form.Read(body, &faults)
	if !isObject {
		return Made{}, faults.Err("document")
	}
	w := wishes{status: catalog.StatusActive, tags: []string{}}
	o.Require(true, "name", "steps")
	w.read(o)
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(body, &fields) // an object, which Read has found
	for _, name := range []string{"name", "description", "tags", "status", "isPublic"} {
		delete(fields, name)
	}
	made, err := b.build(catalog.Template{Type: catalog.TemplateWorkflow, Content: encode(fields)}, w, "")
	within("", err, &faults)
	if e := errs.From(faults.Err("document")); e != nil {
		for i, detail := range e.Details {
			e.Details[i].Message += onLine(d.Line(detail.Field))
		}
		return Made{}, e
	}
	return made, nil
}

func onLine(line int) string {
	if line == 0 {
		return ""
	}
	return fmt.Sprintf(" (line %d)", line)
}
