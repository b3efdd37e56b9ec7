package enginetest

import (
	"encoding/json"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/runner"
)

// Child is the execution of another workflow that an attempt of an AGENT step is. What becomes of it is not drawn: the step's
// Script says how its attempts have ended.
type Child struct {
	Workflow string // its id
	Detached bool
	Output   any // what the attempt that succeeds gives
}

// answerOfChild gives the code of an attempt that was a child, and whether another one may follow.
var answerOfChild = map[Answer]struct {
	code  string
	again bool
}{
	ChildFails: {runner.CodeChildFailed, true}, ChildRefused: {runner.CodeChildFailed, false}, ChildRunsOut: {runner.CodeChildTimeout, true},
	ChildStopped: {runner.CodeChildStopped, false}, ChildTooDeep: {runner.CodeDepth, false},
}

// agent is the WORKFLOW agent that begins the child.
func (c *Child) agent() catalog.DefinitionAgent {
	config := encoded(catalog.WorkflowConfig{WorkflowID: c.Workflow, Detached: c.Detached, Inputs: map[string]json.RawMessage{"n": json.RawMessage(`20`)}})
	return catalog.DefinitionAgent{ID: uuid.NewSHA1(uuid.Nil, config).String(), Type: catalog.AgentWorkflow, Version: 1, Config: config}
}
