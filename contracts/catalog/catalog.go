// Package catalog declares what the catalog service offers: agents, workflows and the
// immutable definition that an execution runs.
package catalog

import (
	"encoding/json"
	"time"

	"turbocat.io/contracts/rpc"
)

// Service is the name of the service.
const Service = "catalog"

// Agent types.
const (
	AgentCode     = "CODE"
	AgentAPI      = "API"
	AgentLLM      = "LLM"
	AgentData     = "DATA"
	AgentWorkflow = "WORKFLOW"
)

// AgentTypes gives all of them.
func AgentTypes() []string { return append(RunnerAgentTypes(), AgentWorkflow) }

// RunnerAgentTypes gives those that runners run; a WORKFLOW agent is a child execution.
func RunnerAgentTypes() []string { return []string{AgentCode, AgentAPI, AgentLLM, AgentData} }

// Bounds of configs that no JSON Schema can tell. The catalog saves no config beyond them, and runners run none.
const (
	MaxCodeSource = 1 << 20   // bytes of UTF-8 that the source, or one of the files, of a CODE config has
	MaxDataConfig = 256 << 10 // bytes of the JSON of a DATA config
	MaxDataDepth  = 64        // levels that a DATA config nests
)

// Statuses of agents and workflows.
const (
	StatusDraft    = "DRAFT"
	StatusActive   = "ACTIVE"
	StatusInactive = "INACTIVE"
	StatusArchived = "ARCHIVED"
)

// Step types.
const (
	StepAgent     = "AGENT"
	StepCondition = "CONDITION"
	StepLoop      = "LOOP"
	StepParallel  = "PARALLEL"
	StepWait      = "WAIT"
)

// What a step does when its agent fails.
const (
	OnErrorFail     = "FAIL"
	OnErrorContinue = "CONTINUE"
	OnErrorRetry    = "RETRY"
)

// When a step with dependencies runs.
const (
	TriggerNoneFailed = "none_failed"
	TriggerAllSuccess = "all_success"
	TriggerOneSuccess = "one_success"
	TriggerAllDone    = "all_done"
)

// Agent is a configured unit of work.
type Agent struct {
	ID           string          `json:"id" format:"uuid"`
	UserID       string          `json:"userId" format:"uuid"`
	Name         string          `json:"name"`
	Description  string          `json:"description"`
	Type         string          `json:"type" enum:"CODE,API,LLM,DATA,WORKFLOW"`
	Status       string          `json:"status" enum:"DRAFT,ACTIVE,INACTIVE,ARCHIVED"`
	Version      int             `json:"version"`
	Config       json.RawMessage `json:"config"`
	InputSchema  json.RawMessage `json:"inputSchema"`  // a JSON Schema or null
	OutputSchema json.RawMessage `json:"outputSchema"` // a JSON Schema or null
	Tags         []string        `json:"tags"`
	IsPublic     bool            `json:"isPublic"`
	SourceID     *string         `json:"sourceId,omitempty" format:"uuid"` // the agent or the template that it was made of; absent for none
	CreatedAt    time.Time       `json:"createdAt"`
	UpdatedAt    time.Time       `json:"updatedAt"`
}

// Workflow is a DAG of steps.
type Workflow struct {
	ID              string          `json:"id" format:"uuid"`
	UserID          string          `json:"userId" format:"uuid"`
	Name            string          `json:"name"`
	Description     string          `json:"description"`
	Status          string          `json:"status" enum:"DRAFT,ACTIVE,INACTIVE,ARCHIVED"`
	Version         int             `json:"version"`
	InputSchema     json.RawMessage `json:"inputSchema"` // a JSON Schema or null
	Outputs         json.RawMessage `json:"outputs"`     // templates or null
	TimeoutMs       int64           `json:"timeoutMs"`
	Concurrency     *Concurrency    `json:"concurrency"`
	Priority        int             `json:"priority"`
	StrictTemplates bool            `json:"strictTemplates"`
	Tags            []string        `json:"tags"`
	IsPublic        bool            `json:"isPublic"`
	SourceID        *string         `json:"sourceId,omitempty" format:"uuid"` // the workflow or the template that it was made of; absent for none
	CreatedAt       time.Time       `json:"createdAt"`
	UpdatedAt       time.Time       `json:"updatedAt"`
	Steps           []Step          `json:"steps,omitzero"` // absent in lists
}

// Concurrency bounds how many executions of a workflow there are at a time that are neither queued nor terminal.
type Concurrency struct {
	Max     int    `json:"max"`
	Key     string `json:"key"` // a template over inputs: Max is for each text that comes of it; "" for all executions together
	OnLimit string `json:"onLimit" enum:"QUEUE,DROP,CANCEL_OLDEST"`
}

// What becomes of an execution for which there is no room.
const (
	OnLimitQueue        = "QUEUE"         // it waits, by priority, then in the order of the accepts
	OnLimitDrop         = "DROP"          // it is CANCELLED
	OnLimitCancelOldest = "CANCEL_OLDEST" // it waits, and the one that has run longest is cancelled
)

// Bounds of a Concurrency.
const (
	MaxConcurrency    = 10_000 // executions
	MaxConcurrencyKey = 1000   // characters of the template
)

// Step is a node of a workflow.
type Step struct {
	StepKey      string          `json:"stepKey"`
	StepType     string          `json:"stepType" enum:"AGENT,CONDITION,LOOP,PARALLEL,WAIT"`
	AgentID      *string         `json:"agentId"`
	DependsOn    []string        `json:"dependsOn"`
	Inputs       json.RawMessage `json:"inputs"` // a JSON object; strings in it may be templates
	Config       json.RawMessage `json:"config"`
	OnError      string          `json:"onError" enum:"FAIL,CONTINUE,RETRY"`
	RetryCount   int             `json:"retryCount"`
	RetryDelayMs int64           `json:"retryDelayMs"`
	TimeoutMs    int64           `json:"timeoutMs"`
	TriggerRule  string          `json:"triggerRule" enum:"none_failed,all_success,one_success,all_done"`
	Position     int             `json:"position"`
	Compensate   *Compensate     `json:"compensate,omitempty"` // of an AGENT, LOOP or PARALLEL; absent for none
}

// Compensate says how a step that has completed is undone when its execution fails, is cancelled or runs out of time.
type Compensate struct {
	AgentID      string          `json:"agentId" format:"uuid"`
	Inputs       json.RawMessage `json:"inputs"` // a JSON object; its templates may name what those of the step may, and the step
	RetryCount   int             `json:"retryCount"`
	RetryDelayMs int64           `json:"retryDelayMs"`
	TimeoutMs    int64           `json:"timeoutMs"` // of an attempt
}

// Definition is what an execution runs: a workflow version with the versions of its
// agents, frozen at accept. Its canonical JSON is stored by hash and never changes.
type Definition struct {
	WorkflowID      string            `json:"workflowId"`
	WorkflowOwner   string            `json:"workflowOwner"`
	WorkflowVersion int               `json:"workflowVersion"`
	InputSchema     json.RawMessage   `json:"inputSchema,omitempty"`
	Outputs         json.RawMessage   `json:"outputs,omitempty"`
	TimeoutMs       int64             `json:"timeoutMs"`
	Concurrency     *Concurrency      `json:"concurrency,omitempty"`
	Priority        int               `json:"priority"`
	StrictTemplates bool              `json:"strictTemplates,omitempty"`
	Steps           []Step            `json:"steps"` // in the workflow's order
	Agents          []DefinitionAgent `json:"agents"`
	Recording       *Recording        `json:"recording,omitempty"` // of a replay; absent for most
}

// Recording says what a replay does not do again: it takes what came of it in the execution that it replays.
type Recording struct {
	ExecutionID string   `json:"executionId"`
	Steps       []string `json:"steps,omitempty"`  // keys of steps that are taken whole, sorted
	Agents      []string `json:"agents,omitempty"` // ids of agents whose results are taken, sorted: those that reach outside
}

// ReachesOutside tells whether what the agent does has to do with something beyond the execution: a server, a model, another execution.
func (a DefinitionAgent) ReachesOutside() bool {
	switch a.Type {
	case AgentData:
		return false
	case AgentCode:
		var c struct {
			AllowHosts []string `json:"allowHosts"`
		}
		return json.Unmarshal(a.Config, &c) != nil || len(c.AllowHosts) > 0
	}
	return true
}

// ResolveRequest names a workflow, and the Definition of it that the caller has, if any.
type ResolveRequest struct {
	ID    string    `json:"id"`
	Known *Versions `json:"known,omitempty"`
	// Agent says that ID is that of an agent: its Definition has one step, TestStep, whose input and output are those of the
	// execution, and WorkflowVersion 0. The agent may have any status.
	Agent bool `json:"agent,omitempty"`
}

// TestStep is the key of the one step of an execution that tests an agent.
const TestStep = "agent"

// Versions tell a Definition of a workflow from all others, because a version never changes.
type Versions struct {
	Workflow int            `json:"workflow"`
	Agents   []AgentVersion `json:"agents"`
}

// AgentVersion is an agent at a version.
type AgentVersion struct {
	ID      string `json:"id"`
	Version int    `json:"version"`
}

// Resolution is a Definition; an empty one when it is Unchanged: that which is known is still
// what the caller may execute.
type Resolution struct {
	Definition
	Unchanged bool `json:"unchanged,omitempty"`
}

// DefinitionAgent is an agent's version inside a Definition.
type DefinitionAgent struct {
	ID           string          `json:"id"`
	Owner        string          `json:"owner,omitempty"` // the user; absent in definitions from before there were secrets
	Type         string          `json:"type"`
	Version      int             `json:"version"`
	Config       json.RawMessage `json:"config"`
	TimeoutMs    int64           `json:"timeoutMs"`              // of its config; 0 when not given
	InputSchema  json.RawMessage `json:"inputSchema,omitempty"`  // a JSON Schema of a step's inputs; absent for none
	OutputSchema json.RawMessage `json:"outputSchema,omitempty"` // a JSON Schema of a step's output; absent for none
}

// CreateRequest makes an agent or a workflow from the JSON body of the client. The
// service checks the body itself so that every fault is reported at once, by field.
type CreateRequest struct {
	ID   string          `json:"id,omitempty"` // system callers may choose it; CONFLICT when taken, also by a deleted one
	Body json.RawMessage `json:"body"`
}

// PatchRequest changes an agent or a workflow: an absent field stays, null clears.
type PatchRequest struct {
	ID      string          `json:"id"`
	Body    json.RawMessage `json:"body"`
	IfMatch int             `json:"ifMatch,omitempty"` // a version; 0 when any will do
}

// IDRequest names one agent or workflow.
type IDRequest struct {
	ID string `json:"id"`
}

// ListRequest asks for a page of agents or workflows the caller can see.
type ListRequest struct {
	rpc.Page
	Type     string   `json:"type,omitempty"` // agents only
	Status   string   `json:"status,omitempty"`
	Tags     []string `json:"tags,omitempty"` // all of them
	IsPublic *bool    `json:"isPublic,omitempty"`
	// ScheduleEnabled selects by whether a schedule of it is on; workflows only.
	ScheduleEnabled *bool `json:"scheduleEnabled,omitempty"`
}

// ScheduleState says whether a schedule of a workflow is on. The orchestrator, which has the schedules, tells the catalog of each change.
type ScheduleState struct {
	WorkflowID string `json:"workflowId"`
	Enabled    bool   `json:"enabled"`
	Revision   int64  `json:"revision"` // of two states of a workflow the higher is the newer
}

// ScheduleStates are told together.
type ScheduleStates struct {
	States []ScheduleState `json:"states"`
}

// DuplicateRequest copies an agent or a workflow that the caller may see. The body, which may be absent, is a JSON object with
// the name of the copy.
type DuplicateRequest struct {
	ID   string          `json:"id"`
	Body json.RawMessage `json:"body,omitempty"`
}

// The methods of the service. All but Resolve answer NOT_FOUND for what the caller may not see.
var (
	CreateAgent    = rpc.Method[CreateRequest, Agent]{Service: Service, Name: "create_agent", Version: 1}
	GetAgent       = rpc.Method[IDRequest, Agent]{Service: Service, Name: "get_agent", Version: 1}
	ListAgents     = rpc.Method[ListRequest, rpc.List[Agent]]{Service: Service, Name: "list_agents", Version: 1}
	PatchAgent     = rpc.Method[PatchRequest, Agent]{Service: Service, Name: "patch_agent", Version: 1}
	DeleteAgent    = rpc.Method[IDRequest, rpc.Empty]{Service: Service, Name: "delete_agent", Version: 1}
	DuplicateAgent = rpc.Method[DuplicateRequest, Agent]{Service: Service, Name: "duplicate_agent", Version: 1}
	CreateWorkflow = rpc.Method[CreateRequest, Workflow]{Service: Service, Name: "create_workflow", Version: 1}
	GetWorkflow    = rpc.Method[IDRequest, Workflow]{Service: Service, Name: "get_workflow", Version: 1}
	ListWorkflows  = rpc.Method[ListRequest, rpc.List[Workflow]]{Service: Service, Name: "list_workflows", Version: 1}
	PatchWorkflow  = rpc.Method[PatchRequest, Workflow]{Service: Service, Name: "patch_workflow", Version: 1}
	DeleteWorkflow = rpc.Method[IDRequest, rpc.Empty]{Service: Service, Name: "delete_workflow", Version: 1}

	DuplicateWorkflow = rpc.Method[DuplicateRequest, Workflow]{Service: Service, Name: "duplicate_workflow", Version: 1}
	ValidateWorkflow  = rpc.Method[ValidateRequest, Validation]{Service: Service, Name: "validate_workflow", Version: 1}

	ListAgentVersions    = rpc.Method[VersionsRequest, rpc.List[AgentSnapshot]]{Service: Service, Name: "list_agent_versions", Version: 1}
	GetAgentVersion      = rpc.Method[VersionRequest, AgentSnapshot]{Service: Service, Name: "get_agent_version", Version: 1}
	ListWorkflowVersions = rpc.Method[VersionsRequest, rpc.List[WorkflowSnapshot]]{Service: Service, Name: "list_workflow_versions", Version: 1}
	GetWorkflowVersion   = rpc.Method[VersionRequest, WorkflowSnapshot]{Service: Service, Name: "get_workflow_version", Version: 1}
	DiffWorkflow         = rpc.Method[DiffRequest, WorkflowDiff]{Service: Service, Name: "diff_workflow", Version: 1}

	// NoteSchedules is committed when it answers. It may be repeated, and states may come in any order.
	NoteSchedules = rpc.Method[ScheduleStates, rpc.Empty]{Service: Service, Name: "note_schedules", Version: 1}

	// ResolveDefinition freezes a workflow that the caller may execute. CONFLICT, naming what is
	// in the way, unless the workflow and each agent it names are ACTIVE and it has a step.
	ResolveDefinition = rpc.Method[ResolveRequest, Resolution]{Service: Service, Name: "resolve_definition", Version: 1}
)
