package httpapi

import (
	"context"
	"net/http"
	"reflect"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
)

// newTemplate documents what POST templates takes.
type newTemplate struct {
	Name    string         `json:"name"`
	Type    string         `json:"type" enum:"AGENT,WORKFLOW,STEP"`
	Content map[string]any `json:"content" doc:"of an AGENT its type, config, inputSchema and outputSchema; of a WORKFLOW its steps, what else it has, and agents by name, which steps name as agent; of a STEP step and agents"`
	TemplateOptions
}

// templatePatch documents what PATCH templates/{id} takes.
type templatePatch struct {
	Name    string         `json:"name,omitempty"`
	Type    string         `json:"type,omitempty" enum:"AGENT,WORKFLOW,STEP"`
	Content map[string]any `json:"content,omitempty" doc:"replaced whole"`
	TemplateOptions
}

// TemplateOptions is what a template may be given beside name, type and content.
type TemplateOptions struct {
	Description string   `json:"description,omitempty"`
	Category    string   `json:"category,omitempty" maxLength:"50"`
	Tags        []string `json:"tags,omitempty"`
	IsPublic    bool     `json:"isPublic,omitempty" doc:"everybody may see and instantiate it"`
}

// instantiateBody documents what POST templates/{id}/instantiate takes.
type instantiateBody struct {
	Customizations InstantiateOptions `json:"customizations,omitempty" doc:"may stand straight in the body as well"`
	InstantiateOptions
}

// InstantiateOptions is what somebody wants other than the template has it.
type InstantiateOptions struct {
	Name        string         `json:"name,omitempty"`
	Description string         `json:"description,omitempty"`
	Tags        []string       `json:"tags,omitempty"`
	Status      string         `json:"status,omitempty" enum:"DRAFT,ACTIVE,INACTIVE,ARCHIVED" doc:"also of the agents that are made with it; DRAFT is the default"`
	IsPublic    bool           `json:"isPublic,omitempty" doc:"of an AGENT or a WORKFLOW"`
	Config      map[string]any `json:"config,omitempty" doc:"of an AGENT: fields that replace those of its config"`
}

// rateBody is what POST templates/{id}/rate takes.
type rateBody struct {
	Rating int `json:"rating" minimum:"1" maximum:"5"`
}

type templateFilter struct {
	PageParams
	SortParams
	TagsParam
	PublicParam
	Type       string `query:"type" enum:"AGENT,WORKFLOW,STEP"`
	Category   string `query:"category" maxLength:"50" example:"examples"`
	IsOfficial string `query:"isOfficial" enum:"true,false"`
}

func templateVersion(t catalog.Template) int { return t.Version }

func (a *API) routeTemplates() {
	const tag, all, one = "templates", "/templates", "/templates/{id}"
	open := access{anonymous: true, optional: true}
	register(a, route{method: http.MethodGet, path: all, id: "listTemplates", sorts: []string{"createdAt", "name", "usageCount", "rating"}, tag: tag, access: open, summary: "List templates: the public ones, and one's own"},
		func(ctx context.Context, in *templateFilter) (*listed[catalog.Template], error) {
			list, err := ask(ctx, a, catalog.ListTemplates, catalog.ListTemplatesRequest{
				Page: page(in.PageParams, in.SortParams), Type: in.Type, Category: in.Category, Tags: in.Tags,
				IsPublic: in.value(), IsOfficial: PublicParam{in.IsOfficial}.value(),
			})
			return listedWith(ctx, list, err)
		})
	register(a, route{method: http.MethodGet, path: "/templates/categories", id: "listTemplateCategories", tag: tag, access: open, summary: "List the categories of templates, with how many are in each"},
		func(ctx context.Context, _ *struct{}) (*answer[[]catalog.TemplateCategory], error) {
			got, err := ask(ctx, a, catalog.TemplateCategories, struct{}{})
			if got.Categories == nil {
				got.Categories = []catalog.TemplateCategory{}
			}
			return answerWith(ctx, got.Categories, err)
		})
	register(a, route{method: http.MethodGet, path: one, id: "getTemplate", tag: tag, access: open, summary: "Show a template", errors: []errs.Code{errs.NotFound}},
		func(ctx context.Context, in *IDParam) (*versioned[catalog.Template], error) {
			t, err := ask(ctx, a, catalog.GetTemplate, catalog.IDRequest{ID: in.ID})
			return versionedWith(ctx, t, templateVersion, err)
		})
	register(a, route{
		method: http.MethodPost, path: all, id: "createTemplate", tag: tag, summary: "Make a template",
		status: http.StatusCreated, access: access{body: bodyLimit}, document: reflect.TypeFor[newTemplate](), errors: []errs.Code{errs.Conflict},
	},
		func(ctx context.Context, in *createInput) (*versioned[catalog.Template], error) {
			if err := object(in.RawBody); err != nil {
				return nil, err
			}
			t, err := ask(ctx, a, catalog.CreateTemplate, catalog.CreateRequest{Body: in.RawBody})
			return versionedWith(ctx, t, templateVersion, err)
		})
	register(a, route{
		method: http.MethodPatch, path: one, id: "updateTemplate", tag: tag, summary: "Change a template",
		access: access{body: bodyLimit}, document: reflect.TypeFor[templatePatch](), errors: []errs.Code{errs.NotFound, errs.Conflict, errs.PreconditionFailed},
	},
		func(ctx context.Context, in *patchInput) (*versioned[catalog.Template], error) {
			patch, err := in.request()
			if err != nil {
				return nil, err
			}
			t, err := ask(ctx, a, catalog.PatchTemplate, patch)
			return versionedWith(ctx, t, templateVersion, err)
		})
	register(a, route{
		method: http.MethodDelete, path: one, id: "deleteTemplate", tag: tag, summary: "Delete a template; what was made of it stays",
		status: http.StatusNoContent, errors: []errs.Code{errs.NotFound, errs.Conflict},
	},
		func(ctx context.Context, in *IDParam) (*struct{}, error) {
			_, err := ask(ctx, a, catalog.DeleteTemplate, catalog.IDRequest{ID: in.ID})
			return &struct{}{}, err
		})
	register(a, route{
		method: http.MethodPost, path: one + "/rate", id: "rateTemplate", tag: tag, summary: "Rate a template, or change one's rating of it",
		access: access{body: bodyLimit}, errors: []errs.Code{errs.NotFound},
		repeated: "Sent twice it does what it does once: a user has one rating of a template.",
	},
		func(ctx context.Context, in *struct {
			IDParam
			Body rateBody
		},
		) (*versioned[catalog.Template], error) {
			t, err := ask(ctx, a, catalog.RateTemplate, catalog.RateTemplateRequest{ID: in.ID, Rating: in.Body.Rating})
			return versionedWith(ctx, t, templateVersion, err)
		})
	register(a, route{
		method: http.MethodPost, path: one + "/instantiate", id: "instantiateTemplate", tag: tag, summary: "Make an agent, a workflow with its agents, or a step with its agents, of a template",
		status: http.StatusCreated, access: access{body: bodyLimit}, document: reflect.TypeFor[instantiateBody](), optional: true, errors: []errs.Code{errs.NotFound, errs.Conflict},
	},
		func(ctx context.Context, in *struct {
			OptionalInput
			KeyParam
		},
		) (*answer[catalog.TemplateInstance], error) {
			if len(in.RawBody) > 0 {
				if err := object(in.RawBody); err != nil {
					return nil, err
				}
			}
			made, err := ask(ctx, a, catalog.InstantiateTemplate, catalog.InstantiateRequest{ID: in.ID, Body: in.RawBody})
			return answerWith(ctx, made, err)
		})
}
