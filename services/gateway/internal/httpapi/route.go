package httpapi

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
)

// route is what is declared about an operation besides the types of its handler.
type route struct {
	method, path string // the path without prefix
	id           string // operationId
	tag, summary string
	status       int          // of success; 200 when 0
	access       access       // what admit asks
	scope        string       // that an API key needs; derived when "", see scopeOf
	document     reflect.Type // the body's type where the handler takes it raw
	optional     bool         // the raw body may be absent
	errors       []errs.Code  // what it may answer beyond what its access implies
	sorts        []string     // what a list can be sorted by, the default first
	repeated     string       // of a POST that takes no Idempotency-Key: what comes of sending it twice
}

// handler answers one operation. Its error is the client's; see writeFault.
type handler[I, O any] func(ctx context.Context, in *I) (*O, error)

// register adds an operation to the API and to its document.
func register[I, O any](a *API, r route, fn handler[I, O]) {
	r.access.scope, r.access.operation = scopeOf(r), r.id
	op := huma.Operation{
		Method: r.method, Path: prefix + r.path, OperationID: r.id, Tags: []string{r.tag}, Summary: r.summary,
		Description: r.repeated, DefaultStatus: r.status, Responses: a.errorResponses(r),
		Middlewares: huma.Middlewares{a.guard(r.access)},
		// admit has read the body under its own limits.
		MaxBodyBytes: -1, BodyReadTimeout: -1,
		SkipValidateBody: r.document != nil,
	}
	op.Security = r.access.security()
	if r.access.body > 0 {
		op.RequestBody = &huma.RequestBody{}
	}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := fn(ctx, in)
		if err != nil {
			setFault(ctx, err)
			return nil, nil
		}
		return out, nil
	})
	if r.sorts != nil {
		parameters := a.huma.OpenAPI().Paths[op.Path].Get.Parameters
		schema := parameters[slices.IndexFunc(parameters, func(p *huma.Param) bool { return p.Name == "sortBy" })].Schema
		for _, field := range r.sorts {
			schema.Enum = append(schema.Enum, field)
		}
		schema.PrecomputeMessages()
	}
	if r.document != nil {
		op.RequestBody.Required = !r.optional
		op.RequestBody.Content["application/json"].Schema = a.huma.OpenAPI().Components.Schemas.Schema(r.document, true, r.id)
	}
}

// errorResponses documents the failures that r's access implies and those it names.
func (a *API) errorResponses(r route) map[string]*huma.Response {
	codes := append([]errs.Code{errs.Validation, errs.RateLimited, errs.Internal, errs.DependencyUnavailable}, r.errors...)
	if !r.access.anonymous || r.access.optional {
		codes = append(codes, errs.Unauthorized, errs.TokenExpired, errs.Forbidden)
	}
	if r.access.body > 0 {
		codes = append(codes, errs.PayloadTooLarge, errs.UnsupportedMediaType)
	}
	byStatus := map[int][]errs.Code{}
	for _, code := range errs.Codes() {
		if slices.Contains(codes, code) {
			byStatus[statusOf[code]] = append(byStatus[statusOf[code]], code)
		}
	}
	responses := map[string]*huma.Response{}
	for status, codes := range byStatus {
		responses[strconv.Itoa(status)] = a.errorResponse(status, codes)
	}
	return responses
}

// errorHeaders documents what comes with an error beside the envelope; see writeFault.
var errorHeaders = map[int]map[string]*huma.Param{
	http.StatusUnauthorized: {"WWW-Authenticate": {Description: "how to authenticate", Schema: &huma.Schema{Type: huma.TypeString, Examples: []any{"Bearer"}}}},
	http.StatusTooManyRequests: {
		"Retry-After": retryAfter, "X-RateLimit-Limit": rateHeader("how many requests may come at once"),
		"X-RateLimit-Remaining": rateHeader("how many more may come now"), "X-RateLimit-Reset": rateHeader("in how many seconds all of them may come again"),
	},
	http.StatusServiceUnavailable: {"Retry-After": retryAfter},
}

var retryAfter = rateHeader("after how many seconds to try again")

func rateHeader(description string) *huma.Param {
	return &huma.Param{Description: description, Schema: &huma.Schema{Type: huma.TypeInteger, Examples: []any{1}}}
}

// errorResponse documents a status that one of codes is answered with, once for all operations.
func (a *API) errorResponse(status int, codes []errs.Code) *huma.Response {
	components := a.huma.OpenAPI().Components
	name, shown := "", map[string]*huma.Example{}
	for _, code := range codes {
		name += "." + string(code)
		shown[string(code)] = &huma.Example{Value: a.examples.failure(code)}
	}
	name = name[1:]
	components.Responses[name] = &huma.Response{
		Description: http.StatusText(status), Headers: errorHeaders[status],
		Content: map[string]*huma.MediaType{"application/json": {Schema: components.Schemas.Schema(reflect.TypeFor[failure](), true, ""), Examples: shown}},
	}
	return &huma.Response{Ref: "#/components/responses/" + name}
}

// ask calls a service on behalf of the request's caller.
func ask[Req, Resp any](ctx context.Context, a *API, m rpc.Method[Req, Resp], req Req) (Resp, error) {
	return bus.Call(ctx, a.Bus, m, requestOf(ctx).caller, req)
}
