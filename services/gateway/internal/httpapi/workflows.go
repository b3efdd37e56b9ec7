package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/services/gateway/internal/live"
)

// newWorkflow documents what POST workflows takes.
type newWorkflow struct {
	Name  string         `json:"name"`
	Steps []workflowStep `json:"steps"`
	WorkflowOptions
}

// workflowPatch documents what PATCH workflows/{id} takes.
type workflowPatch struct {
	Name  string              `json:"name,omitempty"`
	Steps []workflowStepPatch `json:"steps,omitempty" doc:"merged by stepKey; steps not named stay"`
	WorkflowOptions
}

// WorkflowOptions is what a workflow may be given beside its name and steps.
type WorkflowOptions struct {
	Description     string          `json:"description,omitempty"`
	Status          string          `json:"status,omitempty" enum:"DRAFT,ACTIVE,INACTIVE,ARCHIVED"`
	InputSchema     nullableObject  `json:"inputSchema,omitempty" doc:"a JSON Schema"`
	Outputs         json.RawMessage `json:"outputs,omitempty" doc:"templates"`
	TimeoutMs       int64           `json:"timeoutMs,omitempty"`
	Concurrency     concurrency     `json:"concurrency,omitempty"`
	Priority        int             `json:"priority,omitempty"`
	StrictTemplates bool            `json:"strictTemplates,omitempty"`
	Tags            []string        `json:"tags,omitempty"`
	IsPublic        bool            `json:"isPublic,omitempty"`
}

// concurrency documents a limit of executions at a time, or null.
type concurrency struct {
	Max     int    `json:"max" doc:"executions at a time that are neither queued nor terminal, 1 to 10,000"`
	Key     string `json:"key,omitempty" doc:"a template over inputs; max is for each text that comes of it"`
	OnLimit string `json:"onLimit,omitempty" enum:"QUEUE,DROP,CANCEL_OLDEST" doc:"what becomes of an execution for which there is no room; QUEUE is the default"`
}

// Schema is the field's part of the document.
func (concurrency) Schema(r huma.Registry) *huma.Schema {
	type fields concurrency
	s := huma.SchemaFromType(r, reflect.TypeFor[fields]())
	s.Nullable = true
	return s
}

type workflowStep struct {
	StepKey  string `json:"stepKey"`
	StepType string `json:"stepType" enum:"AGENT,CONDITION,LOOP,PARALLEL,WAIT"`
	StepOptions
}

type workflowStepPatch struct {
	StepKey  string `json:"stepKey"`
	StepType string `json:"stepType,omitempty" enum:"AGENT,CONDITION,LOOP,PARALLEL,WAIT"`
	Delete   bool   `json:"_delete,omitempty"`
	StepOptions
}

// StepOptions is what a step may be given beside its key and type.
type StepOptions struct {
	AgentID      *string        `json:"agentId,omitempty" format:"uuid" nullable:"true"`
	DependsOn    []string       `json:"dependsOn,omitempty"`
	Inputs       map[string]any `json:"inputs,omitempty" doc:"strings in it may be templates"`
	Config       map[string]any `json:"config,omitempty"`
	OnError      string         `json:"onError,omitempty" enum:"FAIL,CONTINUE,RETRY"`
	RetryCount   int            `json:"retryCount,omitempty"`
	RetryDelayMs int64          `json:"retryDelayMs,omitempty"`
	TimeoutMs    int64          `json:"timeoutMs,omitempty"`
	TriggerRule  string         `json:"triggerRule,omitempty" enum:"none_failed,all_success,one_success,all_done"`
	Position     int            `json:"position,omitempty"`
	Compensate   nullableObject `json:"compensate,omitempty" doc:"how a step that completed is undone when the execution fails, is cancelled or runs out of time: agentId, inputs, retryCount, retryDelayMs and timeoutMs"`
}

// executeBody documents what POST workflows/{id}/execute takes.
type executeBody struct {
	Inputs      map[string]any `json:"inputs,omitempty"`
	Priority    int            `json:"priority,omitempty" doc:"9 runs first; that of the workflow is the default"`
	TriggerType string         `json:"triggerType,omitempty" pattern:"^(MANUAL|API)$" default:"API" example:"MANUAL" doc:"MANUAL when a person asks for it, else API"`
}

type workflowFilter struct {
	PageParams
	SortParams
	TagsParam
	PublicParam
	Status          string `query:"status" enum:"DRAFT,ACTIVE,INACTIVE,ARCHIVED"`
	ScheduleEnabled string `query:"scheduleEnabled" enum:"true,false" doc:"those that have a schedule that is on, or those that have none"`
}

func workflowVersion(w catalog.Workflow) int { return w.Version }

func (a *API) routeWorkflows() {
	const tag = "workflows"
	register(a, route{method: http.MethodGet, path: "/workflows", id: "listWorkflows", sorts: []string{"createdAt", "updatedAt", "name", "status"}, tag: tag, summary: "List workflows, without their steps"},
		func(ctx context.Context, in *workflowFilter) (*listed[catalog.Workflow], error) {
			list, err := ask(ctx, a, catalog.ListWorkflows, catalog.ListRequest{
				Page: page(in.PageParams, in.SortParams), Status: in.Status, Tags: in.Tags, IsPublic: in.value(), ScheduleEnabled: given(in.ScheduleEnabled),
			})
			return listedWith(ctx, list, err)
		})
	register(a, route{
		method: http.MethodPost, path: "/workflows", id: "createWorkflow", tag: tag, summary: "Make a workflow",
		status: http.StatusCreated, access: access{body: bodyLimit}, document: reflect.TypeFor[newWorkflow](), errors: []errs.Code{errs.Conflict},
	},
		func(ctx context.Context, in *createInput) (*versioned[catalog.Workflow], error) {
			if err := object(in.RawBody); err != nil {
				return nil, err
			}
			workflow, err := ask(ctx, a, catalog.CreateWorkflow, catalog.CreateRequest{Body: in.RawBody})
			return versionedWith(ctx, workflow, workflowVersion, err)
		})
	register(a, route{
		method: http.MethodGet, path: "/workflows/{id}", id: "getWorkflow", tag: tag, summary: "Show a workflow with its steps",
		errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *IDParam) (*versioned[catalog.Workflow], error) {
			workflow, err := ask(ctx, a, catalog.GetWorkflow, catalog.IDRequest{ID: in.ID})
			return versionedWith(ctx, workflow, workflowVersion, err)
		})
	register(a, route{
		method: http.MethodPatch, path: "/workflows/{id}", id: "updateWorkflow", tag: tag, summary: "Change a workflow",
		access: access{body: bodyLimit}, document: reflect.TypeFor[workflowPatch](),
		errors: []errs.Code{errs.Forbidden, errs.NotFound, errs.Conflict, errs.PreconditionFailed},
	},
		func(ctx context.Context, in *patchInput) (*versioned[catalog.Workflow], error) {
			patch, err := in.request()
			if err != nil {
				return nil, err
			}
			workflow, err := ask(ctx, a, catalog.PatchWorkflow, patch)
			return versionedWith(ctx, workflow, workflowVersion, err)
		})
	register(a, route{
		method: http.MethodDelete, path: "/workflows/{id}", id: "deleteWorkflow", tag: tag, summary: "Delete a workflow",
		status: http.StatusNoContent, errors: []errs.Code{errs.Forbidden, errs.NotFound, errs.Conflict},
	},
		func(ctx context.Context, in *IDParam) (*struct{}, error) {
			_, err := ask(ctx, a, catalog.DeleteWorkflow, catalog.IDRequest{ID: in.ID})
			return &struct{}{}, err
		})
	register(a, route{
		method: http.MethodPost, path: "/workflows/{id}/execute", id: "executeWorkflow", tag: tag,
		summary: "Run a workflow; with wait it answers when the execution has ended (200) or the wait is over (202)",
		status:  http.StatusCreated, access: access{body: executeBodyLimit}, document: reflect.TypeFor[executeBody](), optional: true,
		errors: []errs.Code{errs.NotFound, errs.Conflict},
	}, a.execute)
	a.documentStatus("/workflows/{id}/execute", http.StatusCreated, http.StatusOK, http.StatusAccepted)
	register(a, route{
		method: http.MethodGet, path: "/workflows/{id}/executions", id: "listWorkflowExecutions", sorts: []string{"createdAt"}, tag: tag,
		summary: "List the executions of a workflow", errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *struct {
			IDParam
			ExecutionFilter
		},
		) (*listed[orchestrator.Execution], error) {
			if _, err := ask(ctx, a, catalog.GetWorkflow, catalog.IDRequest{ID: in.ID}); err != nil {
				return nil, err
			}
			list, err := ask(ctx, a, orchestrator.ListExecution, in.request(in.ID))
			return listedWith(ctx, list, err)
		})
	register(a, route{
		method: http.MethodGet, path: "/workflows/{id}/versions", id: "listWorkflowVersions", tag: tag, summary: "List the versions of a workflow, newest first, without steps",
		errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *versionsInput) (*listed[catalog.WorkflowSnapshot], error) {
			list, err := ask(ctx, a, catalog.ListWorkflowVersions, in.request())
			return listedWith(ctx, list, err)
		})
	register(a, route{
		method: http.MethodGet, path: "/workflows/{id}/versions/{version}", id: "getWorkflowVersion", tag: tag, summary: "Show a version of a workflow",
		errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *versionInput) (*answer[catalog.WorkflowSnapshot], error) {
			version, err := ask(ctx, a, catalog.GetWorkflowVersion, catalog.VersionRequest{ID: in.ID, Version: in.Version})
			return answerWith(ctx, version, err)
		})
	register(a, route{
		method: http.MethodGet, path: "/workflows/{id}/export", id: "exportWorkflow", tag: tag,
		summary: "Give a workflow with its agents as a document that can be imported; as YAML it is the whole answer, without envelope", errors: []errs.Code{errs.NotFound, errs.Conflict},
	}, a.export)
	register(a, route{
		method: http.MethodPost, path: "/workflows/import", id: "importWorkflow", tag: tag, summary: "Make the workflow and the agents of a document, YAML or JSON; all or nothing",
		status: http.StatusCreated, access: access{body: bodyLimit, yaml: true}, document: reflect.TypeFor[workflowDocument](), errors: []errs.Code{errs.Conflict},
	},
		func(ctx context.Context, in *createInput) (*versioned[catalog.Workflow], error) {
			if len(in.RawBody) == 0 {
				return nil, errs.New(errs.Validation, "the request has no body; send a document with name and steps")
			}
			workflow, err := ask(ctx, a, catalog.ImportWorkflow, catalog.ImportRequest{Document: in.RawBody})
			return versionedWith(ctx, workflow, workflowVersion, err)
		})
	a.documentExport()
	register(a, route{
		method: http.MethodPost, path: "/workflows/{id}/duplicate", id: "duplicateWorkflow", tag: tag, summary: "Copy a workflow: the copy is a private DRAFT at version 1",
		status: http.StatusCreated, access: access{body: bodyLimit}, document: reflect.TypeFor[copyBody](), optional: true, errors: []errs.Code{errs.NotFound, errs.Conflict},
	},
		func(ctx context.Context, in *struct {
			OptionalInput
			KeyParam
		},
		) (*versioned[catalog.Workflow], error) {
			duplicate, err := in.request()
			if err != nil {
				return nil, err
			}
			thing, err := ask(ctx, a, catalog.DuplicateWorkflow, duplicate)
			return versionedWith(ctx, thing, workflowVersion, err)
		})
	register(a, route{
		method: http.MethodGet, path: "/workflows/{id}/diff", id: "diffWorkflow", tag: tag,
		summary: "Tell what makes one version of a workflow another: what changes in its fields and, by step key, in its steps", errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *struct {
			IDParam
			From int `query:"from" minimum:"1" maximum:"2147483647" doc:"a version; that before the other is the default" example:"2"`
			To   int `query:"to" minimum:"1" maximum:"2147483647" doc:"a version, also an earlier one; the newest is the default" example:"3"`
		},
		) (*answer[catalog.WorkflowDiff], error) {
			diff, err := ask(ctx, a, catalog.DiffWorkflow, catalog.DiffRequest{ID: in.ID, From: in.From, To: in.To})
			return answerWith(ctx, diff, err)
		})
	register(a, route{
		method: http.MethodPost, path: "/workflows/{id}/validate", id: "validateWorkflow", tag: tag,
		summary: "Tell all that is wrong with a workflow or, when there is a body, with what updateWorkflow would make of it; nothing is saved",
		access:  access{body: bodyLimit}, scope: tag + ":read", document: reflect.TypeFor[workflowPatch](), optional: true, errors: []errs.Code{errs.NotFound},
		repeated: "It changes nothing.",
	},
		func(ctx context.Context, in *OptionalInput) (*answer[catalog.Validation], error) {
			dry, err := in.request()
			if err != nil {
				return nil, err
			}
			validation, err := ask(ctx, a, catalog.ValidateWorkflow, catalog.ValidateRequest(dry))
			return answerWith(ctx, validation, err)
		})
}

// workflowDocument documents what POST workflows/import takes; /schemas/workflow says more.
type workflowDocument struct {
	Name   string           `json:"name"`
	Agents map[string]any   `json:"agents,omitempty" doc:"by the names that steps know them by"`
	Steps  []map[string]any `json:"steps" doc:"as of a workflow, with agent, a name among agents, instead of agentId"`
	WorkflowOptions
}

type exportInput struct {
	IDParam
	Format string `query:"format" enum:"json,yaml" default:"json"`
}

// exported is a document: in an envelope as JSON, as it is as YAML.
type exported struct {
	ContentType string `header:"Content-Type"`
	Body        any
}

func (a *API) export(ctx context.Context, in *exportInput) (*exported, error) {
	got, err := ask(ctx, a, catalog.ExportWorkflow, catalog.ExportRequest{ID: in.ID, Format: in.Format})
	if err != nil {
		return nil, err
	}
	if in.Format == catalog.FormatYAML {
		return &exported{ContentType: "application/yaml", Body: []byte(got.YAML)}, nil
	}
	return &exported{ContentType: "application/json", Body: enclose(ctx, got.JSON)}, nil
}

// The bounds of ?wait.
const (
	minWait = time.Second
	maxWait = 120 * time.Second
)

type executeInput struct {
	IDParam
	RawJSON
	Wait string `query:"wait" doc:"1s to 120s: answer when the execution has ended, at the latest then" example:"30s"`
	KeyParam
}

type executed struct {
	Status int
	Body   envelope[orchestrator.Execution]
}

// execute starts a workflow and, when asked to, waits for its end.
func (a *API) execute(ctx context.Context, in *executeInput) (*executed, error) {
	wait, err := parseWait(in.Wait)
	if err != nil {
		return nil, err
	}
	submit, err := parseExecute(in.RawBody, "inputs", "triggerType")
	if err != nil {
		return nil, err
	}
	submit.WorkflowID, submit.IdempotencyKey = in.ID, in.IdempotencyKey
	if submit.TriggerType == "" {
		submit.TriggerType = orchestrator.TriggerAPI
	}
	execution, status, err := a.submit(ctx, submit, wait)
	if err != nil {
		return nil, err
	}
	return &executed{Status: status, Body: enclose(ctx, execution)}, nil
}

// submit starts an execution and, when wait is not 0, waits for its end. The status tells how far that went.
func (a *API) submit(ctx context.Context, request orchestrator.SubmitRequest, wait time.Duration) (orchestrator.Execution, int, error) {
	accepted, err := ask(ctx, a, orchestrator.Submit, request)
	execution := accepted.Execution
	if err != nil || wait == 0 {
		return execution, http.StatusCreated, err
	}
	if !ended(execution) {
		if execution, err = a.awaitEnd(ctx, execution.ID, wait); err != nil {
			return execution, 0, err
		}
	}
	if !ended(execution) {
		return execution, http.StatusAccepted, nil
	}
	return execution, http.StatusOK, nil
}

// awaitEnd gives the execution when it has ended, or as it is when the wait is over or the
// gateway stops.
func (a *API) awaitEnd(ctx context.Context, id string, wait time.Duration) (orchestrator.Execution, error) {
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	defer context.AfterFunc(a.closing, cancel)()
	feed, err := a.Hub.Follow(waiting, id, 0, a.historyOf(id, requestOf(ctx).caller))
	if err == nil {
		defer feed.Close()
		err = a.aside(func() error { return a.untilEnd(waiting, feed) })
	}
	if err != nil && waiting.Err() == nil && !errors.Is(err, context.Canceled) {
		return orchestrator.Execution{}, err
	}
	return a.show(ctx, id)
}

// untilEnd returns nil when the execution of a feed has ended.
func (a *API) untilEnd(ctx context.Context, feed *live.Feed) error {
	return feed.Run(ctx, a.PingInterval, live.Reader{Event: func(live.Event) error { return nil }, Ping: func() error { return nil }})
}

// showTimeout is how long an execution may take to be shown: its payloads are read, and they may be large.
const showTimeout = 30 * time.Second

func (a *API) show(ctx context.Context, id string) (orchestrator.Execution, error) {
	ctx, cancel := context.WithTimeout(ctx, showTimeout)
	defer cancel()
	return ask(ctx, a, orchestrator.GetExecution, orchestrator.IDRequest{ID: id})
}

func ended(e orchestrator.Execution) bool {
	switch e.Status {
	case orchestrator.ExecutionCompleted, orchestrator.ExecutionFailed, orchestrator.ExecutionCancelled, orchestrator.ExecutionTimeout:
		return true
	}
	return false
}

// parseWait reads ?wait; 0 when it is absent.
func parseWait(given string) (time.Duration, error) {
	if given == "" {
		return 0, nil
	}
	wait, err := time.ParseDuration(given)
	if err != nil || wait < minWait || wait > maxWait {
		return 0, errs.Invalid("request", []errs.Detail{{Field: "wait", Message: "not a duration from 1s to 120s; give one like 30s", Code: errs.OutOfRange}})
	}
	return wait, nil
}

// parseExecute reads the body of execute, which may be absent. Its inputs, in the field of that name, stay as they are. Without a name for the type of its trigger it has none.
func parseExecute(body []byte, inputs, triggerType string) (orchestrator.SubmitRequest, error) {
	var submit orchestrator.SubmitRequest
	if len(body) == 0 {
		return submit, nil
	}
	if err := object(body); err != nil {
		return submit, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return submit, errs.Wrap(err, errs.Validation, "the body is not valid JSON; correct its syntax")
	}
	var faults []errs.Detail
	for name, value := range fields {
		switch name {
		case triggerType:
			if json.Unmarshal(value, &submit.TriggerType) != nil || submit.TriggerType != orchestrator.TriggerManual && submit.TriggerType != orchestrator.TriggerAPI {
				faults = append(faults, errs.Detail{Field: name, Message: "is neither; give MANUAL when a person asks for it, or API", Code: errs.BadEnum})
			}
		case inputs:
			submit.Inputs = value
			if value[0] != '{' && string(value) != "null" {
				faults = append(faults, errs.Detail{Field: name, Message: "not a JSON object; give one", Code: errs.BadType})
			}
		case "priority":
			if json.Unmarshal(value, &submit.Priority) != nil {
				faults = append(faults, errs.Detail{Field: name, Message: "not an integer; give a whole number", Code: errs.BadType})
			}
		default:
			faults = append(faults, errs.Detail{Field: name, Message: "unknown field; remove it", Code: errs.UnknownField})
		}
	}
	if faults != nil {
		return submit, errs.Invalid("request", faults)
	}
	if string(submit.Inputs) == "null" {
		submit.Inputs = nil
	}
	return submit, nil
}
