package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
)

// newAgent documents what POST agents takes.
type newAgent struct {
	Name        string `json:"name"`
	Type        string `json:"type" enum:"CODE,API,LLM,DATA,WORKFLOW"`
	Config      any    `json:"config" doc:"depends on the type"`
	Description string `json:"description,omitempty"`
	AgentOptions
}

// agentPatch documents what PATCH agents/{id} takes.
type agentPatch struct {
	Name        string  `json:"name,omitempty"`
	Config      any     `json:"config,omitempty" doc:"replaced whole"`
	Description *string `json:"description,omitempty" nullable:"true"`
	AgentOptions
}

// AgentOptions is what an agent may be given beside name, type and config.
type AgentOptions struct {
	Status       string         `json:"status,omitempty" enum:"DRAFT,ACTIVE,INACTIVE,ARCHIVED"`
	InputSchema  nullableObject `json:"inputSchema,omitempty" doc:"a JSON Schema"`
	OutputSchema nullableObject `json:"outputSchema,omitempty" doc:"a JSON Schema"`
	Tags         []string       `json:"tags,omitempty"`
	IsPublic     bool           `json:"isPublic,omitempty"`
}

type agentFilter struct {
	PageParams
	SortParams
	TagsParam
	PublicParam
	Type   string `query:"type" enum:"CODE,API,LLM,DATA,WORKFLOW"`
	Status string `query:"status" enum:"DRAFT,ACTIVE,INACTIVE,ARCHIVED"`
}

func agentVersion(agent catalog.Agent) int { return agent.Version }

func (a *API) routeAgents() {
	const tag = "agents"
	register(a, route{method: http.MethodGet, path: "/agents", id: "listAgents", sorts: []string{"createdAt", "updatedAt", "name", "status"}, tag: tag, summary: "List agents"},
		func(ctx context.Context, in *agentFilter) (*listed[catalog.Agent], error) {
			list, err := ask(ctx, a, catalog.ListAgents, catalog.ListRequest{
				Page: page(in.PageParams, in.SortParams), Type: in.Type, Status: in.Status, Tags: in.Tags, IsPublic: in.value(),
			})
			return listedWith(ctx, list, err)
		})
	register(a, route{
		method: http.MethodPost, path: "/agents", id: "createAgent", tag: tag, summary: "Make an agent",
		status: http.StatusCreated, access: access{body: bodyLimit}, document: reflect.TypeFor[newAgent](), errors: []errs.Code{errs.Conflict},
	},
		func(ctx context.Context, in *createInput) (*versioned[catalog.Agent], error) {
			if err := object(in.RawBody); err != nil {
				return nil, err
			}
			agent, err := ask(ctx, a, catalog.CreateAgent, catalog.CreateRequest{Body: in.RawBody})
			return versionedWith(ctx, agent, agentVersion, err)
		})
	register(a, route{
		method: http.MethodGet, path: "/agents/{id}", id: "getAgent", tag: tag, summary: "Show an agent",
		errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *IDParam) (*versioned[catalog.Agent], error) {
			agent, err := ask(ctx, a, catalog.GetAgent, catalog.IDRequest{ID: in.ID})
			return versionedWith(ctx, agent, agentVersion, err)
		})
	register(a, route{
		method: http.MethodPatch, path: "/agents/{id}", id: "updateAgent", tag: tag, summary: "Change an agent",
		access: access{body: bodyLimit}, document: reflect.TypeFor[agentPatch](),
		errors: []errs.Code{errs.Forbidden, errs.NotFound, errs.Conflict, errs.PreconditionFailed},
	},
		func(ctx context.Context, in *patchInput) (*versioned[catalog.Agent], error) {
			patch, err := in.request()
			if err != nil {
				return nil, err
			}
			agent, err := ask(ctx, a, catalog.PatchAgent, patch)
			return versionedWith(ctx, agent, agentVersion, err)
		})
	register(a, route{
		method: http.MethodDelete, path: "/agents/{id}", id: "deleteAgent", tag: tag, summary: "Delete an agent",
		status: http.StatusNoContent, errors: []errs.Code{errs.Forbidden, errs.NotFound, errs.Conflict},
	},
		func(ctx context.Context, in *IDParam) (*struct{}, error) {
			_, err := ask(ctx, a, catalog.DeleteAgent, catalog.IDRequest{ID: in.ID})
			return &struct{}{}, err
		})
	register(a, route{
		method: http.MethodGet, path: "/agents/{id}/versions", id: "listAgentVersions", tag: tag, summary: "List the versions of an agent, newest first",
		errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *versionsInput) (*listed[catalog.AgentSnapshot], error) {
			list, err := ask(ctx, a, catalog.ListAgentVersions, in.request())
			return listedWith(ctx, list, err)
		})
	register(a, route{
		method: http.MethodGet, path: "/agents/{id}/versions/{version}", id: "getAgentVersion", tag: tag, summary: "Show a version of an agent",
		errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *versionInput) (*answer[catalog.AgentSnapshot], error) {
			version, err := ask(ctx, a, catalog.GetAgentVersion, catalog.VersionRequest{ID: in.ID, Version: in.Version})
			return answerWith(ctx, version, err)
		})
	register(a, route{
		method: http.MethodPost, path: "/agents/{id}/duplicate", id: "duplicateAgent", tag: tag, summary: "Copy an agent: the copy is a private DRAFT at version 1",
		status: http.StatusCreated, access: access{body: bodyLimit}, document: reflect.TypeFor[copyBody](), optional: true, errors: []errs.Code{errs.NotFound, errs.Conflict},
	},
		func(ctx context.Context, in *struct {
			OptionalInput
			KeyParam
		},
		) (*versioned[catalog.Agent], error) {
			duplicate, err := in.request()
			if err != nil {
				return nil, err
			}
			thing, err := ask(ctx, a, catalog.DuplicateAgent, duplicate)
			return versionedWith(ctx, thing, agentVersion, err)
		})
	register(a, route{
		method: http.MethodPost, path: "/agents/{id}/test", id: "testAgent", tag: tag,
		summary: "Run an agent once, outside any workflow; answers when it has ended (200) or the wait is over (202)",
		access:  access{body: executeBodyLimit}, document: reflect.TypeFor[testBody](), optional: true, errors: []errs.Code{errs.NotFound, errs.Conflict},
	}, a.testAgent)
	a.documentStatus("/agents/{id}/test", http.StatusOK, http.StatusAccepted)
	a.app.Get(prefix+"/schemas/agents/:type", func(c *fiber.Ctx) error {
		schema, err := catalog.ConfigSchema(c.Params("type"))
		if err != nil {
			return errs.New(errs.NotFound, "agents have no such type; give one of %s", strings.Join(catalog.AgentTypes(), ", "))
		}
		return sendSchema(c, schema)
	})
	a.app.Get(prefix+"/schemas/workflow", func(c *fiber.Ctx) error {
		schema, err := catalog.DocumentSchema()
		if err != nil {
			return err
		}
		return sendSchema(c, schema)
	})
	a.documentAsset(prefix+"/schemas/workflow", "getWorkflowSchema", "The JSON Schema of exported workflows, for editors", schemaType)
	a.documentAsset(prefix+"/schemas/agents/{type}", "getAgentSchema", "The JSON Schema of the config of agents of a type", schemaType, &huma.Param{
		Name: "type", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"CODE", "API", "LLM", "DATA", "WORKFLOW"}},
	})
}

// defaultTestWait is how long the answer to a test waits when nothing is said about it.
const defaultTestWait = 30 * time.Second

// testBody documents what POST agents/{id}/test takes.
type testBody struct {
	Input    map[string]any `json:"input,omitempty"`
	Priority int            `json:"priority,omitempty" doc:"9 runs first; 5 is the default"`
}

// AgentTest is how a test of an agent stands.
type AgentTest struct {
	ExecutionID string                 `json:"executionId" format:"uuid" doc:"of the execution that it is; it can be looked at, cancelled and retried as others can"`
	AgentID     string                 `json:"agentId" format:"uuid"`
	Status      string                 `json:"status" enum:"PENDING,RUNNING,PAUSED,COMPLETED,FAILED,CANCELLED,TIMEOUT"`
	Output      json.RawMessage        `json:"output"` // null until COMPLETED
	Error       *runner.StepError      `json:"error"`
	DurationMs  *int64                 `json:"durationMs"` // null until it has ended
	LogsURL     string                 `json:"logsUrl" doc:"where its log lines are"`
	Omitted     []orchestrator.Omitted `json:"omitted,omitempty"` // the output, when it is too large for this answer
}

type testInput struct {
	IDParam
	RawJSON
	Wait string `query:"wait" doc:"1s to 120s: how long the answer waits for the end; 30s is the default" example:"30s"`
	KeyParam
}

type tested struct {
	Status int
	Body   envelope[AgentTest]
}

// testAgent runs an agent once and waits for its end.
func (a *API) testAgent(ctx context.Context, in *testInput) (*tested, error) {
	wait, err := parseWait(in.Wait)
	if err != nil {
		return nil, err
	}
	if wait == 0 {
		wait = defaultTestWait
	}
	request, err := parseExecute(in.RawBody, "input", "")
	if err != nil {
		return nil, err
	}
	request.AgentID, request.TriggerType, request.IdempotencyKey = in.ID, orchestrator.TriggerManual, in.IdempotencyKey
	execution, status, err := a.submit(ctx, request, wait)
	if err != nil {
		return nil, err
	}
	test := AgentTest{
		ExecutionID: execution.ID, AgentID: in.ID, Status: execution.Status, Output: json.RawMessage("null"), Error: execution.Error,
		DurationMs: execution.DurationMs, LogsURL: prefix + "/executions/" + execution.ID + "/logs",
	}
	for _, s := range execution.Steps {
		test.Output = s.Output
	}
	for _, o := range execution.Omitted {
		if o.Field == "steps."+catalog.TestStep+".output" {
			test.Omitted = append(test.Omitted, orchestrator.Omitted{Field: "output", Bytes: o.Bytes})
		}
	}
	return &tested{Status: status, Body: enclose(ctx, test)}, nil
}

// patchInput is a change to an agent or a workflow.
type patchInput struct {
	IDParam
	MatchParam
	RawJSON
}

func (in *patchInput) request() (catalog.PatchRequest, error) {
	version, err := in.version()
	if err != nil {
		return catalog.PatchRequest{}, err
	}
	if err := object(in.RawBody); err != nil {
		return catalog.PatchRequest{}, err
	}
	return catalog.PatchRequest{ID: in.ID, Body: in.RawBody, IfMatch: version}, nil
}
