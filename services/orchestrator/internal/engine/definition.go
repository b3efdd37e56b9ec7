package engine

import (
	"encoding/json"
	"fmt"

	"turbocat.io/contracts/catalog"
	"turbocat.io/pkg/template"
)

// Definition is a compiled catalog.Definition. It is immutable and shared by the
// executions that run it.
type Definition struct {
	WorkflowID      string
	WorkflowVersion int
	TimeoutMs       int64
	Strict          bool
	Steps           []StepDefinition
	outputs         *template.Template // nil: every completed step's output by key
	byKey           map[string]int
}

// StepDefinition is one step of a Definition.
type StepDefinition struct {
	Key          string
	Type         string
	AgentID      string
	AgentType    string
	Config       json.RawMessage // of the agent
	InputSchema  json.RawMessage // of the agent; nil for none
	OutputSchema json.RawMessage // of the agent; nil for none
	OnError      string
	RetryCount   int
	RetryDelayMs int64
	TimeoutMs    int64
	Rule         string
	DependsOn    []int // indexes, ascending in the order given
	Dependents   []int // indexes, ascending
	inputs       *template.Template
}

// Compile prepares a definition. The catalog has validated it, so an error is a bug or a
// definition of a newer version.
func Compile(d catalog.Definition) (*Definition, error) {
	out := &Definition{
		WorkflowID: d.WorkflowID, WorkflowVersion: d.WorkflowVersion, TimeoutMs: d.TimeoutMs, Strict: d.StrictTemplates,
		Steps: make([]StepDefinition, len(d.Steps)), byKey: make(map[string]int, len(d.Steps)),
	}
	agents := make(map[string]catalog.DefinitionAgent, len(d.Agents))
	for _, a := range d.Agents {
		agents[a.ID] = a
	}
	for i, s := range d.Steps {
		if _, twice := out.byKey[s.StepKey]; twice {
			return nil, fmt.Errorf("step %q stands twice in the definition", s.StepKey)
		}
		out.byKey[s.StepKey] = i
	}
	for i, s := range d.Steps {
		step, err := compileStep(s, agents)
		if err != nil {
			return nil, fmt.Errorf("step %q: %w", s.StepKey, err)
		}
		for _, key := range s.DependsOn {
			dep, ok := out.byKey[key]
			if !ok {
				return nil, fmt.Errorf("step %q depends on %q, which is not there", s.StepKey, key)
			}
			step.DependsOn = append(step.DependsOn, dep)
		}
		out.Steps[i] = step
	}
	for i, s := range out.Steps {
		for _, dep := range s.DependsOn {
			out.Steps[dep].Dependents = append(out.Steps[dep].Dependents, i)
		}
	}
	if len(d.Outputs) > 0 && string(d.Outputs) != "null" {
		t, problems := template.Parse(d.Outputs)
		if len(problems) > 0 {
			return nil, fmt.Errorf("outputs: %s", problems[0].Message)
		}
		out.outputs = t
	}
	return out, nil
}

func compileStep(s catalog.Step, agents map[string]catalog.DefinitionAgent) (StepDefinition, error) {
	if s.StepType != catalog.StepAgent || s.AgentID == nil {
		return StepDefinition{}, fmt.Errorf("step type %s is unknown to this version", s.StepType)
	}
	agent, ok := agents[*s.AgentID]
	if !ok {
		return StepDefinition{}, fmt.Errorf("agent %s is not in the definition", *s.AgentID)
	}
	inputs := s.Inputs
	if len(inputs) == 0 || string(inputs) == "null" {
		inputs = json.RawMessage("{}")
	}
	t, problems := template.Parse(inputs)
	if len(problems) > 0 {
		return StepDefinition{}, fmt.Errorf("inputs%s: %s", problems[0].Field, problems[0].Message)
	}
	return StepDefinition{
		Key: s.StepKey, Type: s.StepType, AgentID: agent.ID, AgentType: agent.Type, Config: agent.Config,
		InputSchema: agent.InputSchema, OutputSchema: agent.OutputSchema,
		OnError: s.OnError, RetryCount: s.RetryCount, RetryDelayMs: s.RetryDelayMs, TimeoutMs: s.TimeoutMs,
		Rule: s.TriggerRule, inputs: t,
	}, nil
}

// StepIndex gives the index of a step key.
func (d *Definition) StepIndex(key string) (int, bool) {
	i, ok := d.byKey[key]
	return i, ok
}
