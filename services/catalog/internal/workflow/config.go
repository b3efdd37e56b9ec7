package workflow

import (
	"encoding/json"
	"strconv"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/template"
	"turbocat.io/services/catalog/internal/agent"
)

// readConfig notes the faults of a step's config, and gives what it names. A config that is
// accepted decodes into the type that package catalog has for it.
func (d *Draft) readConfig(s draftStep) names {
	if s.StepType == "" || s.StepType == catalog.StepAgent || s.Config == nil {
		return names{}
	}
	at := s.at + ".config"
	agent.CheckNames(at, s.Config, &d.faults)
	o, ok := form.Open(at, s.Config, &d.faults)
	if !ok {
		return names{}
	}
	switch s.StepType {
	case catalog.StepCondition:
		return readCondition(o, &d.faults)
	case catalog.StepLoop:
		return readLoop(o, &d.faults)
	case catalog.StepParallel:
		return readParallel(o, &d.faults)
	default:
		return readWait(o, &d.faults)
	}
}

// checkFields notes the fields of a part of a config that are unknown, or null where that is no value: those who run a
// config do not take null for absent.
func checkFields(o form.Object, faults *form.Faults, fields ...string) {
	o.Only(fields...)
	for _, name := range fields {
		if o.IsNull(name) && name != "default" {
			faults.Add(o.Field(name), errs.BadType, "is null; give a value or remove it")
		}
	}
}

// require notes a fault for each of fields that is absent.
func require(o form.Object, faults *form.Faults, fields ...string) {
	for _, name := range fields {
		if !o.Has(name) {
			faults.Add(o.Field(name), errs.Required, "is required; add it")
		}
	}
}

// wholeNumber reads a whole number of at least 0; ok is false when it is absent or at fault. It must be written in
// digits alone, because those who run the config read it as an integer.
func wholeNumber(o form.Object, name string, least, most int64, faults *form.Faults) (n int64, ok bool) {
	n = -1
	o.Int(name, &n, -1, least, most)
	if n < 0 {
		return 0, false
	}
	if _, err := strconv.ParseInt(string(rawField(o, name)), 10, 64); err != nil {
		faults.Add(o.Field(name), errs.BadValue, "is %.80s; write %d", rawField(o, name), n)
		return 0, false
	}
	return n, true
}

// rawField gives a field as it is written; nil when it is absent or null.
func rawField(o form.Object, name string) (raw json.RawMessage) {
	o.Any(name, &raw, nil)
	return raw
}

// isOneTemplate tells whether a JSON string is one template and nothing else, so that its value
// can be of any type. One that is malformed passes; that is told with what it names.
func isOneTemplate(raw json.RawMessage) bool {
	tpl, problems := template.Parse(raw)
	if len(problems) > 0 {
		return true
	}
	b, _ := tpl.Render(func(template.Path) (json.RawMessage, bool) { return null(), true })
	return string(b) == "null"
}
