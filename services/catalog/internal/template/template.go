// Package template owns templates: what agents, workflows and steps are made of. A template is checked in full at save, so that what is
// made of it can be saved too.
package template

import (
	"context"
	"encoding/json"
	"reflect"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
	"turbocat.io/services/catalog/internal/access"
	"turbocat.io/services/catalog/internal/agent"
	"turbocat.io/services/catalog/internal/workflow"
)

// maxTemplates of a user, which bounds what sorting and counting his private ones takes.
const maxTemplates = 1000

// Store keeps templates. An id that is not there, deleted or no UUID is NOT_FOUND.
type Store interface {
	// Insert saves a new template; CONFLICT when the id is taken, also by a deleted one, and when its user has as many as one may have.
	Insert(ctx context.Context, t catalog.Template, most int) error
	// Find reads a template with the rating of a user, of nobody when that is "".
	Find(ctx context.Context, id, user string) (catalog.Template, error)
	// Update saves what change makes of the template, under a lock.
	Update(ctx context.Context, id string, change func(catalog.Template) (catalog.Template, error)) (catalog.Template, error)
	// Delete hides the template for ever. An owner other than "" must be its own.
	Delete(ctx context.Context, id, owner string, at time.Time) error
	// List reads a page of the public templates and of those of a user; of all when everything is true. Categories counts them.
	List(ctx context.Context, user string, everything bool, q catalog.ListTemplatesRequest) (rpc.List[catalog.Template], error)
	Categories(ctx context.Context, user string, everything bool) ([]catalog.TemplateCategory, error)
	// Rate keeps the one rating of a user.
	Rate(ctx context.Context, id, user string, rating int) error
	// Instantiate saves what was made of a template and counts it, all or nothing.
	Instantiate(ctx context.Context, id string, made catalog.TemplateInstance) error
	// Import saves a workflow and its agents, all or nothing.
	Import(ctx context.Context, w catalog.Workflow, agents []catalog.Agent) error
	// Keep saves an official template, unless it is there at this version or a later one.
	Keep(ctx context.Context, t catalog.Template) error
}

// Templates answers what callers ask about templates. It is safe for concurrent use.
type Templates struct {
	store     Store
	workflows Workflows
	agents    workflow.AgentFinder
	builder   builder
	now       func() time.Time
}

// Workflows gives a workflow that a caller may see.
type Workflows interface {
	Get(ctx context.Context, caller rpc.Caller, req catalog.IDRequest) (catalog.Workflow, error)
}

// New makes Templates over a store, and what exports read.
func New(store Store, workflows Workflows, agents workflow.AgentFinder, schemas agent.Schemas, now func() time.Time) *Templates {
	return &Templates{store: store, workflows: workflows, agents: agents, builder: builder{schemas}, now: now}
}

var fields = []string{
	"name", "description", "type", "category", "tags", "content", "isPublic",
	// Read-only ones that a client may send back; they are ignored.
	"id", "userId", "version", "isOfficial", "usageCount", "rating", "ratingCount", "ownRating", "createdAt", "updatedAt",
}

// read reads a client's body into a template and checks the whole.
func (s *Templates) read(body json.RawMessage, t *catalog.Template, create bool) error {
	var faults form.Faults
	o, ok := form.Read(body, &faults)
	if !ok {
		return faults.Err("template")
	}
	o.Require(create, "name", "type", "content")
	o.String("name", &t.Name, t.Name, 1, 200)
	o.String("description", &t.Description, "", 0, 5000)
	o.Enum("type", &t.Type, t.Type, catalog.TemplateTypes()...)
	o.String("category", &t.Category, "", 0, 50)
	o.Strings("tags", &t.Tags, 20, 1, 50)
	o.Object("content", &t.Content, t.Content)
	o.Bool("isPublic", &t.IsPublic, false)
	o.Only(fields...)
	if err := faults.Err("template"); err != nil {
		return err
	}
	_, err := s.builder.build(*t, wishesOf(*t), "content")
	return err
}

// wishesOf are what a template has of itself.
func wishesOf(t catalog.Template) wishes {
	return wishes{name: t.Name, description: t.Description, status: catalog.StatusDraft, tags: t.Tags}
}

// Create saves a new template of the caller.
func (s *Templates) Create(ctx context.Context, caller rpc.Caller, req catalog.CreateRequest) (catalog.Template, error) {
	id, err := access.NewID(caller, req.ID)
	if err != nil {
		return catalog.Template{}, err
	}
	t := catalog.Template{ID: id, UserID: &caller.UserID, Tags: []string{}, Version: 1, CreatedAt: s.time()}
	t.UpdatedAt = t.CreatedAt
	if err := s.read(req.Body, &t, true); err != nil {
		return catalog.Template{}, err
	}
	return t, s.store.Insert(ctx, t, maxTemplates)
}

// owner is whose a template is; "" for an official one, which only an ADMIN may change.
func owner(t catalog.Template) string {
	if t.UserID == nil {
		return ""
	}
	return *t.UserID
}

// Get reads one template that the caller may see.
func (s *Templates) Get(ctx context.Context, caller rpc.Caller, req catalog.IDRequest) (catalog.Template, error) {
	t, err := s.store.Find(ctx, req.ID, caller.UserID)
	if err != nil {
		return catalog.Template{}, err
	}
	if !access.CanSee(caller, owner(t), t.IsPublic) {
		return catalog.Template{}, access.NotFound("template", req.ID)
	}
	return t, nil
}

// List reads a page of what the caller may see.
func (s *Templates) List(ctx context.Context, caller rpc.Caller, req catalog.ListTemplatesRequest) (rpc.List[catalog.Template], error) {
	return s.store.List(ctx, caller.UserID, caller.IsAdmin(), req)
}

// Categories counts what the caller may see, by category.
func (s *Templates) Categories(ctx context.Context, caller rpc.Caller, _ rpc.Empty) (catalog.TemplateCategoriesResponse, error) {
	categories, err := s.store.Categories(ctx, caller.UserID, caller.IsAdmin())
	return catalog.TemplateCategoriesResponse{Categories: categories}, err
}

// Patch changes a template of the caller: an absent field stays, null clears. Every change makes the next version.
func (s *Templates) Patch(ctx context.Context, caller rpc.Caller, req catalog.PatchRequest) (catalog.Template, error) {
	return s.store.Update(ctx, req.ID, func(current catalog.Template) (catalog.Template, error) {
		if err := access.Change(caller, "template", req.ID, owner(current), current.Version, req.IfMatch); err != nil {
			return current, err
		}
		if current.IsOfficial {
			return current, errs.New(errs.Conflict, "an official template is changed by a new release alone; make one of your own of its content")
		}
		next := current
		if err := s.read(req.Body, &next, false); err != nil {
			return current, err
		}
		if !reflect.DeepEqual(next, current) {
			next.Version, next.UpdatedAt = current.Version+1, s.time()
		}
		return next, nil
	})
}

// Delete hides a template of the caller for ever; what was made of it stays.
func (s *Templates) Delete(ctx context.Context, caller rpc.Caller, req catalog.IDRequest) (rpc.Empty, error) {
	by, err := access.ChangeOwner(caller, "template", req.ID)
	if err != nil {
		return rpc.Empty{}, err
	}
	return rpc.Empty{}, s.store.Delete(ctx, req.ID, by, s.time())
}

// Rate keeps what the caller thinks of a template, instead of what he thought before.
func (s *Templates) Rate(ctx context.Context, caller rpc.Caller, req catalog.RateTemplateRequest) (catalog.Template, error) {
	if caller.UserID == "" {
		return catalog.Template{}, errs.New(errs.Unauthorized, "log in to rate a template")
	}
	if req.Rating < 1 || req.Rating > 5 {
		return catalog.Template{}, errs.Invalid("request", []errs.Detail{{Field: "rating", Message: "must be a whole number from 1 to 5", Code: errs.OutOfRange}})
	}
	if _, err := s.Get(ctx, caller, catalog.IDRequest{ID: req.ID}); err != nil {
		return catalog.Template{}, err
	}
	if err := s.store.Rate(ctx, req.ID, caller.UserID, req.Rating); err != nil {
		return catalog.Template{}, err
	}
	return s.store.Find(ctx, req.ID, caller.UserID)
}

// Instantiate makes what a template is of, for the caller.
func (s *Templates) Instantiate(ctx context.Context, caller rpc.Caller, req catalog.InstantiateRequest) (catalog.TemplateInstance, error) {
	t, err := s.Get(ctx, caller, catalog.IDRequest{ID: req.ID})
	if err != nil {
		return catalog.TemplateInstance{}, err
	}
	if _, err := access.NewID(caller, ""); err != nil {
		return catalog.TemplateInstance{}, err
	}
	w, err := readWishes(t, req.Body)
	if err != nil {
		return catalog.TemplateInstance{}, err
	}
	made, err := s.builder.build(t, w, "content")
	if err != nil {
		return catalog.TemplateInstance{}, err
	}
	now := s.time()
	own := func(a *catalog.Agent) {
		a.UserID, a.SourceID, a.CreatedAt, a.UpdatedAt = caller.UserID, &t.ID, now, now
	}
	instance := catalog.TemplateInstance{ResourceType: t.Type, Agent: made.Agent, Workflow: made.Workflow, Step: made.Step, Agents: []catalog.Agent{}}
	for i := range made.Agents {
		own(&made.Agents[i])
	}
	if made.Agents != nil {
		instance.Agents = made.Agents
	}
	switch {
	case made.Agent != nil:
		own(made.Agent)
		instance.ID = &made.Agent.ID
	case made.Workflow != nil:
		wf := made.Workflow
		if wf.ID, err = access.NewID(caller, ""); err != nil {
			return catalog.TemplateInstance{}, err
		}
		wf.UserID, wf.SourceID, wf.CreatedAt, wf.UpdatedAt = caller.UserID, &t.ID, now, now
		instance.ID = &wf.ID
	}
	return instance, s.store.Instantiate(ctx, t.ID, instance)
}

// readWishes reads what a client wants other than the template has it, straight in the body or in customizations.
func readWishes(t catalog.Template, body json.RawMessage) (wishes, error) {
	w := wishesOf(t)
	if len(body) == 0 {
		return w, nil
	}
	var faults form.Faults
	o, ok := form.Read(body, &faults)
	if !ok {
		return w, faults.Err("request")
	}
	names := []string{"name", "description", "tags", "status"}
	switch t.Type {
	case catalog.TemplateAgent:
		names = append(names, "isPublic", "config")
	case catalog.TemplateWorkflow:
		names = append(names, "isPublic")
	}
	w.read(o)
	if o.Has("customizations") && !o.IsNull("customizations") {
		var raw json.RawMessage
		o.Object("customizations", &raw, nil)
		if inner, ok := form.Open("customizations", raw, &faults); raw != nil && ok {
			w.read(inner)
			inner.Only(names...)
		}
	}
	o.Only(append(names, "customizations")...)
	return w, faults.Err("request")
}

func (w *wishes) read(o form.Object) {
	o.String("name", &w.name, w.name, 1, 200)
	o.String("description", &w.description, "", 0, 5000)
	o.Strings("tags", &w.tags, 20, 1, 50)
	o.Enum("status", &w.status, catalog.StatusDraft, agent.Statuses()...)
	o.Bool("isPublic", &w.isPublic, false)
	o.Object("config", &w.config, nil)
}

// time is now as the database keeps it.
func (s *Templates) time() time.Time { return s.now().UTC().Truncate(time.Microsecond) }
