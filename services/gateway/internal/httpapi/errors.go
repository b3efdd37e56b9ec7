package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"
	"github.com/gofiber/fiber/v2"

	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/observe"
)

// statusOf is the one place where a code becomes an HTTP status.
var statusOf = map[errs.Code]int{
	errs.Validation:            http.StatusBadRequest,
	errs.Unauthorized:          http.StatusUnauthorized,
	errs.TokenExpired:          http.StatusUnauthorized,
	errs.Forbidden:             http.StatusForbidden,
	errs.NotFound:              http.StatusNotFound,
	errs.MethodNotAllowed:      http.StatusMethodNotAllowed,
	errs.Conflict:              http.StatusConflict,
	errs.PreconditionFailed:    http.StatusPreconditionFailed,
	errs.PayloadTooLarge:       http.StatusRequestEntityTooLarge,
	errs.UnsupportedMediaType:  http.StatusUnsupportedMediaType,
	errs.RateLimited:           http.StatusTooManyRequests,
	errs.Internal:              http.StatusInternalServerError,
	errs.DependencyUnavailable: http.StatusServiceUnavailable,
}

// failure is the envelope of an error.
type failure struct {
	Success   bool   `json:"success" enum:"false"`
	Error     fault  `json:"error"`
	RequestID string `json:"requestId"`
}

// fault is an errs.Error as a client sees it.
type fault struct {
	Code    errs.Code     `json:"code" enum:"VALIDATION_ERROR,UNAUTHORIZED,TOKEN_EXPIRED,FORBIDDEN,NOT_FOUND,METHOD_NOT_ALLOWED,CONFLICT,PRECONDITION_FAILED,PAYLOAD_TOO_LARGE,UNSUPPORTED_MEDIA_TYPE,RATE_LIMITED,INTERNAL,DEPENDENCY_UNAVAILABLE"`
	Message string        `json:"message"`
	Details []errs.Detail `json:"details"`
}

// writeFault answers err in the envelope. Text that is not meant for clients is logged instead.
func (a *API) writeFault(c *fiber.Ctx, r *request, err error) {
	public, status := publicFault(err)
	if public.Code == errs.Internal {
		a.Log.Error().EmbedObject(observe.IDsOf(c.UserContext())).Err(err).Msg("request failed")
	}
	switch public.Code {
	case errs.Unauthorized, errs.TokenExpired:
		c.Set("WWW-Authenticate", "Bearer")
	case errs.RateLimited, errs.DependencyUnavailable:
		if len(c.Response().Header.Peek("Retry-After")) == 0 {
			c.Set("Retry-After", seconds(max(time.Duration(errs.From(err).RetryAfterMs)*time.Millisecond, time.Second)))
		}
	}
	c.Response().ResetBody()
	if err := c.Status(status).JSON(failure{Error: public, RequestID: r.caller.RequestID}); err != nil {
		a.Log.Error().Err(err).Msg("encode an error") // strings always encode
	}
}

// publicFault gives what a client may read of err, and the status.
func publicFault(err error) (fault, int) {
	var framework *fiber.Error
	if errors.As(err, &framework) {
		return frameworkFault(framework)
	}
	e := errs.From(err)
	status, known := statusOf[e.Code]
	if !known || e.Code == errs.Internal {
		// What a service says about its own failure is no text for clients; From words one.
		e, status = errs.From(errors.New(string(e.Code))), http.StatusInternalServerError
	}
	public := fault{Code: e.Code, Message: e.Message, Details: e.Details}
	if public.Details == nil {
		public.Details = []errs.Detail{}
	}
	return public, status
}

// frameworkFault words the errors that Fiber itself makes; its own text may quote the request.
func frameworkFault(e *fiber.Error) (fault, int) {
	public := fault{Code: errs.Validation, Message: "the request is not valid HTTP; check its first line, headers and length", Details: []errs.Detail{}}
	switch e.Code {
	case http.StatusNotFound:
		public.Code, public.Message = errs.NotFound, "there is no such route; see "+prefix+"/docs"
	case http.StatusMethodNotAllowed:
		public.Code, public.Message = errs.MethodNotAllowed, "this route has no such method; the Allow header names those it has"
	case http.StatusRequestEntityTooLarge:
		public.Code, public.Message = errs.PayloadTooLarge, "the request is too large; send less at once"
	case http.StatusRequestHeaderFieldsTooLarge:
		public.Message = "the headers are larger than 16 KiB; send less in them"
		return public, e.Code
	case http.StatusRequestTimeout:
		public.Message = "the request did not arrive in time; send it faster"
		return public, e.Code
	}
	return public, statusOf[public.Code]
}

// captureFault keeps what huma found wrong with a request, for observe to answer it in the
// envelope of all errors instead of huma's own.
func captureFault(ctx huma.Context, _ string, v any) (any, error) {
	if e, ok := v.(*huma.ErrorModel); ok {
		setFault(ctx.Context(), humaFault(e))
	}
	return v, nil
}

// setFault makes err the answer to the request of ctx.
func setFault(ctx context.Context, err error) { requestOf(ctx).fault = err }

// humaFault turns huma's findings into ours. It echoes no value of the request.
func humaFault(e *huma.ErrorModel) error {
	if len(e.Errors) == 0 {
		if e.Status == http.StatusBadRequest {
			return errs.New(errs.Validation, "the request has no body; send a JSON object")
		}
		return errors.New(e.Detail)
	}
	details := make([]errs.Detail, 0, len(e.Errors))
	for _, found := range e.Errors {
		if strings.HasPrefix(found.Location, "path.") {
			return errs.New(errs.NotFound, "nothing has the id given; check it")
		}
		if found.Location == "body" && e.Status == http.StatusBadRequest {
			return errs.New(errs.Validation, "the body is not valid JSON; correct its syntax")
		}
		if found.Location == "body" && found.Message == validation.MsgExpectedObject {
			return errs.New(errs.Validation, "the body is not a JSON object; send one")
		}
		details = append(details, humaDetail(found))
	}
	return errs.Invalid("request", details)
}

// humaDetail words one finding: where, what, and what would be right.
func humaDetail(found *huma.ErrorDetail) errs.Detail {
	_, field, _ := strings.Cut(found.Location, ".")
	d := errs.Detail{Field: field, Message: found.Message, Code: errs.BadValue}
	required, isRequired := strings.CutPrefix(found.Message, "expected required property ")
	switch {
	case isRequired:
		name := strings.TrimSuffix(required, " to be present")
		if d.Field != "" {
			name = d.Field + "." + name
		}
		d = errs.Detail{Field: name, Message: name + " is missing; give it", Code: errs.Required}
	case strings.HasPrefix(found.Message, "required ") && strings.HasSuffix(found.Message, " parameter is missing"):
		d.Message, d.Code = "is missing; give it", errs.Required
	case found.Message == validation.MsgUnexpectedProperty:
		d.Message, d.Code = "unknown field; remove it", errs.UnknownField
	case strings.HasPrefix(found.Message, "expected value to be one of"):
		d.Message, d.Code = strings.Replace(found.Message, "expected value to be", "the value is unknown; use", 1), errs.BadEnum
	case strings.HasPrefix(found.Message, "expected number"), strings.HasPrefix(found.Message, "expected length"), strings.HasPrefix(found.Message, "expected array length"):
		d.Message, d.Code = "out of range; "+found.Message, errs.OutOfRange
	case found.Message == "invalid integer":
		d.Message, d.Code = "not an integer; give a whole number", errs.BadType
	case strings.HasPrefix(found.Message, "invalid date/time"), strings.Contains(found.Message, "RFC 3339"):
		d.Message, d.Code = "not a time; give one like 2026-01-31T08:00:00Z", errs.BadValue
	case strings.Contains(found.Message, "uuid"):
		d.Message, d.Code = "not an id; give one like 0193a5c0-7a2b-7c3d-8e4f-0123456789ab", errs.BadValue
	case strings.HasPrefix(found.Message, "expected "):
		d.Message, d.Code = "wrong type; "+found.Message, errs.BadType
	}
	return d
}
