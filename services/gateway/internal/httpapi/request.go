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

	"turbocat.io/contracts/rpc"
)

// maxUserAgent bounds what is kept of the header, in bytes.
const maxUserAgent = 256

var (
	requestIDPattern   = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)
	traceparentPattern = regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)
)

// request is what the gateway knows about a request while it answers it.
type request struct {
	caller rpc.Caller
	fault  error // what went wrong inside huma, which has written its own answer
	broken bool  // the body can not be read to its end
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
func newRequest(c *fiber.Ctx) *request {
	r := &request{caller: rpc.Caller{
		RequestID: c.Get("X-Request-ID"), Traceparent: traceparent(c.Get("traceparent")),
		IP: c.IP(), UserAgent: c.Get("User-Agent"),
	}}
	if len(r.caller.UserAgent) > maxUserAgent {
		r.caller.UserAgent = strings.ToValidUTF8(r.caller.UserAgent[:maxUserAgent], "")
	}
	if !requestIDPattern.MatchString(r.caller.RequestID) {
		r.caller.RequestID = uuid.Must(uuid.NewV7()).String()
	}
	c.SetUserContext(context.WithValue(c.UserContext(), requestKey{}, r))
	c.Set("X-Request-ID", r.caller.RequestID)
	return r
}

// traceparent gives s when it is a W3C trace context, else "".
func traceparent(s string) string {
	if !traceparentPattern.MatchString(s) || s[:2] == "ff" || strings.Count(s[3:35], "0") == 32 || strings.Count(s[36:52], "0") == 16 {
		return ""
	}
	return s
}

// observe surrounds every request: it names it, answers its error, leaves nothing of its
// body on the connection, and logs it.
func (a *API) observe(c *fiber.Ctx) error {
	began := time.Now()
	r := newRequest(c)
	fault := handle(c)
	if fault == nil {
		fault = r.fault
	}
	if fault != nil {
		a.writeFault(c, r, fault)
	}
	drain(c, r)

	route := c.Route().Path
	if status := c.Response().StatusCode(); status == http.StatusNotFound && route == "/" || status == http.StatusMethodNotAllowed {
		route = "-"
	}
	a.Log.Info().Str("method", c.Method()).Str("route", route).Int("status", c.Response().StatusCode()).
		Dur("ms", time.Since(began)).Str("requestId", r.caller.RequestID).Str("userId", r.caller.UserID).Msg("request")
	return nil
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
