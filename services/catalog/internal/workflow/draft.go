// Package workflow owns workflows: what a client may save as one, their versions, and the
// definition that an execution runs. A version, which is everything that decides how the
// workflow runs, never changes once saved.
package workflow

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/schema"
	"turbocat.io/services/catalog/internal/agent"
)

// MaxSteps is how many steps a workflow may have.
const MaxSteps = 1000

const (
	defaultTimeoutMs = 3_600_000
	maxTimeoutMs     = 604_800_000
	defaultPriority  = 5
)

var fields = []string{
	"name", "description", "status", "inputSchema", "outputs", "timeoutMs", "concurrency", "priority", "strictTemplates", "tags", "isPublic", "steps",
	// Read-only ones that a client may send back; they are ignored.
	"id", "userId", "version", "createdAt", "updatedAt", "sourceId",
}

// Draft is a workflow as a client wants it, with the faults found so far. It is complete
// once it is known which of its agents exist.
type Draft struct {
	workflow catalog.Workflow
	steps    []draftStep
	current  *catalog.Workflow // what is patched; nil for a new one
	faults   form.Faults
}

// draftStep is a step, its place in the client's body, and what its config names.
type draftStep struct {
	catalog.Step
	at    string
	names names
}

// New drafts a workflow at version 1 of a client's body. Id, owner and times are the caller's to set.
func New(body json.RawMessage) *Draft {
	d := &Draft{workflow: catalog.Workflow{
		Status: catalog.StatusDraft, Version: 1, InputSchema: null(), Outputs: null(), TimeoutMs: defaultTimeoutMs,
		Priority: defaultPriority, Tags: []string{},
	}}
	d.read(body)
	return d
}

// Patch drafts the next state of a workflow of a client's body: an absent field stays, null
// clears, and steps merge by their key.
func Patch(current catalog.Workflow, body json.RawMessage) *Draft {
	d := &Draft{workflow: current, current: &current}
	for _, s := range current.Steps {
		d.steps = append(d.steps, draftStep{Step: s, at: `steps["` + s.StepKey + `"]`})
	}
	d.read(body)
	return d
}

// AgentIDs gives the different agents that the steps name.
func (d *Draft) AgentIDs() []string { return AgentIDs(d.workflow.Steps) }

// AgentIDs gives the different agents that steps name, in their order: to work, in branches and to undo.
func AgentIDs(steps []catalog.Step) []string {
	var ids []string
	for _, s := range steps {
		for _, use := range agentUses(s) {
			if !slices.Contains(ids, use.agentID) {
				ids = append(ids, use.agentID)
			}
		}
	}
	return ids
}

// KeepSecrets notes the secrets in the inputs of WORKFLOW agents; isWorkflow tells which agents are that.
func (d *Draft) KeepSecrets(isWorkflow func(agentID string) bool) {
	for _, s := range d.steps {
		for _, use := range agentUses(s.Step) {
			if isWorkflow(use.agentID) {
				for _, field := range use.secretInputs() {
					d.faults.Add(s.at+"."+field, errs.NotApplicable, noSecretsForWorkflows)
				}
			}
		}
	}
}

// Finish gives the workflow, or a VALIDATION_ERROR with every fault. exists tells which agents
// the client may use. A patch that changes how the workflow runs makes the next version.
func (d *Draft) Finish(exists func(agentID string) bool) (catalog.Workflow, error) {
	for _, s := range d.steps {
		for _, use := range agentUses(s.Step) {
			if !exists(use.agentID) {
				d.faults.Add(s.at+"."+use.field, errs.UnknownAgent, "unknown agent %s; create it or correct the id", form.Quote(use.agentID))
			}
		}
	}
	if err := d.faults.Err("workflow"); err != nil {
		return catalog.Workflow{}, err
	}
	if d.current != nil && !sameDefinition(*d.current, d.workflow) {
		d.workflow.Version++
	}
	return d.workflow, nil
}

func sameDefinition(a, b catalog.Workflow) bool {
	stepsA, errA := json.Marshal(a.Steps)
	stepsB, errB := json.Marshal(b.Steps)
	return errA == nil && errB == nil && bytes.Equal(stepsA, stepsB) &&
		bytes.Equal(a.InputSchema, b.InputSchema) && bytes.Equal(a.Outputs, b.Outputs) && reflect.DeepEqual(a.Concurrency, b.Concurrency) &&
		a.TimeoutMs == b.TimeoutMs && a.Priority == b.Priority && a.StrictTemplates == b.StrictTemplates
}

func (d *Draft) read(body json.RawMessage) {
	o, ok := form.Read(body, &d.faults)
	if !ok {
		return
	}
	w := &d.workflow
	create := d.current == nil
	o.Require(create, "name")
	if create {
		o.Require(true, "steps")
	}
	o.String("name", &w.Name, w.Name, 1, 200)
	o.String("description", &w.Description, "", 0, 5000)
	o.Enum("status", &w.Status, catalog.StatusDraft, agent.Statuses()...)
	o.Any("inputSchema", &w.InputSchema, null())
	schema.Check("inputSchema", w.InputSchema, &d.faults)
	o.Any("outputs", &w.Outputs, null())
	o.Int("timeoutMs", &w.TimeoutMs, defaultTimeoutMs, 1, maxTimeoutMs)
	d.readConcurrency(o)
	priority := int64(w.Priority)
	o.Int("priority", &priority, defaultPriority, 0, 9)
	w.Priority = int(priority)
	o.Bool("strictTemplates", &w.StrictTemplates, false)
	o.Strings("tags", &w.Tags, 20, 1, 50)
	o.Bool("isPublic", &w.IsPublic, false)
	o.Only(fields...)
	d.readSteps(o)
	for i := range d.steps {
		d.steps[i].names = d.readConfig(d.steps[i])
	}
	d.checkGraph()

	slices.SortStableFunc(d.steps, func(a, b draftStep) int { return a.Position - b.Position })
	w.Steps = make([]catalog.Step, len(d.steps))
	for i, s := range d.steps {
		w.Steps[i] = s.Step
	}
}

// readSteps merges the steps of the body into those of the workflow, by key.
func (d *Draft) readSteps(o form.Object) {
	if o.Has("steps") && o.IsNull("steps") {
		d.steps = nil
		return
	}
	items, _ := o.List("steps", "steps")
	if len(items) > MaxSteps {
		d.faults.Add("steps", errs.OutOfRange, "has %d steps; give at most %d", len(items), MaxSteps)
		return
	}
	named := map[string]bool{}
	for i, item := range items {
		at := form.At("steps", i)
		step, ok := form.Open(at, item, &d.faults)
		if !ok {
			continue
		}
		key := step.Text("stepKey")
		if named[key] {
			d.faults.Add(at+".stepKey", errs.DuplicateKey, "the key %s stands twice; give each step a key of its own", form.Quote(key))
		}
		named[key] = key != ""
		d.merge(step, key)
	}
	if len(d.steps) > MaxSteps {
		d.faults.Add("steps", errs.OutOfRange, "the workflow would have %d steps; keep at most %d", len(d.steps), MaxSteps)
	}
}

// merge changes, adds or removes one step.
func (d *Draft) merge(o form.Object, key string) {
	place := slices.IndexFunc(d.steps, func(s draftStep) bool { return s.StepKey == key })
	if d.current == nil {
		place = -1
	}
	remove := false
	if d.current != nil {
		o.Bool("_delete", &remove, false)
	}
	switch {
	case remove && place < 0:
		d.faults.Add(o.Field("stepKey"), errs.UnknownStep, "unknown step %s can not be deleted; remove it from the body", form.Quote(key))
	case remove:
		d.steps = slices.Delete(d.steps, place, place+1)
	case place >= 0:
		s := d.steps[place].Step
		d.readStep(o, &s, s.Position)
		d.steps[place] = draftStep{Step: s, at: o.Path}
	default:
		position := len(d.steps)
		if d.current != nil {
			for _, s := range d.steps {
				position = max(position, s.Position+1)
			}
		}
		s := newStep(position)
		d.readStep(o, &s, position)
		s.StepKey = key // also a refused one, so that what depends on it is not at fault too
		d.steps = append(d.steps, draftStep{Step: s, at: o.Path})
	}
}

func null() json.RawMessage        { return json.RawMessage("null") }
func emptyObject() json.RawMessage { return json.RawMessage("{}") }
