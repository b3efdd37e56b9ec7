package enginetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/runner"
)

// Plan is a workflow with everything that its runners will ever answer.
type Plan struct {
	Steps     []Step
	Strict    bool
	Outputs   []Reference // nil: not given
	TimeoutMs int64
}

// Step is one step of a Plan, whose key is its index; see Plan.Key.
type Step struct {
	Deps      []int
	Rule      string
	OnError   string
	Retries   int
	DelayMs   int64
	TimeoutMs int64
	Inputs    []Reference
	Script    []Answer // of attempt 1, 2, ...
	Salt      int      // of the run that succeeds; another run has another output

	Type     string     // of the catalog; "" is AGENT
	Cases    []Case     // of a CONDITION; the last is the else
	Then     bool       // of a CONDITION: it has one expression, and no cases
	Loop     *Loop      // of a LOOP, whose Inputs are those of its items
	Branches []Branch   // of a PARALLEL
	Join     string     // of a PARALLEL: "" or what the catalog knows, or a number
	Items    [][]Answer // of a LOOP or PARALLEL, instead of Script: of iteration 1, 2, ...
	Salts    []int      // of the runs that succeed of these; none are 0
	Wait     *Wait      // of a WAIT
	Child    *Child     // of an AGENT that is a workflow; nil for one that a runner runs

	Undo   *Undo          // of an AGENT, LOOP or PARALLEL; nil for none
	Key    string         // instead of the one by its index
	Undoes bool           // it is one of a compensation; its input is Given, instead of by Inputs
	Given  map[string]any // nil: there is none, so that it fails
}

// Answer is how an attempt ends.
type Answer int

// The answers.
const (
	Succeeds Answer = iota
	FailsForNow
	FailsForGood
	StaysSilent // begins, and is never heard of again
	LosesRunner // none of those that take it answers

	ChildFails
	ChildRefused // it can not begin
	ChildRunsOut
	ChildStopped
	ChildTooDeep
)

// Retryable and Final are the errors of attempts that fail for now and for good.
var (
	Retryable = runner.StepError{Code: runner.CodeHTTPStatus, Message: "503", Retryable: true}
	Final     = runner.StepError{Code: runner.CodeError, Message: "boom", Type: "Error", Stack: "at handler"}
)

// Reference is one member of a step's inputs, or of the outputs.
type Reference struct {
	Step int
	Part Part
}

// Part says what of a step, or of the execution, a Reference names.
type Part int

// The parts.
const (
	WholeOutput Part = iota
	OutputValue
	OutputText
	MissingPath
	StepStatus
	ErrorCode
	ExecutionInput
	UnknownInput
	LoopItem  // only in the inputs of a LOOP
	LoopIndex // the like
)

// ids of what the plans' definitions name.
const (
	workflowID = "01890a5d-ac96-774b-bcce-b302099a8001"
	userID     = "01890a5d-ac96-774b-bcce-b302099a8002"
	agentID    = "01890a5d-ac96-774b-bcce-b302099a8003"
)

// Inputs are those of every execution of a Plan.
const Inputs = `{"n":20}`

// Key is the key of step i.
func (p Plan) Key(i int) string {
	if i < len(p.Steps) && p.Steps[i].Key != "" {
		return p.Steps[i].Key
	}
	return fmt.Sprintf("s%d", i)
}

func (r Reference) text(p Plan) string {
	key := p.Key(r.Step)
	switch r.Part {
	case WholeOutput:
		return "{{" + key + ".output}}"
	case OutputValue:
		return "{{" + key + ".output.v}}"
	case OutputText:
		return "v is {{ " + key + ".output.v }}."
	case MissingPath:
		return "{{" + key + ".output.w[2]}}"
	case StepStatus:
		return "{{" + key + ".status}}"
	case ErrorCode:
		return "{{" + key + ".error.code}}"
	case ExecutionInput:
		return "{{inputs.n}}"
	case LoopItem:
		return "{{item}}"
	case LoopIndex:
		return "{{index}}"
	default:
		return "{{inputs.m}}"
	}
}

func (p Plan) template(refs []Reference) json.RawMessage {
	members := map[string]string{}
	for n, r := range refs {
		members[fmt.Sprintf("f%d", n)] = r.text(p)
	}
	return encoded(members)
}

// Definition is the plan as the catalog would give it.
func (p Plan) Definition() catalog.Definition {
	d := catalog.Definition{
		WorkflowID: workflowID, WorkflowOwner: userID, WorkflowVersion: 3, TimeoutMs: p.TimeoutMs, StrictTemplates: p.Strict,
		Steps:  make([]catalog.Step, len(p.Steps)),
		Agents: []catalog.DefinitionAgent{{ID: agentID, Type: catalog.AgentCode, Version: 1, Config: json.RawMessage(`{"runtime":"javascript"}`)}},
	}
	for i, s := range p.Steps {
		d.Steps[i] = catalog.Step{
			StepKey: p.Key(i), StepType: catalog.StepAgent, TriggerRule: s.Rule,
			OnError: s.OnError, RetryCount: s.Retries, RetryDelayMs: s.DelayMs, TimeoutMs: s.TimeoutMs, Compensate: s.Undo.compensate(p),
		}
		p.fill(i, &d.Steps[i])
		for _, dep := range s.Deps {
			d.Steps[i].DependsOn = append(d.Steps[i].DependsOn, p.Key(dep))
		}
	}
	for _, s := range p.Steps {
		if s.Child != nil {
			if a := s.Child.agent(); !slices.ContainsFunc(d.Agents, func(b catalog.DefinitionAgent) bool { return a.ID == b.ID }) {
				d.Agents = append(d.Agents, a)
			}
		}
	}
	if p.Outputs != nil {
		d.Outputs = p.template(p.Outputs)
	}
	return d
}

// String shows a plan the way one reads it after a failed check.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "strict %v, outputs %s, timeoutMs %d\n", p.Strict, p.template(p.Outputs), p.TimeoutMs)
	d := p.Definition()
	for i, s := range p.Steps {
		fmt.Fprintf(&b, "  %s %s after %v %s, %s x%d, timeoutMs %d, config %s, inputs %s, answers %v %v\n", p.Key(i), d.Steps[i].StepType, s.Deps, s.Rule, s.OnError, s.Retries,
			s.TimeoutMs, d.Steps[i].Config, p.template(s.Inputs), s.Script, s.Items)
		if s.Child != nil {
			fmt.Fprintf(&b, "    runs workflow %s, detached %t\n", s.Child.Workflow, s.Child.Detached)
		}
		if s.Undo != nil {
			fmt.Fprintf(&b, "    undone x%d, inputs %s, answers %v\n", s.Undo.Retries, p.template(s.Undo.Inputs), s.Undo.Script)
		}
	}
	return b.String()
}
