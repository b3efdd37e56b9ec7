package catalog

import "encoding/json"

// WorkflowConfig is the config of a WORKFLOW agent: each attempt is an execution of another workflow, in the version that is active
// then. The step's inputs are the execution's, over those of the config, field by field; its outputs are the step's output. A
// detached one is begun and left alone: the output is its executionId.
type WorkflowConfig struct {
	WorkflowID string                     `json:"workflowId" format:"uuid"`
	Inputs     map[string]json.RawMessage `json:"inputs,omitempty"`
	TimeoutMs  int64                      `json:"timeoutMs,omitempty"` // the step's own bounds it, too
	Detached   bool                       `json:"detached,omitempty"`
}

// MaxDepth is how deep executions may stand within one another; the outermost has the depth 0.
const MaxDepth = 10

// ConditionConfig is the config of a CONDITION step: one expression with two branches, or cases of which the first that
// holds is taken. Every step named in a branch depends on the CONDITION; one in a branch that is not taken is SKIPPED.
type ConditionConfig struct {
	Expression string          `json:"expression,omitempty"`
	Then       []string        `json:"then,omitempty"`
	Cases      []ConditionCase `json:"cases,omitempty"`
	Else       []string        `json:"else,omitempty"`
}

// ConditionCase is one of the cases of a CONDITION.
type ConditionCase struct {
	When string   `json:"when"` // an expression
	Then []string `json:"then"`
}

// LoopConfig is the config of a LOOP step, which runs its agent for each item of an array, or one time after the other
// while an expression holds. Its inputs are rendered for each item, with {{item}} and {{index}} (from 0); in a while loop
// item is the output of the time before, null at first. Its output is the array of the agent's outputs in the order of the items.
type LoopConfig struct {
	ForEach           json.RawMessage `json:"forEach,omitempty"`           // an array, a template or an expression that gives one
	While             string          `json:"while,omitempty"`             // an expression; sees item and index as well
	Concurrency       int             `json:"concurrency,omitempty"`       // how many items at a time; 1 when absent
	MaxIterations     int             `json:"maxIterations,omitempty"`     // DefaultIterations when absent
	MaxFailures       int             `json:"maxFailures,omitempty"`       // how many items may fail; null stands in for their outputs
	MaxFailurePercent float64         `json:"maxFailurePercent,omitempty"` // the like, as a share of the items of forEach; the larger bound counts
}

// Bounds of a LOOP.
const (
	DefaultIterations  = 1000
	MaxIterations      = 100_000
	MaxLoopConcurrency = 1000
)

// ParallelConfig is the config of a PARALLEL step, which runs different agents at once. Its output has those of the
// branches that completed, by key.
type ParallelConfig struct {
	Branches []Branch        `json:"branches"`
	Join     json.RawMessage `json:"join,omitempty"` // JoinAll, which is the default, JoinAny, or how many branches must complete
}

// Branch is one of the branches of a PARALLEL.
type Branch struct {
	Key     string          `json:"key"`
	AgentID string          `json:"agentId"`
	Inputs  json.RawMessage `json:"inputs,omitempty"`
}

// What a PARALLEL waits for.
const (
	JoinAll = "all"
	JoinAny = "any"
)

// MaxBranches is how many branches a PARALLEL may have.
const MaxBranches = 100

// WaitConfig is the config of a WAIT step, which waits for one thing: that time passes, a moment, a signal, or an approval,
// which is a signal that says yes or no. The output is the payload of the signal, for an approval an Approval, else null.
type WaitConfig struct {
	DurationMs json.RawMessage `json:"durationMs,omitempty"` // a number, or a template that gives one
	Until      string          `json:"until,omitempty"`      // RFC 3339, or a template that gives it; what is past is over at once
	Signal     string          `json:"signal,omitempty"`     // its name; of an approval the step's key when absent
	Approval   bool            `json:"approval,omitempty"`
	TimeoutMs  int64           `json:"timeoutMs,omitempty"` // of a signal: when the default is taken, or the step fails; 0 for the step's timeoutMs alone
	Default    json.RawMessage `json:"default,omitempty"`   // the output when the signal does not come in time; absent: the step fails
}

// Approval is the output of a WAIT for an approval that was given. One that was refused fails the step.
type Approval struct {
	Approved bool            `json:"approved"`
	By       string          `json:"by"` // the user
	Comment  string          `json:"comment"`
	Payload  json.RawMessage `json:"payload"`
}
