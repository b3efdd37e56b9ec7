package catalog

import (
	"encoding/json"
	"time"

	"turbocat.io/contracts/rpc"
)

// Template types: what is made of a template.
const (
	TemplateAgent    = "AGENT"
	TemplateWorkflow = "WORKFLOW" // and the agents that it names
	TemplateStep     = "STEP"     // for a workflow, and the agents that it names
)

// TemplateTypes gives all of them.
func TemplateTypes() []string { return []string{TemplateAgent, TemplateWorkflow, TemplateStep} }

// Template is something to make agents, workflows or steps of.
type Template struct {
	ID          string          `json:"id" format:"uuid"`
	UserID      *string         `json:"userId"` // null for an official one
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Type        string          `json:"type" enum:"AGENT,WORKFLOW,STEP"`
	Category    string          `json:"category"`
	Tags        []string        `json:"tags"`
	Content     json.RawMessage `json:"content"` // an agent; a workflow with agents; a step with agents
	Version     int             `json:"version"`
	IsPublic    bool            `json:"isPublic"`
	IsOfficial  bool            `json:"isOfficial"`
	UsageCount  int64           `json:"usageCount"`  // how often it was instantiated
	Rating      *float64        `json:"rating"`      // the mean of all ratings, 1 to 5; null for none
	RatingCount int64           `json:"ratingCount"` // users who have rated it
	OwnRating   *int            `json:"ownRating"`   // of who asks; null in lists, and for none
	CreatedAt   time.Time       `json:"createdAt"`
	UpdatedAt   time.Time       `json:"updatedAt"`
}

// ListTemplatesRequest asks for a page of the templates that the caller may see: the public ones and his own.
type ListTemplatesRequest struct {
	rpc.Page
	Type       string   `json:"type,omitempty"`
	Category   string   `json:"category,omitempty"`
	Tags       []string `json:"tags,omitempty"`
	IsOfficial *bool    `json:"isOfficial,omitempty"`
	IsPublic   *bool    `json:"isPublic,omitempty"`
}

// TemplateCategory is a category with the number of templates in it that the caller may see.
type TemplateCategory struct {
	Category string `json:"category"`
	Count    int    `json:"count"`
}

// TemplateCategoriesResponse lists the categories by name.
type TemplateCategoriesResponse struct {
	Categories []TemplateCategory `json:"categories"`
}

// InstantiateRequest makes what a template is of. Body may be absent.
type InstantiateRequest struct {
	ID   string          `json:"id"`
	Body json.RawMessage `json:"body,omitempty"` // name, description, tags, config, isPublic and status, each instead of the template's
}

// TemplateInstance is what was made of a template.
type TemplateInstance struct {
	ResourceType string    `json:"resourceType" enum:"AGENT,WORKFLOW,STEP"`
	ID           *string   `json:"id"`       // of the agent or the workflow; null for a STEP
	Agent        *Agent    `json:"agent"`    // of an AGENT
	Workflow     *Workflow `json:"workflow"` // of a WORKFLOW
	Step         *Step     `json:"step"`     // of a STEP; to be put among the steps of a workflow
	Agents       []Agent   `json:"agents"`   // that the workflow or the step names, made with it
}

// RateTemplateRequest rates a template, or changes the caller's rating.
type RateTemplateRequest struct {
	ID     string `json:"id"`
	Rating int    `json:"rating"` // 1 to 5
}

// The methods about templates.
var (
	ListTemplates       = rpc.Method[ListTemplatesRequest, rpc.List[Template]]{Service: Service, Name: "list_templates", Version: 1}
	TemplateCategories  = rpc.Method[rpc.Empty, TemplateCategoriesResponse]{Service: Service, Name: "template_categories", Version: 1}
	GetTemplate         = rpc.Method[IDRequest, Template]{Service: Service, Name: "get_template", Version: 1}
	CreateTemplate      = rpc.Method[CreateRequest, Template]{Service: Service, Name: "create_template", Version: 1}
	PatchTemplate       = rpc.Method[PatchRequest, Template]{Service: Service, Name: "patch_template", Version: 1}
	DeleteTemplate      = rpc.Method[IDRequest, rpc.Empty]{Service: Service, Name: "delete_template", Version: 1}
	RateTemplate        = rpc.Method[RateTemplateRequest, Template]{Service: Service, Name: "rate_template", Version: 1}
	InstantiateTemplate = rpc.Method[InstantiateRequest, TemplateInstance]{Service: Service, Name: "instantiate_template", Version: 1}
)
