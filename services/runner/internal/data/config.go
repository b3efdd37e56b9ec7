package data

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"turbocat.io/contracts/catalog"
	"turbocat.io/pkg/rawjson"
	"turbocat.io/services/runner/internal/form"
)

// plan is a config that can be run, by many at once: nothing changes it.
type plan struct {
	steps     []step
	scalar    bool // the last operation gives one object
	timeoutMs int64
	in, out   format
}

// step is one operation and its name in errors.
type step struct {
	where string
	operation
}

// operation makes rows of rows. It changes neither those it is given nor itself.
type operation interface {
	apply(w *work, rows []string) ([]string, error)
}

const (
	maxTimeoutMs = 24 * 60 * 60 * 1000
	maxPipeline  = 100
)

var operations = []string{
	"filter", "map", "reduce", "sort", "group", "flatten", "unique", "pick", "omit", "merge", "join", "aggregate", "transform",
}

// parse reads a config that can be run, and every fault of one that can not.
func parse(config json.RawMessage) (plan, *form.Faults) {
	var p plan
	var faults form.Faults
	if len(config) > catalog.MaxDataConfig {
		faults.Add("", "the config has %d bytes; at most %d are allowed", len(config), catalog.MaxDataConfig)
		return p, &faults
	}
	o, ok := form.Read(config, &faults)
	if !ok {
		return p, &faults
	}
	if depth := rawjson.Depth(config); depth > catalog.MaxDataDepth {
		faults.Add("", "the config nests %d levels deep; at most %d are allowed", depth, catalog.MaxDataDepth)
		return p, &faults
	}
	p.timeoutMs = o.Int("timeoutMs", 1, maxTimeoutMs, 0)
	p.in, p.out = parseFormat(o, "input", &faults), parseFormat(o, "output", &faults)
	single, many := o.Has("operation"), o.Has("pipeline")
	switch {
	case many:
		if single {
			faults.Add("operation", "stands beside pipeline; give one of them")
		}
		list, _ := o.List("pipeline")
		if len(list) > maxPipeline {
			faults.Add("pipeline", "has %d operations; at most %d are allowed", len(list), maxPipeline)
			break
		}
		for i, v := range list {
			if o, ok := v.Object(&faults); ok {
				p.add("pipeline["+strconv.Itoa(i)+"] ", o, &faults)
			}
		}
		o.Done()
	case single:
		p.add("", o, &faults)
	default:
		faults.Add("operation", "is missing; give operation (%s) or a pipeline of them", strings.Join(operations, ", "))
	}
	return p, &faults
}

// add reads one operation.
func (p *plan) add(where string, o *form.Object, faults *form.Faults) {
	name := o.Required("operation", oneOf(operations))
	if name == "" {
		return
	}
	op := parseOperation(name, o, faults)
	if op == nil {
		faults.Add(o.At("operation"), "is %q; %s", name, oneOf(operations))
		return
	}
	o.Done()
	p.scalar = name == "aggregate" || name == "reduce"
	p.steps = append(p.steps, step{where: where + name, operation: op})
}

// parseOperation reads the operation of a name; nil when there is none.
func parseOperation(name string, o *form.Object, faults *form.Faults) operation {
	switch name {
	case "filter":
		return parseFilter(o, faults)
	case "map":
		return parseMapping(o, faults)
	case "reduce":
		return parseReduce(o, faults)
	case "sort":
		return parseSorting(o, faults)
	case "group":
		return parseGrouping(o, faults)
	case "flatten":
		return parseFlatten(o, faults)
	case "unique":
		return parseUnique(o, faults)
	case "pick":
		return parsePicking(o, faults, false)
	case "omit":
		return parsePicking(o, faults, true)
	case "merge":
		return parseMerge(o, faults)
	case "join":
		return parseJoining(o, faults)
	case "aggregate":
		return parseAggregate(o, faults)
	case "transform":
		return parseTransform(o, faults)
	default:
		return nil
	}
}

func oneOf(names []string) string { return "it must be one of " + strings.Join(names, ", ") }

// parseField reads a field of o that names a field of the rows.
func parseField(o *form.Object, name string, faults *form.Faults) path {
	if text := o.Required(name, `name a field of the rows, like "user.name", or "." for the row itself`); text != "" {
		return parsePath(text, o.At(name), faults)
	}
	return path{}
}

// parseFields reads an array of different fields of the rows.
func parseFields(list []form.Value, at string, parse func(text, at string, faults *form.Faults) path, faults *form.Faults) []path {
	if len(list) == 0 || len(list) > maxFields {
		faults.Add(at, "names %d fields; give 1 to %d", len(list), maxFields)
		return nil
	}
	seen := map[string]bool{}
	var paths []path
	for _, v := range list {
		text, ok := v.Text(faults)
		switch {
		case !ok:
		case seen[text]:
			faults.Add(v.Path, "names %q again; remove it", text)
		default:
			seen[text] = true
			paths = append(paths, parse(text, v.Path, faults))
		}
	}
	return paths
}

// maxFields bounds one list of fields.
const maxFields = 1000

// parseFieldOrFields reads the name of a field, or an array of different ones.
func parseFieldOrFields(o *form.Object, name string, faults *form.Faults) []path {
	switch v, _ := o.Raw(name); {
	case v.Type == gjson.String:
		return []path{parseField(o, name, faults)}
	case v.IsArray():
		list, _ := v.List(faults)
		return parseFields(list, v.Path, parsePath, faults)
	default:
		faults.Add(v.Path, "must be the name of a field or an array of them")
		return nil
	}
}
