package workflow

import (
	"encoding/json"
	"regexp"
	"strings"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/form"
)

// maxWaitMs is the longest durationMs: 100 years.
const maxWaitMs = 100 * 365 * 24 * 3600 * 1000

// maxUntil is how many characters until may have, which may hold templates.
const maxUntil = 1000

var signalPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,99}$`)

// readWait reads a catalog.WaitConfig.
func readWait(o form.Object, faults *form.Faults) (n names) {
	checkFields(o, faults, "durationMs", "until", "signal", "approval", "timeoutMs", "default")
	n.duration(o, faults)
	n.until(o, faults)
	var signal string
	o.String("signal", &signal, "", 1, 100)
	if signal != "" && !signalPattern.MatchString(signal) {
		faults.Add(o.Field("signal"), errs.BadValue, "%s is no name of a signal; use letters, digits, _, - and ., and begin with a letter or _", form.Quote(signal))
	}
	var approval bool
	o.Bool("approval", &approval, false)

	waits := ""
	for _, name := range []string{"durationMs", "until", "signal", "approval"} {
		switch {
		case !o.Has(name) || string(rawField(o, name)) == "false":
		case waits == "":
			waits = name
		case waits != "signal" || name != "approval":
			faults.Add(o.Field(name), errs.NotApplicable, "can not stand beside %s, for a WAIT waits for one thing; remove one of them", waits)
		}
	}
	wholeNumber(o, "timeoutMs", 1, maxStepTimeout, faults)
	switch waits {
	case "":
		faults.Add(o.Path, errs.Required, "names nothing to wait for; give durationMs, until, signal, or approval: true")
	case "signal", "approval":
		if o.Has("default") && !o.Has("timeoutMs") {
			faults.Add(o.Field("timeoutMs"), errs.Required, "is required beside default; say after how long the default is taken")
		}
	default:
		for _, name := range []string{"timeoutMs", "default"} {
			if o.Has(name) {
				faults.Add(o.Field(name), errs.NotApplicable, "counts for a signal or an approval alone; remove it")
			}
		}
	}
	return n
}

// duration reads a number of milliseconds, or a template that gives one.
func (n *names) duration(o form.Object, faults *form.Faults) {
	const name = "durationMs"
	raw := rawField(o, name)
	if raw == nil || raw[0] != '"' {
		var ms int64
		o.Int(name, &ms, 0, 0, maxWaitMs)
		return
	}
	if !strings.Contains(o.Text(name), "{{") || !isOneTemplate(raw) {
		faults.Add(o.Field(name), errs.BadType, "is a text; give a number of milliseconds, or one template that gives it")
	}
	n.templates = append(n.templates, templated{at: o.Field(name), raw: raw})
}

// until reads a time, or templates that give one.
func (n *names) until(o form.Object, faults *form.Faults) {
	const name = "until"
	var text string
	if o.String(name, &text, "", 1, maxUntil); text == "" {
		return
	}
	if strings.Contains(text, "{{") {
		n.templates = append(n.templates, templated{at: o.Field(name), raw: rawField(o, name)})
		return
	}
	quoted, _ := json.Marshal(text) // a string always encodes
	if json.Unmarshal(quoted, &time.Time{}) != nil {
		faults.Add(o.Field(name), errs.BadValue, "%s is no time; write it like 2027-01-31T09:00:00Z", form.Quote(text))
	}
}
