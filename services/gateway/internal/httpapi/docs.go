package httpapi

import (
	"encoding/json"
	"fmt"
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
	config.Components.SecuritySchemes = bearerScheme()
	return config
}

// routeDocs serves the document and an interactive page of it. It comes after all other routes.
func (a *API) routeDocs() {
	const documentPath, pagePath = prefix + "/openapi.json", prefix + "/docs"
	a.documentAsset(documentPath, "getOpenAPI", "This document", "application/json")
	a.documentAsset(pagePath, "getDocs", "This document as an interactive page", "text/html")
	a.polishSchemas()
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

func (a *API) documentAsset(path, id, summary, contentType string) {
	a.huma.OpenAPI().AddOperation(&huma.Operation{
		Method: http.MethodGet, Path: path, OperationID: id, Tags: []string{"docs"}, Summary: summary,
		Responses: map[string]*huma.Response{"200": {
			Description: http.StatusText(http.StatusOK),
			Content:     map[string]*huma.MediaType{contentType: {Schema: &huma.Schema{}}},
		}},
	})
}

// documentStatus gives further statuses of a POST the same answer as one it has.
func (a *API) documentStatus(path string, as int, statuses ...int) {
	responses := a.huma.OpenAPI().Paths[prefix+path].Post.Responses
	for _, status := range statuses {
		same := *responses[strconv.Itoa(as)]
		same.Description = http.StatusText(status)
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
