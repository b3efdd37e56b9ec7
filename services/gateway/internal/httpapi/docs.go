package httpapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/swaggest/swgui/v5emb"

	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/service"
)

// nullableObject documents a field that takes a JSON object or null.
type nullableObject map[string]any

// Schema is the field's part of the document.
func (nullableObject) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, Nullable: true, AdditionalProperties: true}
}

func humaConfig() huma.Config {
	config := huma.DefaultConfig("Turbocat", service.Version)
	config.Info.Description = "Runs multi-agent workflows. Every answer is an envelope: success, data or error, requestId; lists add meta.pagination."
	// The routes below serve document and UI; no answer carries links to schemas.
	config.OpenAPIPath, config.DocsPath, config.SchemasPath, config.CreateHooks = "", "", "", nil
	// The second is what huma writes its errors in, before observe replaces them.
	config.Formats = map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "application/problem+json": huma.DefaultJSONFormat}
	config.Components.SecuritySchemes, config.Components.Responses = securitySchemes(), map[string]*huma.Response{}
	return config
}

// operations gives each operation of a document with its path, in no order.
func operations(document *huma.OpenAPI) iter.Seq2[string, *huma.Operation] {
	return func(yield func(string, *huma.Operation) bool) {
		for path, item := range document.Paths {
			for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
				if op != nil && !yield(path, op) {
					return
				}
			}
		}
	}
}

// routeDocs serves the document and an interactive page of it. It comes after all other routes.
func (a *API) routeDocs() {
	const documentPath, pagePath = prefix + "/openapi.json", prefix + "/docs"
	a.documentAsset(documentPath, "getOpenAPI", "This document", "application/json")
	a.documentAsset(pagePath, "getDocs", "This document as an interactive page", "text/html")
	a.polishSchemas()
	a.addExamples()
	document := sync.OnceValues(func() ([]byte, error) { return json.Marshal(a.huma.OpenAPI()) })
	a.app.Get(documentPath, func(c *fiber.Ctx) error {
		body, err := document()
		if err != nil {
			return fmt.Errorf("encode the OpenAPI document: %w", err)
		}
		c.Set("Content-Type", "application/json")
		return c.Send(body)
	})
	ui := adaptor.HTTPHandler(v5emb.New("Turbocat", documentPath, pagePath+"/"))
	page := func(c *fiber.Ctx) error {
		c.Set("Content-Security-Policy", docsPolicy)
		return ui(c)
	}
	a.app.Get(pagePath, page)
	a.app.Get(pagePath+"/*", func(c *fiber.Ctx) error {
		if err := page(c); err != nil {
			return err
		}
		if c.Response().StatusCode() == http.StatusNotFound {
			return fiber.ErrNotFound
		}
		c.Set("Cache-Control", "public, max-age=3600")
		return nil
	})
}

const schemaType = "application/schema+json"

// sendSchema answers a JSON Schema as it is, for editors that read it from here.
func sendSchema(c *fiber.Ctx, schema []byte) error {
	c.Set("Content-Type", schemaType)
	c.Set("Cache-Control", "public, max-age=3600")
	return c.Send(schema)
}

func (a *API) documentAsset(path, id, summary, contentType string, params ...*huma.Param) {
	r := route{access: access{anonymous: true}}
	if len(params) > 0 {
		r.errors = []errs.Code{errs.NotFound}
	}
	responses := a.errorResponses(r)
	responses["200"] = &huma.Response{
		Description: http.StatusText(http.StatusOK),
		Content:     map[string]*huma.MediaType{contentType: {Schema: &huma.Schema{}}},
	}
	a.huma.OpenAPI().AddOperation(&huma.Operation{
		Method: http.MethodGet, Path: path, OperationID: id, Tags: []string{"docs"}, Summary: summary, Parameters: params, Responses: responses,
	})
}

// documentExport says of the document of a workflow, which is answered and taken in two formats, what the types of the handlers can not.
func (a *API) documentExport() {
	paths, registry := a.huma.OpenAPI().Paths, a.huma.OpenAPI().Components.Schemas
	document := registry.Schema(reflect.TypeFor[workflowDocument](), true, "")
	exported := paths[prefix+"/workflows/{id}/export"].Get.Responses["200"]
	exported.Headers = nil
	exported.Content = map[string]*huma.MediaType{
		"application/json": {Schema: registry.Schema(reflect.TypeFor[envelope[workflowDocument]](), true, "")},
		"application/yaml": {Schema: document},
	}
	paths[prefix+"/workflows/import"].Post.RequestBody.Content["application/yaml"] = &huma.MediaType{Schema: document}
}

// documentStatus gives further statuses of a POST the same answer as one it has.
func (a *API) documentStatus(path string, as int, statuses ...int) {
	item := a.huma.OpenAPI().Paths[prefix+path]
	responses := cmp.Or(item.Post, item.Put).Responses
	for _, status := range statuses {
		same := *responses[strconv.Itoa(as)]
		same.Description, same.Content = http.StatusText(status), map[string]*huma.MediaType{}
		for kind, media := range responses[strconv.Itoa(as)].Content {
			same.Content[kind] = &huma.MediaType{Schema: media.Schema}
		}
		responses[strconv.Itoa(status)] = &same
	}
}

// polishSchemas says in the schemas what Go's types can not: which objects and raw values may
// be null, that no array of an answer is, and which codes a detail can have.
func (a *API) polishSchemas() {
	registry := a.huma.OpenAPI().Components.Schemas
	for name, schema := range registry.Map() {
		t := registry.TypeFromRef("#/components/schemas/" + name)
		if t == nil || t.Kind() != reflect.Struct {
			continue
		}
		for _, field := range reflect.VisibleFields(t) {
			property := schema.Properties[strings.Split(field.Tag.Get("json"), ",")[0]]
			switch {
			case property == nil:
			case field.Type == reflect.TypeFor[errs.DetailCode]():
				for _, code := range errs.DetailCodes() {
					property.Enum = append(property.Enum, code)
				}
			case property.Type == huma.TypeArray:
				property.Nullable = false
			case field.Type == reflect.TypeFor[json.RawMessage]():
				*property = huma.Schema{Description: property.Description, AnyOf: []*huma.Schema{{}, {Type: "null"}}}
			case field.Type.Kind() == reflect.Pointer && property.Ref != "":
				*property = huma.Schema{AnyOf: []*huma.Schema{{Ref: property.Ref}, {Type: "null"}}}
			}
		}
	}
	// huma documents an error shape of its own with every operation; observe answers ours.
	for _, unused := range []string{"ErrorModel", "ErrorDetail"} {
		delete(registry.Map(), unused)
	}
}
