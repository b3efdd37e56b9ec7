// Package workflowfile reads the file of a workflow and its agents as people write it: YAML, or JSON, which
// is YAML too. Its fields are those of a workflow of the API, and agents: by name, which steps refer to.
//
//	name: Greet
//	agents:
//	  Greeter:
//	    type: CODE
//	    config: {runtime: javascript, source: "function handler({who}) { return 'Hello ' + who }"}
//	steps:
//	  - {stepKey: greet, stepType: AGENT, agent: Greeter, inputs: {who: "{{inputs.who}}"}}
//
// A branch of a PARALLEL names its agent likewise, and so does what compensates a step.
//
// Only the shape is checked here; what a workflow may be is known to the catalog alone.
package workflowfile

import (
	"encoding/json"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/yamldoc"
)

// What is not given is as in the API, but for the status: what is in a file is meant to run.
const (
	defaultStatus      = catalog.StatusActive
	defaultTimeoutMs   = 3_600_000
	defaultPriority    = 5
	defaultRetryCount  = 3
	defaultRetryDelay  = 1000
	defaultStepTimeout = 300_000
	defaultWaitTimeout = 86_400_000 // of a WAIT
)

// File is a workflow with all its fields, and its agents in the order of the file.
type File struct {
	Agents   []catalog.Agent
	Workflow catalog.Workflow
	// StepAgents names the agent of each step that names one; the step's AgentID is open then.
	StepAgents map[string]string
	// BranchAgents names, by step, those of branches that name one; their agentId is open then.
	BranchAgents map[string]map[int]string
	// UndoAgents names, by step, the agent that compensates it; its agentId is open then.
	UndoAgents map[string]string

	name     string
	document *yamldoc.Document
}

// Parse reads a file; name is how errors call it. The error is Faults, with everything that is wrong.
func Parse(name string, raw []byte) (*File, error) {
	d, root := yamldoc.Parse(name, raw)
	f := &File{StepAgents: map[string]string{}, BranchAgents: map[string]map[int]string{}, UndoAgents: map[string]string{}, name: name, document: d}
	if root == nil {
		return nil, d.Faults
	}
	f.read(d, root)
	if len(d.Faults) > 0 {
		return nil, d.Faults
	}
	return f, nil
}

func (f *File) read(d *yamldoc.Document, root *yaml.Node) {
	w := &f.Workflow
	*w = catalog.Workflow{
		Status: defaultStatus, InputSchema: null(), Outputs: null(), TimeoutMs: defaultTimeoutMs,
		Priority: defaultPriority, Tags: []string{}, Steps: []catalog.Step{},
	}
	var steps *yaml.Node
	d.Read("", root, yamldoc.Fields{
		"name": &w.Name, "description": &w.Description, "status": &w.Status, "inputSchema": &w.InputSchema, "outputs": &w.Outputs,
		"timeoutMs": &w.TimeoutMs, "concurrency": func(path string, n *yaml.Node) { w.Concurrency = readConcurrency(d, path, n) }, "priority": &w.Priority, "strictTemplates": &w.StrictTemplates,
		"tags": &w.Tags, "isPublic": &w.IsPublic,
		"agents": func(path string, n *yaml.Node) { f.readAgents(d, path, n) },
		"steps":  func(_ string, n *yaml.Node) { steps = n },
	})
	if w.Name == "" && d.Lines["name"] == 0 {
		d.Fault(root, "name", "is missing; give the workflow a name")
	}
	if steps == nil {
		d.Fault(root, "steps", "is missing; give the steps of the workflow")
		return
	}
	d.List("steps", steps, func(at string, item *yaml.Node) { f.readStep(d, at, item) })
}

// readConcurrency gives the limit of executions at a time; nil for null.
func readConcurrency(d *yamldoc.Document, path string, n *yaml.Node) *catalog.Concurrency {
	if yamldoc.Resolve(n).ShortTag() == "!!null" {
		return nil
	}
	c := &catalog.Concurrency{OnLimit: catalog.OnLimitQueue}
	d.Read(path, n, yamldoc.Fields{"max": &c.Max, "key": &c.Key, "onLimit": &c.OnLimit})
	return c
}

func (f *File) readAgents(d *yamldoc.Document, path string, n *yaml.Node) {
	d.Each(path, n, func(name, at string, key, value *yaml.Node) {
		a := catalog.Agent{Name: name, Status: defaultStatus, Config: emptyObject(), InputSchema: null(), OutputSchema: null(), Tags: []string{}}
		d.Read(at, value, yamldoc.Fields{
			"type": &a.Type, "description": &a.Description, "status": &a.Status, "config": &a.Config,
			"inputSchema": &a.InputSchema, "outputSchema": &a.OutputSchema, "tags": &a.Tags, "isPublic": &a.IsPublic,
		})
		if a.Type == "" {
			d.Fault(key, at+".type", "is missing; give CODE, API or DATA")
		}
		f.Agents = append(f.Agents, a)
	})
}

func (f *File) readStep(d *yamldoc.Document, at string, n *yaml.Node) {
	s := catalog.Step{
		DependsOn: []string{}, Inputs: emptyObject(), Config: emptyObject(), OnError: catalog.OnErrorFail, RetryCount: defaultRetryCount,
		RetryDelayMs: defaultRetryDelay, TimeoutMs: defaultStepTimeout, TriggerRule: catalog.TriggerNoneFailed, Position: len(f.Workflow.Steps),
	}
	var agent, undoAgent string
	d.Read(at, n, yamldoc.Fields{
		"stepKey": &s.StepKey, "stepType": &s.StepType, "agent": &agent, "agentId": &s.AgentID, "dependsOn": &s.DependsOn,
		"inputs": &s.Inputs, "config": &s.Config, "onError": &s.OnError, "retryCount": &s.RetryCount, "retryDelayMs": &s.RetryDelayMs,
		"timeoutMs": &s.TimeoutMs, "triggerRule": &s.TriggerRule, "position": &s.Position,
		"compensate": func(path string, n *yaml.Node) { s.Compensate, undoAgent = f.readCompensate(d, path, n) },
	})
	switch {
	case agent != "" && s.AgentID != nil:
		d.Fault(n, at+".agent", "stands beside agentId; give one of them")
	case agent != "" && !f.has(agent):
		d.Fault(n, at+".agent", "unknown agent %s; add it under agents, or correct the name", form.Quote(agent))
	case agent != "":
		f.StepAgents[s.StepKey] = agent
	}
	if undoAgent != "" {
		f.UndoAgents[s.StepKey] = undoAgent
	}
	if s.StepType == catalog.StepWait && d.Lines[at+".timeoutMs"] == 0 {
		s.TimeoutMs = defaultWaitTimeout
	}
	if s.StepType == catalog.StepParallel {
		f.takeBranchAgents(d, at, n, &s)
	}
	if s.StepKey == "" {
		d.Fault(n, at+".stepKey", "is missing; give the step a key")
	}
	f.Workflow.Steps = append(f.Workflow.Steps, s)
}

// readCompensate reads what compensates a step, and the name of its agent if it has one.
func (f *File) readCompensate(d *yamldoc.Document, at string, n *yaml.Node) (*catalog.Compensate, string) {
	if n.Tag == "!!null" {
		return nil, ""
	}
	c := catalog.Compensate{Inputs: emptyObject(), RetryCount: defaultRetryCount, RetryDelayMs: defaultRetryDelay, TimeoutMs: defaultStepTimeout}
	var agent string
	d.Read(at, n, yamldoc.Fields{
		"agent": &agent, "agentId": &c.AgentID, "inputs": &c.Inputs, "retryCount": &c.RetryCount, "retryDelayMs": &c.RetryDelayMs, "timeoutMs": &c.TimeoutMs,
	})
	switch {
	case agent != "" && c.AgentID != "":
		d.Fault(n, at+".agent", "stands beside agentId; give one of them")
	case agent != "" && !f.has(agent):
		d.Fault(n, at+".agent", "unknown agent %s; add it under agents, or correct the name", form.Quote(agent))
	}
	return &c, agent
}

// takeBranchAgents takes the names of agents out of the config of a PARALLEL.
func (f *File) takeBranchAgents(d *yamldoc.Document, at string, n *yaml.Node, s *catalog.Step) {
	var config map[string]json.RawMessage
	var branches []map[string]json.RawMessage
	if json.Unmarshal(s.Config, &config) != nil || json.Unmarshal(config["branches"], &branches) != nil {
		return // the catalog tells what is wrong
	}
	for i, branch := range branches {
		var agent string
		if json.Unmarshal(branch["agent"], &agent) != nil {
			continue
		}
		if !f.has(agent) {
			d.Fault(n, form.At(at+".config.branches", i)+".agent", "unknown agent %s; add it under agents, or correct the name", form.Quote(agent))
			continue
		}
		delete(branch, "agent")
		if f.BranchAgents[s.StepKey] == nil {
			f.BranchAgents[s.StepKey] = map[int]string{}
		}
		f.BranchAgents[s.StepKey][i] = agent
	}
	config["branches"] = encode(branches)
	s.Config = encode(config)
}

// Steps gives the steps with the ids of the agents that the file names.
func (f *File) Steps(idOf map[string]string) []catalog.Step {
	steps := slices.Clone(f.Workflow.Steps)
	for i := range steps {
		s := &steps[i]
		if name, ok := f.StepAgents[s.StepKey]; ok {
			id := idOf[name]
			s.AgentID = &id
		}
		if name, ok := f.UndoAgents[s.StepKey]; ok {
			c := *s.Compensate
			c.AgentID = idOf[name]
			s.Compensate = &c
		}
		if named := f.BranchAgents[s.StepKey]; len(named) > 0 {
			var config map[string]json.RawMessage
			var branches []map[string]json.RawMessage
			_ = json.Unmarshal(s.Config, &config) // of takeBranchAgents
			_ = json.Unmarshal(config["branches"], &branches)
			for n, name := range named {
				branches[n]["agentId"] = encode(idOf[name])
			}
			config["branches"] = encode(branches)
			s.Config = encode(config)
		}
	}
	return steps
}

func encode(v any) json.RawMessage {
	raw, _ := json.Marshal(v) // of JSON that was decoded
	return raw
}

func (f *File) has(agent string) bool {
	for _, a := range f.Agents {
		if a.Name == agent {
			return true
		}
	}
	return false
}

// Locate turns what the API found wrong with the workflow, or with the agent at a path of the
// file like "agents.Greeter", into faults of the file.
func (f *File) Locate(path string, details []errs.Detail) yamldoc.Faults {
	faults := make(yamldoc.Faults, len(details))
	for i, detail := range details {
		at := detail.Field
		if path != "" {
			at = strings.TrimSuffix(path+"."+detail.Field, ".")
		}
		faults[i] = yamldoc.Fault{File: f.name, Line: f.document.Line(at), Path: at, Message: detail.Message}
	}
	return faults
}

// AgentPath is where an agent stands in the file.
func AgentPath(name string) string { return form.Join("agents", name) }

func null() json.RawMessage        { return json.RawMessage("null") }
func emptyObject() json.RawMessage { return json.RawMessage("{}") }
