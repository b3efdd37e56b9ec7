// Package contracts lists everything that crosses a process border: Methods, Events and
// Messages. Schemas, asyncapi.yaml and docs/events.md are made from the lists (tools/contractgen),
// and every event and message in them has golden files in testdata/golden, which must decode for
// ever. Services import the packages below this one; the lists are for documents and tests.
//
// What is declared below and not listed here fails a test that says what to add.
package contracts

import (
	"reflect"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/telemetry"
)

// Method is a remote procedure. Its subject is subject.RPC of its service, version and name.
type Method struct {
	rpc.Description
	Doc     string   // what it does, in one sentence
	Callers []string // who asks
}

// Mode is how a message stands on the wire.
type Mode string

// Modes of a message.
const (
	Batched Mode = "batched" // one or more CloudEvents, each one JSON document, in an array
	Binary  Mode = "binary"  // a CloudEvent: attributes in headers, which stand in a line before the data (event.Headers)
	Plain   Mode = "plain"   // no CloudEvent
)

// Message is a public event or an internal message.
type Message struct {
	Name      string // the CloudEvents type; a name of the same form where there is none
	Doc       string // when it is sent, in one sentence
	Senders   []string
	Receivers []string // none: only that it is stored matters
	Subject   string   // with Parameters in braces
	Stream    string   // "" for none: who does not listen misses it
	Mode      Mode
	Headers   []Field
	Data      reflect.Type // of the CloudEvents data, or of the body; nil for none
}

// Field is a header of a message, or an attribute of a structured CloudEvent.
type Field struct {
	Name     string
	Doc      string
	Optional bool
	Integer  bool   // else a string
	Value    string // the only value; "" for any
	Format   string // of JSON Schema, such as uuid
	Pattern  string // a regular expression of the values
}

// Parameter is a part of a subject that stands in braces.
type Parameter struct {
	Name   string
	Doc    string
	Values []string // examples, or all when Closed
	Closed bool
}

// Parameters gives the parts of subjects that stand in braces.
func Parameters() []Parameter {
	return []Parameter{
		{Name: "p", Doc: "partition of the execution: FNV-1a of its id modulo 32", Values: []string{"0", "31"}},
		{Name: "pool", Doc: "pool of runners", Values: []string{"default"}},
		{
			Name: "agentType", Doc: "type of the agent that the step runs", Closed: true,
			Values: catalog.RunnerAgentTypes(),
		},
		{Name: "priority", Doc: "0 to 9, 9 first", Values: []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, Closed: true},
		{Name: "service", Doc: "name of the service", Values: Services(), Closed: true},
	}
}

// gateway is the one service that offers no contract but the API; cli is tools/turbocat.
const (
	gateway = "gateway"
	cli     = "turbocat"
)

// Services names the services.
func Services() []string {
	return []string{gateway, identity.Service, catalog.Service, orchestrator.Service, runner.Service, telemetry.Service}
}
