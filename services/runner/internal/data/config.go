package data

import (
	"encoding/json"
	"strconv"
	"strings"

	"turbocat.io/contracts/errs"
	"turbocat.io/services/runner/internal/form"
)

// plan is a config that can be run.
type plan struct {
	steps     []step
	scalar    bool // the last operation gives one object
	timeoutMs int64
}

// step is one operation and its name in errors.
type step struct {
	where string
	operation
}

// operation makes rows of rows. It changes none of those it is given.
type operation interface {
	apply(w *work, rows []string) ([]string, error)
}

var operations = []string{"filter", "map", "sort", "group", "aggregate", "pick", "join"}

const maxTimeoutMs = 24 * 60 * 60 * 1000

// Validate gives every fault of a DATA config; nil when it can be run.
func Validate(config json.RawMessage) []errs.Detail {
	_, faults := parse(config)
	return faults.Details()
}

func parse(config json.RawMessage) (plan, *form.Faults) {
	var p plan
	var faults form.Faults
	o, ok := form.Read(config, &faults)
	if !ok {
		return p, &faults
	}
	p.timeoutMs = o.Int("timeoutMs", 1, maxTimeoutMs, 0)
	single, many := o.Has("operation"), o.Has("pipeline")
	switch {
	case single && many:
		faults.Add("operation", "conflict", "stands beside pipeline; give one of them")
	case single:
		p.add("", o, &faults)
	case many:
		list, _ := o.List("pipeline")
		for i, v := range list {
			if i > 0 && p.scalar {
				faults.Add(v.Path, "order", "aggregate gives one object, not rows; make it the last operation, or use group with aggregations")
			}
			p.scalar = false
			if o, ok := v.Object(&faults); ok {
				p.add("pipeline["+strconv.Itoa(i)+"] ", o, &faults)
			}
		}
		o.Done()
	default:
		faults.Add("operation", "required", "is missing; give operation (%s) or a pipeline of them", strings.Join(operations, ", "))
	}
	return p, &faults
}

// add reads one operation.
func (p *plan) add(where string, o *form.Object, faults *form.Faults) {
	name := o.Required("operation", "it must be one of "+strings.Join(operations, ", "))
	var op operation
	switch name {
	case "filter":
		op = parseFilter(o, faults)
	case "map":
		op = parseMapping(o, faults)
	case "sort":
		op = parseSorting(o, faults)
	case "group":
		op = parseGrouping(o, faults)
	case "aggregate":
		op = parseAggregate(o, faults)
		p.scalar = true
	case "pick":
		op = parsePicking(o, faults)
	case "join":
		op = parseJoining(o, faults)
	case "":
		return
	default:
		faults.Add(o.At("operation"), "enum", "is %q; it must be one of %s", name, strings.Join(operations, ", "))
		return
	}
	o.Done()
	p.steps = append(p.steps, step{where: where + name, operation: op})
}

// parseField reads a field of o that names a field of the rows.
func parseField(o *form.Object, name string, faults *form.Faults) path {
	if text := o.Required(name, `name a field of the rows, like "user.name", or "." for the row itself`); text != "" {
		return parsePath(text, o.At(name), faults)
	}
	return path{}
}

// parseFields reads an array of different fields of the rows.
func parseFields(list []form.Value, at string, faults *form.Faults) []path {
	if len(list) == 0 {
		faults.Add(at, "required", "must name at least one field")
	}
	seen := map[string]bool{}
	var paths []path
	for _, v := range list {
		text, ok := v.Text(faults)
		switch {
		case !ok:
		case seen[text]:
			faults.Add(v.Path, "duplicate", "names %q again; remove it", text)
		default:
			seen[text] = true
			paths = append(paths, parsePath(text, v.Path, faults))
		}
	}
	return paths
}
