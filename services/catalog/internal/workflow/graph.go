package workflow

import (
	"slices"
	"strings"

	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/template"
)

// graph is the steps of a draft and the dependencies between those that exist.
type graph struct {
	index map[string]int // of a step by its key
	deps  [][]int
}

// checkGraph notes unknown and self dependencies, cycles, and templates that are malformed or
// name what is not there.
func (d *Draft) checkGraph() {
	g := graph{index: map[string]int{}, deps: make([][]int, len(d.steps))}
	for i, s := range d.steps {
		if _, twice := g.index[s.StepKey]; !twice && s.StepKey != "" {
			g.index[s.StepKey] = i
		}
	}
	for i, s := range d.steps {
		for j, key := range s.DependsOn {
			at := form.At(s.at+".dependsOn", j)
			dep, known := g.index[key]
			switch {
			case key == s.StepKey:
				d.faults.Add(at, errs.SelfDependency, "step %s depends on itself; remove it", form.Quote(key))
			case !known:
				d.faults.Add(at, errs.UnknownStep, "unknown step %s; add it or remove it", form.Quote(key))
			case slices.Contains(s.DependsOn[:j], key):
				d.faults.Add(at, errs.DuplicateKey, "step %s stands twice; remove one", form.Quote(key))
			default:
				g.deps[i] = append(g.deps[i], dep)
			}
		}
	}
	order := d.checkCycles(g)
	d.checkTemplates(g, g.ancestors(order))
}

// checkCycles notes each cycle with its steps and gives the steps in an order in which, but
// for cycles, dependencies come first.
func (d *Draft) checkCycles(g graph) (order []int) {
	const fresh, open, done = 0, 1, 2
	state := make([]int, len(d.steps))
	reported := make([]bool, len(d.steps))
	var path []int
	var visit func(i int)
	visit = func(i int) {
		state[i] = open
		path = append(path, i)
		for _, dep := range g.deps[i] {
			switch state[dep] {
			case fresh:
				visit(dep)
			case open:
				d.noteCycle(path[slices.Index(path, dep):], reported)
			}
		}
		path = path[:len(path)-1]
		state[i] = done
		order = append(order, i)
	}
	for i := range d.steps {
		if state[i] == fresh {
			visit(i)
		}
	}
	return order
}

// noteCycle reports a cycle unless all its steps were named in others. Each step of path
// depends on the next and the last on the first; it is told in the order the steps would run.
func (d *Draft) noteCycle(path []int, reported []bool) {
	if !slices.ContainsFunc(path, func(i int) bool { return !reported[i] }) {
		return
	}
	keys := []string{d.steps[path[0]].StepKey}
	for _, i := range slices.Backward(path) {
		reported[i] = true
		keys = append(keys, d.steps[i].StepKey)
	}
	last := d.steps[path[len(path)-1]]
	at := form.At(last.at+".dependsOn", slices.Index(last.DependsOn, keys[0]))
	d.faults.Add(at, errs.Cycle, "the steps wait for each other: %s; remove one of these dependencies", cut(strings.Join(keys, " -> ")))
}

// cut keeps a message readable.
func cut(s string) string {
	const most = 1000
	if len(s) <= most {
		return s
	}
	return s[:most] + " ..."
}

// set is a set of steps, a bit each.
type set []uint64

func (s set) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

// ancestors gives for each step the set of steps that it depends on, directly or not.
func (g graph) ancestors(order []int) []set {
	words := len(order)/64 + 1
	sets := make([]set, len(order))
	for i := range sets {
		sets[i] = make(set, words)
	}
	// One pass is enough where dependencies come first in order; cycles need more.
	for changed := true; changed; {
		changed = false
		for _, i := range order {
			for _, dep := range g.deps[i] {
				for w := range words {
					bits := sets[i][w] | sets[dep][w]
					if w == dep/64 {
						bits |= 1 << (dep % 64)
					}
					changed = changed || bits != sets[i][w]
					sets[i][w] = bits
				}
			}
		}
	}
	return sets
}

func (d *Draft) checkTemplates(g graph, ancestors []set) {
	for i, s := range d.steps {
		d.checkReferences(s.at+".inputs", s.Inputs, g, func(dep int) bool { return ancestors[i].has(dep) })
	}
	d.checkReferences("outputs", d.workflow.Outputs, g, func(int) bool { return true })
}

// checkReferences notes the faults of the templates in raw, which may name the steps before it.
func (d *Draft) checkReferences(at string, raw []byte, g graph, before func(step int) bool) {
	tpl, problems := template.Parse(raw)
	for _, p := range problems {
		d.faults.Add(within(at, p.Field), errs.BadTemplate, "%s", p.Message)
	}
	if tpl == nil {
		return
	}
	for _, r := range tpl.References() {
		field := within(at, r.Field)
		root := r.Path.Root()
		step, known := g.index[root]
		switch {
		case root == "inputs" || root == "metadata":
		case root == "secrets":
			d.faults.Add(field, errs.Unsupported, "secrets are not available yet; remove {{%s}}", r.Path)
		case root == "item" || root == "index":
			d.faults.Add(field, errs.BadTemplate, "{{%s}} has a value in LOOP steps only; remove it", r.Path)
		case !known:
			d.faults.Add(field, errs.UnknownStep, "{{%s}} names the unknown step %s; add it or correct the key", r.Path, form.Quote(root))
		case !before(step):
			d.faults.Add(field, errs.NotAnAncestor, "{{%s}} names a step that need not have run before; add %s to dependsOn", r.Path, form.Quote(root))
		case len(r.Path) < 2 || r.Path[1].Key != "output" && r.Path[1].Key != "error":
			d.faults.Add(field, errs.BadTemplate, "{{%s}} names nothing of the step; write {{%s.output}} or {{%s.error}}", r.Path, root, root)
		}
	}
}

func within(path, field string) string {
	if field == "" || field[0] == '[' {
		return path + field
	}
	return path + "." + field
}
