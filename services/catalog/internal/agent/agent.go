// Package agent owns agents: what a client may save as one, and their versions. A version,
// which is type, config and schemas, never changes once saved.
package agent

import (
	"bytes"
	"encoding/json"

	"turbocat.io/contracts/catalog"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/schema"
)

var fields = []string{"name", "description", "type", "status", "config", "inputSchema", "outputSchema", "tags", "isPublic"}

// maxName is how many characters a name has at most.
const maxName = 200

// readOnly are fields of an answer that a client may send back; they are ignored.
var readOnly = []string{"id", "userId", "version", "createdAt", "updatedAt", "sourceId"}

// Statuses lists the statuses of agents and workflows.
func Statuses() []string {
	return []string{catalog.StatusDraft, catalog.StatusActive, catalog.StatusInactive, catalog.StatusArchived}
}

// New makes an agent at version 1 of a client's body, or a VALIDATION_ERROR with every fault.
// Id, owner and times are the caller's to set.
func (s Schemas) New(body json.RawMessage) (catalog.Agent, error) {
	a := catalog.Agent{
		Status: catalog.StatusDraft, Version: 1, InputSchema: null(), OutputSchema: null(), Tags: []string{},
	}
	err := s.read(body, &a, true)
	return a, err
}

// Patch makes the next state of an agent of a client's body: an absent field stays, null
// clears. A change of type, config or schemas makes the next version.
func (s Schemas) Patch(current catalog.Agent, body json.RawMessage) (catalog.Agent, error) {
	next := current
	err := s.read(body, &next, false)
	if next.Type != current.Type || !bytes.Equal(next.Config, current.Config) ||
		!bytes.Equal(next.InputSchema, current.InputSchema) || !bytes.Equal(next.OutputSchema, current.OutputSchema) {
		next.Version++
	}
	return next, err
}

func (s Schemas) read(body json.RawMessage, a *catalog.Agent, create bool) error {
	var faults form.Faults
	o, ok := form.Read(body, &faults)
	if !ok {
		return faults.Err("agent")
	}
	o.Require(create, "name", "type", "config")
	o.String("name", &a.Name, a.Name, 1, maxName)
	o.String("description", &a.Description, "", 0, 5000)
	o.Enum("type", &a.Type, a.Type, catalog.AgentTypes()...)
	o.Enum("status", &a.Status, catalog.StatusDraft, Statuses()...)
	o.Object("config", &a.Config, a.Config)
	o.Any("inputSchema", &a.InputSchema, null())
	o.Any("outputSchema", &a.OutputSchema, null())
	o.Strings("tags", &a.Tags, 20, 1, 50)
	o.Bool("isPublic", &a.IsPublic, false)
	if a.Type != "" && a.Config != nil && (o.Has("config") || o.Has("type")) {
		s.checkConfig(a.Type, a.Config, &faults)
	}
	schema.Check("inputSchema", a.InputSchema, &faults)
	schema.Check("outputSchema", a.OutputSchema, &faults)
	o.Only(append(fields, readOnly...)...)
	return faults.Err("agent")
}

func null() json.RawMessage { return json.RawMessage("null") }
