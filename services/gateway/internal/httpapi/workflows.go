package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"time"

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
	Description     string         `json:"description,omitempty"`
	Status          string         `json:"status,omitempty" enum:"DRAFT,ACTIVE,INACTIVE,ARCHIVED"`
	InputSchema     nullableObject `json:"inputSchema,omitempty" doc:"a JSON Schema"`
	Outputs         any            `json:"outputs,omitempty" doc:"templates"`
	TimeoutMs       int64          `json:"timeoutMs,omitempty"`
	Concurrency     nullableObject `json:"concurrency,omitempty" doc:"max, key and onLimit"`
	Priority        int            `json:"priority,omitempty"`
	StrictTemplates bool           `json:"strictTemplates,omitempty"`
	Tags            []string       `json:"tags,omitempty"`
	IsPublic        bool           `json:"isPublic,omitempty"`
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
}

// executeBody documents what POST workflows/{id}/execute takes.
type executeBody struct {
	Inputs   map[string]any `json:"inputs,omitempty"`
	Priority int            `json:"priority,omitempty" doc:"9 runs first; that of the workflow is the default"`
}

type workflowFilter struct {
	PageParams
	SortParams
	TagsParam
	PublicParam
	Status string `query:"status" enum:"DRAFT,ACTIVE,INACTIVE,ARCHIVED"`
}

func workflowVersion(w catalog.Workflow) int { return w.Version }

func (a *API) routeWorkflows() {
	const tag = "workflows"
	register(a, route{method: http.MethodGet, path: "/workflows", id: "listWorkflows", tag: tag, summary: "List workflows, without their steps"},
		func(ctx context.Context, in *workflowFilter) (*listed[catalog.Workflow], error) {
			list, err := ask(ctx, a, catalog.ListWorkflows, catalog.ListRequest{
				Page: page(in.PageParams, in.SortParams), Status: in.Status, Tags: in.Tags, IsPublic: in.value(),
			})
			return listedWith(ctx, list, err)
		})
	register(a, route{
		method: http.MethodPost, path: "/workflows", id: "createWorkflow", tag: tag, summary: "Make a workflow",
		status: http.StatusCreated, access: access{body: bodyLimit}, document: reflect.TypeFor[newWorkflow](), errors: []errs.Code{errs.Conflict},
	},
		func(ctx context.Context, in *RawJSON) (*versioned[catalog.Workflow], error) {
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
		method: http.MethodGet, path: "/workflows/{id}/executions", id: "listWorkflowExecutions", tag: tag,
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
	submit, err := parseExecute(in.RawBody)
	if err != nil {
		return nil, err
	}
	submit.WorkflowID, submit.TriggerType, submit.IdempotencyKey = in.ID, orchestrator.TriggerAPI, in.IdempotencyKey
	accepted, err := ask(ctx, a, orchestrator.Submit, submit)
	if err != nil {
		return nil, err
	}
	if wait == 0 {
		return &executed{Status: http.StatusCreated, Body: enclose(ctx, accepted.Execution)}, nil
	}
	execution := accepted.Execution
	if !ended(execution) {
		if execution, err = a.awaitEnd(ctx, execution.ID, wait); err != nil {
			return nil, err
		}
	}
	status := http.StatusAccepted
	if ended(execution) {
		status = http.StatusOK
	}
	return &executed{Status: status, Body: enclose(ctx, execution)}, nil
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
		err = feed.Run(waiting, a.PingInterval, func(live.Event) error { return nil }, func() error { return nil })
	}
	if err != nil && waiting.Err() == nil && !errors.Is(err, context.Canceled) {
		return orchestrator.Execution{}, err
	}
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

// parseExecute reads the body of execute, which may be absent. Inputs stay as they are.
func parseExecute(body []byte) (orchestrator.SubmitRequest, error) {
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
		case "inputs":
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
