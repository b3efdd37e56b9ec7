package engine

import (
	"encoding/json"
	"fmt"
	"slices"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/template"
)

// No value of a secret comes here. What names one stays as it is written in whatever is shown, and in the body that a runner gets
// it is a hole. Secrets are those of the user whose execution it is, and only what belongs to that user may name them: otherwise
// whoever shares a workflow or an agent could read those of who runs it, and who runs it could have them sent elsewhere.

const secretsRoot = "secrets"

// secretsOf gives the names of the secrets in a template, sorted.
func secretsOf(t *template.Template) (names []string) {
	for _, p := range t.Paths() {
		if p.Root() == secretsRoot && len(p) > 1 {
			names = append(names, p[1].Key)
		}
	}
	return distinct(names)
}

// configSecrets gives the names of the secrets that an agent's config names, sorted.
func configSecrets(agentType string, config json.RawMessage) []string {
	switch agentType {
	case catalog.AgentAPI, catalog.AgentLLM:
		if t, _ := template.Parse(config); t != nil {
			return secretsOf(t)
		}
	case catalog.AgentCode:
		var c struct{ Secrets []string }
		if json.Unmarshal(config, &c) == nil {
			return distinct(c.Secrets)
		}
	}
	return nil // what is wrong with the config its runner tells
}

func distinct(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// lendSecrets notes the secrets that the inputs and the config name, and whose they must be.
func (w *Work) lendSecrets(workflowOwner string, agent catalog.DefinitionAgent) error {
	inInputs, inConfig := secretsOf(w.inputs), configSecrets(agent.Type, agent.Config)
	w.Secrets = distinct(append(slices.Clone(inInputs), inConfig...))
	if len(inInputs) > 0 {
		w.owners = append(w.owners, secretOwner{"workflow", workflowOwner})
	}
	if len(inConfig) > 0 {
		w.owners = append(w.owners, secretOwner{"agent", agent.Owner})
	}
	if len(inInputs) > 0 && agent.Type == catalog.AgentWorkflow {
		return fmt.Errorf("the inputs of a WORKFLOW agent name the secret %s", inInputs[0])
	}
	return nil
}

// secretOwner is what names a secret, and whom it belongs to.
type secretOwner struct{ what, userID string }

// withheld tells why a task does not get the secrets that it needs; nil when it may.
func (x *Execution) withheld(w *Work) *runner.StepError {
	for _, owner := range w.owners {
		if owner.userID != x.UserID {
			return &runner.StepError{Code: runner.CodeForeignSecret, Message: fmt.Sprintf(
				"the %s names secrets and belongs to another user than the one who runs it; secrets are read in executions of their owner alone, so duplicate the %s and make the secrets your own", owner.what, owner.what)}
		}
	}
	return nil
}

// withoutSecrets gives the paths that are not of secrets.
func withoutSecrets(paths []template.Path) []template.Path {
	return slices.DeleteFunc(slices.Clone(paths), func(p template.Path) bool { return p.Root() == secretsRoot })
}

// inputAround gives the resolved inputs of a task with holes for its secrets.
func (x *Execution) inputAround(p Place) (json.RawMessage, []runner.SecretPoint, *runner.StepError) {
	b, holes, _, err := x.Definition.Steps[p.Step].Work(p.Iteration).inputs.RenderAround(runner.MaxInput, secretsRoot, x.lookupAt(p))
	if err != nil {
		return nil, nil, x.inputTooLarge(p)
	}
	points := make([]runner.SecretPoint, 0, len(holes))
	for _, hole := range holes {
		if len(hole.Path) > 1 {
			points = append(points, runner.SecretPoint{Name: hole.Path[1].Key, At: hole.At})
		}
	}
	return b, points, nil
}

// renamed gives the inputs of a step that undoes another, where these name secrets: a template over the compensation's inputs and
// secrets, and one of what it needs of the execution that is undone, in its order, each alone.
func renamed(stepKey string, inputs *template.Template) (of json.RawMessage, values *template.Template, err error) {
	var needed []string
	of = inputs.Rename(func(p template.Path) template.Path {
		if p.Root() == secretsRoot {
			return p
		}
		text := "{{" + p.String() + "}}"
		n := slices.Index(needed, text)
		if n < 0 {
			n, needed = len(needed), append(needed, text)
		}
		return template.Path{template.Key("inputs"), template.Key(stepKey), template.Index(n)}
	})
	list, err := json.Marshal(append([]string{}, needed...))
	if err != nil {
		return nil, nil, err
	}
	values, err = parseTemplate("inputs", list)
	return of, values, err
}
