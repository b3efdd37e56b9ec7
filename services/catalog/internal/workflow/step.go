package workflow

import (
	"bytes"
	"encoding/json"
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
		"compensate",
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
	isNew := s.StepType == ""
	o.Require(isNew, "stepKey", "stepType")
	d.checkKey(o)
	o.Enum("stepType", &s.StepType, s.StepType, stepTypes...)
	timeout := int64(defaultStepTimeout)
	if s.StepType == catalog.StepWait {
		timeout = maxStepTimeout // what is waited for takes its time
	}
	if isNew {
		s.TimeoutMs = timeout
	}
	d.readAgentID(o, s)
	o.Strings("dependsOn", &s.DependsOn, MaxSteps, 1, 200)
	o.Object("inputs", &s.Inputs, emptyObject())
	readConfigObject(o, s)
	o.Enum("onError", &s.OnError, catalog.OnErrorFail, onErrors...)
	o.Enum("triggerRule", &s.TriggerRule, catalog.TriggerNoneFailed, triggerRules...)
	o.Int("retryDelayMs", &s.RetryDelayMs, defaultRetryDelayMs, 0, maxRetryDelayMs)
	o.Int("timeoutMs", &s.TimeoutMs, timeout, 1, maxStepTimeout)
	retries, place := int64(s.RetryCount), int64(s.Position)
	o.Int("retryCount", &retries, defaultRetryCount, 0, maxRetryCount)
	o.Int("position", &place, int64(position), 0, maxPosition)
	s.RetryCount, s.Position = int(retries), int(place)
	d.readCompensate(o, s)
	d.checkMeaning(o, s)
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

// readConfigObject reads the config as the client wrote it, without white space; one that is no object leaves nil.
func readConfigObject(o form.Object, s *catalog.Step) {
	if !o.Has("config") {
		return
	}
	s.Config = nil
	o.Object("config", &s.Config, emptyObject())
	var b bytes.Buffer
	if s.Config != nil && json.Compact(&b, s.Config) == nil {
		s.Config = b.Bytes()
	}
}

// runsAgent tells whether the agentId and the inputs of a step of the type mean something.
func runsAgent(stepType string) bool {
	return stepType == catalog.StepAgent || stepType == catalog.StepLoop
}

// checkMeaning notes what is given and means nothing for a step of its type.
func (d *Draft) checkMeaning(o form.Object, s *catalog.Step) {
	if s.StepType == "" || runsAgent(s.StepType) {
		return
	}
	var inputs map[string]json.RawMessage
	if json.Unmarshal(s.Inputs, &inputs) == nil && len(inputs) > 0 {
		remedy := "remove them"
		switch s.StepType {
		case catalog.StepCondition:
			remedy = "remove them, an expression names what it reads"
		case catalog.StepParallel:
			remedy = "give each of its branches its own, in config.branches"
		}
		d.faults.Add(o.Field("inputs"), errs.NotApplicable, "a %s step has no inputs; %s", s.StepType, remedy)
	}
	if s.OnError == catalog.OnErrorRetry && s.StepType != catalog.StepParallel {
		d.faults.Add(o.Field("onError"), errs.NotApplicable, "a %s step would fail again in the same way; give FAIL or CONTINUE", s.StepType)
	}
}

// readAgentID reads the agent of a step that has one.
func (d *Draft) readAgentID(o form.Object, s *catalog.Step) {
	if s.StepType == "" {
		return
	}
	field := o.Field("agentId")
	if !runsAgent(s.StepType) {
		given := s.AgentID != nil
		if o.Has("agentId") {
			given = !o.IsNull("agentId")
		}
		switch {
		case given && s.StepType == catalog.StepParallel:
			d.faults.Add(field, errs.NotApplicable, "a PARALLEL step has no agent of its own; name those of its branches in config.branches, and set this one to null")
		case given:
			d.faults.Add(field, errs.NotApplicable, "a %s step has no agent; set it to null", s.StepType)
		}
		s.AgentID = nil
		return
	}
	id := ""
	if s.AgentID != nil {
		id = *s.AgentID
	}
	before := id
	o.String("agentId", &id, "", 1, 200)
	s.AgentID = nil
	switch {
	case id != "" && !canonicalUUID(id) && id != before:
		d.faults.Add(field, errs.BadValue, "%s is no UUID; give the id of an agent", form.Quote(id))
	case id != "":
		id = strings.ToLower(id)
		s.AgentID = &id
	case !o.Has("agentId") || o.IsNull("agentId"):
		d.faults.Add(field, errs.Required, "is required for %s steps; give the id of an agent", s.StepType)
	}
}

func canonicalUUID(s string) bool {
	_, err := uuid.Parse(s)
	return err == nil && len(s) == 36
}

// isAgentID tells whether s is an id in the spelling that the store has, which is needed where it stays as it is written.
func isAgentID(s string) bool { return canonicalUUID(s) && s == strings.ToLower(s) }
