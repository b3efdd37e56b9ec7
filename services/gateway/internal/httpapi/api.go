// Package httpapi is the HTTP side of the gateway: routes and their OpenAPI document,
// envelopes, authentication, limits, and event streams.
//
// Every request passes observe, which gives it its id, writes its error if it has one, and
// logs it. Routes are huma operations, so that the document comes from the types that the
// handlers use; admit guards each by its access. What huma can not do, streaming, is a
// plain Fiber handler behind the same admit.
package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/cors"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/observe"
	"turbocat.io/pkg/service"
	"turbocat.io/services/gateway/internal/live"
)

const (
	prefix      = "/api/v1"
	readTimeout = 10 * time.Second
	idleTimeout = 60 * time.Second
	// writeTimeout is how long a client may take to read an answer, the largest of which is a large output. A stream has slowestClient.
	writeTimeout = 60 * time.Second
	// slowestClient is when a stream gives up on a client that does not read.
	slowestClient = 15 * time.Second
	headerBuffer  = 16 << 10
	// maxWorking bounds the requests that are worked on at once. Beyond that, all would take longer than clients wait, and the memory of
	// the process would be what they send.
	maxWorking = 2048
)

// Options are what the API is made of.
type Options struct {
	Bus    *bus.Conn
	Redis  *redis.Client
	Health *service.Health // of the gateway itself
	Hub    *live.Hub
	Log    zerolog.Logger

	Metrics  prometheus.Registerer // nil registers nothing
	Gatherer prometheus.Gatherer   // what /metrics answers
	Tracing  *observe.Tracing      // nil records nothing

	Origins       []string // that may call from a browser
	Proxies       Proxies  // that are believed about their clients
	Production    bool     // clients are kept to HTTPS
	RedisPrefix   string
	AuthPerMinute int
	UserPerSecond int
	PingInterval  time.Duration
	DrainTimeout  time.Duration
}

// API answers HTTP requests. It is safe for concurrent use.
type API struct {
	Options
	app      *fiber.App
	huma     huma.API
	queries  map[string][]string // by operationId, the parameters that it takes in the query
	examples examples            // for the document
	verifier *verifier
	limits   limits
	health   *healthCheck
	metrics  metrics
	rates    rates
	draining atomic.Bool
	slowest  time.Duration // a client of a stream may take to accept what is written to it
	working  atomic.Int64  // requests that are worked on
	busiest  int64         // how many may be

	// Streams and waits outlast any deadline of a request; closing ends them.
	closing   context.Context
	closeLong context.CancelFunc
	streams   sync.WaitGroup // whose connections are the server's no more
}

// New makes an API with all its routes.
func New(o Options) *API {
	a := &API{Options: o, verifier: newVerifier(o.Bus), limits: newLimits(o), health: newHealthCheck(o.Bus, o.Health, o.Log), metrics: newMetrics(o.Metrics), examples: readExamples(), slowest: slowestClient, busiest: maxWorking}
	a.closing, a.closeLong = context.WithCancel(context.Background())
	a.app = fiber.New(fiber.Config{
		AppName: "turbocat", DisableStartupMessage: true, CaseSensitive: true, Immutable: true,
		ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, ReadBufferSize: headerBuffer,
		// Bodies are read by admit, when the route and the caller are known; see body.go.
		StreamRequestBody: true, DisablePreParseMultipartForm: true,
		ErrorHandler: a.answerUnobserved,
	})
	server := a.app.Server()
	server.CloseOnShutdown = true
	server.KeepHijackedConns = true // streams close theirs; until then nothing else of their requests is kept
	server.Handler = a.refuseUnknownMethods(server.Handler)

	a.app.Use(a.observe, a.secure)
	if len(o.Origins) > 0 {
		a.app.Use(cors.New(cors.Config{
			AllowOrigins:  strings.Join(o.Origins, ","),
			AllowMethods:  "GET,POST,PUT,PATCH,DELETE",
			AllowHeaders:  "Authorization,X-API-Key,Content-Type,If-Match,Idempotency-Key,Last-Event-ID,X-Request-ID,traceparent",
			ExposeHeaders: "ETag,X-Request-ID,X-RateLimit-Limit,X-RateLimit-Remaining,X-RateLimit-Reset,Retry-After",
			MaxAge:        600,
		}))
	}
	config := humaConfig()
	config.Transformers = []huma.Transformer{captureFault}
	a.huma = humafiber.New(a.app, config)
	a.routeHealth()
	a.routeMetrics()
	a.routeAccounts()
	a.routeSecrets()
	a.routeAgents()
	a.routeWorkflows()
	a.routeTemplates()
	a.routeTriggers()
	a.routeExecutions()
	a.routeAudit()
	a.routeDeadLetters()
	a.routeWebhooks()
	a.routeInbound()
	a.routeAnalytics()
	a.routeSystemHealth()
	a.routeDocs()
	a.queries = queryParameters(a.huma.OpenAPI())
	return a
}

// Serve answers on ln until ctx ends, then stops accepting, ends streams and waits, and
// lets the other requests finish within the drain timeout.
func (a *API) Serve(ctx context.Context, ln net.Listener) error {
	served := make(chan error, 1)
	go func() { served <- a.app.Listener(ln) }()
	a.Log.Info().Str("address", ln.Addr().String()).Msg("listening")
	select {
	case err := <-served:
		a.closeLong()
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	a.draining.Store(true)
	a.closeLong()
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.DrainTimeout)
	defer cancel()
	err := a.app.ShutdownWithContext(deadline)
	_ = ln.Close()   // a server that has not begun yet knows no listener to close
	a.streams.Wait() // each gives up on a client that does not read
	if errors.Is(err, context.DeadlineExceeded) {
		a.Log.Warn().Dur("timeout", a.DrainTimeout).Msg("requests in flight did not finish in time and are cut off")
		return nil
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("stop HTTP: %w", err)
	}
	if err := <-served; err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return nil
}

// answerUnobserved writes errors that no handler saw, such as headers that do not parse.
func (a *API) answerUnobserved(c *fiber.Ctx, err error) error {
	r := a.newRequest(c)
	setPolicyHeaders(c)
	a.writeFault(c, r, err)
	if errors.Is(err, fiber.ErrRequestHeaderFieldsTooLarge) {
		drainHeaders(c.Context().Conn())
	}
	c.Context().SetConnectionClose()
	return nil
}

// refuseUnknownMethods answers methods that Fiber knows no routes for, in plain text by default.
func (a *API) refuseUnknownMethods(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	known := map[string]bool{}
	for _, m := range fiber.DefaultMethods {
		known[m] = true
	}
	return func(ctx *fasthttp.RequestCtx) {
		if known[string(ctx.Method())] {
			next(ctx)
			return
		}
		c := a.app.AcquireCtx(ctx)
		defer a.app.ReleaseCtx(c)
		_ = a.answerUnobserved(c, errs.New(errs.MethodNotAllowed, "this method is not supported; see %s/docs", prefix))
	}
}
