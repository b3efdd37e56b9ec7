package workflow

import (
	"encoding/json"
	"strings"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/form"
)

// readLoop reads a catalog.LoopConfig.
func readLoop(o form.Object, faults *form.Faults) (n names) {
	checkFields(o, faults, "forEach", "while", "concurrency", "maxIterations", "maxFailures", "maxFailurePercent")
	most, ok := wholeNumber(o, "maxIterations", 1, catalog.MaxIterations, faults)
	switch {
	case !o.Has("maxIterations"):
		most = catalog.DefaultIterations
	case !ok:
		most = catalog.MaxIterations
	}
	n.forEach(o, int(most), faults)
	n.expression(o, "while", true)
	switch {
	case o.Has("forEach") && o.Has("while"):
		faults.Add(o.Field("while"), errs.NotApplicable, "can not stand beside forEach; remove one of them")
	case !o.Has("forEach") && !o.Has("while"):
		faults.Add(o.Field("forEach"), errs.Required, `is required; name an array like "{{inputs.list}}", or give while`)
	}
	onlyWhile := o.Has("while") && !o.Has("forEach")
	if concurrency, ok := wholeNumber(o, "concurrency", 1, catalog.MaxLoopConcurrency, faults); ok && concurrency > 1 && onlyWhile {
		faults.Add(o.Field("concurrency"), errs.NotApplicable, "is %d, but a while loop runs one time after the other; remove it", concurrency)
	}
	wholeNumber(o, "maxFailures", 0, catalog.MaxIterations, faults)
	readPercent(o, faults)
	if o.Has("maxFailurePercent") && onlyWhile {
		faults.Add(o.Field("maxFailurePercent"), errs.NotApplicable, "is a share of the items of forEach, which a while loop does not have; give maxFailures")
	}
	return n
}

// forEach reads an array of at most so many items, a template that is one, or an expression.
func (n *names) forEach(o form.Object, most int, faults *form.Faults) {
	const name = "forEach"
	at, raw := o.Field(name), rawField(o, name)
	var items []json.RawMessage
	var text string
	switch {
	case raw == nil:
	case json.Unmarshal(raw, &items) == nil:
		if len(items) > most {
			faults.Add(at, errs.OutOfRange, "has %d items, more than maxIterations of %d; raise it, or give fewer items", len(items), most)
		}
		n.templates = append(n.templates, templated{at: at, raw: raw})
	case json.Unmarshal(raw, &text) != nil:
		faults.Add(at, errs.BadType, "is neither an array nor a string; give an array, a template like {{inputs.list}} or an expression")
	case strings.Contains(text, "{{"):
		if !isOneTemplate(raw) {
			faults.Add(at, errs.BadValue, "is a text, not an array; write one template and nothing else, or an expression")
		}
		n.templates = append(n.templates, templated{at: at, raw: raw})
	default:
		n.expression(o, name, false)
	}
}

func readPercent(o form.Object, faults *form.Faults) {
	const name = "maxFailurePercent"
	raw := rawField(o, name)
	if raw == nil {
		return
	}
	var percent float64
	switch err := json.Unmarshal(raw, &percent); {
	case raw[0] != '-' && (raw[0] < '0' || raw[0] > '9'):
		faults.Add(o.Field(name), errs.BadType, "is no number; give one from 0 to 100")
	case err != nil || percent < 0 || percent > 100:
		faults.Add(o.Field(name), errs.OutOfRange, "is %.80s; give a number from 0 to 100", raw)
	}
}
