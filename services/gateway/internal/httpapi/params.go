package httpapi

import (
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
)

// The parameters that several routes share. They are exported because huma skips embedded
// structs that are not.

// queryParameters gives the names of the parameters that each operation of a document takes behind the question mark, in order.
func queryParameters(document *huma.OpenAPI) map[string][]string {
	names := map[string][]string{}
	for _, op := range operations(document) {
		for _, p := range op.Parameters {
			if p.In == "query" {
				names[op.OperationID] = append(names[op.OperationID], p.Name)
			}
		}
		slices.Sort(names[op.OperationID])
	}
	return names
}

// checkParameters refuses parameters that the operation does not take: a filter that is misspelt would let everything through.
func (a *API) checkParameters(c *fiber.Ctx, operation string) error {
	known := a.queries[operation]
	right := "this route takes none"
	if len(known) > 0 {
		right = "this route takes " + strings.Join(known, ", ")
	}
	var faults form.Faults
	told := map[string]bool{}
	for key := range c.Context().QueryArgs().All() {
		if name := string(key); !slices.Contains(known, name) && !told[name] {
			told[name] = true
			faults.Add(form.Join("", name), errs.UnknownField, "unknown parameter; %s", right)
		}
	}
	return faults.Err("query")
}

// IDParam names the thing a route is about.
type IDParam struct {
	ID string `path:"id" format:"uuid" minLength:"36" maxLength:"36"`
}

// VersionParam names a version of the thing.
type VersionParam struct {
	Version int `path:"version" minimum:"1" maximum:"2147483647" example:"3"`
}

// RawJSON is a JSON object that the service behind checks itself, so that all faults are reported at once.
type RawJSON struct {
	RawBody []byte `contentType:"application/json"`
}

// PageParams choose a part of a list.
type PageParams struct {
	Page     int    `query:"page" minimum:"1" maximum:"1000000" doc:"from 1, which is the default; not together with cursor" example:"2"`
	PageSize int    `query:"pageSize" minimum:"1" maximum:"100" default:"20"`
	Cursor   string `query:"cursor" maxLength:"1024" doc:"the nextCursor of an earlier answer" example:"eyJzIjoiY3JlYXRlZEF0IiwibyI6ImRlc2MiLCJ2IjoiMTc5NTM5NzYwNzg0OTk4MCIsImkiOiIwMWEyMDYwYS1lODQ4IiwicCI6Mn0"`
	Search   string `query:"search" maxLength:"256" example:"ord"`
}

// Resolve refuses two ways at once of saying where the page begins.
func (p *PageParams) Resolve(huma.Context) []error {
	if p.Page != 0 && p.Cursor != "" {
		return []error{&huma.ErrorDetail{Location: "query.page", Message: "page and cursor exclude each other; give one of them"}}
	}
	return nil
}

// SortParams order a list; a route that has them declares by what.
type SortParams struct {
	SortBy    string `query:"sortBy" doc:"createdAt is the default"`
	SortOrder string `query:"sortOrder" enum:"asc,desc" doc:"desc is the default"`
}

func page(p PageParams, s SortParams) rpc.Page {
	return rpc.Page{Page: p.Page, PageSize: p.PageSize, Cursor: p.Cursor, Search: p.Search, SortBy: s.SortBy, SortOrder: s.SortOrder}
}

// VersionsParams choose a part of the versions of a thing, which have one order: the newest first.
type VersionsParams struct {
	Page     int    `query:"page" minimum:"1" maximum:"1000000" doc:"from 1, which is the default; not together with cursor" example:"2"`
	PageSize int    `query:"pageSize" minimum:"1" maximum:"100" default:"20"`
	Cursor   string `query:"cursor" maxLength:"1024" doc:"the nextCursor of an earlier answer" example:"eyJzIjoiY3JlYXRlZEF0IiwibyI6ImRlc2MiLCJ2IjoiMTc5NTM5NzYwNzg0OTk4MCIsImkiOiIwMWEyMDYwYS1lODQ4IiwicCI6Mn0"`
}

// versionsInput asks for versions of the thing.
type versionsInput struct {
	IDParam
	VersionsParams
}

func (in *versionsInput) request() catalog.VersionsRequest {
	return catalog.VersionsRequest{ID: in.ID, Page: rpc.Page{Page: in.Page, PageSize: in.PageSize, Cursor: in.Cursor}}
}

// versionInput asks for one version of the thing.
type versionInput struct {
	IDParam
	VersionParam
}

// createInput makes something.
type createInput struct {
	RawJSON
	KeyParam
}

// OptionalInput is about a thing and may have a body.
type OptionalInput struct {
	IDParam
	RawJSON
}

// copyBody documents what a copy may be given.
type copyBody struct {
	Name string `json:"name,omitempty" minLength:"1" maxLength:"200" doc:"the name of the source with \"(copy)\" behind it is the default"`
}

func (in *OptionalInput) request() (catalog.DuplicateRequest, error) {
	if len(in.RawBody) > 0 {
		if err := object(in.RawBody); err != nil {
			return catalog.DuplicateRequest{}, err
		}
	}
	return catalog.DuplicateRequest{ID: in.ID, Body: in.RawBody}, nil
}

// TagsParam selects by tags, given as tags=a,b or as tags=a&tags=b.
type TagsParam struct {
	Tags []string `query:"tags" doc:"things that have all of these, divided by commas" example:"[\"math\",\"demo\"]"`
}

// Resolve gathers repeated parameters, of which only the first is parsed.
func (p *TagsParam) Resolve(ctx huma.Context) []error {
	p.Tags = nil
	for _, given := range humafiber.Unwrap(ctx).Context().QueryArgs().PeekMulti("tags") {
		for tag := range strings.SplitSeq(string(given), ",") {
			if tag = strings.TrimSpace(tag); tag != "" {
				p.Tags = append(p.Tags, tag)
			}
		}
	}
	return nil
}

// PublicParam selects by isPublic.
type PublicParam struct {
	IsPublic string `query:"isPublic" enum:"true,false"`
}

func (p PublicParam) value() *bool { return given(p.IsPublic) }

// given reads a parameter that is true, false or absent.
func given(parameter string) *bool {
	if parameter == "" {
		return nil
	}
	value := parameter == "true"
	return &value
}

// MatchParam makes a change conditional.
type MatchParam struct {
	IfMatch string `header:"If-Match" doc:"the ETag of the version to change" example:"\"3\""`
}

// version gives the version that must still be current; 0 when any will do.
func (p MatchParam) version() (int, error) {
	given := strings.TrimSpace(p.IfMatch)
	if given == "" || given == "*" {
		return 0, nil
	}
	version, err := strconv.Atoi(strings.Trim(given, `"`))
	if err != nil || version < 1 || given != strconv.Quote(strconv.Itoa(version)) {
		return 0, errs.New(errs.PreconditionFailed, `If-Match names no version; send the ETag of an earlier answer, like "3" in quotes`)
	}
	return version, nil
}
