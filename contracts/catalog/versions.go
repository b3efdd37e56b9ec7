package catalog

import (
	"encoding/json"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
)

// AgentSnapshot is a version of an agent, which never changes.
type AgentSnapshot struct {
	AgentID      string          `json:"agentId" format:"uuid"`
	Version      int             `json:"version"`
	Type         string          `json:"type" enum:"CODE,API,LLM,DATA,WORKFLOW"`
	Config       json.RawMessage `json:"config,omitzero"` // absent in a list behind 8 MiB of them
	InputSchema  json.RawMessage `json:"inputSchema"`
	OutputSchema json.RawMessage `json:"outputSchema"`
	CreatedAt    time.Time       `json:"createdAt"`
}

// WorkflowSnapshot is a version of a workflow, which never changes.
type WorkflowSnapshot struct {
	WorkflowID      string          `json:"workflowId" format:"uuid"`
	Version         int             `json:"version"`
	InputSchema     json.RawMessage `json:"inputSchema"`
	Outputs         json.RawMessage `json:"outputs"`
	TimeoutMs       int64           `json:"timeoutMs"`
	Concurrency     *Concurrency    `json:"concurrency"`
	Priority        int             `json:"priority"`
	StrictTemplates bool            `json:"strictTemplates"`
	CreatedAt       time.Time       `json:"createdAt"`
	Steps           []Step          `json:"steps,omitzero"` // absent in lists
}

// VersionsRequest asks for a page of the versions of an agent or a workflow, the newest first.
type VersionsRequest struct {
	rpc.Page
	ID string `json:"id"`
}

// VersionRequest names a version of an agent or a workflow.
type VersionRequest struct {
	ID      string `json:"id"`
	Version int    `json:"version"`
}

// DiffRequest names two versions of a workflow, in either order.
type DiffRequest struct {
	ID   string `json:"id"`
	From int    `json:"from,omitempty"` // 0 for the version before To
	To   int    `json:"to,omitempty"`   // 0 for the newest
}

// WorkflowDiff is what makes one version of a workflow the other: all of it, and nothing else.
type WorkflowDiff struct {
	WorkflowID string    `json:"workflowId" format:"uuid"`
	From       int       `json:"from"`
	To         int       `json:"to"`
	Changes    []Change  `json:"changes"` // of the fields beside the steps
	Steps      StepsDiff `json:"steps"`
}

// StepsDiff is what becomes of steps, by their keys.
type StepsDiff struct {
	Added   []Step     `json:"added"`
	Removed []Step     `json:"removed"`
	Changed []StepDiff `json:"changed"`
	Order   []string   `json:"order,omitempty"` // all keys in their new order; absent when keys and order are the same
}

// StepDiff is what changes in a step.
type StepDiff struct {
	StepKey string   `json:"stepKey"`
	Changes []Change `json:"changes"`
}

// Change is a JSON value that differs. Objects are compared field by field, arrays of the same length item by item.
type Change struct {
	Path   string          `json:"path"`             // a JSON Pointer, RFC 6901
	Before json.RawMessage `json:"before,omitempty"` // absent when there was nothing
	After  json.RawMessage `json:"after,omitempty"`  // absent when there is nothing any more
}

// ValidateRequest asks what is wrong with a workflow: with the stored one, or with what a patch of the body would make of it. Nothing is saved.
type ValidateRequest struct {
	ID   string          `json:"id"`
	Body json.RawMessage `json:"body,omitempty"`
}

// Validation tells what is wrong with a workflow.
type Validation struct {
	Valid      bool          `json:"valid"`      // it can be saved
	Problems   []errs.Detail `json:"problems"`   // why not
	Executable bool          `json:"executable"` // it is valid, and can be executed
	Obstacles  []errs.Detail `json:"obstacles"`  // why a valid one can not be executed
}
