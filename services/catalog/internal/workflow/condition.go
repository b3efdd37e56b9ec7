package workflow

import (
	"encoding/json"

	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/form"
)

// maxCases is how many cases a CONDITION may have, which bounds the time that it takes to choose one.
const maxCases = 100

// readCondition reads a catalog.ConditionConfig.
func readCondition(o form.Object, faults *form.Faults) (n names) {
	checkFields(o, faults, "expression", "then", "cases", "else")
	switch {
	case o.Has("cases"):
		for _, name := range []string{"expression", "then"} {
			if o.Has(name) {
				faults.Add(o.Field(name), errs.NotApplicable, "can not stand beside cases; make it one of them, or remove cases")
			}
		}
	case !o.Has("expression"):
		faults.Add(o.Field("expression"), errs.Required, "is required; write one like inputs.n > 1, or give cases")
	}
	n.branch(o, "expression", "then", faults)
	cases, given := o.List("cases", "cases")
	if given && (len(cases) == 0 || len(cases) > maxCases) {
		faults.Add(o.Field("cases"), errs.OutOfRange, "has %d cases; give 1 to %d", len(cases), maxCases)
		cases = nil
	}
	for i, raw := range cases {
		one, ok := form.Open(form.At(o.Field("cases"), i), raw, faults)
		if !ok {
			continue
		}
		checkFields(one, faults, "when", "then")
		require(one, faults, "when")
		n.branch(one, "when", "then", faults)
	}
	n.steps(o, "else", faults)
	return n
}

// branch reads an expression, and the steps that run when it holds.
func (n *names) branch(o form.Object, when, then string, faults *form.Faults) {
	n.expression(o, when, false)
	n.steps(o, then, faults)
}

// steps reads the steps of a branch.
func (n *names) steps(o form.Object, name string, faults *form.Faults) {
	list, _ := o.List(name, "step keys")
	field := o.Field(name)
	if len(list) > MaxSteps {
		faults.Add(field, errs.OutOfRange, "has %d entries; give at most %d", len(list), MaxSteps)
		return
	}
	seen := map[string]bool{}
	for i, raw := range list {
		at := form.At(field, i)
		var key *string
		switch {
		case json.Unmarshal(raw, &key) != nil || key == nil:
			faults.Add(at, errs.BadType, "is no string; give the key of a step")
		case seen[*key]:
			faults.Add(at, errs.DuplicateKey, "step %s stands twice; remove one", form.Quote(*key))
		default:
			seen[*key] = true
			n.branches = append(n.branches, branchStep{at, *key})
		}
	}
}
