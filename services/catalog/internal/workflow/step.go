package workflow

import (
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/form"
)

const (
	defaultRetryCount   = 3
	defaultRetryDelayMs = 1000
	defaultStepTimeout  = 300_000

	maxRetryCount   = 20
	maxRetryDelayMs = 3_600_000
	maxStepTimeout  = 86_400_000
	maxPosition     = 1_000_000
)

var (
	stepTypes    = []string{catalog.StepAgent, catalog.StepCondition, catalog.StepLoop, catalog.StepParallel, catalog.StepWait}
	onErrors     = []string{catalog.OnErrorFail, catalog.OnErrorContinue, catalog.OnErrorRetry}
	triggerRules = []string{catalog.TriggerNoneFailed, catalog.TriggerAllSuccess, catalog.TriggerOneSuccess, catalog.TriggerAllDone}

	stepFields = []string{
		"stepKey", "stepType", "agentId", "dependsOn", "inputs", "config", "onError", "retryCount", "retryDelayMs", "timeoutMs", "triggerRule", "position",
	}

	stepKeyPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

	// reservedKeys mean something else in a template or an expression.
	reservedKeys = []string{
		"inputs", "metadata", "secrets", "item", "index",
		"true", "false", "nil", "not", "and", "or", "in", "matches", "contains", "startsWith", "endsWith", "let", "if", "else",
	}
)

func newStep(position int) catalog.Step {
	return catalog.Step{
		DependsOn: []string{}, Inputs: emptyObject(), Config: emptyObject(), OnError: catalog.OnErrorFail,
		RetryCount: defaultRetryCount, RetryDelayMs: defaultRetryDelayMs, TimeoutMs: defaultStepTimeout,
		TriggerRule: catalog.TriggerNoneFailed, Position: position,
	}
}

// readStep reads one step's fields into s; a step without a type is new.
func (d *Draft) readStep(o form.Object, s *catalog.Step, position int) {
	o.Require(s.StepType == "", "stepKey", "stepType")
	d.checkKey(o)
	o.Enum("stepType", &s.StepType, s.StepType, stepTypes...)
	switch {
	case s.StepType == catalog.StepAgent:
		d.readAgentID(o, s)
	case s.StepType != "":
		d.faults.Add(o.Field("stepType"), errs.Unsupported, "%s steps are not available yet; use AGENT", s.StepType)
	}
	o.Strings("dependsOn", &s.DependsOn, MaxSteps, 1, 200)
	o.Object("inputs", &s.Inputs, emptyObject())
	o.Object("config", &s.Config, emptyObject())
	o.Enum("onError", &s.OnError, catalog.OnErrorFail, onErrors...)
	o.Enum("triggerRule", &s.TriggerRule, catalog.TriggerNoneFailed, triggerRules...)
	o.Int("retryDelayMs", &s.RetryDelayMs, defaultRetryDelayMs, 0, maxRetryDelayMs)
	o.Int("timeoutMs", &s.TimeoutMs, defaultStepTimeout, 1, maxStepTimeout)
	retries, place := int64(s.RetryCount), int64(s.Position)
	o.Int("retryCount", &retries, defaultRetryCount, 0, maxRetryCount)
	o.Int("position", &place, int64(position), 0, maxPosition)
	s.RetryCount, s.Position = int(retries), int(place)
	if d.current != nil {
		o.Only(append(slices.Clone(stepFields), "_delete")...)
	} else {
		o.Only(stepFields...)
	}
}

func (d *Draft) checkKey(o form.Object) {
	var key string
	o.String("stepKey", &key, "", 1, 64)
	switch {
	case key == "":
	case !stepKeyPattern.MatchString(key):
		d.faults.Add(o.Field("stepKey"), errs.BadKey, "%s is no step key; use letters, digits and _, and begin with a letter or _", form.Quote(key))
	case slices.Contains(reservedKeys, key):
		d.faults.Add(o.Field("stepKey"), errs.ReservedKey, "%s is a reserved word; choose another key", form.Quote(key))
	}
}

func (d *Draft) readAgentID(o form.Object, s *catalog.Step) {
	id := ""
	if s.AgentID != nil {
		id = *s.AgentID
	}
	before := id
	o.String("agentId", &id, "", 1, 200)
	s.AgentID = nil
	switch {
	case id != "" && !canonicalUUID(id) && id != before:
		d.faults.Add(o.Field("agentId"), errs.BadValue, "%s is no UUID; give the id of an agent", form.Quote(id))
	case id != "":
		id = strings.ToLower(id)
		s.AgentID = &id
	case !o.Has("agentId") || o.IsNull("agentId"):
		d.faults.Add(o.Field("agentId"), errs.Required, "is required for AGENT steps; give the id of an agent")
	}
}

func canonicalUUID(s string) bool {
	_, err := uuid.Parse(s)
	return err == nil && len(s) == 36
}
