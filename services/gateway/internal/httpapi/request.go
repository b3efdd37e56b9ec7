package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/observe"
)

// maxUserAgent bounds what is kept of the header, in bytes.
const maxUserAgent = 256

var requestIDPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// request is what the gateway knows about a request while it answers it.
type request struct {
	caller    rpc.Caller
	operation string // operationId, once its route is found
	limit     int    // a minute, of the API key itself; 0 for none
	fault     error  // what went wrong inside huma, which has written its own answer
	broken    bool   // the body can not be read to its end
}

type requestKey struct{}

// requestOf gives the request that ctx belongs to.
func requestOf(ctx context.Context) *request {
	r, ok := ctx.Value(requestKey{}).(*request)
	if !ok {
		return &request{}
	}
	return r
}

// newRequest reads who calls, as far as the connection and the headers tell, and names the request.
func (a *API) newRequest(c *fiber.Ctx) *request {
	r := &request{caller: rpc.Caller{RequestID: c.Get("X-Request-ID"), IP: a.clientIP(c), UserAgent: c.Get("User-Agent")}}
	if len(r.caller.UserAgent) > maxUserAgent {
		r.caller.UserAgent = strings.ToValidUTF8(r.caller.UserAgent[:maxUserAgent], "")
	}
	if !requestIDPattern.MatchString(r.caller.RequestID) {
		r.caller.RequestID = uuid.Must(uuid.NewV7()).String()
	}
	ctx := observe.WithIDs(c.UserContext(), observe.IDs{RequestID: r.caller.RequestID})
	c.SetUserContext(context.WithValue(ctx, requestKey{}, r))
	c.Set("X-Request-ID", r.caller.RequestID)
	return r
}

// observe surrounds every request: it names it, answers its error, leaves nothing of its
// body on the connection, measures and logs it, and makes it a span.
func (a *API) observe(c *fiber.Ctx) error {
	began := time.Now()
	a.metrics.inFlight.Inc()
	defer a.metrics.inFlight.Dec()
	r := a.newRequest(c)
	span := a.trace(c, r)
	fault := a.work(c)
	if fault == nil {
		fault = r.fault
	}
	if fault != nil {
		a.writeFault(c, r, a.toldDenied(c, r, fault))
	}
	drain(c, r)

	route, status, took := c.Route().Path, c.Response().StatusCode(), time.Since(began)
	if route == "/" || status == http.StatusMethodNotAllowed { // no route has been found, or looked for
		route = "-"
	}
	endSpan(span, r, c.Method(), route, status)
	a.metrics.request(c.Method(), route, status, took)
	a.rates.add(time.Now(), status, took)
	a.Log.Info().EmbedObject(observe.IDsOf(c.UserContext())).Str("method", c.Method()).Str("route", route).Int("status", status).
		Dur("ms", took).Str("userId", r.caller.UserID).Msg("request")
	return nil
}

// toldDenied has the audit trail know that a known caller is denied something, and gives what is answered: as with a login, nobody
// is refused unseen.
func (a *API) toldDenied(c *fiber.Ctx, r *request, fault error) error {
	if r.caller.UserID == "" || errs.CodeOf(fault) != errs.Forbidden {
		return fault
	}
	d := audit.Denial{Operation: r.operation, Path: c.Path(), Reason: errs.From(fault).Message}
	if _, err := bus.Call(c.UserContext(), a.Bus, audit.Denied, r.caller, d); err != nil {
		return err
	}
	return fault
}

// work has a request answered, unless too many are being worked on.
func (a *API) work(c *fiber.Ctx) error {
	if ofMachines(c.Path()) {
		return handle(c)
	}
	defer a.working.Add(-1)
	if a.working.Add(1) > a.busiest {
		return errs.New(errs.DependencyUnavailable, "the gateway has too much to do; try again shortly")
	}
	return handle(c)
}

// aside does what takes no work but time, like waiting for the client, so that it does not count.
func (a *API) aside(do func() error) error {
	a.working.Add(-1)
	defer a.working.Add(1)
	return do()
}

// ofMachines tells whether a path is asked all the time, by those who watch the process.
func ofMachines(path string) bool {
	return path == "/metrics" || path == "/health" || strings.HasPrefix(path, "/health/")
}

// trace begins the request's span, below the one that the client names, if any.
func (a *API) trace(c *fiber.Ctx, r *request) trace.Span {
	tracing := a.Tracing
	if ofMachines(c.Path()) {
		tracing = nil
	}
	ctx, span := tracing.Start(observe.Continue(c.UserContext(), c.Get("traceparent")), trace.SpanKindServer, c.Method())
	c.SetUserContext(ctx)
	r.caller.Traceparent = observe.Traceparent(ctx)
	return span
}

// endSpan names the span by its route: the path itself holds ids.
func endSpan(span trace.Span, r *request, method, route string, status int) {
	if span.IsRecording() {
		span.SetName(method + " " + route)
		span.SetAttributes(
			attribute.String("http.request.method", method), attribute.String("http.route", route),
			attribute.Int("http.response.status_code", status), attribute.String("turbocat.request_id", r.caller.RequestID),
		)
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, http.StatusText(status))
		}
	}
	span.End()
}

// handle runs the rest of the chain and turns a panic into an error.
func handle(c *fiber.Ctx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return c.Next()
}
