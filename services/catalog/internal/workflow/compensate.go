package workflow

import (
	"encoding/json"
	"strings"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/form"
)

// hasEffects tells whether a step of the type may have done something that can be undone.
func hasEffects(stepType string) bool {
	return runsAgent(stepType) || stepType == catalog.StepParallel
}

// readCompensate reads how a step is undone: a catalog.Compensate as a whole, or null for not at all.
func (d *Draft) readCompensate(o form.Object, s *catalog.Step) {
	const name = "compensate"
	given := o.Has(name) && !o.IsNull(name)
	if o.Has(name) {
		s.Compensate = nil
	}
	if (given || s.Compensate != nil) && s.StepType != "" && !hasEffects(s.StepType) {
		d.faults.Add(o.Field(name), errs.NotApplicable, "a %s step has done nothing that could be undone; set it to null", s.StepType)
		s.Compensate = nil
		return
	}
	if !given {
		return
	}
	var raw json.RawMessage
	if o.Object(name, &raw, nil); raw == nil {
		return
	}
	c, ok := form.Open(o.Field(name), raw, &d.faults)
	if !ok {
		return
	}
	out := catalog.Compensate{Inputs: emptyObject(), TimeoutMs: defaultStepTimeout, RetryDelayMs: defaultRetryDelayMs}
	c.Require(true, "agentId")
	c.String("agentId", &out.AgentID, "", 1, 200)
	if out.AgentID != "" && !canonicalUUID(out.AgentID) {
		d.faults.Add(c.Field("agentId"), errs.BadValue, "%s is no UUID; give the id of an agent", form.Quote(out.AgentID))
	}
	out.AgentID = strings.ToLower(out.AgentID)
	c.Object("inputs", &out.Inputs, emptyObject())
	retries := int64(defaultRetryCount)
	c.Int("retryCount", &retries, defaultRetryCount, 0, maxRetryCount)
	c.Int("retryDelayMs", &out.RetryDelayMs, defaultRetryDelayMs, 0, maxRetryDelayMs)
	c.Int("timeoutMs", &out.TimeoutMs, defaultStepTimeout, 1, maxStepTimeout)
	c.Only("agentId", "inputs", "retryCount", "retryDelayMs", "timeoutMs")
	out.RetryCount = int(retries)
	s.Compensate = &out
}
