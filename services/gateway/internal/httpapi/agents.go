package httpapi

import (
	"context"
	"net/http"
	"reflect"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
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
	register(a, route{method: http.MethodGet, path: "/agents", id: "listAgents", tag: tag, summary: "List agents"},
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
		func(ctx context.Context, in *RawJSON) (*versioned[catalog.Agent], error) {
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
