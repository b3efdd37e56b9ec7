package workflow

import (
	"slices"
	"strings"

	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/form"
)

// graph is the steps of a draft and the dependencies between those that exist.
type graph struct {
	index  map[string]int // of a step by its key
	deps   [][]int
	direct []set // the same
}

// checkGraph notes unknown and self dependencies, cycles, branches of CONDITIONs that do not
// depend on them, and templates and expressions that name what is not there.
func (d *Draft) checkGraph() {
	g := graph{index: map[string]int{}, deps: make([][]int, len(d.steps)), direct: newSets(len(d.steps))}
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
				g.direct[i].add(dep)
			}
		}
	}
	order := d.checkCycles(g)
	d.checkBranches(g)
	d.checkNames(g, g.ancestors(order))
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
func (s set) add(i int)      { s[i/64] |= 1 << (i % 64) }

// newSets makes n empty sets of n steps.
func newSets(n int) []set {
	sets := make([]set, n)
	for i := range sets {
		sets[i] = make(set, n/64+1)
	}
	return sets
}

// ancestors gives for each step the set of steps that it depends on, directly or not.
func (g graph) ancestors(order []int) []set {
	sets := newSets(len(order))
	// One pass is enough where dependencies come first in order; cycles need more.
	for changed := true; changed; {
		changed = false
		for _, i := range order {
			for _, dep := range g.deps[i] {
				for w := range sets[i] {
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
