package workflow

import (
	"encoding/json"
	"fmt"
	"strings"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/template"
)

// Define freezes a workflow with the current versions of its agents. CONFLICT, naming all that
// is in the way, unless the workflow has a step and it and each agent it names are ACTIVE.
func Define(w catalog.Workflow, agents map[string]catalog.Agent) (catalog.Definition, error) {
	d := catalog.Definition{
		WorkflowID: w.ID, WorkflowOwner: w.UserID, WorkflowVersion: w.Version, InputSchema: given(w.InputSchema), Outputs: given(w.Outputs),
		TimeoutMs: w.TimeoutMs, Concurrency: w.Concurrency, Priority: w.Priority, StrictTemplates: w.StrictTemplates, Steps: w.Steps, Agents: []catalog.DefinitionAgent{},
	}
	var obstacles []errs.Detail
	obstacle := func(field string, code errs.DetailCode, format string, args ...any) {
		obstacles = append(obstacles, errs.Detail{Field: field, Code: code, Message: fmt.Sprintf(format, args...)})
	}
	if w.Status != catalog.StatusActive {
		obstacle("status", errs.NotActive, "the workflow %s is %s; set its status to ACTIVE", form.Quote(w.Name), w.Status)
	}
	if len(w.Steps) == 0 {
		obstacle("steps", errs.NoSteps, "the workflow %s has no steps; add one", form.Quote(w.Name))
	}
	used := map[string]bool{}
	for i, s := range w.Steps {
		for _, use := range agentUses(s) {
			a, found := agents[use.agentID]
			if found && a.Type == catalog.AgentWorkflow { // it may have been another when the workflow was saved
				for _, field := range use.secretInputs() {
					obstacle(form.At("steps", i)+"."+field, errs.NotApplicable, noSecretsForWorkflows)
				}
			}
			if used[use.agentID] {
				continue
			}
			used[use.agentID] = true
			field := form.At("steps", i) + "." + use.field
			switch {
			case !found:
				obstacle(field, errs.UnknownAgent, "the agent %s of step %q is deleted or no longer shared; choose another", use.agentID, s.StepKey)
			case a.Status != catalog.StatusActive:
				obstacle(field, errs.NotActive, "the agent %s (%s) of step %q is %s; set its status to ACTIVE", form.Quote(a.Name), a.ID, s.StepKey, a.Status)
			default:
				d.Agents = append(d.Agents, catalog.DefinitionAgent{
					ID: a.ID, Owner: a.UserID, Type: a.Type, Version: a.Version, Config: a.Config, TimeoutMs: timeoutMs(a.Config),
					InputSchema: given(a.InputSchema), OutputSchema: given(a.OutputSchema),
				})
			}
		}
	}
	if len(obstacles) > 0 {
		return catalog.Definition{}, &errs.Error{Code: errs.Conflict, Message: summary(obstacles), Details: obstacles}
	}
	return d, nil
}

// agentUse is a place of a step that names an agent.
type agentUse struct {
	field   string // inside of the step
	agentID string
	inputs  json.RawMessage // for the agent
}

// secretInputs gives the places of the inputs, inside of the step, that name secrets.
func (u agentUse) secretInputs() (fields []string) {
	tpl, _ := template.Parse(u.inputs)
	if tpl == nil {
		return nil
	}
	for _, r := range tpl.References() {
		if r.Path.Root() == "secrets" {
			fields = append(fields, within(strings.TrimSuffix(u.field, "agentId")+"inputs", r.Field))
		}
	}
	return fields
}

const noSecretsForWorkflows = "the inputs of a WORKFLOW agent become those of an execution, which are shown; name the secret where the other workflow needs it"

// agentUses gives the places of a step that name an agent; of one that is not accepted those that do so rightly.
func agentUses(s catalog.Step) []agentUse {
	uses := workingAgents(s)
	if s.Compensate != nil && isAgentID(s.Compensate.AgentID) {
		uses = append(uses, agentUse{"compensate.agentId", s.Compensate.AgentID, s.Compensate.Inputs})
	}
	return uses
}

func workingAgents(s catalog.Step) []agentUse {
	switch s.StepType {
	case catalog.StepAgent, catalog.StepLoop:
		if s.AgentID != nil {
			return []agentUse{{"agentId", *s.AgentID, s.Inputs}}
		}
	case catalog.StepParallel:
		var c struct{ Branches []json.RawMessage }
		_ = json.Unmarshal(s.Config, &c) // what is wrong with a config is told where it is read
		var uses []agentUse
		for i, raw := range c.Branches {
			var b catalog.Branch
			if json.Unmarshal(raw, &b) == nil && isAgentID(b.AgentID) {
				uses = append(uses, agentUse{form.At("config.branches", i) + ".agentId", b.AgentID, b.Inputs})
			}
		}
		return uses
	}
	return nil
}

// summary names the first few obstacles in one line; the details hold them all.
func summary(obstacles []errs.Detail) string {
	var texts []string
	for i, o := range obstacles {
		if i == 3 {
			texts = append(texts, fmt.Sprintf("and %d more", len(obstacles)-i))
			break
		}
		texts = append(texts, o.Message)
	}
	return strings.Join(texts, "; ")
}

// given leaves out a JSON null.
func given(raw json.RawMessage) json.RawMessage {
	if string(raw) == "null" {
		return nil
	}
	return raw
}

// timeoutMs gives the timeoutMs of an agent's config, 0 when it has none.
func timeoutMs(config json.RawMessage) int64 {
	var c struct {
		TimeoutMs float64 `json:"timeoutMs"` // 3e4 is as good as 30000
	}
	if json.Unmarshal(config, &c) != nil {
		return 0
	}
	return int64(c.TimeoutMs)
}
