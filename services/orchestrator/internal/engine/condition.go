package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/expr"
)

// condition is a compiled catalog.ConditionConfig: branches, of which the first is taken whose expression holds. The last
// one has no expression.
type condition struct{ branches []branch }

type branch struct {
	name  string // what the output of the step calls it
	when  *expr.Expression
	steps []string
}

func compileCondition(raw json.RawMessage) (*condition, error) {
	var c catalog.ConditionConfig
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	out := &condition{}
	add := func(name, source string, steps []string) error {
		when, err := expr.Compile(source)
		out.branches = append(out.branches, branch{name, when, steps})
		return err
	}
	if len(c.Cases) == 0 {
		if err := add("then", c.Expression, c.Then); err != nil {
			return nil, fmt.Errorf("config.expression: %w", err)
		}
	}
	for i, one := range c.Cases {
		if err := add("cases["+strconv.Itoa(i)+"]", one.When, one.Then); err != nil {
			return nil, fmt.Errorf("config.cases[%d].when: %w", i, err)
		}
	}
	out.branches = append(out.branches, branch{"else", nil, c.Else})
	return out, nil
}

// named gives the keys of all steps in branches, each once.
func (c *condition) named() []string {
	var keys []string
	for _, b := range c.branches {
		for _, key := range b.steps {
			if !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// branchOutput is the output of a CONDITION.
type branchOutput struct {
	Branch string `json:"branch"` // "then", "else" or "cases[i]"
}

// choose takes a branch of a CONDITION.
func (a *applier) choose(i int) {
	for _, b := range a.x.Definition.Steps[i].condition.branches {
		if b.when != nil {
			holds, err := b.when.Holds(a.x.lookup)
			if err != nil {
				a.fail(i, expressionError(b.name, err))
				return
			}
			if !holds {
				continue
			}
		}
		a.x.Steps[i].Output, _ = json.Marshal(branchOutput{b.name}) // a string always encodes
		a.settle(i, orchestrator.StepCompleted, orchestrator.EventStepCompleted)
		return
	}
}

// taken tells whether a CONDITION has taken a branch that names the step.
func (x *Execution) taken(i int, key string) bool {
	if x.Steps[i].Status != orchestrator.StepCompleted {
		return false
	}
	var output branchOutput
	if json.Unmarshal(x.Steps[i].Output, &output) != nil {
		return false
	}
	return slices.ContainsFunc(x.Definition.Steps[i].condition.branches, func(b branch) bool {
		return b.name == output.Branch && slices.Contains(b.steps, key)
	})
}

func expressionError(where string, err error) *runner.StepError {
	return &runner.StepError{Code: runner.CodeExpression, Message: "the expression of " + where + ": " + err.Error()}
}
