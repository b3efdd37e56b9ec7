package workflow

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/expr"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/template"
	"turbocat.io/services/catalog/internal/agent"
)

// names is what the config of a step names of the rest of the workflow, with the places where it does.
type names struct {
	branches    []branchStep
	expressions []expression
	templates   []templated
}

// branchStep is a step in a branch of a CONDITION.
type branchStep struct{ at, key string }

type expression struct {
	at     string
	source string
	ofItem bool // item and index have values
}

type templated struct {
	at      string
	raw     json.RawMessage
	secrets bool // may stand there
}

// expression reads an expression.
func (n *names) expression(o form.Object, name string, ofItem bool) {
	var source string
	if o.String(name, &source, "", 1, expr.MaxLength); source != "" {
		n.expressions = append(n.expressions, expression{o.Field(name), source, ofItem})
	}
}

// checkBranches notes each step in a branch of a CONDITION that is not there, or does not depend on the CONDITION.
func (d *Draft) checkBranches(g graph) {
	for i, s := range d.steps {
		if first, ok := g.index[s.StepKey]; !ok || first != i {
			continue // its key is at fault, so nothing can depend on it
		}
		for _, b := range s.names.branches {
			step, known := g.index[b.key]
			switch {
			case b.key == s.StepKey:
				d.faults.Add(b.at, errs.SelfDependency, "step %s is the CONDITION itself; remove it", form.Quote(b.key))
			case !known:
				d.faults.Add(b.at, errs.UnknownStep, "unknown step %s; add it or remove it", form.Quote(b.key))
			case !g.direct[step].has(i):
				d.faults.Add(b.at, errs.NotADependent, "step %s does not depend on this CONDITION; add %s to the dependsOn of %s",
					form.Quote(b.key), form.Quote(s.StepKey), form.Quote(b.key))
			}
		}
	}
}

// maxExpressions is how many expressions a workflow may have, for to compile them takes time.
const maxExpressions = 2000

// checkNames notes the faults of all templates and expressions, and what they name that is not there.
func (d *Draft) checkNames(g graph, ancestors []set) {
	expressions := 0
	for i, s := range d.steps {
		before := func(dep int) bool { return ancestors[i].has(dep) }
		if s.StepType == "" || runsAgent(s.StepType) {
			d.checkTemplate(s.at+".inputs", s.Inputs, g, scope{before: before, item: s.StepType == catalog.StepLoop, secrets: true})
		}
		if s.Compensate != nil {
			orItself := func(dep int) bool { return dep == i || before(dep) }
			d.checkTemplate(s.at+".compensate.inputs", s.Compensate.Inputs, g, scope{before: orItself, secrets: true})
		}
		for _, t := range s.names.templates {
			d.checkTemplate(t.at, t.raw, g, scope{before: before, secrets: t.secrets})
		}
		for _, e := range s.names.expressions {
			if expressions++; expressions <= maxExpressions {
				d.checkExpression(e, g, scope{before: before, item: e.ofItem})
			}
		}
	}
	if expressions > maxExpressions {
		d.faults.Add("steps", errs.OutOfRange, "the workflow has %d expressions; keep at most %d", expressions, maxExpressions)
	}
	d.checkTemplate("outputs", d.workflow.Outputs, g, scope{before: func(int) bool { return true }})
}

// scope is what has a value in one place.
type scope struct {
	before  func(step int) bool // tells which steps have
	item    bool                // item and index have
	secrets bool                // secrets have
}

// checkExpression notes the fault of an expression, or those of what it names.
func (d *Draft) checkExpression(e expression, g graph, in scope) {
	compiled, err := expr.Compile(e.source)
	if err != nil {
		d.faults.Add(e.at, errs.BadExpression, "%s", err)
		return
	}
	for _, r := range compiled.References() {
		d.checkPath(e.at, r.Path, inExpression, g, in)
	}
}

// checkTemplate notes the faults of the templates in raw.
func (d *Draft) checkTemplate(at string, raw json.RawMessage, g graph, in scope) {
	tpl, problems := template.Parse(raw)
	for _, p := range problems {
		d.faults.Add(within(at, p.Field), errs.BadTemplate, "%s", p.Message)
	}
	if tpl == nil {
		return
	}
	for _, r := range tpl.References() {
		d.checkPath(within(at, r.Field), r.Path, inTemplate, g, in)
	}
}

// syntax is the way in which a path is written.
type syntax struct {
	bad      errs.DetailCode // what never has a value
	format   string
	ofStep   []string // what a step has
	itemOnly string   // where item and index have values
}

var (
	inTemplate   = syntax{errs.BadTemplate, "{{%s}}", []string{"output", "error"}, "the inputs of LOOP steps"}
	inExpression = syntax{errs.BadExpression, "%s", []string{"output", "error", "status"}, "the while of LOOP steps"}
)

// checkPath notes what is wrong with a path that is read in one place.
func (d *Draft) checkPath(field string, path template.Path, as syntax, g graph, in scope) {
	write := func(what string) string { return fmt.Sprintf(as.format, what) }
	root, name := path.Root(), write(path.String())
	step, known := g.index[root]
	switch {
	case root == "inputs" || root == "metadata":
	case root == "secrets" && in.secrets:
		if problem := agent.SecretProblem(path); problem != "" {
			d.faults.Add(field, as.bad, "%s", problem)
		}
	case root == "secrets":
		d.faults.Add(field, as.bad, "%s can not be read here; secrets are for the config of agents and the inputs of AGENT, LOOP and PARALLEL steps", name)
	case (root == "item" || root == "index") && !in.item:
		d.faults.Add(field, as.bad, "%s has a value in %s only; remove it", name, as.itemOnly)
	case root == "index" && len(path) > 1:
		d.faults.Add(field, as.bad, "%s names nothing of the index, which is a number; write %s", name, write(root))
	case root == "item" || root == "index":
	case !known && root == "null" && as.bad == errs.BadExpression:
		d.faults.Add(field, as.bad, "there is no null in expressions; write nil")
	case !known:
		d.faults.Add(field, errs.UnknownStep, "%s names the unknown step %s; add it or correct the key", name, form.Quote(root))
	case !in.before(step):
		d.faults.Add(field, errs.NotAnAncestor, "%s names a step that need not have run before; add %s to dependsOn", name, form.Quote(root))
	case len(path) < 2 || !slices.Contains(as.ofStep, path[1].Key):
		choices := make([]string, len(as.ofStep))
		for i, of := range as.ofStep {
			choices[i] = write(root + "." + of)
		}
		d.faults.Add(field, as.bad, "%s names nothing of the step; write %s", name, strings.Join(choices, " or "))
	}
}

func within(path, field string) string {
	if field == "" || field[0] == '[' {
		return path + field
	}
	return path + "." + field
}
