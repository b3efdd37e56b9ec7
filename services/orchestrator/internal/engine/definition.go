package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/template"
)

// Definition is a compiled catalog.Definition. It is immutable and shared by the
// executions that run it.
type Definition struct {
	WorkflowID      string
	WorkflowVersion int
	TimeoutMs       int64
	Strict          bool
	Recording       *catalog.Recording // of a replay; nil for most
	Steps           []StepDefinition
	source          catalog.Definition
	outputs         *template.Template // nil: every completed step's output by key
	byKey           map[string]int
}

// StepDefinition is one step of a Definition.
type StepDefinition struct {
	Key          string
	Type         string
	OnError      string
	RetryCount   int
	RetryDelayMs int64
	TimeoutMs    int64
	Rule         string
	DependsOn    []int // indexes, ascending in the order given
	Dependents   []int // indexes, ascending
	NamedBy      []int // the CONDITIONs that name it in a branch: indexes, ascending

	work      Work // of an AGENT, and for each item of a LOOP
	condition *condition
	loop      *loop
	parallel  *parallel
	wait      *wait
	undo      *undo           // nil: it can not be undone
	reads     []template.Path // what the engine itself looks at to decide about it
}

// Work is what an agent is to do.
type Work struct {
	AgentID      string
	AgentType    string
	Pool         string                  // of the runners that it is for
	Config       json.RawMessage         // of the agent, without the pool
	InputSchema  json.RawMessage         // of the agent; nil for none
	OutputSchema json.RawMessage         // of the agent; nil for none
	Child        *catalog.WorkflowConfig // of a WORKFLOW agent; nil for those that runners run
	Recorded     bool                    // in a replay: nobody does it, its result is the one that is recorded
	Secrets      []string                // what the config and the inputs name of the user's, sorted; nil for most
	owners       []secretOwner           // whose those must be
	inputs       *template.Template
}

// Work gives what the agent of an iteration of the step is to do; see Place. The zero Work for a step without agents.
func (d *StepDefinition) Work(iteration int) *Work {
	if d.parallel != nil && iteration > 0 {
		return &d.parallel.branches[iteration-1].work
	}
	return &d.work
}

// Works tells whether the step itself has attempts: of an agent, or in a replay of nobody.
func (d *StepDefinition) Works() bool { return d.work.inputs != nil && d.loop == nil }

// Elsewhere tells whether no runner does the work: another execution does, or one has done it.
func (w *Work) Elsewhere() bool { return w.Child != nil || w.Recorded }

// FansOut tells whether the step has items, each with a row of its own.
func (d *StepDefinition) FansOut() bool { return d.loop != nil || d.parallel != nil }

// Remembers tells whether an item of the step sees the output of the one before, as in a while loop.
func (d *StepDefinition) Remembers() bool { return d.loop != nil && d.loop.while != nil }

// FansOut tells whether one of the steps has items.
func (d *Definition) FansOut() bool {
	return slices.ContainsFunc(d.Steps, func(s StepDefinition) bool { return s.FansOut() })
}

// Compile prepares a definition. The catalog has validated it, so an error is a bug or a
// definition of a newer version.
func Compile(d catalog.Definition) (*Definition, error) {
	out := &Definition{
		WorkflowID: d.WorkflowID, WorkflowVersion: d.WorkflowVersion, TimeoutMs: d.TimeoutMs, Strict: d.StrictTemplates, Recording: d.Recording, source: d,
		Steps: make([]StepDefinition, len(d.Steps)), byKey: make(map[string]int, len(d.Steps)),
	}
	known := agents{owner: d.WorkflowOwner, byID: make(map[string]catalog.DefinitionAgent, len(d.Agents)), recording: d.Recording}
	for _, a := range d.Agents {
		known.byID[a.ID] = a
	}
	for i, s := range d.Steps {
		if _, twice := out.byKey[s.StepKey]; twice {
			return nil, fmt.Errorf("step %q stands twice in the definition", s.StepKey)
		}
		out.byKey[s.StepKey] = i
	}
	for i, s := range d.Steps {
		step, err := compileStep(s, known)
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
	for i := range out.Steps {
		if c := out.Steps[i].condition; c != nil {
			for _, key := range c.named() {
				named, ok := out.byKey[key]
				if !ok {
					return nil, fmt.Errorf("the condition %q names the step %q, which is not there", out.Steps[i].Key, key)
				}
				out.Steps[named].NamedBy = append(out.Steps[named].NamedBy, i)
			}
		}
	}
	if len(d.Outputs) > 0 && string(d.Outputs) != "null" {
		t, err := parseTemplate("outputs", d.Outputs)
		if err != nil {
			return nil, err
		}
		out.outputs = t
	}
	return out, nil
}

// agents are those of a workflow.
type agents struct {
	owner     string // of the workflow
	byID      map[string]catalog.DefinitionAgent
	recording *catalog.Recording // of a replay; nil for most
}

func compileStep(s catalog.Step, known agents) (d StepDefinition, err error) {
	d = StepDefinition{
		Key: s.StepKey, Type: s.StepType, OnError: s.OnError, RetryCount: s.RetryCount, RetryDelayMs: s.RetryDelayMs, TimeoutMs: s.TimeoutMs, Rule: s.TriggerRule,
	}
	if known.recording != nil && slices.Contains(known.recording.Steps, s.StepKey) {
		d.work = Work{Recorded: true, inputs: noInputs}
		return d, nil
	}
	switch s.StepType {
	case catalog.StepAgent:
		d.work, err = compileWork(s.AgentID, s.Inputs, known)
	case catalog.StepLoop:
		if d.loop, err = compileLoop(s.Config); err == nil {
			d.work, err = compileWork(s.AgentID, s.Inputs, known)
		}
	case catalog.StepParallel:
		d.parallel, err = compileParallel(s.Config, known)
	case catalog.StepCondition:
		d.condition, err = compileCondition(s.Config)
	case catalog.StepWait:
		d.wait, err = compileWait(s.StepKey, s.Config)
	default:
		err = fmt.Errorf("step type %s is unknown to this version", s.StepType)
	}
	if err == nil && s.Compensate != nil {
		d.undo, err = compileUndo(s, known)
		err = wrap("compensate", err)
	}
	if err == nil {
		d.reads = readsOf(&d)
	}
	return d, err
}

func compileWork(agentID *string, inputs json.RawMessage, known agents) (Work, error) {
	if agentID == nil {
		return Work{}, errors.New("it names no agent")
	}
	agent, ok := known.byID[*agentID]
	if !ok {
		return Work{}, fmt.Errorf("agent %s is not in the definition", *agentID)
	}
	if len(inputs) == 0 || string(inputs) == "null" {
		inputs = json.RawMessage("{}")
	}
	t, err := parseTemplate("inputs", inputs)
	work := Work{
		AgentID: agent.ID, AgentType: agent.Type, Pool: subject.DefaultPool, Config: agent.Config, InputSchema: agent.InputSchema, OutputSchema: agent.OutputSchema, inputs: t,
	}
	work.Recorded = known.recording != nil && slices.Contains(known.recording.Agents, agent.ID)
	if err == nil && agent.Type != catalog.AgentWorkflow {
		pool, rest, ok := catalog.SplitPool(agent.Config)
		if !ok {
			err = errors.New("what the agent's config requires are no labels of runners")
		}
		work.Pool, work.Config = pool, rest
	}
	if err == nil {
		err = work.lendSecrets(known.owner, agent)
	}
	if work.Recorded {
		work.owners = nil // nobody is told them
	} else if err == nil && agent.Type == catalog.AgentWorkflow {
		err = wrap("the agent's config", json.Unmarshal(agent.Config, &work.Child))
	}
	return work, err
}

// noInputs are those of a step that is recorded whole.
var noInputs, _ = template.Parse([]byte("null"))

func parseTemplate(what string, raw json.RawMessage) (*template.Template, error) {
	t, problems := template.Parse(raw)
	if len(problems) > 0 {
		return nil, fmt.Errorf("%s%s: %s", what, problems[0].Field, problems[0].Message)
	}
	return t, nil
}

// StepIndex gives the index of a step key.
func (d *Definition) StepIndex(key string) (int, bool) {
	i, ok := d.byKey[key]
	return i, ok
}
